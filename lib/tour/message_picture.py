"""A message in one number format: its numbers before and after, the bytes in between, and what the target answered."""

from __future__ import annotations

import textwrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lib.figures import style
from lib.tour.message import Crossing, Sent

SIZE = (9.0, 5.2)  # inches
COLOURS = {
    "header": "#949494",
    "scales": "#de8f05",
    "numbers": "#0173b2",
    "anchor": "#029e73",
    "checksum": "#cc78bc",
    "text": "#ece133",
    "room": "#e8e8e8",
}
PER_LINE = 64  # bytes
PALEST = 0.35  # of a colour, where the byte is 0
LEFT = 120  # letters of a line of the heading


def picture(crossing: Crossing, codec: str) -> Figure:
    """The message as it was and as it came, accuracy against bytes, and the frame byte by byte."""
    sent = crossing.sent[codec]
    figure = style.new(*SIZE)[0]
    figure.clear()
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.15], width_ratios=[1, 1, 0.9])
    limit = float(np.abs(crossing.message).max())
    for place, (title, numbers) in enumerate({"as sent": crossing.message, f"as it came, {codec}": sent.came}.items()):
        _numbers(figure.add_subplot(grid[0, place]), numbers, limit, title)
    _accuracies(figure.add_subplot(grid[0, 2]), crossing, sent)
    _bytes(figure.add_subplot(grid[1, :]), crossing, sent)
    figure.suptitle(_heading(crossing, sent), ha="left", x=0.01, fontsize=8.5)
    return figure


def _heading(crossing: Crossing, sent: Sent) -> str:
    asked = textwrap.fill(f"Asked: {crossing.question}", LEFT)
    said = " · ".join(sent.answer.split("\n")) or "(nothing)"
    return f"{asked}\nAnswered from {len(sent.frame)} bytes: {said}   ({'right' if sent.right else 'wrong'})"


def _numbers(ax: Axes, numbers: np.ndarray, limit: float, title: str) -> None:
    """One row per soft token."""
    ax.imshow(numbers, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
    tokens, width = numbers.shape
    ax.set(xticks=[0, width - 1], xticklabels=[1, width], yticks=[0, tokens - 1], yticklabels=[1, tokens])
    ax.set(xlabel="number", ylabel="soft token")
    ax.set_title(title, loc="left")
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)


def _accuracies(ax: Axes, crossing: Crossing, chosen: Sent) -> None:
    for sent in crossing.sent.values():
        own = sent is chosen
        look = {"ms": 8, "color": "#d55e00", "zorder": 4} if own else {"ms": 5, "color": "0.6", "zorder": 3}
        ax.plot(len(sent.frame), sent.accuracy, "o", **look)
    label = ax.annotate(
        f"{chosen.codec}: {chosen.accuracy:.0%}", (len(chosen.frame), chosen.accuracy), xytext=(0, -14),
        textcoords="offset points", ha="center", fontsize=7,
    )  # fmt: skip
    label.set_in_layout(False)  # so that nothing moves from one codec to the next
    size = len(crossing.question.encode())
    ax.axvline(size, color="0.3", lw=0.8, ls=":")
    ax.text(size, 0.03, " the question\n as text", fontsize=6.5, color="0.3", va="bottom")
    ax.set(xscale="log", ylim=(0, 1.05), xlabel="bytes of a frame", ylabel=f"right of {crossing.asked} questions")
    ax.set_xticks([50, 100, 200, 500], ["50", "100", "200", "500"])
    ax.minorticks_off()
    ax.spines[["top", "right"]].set_visible(False)


def _bytes(ax: Axes, crossing: Crossing, sent: Sent) -> None:
    """The question's text in lines of PER_LINE bytes, and the frame under it, on the place that the longest takes."""
    text = crossing.question.encode()
    parts = [part for part, size in sent.parts.items() for _ in range(size)]
    longest = max(len(other.frame) for other in crossing.sent.values())
    above = -(-len(text) // PER_LINE) + 1
    image = np.ones((above + -(-longest // PER_LINE), PER_LINE, 3))
    _fill(image, 0, text, ["text"] * len(text))
    _fill(image, above, bytes(longest), ["room"] * longest)
    _fill(image, above, sent.frame, parts)
    ax.imshow(image, aspect="auto", interpolation="none")
    ax.set_xticks(np.arange(PER_LINE + 1) - 0.5, minor=True)
    ax.set_yticks(np.arange(len(image) + 1) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=0.8)
    ax.tick_params(which="both", length=0)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    sizes = {**sent.parts, "text": len(text)}
    names = {part: f"{part}, {size}" for part, size in sizes.items() if size}
    names["text"] = f"the question as text, {len(text)}"
    names |= {"room": f"the longest frame, {longest}"}
    handles = [Patch(color=COLOURS[part], label=name) for part, name in names.items()]
    ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=7, frameon=False)
    title = f"the question as text, and the frame of {len(sent.frame)} bytes: a square each, paler where it is smaller"
    ax.set_title(title, loc="left")


def _fill(image: np.ndarray, line: int, data: bytes, parts: list[str]) -> None:
    """Colour one square per byte, from the beginning of a line on."""
    for place, (byte, part) in enumerate(zip(data, parts, strict=True)):
        share = PALEST + (1 - PALEST) * byte / 255
        image[line + place // PER_LINE, place % PER_LINE] = 1 - share * (1 - np.array(to_rgb(COLOURS[part])))
