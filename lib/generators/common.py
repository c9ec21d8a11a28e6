"""The types every generator takes and returns, and the wrappers that meter a generator's work."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import LongTensor, nn

from lib.metrics.cost import Cost, CostMeter


@dataclass(frozen=True)
class SamplingParams:
    """What to draw.

    Every generator gets the same object, so that all draw from the same law with the same stopping rule.
    """

    num_samples: int | None = 20  # N; None: an EAB tree's own number (refused by the others)
    max_new_tokens: int = 30
    temperature: float = 0.8
    top_k: int = 0  # 0: no filter
    top_p: float = 1.0  # 1: no filter
    compile: bool = False  # trees: fixed shapes under torch.compile, with CUDA graphs on a GPU
    stop_ids: tuple[int, ...] = ()  # a sample ends with, and includes, the first of these
    prompts_together: int = 1  # prompts that one forward decodes at most; generators of one prompt at a time take one
    threshold: float = 0.055  # EAB: branch where entropy / ln |V| is at least this
    branch_factor: int = 3  # EAB: children of a branching path
    max_paths: int = 20  # EAB: live paths kept after pruning


@dataclass
class Sample:
    """One generated sequence."""

    tokens: list[int]  # new tokens, the stop id included where one came
    logprob: float  # nats, sum over tokens under the sampling law (temperature and filters applied)
    weight: float  # share of the prompt's samples this one stands for; sums to 1 over a prompt


@dataclass
class Output:
    """All samples of one prompt and what they cost."""

    samples: list[Sample]
    cost: Cost  # of the whole group where several prompts were decoded together
    shared_by: int = 1  # prompts in that group
    trace: dict[str, Any] = field(default_factory=dict)  # what the generator wants to tell: plain JSON values


Generate = Callable[[nn.Module, list[LongTensor], SamplingParams, list[int]], list[Output]]
Drawn = tuple[list[Sample], dict[str, Any]]  # the samples of one prompt, and the trace
OnePrompt = Callable[[nn.Module, LongTensor, SamplingParams, int, CostMeter], Drawn]
Group = Callable[[nn.Module, list[LongTensor], SamplingParams, list[int], CostMeter], list[Drawn]]


def per_prompt(one: OnePrompt) -> Generate:
    """Make a generator of a function for one prompt: gradients off, every forward metered."""

    @functools.wraps(one)
    def generate(model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int]) -> list[Output]:
        outputs = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            with torch.inference_mode(), CostMeter(model) as meter:
                samples, trace = one(model, prompt, params, seed, meter)
            outputs.append(Output(samples, meter.cost, trace=trace))
        return outputs

    return generate


def per_group(many: Group) -> Generate:
    """The same of a function for several prompts of one length: neighbours of equal length go together, at most
    `prompts_together` of them.
    """

    @functools.wraps(many)
    def generate(model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int]) -> list[Output]:
        outputs = []
        for group in _groups(list(zip(prompts, seeds, strict=True)), params.prompts_together):
            with torch.inference_mode(), CostMeter(model) as meter:
                drawn = many(model, [p for p, _ in group], params, [s for _, s in group], meter)
            outputs += [Output(samples, meter.cost, len(group), trace) for samples, trace in drawn]
        return outputs

    return generate


def _groups(jobs: list[tuple[LongTensor, int]], size: int) -> list[list[tuple[LongTensor, int]]]:
    groups: list[list[tuple[LongTensor, int]]] = []
    for job in jobs:
        if groups and len(groups[-1]) < size and len(groups[-1][0][0]) == len(job[0]):
            groups[-1].append(job)
        else:
            groups.append([job])
    return groups


def requested(params: SamplingParams) -> int:
    """N, for a generator that cannot choose it."""
    if params.num_samples is None:
        raise ValueError("num_samples is None, which only EAB understands: give this generator a number of samples.")
    return params.num_samples
