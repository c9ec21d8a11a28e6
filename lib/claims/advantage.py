"""Tests of one arm's advantage over another in shares of solved mazes: percentage points, paired by seed.

An advantage counts if it is above zero, and one of less than MARGIN counts as none: that is what refutes a claim, by a
test of its own, so that a claim which cannot be decided stays open. Means over sizes are taken where there are most
seeds (`paired.balanced`). All tests are t tests over seeds.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.claims import Finding, evidence
from lib.metrics import paired, stats
from lib.metrics.paired import Chosen, Pairs

MARGIN = 5.0  # percentage points; a difference of less is called none


def mean_advantage(rows: pd.DataFrame, arm: str, other: str, chosen: Chosen | None = None) -> Finding | None:
    """The mean over sizes of one arm's advantage over another in accuracy."""
    pairs = paired.pairs(rows, arm, other, chosen=chosen)
    values = _per_seed(pairs)
    return None if values is None else ahead(values, pairs.source, **_about(pairs))


def no_advantage(rows: pd.DataFrame, chosen: Chosen) -> Finding | None:
    """For: PoH's advantage is below MARGIN, by a one-sided t test. Against: it is above, by another."""
    pairs = paired.pairs(rows, "poh", "stack", chosen=chosen)
    values = _per_seed(pairs)
    if values is None:
        return None
    below, above = stats.inside(values, -np.inf, MARGIN), stats.inside(values, MARGIN, np.inf)
    return _finding(values, pairs.source, below, above, **_about(pairs))


def at_every_size(rows: pd.DataFrame) -> Finding | None:
    """The size at which it is least certain that there is an advantage.

    For: there is one at every size (an intersection-union test, Berger 1982: the largest of the sizes' p-values needs
    no adjustment). Against: at one size it is below MARGIN (the smallest p-value, times the number of sizes).
    """
    pairs = paired.pairs(rows, "poh", "stack")
    if pairs is None or len(pairs.points) < 2:
        return None
    said = "poh minus stack in accuracy, least certain at"
    tests = [
        ahead(values.dropna().to_numpy(), pairs.source, statistic=f"{said} {size}")
        for size, values in pairs.points.iterrows()
    ]
    worst = max(tests, key=lambda found: (found.p_supports, -found.estimate))
    least = min(1.0, len(tests) * min(found.p_refutes for found in tests))
    return replace(worst, p_refutes=least, together=len(tests), remark=_by_size(pairs))


def growth(rows: pd.DataFrame) -> Finding | None:
    """Paired slope of PoH's advantage against the logarithm of the baseline's parameters."""
    pairs = paired.pairs(rows, "poh", "stack")
    points = None if pairs is None else pairs.points.dropna(axis=1)
    if points is None or len(points) < 2 or points.empty:
        return None
    slope = stats.doubling_slope(pairs.parameters.to_numpy(), points.to_numpy())
    doublings = float(np.log2(pairs.parameters.iloc[-1] / pairs.parameters.iloc[0]))
    largest = points.mean(axis=1).idxmax()
    return ahead(
        slope.slopes,
        pairs.source,
        statistic="change of poh's advantage over stack in accuracy, per doubling of the baseline's parameters",
        remark=f"The advantage is largest at {largest}. {_by_size(pairs)}",
        unit="points per doubling",
        margin=MARGIN / doublings,
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
    means = " and ".join(f"{share:.1f} % at {size}" for size, share in last.mean(axis=1).items())
    source = part[(part.arch == "poh") & part["size"].isin(last.index)]
    statistic = f"poh's accuracy at {last.index[1]} minus that at {last.index[0]}"
    return ahead((last.iloc[1] - last.iloc[0]).to_numpy(), source, statistic=statistic, remark=f"It solves {means}.")


def accuracy_or_optimality(rows: pd.DataFrame) -> Finding | None:
    """PoH's advantage in accuracy minus its advantage in optimality, on test mazes with loops."""
    reached, shortest = (paired.pairs(rows, "poh", "stack", "loops", value) for value in ("accuracy", "optimality"))
    if reached is None or shortest is None:
        return None
    both = [paired.balanced(pairs.points).mean(axis=0) for pairs in (reached, shortest)]
    gained = (both[0] - both[1]).dropna()
    if gained.empty:
        return None
    ours, theirs = _shortest(reached.ours, shortest.ours), _shortest(reached.theirs, shortest.theirs)
    remark = (
        f"The advantage is {both[0].mean():+.1f} points in accuracy and {both[1].mean():+.1f} in optimality, on mazes "
        "with loops: in perfect mazes there is one way only, and the two are the same by construction. Of the walks "
        f"that arrive, {ours:.0f} % of poh's and {theirs:.0f} % of stack's are shortest: who arrives more often gains "
        "more in accuracy, however it walks."
    )
    statistic = "poh's advantage over stack in accuracy minus that in optimality"
    return ahead(gained.to_numpy(), reached.source, statistic=statistic, remark=remark)


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
    advantage, before = (paired.balanced(pairs.points).mean(axis=0) for pairs in at)
    change = (advantage - before).dropna()
    if change.empty:
        return None
    source = pd.concat([pairs.source for pairs in at])
    there, kept = ahead(advantage.to_numpy(), source), stats.inside(change.to_numpy(), -MARGIN, np.inf)
    lost = stats.inside(change.to_numpy(), -np.inf, -MARGIN)
    found = _finding(
        change.to_numpy(),
        source,
        max(there.p_supports, kept),
        min(1.0, 2 * min(there.p_refutes, lost)),
        statistic="poh's advantage over stack in accuracy at large sizes minus that at medium ones",
        remark=" ".join(_by_size(pairs) for pairs in reversed(at)),
        together=2,
    )
    return replace(found, spread=there.spread) if there.p_supports > kept else found


def ahead(values: np.ndarray, source: pd.DataFrame, margin: float = MARGIN, **about: Any) -> Finding:
    """Whether the mean of differences [seeds] is above zero; `source`: rows they rest on, `about`: the finding's text.

    For: it is, by the two-sided t test that its interval shows. Against: it is below `margin`, by a one-sided one.
    """
    rises = stats.difference(values) if values.mean() > 0 else 1.0
    little = stats.inside(values, -np.inf, margin)
    found = _finding(values, source, rises, little, matters=margin, **about)
    if rises < stats.ALPHA and little < stats.ALPHA:
        return replace(found, remark=f"There is a difference, but one that counts as none. {found.remark}".rstrip())
    return found


def _finding(
    values: np.ndarray,
    source: pd.DataFrame,
    p_supports: float,
    p_refutes: float,
    unit: str = "points",
    matters: float = MARGIN,
    statistic: str = "difference",
    remark: str = "",
    together: int = 1,
) -> Finding:
    """The mean of differences [seeds] with its t interval and the p-values of its test."""
    mean, low, high = stats.t_interval(values)
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
        **evidence(source, values, p_supports, p_refutes),
    )


def _per_seed(pairs: Pairs | None) -> np.ndarray | None:
    """The advantage of each seed [seeds], mean over the sizes that have most of them; None for no seeds."""
    if pairs is None:
        return None
    points = paired.balanced(pairs.points)
    return None if points.empty else points.mean(axis=0).to_numpy()


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
