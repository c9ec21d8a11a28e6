"""The plan's own messages, 32, 48 and 64 tokens of 4096 numbers: exact bytes beside the prompts that they stand for."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes

from lib.figures import Drawn, style, wire

EXPERIMENT = wire.EXPERIMENT

CACHE = "kv_cache"  # the codec of rows about shipping a model's cache instead
WIDTH = 0.75  # of the dots of one codec, in the distance of two codecs
PROMPT = {"color": wire.TEXT_COLOUR, "lw": 1.1}
CACHE_LINE = {"color": "C4", "lw": 0.9, "ls": "--"}
SCALES = {"": "full", "fp32": "full", "fp16": "none"}  # how markers are filled
TIMES_OF = "int4"  # the codec whose ratios are written at its dots


def geometry(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Bytes of a frame (log y) per codec and number of tokens, the mean prompt and its key-value cache as lines."""
    part = wire.protocol(rows, "geometry")
    part = part[part.run == part.run.iloc[-1]]
    frames, caches = part[part.codec != CACHE], part[part.codec == CACHE]
    codecs = [codec for codec in wire.CODECS if codec in set(frames.codec)]
    figure, (ax,) = style.new(style.TEXT, 3.2)
    _frames(ax, frames, codecs)
    _lines(ax, part, caches)
    ax.set(yscale="log", ylabel="bytes per message (log scale)", xlim=(-0.5, len(codecs) - 0.5))
    ax.set_xticks(range(len(codecs)), codecs)
    ax.set_title(f"prompts: {part.prompt_source.iloc[0]}; sizes are exact, none was sampled", loc="left", fontsize=7)
    style.legend_below(figure, ax, 4)
    style.note(figure, missing, [])
    columns = ["geometry", "tokens", "width", *wire.FRAME, "frame_bytes", "prompt_bytes", "prompt_source"]
    return Drawn(
        figure, part[[*columns, "times_prompt", "assumption"]].reset_index(drop=True), _caption(part, frames, missing)
    )


FIGURES = {"4b_geometry": geometry}


def _frames(ax: Axes, frames: pd.DataFrame, codecs: Sequence[str]) -> None:
    """A dot per size of message and kind of scales, hollow with fp16 scales, beside each other within a codec."""
    names = list(frames.sort_values("tokens", kind="stable").geometry.unique())
    looks = style.arm_styles(names)
    for i, name in enumerate(names):
        shift = _shift(i, len(names))
        for scales, fill in SCALES.items():
            own = frames[(frames.geometry == name) & (frames.scales == scales)]
            face = looks[name]["color"] if fill == "full" else "white"
            places = [codecs.index(codec) + shift for codec in own.codec]
            label = f"_{name}, {scales}" if scales else name.replace("x", "×")
            ax.plot(places, own.frame_bytes, ls="", ms=4.5, mfc=face, label=label, zorder=3, **looks[name])
    ax.plot([], [], ls="", ms=4.5, mfc="white", color="0.4", marker="o", label="fp16 scales")
    for row in frames[(frames.codec == TIMES_OF) & (frames.scales == "fp32")].itertuples():
        at = codecs.index(row.codec) + _shift(names.index(row.geometry), len(names)), row.frame_bytes
        place = {"xytext": (0, 6), "textcoords": "offset points", "ha": "center", "fontsize": 6}
        ax.annotate(f"{row.times_prompt:.0f}×", at, **place)


def _shift(i: int, count: int) -> float:
    """Where in its codec's column the dot of one of `count` sizes stands."""
    return WIDTH * ((i + 0.5) / count - 0.5)


def _lines(ax: Axes, part: pd.DataFrame, caches: pd.DataFrame) -> None:
    """The prompt and the caches, across, with their names on the line."""
    prompt = float(part.prompt_bytes.iloc[0])
    ax.axhline(prompt, label="_prompt", **PROMPT)
    _name(ax, f"mean prompt in UTF-8: {prompt:,.0f} B", prompt)
    for i, (size, same) in enumerate(caches.groupby("frame_bytes")):
        ax.axhline(size, label=f"_{CACHE}", **CACHE_LINE)
        _name(ax, f"{' and '.join(same.geometry)}: {size / 2**20:.1f} MiB", size, right=i % 2 == 1)


def _name(ax: Axes, text: str, y: float, right: bool = False) -> None:
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right" if right else "left"}
    ax.annotate(text, (0.99 if right else 0.01, y), (0, 3), fontsize=6.5, **place)


def _caption(part: pd.DataFrame, frames: pd.DataFrame, missing: Sequence[str]) -> str:
    least = frames.loc[frames.frame_bytes.idxmin()]
    scales = f" with {least.scales} scales" if least.scales else ""
    ratios = frames[(frames.codec == TIMES_OF) & (frames.scales == "fp32")].sort_values("tokens")
    said = ", ".join(f"{row.geometry.replace('x', '×')} {row.times_prompt:.0f}×" for row in ratios.itertuples())
    assumed = "; ".join(filter(None, part.assumption.unique()))
    return (
        "Bytes of whole frames at the plan's own sizes, by arithmetic that the wire format's tests hold it to; hollow, "
        f"with fp16 scales. The mean prompt ({part.prompt_source.iloc[0]}) has {part.prompt_bytes.iloc[0]:,.0f} bytes: "
        f"in {TIMES_OF} the messages are larger by the factors at the dots ({said}), and the smallest of all, "
        f"{least.geometry.replace('x', '×')} in {least.codec}{scales}, by {least.times_prompt:.0f}×. Dashed, what "
        f"sharing a model's key-value cache of a prompt would send ({assumed}). No quality is measured at this size. "
        f"{style.missing_sentence(missing)}"
    )
