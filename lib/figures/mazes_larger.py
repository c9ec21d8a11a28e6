"""What carries over: accuracy on mazes of other sides than the training's, and by the length of the path.

Bins of length are those of each seed's own mazes (about as many mazes in each), so bins of the same rank are averaged
and stand where the middle of the bin is on average.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lib.figures import Drawn, Undrawable, mazes, style
from lib.metrics import paired

EXPERIMENT = mazes.EXPERIMENT

TWICE = {"ls": "--", "mfc": "white"}  # at 2R refinements


def larger(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: accuracy against the side of the test mazes, at R and at 2R. Right: against the length of the path.

    Both for the size with the most models; the plotted data has them all.
    """
    sides = mazes.protocol(rows, "larger").astype({"side": int})
    size, lengths = mazes.precise(sides), _lengths(rows, sides)
    once, twice = (mazes.over_seeds(sides, measure, ["side"]) for measure in ("accuracy", "accuracy_2R"))
    bins = mazes.over_seeds(lengths, "accuracy", ["bin", "cells"])
    figure, (left, right) = style.new(style.TEXT, 3.1, columns=2, sharey=True)
    _sides(left, sides, *(table[table["size"] == size] for table in (once, twice)), paired.setting(rows).maze_size)
    _bins(right, sides, bins[bins["size"] == size])
    left.set_title(_title(f"{size}, side of the mazes", sides, once, size), loc="left", fontsize=7)
    right.set_title(_title(f"{size}, length of the path", lengths, bins, size), loc="left", fontsize=7)
    left.set_ylabel("accuracy (%)")
    mazes.limits(left, pd.concat([sides, lengths]), ["accuracy", "accuracy_2R"])
    _legend(figure, sides)
    gaps = mazes.gaps(sides, missing)
    style.note(figure, gaps, [])
    named = {"accuracy by side": once, "accuracy by side at 2R": twice, "accuracy by length": bins}
    data = pd.concat([table.assign(measure=name) for name, table in named.items() if len(table)], ignore_index=True)
    return Drawn(figure, data, _caption(rows, sides, once, gaps))


FIGURES = {"3a_larger": larger}


def _lengths(rows: pd.DataFrame, sides: pd.DataFrame) -> pd.DataFrame:
    """Rows by length of the path, with the rank of their `bin` and its middle in `cells`; none without any."""
    try:
        part = mazes.protocol(rows, "length")
    except Undrawable:
        return sides[:0].assign(bin=0, cells=0.0)
    ranks = part.groupby(["size", "arch", "seed"]).low.rank().astype(int)
    part = part.assign(bin=ranks, cells=(part.low + part.high) / 2)
    part = part.sort_values("bin", kind="stable")
    return part.assign(cells=part.groupby(["size", "bin"]).cells.transform("mean"))


def _sides(ax: Axes, sides: pd.DataFrame, once: pd.DataFrame, twice: pd.DataFrame, trained: int) -> None:
    """A line per arm at R, a dashed one at 2R for those that can."""
    looks = mazes.looks(sides)
    ax.axvline(trained, color="0.5", lw=0.8, ls=":", zorder=0)
    for arm in mazes.arms(sides):
        at_r, at_2r = (table[table.arch == arm] for table in (once, twice))
        mazes.points(ax, at_r.side, at_r, looks[arm], label=arm)
        if len(at_2r):
            mazes.points(ax, at_2r.side, at_2r, looks[arm], label=f"_{arm} at 2R", **TWICE)
    ax.xaxis.set(major_locator=FixedLocator(sorted(set(sides.side))), minor_locator=NullLocator())
    ax.set_xlabel("side of the test mazes (cells)")


def _bins(ax: Axes, sides: pd.DataFrame, bins: pd.DataFrame) -> None:
    """A line per arm over the bins."""
    looks = mazes.looks(sides)
    for arm in mazes.arms(bins):
        line = bins[bins.arch == arm]
        mazes.points(ax, line.cells, line, looks[arm], label=arm)
    if bins.empty:
        ax.text(0.5, 0.5, "no rows by length of the path", transform=ax.transAxes, ha="center")
    ax.set_xlabel("length of the path (cells), mazes of the training's side")


def _title(what: str, part: pd.DataFrame, table: pd.DataFrame, size: str) -> str:
    """What the panel shows, with its n: mazes per point and seeds."""
    own, seeds = part[part["size"] == size], table[table["size"] == size]
    return f"{what}\nmazes: n = {mazes.spread(own.n_test)}; {mazes.replicates(seeds)}" if len(own) else what


def _legend(figure: Figure, sides: pd.DataFrame) -> None:
    marks = [
        Line2D([], [], color="0.4", marker="o", ms=4, lw=1, label="at 2R refinements", **TWICE),
        Line2D([], [], color="0.5", lw=0.8, ls=":", label="side trained on"),
    ]
    mazes.legend(figure, sides, marks)


def _caption(rows: pd.DataFrame, sides: pd.DataFrame, table: pd.DataFrame, gaps: Sequence[str]) -> str:
    size = mazes.precise(sides)
    others = [other for other in mazes.sizes(sides) if other != size]
    return (
        "Left: accuracy on mazes of the side trained on (dotted) and of others, which no model saw in training; dashed "
        "and hollow, loop and poh with twice the refinements that they were trained with. Right: accuracy on the test "
        "mazes of the side trained on, by the number of cells of the shortest path from start to goal, in bins of each "
        "seed's mazes; a point stands at the mean middle of its bin. "
        f"Size {size}, which has the most models. "
        + (f"In the plotted data only: {', '.join(others)}. " if others else "")
        + mazes.seeds_sentence(table[table["size"] == size])
        + mazes.setting_sentence(rows)
        + style.missing_sentence(gaps)
    )
