"""A column over another as points with intervals: lines where x is a number, side by side where it is a name."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.explore.table import ALL, Choice
from lib.figures import style

WIDE = 20  # largest over smallest positive value, from which on an axis is logarithmic
LEGEND = 12  # lines that a legend below the axes names; of more, it stands beside them
SPREAD = 0.6  # of the room between two names


def picture(values: pd.DataFrame, medians: pd.DataFrame, choice: Choice) -> Figure:
    """Replicates as faint dots, medians with their 95 % intervals; arguments from `lib.explore.table`."""
    hues = list(medians.hue.unique())
    figure, (ax,) = style.new(style.TEXT, 3.6)
    looks = style.arm_styles(hues)
    named = None if pd.api.types.is_numeric_dtype(medians.x) else {x: i for i, x in enumerate(medians.x.unique())}
    for number, hue in enumerate(hues):
        shift = SPREAD * ((number + 0.5) / len(hues) - 0.5) if named else 0.0
        own, line = (part[part.hue == hue] for part in (values, medians))
        ax.plot(_places(own.x, named, shift), own.y, ".", color=looks[hue]["color"], alpha=0.25, ms=3, zorder=1)
        _line(ax, _places(line.x, named, shift), line, looks[hue], "" if named else "-")
    _axes(ax, medians, choice, named)
    if choice.hue != ALL:
        below = len(hues) <= LEGEND
        where = "outside lower center" if below else "outside right upper"
        figure.legend(loc=where, ncols=6 if below else 1, frameon=False, title=choice.hue)
    return figure


def _places(x: pd.Series, named: dict[str, int] | None, shift: float) -> np.ndarray:
    return x.map(named).to_numpy(float) + shift if named else x.to_numpy(float)


def _line(ax: Axes, x: np.ndarray, line: pd.DataFrame, look: dict[str, object], joined: str) -> None:
    length = np.stack([line["median"] - line.low, line.high - line["median"]])
    ax.errorbar(
        x, line["median"], np.nan_to_num(length), ls=joined, capsize=2, ms=5, lw=1, label=line.hue.iloc[0], **look
    )


def _axes(ax: Axes, medians: pd.DataFrame, choice: Choice, named: dict[str, int] | None) -> None:
    least, most = medians.n.min(), medians.n.max()
    n = f"n = {least}" if least == most else f"n = {least} to {most}"
    interval = "with 95 % interval" if medians.low.notna().any() else "too few for an interval"
    ax.set(xlabel=choice.x, ylabel=choice.y)
    ax.set_title(f"median over replicates, {n}, {interval}", loc="left")
    if named:
        slanted = {"rotation": 30, "ha": "right"} if sum(map(len, map(str, named))) > 60 else {}
        ax.set_xticks(range(len(named)), list(named), **slanted)
    elif _wide(medians.x):
        ax.set_xscale("log")
    if medians["median"].max() > 1 and _wide(medians["median"]):  # shares of 1 are easier to compare as they are
        ax.set_yscale("log")


def _wide(values: pd.Series) -> bool:
    return bool(values.min() > 0 and values.max() / values.min() >= WIDE)
