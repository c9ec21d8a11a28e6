"""Intervals over prompts or seeds, slopes against model size, and the tests that claims are decided by. Nothing here
loads a model.

Prompts are the replicates: arms are compared on the same prompts, so a speedup is a ratio within a prompt, and
prompts are resampled whole. Repeated passes of one prompt are reduced to their median first; they are not
independent observations. Where models are trained (3a), seeds take the place of prompts. Medians have percentile
intervals (Efron & Tibshirani 1993, ch. 13), means of logarithms or of differences t intervals and t tests, which agree
with each other; 95 % unless said otherwise.

Models are not resampled: every interval and p-value is about these models on other prompts, not about other models.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import optimize
from scipy import stats as distributions

ENOUGH = (
    6  # prompts: of fewer, even the range of all values holds their median less than 95 % of the time (1 - 2^(1-n))
)
ALPHA = 0.05
POWER = 0.8
FLAT = float(np.log2(1.05))  # log2 speedup per doubling of parameters; a speedup that changes by less is called flat
RESAMPLES = 4000
SEED = 20_000


@dataclass(frozen=True)
class Interval:
    """A point estimate with its bootstrap interval and the number of prompts behind it."""

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        prompts = f"{self.n} prompt{'s' if self.n > 1 else ''}"
        if self.n < ENOUGH:
            return f"{self.estimate:.1f} ({prompts}: too few for an interval)"
        return f"{self.estimate:.1f} (95 % interval {self.low:.1f} to {self.high:.1f}, {prompts})"


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] | None = None, level: float = 0.95
) -> Interval:
    """Percentile interval of `statistic` over the last axis of `values` [..., n prompts], resampling that axis
    jointly.

    `statistic` maps [..., n] to one number per leading batch, reducing all other axes; default: the median of a
    vector. It is called once with all resamples stacked in front: [resamples, ..., n]. One prompt gives a
    zero-width interval, which says n = 1.
    """
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    if n == 0:
        raise ValueError("There is nothing to take an interval of: no prompt has a value.")
    statistic = statistic or (lambda x: np.median(x, axis=-1))
    index = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
    resampled = np.moveaxis(values[..., index], -2, 0)
    low, high = np.quantile(statistic(resampled), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values[None])[0]), float(low), float(high), n)


def loglog_slope(x: np.ndarray, y: np.ndarray) -> Interval:
    """Exponent b of y ~ x^b with its interval: least squares on (ln x, ln median over prompts of y).

    x positive [m] (models), y positive [m, n] (models x prompts); prompts are resampled jointly over all models,
    because every model saw the same ones. The interval is over prompts: how well few models lie on a line is not in
    it. Needs two models or more.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(x) < 2:
        raise ValueError(f"A slope needs at least two models, got {len(x)}.")
    centred = np.log(x) - np.log(x).mean()

    def slope(sample: np.ndarray) -> np.ndarray:
        return np.log(np.median(sample, axis=-1)) @ centred / (centred @ centred)

    return bootstrap(y, slope)


@dataclass(frozen=True)
class SizeSlope:
    """Mean over replicates of the slope of a quantity against log2 parameters, with its t interval.

    In the quantity's unit per doubling of parameters. Of log2 speedup, 0.1 means that a speedup grows by
    2^0.1 - 1 = 7 % where the model doubles.
    """

    estimate: float
    low: float
    high: float
    n: int
    slopes: np.ndarray  # float64 [n], one per prompt or seed


def size_slope(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> SizeSlope:
    """Paired model of speedup against size: one least-squares line per prompt, a t interval over the slopes.

    x positive [m] (parameters of m >= 2 models), y positive [m, n] (speedup of every model on the same n prompts).
    Because the data are balanced, the mean slope is also the generalised least-squares slope of the mixed model
    log2 y ~ log2 x + (1 | prompt): what a prompt does to all models alike cancels within it. The interval is wider than
    that model's where prompts differ in slope, which the model rules out. One prompt has no spread to judge by, so
    its interval is infinite.
    """
    return doubling_slope(x, np.log2(np.asarray(y, dtype=float)), level)


def doubling_slope(x: np.ndarray, y: np.ndarray, level: float = 0.95) -> SizeSlope:
    """`size_slope` of a quantity that is no ratio: one line per replicate of y itself against log2 x.

    x positive [m] (parameters of m >= 2 models), y [m, n] (every model on the same n replicates, prompts or seeds).
    The slopes are in y's unit per doubling of parameters.
    """
    x, y = np.log2(np.asarray(x, dtype=float)), np.asarray(y, dtype=float)
    if len(x) < 2:
        raise ValueError(f"A slope needs at least two models, got {len(x)}: run another size.")
    centred = x - x.mean()
    slopes = centred @ y / (centred @ centred)
    return SizeSlope(*t_interval(slopes, level), len(slopes), slopes)


def t_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of values [n] and its t interval: (mean, low, high); infinite for n = 1."""
    values = np.asarray(values, dtype=float)
    mean, n = float(values.mean()), len(values)
    if n < 2:
        return mean, -np.inf, np.inf
    half = float(distributions.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return mean, mean - half, mean + half


def difference(values: np.ndarray, at: float = 0.0) -> float:
    """Two-sided p-value of the t test that the mean of values [n] is `at`."""
    return min(1.0, 2 * min(_below(values, at), _above(values, at)))


def inside(values: np.ndarray, low: float, high: float) -> float:
    """p-value that the mean lies strictly between low and high: two one-sided t tests (Schuirmann 1987), the larger."""
    return max(_above(values, low), _below(values, high))


def outside(values: np.ndarray, low: float, high: float) -> float:
    """p-value that the mean lies below low or above high: the smaller of two one-sided t tests, doubled."""
    return min(1.0, 2 * min(_below(values, low), _above(values, high)))


def equivalence(slopes: np.ndarray, margin: float = FLAT) -> float:
    """p-value of the equivalence test that the mean slope [n prompts] lies within +- margin."""
    return inside(slopes, -margin, margin)


def holm(pvalues: Sequence[float]) -> np.ndarray:
    """Holm's step-down adjustment (1979): below alpha, each rejects with the family's error rate held at alpha."""
    p = np.asarray(pvalues, dtype=float)
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, stepped)
    return adjusted


def detectable(spread: float, n: int, alpha: float = ALPHA, power: float = POWER) -> float:
    """Smallest mean that a two-sided t test of n values finds with this power; spread: their standard deviation.

    In the values' own unit; infinite for n = 1. (A rejection on the wrong side does not count as found.)
    """
    if n < 2:
        return np.inf
    bound = distributions.t.ppf(1 - alpha / 2, n - 1)
    enough = (2 * bound + 10) / np.sqrt(n)  # standard deviations that are always found
    return spread * float(optimize.brentq(lambda d: _power(d, n, bound) - power, 0.0, enough))


def needed(spread: float, effect: float, alpha: float = ALPHA, power: float = POWER) -> int:
    """Smallest n at which a mean of `effect` > 0 is found with this power; the inverse of `detectable`."""

    def excess(n: float) -> float:
        return _power(effect / spread, n, distributions.t.ppf(1 - alpha / 2, n - 1)) - power

    if spread == 0 or excess(2) >= 0:
        return 2
    of_normal = ((distributions.norm.ppf(1 - alpha / 2) + distributions.norm.ppf(power)) * spread / effect) ** 2
    return math.ceil(optimize.brentq(excess, 2, of_normal + 50))


def _power(standardised: float, n: float, bound: float) -> float:
    """Chance that t exceeds `bound` for n values whose mean is this many standard deviations above zero."""
    return float(distributions.nct.sf(bound, n - 1, standardised * np.sqrt(n)))


def _above(values: np.ndarray, at: float) -> float:
    """One-sided p-value that the mean exceeds `at`; 1 for a single value. Values without spread decide outright."""
    values = np.asarray(values, dtype=float)
    mean, n = values.mean(), len(values)
    if n < 2:
        return 1.0
    error = values.std(ddof=1) / np.sqrt(n)
    if error == 0:
        return float(mean <= at)
    return float(distributions.t.sf((mean - at) / error, n - 1))


def _below(values: np.ndarray, at: float) -> float:
    return _above(-np.asarray(values, dtype=float), -at)


def per_prompt(rows: pd.DataFrame, value: str = "wall_s") -> pd.DataFrame:
    """Median over repeats of `value`: columns model, parameters, protocol, arm, prompt, `value`."""
    keys = ["model", "parameters", "protocol", "arm", "prompt"]
    return rows.groupby(keys, as_index=False, sort=False)[value].median()


def against(rows: pd.DataFrame, baseline: str = "naive", value: str = "wall_s") -> pd.DataFrame:
    """Every arm beside the baseline arm on the same prompt.

    Adds to `per_prompt`'s columns `baseline` (the baseline's value), `ratio` = baseline / value, and `saved` =
    baseline - value.
    """
    table = per_prompt(rows, value)
    keys = ["model", "protocol", "prompt"]
    base = table[table.arm == baseline].rename(columns={value: "baseline"})[[*keys, "baseline"]]
    joined = table.merge(base, on=keys, validate="many_to_one")
    return joined.assign(ratio=joined.baseline / joined[value], saved=joined.baseline - joined[value])


def summarise(pairs: pd.DataFrame, column: str = "ratio") -> pd.DataFrame:
    """Median over prompts with its interval, one row per model, protocol and arm: estimate, low, high, n."""
    keys = ["model", "parameters", "protocol", "arm"]
    rows = []
    for group, part in pairs.groupby(keys, sort=False):
        interval = bootstrap(part[column].to_numpy())
        rows.append(dict(zip(keys, group, strict=True)) | vars(interval))
    return pd.DataFrame(rows)
