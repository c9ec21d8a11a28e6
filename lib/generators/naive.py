"""N independent generations one after another: the published baseline.

A lean loop over the same cache, filters, stop ids and random numbers as every other arm, so that what separates it
from them is the method alone. (`hf_sequential` shows the same job through transformers' `generate`.)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from torch import LongTensor, nn

from lib.generators.common import Output, Sample, SamplingParams, per_prompt, requested
from lib.generators.decode import prefill, sample_rows, sample_uniforms, uniform_weights
from lib.metrics.cost import CostMeter


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """N times: prefill the prompt [P], decode one row. The trace has what had been spent after each sample (`laps`)."""
    drawn, laps = [], []
    for i in range(requested(params)):
        logits, cache = prefill(model, [prompt], params.max_new_tokens)
        drawn += sample_rows(
            model, logits, cache, params, sample_uniforms(seed, range(i, i + 1), params.max_new_tokens), meter
        )
        laps.append(meter.lap())
    return uniform_weights(drawn), {"laps": laps}


def first(output: Output, n: int) -> Output:
    """The pass as it stood after its first n samples: exactly what a pass of n samples does."""
    samples = [replace(sample, weight=1 / n) for sample in output.samples[:n]]
    spent = replace(output.trace["laps"][n - 1], peak_memory_bytes=output.cost.peak_memory_bytes)
    return replace(output, samples=samples, cost=spent, trace={"laps": output.trace["laps"][:n]})
