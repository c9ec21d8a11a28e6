"""Does a sampler follow the law it claims, and what is one of its samples worth?

The reference is a large set of independent draws from the model (thousands), or exact masses where they are known.
Two questions are kept apart:

- Is the sampler biased? Samples of many independent replicates are pooled and their masses compared with the
  reference by total variation, beside the total variation that independent draws of the same number would show
  (`fidelity`). More diverse than the reference is as wrong as less.
- How far off is one replicate of N samples? `judge`: bias and root mean squared error of the answers' entropy and of
  their masses, and the number of independent samples with the same error. Samples of one replicate may depend on each
  other (the branches of a tree do), so all of this is over replicates.

Entropy is the plug-in estimate -sum p ln p, in nats. From n independent samples of K possible answers it is biased low
by about (K - 1) / 2n (Miller 1955; where n is well above K), whoever draws them: an arm's `entropy_bias` must be read
beside that of independent draws. Above ln N no replicate of N samples can reach the entropy at all. The reference has
the same bias at its own, larger n: 0.012 nats for 100 answers and 4000 draws. It is left uncorrected: the correction
needs K, and a model's answers have a long tail of which the reference has not seen the end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SIMULATIONS = 200  # enough for a mean to about 1 % and a usable 95 % point


@dataclass(frozen=True)
class Fidelity:
    """How far pooled samples are from a reference, and how far chance alone would put them.

    A sampler whose `tv` lies above `noise_95` is biased, or its samples depend on each other so strongly that fewer of
    them count: compare with its `effective_samples`.
    """

    tv: float  # total variation, 0 to 1
    noise: float  # mean of it if the samples were independent draws from the same law as the reference
    noise_95: float  # which then stays below this 95 times in 100


def masses(items: Iterable[Hashable]) -> dict[Hashable, float]:
    """Share of each different item."""
    counts = Counter(items)
    total = counts.total()
    return {item: count / total for item, count in counts.items()}


def total_variation(p: Mapping[Hashable, float], q: Mapping[Hashable, float]) -> float:
    """Half the sum of absolute differences of two laws, over everything that either knows: 0 alike, 1 disjoint."""
    return sum(abs(p.get(item, 0.0) - q.get(item, 0.0)) for item in {**p, **q}) / 2


def entropy(masses: Mapping[Hashable, float]) -> float:
    """Shannon entropy -sum p ln p in nats."""
    return -sum(p * math.log(p) for p in masses.values() if p > 0)


def prefixes(samples: Iterable[Sequence[int]], length: int) -> list[tuple[int, ...]]:
    """The first `length` tokens of each sample, jointly. A shorter sample, closed by a stop id, counts whole."""
    return [tuple(sample[:length]) for sample in samples]


def fidelity(items: Sequence[Hashable], reference: Sequence[Hashable], seed: int = 0) -> Fidelity:
    """Total variation between the pooled samples of an arm and the draws of a reference, beside its noise.

    The noise is exact for independent draws, whatever the law: were both of one law, every division of all items into
    sets of these two sizes would be equally likely (a permutation test), so `SIMULATIONS` of them are made.

    Args:
        items: what the arm drew, all replicates together: answers, or `prefixes`.
        reference: the same of independent draws.
        seed: of the simulation.

    Raises:
        ValueError: where either is empty.
    """
    if not items or not reference:
        raise ValueError(f"There are {len(items)} samples and {len(reference)} in the reference; give both at least 1.")
    ours, theirs = Counter(items), Counter(reference)
    counts = np.array([ours[item] + theirs[item] for item in dict.fromkeys([*ours, *theirs])])
    observed = total_variation(masses(items), masses(reference))
    parts = np.random.default_rng(seed).multivariate_hypergeometric(counts, len(items), SIMULATIONS, method="marginals")
    gaps = np.abs(parts / len(items) - (counts - parts) / len(reference)).sum(1) / 2
    return Fidelity(observed, float(gaps.mean()), float(np.quantile(gaps, 0.95)))


def judge(
    replicates: Sequence[Sequence[Hashable]],
    reference: Mapping[Hashable, float],
    reference_size: int | None = None,
) -> dict[str, float | None]:
    """Bias, error and worth of an arm's samples, from independent replicates.

    What a sample is worth: N independent draws estimate the mass p_c of answer c with variance p_c (1 - p_c) / N, so
    their squared error, summed over answers, is on average (1 - sum p_c^2) / N. Solved for N, with the mean squared
    error that the arm really has:

        effective_samples = (1 - sum p_c^2) / mean squared error

    It is N for independent draws, more for a sampler that spreads its draws over the law, less for a biased or a
    clotted one, whose error no further sample might lower. The error of a reference of R draws is not the arm's: being
    independent of it, it adds on average its own variance, estimated without bias by (1 - sum q_c^2) / (R - 1), which
    is taken off again. That is right on average over references, so a worth of R / 10 or more is only a rough one.

    Args:
        replicates: the answers of each replicate, N labels per replicate.
        reference: masses of all answers, which sum to 1 (`masses`).
        reference_size: R, the number of draws behind the reference; None where the masses are exact.

    Returns:
        entropy_reference: of the reference, in nats; entropy_bias, entropy_rmse: of a replicate's plug-in entropy
        against it; mass_rmse: root of the mean squared error of the masses, summed over answers; effective_samples;
        tv_answers: total variation between all replicates pooled and the reference (see `fidelity` for its noise).
        effective_samples is None where no error is left to compare with: a single possible answer, or no error at all.

    Raises:
        ValueError: for no replicates, or an empty one.
    """
    if not replicates or not all(replicates):
        raise ValueError("A replicate without samples has no masses: give one replicate or more, none of them empty.")
    ours = [masses(labels) for labels in replicates]
    errors = np.array([entropy(own) for own in ours]) - entropy(reference)
    spread = 1 - sum(q * q for q in reference.values())
    own_error = spread / (reference_size - 1) if reference_size else 0.0
    squared = max(0.0, float(np.mean([_squared_error(own, reference) for own in ours])) - own_error)
    pooled = _average(ours)
    return {
        "entropy_reference": entropy(reference),
        "entropy_bias": float(errors.mean()),
        "entropy_rmse": float(np.sqrt((errors**2).mean())),
        "mass_rmse": math.sqrt(squared),
        "effective_samples": spread / squared if squared > 0 and spread > 0 else None,
        "tv_answers": total_variation(pooled, reference),
    }


def _squared_error(p: Mapping[Hashable, float], q: Mapping[Hashable, float]) -> float:
    return sum((p.get(item, 0.0) - q.get(item, 0.0)) ** 2 for item in {**p, **q})


def _average(laws: Sequence[Mapping[Hashable, float]]) -> dict[Hashable, float]:
    """Mean of several laws: every replicate counts the same, however many samples it has."""
    total: Counter[Hashable] = Counter()
    for law in laws:
        total.update(law)
    return {item: mass / len(laws) for item, mass in total.items()}
