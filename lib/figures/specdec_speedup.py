"""What drafting buys: speedup by method and model, and against the number of requests decoded together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, specdec, style
from lib.metrics import stats

EXPERIMENT = specdec.EXPERIMENT


def speedup(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Speedup over the baseline of the same engine, a point per model, method and backend, on a log axis."""
    latency = specdec.protocol(rows, "latency", "single requests")
    pairs = specdec.speedups(latency)
    table = specdec.summarise(pairs)
    figure, (ax,) = style.new(style.TEXT, 2.9)
    _points(ax, table)
    _model_ticks(ax, table)
    ax.axhline(1, color="0.5", lw=0.8, zorder=0)
    ax.set(yscale="log", ylabel="speedup over baseline")
    _limits(ax, table)
    specdec.legend(figure, table)
    style.note(figure, missing, style.dummies(rows))
    caption = (
        "Speedup of drafting over plain decoding by the same engine: baseline's seconds per token over the method's "
        f"on the same request, median over {specdec.requests(table)} with 95 % bootstrap intervals over requests "
        f"(none where fewer than {stats.ENOUGH}); below the line at 1 drafting costs time. "
        f"{_losers(table)}{specdec.setting(latency, pairs)}{style.missing_sentence(missing)}"
    )
    return Drawn(figure, table, caption)


def batch(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Speedup against batch size, a panel per model, a line per method and backend, the last crossing of 1 marked."""
    throughput = specdec.protocol(rows, "throughput", "requests decoded together")
    throughput = throughput.astype({"batch_size": int})  # a column that other rows lack holds floats
    pairs = specdec.speedups(throughput, ["batch_size"])
    table = specdec.summarise(pairs, ["batch_size"])
    table = table.merge(crossings(table), on=["model", "backend", "arm"])
    models = specdec.models(table)
    figure, axes = style.grid(len(models), 2.1, sharex=True, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        part = table[table.model == model]
        _lines(ax, part)
        ax.set_title(f"{specdec.name(model)}: {specdec.requests(part, 'batches per point')}", loc="left", fontsize=7)
        ax.set(xscale="log", yscale="log", xlabel="batch size (requests)")
    axes[0].set_ylabel("speedup over baseline")
    _limits(axes[0], table)
    sizes = sorted(set(table.batch_size))
    axes[0].xaxis.set(major_locator=FixedLocator(sizes), minor_locator=NullLocator())
    axes[0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    specdec.legend(figure, table, ls="-", lw=1)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, table, _batch_caption(throughput, pairs, table, missing))


FIGURES = {"2a_speedup": speedup, "2a_batch": batch}


def crossings(table: pd.DataFrame) -> pd.DataFrame:
    """Columns model, backend, arm, crossing: the batch size from which a method loses to its baseline and goes on
    losing, interpolated on log-log axes between the sizes measured; 0 where it loses at every size, infinite where
    it wins at the largest.
    """
    keys = ["model", "backend", "arm"]
    found = table.sort_values("batch_size").groupby(keys)[["batch_size", "estimate"]]
    return found.apply(_crossing).rename("crossing").reset_index()


def _crossing(line: pd.DataFrame) -> float:
    x, y = np.log2(line.batch_size.to_numpy(float)), np.log2(line.estimate.to_numpy(float))
    wins = np.flatnonzero(y >= 0)
    if not len(wins):
        return 0.0
    if wins[-1] == len(y) - 1:
        return np.inf
    last = wins[-1]
    return float(2 ** (x[last] + (x[last + 1] - x[last]) * y[last] / (y[last] - y[last + 1])))


def _points(ax: Axes, table: pd.DataFrame) -> None:
    """One point per method and backend beside each other in the model's place."""
    models, look = specdec.models(table), specdec.looks(table)
    series = list(dict.fromkeys((arm, b) for arm in specdec.methods(table) for b in sorted(set(table.backend))))
    series = [s for s in series if ((table.arm == s[0]) & (table.backend == s[1])).any()]
    offsets = dict(zip(series, np.linspace(-0.36, 0.36, len(series) + 2)[1:-1], strict=True))
    for row in table.itertuples():
        x = models.index(row.model) + offsets[row.arm, row.backend]
        ax.plot(
            x,
            row.estimate,
            ms=5,
            ls="",
            label=f"{row.arm} ({row.backend})",
            **specdec.filled(row.backend, look[row.arm]),
        )
        ax.vlines(x, row.low, row.high, color=look[row.arm]["color"], lw=1)


def _model_ticks(ax: Axes, table: pd.DataFrame) -> None:
    models = specdec.models(table)
    smallest = table.groupby("model").n.min()
    ax.set_xticks(range(len(models)), [f"{specdec.name(m)}\nn = {smallest[m]}" for m in models])
    ax.set_xlim(-0.5, len(models) - 0.5)
    ax.set_xlabel("model (n: requests)")
    ax.tick_params(axis="x", length=0)
    for border in range(1, len(models)):
        ax.axvline(border - 0.5, color="0.9", lw=0.6, zorder=0)


def _limits(ax: Axes, table: pd.DataFrame) -> None:
    """Both sides of 1 in view, with round factors as ticks."""
    values = table[["estimate", "low", "high"]].to_numpy()
    ax.set_ylim(0.92 * min(0.8, np.nanmin(values)), 1.08 * max(1.25, np.nanmax(values)))
    style.times_ticks(ax)


def _lines(ax: Axes, part: pd.DataFrame) -> None:
    look = specdec.looks(part)
    ax.axhline(1, color="0.5", lw=0.8, zorder=0)
    for (arm, backend), line in part.groupby(["arm", "backend"], sort=False):
        colour = look[arm]["color"]
        ax.plot(
            line.batch_size,
            line.estimate,
            ms=3.5,
            lw=1,
            label=f"{arm} ({backend})",
            **specdec.filled(backend, look[arm]),
        )
        ax.vlines(line.batch_size, line.low, line.high, color=colour, lw=0.8)
        if 0 < line.crossing.iloc[0] < np.inf:
            _mark(ax, line.crossing.iloc[0], 0.02 + 0.08 * len(ax.texts), colour)


def _mark(ax: Axes, crossing: float, height: float, colour: tuple) -> None:
    """The batch size near the foot of the panel (a share of its height), tied to where the line crosses 1."""
    ax.annotate(
        f"{crossing:.2g}",
        (crossing, 1),
        (crossing, height),
        textcoords=("data", "axes fraction"),
        color=colour,
        fontsize=7,
        ha="center",
        va="bottom",
        bbox={"color": "white", "pad": 0.5, "lw": 0},
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.7, "ls": ":", "shrinkA": 0, "shrinkB": 0},
    )


def _losers(table: pd.DataFrame) -> str:
    """Methods whose whole interval lies below 1."""
    found = []
    for (arm, backend), part in table[table.high < 1].groupby(["arm", "backend"], sort=False):
        found.append(f"{arm} ({backend}) on {', '.join(map(specdec.name, part.model))}")
    return f"Slower than the baseline by the whole interval: {'; '.join(found)}. " if found else ""


def _batch_caption(rows: pd.DataFrame, pairs: pd.DataFrame, table: pd.DataFrame, missing: Sequence[str]) -> str:
    sizes = f"{table.batch_size.min()} to {table.batch_size.max()}"
    return (
        f"Speedup over plain decoding by the same engine against the number of requests decoded together ({sizes}): "
        "baseline's seconds per token over the method's for the same batch, median over "
        f"{specdec.requests(table, 'batches per point')}, with 95 % bootstrap intervals where there are "
        f"{stats.ENOUGH} or more. A dotted line leads to the batch size from which drafting stops paying, "
        f"interpolated between the sizes measured. {_crossing_sentence(table)}{specdec.setting(rows, pairs)}"
        f"{style.missing_sentence(missing)}"
    )


def _crossing_sentence(table: pd.DataFrame) -> str:
    """Where each line loses for good, for those who read the caption alone."""
    said = []
    for row in table.drop_duplicates(["model", "backend", "arm"]).itertuples():
        where = {0: "never pays", np.inf: f"pays up to {table.batch_size.max()} at least"}
        name = f"{row.arm} on {specdec.name(row.model)} ({row.backend})"
        said.append(f"{name} {where.get(row.crossing, f'stops at {row.crossing:.2g}')}")
    return f"{'; '.join(said)}. "
