"""How a bridge learns, and whether it collapses: accuracy and what the message is worth, over training steps.

A panel per training of the factorial of InfoNCE and distillation. The worth of a message is the cross entropy of the
answer with another item's message minus that with its own, in nats per answer token.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures import Drawn, bridge, bridge_captions, style
from lib.metrics import messages

EXPERIMENT = bridge.EXPERIMENT

MEASURES = {
    "val_accuracy": "validation accuracy (%)",
    "delta_ce": "worth of the message\n(nats per answer token)",
}
COLOURS = {"val_accuracy": "C0", "delta_ce": "C2"}
HYGIENE = {"color": "C1", "ls": "--", "lw": 1.1}
PEAK = {"ls": "", "marker": "^", "mfc": "white", "mec": "0.15", "mew": 0.8, "ms": 4.5}
STOP = {"ls": "", "marker": "s", "mfc": "0.15", "mec": "0.15", "ms": 3}
SHADE = 0.3  # of the seeds' shades together where all have collapsed


def curves(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Validation accuracy above, worth of the message below, a column per training; a thin line per seed."""
    part = bridge.factorial(bridge.trainings(bridge.protocol(rows, "curve"), ["step"]))
    part = part.astype({"delta_ce": float}).sort_values(["seed", "step"])
    ends = _ends(rows, part)
    cells = [cell for cell in bridge.CELLS if cell in set(part.fixes)]
    figure, axes = style.new(style.TEXT, 4.2, len(cells), len(MEASURES), sharex=True, sharey="row")
    for i, cell in enumerate(cells):
        own, end = part[part.fixes == cell], ends[ends.fixes == cell]
        for ax, measure in zip(axes[i :: len(cells)], MEASURES, strict=True):
            _lines(ax, own, measure)
            _collapsed(ax, own, end)
        _marks(axes[i], own, end)
        axes[i].set_title(_title(cell, own, end), loc="left", fontsize=7)
        axes[len(cells) + i].set_xlabel("training step")
    _axes(axes, len(cells), part)
    _legend(figure)
    style.note(figure, missing, [])
    return Drawn(figure, _data(part), _caption(rows, part, missing))


FIGURES = {"4a_curves": curves}


def _ends(rows: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """The trainings' rows of protocol "stability", decoded plainly, by `early_stopping`."""
    stability = bridge.protocol(rows, "stability")
    plain = bridge.trainings(stability[~stability.decode_hygiene.astype(bool)], ["early_stopping"])
    return plain.merge(part[[*bridge.TRAINING, "seed", "fixes"]].drop_duplicates(), on=[*bridge.TRAINING, "seed"])


def since(own: pd.DataFrame, why: str) -> int:
    """Step since which a training that ended in collapse was in it, by those of its reasons that a curve shows.

    `own`: the evaluations of one seed in order; `why`: the reasons at the end. A collapse that only the last evaluation
    shows, or that curves do not (too few distinct answers), lies in the last interval.
    """
    peak = own.val_accuracy.max()
    first = len(own)
    for accuracy, worth in zip(own.val_accuracy[::-1], own.delta_ce[::-1], strict=True):
        if not set(why.split("+")) & set(messages.collapse(peak, accuracy, worth, distinct=1, distinct_gold=0)):
            break
        first -= 1
    return int(own.step.iloc[max(0, min(first, len(own) - 2))])


def _lines(ax: Axes, own: pd.DataFrame, measure: str) -> None:
    """One thin line per seed, the mean thick with its interval; for accuracy the mean with hygiene too."""
    for seed, line in own.groupby("seed"):
        ax.plot(line.step, line[measure], lw=0.5, alpha=0.6, color=COLOURS[measure], label=f"_seed {seed:g}")
    table = means(own, measure)
    ax.plot(table.step, table.estimate, lw=1.6, color=COLOURS[measure], label=f"_{measure}")
    ax.fill_between(table.step, table.low, table.high, color=COLOURS[measure], alpha=0.15, lw=0)
    if measure == "val_accuracy":
        hygienic = means(own, "val_accuracy_hygiene")
        ax.plot(hygienic.step, hygienic.estimate, label="_val_accuracy_hygiene", **HYGIENE)
    else:
        ax.axhline(messages.MATTERS, color=bridge.COLLAPSED, lw=0.7, ls=":")


def means(own: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Mean over seeds of a column at every step: step, estimate, low, high, seeds."""
    known = own[own[measure].notna()]
    found = [{"step": step} | bridge.over_seeds(part[measure]) for step, part in known.groupby("step")]
    return pd.DataFrame(found, columns=["step", "estimate", "low", "high", "seeds"], dtype=float)


def _collapsed(ax: Axes, own: pd.DataFrame, end: pd.DataFrame) -> None:
    """A shade per seed whose last weights have collapsed, from where on; where more seeds have, it is darker."""
    last = end[~end.early_stopping.astype(bool)]
    for row in last[last.collapsed.astype(bool)].itertuples():
        begin = since(own[own.seed == row.seed], row.why)
        ax.axvspan(begin, own.step.max(), color=bridge.COLLAPSED, alpha=SHADE / len(last), lw=0, label="_collapsed")


def _marks(ax: Axes, own: pd.DataFrame, end: pd.DataFrame) -> None:
    """Each seed's peak, and where early stopping would have stopped."""
    for _, line in own.groupby("seed"):
        peak = line.loc[line.val_accuracy.idxmax()]
        ax.plot(peak.step, peak.val_accuracy, zorder=3, label="_peak", **PEAK)
    stopped = end[end.early_stopping.astype(bool) & end.stop_step.notna()]
    for row in stopped.itertuples():
        height = own[(own.seed == row.seed) & (own.step == row.stop_step)].val_accuracy
        ax.plot([row.stop_step] * len(height), height, zorder=3, label="_stop", **STOP)


def _title(cell: str, own: pd.DataFrame, end: pd.DataFrame) -> str:
    """The losses beside the answer's, seeds, and how many seeds' last weights have collapsed, by what sign."""
    last = end[~end.early_stopping.astype(bool)]
    bad = last[last.collapsed.astype(bool)]
    signs = sorted({sign for why in bad.why for sign in why.split("+")})
    by = f"\nby {', '.join(signs)}" if signs else ""
    return f"{cell}\nseeds: n = {own.seed.nunique()}; collapsed: {len(bad)}/{len(last)}{by}"


def _axes(axes: Sequence[Axes], columns: int, part: pd.DataFrame) -> None:
    for ax, label in zip(axes[::columns], MEASURES.values(), strict=True):
        ax.set_ylabel(label)
    axes[0].set_ylim(-3, 103)
    worth = part.delta_ce.fillna(0.0)  # of a training that diverged it is not a number
    low, high = worth.min(), worth.max()
    room = 0.08 * max(high - low, 10 * messages.MATTERS)
    axes[columns].set_ylim(min(low, 0) - room, high + room)


def _legend(figure: Figure) -> None:
    handles = [
        Line2D([], [], color="0.3", lw=0.5, label="one seed"),
        Line2D([], [], color="0.3", lw=1.6, label="mean over seeds"),
        Line2D([], [], label="mean, decoding hygiene", **HYGIENE),
        Line2D([], [], label="peak of a seed", **PEAK),
        Line2D([], [], label="early stopping stops", **STOP),
        Line2D([], [], color=bridge.COLLAPSED, lw=0.7, ls=":", label=f"{messages.MATTERS} nats: the message matters"),
        Patch(color=bridge.COLLAPSED, alpha=SHADE, lw=0, label="collapsed (a shade per seed)"),
        Patch(color="0.85", label="95 % interval over seeds"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _data(part: pd.DataFrame) -> pd.DataFrame:
    """Means of both measures and of accuracy with hygiene, by losses and step."""
    return pd.concat(
        [
            means(own, measure).assign(fixes=cell, measure=measure)
            for cell, own in part.groupby("fixes")
            for measure in ("val_accuracy", "val_accuracy_hygiene", "delta_ce")
        ],
        ignore_index=True,
    )


def _caption(rows: pd.DataFrame, part: pd.DataFrame, missing: Sequence[str]) -> str:
    lacking = [cell for cell in bridge.CELLS if cell not in set(part.fixes)]
    none = f"Not trained here: {', '.join(lacking)}. " if lacking else ""
    row = part.iloc[0]
    stress = f"Stressor: {row.stressor}. " if row.stressor else ""
    return (
        "Accuracy on validation items, greedy, and below it what the bridge's own message is worth: cross entropy of "
        "the answer with another item's message minus that with its own, in nats per answer token. Panels: losses "
        f"added to the answer's. {row.kind}, {row.soft_tokens} soft tokens of {row.wire_dim} numbers, depth "
        f"{row.depth}. Trainings run to their end; squares: where early stopping would have stopped. Collapsed: final "
        f"accuracy below {messages.KEPT} of the peak, or a message worth less than {messages.MATTERS} nats, or "
        f"distinct answers below {messages.VARIED} of the gold answers'. "
        f"{bridge_captions.weights_sentence(part)}{none}{stress}"
        f"{bridge_captions.seeds_sentence(_data(part), items=False)}"
        f"{bridge_captions.pair_sentence(part, rows)}{style.missing_sentence(missing)}"
    )
