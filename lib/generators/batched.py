"""The prompt prefilled once, its cache expanded to N rows, N samples decoded together: what a practitioner would do."""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, nn

from lib.generators.common import Drawn, SamplingParams, per_group, requested
from lib.generators.decode import prefill, sample_rows, sample_uniforms, uniform_weights
from lib.metrics.cost import CostMeter


@per_group
def generate(
    model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int], meter: CostMeter
) -> list[Drawn]:
    """One prefill of B prompts [P], then B x N rows per forward."""
    n = requested(params)
    logits, cache = prefill(model, prompts, params.max_new_tokens)
    rows = torch.arange(len(prompts), device=logits.device).repeat_interleave(n)
    u = np.concatenate([sample_uniforms(seed, range(n), params.max_new_tokens) for seed in seeds])
    drawn = sample_rows(model, logits[rows], cache.rows(rows), params, u, meter)
    return [(uniform_weights(drawn[i : i + n]), {}) for i in range(0, len(drawn), n)]
