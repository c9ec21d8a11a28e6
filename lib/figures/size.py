"""The size hypothesis put to the test: how much an arm's speedup changes where the model doubles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, scaling, style
from lib.metrics import stats

EXPERIMENT = "1a3_scaling"

CURVES = ("hf", "batched", "eab_sequential", "eab", "tree")  # in the right panel, which cannot hold every arm
BAND = {"color": "0.9", "zorder": 0, "lw": 0}


def size(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: change of speedup per doubling of parameters, every arm, with interval and verdict. Right: speedup against
    parameters with what counted FLOPs predict.
    """
    fixed = rows[rows.protocol == "fixed"]
    measured = _speedups(fixed, "wall_s")
    predicted = stats.summarise(_speedups(fixed, "flops")).rename(columns={"estimate": "predicted"})
    table = slopes(measured)
    curves = stats.summarise(measured).merge(predicted[["model", "arm", "predicted"]], on=["model", "arm"])
    arms = sorted(set(measured.arm))
    looks = scaling.looks(arms)
    figure, (left, right) = style.new(style.TEXT, 0.17 * len(arms) + 1.5, columns=2, width_ratios=(1.15, 1))
    _slopes_panel(left, table, arms, looks)
    _curves_panel(right, curves, looks)
    _legend(figure, right)
    style.note(figure, missing, style.dummies(rows))
    data = curves.merge(table, on="arm", how="left") if len(table) else curves
    return Drawn(figure, data, _caption(fixed, measured, table, missing))


FIGURES = {"1a3_size": size}


def slopes(speedups: pd.DataFrame) -> pd.DataFrame:
    """One row per arm: slope (log2 speedup per doubling of parameters) with its t interval, n prompts, p-values of "it
    changes" and of "it is flat" (within 5 % per doubling), Holm-adjusted over the arms, verdict, and the slope that
    could have been found.

    `speedups` has columns arm, parameters, prompt, ratio. Only prompts that every model has count. Empty where there is
    a single model.
    """
    found = {}
    for arm, part in speedups.groupby("arm"):
        wide = part.pivot(index="parameters", columns="prompt", values="ratio").dropna(axis=1)
        if len(wide) >= 2 and wide.shape[1]:
            found[arm] = stats.size_slope(wide.index.to_numpy(), wide.to_numpy())
    if not found:
        return pd.DataFrame()
    changes = stats.holm([stats.difference(s.slopes) for s in found.values()])
    flat = stats.holm([stats.equivalence(s.slopes) for s in found.values()])
    return pd.DataFrame(
        {
            "arm": arm,
            "slope": s.estimate,
            "slope_low": s.low,
            "slope_high": s.high,
            "prompts": s.n,
            "p_changes": changes[i],
            "p_flat": flat[i],
            "verdict": _verdict(s, changes[i], flat[i]),
            "detectable": stats.detectable(np.std(s.slopes, ddof=1), s.n) if s.n > 1 else np.inf,
        }
        for i, (arm, s) in enumerate(found.items())
    )


def _verdict(slope: stats.SizeSlope, p_changes: float, p_flat: float) -> str:
    """Flat wins: a change that is there but below the margin is one that nobody was promised."""
    if slope.n < stats.ENOUGH:
        return "undecided"
    if p_flat < stats.ALPHA:
        return "flat"
    if p_changes < stats.ALPHA:
        return "grows" if slope.estimate > 0 else "shrinks"
    return "undecided"


def _speedups(fixed: pd.DataFrame, value: str) -> pd.DataFrame:
    pairs = stats.against(fixed, value=value)
    return pairs[pairs.arm != "naive"]


def percent(log2_per_doubling: float) -> float:
    """A slope as percent per doubling."""
    return 100 * (2**log2_per_doubling - 1)


def _slopes_panel(ax: Axes, table: pd.DataFrame, arms: list[str], looks: dict[str, dict[str, object]]) -> None:
    ax.axvspan(percent(-stats.FLAT), percent(stats.FLAT), **BAND)
    ax.axvline(0, color="0.6", lw=0.6, zorder=0)
    for row in table.itertuples():
        y = arms.index(row.arm)
        ax.plot(percent(row.slope), y, ms=4, ls="", **looks[row.arm])
        if row.prompts >= stats.ENOUGH:
            ax.hlines(y, percent(row.slope_low), percent(row.slope_high), color=looks[row.arm]["color"])
        ax.text(1.02, y, row.verdict, transform=ax.get_yaxis_transform(), fontsize=7, va="center")
    if table.empty:
        ax.text(0.5, 0.5, "one model: no slope yet", transform=ax.transAxes, ha="center")
    prompts = f"; prompts: n = {table.prompts.min()}" if len(table) else ""
    ax.set_title(f"change of speedup with size{prompts}", loc="left")
    ax.set_xlabel("percent per doubling of parameters")
    ax.set_yticks(range(len(arms)), arms)
    ax.set_ylim(len(arms) - 0.4, -0.6)


def _curves_panel(ax: Axes, curves: pd.DataFrame, looks: dict[str, dict[str, object]]) -> None:
    for arm in (arm for arm in CURVES if arm in set(curves.arm)):
        part, colour = curves[curves.arm == arm].sort_values("parameters"), looks[arm]["color"]
        ax.plot(part.parameters, part.estimate, ms=3.5, lw=1, label=arm, **looks[arm])
        known = part[part.n >= stats.ENOUGH]
        ax.fill_between(known.parameters, known.low, known.high, color=colour, alpha=0.18, lw=0)
        ax.plot(part.parameters, part.predicted, "--", lw=0.9, color=colour)
    names = {row.parameters: style.short_name(row.model) for row in curves.drop_duplicates("model").itertuples()}
    ax.set(xscale="log", yscale="log", xlabel="model size (parameters, log scale)")
    ax.set_title("speedup over naive (wall time)", loc="left")
    ax.xaxis.set(major_locator=FixedLocator(sorted(names)), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: names.get(n, "")))
    ax.axhline(1, color="0.6", lw=0.6, zorder=0)
    style.times_ticks(ax)


def _legend(figure: Figure, ax: Axes) -> None:
    handles = [
        *ax.get_legend_handles_labels()[0],
        Line2D([], [], ls="--", color="0.4", lw=0.9, label="if time followed counted FLOPs"),
        Patch(color="0.9", label="flat: less than 5 % per doubling"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _caption(fixed: pd.DataFrame, speedups: pd.DataFrame, table: pd.DataFrame, missing: Sequence[str]) -> str:
    left_out = sorted(set(speedups.arm) - set(CURVES))
    return (
        f"How the speedup over {scaling.samples(fixed)} separate generations changes with model size. Left: mean over "
        "prompts of the slope of log speedup against log parameters, per doubling, with 95 % t intervals over prompts "
        '(the models are fixed); "flat" where the equivalence test puts it within 5 % per doubling, "grows" or '
        '"shrinks" where it differs from zero, Holm-adjusted over the arms. '
        + _undecided(table)
        + "Right: medians over prompts with 95 % bootstrap intervals; dashed, the ratio of the FLOPs counted in the "
        "same passes, which is the speedup of a machine whose time follows them. "
        + (f"Not in the right panel: {', '.join(left_out)}. " if left_out else "")
        + scaling.setting(fixed)
        + style.missing_sentence(missing)
    )


def _undecided(table: pd.DataFrame) -> str:
    """What an undecided comparison could have found: 80 % power, before the Holm adjustment."""
    if table.empty or not (table.verdict == "undecided").any():
        return ""
    arms = table[table.verdict == "undecided"]
    found = ", ".join(f"{row.arm} {percent(row.detectable):.0f} %" for row in arms.itertuples())
    return (
        f"Undecided arms and the change per doubling that {arms.prompts.min()} prompts find in 4 of 5 cases: {found}. "
    )
