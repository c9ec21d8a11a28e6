"""What makes a bridge collapse, and what keeps it up: a table of stressors by fixes, with counts of collapsed seeds."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lib.figures import Drawn, Undrawable, bridge, bridge_captions, style
from lib.metrics import proportions

EXPERIMENT = bridge.EXPERIMENT

LOSSES = ["info_nce", "distill", "early_stopping", "decode_hygiene"]
FIXES = {  # name: which of `LOSSES` are on
    "no fixes": (False, False, False, False),
    "InfoNCE": (True, False, False, False),
    "distillation": (False, True, False, False),
    "early stopping": (False, False, True, False),
    "hygiene": (False, False, False, True),
    "plan's three": (True, False, True, True),
    "all four": (True, True, True, True),
}
NONE = "none"  # the row without a stressor
ROW = 0.36  # inches per stressor
SHADES = colormaps["Reds"]
DARK = 0.5  # share from which text on the shade is white


def stressors(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """A cell per stressor and fixes: collapsed seeds of all, and mean accuracy at the peak and as kept."""
    stability = bridge.protocol(rows, "stability")
    if not (stability.stressor != "").any():
        raise Undrawable(
            "No run among these has a stressor, which this figure is about: run 'python -m lib.sweep "
            f"{EXPERIMENT} --preset standard' and draw that preset."
        )
    parts = [bridge.factorial(own) for _, own in stability.assign(row=_rows(stability)).groupby("row")]
    plain_first = sorted(parts, key=lambda own: (own.stressor.iloc[0], own.row.iloc[0]))
    trained = pd.concat([bridge.trainings(own, LOSSES[2:]) for own in plain_first])
    table, names = counts(trained), list(trained.row.unique())
    figure, (ax,) = style.new(style.TEXT, ROW * len(names) + 0.95)
    for row in table.itertuples():
        _cell(ax, list(FIXES).index(row.fixes), names.index(row.stressor), row)
    _empty(ax, table, names)
    _axes(ax, names)
    style.note(figure, missing, [])
    return Drawn(figure, table, _caption(rows, trained, table, missing))


FIGURES = {"4a_stressors": stressors}


def _rows(stability: pd.DataFrame) -> pd.Series:
    """The row of the table that each training belongs to: its stressor, and the clipping where that was varied."""
    several = stability.groupby("stressor")["clip"].transform("nunique") > 1
    clipped = stability.stressor + ", clip " + stability["clip"].astype(str)
    return stability.stressor.mask(several & (stability.stressor != ""), clipped).replace("", NONE)


def counts(trained: pd.DataFrame) -> pd.DataFrame:
    """Per row of the table and fixes: collapsed and all seeds, the interval of their share in percent (Wilson), why,
    means of peak and final validation accuracy in percent.
    """
    on = trained[LOSSES].astype(float) > 0
    found = []
    for name, states in FIXES.items():
        for stressor, own in trained[(on == list(states)).all(axis=1)].groupby("row", sort=False):
            down, seeds = int(own.collapsed.sum()), len(own)
            low, high = proportions.wilson(down, seeds)
            why = "+".join(sorted({sign for signs in own.why if signs for sign in signs.split("+")}))
            row = {"stressor": stressor, "fixes": name, "collapsed": down, "seeds": seeds}
            row |= {"estimate": 100 * down / seeds, "low": 100 * low, "high": 100 * high, "why": why}
            found.append(row | {"peak": own.peak.mean(), "final": own.final.mean(), "task": own.task.iloc[0]})
    order = list(trained.row.unique()).index
    return pd.DataFrame(found).sort_values(
        "stressor", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )


def _cell(ax: Axes, x: int, y: int, row: tuple) -> None:
    """The counts on a shade of the share of collapsed seeds, accuracies below."""
    share = row.collapsed / row.seeds
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc=SHADES(0.85 * share), ec="white", lw=1.5))
    text = {"ha": "center", "color": "white" if share > DARK else "0.1"}
    ax.text(x, y - 0.05, f"{row.collapsed}/{row.seeds}", va="bottom", fontsize=8, weight="bold", **text)
    ax.text(x, y + 0.08, f"{row.peak:.0f} → {row.final:.0f} %", va="top", fontsize=6.5, **text)


def _empty(ax: Axes, table: pd.DataFrame, names: Sequence[str]) -> None:
    """Cells that were not run."""
    known = set(zip(table.fixes, table.stressor, strict=True))
    for x, fixes in enumerate(FIXES):
        for y, stressor in enumerate(names):
            if (fixes, stressor) not in known:
                ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fc="0.94", ec="white", lw=1.5))
                ax.text(x, y, "not run", ha="center", va="center", fontsize=6.5, color="0.5")


def _axes(ax: Axes, names: Sequence[str]) -> None:
    """Fixes above the columns, stressors beside the rows."""
    ax.set(xlim=(-0.5, len(FIXES) - 0.5), ylim=(len(names) - 0.5, -0.5), ylabel="stressor")
    ax.set_xticks(range(len(FIXES)), [name.replace(" ", "\n") for name in FIXES])
    ax.set_yticks(range(len(names)), names)
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xlabel("in each cell: collapsed seeds / seeds; validation accuracy at the peak → as kept")


def _caption(rows: pd.DataFrame, trained: pd.DataFrame, table: pd.DataFrame, missing: Sequence[str]) -> str:
    most = table.sort_values(["collapsed", "seeds"]).iloc[-1]
    return (
        "Seeds whose kept weights have collapsed, of all seeds, per stressor (row) and fixes (column); below, mean "
        "validation accuracy at the peak of the whole training and of what is kept. Early stopping and hygiene are "
        "applied to the same trainings after the fact; losses are trained with. A cell that was not run says so. "
        f"Seeds: n = {bridge_captions.spread(table.seeds)} per cell; {most.collapsed}/{most.seeds} leaves a 95 % "
        f"interval (Wilson) of {most.low:.0f} to {most.high:.0f} %, those of all cells are in the plotted data. "
        f"{bridge_captions.pair_sentence(trained, rows)}{style.missing_sentence(missing)}"
    )
