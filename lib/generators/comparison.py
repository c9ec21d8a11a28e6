"""The fair comparison of generators: same prompts, same law, matched numbers of samples, passes interleaved in
random order.

Two protocols, side by side:
- `fixed`: every arm is asked for the same N. This is the primary one: nobody's behaviour chooses the workload.
- `matched`: the original's. EAB runs first with its natural number of samples, untimed; that number is what the
  others are asked for: `naive`, which the original compared with, and `batched`, which a practitioner would.

The untimed EAB pass also warms the model up for the prompt. All timed passes of a prompt are then shuffled, so that
a machine that slows down slows every arm alike. Slow arms (one forward per sample and step) are timed once however
many repeats: a long pass averages over its own steps. One pass serves both protocols wherever one is the other or a
part of it: where EAB's own number happens to be N; always in `naive`, whose samples come one after another; and in EAB
where one tree returns N samples or more, since asked for N it grows the same tree and drops the rest.

An arm is the name of a generator, or `eab@0.1` for EAB at another threshold (fixed protocol only: it would need an
N of its own).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import LongTensor, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerBase

from lib import generators
from lib.generators import eab, naive
from lib.generators.common import Output, SamplingParams

PROTOCOLS = ("fixed", "matched")
SLOW_ARMS = ("naive", "hf_sequential", "eab_sequential")  # one forward per sample and step: timed once
MATCHED = ("naive", "batched", "eab", "eab_sequential")  # arms of the `matched` protocol
BRANCHING_ARMS = ("eab", "eab_sequential")  # can choose their own number of samples


@dataclass(frozen=True)
class Trial:
    """One timed pass of one arm on one prompt, or the first samples of one."""

    prompt: int
    arm: str
    protocols: tuple[str, ...]
    repeat: int = 0
    num_samples: int | None = None  # None: EAB's own number
    within: tuple[Trial, ...] = ()  # smaller ones that this pass is the measurement of, too
    order: int = 0  # place among the timed passes of its prompt
    output: Output | None = None

    def rows(self) -> list[dict[str, Any]]:
        """One flat record per protocol: cost, per-sample figures, and branching statistics where the arm branches."""
        out = self.output
        n = len(out.samples)
        new_tokens = sum(len(sample.tokens) for sample in out.samples)
        row = {"prompt": self.prompt, "arm": self.arm, "repeat": self.repeat, "order": self.order} | out.cost.row()
        row |= {
            "num_samples": n,
            "new_tokens": new_tokens,
            "tokens_per_sample": out.cost.token_forwards / n,
            "tokens_per_s": new_tokens / out.cost.wall_s,
            "kv_bytes_per_sample": out.cost.kv_bytes / n,
            "mean_logprob": sum(s.weight * s.logprob for s in out.samples),
        }
        return [row | _branching(out.trace) | {"protocol": protocol} for protocol in self.protocols]

    def responses(self, tokenizer: PreTrainedTokenizerBase) -> list[dict[str, Any]]:
        """One record per sample: what was generated, with its log-probability in nats and its weight.

        Empty for repeats, which generate the same again.
        """
        if self.repeat:
            return []
        base = {"prompt": self.prompt, "arm": self.arm, "protocols": list(self.protocols)}
        return [
            base | {"sample": i, "text": tokenizer.decode(sample.tokens)} | vars(sample)
            for i, sample in enumerate(self.output.samples)
        ]


def trials(
    model: nn.Module,
    prompts: list[LongTensor],
    arms: list[str],
    params: SamplingParams,
    *,
    repeats: int = 1,
    seed: int = 0,
    protocols: Sequence[str] = PROTOCOLS,
) -> Iterator[Trial]:
    """Run every arm on every prompt under the chosen protocols; yields trials as they finish, with a progress bar
    on stderr.

    `params.num_samples` is the fixed protocol's N. Prompt i uses random seed (seed, i) for all arms and repeats.
    """
    _check_context(model, prompts, params.max_new_tokens)
    shuffle, compiled = random.Random(seed), set()
    at_most = len(_plan(0, arms, -1, 0, repeats, protocols))  # fewer where the two protocols coincide
    with tqdm(total=at_most * len(prompts), desc="timed passes", unit="pass") as bar:
        warm_up(model, prompts[0], arms, params)
        for i, prompt in enumerate(prompts):
            natural = len(
                run_arm("eab", model, [prompt], replace(params, num_samples=None), [_seed(seed, i)])[0].samples
            )
            plan = _plan(i, arms, natural, params.num_samples, repeats, protocols)
            bar.total -= at_most - len(plan)
            shuffle.shuffle(plan)
            for order, job in enumerate(plan):
                law = replace(params, num_samples=job.num_samples)
                if params.compile and (job.arm, job.num_samples) not in compiled:  # a new N is a new graph
                    compiled.add((job.arm, job.num_samples))
                    run_arm(job.arm, model, [prompt], law, [_seed(seed, i)])
                output = run_arm(job.arm, model, [prompt], law, [_seed(seed, i)])[0]
                bar.update()
                for part in job.within:
                    n, own = part.num_samples, _seed(seed, i)
                    smaller = naive.first(output, n) if job.arm == "naive" else eab.fewer(output, n, own)
                    yield replace(part, order=order, output=smaller)
                yield replace(job, order=order, output=output)


def _check_context(model: nn.Module, prompts: list[LongTensor], max_new_tokens: int) -> None:
    longest, context = max(map(len, prompts)) + max_new_tokens, model.config.max_position_embeddings
    if longest > context:
        raise ValueError(
            f"Prompts and new tokens come to {longest} tokens, but the model reads {context} at most: "
            "lower prompt_tokens or max_new_tokens."
        )


def warm_up(model: nn.Module, prompt: LongTensor, arms: list[str], params: SamplingParams) -> None:
    """A short pass of every arm, so that no timed pass pays for first-call set-up."""
    for arm in arms:
        run_arm(arm, model, [prompt], replace(params, num_samples=2, max_new_tokens=min(4, params.max_new_tokens)), [0])


def _plan(
    prompt: int, arms: list[str], natural: int, fixed: int, repeats: int, protocols: Sequence[str]
) -> list[Trial]:
    jobs = []
    for arm in arms:
        own = None if arm in BRANCHING_ARMS else natural
        asked = {"fixed": fixed}
        if arm in MATCHED:
            asked["matched"] = fixed if natural == fixed else own
        passes = 1 if arm.split("@")[0] in SLOW_ARMS else repeats
        numbers = dict.fromkeys(asked[p] for p in protocols if p in asked)
        names = {n: tuple(p for p in protocols if p in asked and asked[p] == n) for n in numbers}
        whole = list(numbers)
        if arm == "naive" or (arm in BRANCHING_ARMS and natural > fixed):
            whole = [max(numbers, key=lambda n: n or natural)]
        for r in range(passes):
            within = tuple(Trial(prompt, arm, names[n], r, n) for n in numbers if n not in whole)
            jobs += [Trial(prompt, arm, names[n], r, n, within) for n in whole]
    return jobs


def run_arm(
    arm: str, model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int]
) -> list[Output]:
    """One output per prompt from an arm: a generator's name, or `eab@0.1` for EAB at another threshold."""
    name, _, threshold = arm.partition("@")
    if threshold:
        params = replace(params, threshold=float(threshold))
    return generators.get(name)(model, prompts, params, seeds)


def _seed(seed: int, prompt: int) -> int:
    return seed * 1_000_000 + prompt


def _branching(trace: dict[str, Any]) -> dict[str, Any]:
    """Where a branching arm branched, counted as events; positions are steps after the prompt."""
    if "branch_positions" not in trace:
        return {}
    positions, steps = trace["branch_positions"], sum(trace["live"])
    return {
        "trees": trace["trees"],
        "final_paths": trace["paths"],
        "branch_count": len(positions),
        "branch_frequency": len(positions) / steps,
        "first_branch": min(positions, default=None),
        "mean_branch": sum(positions) / len(positions) if positions else None,
        "last_branch": max(positions, default=None),
        "pruned": trace["pruned"],
        "normalised_entropy": trace["normalised_entropy"] / steps,
    }
