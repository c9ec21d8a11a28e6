"""transformers' own `generate(num_return_sequences=N)`: the outside reference.

It expands the prompt to N rows before the prefill, so the prompt is computed and stored N times. `hf_sequential`
calls the same function N times for one sequence. The model's own generation_config (Qwen's has a top-k and a
repetition penalty) is set aside while it runs, so the law is the one that every other arm draws from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import LongTensor, Tensor, nn
from transformers import GenerationConfig, LogitsProcessor, LogitsProcessorList

from lib.generators.common import Sample, SamplingParams, per_prompt, requested
from lib.generators.decode import uniform_weights, until_stop
from lib.generators.sampling import probabilities, uniforms
from lib.metrics.cost import CostMeter


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """N sequences of the prompt [P] from one call."""
    return uniform_weights(call_generate(model, prompt, params, seed, requested(params), meter)), {}


def call_generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, n: int, meter: CostMeter
) -> list[tuple[list[int], float]]:
    """One call of `model.generate` for n sequences: (tokens, logprob in nats) of each.

    Seeds torch's global generator.
    """
    torch.manual_seed(int(uniforms(seed, 0, 1)[0] * 2**63))
    record = _LogprobRecorder(params)
    with own_generation_config(model):
        out = model.generate(
            prompt.unsqueeze(0),
            attention_mask=torch.ones_like(prompt).unsqueeze(0),
            logits_processor=LogitsProcessorList([record]),
            generation_config=_config(params, n),
        )
    meter.hold([out.past_key_values])
    meter.retire([out.past_key_values])
    new = out.sequences[:, len(prompt) :]
    tokens = [until_stop(row, params.stop_ids) for row in new.tolist()]
    logprobs = record.finish(out.sequences)
    return [(row, float(logprobs[i, : len(row)].sum())) for i, row in enumerate(tokens)]


def _config(params: SamplingParams, n: int) -> GenerationConfig:
    return GenerationConfig(
        do_sample=True,
        temperature=params.temperature,
        top_k=params.top_k,
        top_p=params.top_p,
        max_new_tokens=params.max_new_tokens,
        num_return_sequences=n,
        eos_token_id=list(params.stop_ids) or None,
        pad_token_id=params.stop_ids[0] if params.stop_ids else 0,
        return_dict_in_generate=True,
    )


@contextmanager
def own_generation_config(model: nn.Module) -> Iterator[None]:
    """Empty the model's generation_config: `generate` fills whatever a caller leaves unset from it."""
    saved, model.generation_config = model.generation_config, GenerationConfig()
    try:
        yield
    finally:
        model.generation_config = saved


class _LogprobRecorder(LogitsProcessor):
    """Keeps the log-probability of each chosen token without keeping [N, V] scores of every step.

    `generate` runs custom processors before its own temperature and filters, so the law is worked out here from the
    raw scores. A step's scores are seen one call before the token drawn from them, hence the one-step delay.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._params = params
        self._scores: Tensor | None = None
        self._logprobs: list[Tensor] = []

    def __call__(self, input_ids: LongTensor, scores: Tensor) -> Tensor:
        self._settle(input_ids[:, -1])
        self._scores = scores
        return scores

    def finish(self, sequences: LongTensor) -> Tensor:
        """float [N, L] log-probabilities in nats of the new tokens."""
        self._settle(sequences[:, -1])
        return torch.stack(self._logprobs, 1)

    def _settle(self, chosen: LongTensor) -> None:
        if self._scores is not None:
            probs = probabilities(self._scores, self._params)
            self._logprobs.append(probs.gather(-1, chosen.unsqueeze(-1)).squeeze(-1).log())
