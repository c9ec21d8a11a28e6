"""Where drafting pays: tokens per target forward and speedup of each category, against how much of its output the
prompt holds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator

from lib.figures import Drawn, Undrawable, specdec, style
from lib.metrics import acceptance, stats

EXPERIMENT = specdec.EXPERIMENT

LABEL = 0.0215  # of the page's width: what a name at 6.5 points needs between its neighbours
APART = 0.03  # of overlap: categories nearer than this are drawn this far apart, so that each can be told


def categories(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """A column of panels per model: tokens per target forward above, speedup over baseline below, a point per category
    and method at the category's mean prompt overlap. Of several backends the figure shows the first.
    """
    latency = specdec.protocol(rows, "latency", "single requests")
    if latency.get("prompt_overlap") is None or latency.prompt_overlap.isna().all():
        raise Undrawable("No request has a prompt_overlap, against which this figure is drawn: run the sweep again.")
    pairs = specdec.speedups(latency, ["category"])
    table = _table(latency, pairs)
    shown = specdec.first_backend(table)
    models = specdec.models(shown)
    figure, axes = style.new(style.TEXT, 4.2, len(models), 2, sharex=True, sharey="row")
    _limits(axes[0], axes[len(models)], shown)
    for i, model in enumerate(models):
        part = shown[shown.model == model]
        _points(axes[i], part, "tokens_per_forward")
        _points(axes[i + len(models)], part, "speedup")
        _labels(axes[i], part, LABEL * len(models))
        axes[i].set_title(
            f"{specdec.name(model)}: requests n ≥ {part.n.min()}", loc="left", pad=_room(shown), fontsize=7
        )
        axes[i + len(models)].set_xlabel("prompt overlap")
    specdec.legend(figure, shown)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, table, _caption(latency, pairs, table, shown, missing))


FIGURES = {"2a_categories": categories}


def _table(latency: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """One row per model, backend, method and category: prompt_overlap, n requests, tokens_per_forward and speedup,
    both with their intervals (NaN for too few requests).
    """
    keys = ["model", "backend", "arm", "category"]
    speed = specdec.summarise(pairs, ["category"]).rename(
        columns={"estimate": "speedup", "low": "speedup_low", "high": "speedup_high"}
    )
    counts = acceptance.summarise(latency[(latency.arm != specdec.BASELINE) & latency.steps.notna()], keys)
    tokens = ["tokens_per_forward", "tokens_per_forward_low", "tokens_per_forward_high"]
    table = speed.merge(counts[[*keys, *tokens]], on=keys)
    table.loc[table.n < stats.ENOUGH, tokens[1:]] = np.nan
    overlap = latency.groupby(["model", "category"], as_index=False).prompt_overlap.mean()
    return table.merge(overlap, on=["model", "category"])


def _places(part: pd.DataFrame) -> pd.Series:
    """category -> where it is drawn: its prompt overlap, moved where another is too near."""
    overlap = part.groupby("category").prompt_overlap.mean().sort_values(kind="stable")
    return pd.Series(spaced(overlap.to_numpy(), APART), overlap.index)


def _points(ax: Axes, part: pd.DataFrame, column: str) -> None:
    """1 is what plain decoding gets."""
    look, places = specdec.looks(part), _places(part)
    ax.axhline(1, color="0.5", lw=0.8, zorder=0)
    for arm in specdec.methods(part):
        points = part[part.arm == arm].sort_values(["prompt_overlap", "category"])
        x = points.category.map(places)
        ax.plot(x, points[column], ls="", ms=3.5, label=arm, **look[arm])
        ax.vlines(x, points[f"{column}_low"], points[f"{column}_high"], color=look[arm]["color"], lw=0.8)


def _limits(upper: Axes, lower: Axes, table: pd.DataFrame) -> None:
    upper.set(ylabel="tokens per forward", xlim=(-0.05, 1.05))
    upper.xaxis.set_major_locator(FixedLocator([0, 0.5, 1]))
    lower.set(ylabel="speedup", yscale="log")
    values = table[["speedup", "speedup_low", "speedup_high"]].to_numpy()
    lower.set_ylim(0.92 * min(0.8, np.nanmin(values)), 1.08 * max(1.25, np.nanmax(values)))
    style.times_ticks(lower)


def _labels(ax: Axes, part: pd.DataFrame, gap: float) -> None:
    """The categories' names upright above the panel, each tied to its place, at least `gap` panel widths apart."""
    places = _places(part)
    low, high = ax.get_xlim()
    spread = spaced((places.to_numpy() - low) / (high - low), gap)
    for (category, place), x in zip(places.items(), spread, strict=True):
        ax.annotate(
            category,
            (place, 1),
            (x, 1.1),
            xycoords=ax.get_xaxis_transform(),
            textcoords="axes fraction",
            rotation=90,
            ha="center",
            va="bottom",
            fontsize=6.5,
            arrowprops={"arrowstyle": "-", "color": "0.7", "lw": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def spaced(places: np.ndarray, gap: float) -> np.ndarray:
    """Ascending places [n] in 0 to 1, moved as little as a pass in each direction needs to keep `gap` between them."""
    moved = places.astype(float)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    if len(moved):
        moved[-1] = min(moved[-1], 1.0)
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    return moved


def _room(table: pd.DataFrame) -> float:
    """Points between panel and title that the longest category name needs."""
    return 3.9 * table.category.str.len().max() + 16


def _caption(
    latency: pd.DataFrame, pairs: pd.DataFrame, table: pd.DataFrame, shown: pd.DataFrame, missing: Sequence[str]
) -> str:
    return (
        "Tokens per forward pass of the target (above) and speedup over plain decoding by the same engine (below) by "
        "category, against prompt overlap, the share of the output's 4-grams that the prompt holds (mean over the "
        f"category's requests); {specdec.requests(table, 'requests per category')}, 95 % bootstrap intervals over "
        f"requests where there are {stats.ENOUGH} or more. The line at 1 is plain decoding. Categories nearer than "
        f"{APART} are drawn that far apart. "
        f"{specdec.others(table, shown)}{specdec.setting(latency, pairs)}{style.missing_sentence(missing)}"
    )
