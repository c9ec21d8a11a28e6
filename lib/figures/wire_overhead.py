"""What a frame is made of: bytes of header, scales, codes, anchor and checksum in each codec, beside the text's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.figures import Drawn, style, wire

EXPERIMENT = wire.EXPERIMENT

NAMES = {
    "code_bytes": "codes",
    "scale_bytes": "scales",
    "header_bytes": "header",
    "anchor_bytes": "anchor text",
    "checksum_bytes": "checksum",
}
TEXTS = ("utf8", *wire.DICTIONARIES)
TEXT_LOOK = {"color": "0.25", "height": 0.7, "lw": 0}


def overhead(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Stacked bars of the reference bridge's frame by codec and kind of scales; below, the question as text."""
    part = wire.messages(rows)
    table, texts = wire.points(part), wire.texts(rows, part)
    own = table[table.reference].reset_index(drop=True)
    texts = texts[texts.coder.isin(TEXTS)]
    figure, (ax,) = style.new(style.TEXT, 0.19 * (len(own) + len(texts)) + 1.1)
    _frames(ax, own)
    _texts(ax, texts, len(own))
    names = [row.codec + (f", {row.scales} scales" if row.scales else "") for row in own.itertuples()]
    ax.set_yticks(range(len(own) + len(texts)), [*names, *(f"text: {name}" for name in texts.name)])
    ax.set(ylim=(len(own) + len(texts) - 0.4, -0.6), xlabel="bytes per message; right of a bar: bytes, share of codes")
    ax.set_xlim(right=1.14 * own.frame_bytes.max())  # room for the numbers
    ax.set_title(
        f"{own.tokens.iloc[0]:g} × {own.width.iloc[0]:g} numbers, a scale per {own.group.iloc[0]:g}",
        loc="left",
        fontsize=7,
    )
    style.legend_below(figure, ax, len(NAMES))
    style.note(figure, missing, [])
    data = pd.concat([own.assign(arm="message"), texts.assign(arm="text")], ignore_index=True)
    return Drawn(figure, data, _caption(own, missing))


FIGURES = {"4b_overhead": overhead}


def _frames(ax: Axes, own: pd.DataFrame) -> None:
    """A bar per codec, its parts one after the other; codes first, so that they share a baseline."""
    left, looks = np.zeros(len(own)), style.arm_styles(NAMES)
    for part, label in NAMES.items():
        ax.barh(range(len(own)), own[part], left=left, height=0.7, lw=0, color=looks[part]["color"], label=label)
        left += own[part].to_numpy(float)
    for i, row in own.iterrows():
        _number(ax, i, row.frame_bytes, f"{row.frame_bytes:.0f} ({row.code_bytes / row.frame_bytes:.0%})")


def _texts(ax: Axes, texts: pd.DataFrame, first: int) -> None:
    for i, row in enumerate(texts.itertuples(), start=first):
        ax.barh(i, row.bytes, label=f"_{row.coder}", **TEXT_LOOK)
        _number(ax, i, row.bytes, f"{row.bytes:.1f}")


def _number(ax: Axes, y: float, x: float, text: str) -> None:
    ax.annotate(text, (x, y), (3, 0), textcoords="offset points", va="center", fontsize=6)


def _caption(own: pd.DataFrame, missing: Sequence[str]) -> str:
    row = own.iloc[0]
    return (
        f"Bytes of each part of a frame of {row.label_of} ({row.tokens:g} × {row.width:g} numbers), which are the same "
        f"for every message, without entropy coding: integer codecs have a scale per {row.group:g} numbers, in fp32 or "
        "in fp16. The anchor's text is sent because the plan counts it; this receiver has it anyway. "
        "Below, the mean bytes of the same questions as text; a dictionary, which both sides must hold beforehand, is "
        f"not in them (see 4b_payback). {wire.pair_sentence(own)}{style.missing_sentence(missing)}"
    )
