"""What a source may cost for a message to save anything: by FLOPs against the length of the text, and by the clock."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, inference, style
from lib.metrics import stats

EXPERIMENT = inference.EXPERIMENT
PAIRS = {"here": "FLOPs, the pair of this run", "plan": "FLOPs, the plan's pair"}
LEAST = -1.0  # of the axis; below, a message costs more than twice the text without its source


def breakeven(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Affordable and real cost of the source, in units of the target's reading the text: a message saves where the
    first is above the second."""
    part, timed = inference.protocol(rows, "breakeven"), inference.protocol(rows, "latency")
    clock = inference.breakeven(rows)
    figure, axes = style.new(style.TEXT, 2.6, 3, sharey=True)
    for ax, (pair, title) in zip(axes, PAIRS.items(), strict=False):
        _curves(ax, part[part.pair == pair])
        ax.set_title(title, loc="left", fontsize=7)
    _clock(axes[2], clock, timed)
    axes[2].set_title("measured seconds, the pair of this run", loc="left", fontsize=7)
    axes[0].set_ylabel("cost, in target's readings of the text")
    axes[0].set_ylim(max(LEAST, min(-0.3, clock.estimate.min() - 0.1)), 1.1)
    style.legend_below(figure, axes[0], 2)
    style.note(figure, missing, [])
    data = pd.concat([part.assign(basis="flops"), clock.assign(basis="seconds", pair="here")], ignore_index=True)
    kept = ["basis", "pair", "arm", "tokens", "text_tokens", "measured", "affordable", "ratio", "text_flops"]
    kept += ["message_flops", "source_flops", "bridge_flops", "batch_size", "measure", "estimate", "low", "high", "n"]
    return Drawn(figure, data[kept], _caption(part, timed, missing))


FIGURES = {"4c_breakeven": breakeven}


def _curves(ax: Axes, part: pd.DataFrame) -> None:
    """A line per message, and the source's real cost; marks at the length of the questions."""
    called = inference.names(part)
    look = style.arm_styles([inference.TEXT, *called])
    for arm, name in called.items():
        own = part[part.arm == arm].sort_values("text_tokens")
        at = own[own.measured.astype(bool)]
        ax.plot(own.text_tokens, own.affordable, lw=1, color=look[arm]["color"])
        ax.plot(at.text_tokens, at.affordable, ms=4, ls="", **look[arm])
        _name(ax, (at.text_tokens.item(), at.affordable.item()), name.removeprefix("message, "), look[arm]["color"])
    ax.plot(own.text_tokens, own.ratio, lw=1, ls="--", color="0.3")
    ax.plot(at.text_tokens, at.ratio, ms=4, ls="", marker="o", mfc="white", color="0.3")
    ax.plot([], [], ms=4, lw=1, marker="o", color="0.3", label="what the source may cost for a message to save")
    ax.plot([], [], ms=4, lw=1, ls="--", marker="o", mfc="white", color="0.3", label="what the source costs")
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set(xscale="log", xlabel="tokens of the text")
    ax.xaxis.set(major_locator=FixedLocator([16, 64, 256, 1024, 4096]), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _name(ax: Axes, point: tuple[float, float], name: str, colour: tuple[float, ...]) -> None:
    place = {"textcoords": "offset points", "va": "top", "path_effects": style.HALO}
    ax.annotate(name, point, (6, -3), color=colour, fontsize=6.5, **place)


def _clock(ax: Axes, clock: pd.DataFrame, timed: pd.DataFrame) -> None:
    """Filled: what the source may take; open: what it takes; by batch size."""
    called = [arm for arm in inference.names(timed) if arm != inference.TEXT]
    look = style.arm_styles([inference.TEXT, *called])
    sizes = sorted(set(clock.batch_size))
    for shift, arm in zip(np.linspace(-0.2, 0.2, len(called) + 2)[1:-1], called, strict=True):
        for measure, line, face in (("affordable", "-", look[arm]["color"]), ("ratio", "--", "white")):
            own = clock[(clock.arm == arm) & (clock.measure == measure)].set_index("batch_size").loc[sizes]
            x = np.arange(len(sizes)) + shift
            ax.plot(x, own.estimate.clip(lower=LEAST), ms=4, lw=0.8, ls=line, mfc=face, **look[arm])
            ax.vlines(x, own.low, own.high, color=look[arm]["color"], lw=0.8)
    ax.axhline(0, color="0.8", lw=0.6, zorder=0)
    ax.set_xticks(range(len(sizes)), [f"{size:g}" for size in sizes])
    ax.set(xlabel="batch size (questions)", xlim=(-0.5, len(sizes) - 0.5))


def _caption(part: pd.DataFrame, timed: pd.DataFrame, missing: Sequence[str]) -> str:
    plan = part[(part.pair == "plan") & part.measured.astype(bool)].sort_values("tokens").iloc[-1]
    return (
        "Break-even of a message: the largest cost of the source at which it saves (filled, solid) and the source's "
        "real cost (open, dashed), both over the target's reading of the same text; a message saves where the first "
        "is above the second, and, if the source has read the question anyway, wherever the first is above zero. "
        "Marks on the curves: with the pair of this run, questions as long as those asked; with the plan's, the "
        f"{plan.text_tokens:g} tokens that it assumes. By its published sizes the plan's pair spends "
        f"{(plan.source_flops + plan.bridge_flops) / 1e12:.1f} TFLOP to save "
        f"{(plan.text_flops - plan.message_flops) / 1e12:.1f} on {plan.text_tokens:g} tokens of text against "
        f"{plan.tokens:g} soft tokens. Seconds: medians over batches with 95 % bootstrap intervals (none where fewer "
        f"than {stats.ENOUGH}); without links and the writing of the answer. {inference.masks_sentence(timed)}"
        f"{inference.setting(timed)}"
        f"{style.missing_sentence(missing)}"
    )
