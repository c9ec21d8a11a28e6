"""Speculative decoding as it happened: what became of every drafted token, and one step with both probabilities."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from lib.figures import style
from lib.tour.draft import Step, Story, Token

# Light enough for black text; kept and rejected differ in frame and strike besides, for those who see no red and green.
KEPT, REJECTED, UNSEEN, OWN = "#a6dba0", "#f4a582", "0.93", "#9ecae1"
TARGET, DRAFTER = "#0173b2", "#de8f05"
SIZE = (8.0, 4.6)  # inches
NAMES = {KEPT: "drafted, kept", REJECTED: "drafted, rejected", UNSEEN: "drafted in vain", OWN: "the target's own"}
Text = Callable[[int], str]


def picture(story: Story, chosen: int, text: Text) -> Figure:
    """All steps of a story above, step `chosen` (from 0) in bars below; `text` names a token."""
    figure, (above, below) = style.new(*SIZE, rows=2, sharex=True, gridspec_kw={"height_ratios": [1.1, 1]})
    for number, step in enumerate(story.steps):
        _row(above, step, number, text, chosen == number)
    width = max(len(step.drafted) for step in story.steps)
    above.set(xlim=(-1.1, width + 0.7), ylim=(len(story.steps) - 0.4, -0.7))
    above.set_axis_off()
    above.legend(
        handles=[Patch(fc=colour, ec="0.5", label=name) for colour, name in NAMES.items()],
        loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False,
    )  # fmt: skip
    _bars(below, story.steps[chosen], width, text)
    return figure


def _places(step: Step) -> list[tuple[Token, str]]:
    """The tokens of a step in their order, with what became of each."""
    drafted = [KEPT] * step.kept + [REJECTED] * (step.own is not None and not step.bonus)
    drafted += [UNSEEN] * (len(step.drafted) - len(drafted))
    return list(zip(step.drafted, drafted, strict=True))


def _row(ax: Axes, step: Step, number: int, text: Text, chosen: bool) -> None:
    ax.text(-1.0, number, f"step {number + 1}", fontsize=7.5, va="center", weight="bold" if chosen else "normal")
    for place, (token, colour) in enumerate(_places(step)):
        _box(ax, place, number, text(token.id), colour, chosen)
    if step.own:
        _box(ax, len(step.drafted), number, text(step.own.id), OWN, chosen)


def _box(ax: Axes, x: float, y: float, said: str, colour: str, chosen: bool) -> None:
    faint = colour == UNSEEN
    frame = {
        "boxstyle": "round,pad=0.3",
        "fc": colour,
        "ec": "black" if chosen else "0.6",
        "lw": 1.2 if chosen else 0.5,
    }
    drawn = ax.text(x, y, said, ha="center", va="center", fontsize=7.5, color="0.55" if faint else "black", bbox=frame)
    if colour == REJECTED:
        drawn.set_text("".join(f"{letter}\u0336" for letter in said))


def _bars(ax: Axes, step: Step, width: int, text: Text) -> None:
    """Probability of each token of the step under the target and under the drafter."""
    for place, (token, colour) in enumerate(_places(step)):
        faint = 0.25 if colour == UNSEEN else 1.0
        _pair(ax, place, token, faint)
        if colour != UNSEEN:
            chance = min(1.0, token.p / token.q)
            ax.text(place, 1.06, f"kept with chance {chance:.2f}", ha="center", fontsize=6.5)
    if step.own:
        _pair(ax, len(step.drafted), step.own, 1.0)
        said = "bonus" if step.bonus else f"instead of “{text(step.drafted[step.kept].id)}”"
        ax.text(len(step.drafted), 1.06, said, ha="center", fontsize=6.5)
    tokens = [token for token, _ in _places(step)] + ([step.own] if step.own else [])
    ax.set_xticks(range(len(tokens)), [text(token.id) for token in tokens])
    ax.set(ylim=(0, 1.15), ylabel="probability")
    ax.legend(handles=[Patch(color=TARGET, label="target, p"), Patch(color=DRAFTER, label="drafter, q")],
              loc="upper left", bbox_to_anchor=(0, 0.85), frameon=False)  # fmt: skip


def _pair(ax: Axes, place: int, token: Token, alpha: float) -> None:
    ax.bar(place - 0.17, token.p, 0.3, color=TARGET, alpha=alpha)
    if token.q is not None:
        ax.bar(place + 0.17, token.q, 0.3, color=DRAFTER, alpha=alpha)
