"""Questions answered per second against the number answered together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, Undrawable, inference, style
from lib.metrics import stats

EXPERIMENT = inference.EXPERIMENT
SERVED = "served by vLLM"


def throughput(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Questions per second on log axes: a panel per accounting, and one for an engine that serves ready messages."""
    parts, notes = [], []
    if (rows.protocol == "latency").any():
        timed = inference.protocol(rows, "latency")
        parts.append(inference.throughput(rows))
        notes.append(inference.masks_sentence(timed) + inference.setting(timed))
    if (rows.protocol == "serving").any():
        parts.append(served(rows))
        notes.append(_engine(inference.protocol(rows, "serving")))
    if not parts:
        raise Undrawable(
            "The runs hold no timed batches, which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset quick' and draw that preset."
        )
    table = pd.concat(parts, ignore_index=True)
    called = inference.names(rows[rows.protocol.isin(["latency", "serving"])])
    panels = list(dict.fromkeys(table.accounting))
    figure, axes = style.new(style.TEXT, 2.3, len(panels))
    for ax, panel in zip(axes, panels, strict=True):
        _lines(ax, table[table.accounting == panel], called)
        ax.set_title(panel, loc="left", fontsize=7)
    axes[0].set_ylabel("questions per second")
    style.legend_below(figure, axes[0], len(called))
    style.note(figure, missing, [])
    caption = (
        "Questions answered per second against batch size, medians over batches with 95 % bootstrap intervals (none "
        f"where fewer than {stats.ENOUGH}); one batch after another, without a link. {''.join(notes)}"
        f"{style.missing_sentence(missing)}"
    )
    return Drawn(figure, table, caption)


FIGURES = {"4c_throughput": throughput}


def served(rows: pd.DataFrame) -> pd.DataFrame:
    """What vLLM serves, medians over repeats, with their quartiles."""
    part = inference.protocol(rows, "serving").astype({"batch_size": int})
    return inference.summarise(part, part.samples_per_s).assign(accounting=SERVED, low=np.nan, high=np.nan)


def _lines(ax: Axes, part: pd.DataFrame, called: dict[str, str]) -> None:
    look = style.arm_styles(list(called))
    for arm, name in called.items():
        own = part[part.arm == arm].sort_values("batch_size")
        ax.plot(own.batch_size, own.estimate, ms=4, lw=1, label=name, **look[arm])
        ax.vlines(own.batch_size, own.low, own.high, color=look[arm]["color"], lw=0.8)
    sizes = sorted(set(part.batch_size))
    ax.set(xscale="log", yscale="log", xlabel="batch size (questions)")
    ax.xaxis.set(major_locator=FixedLocator(sizes), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(FuncFormatter(lambda y, _: f"{y:g}" if str(f"{y:e}")[0] in "25" else ""))
    ax.tick_params(axis="y", which="minor", labelsize=7)


def _engine(part: pd.DataFrame) -> str:
    first = part.iloc[0]
    return (
        f"vLLM {first.vllm} on {first.device}, {first.dtype}: text as token ids, messages as prompt embeddings that "
        f"have been made, one engine for both, {part.repeat.nunique()} timed passes. "
    )
