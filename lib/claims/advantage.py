"""Tests of one arm's advantage over another in shares of solved mazes: percentage points, paired by seed.

An advantage counts if it is above zero, and one of less than MARGIN counts as none: that is what refutes a claim, by a
test of its own, so that a claim which cannot be decided stays open. Means over sizes are taken where there are most
seeds (`paired.balanced`). What supports a claim is two-sided, like the interval; what refutes it is one-sided. Seeds
are the replicates, and `lib.metrics.contrasts` has the tests, which know that trainings fail now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.claims import Finding, evidence
from lib.metrics import paired, stats
from lib.metrics.contrasts import Contrast, contrast
from lib.metrics.paired import Chosen, Pairs

MARGIN = 5.0  # percentage points; a difference of less is called none


def mean_advantage(rows: pd.DataFrame, arm: str, other: str, chosen: Chosen | None = None) -> Finding | None:
    """The mean over sizes of one arm's advantage over another in accuracy."""
    pairs = paired.pairs(rows, arm, other, chosen=chosen)
    measured = _mean(pairs)
    return None if measured is None else ahead(measured, pairs.source, **_about(pairs))


def no_advantage(rows: pd.DataFrame, chosen: Chosen) -> Finding | None:
    """For: PoH's advantage is below MARGIN. Against: it is above."""
    pairs = paired.pairs(rows, "poh", "stack", chosen=chosen)
    measured = _mean(pairs)
    if measured is None:
        return None
    below = min(1.0, 2 * measured.below(MARGIN))
    found = _finding(measured, pairs.source, below, measured.above(MARGIN), **_about(pairs))
    return replace(found, errors=tuple((error, freedom, -skewness) for error, freedom, skewness in found.errors))


def at_every_size(rows: pd.DataFrame) -> Finding | None:
    """The size at which it is least certain that there is an advantage.

    For: there is one at every size (an intersection-union test, Berger 1982: the largest of the sizes' p-values needs
    no adjustment). Against: at one size it is below MARGIN (the smallest p-value, times the number of sizes).
    """
    pairs = paired.pairs(rows, "poh", "stack")
    if pairs is None or len(pairs.points) < 2:
        return None
    said = "poh minus stack in accuracy, least certain at"
    tests = [ahead(_at(pairs.points, [size]), pairs.source, statistic=f"{said} {size}") for size in pairs.points.index]
    worst = max(tests, key=lambda found: (found.p_supports, -found.estimate))
    least = min(1.0, len(tests) * min(found.p_refutes for found in tests))
    return replace(worst, p_refutes=least, together=len(tests), remark=_by_size(pairs))


def growth(rows: pd.DataFrame) -> Finding | None:
    """Paired slope of PoH's advantage against the logarithm of the baseline's parameters."""
    pairs = paired.pairs(rows, "poh", "stack")
    points = None if pairs is None else pairs.points.dropna(axis=1)
    if points is None or len(points) < 2 or points.empty:
        return None
    doublings = np.log2(pairs.parameters.to_numpy(float))
    centred = doublings - doublings.mean()
    largest = points.mean(axis=1).idxmax()
    return ahead(
        contrast(pairs.points.to_numpy(), centred / (centred @ centred)),
        pairs.source,
        statistic="change of poh's advantage over stack in accuracy, per doubling of the baseline's parameters",
        remark=f"The advantage is largest at {largest}. {_by_size(pairs)}",
        unit="points per doubling",
        margin=MARGIN / float(doublings[-1] - doublings[0]),
    )


def improves(rows: pd.DataFrame) -> Finding | None:
    """PoH's accuracy at its largest size minus that at its second largest, within a seed."""
    part = paired.comparable(rows, "result")
    shares = paired.shares(part, "poh")
    if len(shares) < 2:
        return None
    last = shares.iloc[-2:].dropna(axis=1)
    if last.empty:
        return None
    gained = contrast(shares.to_numpy(), np.array([0.0] * (len(shares) - 2) + [-1.0, 1.0]))
    means = " and ".join(f"{share:.1f} % at {size}" for size, share in last.mean(axis=1).items())
    source = part[part.arch == "poh"]
    statistic = f"poh's accuracy at {last.index[1]} minus that at {last.index[0]}"
    return ahead(gained, source, statistic=statistic, remark=f"It solves {means}.")


def accuracy_or_optimality(rows: pd.DataFrame) -> Finding | None:
    """PoH's advantage in accuracy minus its advantage in optimality, on test mazes with loops."""
    reached, shortest = (paired.pairs(rows, "poh", "stack", "loops", value) for value in ("accuracy", "optimality"))
    if reached is None or shortest is None:
        return None
    both = [paired.balanced(pairs.points).mean(axis=0) for pairs in (reached, shortest)]
    gained = reached.points - shortest.points
    at = paired.balanced(gained)
    if at.empty:
        return None
    ours, theirs = _shortest(reached.ours, shortest.ours), _shortest(reached.theirs, shortest.theirs)
    remark = (
        f"The advantage is {both[0].mean():+.1f} points in accuracy and {both[1].mean():+.1f} in optimality, on mazes "
        "with loops: in perfect mazes there is one way only, and the two are the same by construction. Of the walks "
        f"that arrive, {ours:.0f} % of poh's and {theirs:.0f} % of stack's are shortest: who arrives more often gains "
        "more in accuracy, however it walks."
    )
    statistic = "poh's advantage over stack in accuracy minus that in optimality"
    return ahead(_at(gained, at.index), reached.source, statistic=statistic, remark=remark)


def _shortest(reached: pd.DataFrame, shortest: pd.DataFrame) -> float:
    """Percent of an arm's walks to the goal that are shortest, over all sizes and seeds."""
    return 100 * float(shortest.sum().sum() / max(reached.sum().sum(), 1e-9))


def kept(rows: pd.DataFrame, large: Chosen, medium: Chosen) -> Finding | None:
    """PoH's advantage at large sizes minus that at medium ones.

    For: it is above -MARGIN (non-inferiority), and at large sizes there is an advantage; both must hold. Against: it is
    below -MARGIN, or there is none; the smaller p-value, doubled.
    """
    at = [paired.pairs(rows, "poh", "stack", chosen=chosen) for chosen in (large, medium)]
    if None in at:
        return None
    parts = [paired.balanced(pairs.points) for pairs in at]
    weights = [
        np.where(pairs.points.index.isin(part.index), 1 / len(part), 0) for pairs, part in zip(at, parts, strict=True)
    ]
    if any(part.empty for part in parts) or parts[0].columns.intersection(parts[1].columns).empty:
        return None
    source, points = pd.concat([pairs.source for pairs in at]), pd.concat([pairs.points for pairs in at])
    there, change = (
        ahead(_at(at[0].points, parts[0].index), source),
        contrast(points.to_numpy(), np.concatenate([weights[0], -weights[1]])),
    )
    kept = min(1.0, 2 * change.above(-MARGIN))
    found = _finding(
        change,
        source,
        max(there.p_supports, kept),
        min(1.0, 2 * min(there.p_refutes, change.below(-MARGIN))),
        statistic="poh's advantage over stack in accuracy at large sizes minus that at medium ones",
        remark=" ".join(_by_size(pairs) for pairs in reversed(at)),
        together=2,
    )
    return replace(found, spread=there.spread, errors=there.errors) if there.p_supports > kept else found


def ahead(measured: Contrast, source: pd.DataFrame, margin: float = MARGIN, **about: Any) -> Finding:
    """Whether a mean of differences over seeds is above zero; `source`: rows they rest on, `about`: the finding's text.

    For: it is. Against: it is below `margin`.
    """
    rises, little = min(1.0, 2 * measured.above(0.0)), measured.below(margin)
    found = _finding(measured, source, rises, little, matters=margin, **about)
    if rises < stats.ALPHA and little < stats.ALPHA:
        return replace(found, remark=f"There is a difference, but one that counts as none. {found.remark}".rstrip())
    return found


def _finding(
    measured: Contrast,
    source: pd.DataFrame,
    p_supports: float,
    p_refutes: float,
    unit: str = "points",
    matters: float = MARGIN,
    statistic: str = "difference",
    remark: str = "",
    together: int = 1,
) -> Finding:
    """The mean of differences over seeds with its interval and the p-values of its test."""
    mean, low, high = measured.interval()
    return Finding(
        statistic=statistic,
        unit=unit,
        estimate=mean,
        low=low,
        high=high,
        matters=matters,
        remark=remark,
        replicate="seed",
        scale=unit,
        together=together,
        errors=measured.errors,
        **evidence(source, measured.values, p_supports, p_refutes) | {"spread": measured.spread},
    )


def _at(points: pd.DataFrame, sizes: Sequence[str]) -> Contrast:
    """The mean over these sizes of points [sizes, seeds]."""
    return contrast(points.to_numpy(), points.index.isin(sizes) / len(sizes))


def _mean(pairs: Pairs | None) -> Contrast | None:
    """The mean advantage over the sizes that have most seeds; None for no seeds."""
    balanced = pd.DataFrame() if pairs is None else paired.balanced(pairs.points)
    return None if balanced.empty else _at(pairs.points, balanced.index)


def _about(pairs: Pairs) -> dict[str, str]:
    """What is measured and the values behind a mean over sizes."""
    arm, other = pairs.names
    decided, held = list(paired.balanced(pairs.points).index), len(pairs.points)
    at = f"at {decided[0]}" if len(decided) == 1 else f"mean over {', '.join(decided)}"
    most = ", which has most seeds" if len(decided) == 1 < held else ", which have most seeds"
    said = f"{arm} minus {other} in accuracy, {at}{most if len(decided) < held else ''}"
    return {"statistic": said, "remark": _by_size(pairs)}


def _by_size(pairs: Pairs) -> str:
    """The advantage at every size, with both arms' shares and the seeds behind them."""
    arm, other = pairs.names
    said = []
    for size, values in pairs.points.iterrows():
        ours, theirs, n = pairs.ours.loc[size].mean(), pairs.theirs.loc[size].mean(), int(values.count())
        seeds = f"{n} seed{'s' * (n > 1)}"
        said.append(f"{size} {values.mean():+.1f} ({arm} {ours:.1f} %, {other} {theirs:.1f} %; {seeds})")
    return f"{'; '.join(said)}."
