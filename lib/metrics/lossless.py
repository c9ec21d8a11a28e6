"""Is the output still the target's? Three tests, from the strictest to the one that any run can afford.

1. Greedy: the tokens are the baseline's, one by one (`divergence`).
2. Sampling from a model small enough to list: chi-square of what came out against the exact law, of one token
   (`goodness_of_fit`) or of the first tokens jointly (`goodness_of_prefixes`). Several cases make a family: adjust
   their p-values by `stats.holm`.
3. Any sampled run of any model and engine: the `audit` below, which needs one scoring forward over what was emitted.

**The audit.** Let p_t be the target's law of token t given all before it, temperature and filters applied, and x_t the
token emitted. Its surprise is n_t = -ln p_t(x_t); the law says how large that is on average, the entropy H_t = E[-ln
p_t], and how much it scatters, the varentropy V_t = Var[-ln p_t]. Both are known before x_t is. If the sampler is
lossless, x_t is drawn from p_t whatever came before, so D_t = n_t - H_t has conditional mean 0 and conditional
variance V_t: the sums of D_t are a martingale. Nothing more is needed: tokens of one answer depend on each other, and
answers may end at a stop id, because whether there is a token t is known before it is drawn. By the martingale central
limit theorem (Brown 1971; Hall & Heyde 1980, ch. 3), z = sum D_t / sqrt(sum V_t) tends to a standard normal variable
as sum V_t grows, and sum D_t / n estimates how many nats per token the output is too surprising (positive: noise, too
hot) or too likely (negative: too cold, greedy). The argument fails for a selection of tokens made by looking at them:
all emitted tokens go in, not the accepted ones.

**Power.** A mean difference of delta nats is found with 80 % power from (3.5 + 0.84)^2 V / delta^2 tokens, V the mean
varentropy: for 0.05 nats 7500 tokens per nat^2 of varentropy. ladder-1m has 0.43 nat^2 on stories at temperature 1,
which makes 3200 tokens. Each audit states the difference it could have found.

**What it cannot see**: a wrong law with the same mean surprise, say one of two equally likely tokens always preferred.
Therefore the second test, on the same code, with models that can be listed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from lib.metrics.law import prefixes

BOUND = 3.5  # of |z|: a lossless sampler exceeds it once in 2100 runs, one of a family of 100 in 1 of 22 families
POWER = 0.8
FEWEST = 5  # expected counts of a chi-square cell; below, its distribution is no longer close to chi-square
ROUNDING = 1e-5  # nats per token: float32 logits of size 20 are exact to 2e-6; a law without scatter shows it


def divergence(baseline_tokens: Sequence[int], tokens: Sequence[int]) -> int | None:
    """Index of the first token that differs, the shorter length where one runs on, None where all are equal."""
    for i, (a, b) in enumerate(zip(baseline_tokens, tokens, strict=False)):
        if a != b:
            return i
    if len(baseline_tokens) == len(tokens):
        return None
    return min(len(baseline_tokens), len(tokens))


def goodness_of_fit(counts: Sequence[int], probabilities: Sequence[float]) -> float:
    """p-value of Pearson's chi-square test that independent draws with these counts follow this law.

    Cells of which fewer than `FEWEST` draws are expected are pooled into one.

    Args:
        counts: draws of each outcome [m].
        probabilities: of each outcome [m], sum 1.

    Returns:
        0 where something came out that cannot; 1 where only one cell is left, which nothing could contradict.

    Raises:
        ValueError: where the two do not fit, nothing was drawn, or the probabilities are none.
    """
    observed, law = np.asarray(counts, dtype=float), np.asarray(probabilities, dtype=float)
    lawful = (law >= 0).all() and np.isclose(law.sum(), 1)
    if observed.shape != law.shape or not observed.sum() or not lawful:
        raise ValueError(
            f"{observed.sum():.0f} draws of {observed.size} outcomes do not fit {law.size} probabilities of sum "
            f"{law.sum():.6g}; give one probability per outcome, sum 1, and at least one draw."
        )
    if observed[law == 0].any():
        return 0.0
    observed, expected = _pooled(observed[law > 0], law[law > 0] * observed.sum() / law.sum())
    return float(stats.chisquare(observed, expected).pvalue) if len(observed) > 1 else 1.0


def _pooled(observed: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both [cells] with the rare cells made one; where that is rare too, the least frequent other cell joins it."""
    order = np.argsort(expected)
    observed, expected = observed[order], expected[order]
    rare = int(np.searchsorted(expected, FEWEST))
    if rare and expected[:rare].sum() < FEWEST:
        rare += 1
    starts = np.r_[0, max(rare, 1) : len(expected)]
    return np.add.reduceat(observed, starts), np.add.reduceat(expected, starts)


def prefix_law(
    next_law: Callable[[tuple[int, ...]], Sequence[float]], length: int, stop_ids: Collection[int] = ()
) -> dict[tuple[int, ...], float]:
    """Probability of every possible beginning of `length` tokens, or fewer where a stop id ends it.

    `next_law` gives the law of the next token [vocabulary] after a beginning; it is asked for every one that can occur.
    """
    law = {(): 1.0}
    for _ in range(length):
        longer: dict[tuple[int, ...], float] = {}
        for prefix, mass in law.items():
            if prefix and prefix[-1] in stop_ids:
                longer[prefix] = mass
            else:
                longer |= {(*prefix, token): mass * float(p) for token, p in enumerate(next_law(prefix)) if p > 0}
        law = longer
    return law


def goodness_of_prefixes(samples: Sequence[Sequence[int]], law: Mapping[tuple[int, ...], float]) -> float:
    """`goodness_of_fit` of the first tokens of independent samples, jointly, against a `prefix_law`.

    A sampler may have the right law at every place on its own and yet tie the tokens of one step wrongly to each
    other; only the joint law shows it. Samples are cut to the law's length; one that cannot occur gives 0.
    """
    counts = Counter(prefixes(samples, max(map(len, law))))
    if counts.keys() - law.keys():
        return 0.0
    return goodness_of_fit([counts[prefix] for prefix in law], list(law.values()))


@dataclass(frozen=True)
class Audit:
    """Whether emitted tokens are as surprising as their law says; in nats, per token. See the module's docstring."""

    tokens: int
    nll: float  # mean surprise of the emitted tokens that the law allows
    entropy: float  # mean entropy of the laws they were to follow
    difference: float  # nll - entropy
    low: float  # 95 % interval of the difference
    high: float
    z: float  # the difference in its standard errors
    detectable: float  # difference that would have failed 4 times in 5
    outside_support: int  # tokens that temperature and filters rule out; one is proof
    passed: bool

    def row(self) -> dict[str, float | int | bool | None]:
        """Flat JSON; null for what has no value because the law allows none of the tokens."""
        return {k: v if math.isfinite(v) else None for k, v in asdict(self).items()}


def audit(nll: np.ndarray, entropy: np.ndarray, varentropy: np.ndarray) -> Audit:
    """Test all emitted tokens of a sampled run against the target's law.

    Where the laws have no scatter, the standard error is what rounding can do (`ROUNDING`).

    Args:
        nll: float [tokens], -ln p_t(x_t) in nats under the target, temperature and filters applied; inf where they
            rule x_t out.
        entropy, varentropy: float [tokens], of the same p_t, in nats and nats^2 (see `surprise`).

    Raises:
        ValueError: where the three do not fit, are empty or hold a NaN.
    """
    nll, entropy, varentropy = (np.asarray(values, dtype=np.float64) for values in (nll, entropy, varentropy))
    if not nll.size or not nll.shape == entropy.shape == varentropy.shape or np.isnan([nll, entropy, varentropy]).any():
        raise ValueError(
            f"An audit got {nll.size} surprises, {entropy.size} entropies and {varentropy.size} varentropies, or a NaN "
            "among them; give one of each per emitted token, at least one."
        )
    inside = np.isfinite(nll)
    n = int(inside.sum())
    if not n:
        return Audit(nll.size, *[math.nan] * 7, outside_support=nll.size, passed=False)
    error = max(math.sqrt(np.maximum(varentropy[inside], 0).sum()) / n, ROUNDING)  # rounding may leave it below zero
    means = float(nll[inside].mean()), float(entropy[inside].mean())
    difference = means[0] - means[1]
    half = float(stats.norm.ppf(0.975)) * error
    return Audit(
        nll.size,
        *means,
        difference=difference,
        low=difference - half,
        high=difference + half,
        z=difference / error,
        detectable=(BOUND + float(stats.norm.ppf(POWER))) * error,
        outside_support=nll.size - n,
        passed=n == nll.size and abs(difference / error) < BOUND,
    )


def surprise(log_probabilities: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `audit` takes, from the laws themselves.

    Args:
        log_probabilities: float [n, vocabulary], normalised, in nats; -inf where a filter rules the token out.
        tokens: int [n], emitted.

    Returns:
        nll, entropy, varentropy: float64 [n]. The varentropy is summed around the entropy, not a difference of squares.
    """
    logs = np.asarray(log_probabilities, dtype=np.float64)
    allowed = np.isfinite(logs)
    p, scores = np.exp(logs), np.where(allowed, -logs, 0.0)
    entropy = (p * scores).sum(-1)
    varentropy = (p * np.where(allowed, scores - entropy[:, None], 0.0) ** 2).sum(-1)
    return -np.take_along_axis(logs, np.asarray(tokens)[:, None], axis=-1)[:, 0], entropy, varentropy
