"""The smallest message for an accuracy: all bridges in all codecs, and what no smaller frame does as well."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import Drawn, bridge_captions, style, wire
from lib.figures.mazes_pareto import front

EXPERIMENT = wire.EXPERIMENT

LOWEST = 50.0  # percent: a frontier is of interest near ENOUGH; dots below are left out of the panel, not of the data
PLAIN = {"color": "0.55", "marker": "o"}
NOISY = {"color": "C0", "marker": "D"}
DOT = {"ls": "", "ms": 3, "mew": 0.5}
FRONT = {"color": "0.1", "lw": 1.1}
CODED = {"color": "C2", "lw": 1.1, "ls": "--"}
LINE = 28  # characters of a line of what is said of the ring: two fifths of a panel
LEVEL = {"color": "C3", "lw": 0.8, "ls": ":"}


def frontier(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy against bytes of every bridge and codec with the Pareto frontier: whole frames, and what they carry."""
    part = wire.messages(rows)
    table, texts = wire.points(part), wire.texts(rows, part)
    table = table.assign(**{f"{size}_front": front(table[size], table.estimate) for size in _sizes()})
    figure, axes = style.new(style.TEXT, 3.6, 2, sharey=True)
    for ax, (plain, coded) in zip(axes, PANELS.values(), strict=True):
        _panel(ax, table, texts, plain, coded)
    for ax, title in zip(axes, PANELS, strict=True):
        wire.bytes_axis(ax, f"{title} (bytes, log scale)")
        wire.text_names(ax, texts, gap=0.055)
    axes[0].set(ylim=(_bottom(table), 101), ylabel="accuracy on test items (%)")
    _legend(figure, table)
    style.note(figure, missing, [])
    data = pd.concat([table.assign(arm="message"), texts.assign(arm="text")], ignore_index=True)
    return Drawn(figure, data, _caption(table, texts, missing))


FIGURES = {"4b_frontier": frontier}

PANELS = {
    "whole frame": ("frame_bytes", "coded_bytes"),
    "scales and codes alone": ("payload_bytes", "coded_payload_bytes"),
}


def _bottom(table: pd.DataFrame) -> float:
    """Where the panels begin, percent."""
    return LOWEST if table.estimate.max() > LOWEST else -3.0


def _sizes() -> list[str]:
    return [size for pair in PANELS.values() for size in pair]


def _panel(ax: Axes, table: pd.DataFrame, texts: pd.DataFrame, plain: str, coded: str) -> None:
    for noisy, look in ((False, PLAIN), (True, NOISY)):
        dots = table[(table.noise > 0) == noisy]
        ax.plot(dots[plain], dots.estimate, alpha=0.6, label=f"_{'noise' if noisy else 'plain'}", **DOT, **look)
    for size, look in ((plain, FRONT), (coded, CODED)):
        best = table[table[f"{size}_front"]].sort_values(size)
        ax.step(best[size], best.estimate, where="post", label=f"_front {size}", zorder=3, **look)
    ax.axhline(wire.ENOUGH, label="_enough", zorder=0, **LEVEL)
    for row in texts.itertuples():
        colour = wire.FLOOR_COLOUR if row.coder == wire.FLOOR else wire.TEXT_COLOUR
        ax.axvline(row.bytes, label=f"_{row.coder}", color=colour, lw=0.6, ls="--", zorder=0)
    _mark(ax, wire.smallest(table, plain), plain)


def _mark(ax: Axes, best: pd.Series | None, size: str) -> None:
    """Ring the smallest message that is accurate enough, and say which it is."""
    if best is None:
        said = f"none reaches {wire.ENOUGH:g} %"
        ax.annotate(said, (0.03, 0.03), xycoords="axes fraction", fontsize=6.5)
        return
    ax.vlines(best[size], best.low, best.high, color=FRONT["color"], lw=0.9, zorder=4)
    ax.plot(best[size], best.estimate, marker="o", ms=8, mfc="none", mec="0.1", mew=1, ls="", label="_smallest")
    lines = [f"ringed: {best['name']}", _codec(best), f"{best[size]:.4g} B, {best.estimate:.1f} %", *_bound(best)]
    said = "\n".join(part for text in lines for part in textwrap.wrap(text, LINE))
    # right of the steep part of a frontier and below its flat one; over the text's lines, under all else
    place = {"xycoords": "axes fraction", "ha": "right", "va": "bottom", "zorder": 1}
    ax.annotate(said, (0.99, 0.03), fontsize=6.5, bbox={"fc": "white", "ec": "none", "pad": 1}, **place)


def _codec(row: pd.Series) -> str:
    return row.codec + (f" with {row.scales} scales" if row.scales else "")


def _bound(row: pd.Series) -> tuple[str, str]:
    """Whether the interval's lower end is accurate enough too."""
    passes = "passes" if row.low >= wire.ENOUGH else "does not pass"
    return f"lower bound {row.low:.1f} %", passes


def _legend(figure: Figure, table: pd.DataFrame) -> None:
    handles = [Line2D([], [], label="bridge × codec", **DOT, **PLAIN)]
    if (table.noise > 0).any():
        handles.append(Line2D([], [], label="trained with noise", **DOT, **NOISY))
    handles += [
        Line2D([], [], label="frontier", **FRONT),
        Line2D([], [], label="frontier, entropy-coded", **CODED),
        Line2D([], [], label=f"{wire.ENOUGH:g} % correct", **LEVEL),
        Line2D([], [], color=wire.TEXT_COLOUR, lw=0.6, ls="--", label="text"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, columnspacing=1.2)


def _caption(table: pd.DataFrame, texts: pd.DataFrame, missing: Sequence[str]) -> str:
    said = "; ".join(_smallest(table, texts, title, pair) for title, pair in PANELS.items())
    hidden = (table.estimate < _bottom(table)).sum()
    left_out = f" ({hidden} of {len(table)} are below the panels)" if hidden else ""
    chosen = "It was chosen by its accuracy on these items, which is therefore optimistic. "
    return (
        f"Every bridge in every codec and kind of scales{left_out}, and the frontier: no message of at most as many "
        "bytes is at least as accurate, by its mean. Left: bytes of whole frames. Right: of scales and codes alone, "
        "since the text has no header either. Green: with entropy coding where that is smaller. Ringed, the fewest "
        f"bytes whose mean is at least {wire.ENOUGH:g} % without entropy coding: {said}. "
        f"{chosen if wire.smallest(table) is not None else ''}"
        f"Test items: n = {bridge_captions.spread(table['items'])}. "
        f"{wire.steps_sentence(table)}{bridge_captions.seeds_sentence(table)}{wire.pair_sentence(table)}"
        f"{style.missing_sentence(missing)}"
    )


def _smallest(table: pd.DataFrame, texts: pd.DataFrame, title: str, sizes: Sequence[str]) -> str:
    """The smallest messages of one panel, without and with entropy coding, and the text coders that are no smaller."""
    plain, coded = (wire.smallest(table, size) for size in sizes)
    if plain is None:
        return f"{title}: none"
    beaten = texts[(texts.coder != wire.FLOOR) & (texts.bytes > plain[sizes[0]])].name
    than = f"smaller than {' and '.join(beaten)}" if len(beaten) else "no smaller than any text"
    interval = f"{plain.estimate:.1f} %, interval {plain.low:.1f} to {plain.high:.1f}"
    return (
        f"{title}: {plain['name']} in {_codec(plain)}, {plain[sizes[0]]:.4g} bytes ({interval}), {than} "
        f"(with entropy coding {coded[sizes[1]]:.4g} bytes)"
    )
