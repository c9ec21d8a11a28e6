"""What is held in memory for each question: caches, activations, weights."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from lib.figures import Drawn, inference, style

EXPERIMENT = inference.EXPERIMENT
OWN, ITS_SOURCE = {"color": "C0"}, {"color": "C1", "hatch": "////", "lw": 0}
UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("bytes", 1.0))
PANELS = (  # title, bytes of the target, bytes of the source, saving, saving with the source counted
    ("key-value cache at the end", "kv_bytes", "source_kv_bytes", "saved_kv", "saved_kv_with_source"),
    ("peak beside the weights", "peak_bytes", "source_peak_bytes", "saved_peak", "saved_peak_with_source"),
)


def memory(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Bytes per question of the target and of the source, at the largest batch, with what a message saves."""
    part = inference.protocol(rows, "memory")
    table = inference.memory(rows)
    called = inference.names(part)
    own = table[table.batch_size == table.batch_size.max()].set_index("arm").loc[list(called)]
    figure, axes = style.new(style.TEXT, 0.9 + 0.3 * len(called), 3)
    for ax, (title, target, source, saved, with_source) in zip(axes[:2], PANELS, strict=True):
        _bars(ax, own, target, source)
        for place, arm in enumerate(called):
            text = "" if arm == inference.TEXT else f" {_change(own[saved][arm])} ({_change(own[with_source][arm])})"
            ax.text(own[target][arm] + own[source][arm], place, text, va="center", fontsize=6.5)
        ax.set_title(title, loc="left", fontsize=7)
        ax.margins(x=0.5)
    _bars(axes[2], own.assign(target_weights=own.weight_bytes[inference.TEXT]), "target_weights", None)
    axes[2].set_title("weights", loc="left", fontsize=7)
    for ax in axes:
        _unit(ax, "per question" if ax is not axes[2] else "in all")
        ax.set_yticks(range(len(called)), list(called.values()) if ax is axes[0] else [])
        ax.invert_yaxis()
    style.legend_below(figure, axes[0], 2)
    style.note(figure, missing, [])
    return Drawn(figure, table, _caption(part, own, missing))


FIGURES = {"4c_memory": memory}


def _bars(ax: Axes, own: pd.DataFrame, target: str, source: str | None) -> None:
    """The target's bytes, and behind them the source's: those of its weights where none are named."""
    places = range(len(own))
    behind = own[source] if source else own.weight_bytes - own[target]
    ax.barh(places, own[target], height=0.6, label="target", **OWN)
    ax.barh(places, behind, left=own[target], height=0.6, label="source and bridge", **ITS_SOURCE)


def _change(saved: float) -> str:
    """A saving in percent as a change; no sign where it rounds to none."""
    change = -round(saved)
    return f"{change:+d} %" if change else "0 %"


def _unit(ax: Axes, per: str) -> None:
    """Bytes in the largest unit that the axis reaches."""
    name, size = next((name, size) for name, size in UNITS if ax.get_xlim()[1] >= size or size == 1)
    ax.xaxis.set_major_formatter(lambda x, _: f"{x / size:g}")
    ax.set_xlabel(f"{name} {per}")


def _caption(part: pd.DataFrame, own: pd.DataFrame, missing: Sequence[str]) -> str:
    n = part.groupby("batch_size").batch.nunique().loc[part.batch_size.max()]
    return (
        f"Bytes held per question at batch size {part.batch_size.max():g} (means over {n} batches, each measured once "
        "and untimed): the key-value cache, read off its tensors when the answer ends; the peak of all that was "
        f"allocated beside the weights ({part.measured_by.iloc[0]}); and the weights. Percentages: change against the "
        "text, of the target alone, and in parentheses with what the source holds, too. The source's cache exists "
        f"where it goes on itself; to send a message it needs none. {style.missing_sentence(missing)}"
    )
