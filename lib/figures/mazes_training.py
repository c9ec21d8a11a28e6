"""How the arms learn: losses in training, and what every refinement of the answer adds to it."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lib.figures import Drawn, mazes, style
from lib.metrics import paired

EXPERIMENT = mazes.EXPERIMENT

PER_LINE = 3  # panels beside each other


def training(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Validation loss (thick, with a band over seeds) and training loss (thin) against epochs, a panel per size."""
    epochs = mazes.protocol(rows, "epoch")
    losses = {measure: mazes.over_seeds(epochs, measure, ["epoch"]) for measure in ("val_loss", "loss")}
    order = mazes.sizes(epochs)
    figure, axes = style.grid(len(order), 2.4, PER_LINE, sharey=True)
    for ax, size in zip(axes, order, strict=True):
        part = {measure: table[table["size"] == size] for measure, table in losses.items()}
        _losses(ax, epochs, part)
        ax.set_title(f"{size}; {mazes.replicates(part['val_loss'])}", loc="left", fontsize=7)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_ylabel("loss (nats per cell)")
    axes[0].set_ylim(0, 1.05 * epochs[["val_loss", "loss"]].to_numpy(float).max())
    thin = Line2D([], [], color="0.4", lw=0.6, ls="--", label="training loss, mean of the epoch")
    mazes.legend(figure, epochs, [thin, Patch(color="0.8", label="95 % interval over seeds")], 4)
    gaps = mazes.gaps(epochs, missing)
    style.note(figure, gaps, [])
    data = pd.concat([table.assign(measure=measure) for measure, table in losses.items()], ignore_index=True)
    return Drawn(figure, data, _training_caption(rows, losses["val_loss"], gaps))


def refinement(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Accuracy after each refinement, a panel per size; beyond R dashed on grey: more refinements than were trained."""
    part = mazes.protocol(rows, "refinement").astype({"refinement": int})
    table = mazes.over_seeds(part, "accuracy", ["refinement"])
    order, trained = mazes.sizes(part), paired.setting(rows).R
    figure, axes = style.grid(len(order), 2.4, PER_LINE, sharex=True, sharey=True)
    for ax, size in zip(axes, order, strict=True):
        own = table[table["size"] == size]
        _refinements(ax, part, own, trained)
        ax.set_title(f"{size}; {mazes.replicates(own)}", loc="left", fontsize=7)
        ax.set_xlabel("refinement (read-out)")
        ax.tick_params(labelbottom=True)
    axes[0].set_ylabel("accuracy (%)")
    axes[0].set_xlim(0.7, max(table.refinement.max(), trained) + 0.3)
    axes[0].xaxis.set_major_locator(MaxNLocator(integer=True))
    mazes.limits(axes[0], part, ["accuracy"])
    dashed = Line2D([], [], color="0.4", lw=1, ls="--", label="more refinements than trained")
    mazes.legend(figure, part, [dashed, Patch(color=mazes.BEYOND["color"], label="beyond R")], 4)
    gaps = mazes.gaps(part, missing)
    style.note(figure, gaps, [])
    return Drawn(figure, table.assign(trained=table.refinement <= trained), _refinement_caption(rows, table, gaps))


FIGURES = {"3a_training": training, "3a_refinement": refinement}


def _losses(ax: Axes, epochs: pd.DataFrame, part: dict[str, pd.DataFrame]) -> None:
    looks = mazes.looks(epochs)
    for arm in mazes.arms(epochs):
        colour = looks[arm]["color"]
        held, seen = (part[measure][part[measure].arch == arm] for measure in ("val_loss", "loss"))
        ax.plot(held.epoch, held.estimate, ms=3, lw=1.1, label=arm, markevery=max(1, len(held) // 6), **looks[arm])
        ax.fill_between(held.epoch, held.low, held.high, color=colour, alpha=0.18, lw=0)
        ax.plot(seen.epoch, seen.estimate, lw=0.6, ls="--", color=colour, label=f"_{arm}, training")


def _refinements(ax: Axes, part: pd.DataFrame, table: pd.DataFrame, trained: int) -> None:
    looks = mazes.looks(part)
    further = {"ls": "--", "mfc": "white", "markevery": slice(1, None)}  # from R on, whose marker is there already
    mazes.beyond(ax, trained, table.refinement.max())
    for arm in mazes.arms(part):
        line = table[table.arch == arm]
        inside, outside = line[line.refinement <= trained], line[line.refinement >= trained]
        mazes.points(ax, inside.refinement, inside, looks[arm], label=arm)
        if len(outside) > 1:
            mazes.points(ax, outside.refinement, outside, looks[arm], label=f"_{arm}, beyond R", **further)


def _training_caption(rows: pd.DataFrame, table: pd.DataFrame, gaps: Sequence[str]) -> str:
    return (
        "Cross entropy of the last read-out against epochs: thick, on validation mazes at the end of the epoch; thin "
        "dashes, on training mazes, averaged over the epoch, so earlier in training. Test mazes have no part in it. "
        f"{mazes.seeds_sentence(table)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )


def _refinement_caption(rows: pd.DataFrame, table: pd.DataFrame, gaps: Sequence[str]) -> str:
    trained = paired.setting(rows).R
    return (
        "Accuracy on the test mazes, read out after every refinement. All arms are trained at every read-out with "
        "equal weight; those of arms without recurrence are spread over their depth, and one with fewer blocks than R "
        f"has fewer. Beyond R = {trained} (dashed, hollow, on grey), loop and poh go on refining at test time, which "
        f"they were not trained for. {mazes.seeds_sentence(table)}{mazes.setting_sentence(rows)}"
        f"{style.missing_sentence(gaps)}"
    )
