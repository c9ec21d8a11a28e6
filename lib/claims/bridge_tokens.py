"""What rows of 4a say about the number of soft tokens: accuracy, stability, compression and cache; None where nothing
in the rows bears on the claim.

The plan's own series changes width, depth and heads of the bridge together with the number of tokens; the slope is
taken where nothing else changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from lib.claims import Finding
from lib.claims import bridge_select as select
from lib.claims.bridge_select import SERIES, Scale
from lib.claims.bridge_tests import ahead, minus, within
from lib.claims.exact import counted, near


def more_tokens(rows: pd.DataFrame, scale: Scale, fewer: int, more: int) -> Finding | None:
    """Test accuracy kept at one place of the plan's series minus that at an earlier one, on the same seeds."""
    runs = _series(rows, scale)
    if runs is None:
        return None
    counts = [int(run.soft_tokens.iloc[0]) for run in runs]
    names = f"{counts[more]} tokens", f"{counts[fewer]} tokens"
    tables = [select.kept(runs[i]) for i in (more, fewer)]
    return minus(tables, names, pd.concat([runs[more], runs[fewer]]), f"test accuracy at {names[0]} minus {names[1]}")


def per_doubling(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """Slope of test accuracy against the logarithm of soft tokens where nothing else changes, within seed and item.

    Against: it is below zero. A small slope is no evidence: trainings of few tokens fail now and then, and a few seeds
    of which none did have too small a one.
    """
    series = select.equal_shape(select.trained(rows, scale, scale.maths))
    tables = select.shared([select.kept(run) for run in series.values()]) if len(series) > 1 else None
    if tables is None:
        return None
    doublings = np.log2(list(series))
    weights = (doublings - doublings.mean()) / ((doublings - doublings.mean()) ** 2).sum()
    slopes = sum(weight * 100 * table.to_numpy(float) for weight, table in zip(weights, tables, strict=True))
    said = ", ".join(f"{k} tokens {100 * t.to_numpy().mean():.1f} %" for k, t in zip(series, tables, strict=True))
    about = "change of test accuracy per doubling of the soft tokens, all else equal"
    source, remark = pd.concat(series.values()), f"{said}."
    return ahead(slopes, source, margin=0.0, statistic=about, unit="points per doubling", remark=remark)


def quality(rows: pd.DataFrame, scale: Scale, place: int, low: float, high: float) -> Finding | None:
    """Test accuracy kept at one place of the plan's series, against a range."""
    runs = _series(rows, scale)
    kept = select.kept(runs[place]) if runs else pd.DataFrame()
    if kept.empty:
        return None
    about = select.accuracy(runs[place])
    return within(100 * kept.to_numpy(float), runs[place], low, high, statistic=about, unit="% correct")


def fewest_most_stable(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """The count of soft tokens at which it is least certain that the fewest lose less from peak to end than it does.

    Of trainings that run to their end: of what early stopping keeps, the loss is none by construction. For: the fewest
    lose less than each of the others (the larger p-value, Berger 1982). Against: they lose more than one of them (the
    smallest, times their number). That they lose as much is no evidence: where one training in three loses anything, a
    few that lost nothing do not tell how much others would.
    """
    runs = _series(rows, scale)
    tables = [select.stability(run, early_stopping=False, hygiene=False) for run in runs or []]
    if not tables or any(table.empty for table in tables):
        return None
    lost = pd.concat([100 * table.degradation for table in tables], axis=1, join="inner").to_numpy(float).T
    if not lost.size:
        return None
    counts = [int(run.soft_tokens.iloc[0]) for run in runs]
    said = ", ".join(f"{k} tokens {points:.1f}" for k, points in zip(counts, lost.mean(axis=1), strict=True))
    about = f"degradation at {{}} tokens minus that at {counts[0]}, least certain of all"
    tests = [
        ahead((other - lost[0])[:, None], pd.concat(runs), margin=0.0, statistic=about.format(k))
        for k, other in zip(counts[1:], lost[1:], strict=True)
    ]
    worst = max(tests, key=lambda test: (test.p_supports, -test.estimate))
    least = min(1.0, len(tests) * min(test.p_refutes for test in tests))
    return replace(worst, p_refutes=least, together=len(tests), remark=f"Peak minus final in points: {said}.")


def token_ratios(rows: pd.DataFrame, scale: Scale, plan: Sequence[float]) -> Finding | None:
    """Mean tokens of a question over soft tokens, along the series: each must be within TOLERANCE of the plan."""
    runs = _series(rows, scale)
    costs = [run[run.protocol == "cost"] for run in runs or []]
    if not costs or any(cost.empty for cost in costs):
        return None
    ratios = [float(cost.token_ratio.iloc[-1]) for cost in costs]
    fits = all(map(near, ratios, plan))
    pairs = zip(costs, ratios, plan, strict=True)
    said = ", ".join(f"{ratio:.1f}× at {cost.soft_tokens.iloc[-1]:g} (plan {want:g}×)" for cost, ratio, want in pairs)
    remark = f"A question has {costs[0].text_tokens.iloc[-1]:.1f} tokens on average: {said}."
    about = "tokens of the text over soft tokens, at the fewest"
    return counted(ratios[0], fits, about, "×", remark, source=pd.concat(costs))


def _series(rows: pd.DataFrame, scale: Scale) -> list[pd.DataFrame] | None:
    """The plan's three configurations of ablation 2, few soft tokens first; None where one is missing."""
    part = select.trained(rows, scale, scale.maths)
    runs = [select.labelled(part, labels) for labels in SERIES]
    return None if any(run.empty for run in runs) else sorted(runs, key=lambda run: run.soft_tokens.iloc[0])
