"""4b's headline: accuracy against bytes per message, of messages in every codec and of text in every coder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import Drawn, bridge_captions, style, wire

EXPERIMENT = wire.EXPERIMENT

REFERENCE = {"color": "0.1", "marker": "o"}
OTHERS = {"color": "0.7", "marker": ".", "ms": 3, "lw": 0.7}
LIGHTER = {"ls": "", "alpha": 0.35, "ms": 3.5, "mew": 0}  # entropy-coded frames
RINGED = ("frame_bytes", "payload_bytes")  # the sizes of which `wire.smallest` is ringed in 4b_frontier
COLOURED = 4  # bridges at most with a colour of their own: more lie on top of each other
HOLLOW = {"ls": "", "mfc": "white", "ms": 4}  # fp16 scales
MARKERS = "sD^vP*Xph"  # of the text coders: the reference has the circle


def against_bytes(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy against bytes per message (log x): a line per bridge over its codecs, a point per text coder."""
    part = wire.messages(rows)
    table, texts = wire.points(part), wire.texts(rows, part)
    figure, (ax,) = style.new(style.TEXT, 4.2)
    looks = _looks(table)
    shown = [bridge_name for bridge_name, look in looks.items() if look is not OTHERS]
    for bridge_name, line in table.groupby("name", sort=False):
        if bridge_name in shown:
            _line(ax, line, looks[bridge_name])
        else:
            fine = wire.finest(line)
            ax.plot(fine.frame_bytes, fine.estimate, label=f"_{bridge_name}", zorder=1, **OTHERS)
    _codec_names(ax, wire.finest(table[table.reference]))
    _texts(ax, texts)
    items = bridge_captions.spread(table["items"])
    n = f"test items: n = {items}; {bridge_captions.seeds_title(table.seeds)}"
    wire.bytes_axis(ax, f"bytes per message (log scale); {n}")
    ax.set(ylim=(-3, 103), ylabel="accuracy on test items (%)")
    wire.text_names(ax, texts)
    _legend(figure, looks, len(texts) > 0)
    style.note(figure, missing, [])
    data = pd.concat([table.assign(arm="message"), texts.assign(arm="text")], ignore_index=True)
    return Drawn(figure, data, _caption(table, texts, missing))


FIGURES = {"4b_bytes": against_bytes}


def _looks(table: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Line of each bridge: the reference black, some in colours, the others grey.

    Colours: what `4b_frontier` rings, and of those trained with noise the first of `_noisy`, COLOURED in all.
    """
    own = table[table.reference].name.iloc[0]
    ringed = [best["name"] for size in RINGED if (best := wire.smallest(table, size)) is not None]
    first = [bridge_name for bridge_name in dict.fromkeys([*ringed, *_noisy(table)]) if bridge_name != own][:COLOURED]
    coloured = style.arm_styles(first)
    found = {bridge_name: coloured.get(bridge_name, OTHERS) for bridge_name in dict.fromkeys(table.name)}
    return found | {own: REFERENCE}


def _noisy(table: pd.DataFrame) -> list[str]:
    """Bridges trained with noise: of the reference's size first, then by their smallest frame that is accurate enough,
    then by their best accuracy.
    """
    size = table.loc[table.reference, ["tokens", "width"]].iloc[0]

    def rank(own: pd.DataFrame) -> tuple[bool, float, float]:
        best = wire.smallest(own)
        differs = (own[["tokens", "width"]].iloc[0] != size).any()
        return differs, np.inf if best is None else best.frame_bytes, -own.estimate.max()

    groups = dict(list(table[(table.noise > 0) & ~table.reference].groupby("name", sort=False)))
    return sorted(groups, key=lambda bridge_name: rank(groups[bridge_name]))


def _line(ax: Axes, table: pd.DataFrame, look: Mapping[str, object]) -> None:
    """One bridge: a line over codecs with their finest scales, fp16 scales hollow, entropy-coded frames faint."""
    label = table.name.iloc[0]
    fine, half = wire.finest(table), table[table.scales == "fp16"]
    ax.plot(fine.frame_bytes, fine.estimate, label=label, ms=4, lw=1, **look)
    ax.vlines(fine.frame_bytes, fine.low, fine.high, color=look["color"], lw=0.8)
    ax.plot(half.frame_bytes, half.estimate, label=f"_{label}, fp16 scales", **look | HOLLOW)
    smaller = table[table.coded_bytes < table.frame_bytes]
    ax.plot(smaller.coded_bytes, smaller.estimate, label=f"_{label}, entropy-coded", **look | LIGHTER)


def _codec_names(ax: Axes, reference: pd.DataFrame) -> None:
    """Names of the codecs beside the reference's line; fp16 and bf16 share a place."""
    for _, same in reference.groupby("frame_bytes"):
        lowest = same.loc[same.estimate.idxmin()]
        place = {"xytext": (3, -5), "textcoords": "offset points", "ha": "left", "va": "top"}
        place |= {"path_effects": style.HALO, "zorder": 5}
        ax.annotate("\n".join(same.codec), (lowest.frame_bytes, min(lowest.low, lowest.estimate)), fontsize=6, **place)


def _texts(ax: Axes, texts: pd.DataFrame) -> None:
    """Text coders at the accuracy that the target has with the text, hollow where lossy; the floor as a line."""
    coders = texts[texts.coder != wire.FLOOR]
    for row, marker in zip(coders.itertuples(), cycle(MARKERS)):
        face = wire.TEXT_COLOUR if row.lossless else "white"
        ax.vlines(row.bytes, row.low, row.high, color=wire.TEXT_COLOUR, lw=0.8)
        look = {"color": wire.TEXT_COLOUR, "mfc": face, "ls": "", "ms": 4.5}
        ax.plot(row.bytes, row.estimate, marker=marker, label=f"_{row.coder}", **look)
    for size in texts[texts.coder == wire.FLOOR].bytes:
        ax.axvline(size, color=wire.FLOOR_COLOUR, lw=0.9, ls="--", label=f"_{wire.FLOOR}", zorder=0)


def _legend(figure: Figure, looks: Mapping[str, dict[str, object]], has_texts: bool) -> None:
    shown = {name: look for name, look in looks.items() if look is not OTHERS}
    handles = [
        Line2D([], [], ms=4, lw=1, label="reference: " * (look is REFERENCE) + name, **look)
        for name, look in shown.items()
    ]
    if len(shown) < len(looks):
        handles.append(Line2D([], [], label="other bridges", **OTHERS))
    grey = {"color": "0.4", "marker": "o"}
    handles.append(Line2D([], [], label="fp16 scales", **grey | HOLLOW))
    handles.append(Line2D([], [], label="entropy-coded", **grey | LIGHTER))
    if has_texts:
        look = {"color": wire.TEXT_COLOUR, "marker": MARKERS[0], "ls": "", "ms": 4.5}
        handles.append(Line2D([], [], label="the question as text", **look))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _caption(table: pd.DataFrame, texts: pd.DataFrame, missing: Sequence[str]) -> str:
    own = table[table.reference].iloc[0]
    floor = texts[texts.coder == wire.FLOOR].bytes
    said = f"Dashed, the entropy of a question: {floor.iloc[0]:.2f} bytes. " if len(floor) else ""
    return (
        "Accuracy on the test items against the bytes of a whole frame, measured on messages that were encoded and "
        f"decoded. Black: {own.label_of} ({own.tokens:g} × {own.width:g} numbers), quantised after training, with a "
        f"scale per {own.group:g} numbers; colours, at most {COLOURED}: the bridge ringed in 4b_frontier and bridges "
        "trained with quantisation noise, those of the same size first, then by their smallest frame that is accurate "
        "enough; grey: all others. "
        "Lines run over the finest scales that a bridge has in each codec, fp32 or else fp16 (hollow); faint, the same "
        "frames with entropy coding, if that is smaller. Text coders stand at the "
        "accuracy of the target that reads the text and have no header; what both sides must hold beforehand is in "
        f"4b_payback. {said}{wire.steps_sentence(table)}"
        f"{bridge_captions.seeds_sentence(table)}{wire.pair_sentence(table)}"
        f"{style.missing_sentence(missing)}"
    )
