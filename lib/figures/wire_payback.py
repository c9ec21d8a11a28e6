"""When side information pays: all bytes ever sent against the number of messages, for text coders and bridges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.figures import Drawn, style, wire
from lib.metrics import breakeven

EXPERIMENT = wire.EXPERIMENT

BYTES_PER_PARAMETER = 4  # fp32, as a bridge is stored
CODEC = "int4"
PLAIN = "utf8"  # needs nothing beforehand: what all others have to pay back against
MOST = 7.0  # log10 of the messages drawn at least
POINTS = 200
BRIDGE_LINE = {"lw": 1.3}
SIDES = {False: (18, -12), True: (-18, 14)}  # points from a dot to its number: below the line, or above it
CLOSE = 1.0  # of the messages of a dot, to the next: numbers of dots that close stand on either side
TEXT_LINE = {"lw": 0.9, "ls": "--"}


def payback(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Total bytes (side information + n messages) against n, log-log; dots where a sender passes UTF-8."""
    part = wire.messages(rows)
    table = _senders(wire.points(part), wire.texts(rows, part))
    figure, (ax,) = style.new(style.TEXT, 3.8)
    messages = np.logspace(0, _decades(table), POINTS)
    looks = style.arm_styles(table.sender)
    for row in table.itertuples():
        look = (BRIDGE_LINE if row.arm == "message" else TEXT_LINE) | {"color": looks[row.sender]["color"]}
        label = f"{row.sender}: {row.bytes:.4g} B, {row.estimate:.1f} %"
        ax.plot(messages, row.side_bytes + messages * row.bytes, label=label, **look)
    _crossings(ax, table, looks)
    ax.set(xscale="log", yscale="log", xlabel="messages sent (log scale)", ylabel="bytes sent in all (log scale)")
    ax.set_title("dots: messages after which no more bytes were sent than in UTF-8", loc="left", fontsize=7)
    style.legend_below(figure, ax, 2, "bytes per message, accuracy")
    style.note(figure, missing, [])
    return Drawn(figure, table, _caption(table, missing))


FIGURES = {"4b_payback": payback}


def _decades(table: pd.DataFrame) -> float:
    """Decades of messages drawn: MOST, and at least one beyond the last crossing."""
    last = table.pays_after[np.isfinite(table.pays_after)].max()
    return max(MOST, np.log10(last) + 1) if last > 0 else MOST


def _senders(table: pd.DataFrame, texts: pd.DataFrame) -> pd.DataFrame:
    """A row per bridge of `_bridges` and per text coder.

    Columns: sender, coder (NaN of bridges), arm, bytes, side_bytes, pays_after (messages; NaN without
    PLAIN, inf where never), estimate.
    """
    coders = texts[texts.coder != wire.FLOOR].assign(arm="text").rename(columns={"name": "sender"})
    found = pd.concat([_bridges(table), coders], ignore_index=True)
    plain = coders.set_index("coder").bytes.get(PLAIN)
    after = [
        np.nan if plain is None else breakeven.messages(row.side_bytes, row.bytes, plain) for row in found.itertuples()
    ]
    columns = ["sender", "coder", "arm", "bytes", "side_bytes", "pays_after", "estimate"]
    return found.assign(pays_after=after)[columns]


def _bridges(table: pd.DataFrame) -> pd.DataFrame:
    """The reference in CODEC, finest scales, and the smallest frame that is accurate enough if it is another one."""
    reference = wire.finest(table[table.reference & (table.codec == CODEC)])
    shown = [row for _, row in reference.iterrows()]
    best = wire.smallest(table)
    if best is not None and not any(best.equals(row) for row in shown):
        shown.append(best)
    made = [
        {"sender": f"bridge {row['name']}, {row.codec}" + f", {row.scales} scales" * (row.scales == "fp16")}
        | {"arm": "message", "bytes": row.frame_bytes, "estimate": row.estimate}
        | {"side_bytes": float(BYTES_PER_PARAMETER * row.bridge_parameters)}
        for row in shown
    ]
    return pd.DataFrame(made, columns=["sender", "arm", "bytes", "side_bytes", "estimate"])


def _crossings(ax: Axes, table: pd.DataFrame, looks: dict[str, dict[str, object]]) -> None:
    """Where a sender with side information has sent as many bytes as PLAIN, with the number of messages."""
    plain = table[table.coder == PLAIN].bytes.min()
    paid = table[np.isfinite(table.pays_after) & (table.side_bytes > 0)].sort_values("pays_after")
    close = paid.pays_after.diff(-1).abs() < CLOSE * paid.pays_after
    for row, above in zip(paid.itertuples(), close, strict=True):
        colour, place = looks[row.sender]["color"], (row.pays_after, row.pays_after * plain)
        ax.plot(*place, color=colour, marker="o", ms=4.5, ls="", label=f"_pays {row.sender}", zorder=4)
        ax.annotate(
            f"{row.pays_after:,.0f}", place, SIDES[above], textcoords="offset points", fontsize=6.5, color=colour,
            ha="center", va="center", bbox={"fc": "white", "ec": "none", "pad": 0.5, "alpha": 0.8},
        )  # fmt: skip


def _caption(table: pd.DataFrame, missing: Sequence[str]) -> str:
    def said(row: tuple) -> str:
        return f"{row.sender} {f'after {row.pays_after:,.0f} messages' if np.isfinite(row.pays_after) else 'never'}"

    paid = "; ".join(said(row) for row in table[(table.side_bytes > 0) & table.pays_after.notna()].itertuples())
    dots = f"Dots: no more bytes sent than UTF-8 would have sent: {paid}. " if paid else ""
    return (
        "All bytes ever sent against the number of messages: what both sides must hold beforehand (dictionary, "
        f"tokenizer, language model; of a bridge its weights at {BYTES_PER_PARAMETER} bytes each), then every message. "
        "Source and target themselves are taken to be there already, except that the coder under the LM counts its "
        f"model. {dots}Legend: mean bytes per message and the accuracy of the target that gets it. "
        f"{style.missing_sentence(missing)}"
    )
