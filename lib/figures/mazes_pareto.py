"""What the compute of a training buys: accuracy against training FLOPs, and the arms that nothing cheaper beats."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lib.figures import Drawn, Undrawable, mazes, style

EXPERIMENT = mazes.EXPERIMENT

NAMED = ("stack", "poh")  # arms with the name of the size at each point; those of the others lie close by
FRONT = {"color": "0.35", "ls": "--", "lw": 0.9}


def pareto(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy against training FLOPs (log x): a curve per arm over sizes, faint ones over epochs, and the front."""
    result = mazes.protocol(rows, "result")
    table = _trained(result)
    paths = _paths(rows)
    figure, (ax,) = style.new(style.TEXT, 3.6)
    _curves(ax, result, table, paths)
    _front(ax, table[table.front])
    ax.set(xscale="log", xlabel="training FLOPs (log scale)", ylabel="accuracy (%)")
    mazes.limits(ax, pd.concat([result, paths]), ["accuracy", "estimate"])
    ax.set_title(f"test mazes: n = {mazes.spread(result.n_test)}; {mazes.replicates(table)}", loc="left", fontsize=7)
    faint = Line2D([], [], color="0.4", lw=0.7, alpha=0.5, label="during training, validation mazes")
    mazes.legend(figure, result, [faint, Line2D([], [], label="Pareto front", **FRONT)], 3)
    gaps = mazes.gaps(result, missing)
    style.note(figure, gaps, [])
    return Drawn(figure, pd.concat([table, paths], ignore_index=True), _caption(rows, table, gaps))


FIGURES = {"3a_pareto": pareto}


def front(flops: Sequence[float], accuracy: Sequence[float]) -> list[bool]:
    """Which points no other beats: none has at most their FLOPs and at least their accuracy, one of them strictly."""
    both = list(zip(flops, accuracy, strict=True))
    return [not any(f <= flop and a >= share and (f, a) != (flop, share) for f, a in both) for flop, share in both]


def _trained(result: pd.DataFrame) -> pd.DataFrame:
    """Trained models: means over seeds with `flops` (the same for all seeds, else their mean) and `front`."""
    table = mazes.over_seeds(result, "accuracy")
    flops = result.groupby(["size", "arch"], as_index=False).train_flops.mean().rename(columns={"train_flops": "flops"})
    table = table.merge(flops, on=["size", "arch"])
    return table.assign(measure="test", front=front(table.flops, table.estimate))


def _paths(rows: pd.DataFrame) -> pd.DataFrame:
    """Validation accuracy by epoch, means over seeds; empty where no epochs were recorded."""
    try:
        epochs = mazes.protocol(rows, "epoch")
    except Undrawable:
        return pd.DataFrame(columns=["size", "arch", "epoch", "estimate"])
    table = mazes.over_seeds(epochs, "val_accuracy", ["epoch"])
    flops = epochs.groupby(["size", "arch", "epoch"], as_index=False).flops.mean()
    return table.merge(flops, on=["size", "arch", "epoch"]).assign(measure="validation", front=False)


def _curves(ax: Axes, result: pd.DataFrame, table: pd.DataFrame, paths: pd.DataFrame) -> None:
    looks = mazes.looks(result)
    for (_, arm), path in paths.groupby(["size", "arch"], sort=False):
        ax.plot(path.flops, path.estimate, lw=0.7, alpha=0.35, color=looks[arm]["color"], label="_during training")
    for arm in mazes.arms(result):
        line = table[table.arch == arm]
        mazes.points(ax, line.flops, line, looks[arm], label=arm)
        for row in line.itertuples() if arm in NAMED else ():
            place = {"xytext": (5, -7), "textcoords": "offset points"}
            ax.annotate(row.size, (row.flops, row.estimate), fontsize=6, color="0.3", **place)


def _front(ax: Axes, best: pd.DataFrame) -> None:
    """The front as steps: what is spent beyond a point buys nothing until the next."""
    best = best.sort_values("flops")
    ax.step(best.flops, best.estimate, where="post", label="_Pareto front", zorder=0, **FRONT)
    ax.plot(best.flops, best.estimate, ls="", marker="o", ms=8, mfc="none", mec="0.35", mew=0.8, label="_on the front")


def _caption(rows: pd.DataFrame, table: pd.DataFrame, gaps: Sequence[str]) -> str:
    best = ", ".join(f"{row.arch} {row.size}" for row in table[table.front].sort_values("flops").itertuples())
    return (
        "Accuracy on test mazes against the FLOPs of the whole training (counted by formula), a point per arm and "
        "size, joined over sizes; faint, the accuracy on validation mazes against the FLOPs spent so far. "
        f"Ringed and joined by dashes, the Pareto front of the means, which ignores their intervals: {best}. "
        f"{mazes.seeds_sentence(table)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )
