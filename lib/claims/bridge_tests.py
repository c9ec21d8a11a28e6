"""The test behind 4a's claims: is a mean difference above a bound, over other seeds and over other questions?

Every seed's bridge answers the same test items, so a table of differences [seeds, items] varies along both: a test over
seeds alone would take the luck of the items for a fact, one over items alone the luck of the seeds. The variance of the
mean is that of the seeds' means over the number of seeds plus that of the items' means over the number of items. What
varies with neither alone is counted in both, which errs on the safe side (as the product-weighted bootstrap does,
Owen 2007, "The pigeonhole bootstrap"). Degrees of freedom after Satterthwaite (1946); since these come out too many
where few seeds happen to agree, a mean is never taken to be more certain than the t test over the seeds alone says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lib.claims import Finding, evidence
from lib.claims.bridge_select import shared
from lib.metrics import stats

MARGIN = 2.0  # points; two standard errors of 1000 answers of which nine in ten are right: less is called none
SEEDS = 4  # of fewer nothing is concluded; four leave a t test three degrees of freedom, and calibrated (the tests)


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and items with the standard errors and degrees of freedom of its two tests."""

    value: float
    error: float  # over seeds and items
    tests: tuple[tuple[float, float], ...]  # (error, degrees of freedom): of both, of the seeds alone

    def above(self, bound: float) -> float:
        """One-sided p-value that the mean exceeds the bound, of the less certain test."""
        return max(_above(self.value - bound, error, freedom) for error, freedom in self.tests)

    def below(self, bound: float) -> float:
        """One-sided p-value that the mean is less than the bound, of the less certain test."""
        return max(_above(bound - self.value, error, freedom) for error, freedom in self.tests)

    def interval(self) -> tuple[float, float]:
        """The wider of the tests' 95 % t intervals."""
        half = max(distributions.t.ppf(1 - stats.ALPHA / 2, freedom) * error for error, freedom in self.tests)
        return self.value - float(half), self.value + float(half)


def _above(difference: float, error: float, freedom: float) -> float:
    """One-sided p-value of a t test; without any spread the difference decides outright."""
    if error == 0:
        return float(difference <= 0)
    return float(distributions.t.sf(difference / error, freedom))


def crossed(values: np.ndarray) -> Mean:
    """The mean of values [seeds, items]; of a single seed the error is infinite, a single item has none of its own."""
    n, mean = len(values), float(values.mean())
    if n < 2:
        return Mean(mean, np.inf, ((np.inf, 1.0),))
    axes = [means for means in (values.mean(axis=1), values.mean(axis=0)) if len(means) > 1]
    parts = [(means.var(ddof=1) / len(means), len(means) - 1) for means in axes]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / free for part, free in parts) if variance else n - 1
    error = float(np.sqrt(variance))
    return Mean(mean, error, ((error, float(freedom)), (float(np.sqrt(parts[0][0])), n - 1.0)))


def ahead(values: np.ndarray, source: pd.DataFrame, at: float = 0.0, margin: float = MARGIN, **about: Any) -> Finding:
    """Whether the mean of values [seeds, items] is above `at`; `source`: the rows they were made of.

    For: it is, by the two-sided test that its interval shows. Against: it is below `at` + `margin`, by a one-sided one.
    `about`: the finding's text.
    """
    mean = crossed(values)
    more = min(1.0, 2 * mean.above(at)) if mean.value > at else 1.0
    little = mean.below(at + margin)
    found = finding(values, source, more, little, **about)
    if more < stats.ALPHA and little < stats.ALPHA:
        return replace(found, remark=f"There is a difference, but one that counts as none. {found.remark}".rstrip())
    return found


def minus(
    tables: Sequence[pd.DataFrame], names: tuple[str, str], source: pd.DataFrame, statistic: str
) -> Finding | None:
    """The first table's advantage over the second, in points: both [seeds, items] of 0 and 1, paired along both.

    None where the tables have no seed in common.
    """
    both = shared(tables)
    if both is None:
        return None
    ours, theirs = (table.to_numpy(float) * 100 for table in both)
    remark = f"{names[0]} {ours.mean():.1f} %, {names[1]} {theirs.mean():.1f} %; {ours.shape[1]} test items."
    if 100 - theirs.mean() < MARGIN:
        remark += f" {names[1]} leaves {100 - theirs.mean():.1f} points to gain, less than counts as something."
    return ahead(ours - theirs, source, statistic=statistic, remark=remark)


def within(values: np.ndarray, source: pd.DataFrame, low: float, high: float, **about: Any) -> Finding:
    """Whether the mean of values [seeds, items] lies between low and high.

    For: its 95 % interval does (as if two-sided, like all that supports). Against: it lies outside, by the smaller of
    two one-sided tests, doubled.
    """
    mean = crossed(values)
    inside = min(1.0, 2 * max(mean.above(low), mean.below(high)))
    outside = min(1.0, 2 * min(mean.below(low), mean.above(high)))
    found = finding(values, source, inside, outside, **about)
    return replace(found, matters=(high - low) / 2, together=2)


def finding(
    values: np.ndarray,
    source: pd.DataFrame,
    p_supports: float,
    p_refutes: float,
    statistic: str,
    unit: str = "points",
    remark: str = "",
) -> Finding:
    """The mean of values [seeds, items] with its interval and the p-values of its test."""
    mean = crossed(values)
    low, high = mean.interval()
    common = evidence(source, values.mean(axis=1), p_supports, p_refutes, SEEDS)
    common |= {"spread": mean.error * np.sqrt(len(values))}  # what items add included: as if it were the seeds'
    return Finding(
        statistic=statistic,
        unit=unit,
        estimate=mean.value,
        low=low,
        high=high,
        matters=MARGIN,
        remark=remark,
        replicate="seed",
        scale="points",
        errors=tuple((*test, 0.0) for test in mean.tests),
        **common,
    )
