"""transformers' `generate` called N times for one sequence each: the published baseline as its authors ran it.

Its fixed overhead per call and per step weighs most on small models, and so flatters every rival there; `naive` is
the same job without it.
"""

from __future__ import annotations

from typing import Any

from torch import LongTensor, nn

from lib.generators.common import Sample, SamplingParams, per_prompt, requested
from lib.generators.decode import uniform_weights
from lib.generators.hf import call_generate
from lib.metrics.cost import CostMeter


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """N calls for one continuation of the prompt [P] each."""
    drawn = []
    for i in range(requested(params)):
        drawn += call_generate(model, prompt, params, seed * 1_000_003 + i, 1, meter)
    return uniform_weights(drawn), {}
