"""The prompt prefilled once, its cache expanded to N rows, N samples decoded together: what a practitioner would do."""

from __future__ import annotations

from typing import Any

import torch
from torch import LongTensor, nn

from lib.generators.common import Sample, SamplingParams, per_prompt, requested
from lib.generators.decode import prefill, sample_rows, uniform_weights
from lib.metrics.cost import CostMeter


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """One prefill of the prompt [P], then N rows per forward."""
    n = requested(params)
    logits, cache = prefill(model, prompt, params.max_new_tokens)
    cache = cache.rows(torch.zeros(n, dtype=torch.long, device=logits.device))
    drawn = sample_rows(model, logits.expand(n, -1), cache, params, seed, range(n), meter)
    return uniform_weights(drawn), {}
