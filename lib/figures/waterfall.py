"""Where an arm's speedup comes from: the total over `naive`, split into factors that multiply to it.

Every arm is reached from `naive` over milestones, each a measured time on the same prompts: naive with its prompt read
once, `batched`, `bifurcated`, the arm. A milestone's speedup is the median over prompts, and a factor is the speedup
of one milestone over that of the one before, so that the factors multiply to the arm's median speedup exactly. "Naive
with its prompt read once" is no arm: it is naive's own pass less what all but one of its prefills took in that pass.

The stage from `batched` to `bifurcated` is called "engine" because it is not attention alone: rows of a prompt read its
keys and values once, rows that have met a stop id leave the batch, and tokens are drawn in compiled code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator

from lib.figures import Drawn, scaling, style
from lib.metrics import stats

EXPERIMENT = "1a3_scaling"

READ_ONCE = "naive, prompt read once"  # the milestone that is no arm
WHOLE, PREFILL, BATCHING, ENGINE, TREE = (
    "batching, prompt read N times",
    "prompt read once",
    "batching",
    "engine",
    "tree",
)
TO_BATCHED = ((PREFILL, READ_ONCE), (BATCHING, "batched"))
TO_TREES = (*TO_BATCHED, (ENGINE, "bifurcated"))

# arm -> (what the stage adds, the milestone that ends it). Thresholds besides EAB's own are left out: no other stages.
PATHS = {
    "hf": ((WHOLE, "hf"),),
    "eab_sequential": ((PREFILL, READ_ONCE), (TREE, "eab_sequential")),
    "batched": TO_BATCHED,
    "bifurcated": TO_TREES,
} | {arm: (*TO_TREES, (TREE, arm)) for arm in ("eab", "arithmetic", "tree_multinomial", "tree")}

HEADERS = {PREFILL: "prompt", BATCHING: "batch", ENGINE: "engine", TREE: "tree"}  # of the columns of numbers
LABELS = {
    ENGINE: "engine: shared attention, ended rows dropped, compiled sampling",
    TREE: "tree: shared prefixes decoded once",
}


def waterfall(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """One panel per model, one bar per arm: its speedup over `naive` at fixed N in stacked segments on a log axis."""
    table = split(rows)
    models = list(dict.fromkeys(table.sort_values("parameters").model))
    columns, lines = min(2, len(models)), -(-len(models) // 2)
    arms = [arm for arm in PATHS if arm in set(table.arm)]
    height = (0.17 * len(arms) + 0.55) * lines + 0.6
    figure, axes = style.new(style.TEXT, height, columns, lines, sharex=True, sharey=True)
    looks = dict(zip((PREFILL, BATCHING, ENGINE, TREE, WHOLE), sns.color_palette("colorblind"), strict=False))
    headers = [name for name in HEADERS if name in set(map(_column, table.stage))]
    for ax, model in zip(axes, models, strict=False):
        _panel(ax, table[table.model == model], arms, headers, looks)
    _axis(axes[0], table, arms)
    for ax in axes[len(models) :]:
        ax.set_axis_off()
    _legend(figure, table, looks)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, table, _caption(rows, table, missing))


FIGURES = {"1a3_waterfall": waterfall}


def split(rows: pd.DataFrame) -> pd.DataFrame:
    """Factors of the fixed protocol: columns model, parameters, arm, stage, start, end (speedups over naive at its two
    ends), factor with its interval low, high, and n prompts.

    Where a milestone was not measured, its stage is merged into the next, under both names.
    """
    fixed = rows[rows.protocol == "fixed"]
    pairs = stats.against(pd.concat([fixed, _read_once(fixed)], ignore_index=True))
    found = []
    for (model, parameters), part in pairs.groupby(["model", "parameters"], sort=False):
        speedups = part.pivot(index="prompt", columns="arm", values="ratio")
        for arm in (arm for arm in PATHS if arm in speedups):
            stages = _factors(speedups, PATHS[arm])
            found += [{"model": model, "parameters": parameters, "arm": arm} | stage for stage in stages]
    return pd.DataFrame(found)


def _read_once(fixed: pd.DataFrame) -> pd.DataFrame:
    """Rows of naive as if its N prompts had been read once: one prefill of its own pass stays."""
    naive = fixed[fixed.arm == "naive"]
    return naive.assign(arm=READ_ONCE, wall_s=naive.wall_s - (1 - 1 / naive.num_samples) * naive.prefill_s)


def _factors(speedups: pd.DataFrame, path: Sequence[tuple[str, str]]) -> list[dict[str, object]]:
    """The stages of one arm on the prompts that all its milestones have."""
    known = speedups[[milestone for _, milestone in path if milestone in speedups]].dropna()
    before, names, stages = pd.Series(1.0, known.index), [], []
    for name, milestone in path:
        names.append(name)
        if milestone not in known:
            continue
        ends = np.stack([before, known[milestone]])
        factor = stats.bootstrap(ends, lambda x: np.median(x[..., 1, :], -1) / np.median(x[..., 0, :], -1))
        start, end = np.median(ends, -1)
        stages.append({"stage": " + ".join(names), "start": start, "end": end, "factor": factor.estimate})
        stages[-1] |= {"low": factor.low, "high": factor.high, "n": factor.n}
        before, names = known[milestone], []
    total = stats.bootstrap(before)
    return [stage | {"total_low": total.low, "total_high": total.high} for stage in stages]


def _panel(ax: Axes, table: pd.DataFrame, arms: list[str], headers: list[str], looks: dict[str, tuple]) -> None:
    """Bars in the left half, the table of factors in the right."""
    for arm, stages in table.groupby("arm", sort=False):
        y = arms.index(arm)
        for stage in stages.itertuples():
            colour = looks[_last(stage.stage)]
            _segment(ax, y, stage, colour)
            _write(ax, headers.index(_column(stage.stage)), y, _number(stage.factor), color=colour)
        last = stages.iloc[-1]
        ax.plot([last.end, last.end], [y - 0.42, y + 0.42], color="black", lw=1.2)
        if last.n >= stats.ENOUGH:
            ax.plot([last.total_low, last.total_high], [y, y], color="black", lw=0.8)
        _write(ax, len(headers), y, _number(last.end), weight="bold")
    for i, stage in enumerate(headers):
        _write(ax, i, -0.9, HEADERS[stage], color=looks[stage])
    _write(ax, len(headers), -0.9, "total")
    ax.axvline(1, color="0.6", lw=0.6, zorder=0)
    ax.set_title(f"{style.short_name(table.model.iloc[0])}: prompts n = {table.n.min()}", loc="left")
    ax.set_xlabel("speedup over naive (wall time)", loc="left")
    ax.tick_params(labelbottom=True)


def _axis(ax: Axes, table: pd.DataFrame, arms: list[str]) -> None:
    """The axes that all panels share: speedups up to the middle, the rest is the table's."""
    ends = ["start", "end", "total_low", "total_high"]
    drawn = table[ends if table.n.min() >= stats.ENOUGH else ends[:2]].to_numpy()
    low, high = 0.9 * drawn.min(), 1.1 * drawn.max()
    ax.set(xscale="log", xlim=(low, low * (high / low) ** 2))
    style.times_ticks(ax, "x")
    ax.xaxis.set_major_locator(FixedLocator([t for t in (0.25, 0.5, 1, 2, 4, 8, 16, 32) if low <= t <= high]))
    ax.set_yticks(range(len(arms)), arms)
    ax.set_ylim(len(arms) - 0.4, -0.6)
    for panel in ax.figure.axes:
        panel.spines["bottom"].set_bounds(low, high)


def _segment(ax: Axes, y: int, stage: pd.Series, colour: tuple) -> None:
    """A stage's part of a bar; a step back is hatched over what it takes away."""
    back = {"facecolor": "white", "edgecolor": colour, "hatch": "//////", "linewidth": 0}
    look = back if stage.factor < 1 else {"color": colour, "edgecolor": "white", "linewidth": 0.4}
    low, high = sorted((stage.start, stage.end))
    ax.barh(y, high - low, 0.7, low, **look)


def _write(ax: Axes, column: int, y: float, text: str, **look: object) -> None:
    """A cell of the table of factors: columns in the right half of the panel, y in rows of bars."""
    place = 0.555 + 0.111 * column, y
    ax.text(*place, text, transform=ax.get_yaxis_transform(), fontsize=6.2, ha="center", va="center", **look)


def _number(factor: float) -> str:
    return f"{factor:.1f}" if factor >= 10 else f"{factor:.2f}"


def _last(stage: str) -> str:
    """The stage that gives a merged one its colour."""
    return stage.split(" + ")[-1]


def _column(stage: str) -> str:
    return BATCHING if stage == WHOLE else _last(stage)


def _legend(figure: Figure, table: pd.DataFrame, looks: dict[str, tuple]) -> None:
    names = {stage: LABELS.get(stage, stage) for stage in dict.fromkeys(table.stage)}
    handles = [Patch(color=looks[_last(stage)], label=label) for stage, label in names.items()]
    handles.append(
        Patch(facecolor="white", edgecolor="0.4", hatch="//////", lw=0, label="a step back (factor below 1)")
    )
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)


def _caption(rows: pd.DataFrame, table: pd.DataFrame, missing: Sequence[str]) -> str:
    fixed = rows[rows.protocol == "fixed"]
    left_out = sorted(set(fixed.arm) - set(PATHS) - {"naive"})
    return (
        f"Speedup over {scaling.samples(rows)} separate generations, split into factors that multiply to it: medians "
        f"over at least {table.n.min()} prompts per model, the total with its 95 % bootstrap interval (those of the "
        "factors are in the plotted data). Prompt: naive's own pass with all but one of its measured prefills taken "
        "off; batch: from there to `batched`; engine: to `bifurcated`, which reads the prompt's keys and values once "
        "for all rows, drops rows that have ended and draws tokens in compiled code, and the three are not told apart; "
        "tree: from there to the arm. A stage whose end was not measured is merged into the next. "
        "`hf` batches whole generations, prompts included; `eab_sequential` never batches. "
        + (f"Not drawn: {', '.join(left_out)}. " if left_out else "")
        + scaling.setting(fixed)
        + style.missing_sentence(missing)
    )
