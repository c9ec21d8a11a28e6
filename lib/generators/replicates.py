"""Many independent replicates of an arm on one prompt, at a cost it shares with other arms.

What an estimate from N samples is worth can only be seen by repeating it, and arms can only be compared where they
spend the same. An arm that merges or branches has no fixed cost per sample (it depends on where its samples part, and
on how long they live), and rows of a plain batch that have ended are pushed through the model until the last one
ends. So costs are taken from the counters of pilot runs, never worked out from N or from lengths, and `equal_cost`
searches N.

Random numbers: pilots, replicates and the reference of a seed are independent of each other. Arms given the same seed
have the same replicate seeds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
from torch import LongTensor, nn
from tqdm import tqdm

from lib.generators import batched
from lib.generators.common import Output, Sample, SamplingParams, requested
from lib.generators.comparison import run_arm

PILOTS = 8  # replicates behind one measured cost: a tree's varies by some 10 % between seeds, the mean of 8 by 4 %
RESOLUTION = 0.05  # of N: what the pilots can tell
MOST = 50  # times the N first asked for: where the answer is all but certain, a tree draws any number at one cost
ROWS = 100  # of the reference per forward: more are no faster and take more memory
PILOT, REPLICATE, REFERENCE = range(3)  # what a seed is for


def token_forwards(outputs: list[Output]) -> float:
    """Mean tokens through the model per output; prompts decoded together share their group's cost evenly."""
    return sum(output.cost.token_forwards / output.shared_by for output in outputs) / len(outputs)


def pilot_cost(arm: str, model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int) -> float:
    """Mean token-forwards of a replicate decoded alone, over `PILOTS` of them with seeds of their own.

    Trees are decoded together all the same: no row of one depends on another, so the sum is that of each alone. A plain
    batch's rows wait for the last one of the whole batch.
    """
    if arm == "batched":
        params = replace(params, prompts_together=1)
    return token_forwards(run_arm(arm, model, [prompt] * PILOTS, params, _seeds(seed, PILOT, PILOTS)))


def equal_cost(
    arm: str, model: nn.Module, prompt: LongTensor, params: SamplingParams, budget_tokens: float, seed: int
) -> int:
    """The largest N whose mean token-forwards do not exceed a budget, to `RESOLUTION`.

    N doubles from `params.num_samples` until it is too much, then the bracket is halved on a log scale: this needs no
    model of how cost grows, which for EAB is in steps, tree by tree. All N see the same pilot seeds. An arm whose
    cheapest run exceeds the budget gets the N of that run, so its cost must be shown with it.

    Args:
        arm: a generator's name, or `eab@0.1`.
        prompt: token ids [P].
        params: what to draw; N is at most `MOST` times its `num_samples`.
        budget_tokens: token-forwards per replicate, prefill included: another arm's `pilot_cost`.
        seed: the pilots' seeds are a function of it.
    """

    @cache
    def cost(n: int) -> float:
        return pilot_cost(arm, model, prompt, replace(params, num_samples=n), seed)

    n = requested(params)
    most = n * MOST
    low, high = 1, most + 1  # low fits, high does not
    budget = max(budget_tokens, cost(low))
    while high - low > max(1, low * RESOLUTION):
        low, high = (n, high) if cost(n) <= budget else (low, n)
        n = min(2 * low, most) if high > most else max(low + 1, math.isqrt(low * high))
    return low


def draws(
    arm: str, model: nn.Module, prompt: LongTensor, params: SamplingParams, replicates: int, seed: int
) -> list[Output]:
    """Independent replicates of an arm, `params.num_samples` each, with a progress bar on stderr.

    `params.prompts_together` of them are handed over at once, as so many prompts that happen to be equal: an arm that
    decodes prompts together does them in the same forwards, which changes no sample. (It does change a plain batch's
    cost: all its rows wait for the last one of the group. Compare costs of replicates decoded alone.)
    """
    seeds = _seeds(seed, REPLICATE, replicates)
    outputs: list[Output] = []
    with tqdm(total=replicates, desc=f"replicates of {arm}", leave=False) as bar:
        while len(outputs) < replicates:
            chunk = seeds[len(outputs) : len(outputs) + params.prompts_together]
            outputs += run_arm(arm, model, [prompt] * len(chunk), params, chunk)
            bar.update(len(chunk))
    return outputs


def reference(model: nn.Module, prompt: LongTensor, params: SamplingParams, count: int, seed: int) -> list[Sample]:
    """`count` independent samples by the plain batch, at most `ROWS` per forward, with a progress bar on stderr.

    Each sample's weight is 1 / count.
    """
    samples: list[Sample] = []
    with tqdm(total=count, desc="reference samples", leave=False) as bar:
        for chunk in _seeds(seed, REFERENCE, math.ceil(count / ROWS)):
            some = replace(params, num_samples=min(ROWS, count - len(samples)), prompts_together=1)
            samples += batched.generate(model, [prompt], some, [chunk])[0].samples
            bar.update(some.num_samples)
    return [replace(sample, weight=1 / count) for sample in samples]


def _seeds(seed: int, purpose: int, count: int) -> list[int]:
    """`count` seeds below 2^63 for one purpose; a longer list begins with a shorter one."""
    state = np.random.SeedSequence((seed, purpose)).generate_state(count, np.uint64)
    return [int(word >> np.uint64(1)) for word in state]
