"""EAB on the engine its authors used: one forward per live path and step.

Same trees as `eab`, so the difference is the engine.
"""

from __future__ import annotations

from typing import Any

from torch import LongTensor, nn

from lib.generators.common import Sample, SamplingParams, per_prompt
from lib.generators.eab import branch
from lib.generators.engines import SequentialPaths
from lib.metrics.cost import CostMeter


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """EAB with every path in a forward of its own."""
    with SequentialPaths(model, prompt, params, meter) as engine:
        return branch(engine, model.config.vocab_size, params, seed)
