"""What the figures of 3a share: which rows are compared, means over seeds, paired differences, looks, panels, captions.

Seeds are the replicates: a seed has its own mazes and initial weights, the same mazes for every arm. So a point is a
mean over seeds with a t interval over them, and two arms are compared by their differences within a seed. Mazes of one
seed share one trained model and are not counted as replicates. One figure shows one setting (side of the mazes, R, T);
the one with the most models is drawn and the caption says what was left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import Undrawable, style
from lib.metrics import paired, stats
from lib.metrics.paired import Setting

EXPERIMENT = "3a_poh_scaling"
ARMS = ("stack", "stack_params", "loop", "poh", "stack_flops")  # fixes order and colours; others follow by name
RECURRENT = ("loop", "poh")
LABELS = {
    "stack": "stack (baseline)",
    "stack_params": "stack_params (parameters of poh)",
    "stack_flops": "stack_flops (FLOPs of loop)",
}
AGAINST = ("stack", "stack_params", "loop", "stack_flops")  # what poh is compared with
PERCENTAGES = ("accuracy", "optimality", "cell_accuracy", "accuracy_2R", "optimality_2R", "val_accuracy")
BEYOND = {"color": "0.93", "zorder": 0, "lw": 0}  # behind refinements that were not trained
INTERVAL = ["estimate", "low", "high", "n"]


class Protocol(NamedTuple):
    """What the rows of a protocol hold, and the columns that tell the rows of one model apart."""

    holds: str
    keys: tuple[str, ...] = ()


PROTOCOLS = {
    "result": Protocol("what each model solves"),
    "epoch": Protocol("losses in training", ("epoch",)),
    "refinement": Protocol("what is solved after each refinement", ("refinement",)),
    "larger": Protocol("mazes larger than those of training", ("side",)),
    "loops": Protocol("mazes with loops"),
    "length": Protocol("mazes by length of their path", ("low", "high")),
}


def protocol(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one protocol and of the setting drawn, shares as percentages, ordered by size, arm, keys and seed.

    Undrawable where there are none, or where a size, arm and seed were trained more than once in different ways.
    """
    holds, keys = PROTOCOLS[name]
    part = paired.of_setting(rows) if "protocol" in rows else pd.DataFrame({"protocol": []})
    part = part[part.protocol == name].dropna(axis=1, how="all")
    if part.empty:
        raise Undrawable(
            f"The runs hold no rows of protocol {name!r} ({holds}), which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset standard' and draw that preset."
        )
    refuse_doubles(part, keys)
    columns = [column for column in PERCENTAGES if column in part]
    part = part.assign(**{column: 100 * part[column].astype(float) for column in columns})
    ranks = part.assign(size=part["size"].map(sizes(part).index), arch=part.arch.map(arms(part).index))
    return part.loc[ranks.sort_values(["size", "arch", *keys, "seed"]).index]


def refuse_doubles(part: pd.DataFrame, keys: Sequence[str]) -> None:
    doubles = part[part.duplicated(["size", "arch", "seed", *keys])]
    if len(doubles):
        first = doubles.iloc[0]
        raise Undrawable(
            f"Size {first['size']}, arm {first.arch}, seed {first.seed} was trained more than once among these runs, "
            "in ways this figure does not tell apart: draw one preset with --preset, or one setting with --set."
        )


def arms(rows: pd.DataFrame) -> list[str]:
    """The arms among the rows, in the order that fixes their colours."""
    found = set(rows.arch)
    return [arm for arm in ARMS if arm in found] + sorted(found - set(ARMS))


def sizes(rows: pd.DataFrame) -> list[str]:
    """Sizes from small to large: by width, then by the parameters of their smallest arm."""
    return rows.groupby("size")[["d_model", "parameters"]].min().sort_values(["d_model", "parameters"]).index.tolist()


def precise(rows: pd.DataFrame) -> str:
    """The size with the most trained models, of as many the largest: for figures with room for one."""
    counts = rows.drop_duplicates(["size", "arch", "seed"])["size"].value_counts()
    order = sizes(rows)
    return max(order, key=lambda size: (counts[size], order.index(size)))


def looks(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Colour and marker of each arm; those of `ARMS` look alike on every figure."""
    return style.arm_styles([*ARMS, *(arm for arm in arms(rows) if arm not in ARMS)])


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean of one value per seed with its 95 % t interval: estimate, low, high, n; no interval (NaN) of one seed."""
    mean, low, high = stats.t_interval(np.asarray(values, dtype=float))
    return {"estimate": mean, "low": low, "high": high, "n": len(values)} | (
        {"low": np.nan, "high": np.nan} if len(values) < 2 else {}
    )


def over_seeds(part: pd.DataFrame, value: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """Mean over seeds of a column, in the order of the rows: size, arch, `by`, parameters, estimate, low, high, n."""
    keys = ["size", "arch", *by]
    known = part[part[value].notna()] if value in part else part[:0]
    found = [
        dict(zip(keys, names, strict=True)) | {"parameters": group.parameters.iloc[0]} | interval(group[value])
        for names, group in known.groupby(keys, sort=False)
    ]
    return pd.DataFrame(found, columns=[*keys, "parameters", *INTERVAL])


def differences(part: pd.DataFrame, value: str, against: str) -> pd.DataFrame:
    """poh minus another arm on the same mazes [seeds, sizes], NaN where one of the two is missing; sizes in order."""
    wide = part.pivot(index="seed", columns=["arch", "size"], values=value)
    if not {"poh", against} <= set(part.arch):
        return pd.DataFrame()
    gaps = (wide["poh"] - wide[against]).dropna(how="all").dropna(axis=1, how="all")
    return gaps[[size for size in sizes(part) if size in gaps]]


def advantages(part: pd.DataFrame, value: str) -> pd.DataFrame:
    """poh minus each other arm, paired by seed: size, against, estimate, low, high, n, in points."""
    found = [
        {"size": size, "against": arm} | interval(ahead[size].dropna())
        for arm in AGAINST
        for ahead in [differences(part, value, arm)]
        for size in ahead
    ]
    return pd.DataFrame(found, columns=["size", "against", *INTERVAL])


def gaps(part: pd.DataFrame, missing: Sequence[str]) -> list[str]:
    """Cells without a finished run, then arms that no size or not every size has."""
    order, found = sizes(part), list(missing)
    for arm in [*ARMS, *(arm for arm in arms(part) if arm not in ARMS)]:
        lacking = [size for size in order if size not in set(part[part.arch == arm]["size"])]
        if lacking:
            found.append(arm if lacking == order else f"{arm} ({', '.join(lacking)})")
    return found


def limits(ax: Axes, part: pd.DataFrame, values: Sequence[str]) -> None:
    """A percentage axis in view of all seeds; wide intervals of few seeds are cut off at 0 and 100 %."""
    top = np.nanmax(part[[value for value in values if value in part]].to_numpy(float))
    ax.set_ylim(-0.03 * max(top, 10), 1.08 * max(top, 10))


def points(ax: Axes, x: pd.Series, line: pd.DataFrame, look: dict[str, object], **options: object) -> None:
    """A line through means over seeds with their intervals as bars; `x`: positions, one per row of `line`."""
    ax.plot(x, line.estimate, **{"ms": 3.5, "lw": 1, **look, **options})
    known = line.low.notna().to_numpy()
    ax.vlines(np.asarray(x)[known], line.low[known], line.high[known], color=look["color"], lw=0.8)


def beyond(ax: Axes, trained: int, last: int) -> None:
    """Grey behind the refinements beyond those trained, where there are any."""
    if last > trained:
        ax.axvspan(trained + 0.5, last + 0.5, **BEYOND)


def legend(figure: Figure, rows: pd.DataFrame, extra: Sequence[Artist] = (), columns: int = 4) -> None:
    """Arms and `extra` in a legend under the axes."""
    look = looks(rows)
    handles = [Line2D([], [], ms=4, lw=1, label=LABELS.get(arm, arm), **look[arm]) for arm in arms(rows)]
    handles += extra
    lines = -(-len(handles) // columns)
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines), frameon=False)


def spread(counts: pd.Series) -> str:
    """3, or 1 to 3 where they differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def short(count: float) -> str:
    """A number of parameters: 463k, 2.5M, 101M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if count >= unit:
            return f"{count / unit:.{1 if count < 9.95 * unit else 0}f}{name}"
    return f"{count:.0f}"


def replicates(table: pd.DataFrame) -> str:
    """How many seeds are behind the points, for titles."""
    return f"seeds: n = {spread(table.n)}" + (", no interval" if table.n.max() < 2 else "")


def seeds_sentence(table: pd.DataFrame) -> str:
    """How many seeds are behind the points, for captions."""
    seeds = spread(table.n)
    if table.n.max() < 2:
        return "One seed per point, so no interval: nothing here says how another seed would come out. "
    none = " (none where there is one seed)" if table.n.min() < 2 else ""
    return (
        f"Means over {seeds} seeds with 95 % t intervals over seeds{none}, not adjusted for the number of comparisons. "
    )


def setting_sentence(rows: pd.DataFrame) -> str:
    """What a caption says of the setting, and of models of other settings."""
    chosen, counts = paired.setting(rows), paired.settings(rows)
    others = [f"{n} of {Setting(*found)}" for found, n in counts.items() if found != chosen]
    return f"{chosen}. " + (f"Left out, models of other settings: {'; '.join(others)}. " if others else "")
