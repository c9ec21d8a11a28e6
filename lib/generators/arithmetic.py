"""Arithmetic sampling (Vilnis et al., arXiv 2210.15458) with shared prefixes decoded once."""

from __future__ import annotations

from torch import LongTensor, nn

from lib.generators.common import Drawn, SamplingParams, per_group
from lib.generators.counts import Arithmetic
from lib.generators.tree import grow
from lib.metrics.cost import CostMeter


@per_group
def generate(
    model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int], meter: CostMeter
) -> list[Drawn]:
    """N samples of each of B prompts [P], one code each on a randomly shifted lattice."""
    return grow(model, prompts, params, seeds, meter, Arithmetic)
