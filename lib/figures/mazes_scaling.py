"""PoH-HRM against the baseline as both grow: the four panels of the experiment's plan, with every arm in them.

The plan compared poh with the baseline of the same size, which has fewer parameters and a quarter of the FLOPs. Beside
that difference stand those from the arm with its parameters, from the one with its FLOPs, and from its own loop without
routing. In mazes without loops every way that reaches the goal is the shortest, so optimality is shown on those with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, Undrawable, mazes, mazes_kinds, mazes_plan, style
from lib.metrics import paired

EXPERIMENT = mazes.EXPERIMENT

NEGATIVE = "/////"  # hatch of a bar below zero
WIDEST = 0.8  # of a group of bars, in the distance of two sizes


def scaling(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy and optimality against parameters, and what poh is ahead of each other arm in both, in points."""
    result = mazes.protocol(rows, "result")
    optimal, where = _optimality_rows(rows, result)
    levels = {"accuracy": mazes.over_seeds(result, "accuracy"), "optimality": mazes.over_seeds(optimal, "optimality")}
    ahead = {"accuracy": mazes.advantages(result, "accuracy"), "optimality": mazes.advantages(optimal, "optimality")}
    figure, axes = style.new(style.TEXT, 5.4, columns=2, rows=2)
    for above, below, part, (measure, table) in zip(axes, axes[2:], (result, optimal), levels.items(), strict=False):
        place = mazes_kinds.kind(result) if measure == "accuracy" else where
        _levels(above, part, table, measure)
        above.set_title(f"{place}: n = {mazes.spread(part.n_test)}; {mazes.replicates(table)}", loc="left", fontsize=7)
        _bars(below, part, ahead[measure], measure)
    mazes.legend(figure, result, [Patch(fc="white", ec="0.3", hatch=NEGATIVE, lw=0.6, label="bar below zero")], 3)
    gaps = mazes.gaps(result, missing)
    style.note(figure, gaps, [])
    side = paired.setting(rows).maze_size
    return Drawn(
        figure,
        _data(levels, ahead),
        _caption(rows, levels["accuracy"], _where_optimality(result, where), gaps),
        files=mazes_plan.artefacts(rows),
        copies=[f"scaling_plot_maze{side}.png"],
    )


FIGURES = {"3a_scaling": scaling}


def _optimality_rows(rows: pd.DataFrame, result: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows that optimality is read from, and the kind of mazes in words."""
    if mazes_kinds.looped(result):
        return result, mazes_kinds.kind(result)
    try:
        return mazes.protocol(rows, "loops"), "mazes with loops"
    except Undrawable:
        return result, mazes_kinds.kind(result)


def _levels(ax: Axes, part: pd.DataFrame, table: pd.DataFrame, measure: str) -> None:
    """One line per arm through its means, the single seeds faint behind them."""
    looks = mazes.looks(part)
    for arm in mazes.arms(part):
        line, single = table[table.arch == arm], part[part.arch == arm]
        ax.plot(
            single.parameters, single[measure], ls="", marker=".", ms=4, alpha=0.4, mew=0, color=looks[arm]["color"]
        )
        mazes.points(ax, line.parameters, line, looks[arm], label=arm)
    ax.set(xscale="log", xlabel="parameters (log scale; names: smallest arm)", ylabel=f"{measure} (%)")
    mazes.limits(ax, part, [measure])
    names = {int(part.parameters.max()): ""} | {
        int(n): size for size, n in part.groupby("size").parameters.min().items()
    }
    ax.xaxis.set(major_locator=FixedLocator(sorted(names)), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{names[n]}\n{mazes.short(n)}" if n in names else ""))


def _bars(ax: Axes, part: pd.DataFrame, table: pd.DataFrame, measure: str) -> None:
    """A group of bars per size: poh minus the arm of the bar's colour, the sign by hatch and by the number above."""
    order, looks = mazes.sizes(part), mazes.looks(part)
    against = [arm for arm in mazes.AGAINST if arm in set(table.against)]
    width = WIDEST / max(1, len(against))
    for row in table.itertuples():
        x = order.index(row.size) + (against.index(row.against) - (len(against) - 1) / 2) * width
        hatch = NEGATIVE if row.estimate < 0 else ""
        ax.bar(
            x, row.estimate, 0.9 * width, color=looks[row.against]["color"], alpha=0.75, hatch=hatch, ec="0.15", lw=0.5
        )
        if row.n > 1:
            ax.vlines(x, row.low, row.high, color="0.15", lw=0.9)
        _number(ax, x, row, rotated=len(table) > 4)
    if table.empty:
        ax.text(0.5, 0.5, "no arm to compare poh with", transform=ax.transAxes, ha="center")
    ax.axhline(0, color="0.15", lw=0.8, ls="--")
    ax.set_xticks(range(len(order)), order)
    ax.set(xlim=(-0.5, len(order) - 0.5), ylabel="points")
    _room(ax, table)
    seeds = f"; {mazes.replicates(table)}" if len(table) else ""
    ax.set_title(f"{measure}: poh minus each other arm{seeds}", loc="left", fontsize=7)


def _number(ax: Axes, x: float, row: tuple, rotated: bool) -> None:
    """The difference with its sign, above bar and interval."""
    top = np.nanmax([0, row.estimate, row.high])
    ax.annotate(
        f"{row.estimate:+.1f}",
        (x, top),
        (0, 2),
        textcoords="offset points",
        ha="center",
        va="bottom",
        fontsize=6,
        rotation=90 if rotated else 0,
    )


def _room(ax: Axes, table: pd.DataFrame) -> None:
    """Zero, all bars and intervals in view, with room for the numbers above."""
    if len(table):
        values = np.nan_to_num(table[["estimate", "low", "high"]].to_numpy(float))
        low, high = min(0, values.min()), max(0, values.max())
        extent = max(high - low, 1)
        ax.set_ylim(low - 0.06 * extent, high + 0.25 * extent)


def _data(levels: dict[str, pd.DataFrame], ahead: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Both kinds of panel in one table; `against` is empty where a row is an arm's own level."""
    parts = [table.assign(panel="level", measure=measure, against="") for measure, table in levels.items()]
    parts += [table.assign(panel="advantage", measure=measure, arch="poh") for measure, table in ahead.items()]
    columns = ["panel", "measure", "size", "arch", "against", "parameters", *mazes.INTERVAL]
    return pd.concat([part for part in parts if len(part)], ignore_index=True).reindex(columns=columns)


def _where_optimality(result: pd.DataFrame, where: str) -> str:
    """Why the right column is of the mazes that it is of."""
    if mazes_kinds.looped(result):
        return f"Both are of {where}, on which the two can differ. "
    alike = mazes_kinds.kind(result) == where
    shown = (
        "there are no rows of mazes with loops, so the right column repeats the left"
        if alike
        else "it is therefore shown on test mazes with loops, which no model was trained on"
    )
    return f"On mazes without loops the two coincide by construction; {shown}. "


def _caption(rows: pd.DataFrame, table: pd.DataFrame, where: str, gaps: Sequence[str]) -> str:
    return (
        "Above: share of test mazes whose goal a legal walk reaches (accuracy), and reaches in as few steps as "
        f"possible (optimality), against parameters; faint dots are single seeds. {where}Below: what poh is ahead of "
        "the arm of the bar's colour, in percentage points, paired by seed; a hatched bar is below zero, and the "
        "number above each bar has its sign. The plan's comparison is that with stack, which has fewer parameters and "
        "FLOPs; stack_params has poh's parameters, stack_flops its FLOPs, loop its recurrence. "
        f"{mazes.seeds_sentence(table)}"
        f"{mazes_plan.references_sentence(rows)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )
