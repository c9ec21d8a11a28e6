"""The plain decode loop that `naive` and `batched` share: rows advance together, one token each per forward."""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.common import Sample, SamplingParams
from lib.generators.kv_cache import BufferCache
from lib.generators.sampling import draw, probabilities, uniforms
from lib.metrics.cost import CostMeter


def prefill(model: nn.Module, prompts: list[LongTensor], room: int) -> tuple[Tensor, BufferCache]:
    """Run B prompts of one length [P] once: logits [B, V] after their last token, and a cache of B rows with `room`
    free positions.
    """
    cache = BufferCache(model.config, len(prompts[0]) + room)
    out = model(input_ids=torch.stack(prompts), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1], cache


def sample_rows(
    model: nn.Module, logits: Tensor, cache: BufferCache, params: SamplingParams, u: np.ndarray, meter: CostMeter
) -> list[tuple[list[int], float]]:
    """Continue one sequence per row: (tokens, logprob in nats) of each.

    logits [R, V] of the prompt's last token, cache of R rows, u float64 [R, max_new_tokens] the uniform numbers of
    each row. All rows stay in the batch until the last one has met a stop id, as in a plain batch.
    """
    u = torch.from_numpy(u).to(logits.device)
    stop = torch.tensor(params.stop_ids, device=logits.device)
    done = torch.zeros(len(u), dtype=torch.bool, device=logits.device)
    tokens, logprobs = [], []
    for t in range(params.max_new_tokens):
        probs = probabilities(logits, params)
        token = draw(probs, u[:, t : t + 1])
        tokens.append(token.squeeze(-1))
        logprobs.append(probs.gather(-1, token).squeeze(-1).log().masked_fill(done, 0.0))
        done = done | torch.isin(tokens[-1], stop)
        if t == params.max_new_tokens - 1 or bool(done.all()):
            break
        logits = model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1]
    meter.hold([cache])
    meter.retire([cache])
    totals = torch.stack(logprobs).sum(0).tolist()
    return [
        (until_stop(row, params.stop_ids), total)
        for row, total in zip(torch.stack(tokens, 1).tolist(), totals, strict=True)
    ]


def sample_uniforms(seed: int, samples: range, steps: int) -> np.ndarray:
    """float64 [samples, steps]: sample i reads stream i of its prompt's seed, whoever draws it."""
    return np.stack([uniforms(seed, i, steps) for i in samples])


def until_stop(tokens: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """`tokens` up to and including the first stop id."""
    for i, token in enumerate(tokens):
        if token in stop_ids:
            return tokens[: i + 1]
    return tokens


def uniform_weights(drawn: list[tuple[list[int], float]]) -> list[Sample]:
    """Samples that all count the same."""
    return [Sample(tokens, logprob, 1 / len(drawn)) for tokens, logprob in drawn]
