"""How many soft tokens, and how many bytes: accuracy and degradation against the size of the message."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, bridge, bridge_captions, bridge_series, style

EXPERIMENT = bridge.EXPERIMENT

BYTES_PER_VALUE = 2  # fp16
TEXT_ARMS = {
    "target_alone": {"color": "0.15", "ls": "-", "lw": 0.9},
    "relay": {"color": "0.15", "ls": "-.", "lw": 0.9},
    "constant": {"color": "0.55", "ls": ":", "lw": 1.1},
}
TRUNCATED = {"color": "0.4", "ls": "--", "lw": 0.9, "marker": "x", "ms": 4}
DODGE = 0.02  # between two series, in parts of the axis, so that none hides another
LAST = {"ls": "--", "mfc": "white"}  # weights at the end of the training


def tokens(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy and degradation against soft tokens, accuracy against bytes; a line per series, text arms beside."""
    part = _task(bridge.arms(rows))
    bridged = part[part.arm == "bridged"]
    own = bridge.reference(bridged)
    series = bridge_series.members(bridged, own)
    costs = _costs(rows, own)
    accuracy, texts = _accuracy(series), _texts(part, own)
    lost = _degradation(bridge.protocol(rows, "stability"), own)
    figure, axes = style.new(style.TEXT, 3.3, columns=3)
    _against_tokens(axes[0], accuracy, texts, costs)
    _losses(axes[1], lost, costs)
    _against_bytes(axes[2], accuracy, texts, costs)
    axes[0].set_title(
        f"{own.task.iloc[0]}; test items: n = {bridge_captions.spread(accuracy['items'])}", loc="left", fontsize=7
    )
    axes[1].set_title(bridge_captions.seeds_title(lost.seeds), loc="left", fontsize=7)
    axes[2].set_title(bridge_captions.seeds_title(accuracy.seeds), loc="left", fontsize=7)
    _legend(figure, accuracy, texts)
    style.note(figure, missing, [])
    data = pd.concat([accuracy, lost, texts], ignore_index=True).assign(**costs)
    return Drawn(figure, data, _caption(rows, part, accuracy, costs, missing))


FIGURES = {"4a_tokens": tokens}


def _task(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of the task that most numbers of soft tokens were tried on; of as many, the first."""
    counts = part[part.arm == "bridged"].groupby("task").soft_tokens.nunique()
    return part[part.task == max(bridge.tasks(part), key=counts.get)]


def _costs(rows: pd.DataFrame, own: pd.DataFrame) -> dict[str, float]:
    """Mean tokens and UTF-8 bytes of a question, and its entropy in bytes: text_tokens, text_bytes, entropy_bytes.

    NaN where no run measured them.
    """
    cost = rows[(rows.protocol == "cost") & (rows[bridge.WORLD] == own[bridge.WORLD].iloc[0]).all(axis=1)]
    names = ["text_tokens", "text_bytes", "entropy_bits"]
    mean = cost.reindex(columns=names).astype(float).mean()
    return {"text_tokens": mean.text_tokens, "text_bytes": mean.text_bytes, "entropy_bytes": mean.entropy_bits / 8}


def _points(series: dict[str, pd.DataFrame]) -> list[tuple[dict[str, object], pd.DataFrame]]:
    """Each configuration of each series: the columns that place it, and its rows."""
    columns = ["soft_tokens", "wire_dim", "label"]
    return [
        ({"series": name, "message_bytes": BYTES_PER_VALUE * k * wire, "soft_tokens": k, "label": label}, group)
        for name, part in series.items()
        for _, group in part.groupby(bridge.CONFIGURATION, dropna=False)
        for k, wire, label in [group[columns].iloc[0]]
    ]


def _accuracy(series: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy of the weights and decoding that each configuration asks for, by series and soft tokens."""
    found = [
        place | {"measure": "accuracy"} | bridge.estimate(bridge.as_configured(group))
        for place, group in _points(series)
    ]
    return pd.DataFrame(found)


def _degradation(stability: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Peak minus what is left of it in validation accuracy: as configured, and of the last weights decoded plainly."""
    points, found = _points(bridge_series.members(stability, bridge.same(stability, own))), []
    for place, group in points:
        stops, hygiene = (group[name].astype(bool) for name in ("early_stopping", "decode_hygiene"))
        asked = group[(stops == (group.patience > 0)) & (hygiene == group.hygiene.astype(bool))]
        for measure, part in (("degradation", asked), ("degradation of the last weights", group[~stops & ~hygiene])):
            if len(part):
                found.append(place | {"measure": measure} | bridge.over_seeds(part.degradation))
    return pd.DataFrame(found, columns=["series", "soft_tokens", "message_bytes", "label", "measure", *bridge.INTERVAL])


def _texts(part: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Arms without a bridge, decoded as the reference: one value each, of truncated one per number of tokens."""
    beside = bridge.beside(part, own)
    found = [
        {"series": row["arm"].iloc[0], "measure": "accuracy"} | bridge.estimate(row)
        for arm in TEXT_ARMS
        for row in [beside[beside.arm == arm]]
        if len(row)
    ]
    cut = part[(part.arm == "truncated") & (part.decode_hygiene == own.hygiene.iloc[0])]
    cut = cut.drop_duplicates("soft_tokens", keep="last").sort_values("soft_tokens")
    found += [
        {"series": "truncated", "soft_tokens": row.soft_tokens.iloc[0], "measure": "accuracy"} | bridge.estimate(row)
        for _, row in cut.groupby("soft_tokens")
    ]
    return pd.DataFrame(found, columns=["series", "soft_tokens", "measure", *bridge.INTERVAL])


def _lines(ax: Axes, table: pd.DataFrame, x: str, **options: object) -> None:
    """A line per series through its points, with their intervals; beside each other where they share numbers."""
    names = [name for name in bridge_series.SERIES if name in set(table.series)]
    looks = style.arm_styles(bridge_series.SERIES)
    for i, name in enumerate(names):
        line = table[table.series == name].sort_values([x, "soft_tokens"])
        octaves = DODGE * (i - (len(names) - 1) / 2) * _octaves(table.soft_tokens)
        places = line[x] * 2**octaves if x == "soft_tokens" else line[x]
        ax.plot(places, line.estimate, **{"ms": 4, "lw": 1, "label": name, **looks[name], **options})
        known = line.low.notna()
        ax.vlines(places[known], line.low[known], line.high[known], color=looks[name]["color"], lw=0.8)


def _octaves(counts: Sequence[int]) -> float:
    """How often the smallest number doubles up to the largest; at least once, so that an axis has an extent."""
    return max(1.0, float(np.log2(max(counts) / min(counts))))


def _against_tokens(ax: Axes, accuracy: pd.DataFrame, texts: pd.DataFrame, costs: dict[str, float]) -> None:
    _levels(ax, texts)
    cut = texts[texts.series == "truncated"]
    ax.plot(cut.soft_tokens, cut.estimate, label="truncated", **TRUNCATED)
    ax.vlines(cut.soft_tokens, cut.low, cut.high, color=TRUNCATED["color"], lw=0.8)
    _lines(ax, accuracy, "soft_tokens")
    _token_ticks(ax, sorted(set(accuracy.soft_tokens)), costs)
    ax.set(ylabel="accuracy on test items (%)", ylim=(-3, 103))


def _losses(ax: Axes, lost: pd.DataFrame, costs: dict[str, float]) -> None:
    ax.axhline(0, color="0.6", lw=0.7, zorder=0)
    _lines(ax, lost[lost.measure == "degradation"], "soft_tokens")
    last = lost[lost.measure != "degradation"]
    _lines(ax, last, "soft_tokens", label="_last weights", **LAST)
    _token_ticks(ax, sorted(set(lost.soft_tokens)), costs)
    ax.set_ylabel("peak minus kept (points, validation)")
    low, high = min(0.0, lost.estimate.min()), max(0.0, lost.estimate.max())
    room = 0.3 * max(high - low, 5)
    ax.set_ylim(low - room, high + room)


def _against_bytes(ax: Axes, accuracy: pd.DataFrame, texts: pd.DataFrame, costs: dict[str, float]) -> None:
    _levels(ax, texts)
    _lines(ax, accuracy, "message_bytes")
    for key, name in (("entropy_bytes", "entropy of a question"), ("text_bytes", "question in UTF-8")):
        if np.isfinite(costs[key]):
            ax.axvline(costs[key], color="0.5", lw=0.8, zorder=0)
            place = {"xytext": (-2, 0), "textcoords": "offset points", "rotation": 90, "ha": "right", "va": "bottom"}
            ax.annotate(f"{name}: {costs[key]:.0f} B", (costs[key], 8), fontsize=6, color="0.3", **place)
    ax.set(xscale="log", xlabel="message (bytes, fp16; log scale)", ylim=(-3, 103))
    least = np.nanmin([accuracy.message_bytes.min(), costs["entropy_bytes"], costs["text_bytes"]])
    ax.set_xlim(left=least / 2)  # room for the name beside the leftmost line


def _levels(ax: Axes, texts: pd.DataFrame) -> None:
    """Arms whose value does not depend on the number of tokens, as lines across."""
    for row in texts[texts.series.isin(TEXT_ARMS)].itertuples():
        ax.axhline(row.estimate, label=row.series, zorder=1, **TEXT_ARMS[row.series])


def _token_ticks(ax: Axes, counts: Sequence[int], costs: dict[str, float]) -> None:
    """Numbers of soft tokens, and below them how many text tokens each stands for."""
    measured = np.isfinite(costs["text_tokens"])

    def name(count: float, _: int) -> str:
        return f"{count:g}\n{costs['text_tokens'] / count:.1f}" if measured else f"{count:g}"

    ax.set_xscale("log", base=2)
    room = 2 ** (0.08 * _octaves(counts))
    ax.set_xlim(min(counts) / room, max(counts) * room)
    ax.xaxis.set(major_locator=FixedLocator(counts), minor_locator=NullLocator(), major_formatter=FuncFormatter(name))
    ax.set_xlabel("soft tokens K" + ("; text tokens / K" if measured else ""))


def _legend(figure: Figure, accuracy: pd.DataFrame, texts: pd.DataFrame) -> None:
    looks = style.arm_styles(bridge_series.SERIES)
    handles = [
        Line2D([], [], ms=4, lw=1, label=name, **looks[name])
        for name in bridge_series.SERIES
        if name in set(accuracy.series)
    ]
    arms = TEXT_ARMS | {"truncated": TRUNCATED}
    handles += [
        Line2D([], [], label=bridge.ARMS[arm], **look) for arm, look in arms.items() if arm in set(texts.series)
    ]
    handles.append(Line2D([], [], color="0.3", marker="o", ms=4, lw=1, label="last weights, plain decoding", **LAST))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _caption(
    rows: pd.DataFrame,
    part: pd.DataFrame,
    accuracy: pd.DataFrame,
    costs: dict[str, float],
    missing: Sequence[str],
) -> str:
    lacking = [name for name in bridge_series.SERIES if name not in set(accuracy.series)]
    none = f"Series without two numbers of tokens: {', '.join(lacking)}. " if lacking else ""
    text = f"A question has {costs['text_tokens']:.1f} tokens of the target on average, measured. "
    return (
        "Left: accuracy on the test items against soft tokens, with the checkpoint and the decoding that each "
        "configuration asks for; text arms decode alike. Middle: best validation accuracy of the whole training minus "
        "that of what is kept, which early stopping makes small by construction; hollow, of the last weights decoded "
        "plainly. Right: accuracy against the bytes of the message in fp16. Series share the plan's best "
        "configuration; its own change width, depth and heads with the tokens, the others keep what their name says. "
        f"{text if np.isfinite(costs['text_tokens']) else ''}{none}"
        f"{bridge_captions.seeds_sentence(accuracy)}{bridge_captions.pair_sentence(part, rows)}"
        f"{style.missing_sentence(missing)}"
    )
