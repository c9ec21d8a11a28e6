"""Batched decoding on the engine of `tree`, no two samples ever merged.

What separates it from `batched` is the engine: rows share the prompt's keys in attention, rows that have ended are
dropped, and draws are compiled. What separates `tree` from it is merging alone.
"""

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
    """N independent samples of each of B prompts [P], a row each from the first step on."""
    return grow(model, prompts, params, seeds, meter, Multinomial, apart=True)
