"""Coalesced tree sampling with independent counts: the N samples of `naive`, token for token, shared prefixes once."""

from __future__ import annotations

from torch import LongTensor, nn

from lib.generators.common import Drawn, SamplingParams, per_group
from lib.generators.counts import Multinomial
from lib.generators.tree import grow
from lib.metrics.cost import CostMeter


@per_group
def generate(
    model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int], meter: CostMeter
) -> list[Drawn]:
    """N independent samples of each of B prompts [P]."""
    return grow(model, prompts, params, seeds, meter, Multinomial)
