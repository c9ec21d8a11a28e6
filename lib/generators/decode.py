"""The plain decode loop that `naive` and `batched` share: rows advance together, one token each per forward."""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.common import Sample, SamplingParams
from lib.generators.kv_cache import BufferCache
from lib.generators.sampling import draw, probabilities, uniforms
from lib.metrics.cost import CostMeter


def prefill(model: nn.Module, prompt: LongTensor, room: int) -> tuple[Tensor, BufferCache]:
    """Run the prompt [P] once: logits [1, V] after its last token, and its cache with `room` free positions."""
    cache = BufferCache(model.config, len(prompt) + room)
    out = model(input_ids=prompt.unsqueeze(0), past_key_values=cache, use_cache=True, logits_to_keep=1)
    return out.logits[:, -1], cache


def sample_rows(
    model: nn.Module,
    logits: Tensor,
    cache: BufferCache,
    params: SamplingParams,
    seed: int,
    rows: range,
    meter: CostMeter,
) -> list[tuple[list[int], float]]:
    """Continue one sequence per row: (tokens, logprob in nats) of each.

    logits [R, V] of the prompt's last token, cache of R rows, `rows` the sample numbers (they address the random
    numbers: sample i reads stream i of the prompt's seed). All rows stay in the batch until the last one has met a
    stop id, as in a plain batch.
    """
    u = torch.from_numpy(np.stack([uniforms(seed, i, params.max_new_tokens) for i in rows])).to(logits.device)
    stop = torch.tensor(params.stop_ids, device=logits.device)
    done = torch.zeros(len(rows), dtype=torch.bool, device=logits.device)
    tokens, logprobs = [], []
    for t in range(params.max_new_tokens):
        probs = probabilities(logits, params)
        token = draw(probs, u[:, t])
        tokens.append(token)
        logprobs.append(probs.gather(-1, token.unsqueeze(-1)).squeeze(-1).log().masked_fill(done, 0.0))
        done = done | torch.isin(token, stop)
        if t == params.max_new_tokens - 1 or bool(done.all()):
            break
        logits = model(input_ids=token.unsqueeze(-1), past_key_values=cache, use_cache=True).logits[:, -1]
    meter.hold([cache])
    meter.retire([cache])
    totals = torch.stack(logprobs).sum(0).tolist()
    return [
        (until_stop(row, params.stop_ids), total)
        for row, total in zip(torch.stack(tokens, 1).tolist(), totals, strict=True)
    ]


def until_stop(tokens: list[int], stop_ids: tuple[int, ...]) -> list[int]:
    """`tokens` up to and including the first stop id."""
    for i, token in enumerate(tokens):
        if token in stop_ids:
            return tokens[: i + 1]
    return tokens


def uniform_weights(drawn: list[tuple[list[int], float]]) -> list[Sample]:
    """Samples that all count the same."""
    return [Sample(tokens, logprob, 1 / len(drawn)) for tokens, logprob in drawn]
