"""Power laws of test loss: what parameters and training FLOPs buy each arm, and what a repetition of a block is worth.

The laws are those of `lib.metrics.fits`, fitted to the seeds that have every size of an arm. With few sizes, a curve
that levels off cannot be told from one that does not: an irreducible loss is fitted from FREE sizes on, and is 0 below.
The recurrence is fitted to all numbers of refinements R among the runs; everything else here shows one setting.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from lib.figures import Drawn, Undrawable, mazes, style
from lib.metrics import fits, paired
from lib.metrics.fits import FitError, PowerLaw
from lib.metrics.stats import Interval

EXPERIMENT = mazes.EXPERIMENT

COSTS = {"parameters": "parameters", "train_flops": "training FLOPs"}  # a panel each: column and its name
RECURRENCE = "effective parameters"  # the third panel
PANELS = (*COSTS, RECURRENCE)
FREE = 4  # sizes from which on the irreducible loss is fitted too
WIDE = 30  # times the smallest x: less needs more ticks than powers of ten
LINE = 36  # characters in a line of a panel
COLUMNS = ["panel", "measure", "size", "arch", "R", "x", *mazes.INTERVAL]


@dataclass(frozen=True)
class Fit:
    """An arm in a panel: its points (size, R, x, estimate, low, high, n) and its law, or why it has none."""

    panel: str
    arch: str
    points: pd.DataFrame
    law: PowerLaw | None
    reason: str = ""


def fit(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Test loss against parameters and against training FLOPs, a law per arm, and the joint fit over R; all log-log."""
    result = mazes.protocol(rows, "result")
    _refuse_one_size(result)
    found = [_over_sizes(result, arm, cost) for cost in COSTS for arm in mazes.arms(result)]
    repeated = _of_every_R(rows)
    found += [_over_repetitions(repeated, arm) for arm in mazes.arms(repeated)]
    figure, axes = style.new(style.TEXT, 3.5, columns=3)
    shown, looks = {name: [one for one in found if one.panel == name] for name in PANELS}, mazes.looks(result)
    for ax, cost in zip(axes, COSTS, strict=False):
        _panel(ax, shown[cost], looks, f"{COSTS[cost]} (log scale)")
        _legend(ax, shown[cost], looks, "exponent")
    _recurrence(axes[2], shown[RECURRENCE], looks)
    axes[0].set_ylabel("test loss (nats per cell, log scale)")
    seeds = mazes.replicates(pd.concat([one.points for one in found]))
    axes[0].set_title(f"test mazes: n = {mazes.spread(result.n_test)}; {seeds}", loc="left", fontsize=7)
    gaps = mazes.gaps(result, missing)
    style.note(figure, gaps, [])
    return Drawn(figure, _data(found), _caption(rows, found, gaps))


FIGURES = {"3a_fits": fit}


def _refuse_one_size(result: pd.DataFrame) -> None:
    if len(names := mazes.sizes(result)) < 2:
        raise Undrawable(
            f"The runs hold models of one size only ({names[0]}), and this figure is about how loss falls with size: "
            "run and draw a preset with 3 sizes or more."
        )


def _of_every_R(rows: pd.DataFrame) -> pd.DataFrame:
    """Results of recurrent arms that share everything but R with the setting drawn."""
    chosen = paired.setting(rows)
    same = (rows.protocol == "result") & (rows.maze_size == chosen.maze_size) & (rows["T"] == chosen.T)
    part = rows[same & rows.arch.isin(mazes.RECURRENT)].reset_index(drop=True)
    mazes.refuse_doubles(part, ["R"])
    return part.sort_values(["arch", "parameters", "R", "seed"])


def _over_sizes(result: pd.DataFrame, arm: str, cost: str) -> Fit:
    """One arm's losses against a cost, with a power law."""
    own = result[result.arch == arm]
    x = own.groupby("size")[cost].mean()
    points = mazes.over_seeds(own, "loss").assign(R=paired.setting(own).R)
    points = points.assign(x=points["size"].map(x))
    losses = own.pivot(index="size", columns="seed", values="loss").astype(float).dropna(axis=1)
    try:
        if losses.empty:
            raise FitError("No seed has all sizes of this arm; train those that lack.")
        law = fits.power_law(x[losses.index].to_numpy(float), losses.to_numpy(), irreducible=len(losses) >= FREE)
    except FitError as error:
        return Fit(cost, arm, points, None, str(error))
    return Fit(cost, arm, points, law)


def _over_repetitions(repeated: pd.DataFrame, arm: str) -> Fit:
    """One arm's losses of all sizes and R against its effective parameters, with the joint law."""
    own = repeated[repeated.arch == arm]
    points = mazes.over_seeds(own, "loss", ["R"])
    try:
        law = fits.recurrence(own)
    except FitError as error:
        return Fit(RECURRENCE, arm, points.assign(x=np.nan), None, str(error))
    inside = points["size"].map(own.groupby("size").recurrent_parameters.first())
    effective = points.parameters - inside + points.R.astype(float) ** law.phi.estimate * inside
    return Fit(RECURRENCE, arm, points.assign(x=effective), law)


def _panel(ax: Axes, shown: Sequence[Fit], looks: Mapping[str, dict[str, object]], label: str) -> None:
    """Points with their intervals; curves with their bands, but in the recurrence, where phi moves the points too."""
    for one in shown:
        look, points = looks[one.arch], one.points.sort_values("x")
        mazes.points(ax, points.x, points, look, ls="", label=one.arch)
        if one.law:
            x = np.geomspace(points.x.min(), points.x.max(), 60)
            ax.plot(x, one.law(x), color=look["color"], lw=1, label=f"_law of {one.arch}")
            if one.law.n > 1 and one.panel != RECURRENCE:
                ax.fill_between(x, *one.law.band(x), color=look["color"], alpha=0.15, lw=0)
    ax.set(xscale="log", yscale="log", xlabel=label)
    _limits(ax, pd.concat([one.points for one in shown]))


def _limits(ax: Axes, points: pd.DataFrame) -> None:
    """All points in view; intervals and bands of few seeds would hide how the points lie. Round numbers as ticks."""
    losses = points.estimate[points.estimate > 0]
    low, high = np.log([losses.min(), losses.max()])
    room = 0.15 * max(high - low, 0.5)
    ax.set_ylim(*np.exp([low - room, high + room]))
    ax.yaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda loss, _: f"{loss:g}"))
    narrow = points.x.max() < WIDE * points.x.min()
    ax.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5) if narrow else (1,)), minor_formatter=NullFormatter())


def _legend(ax: Axes, shown: Sequence[Fit], looks: Mapping[str, dict[str, object]], title: str) -> None:
    """Under the panel, the arms with the exponents of their laws."""
    handles = [Line2D([], [], ms=3.5, lw=1, label=f"{one.arch}: {_exponent(one)}", **looks[one.arch]) for one in shown]
    known = any(one.law and one.law.n > 1 for one in shown)
    said = f"{title}, 95 % interval" if known else title
    place = {"loc": "upper left", "bbox_to_anchor": (-0.05, -0.24), "alignment": "left", "borderaxespad": 0}
    ax.legend(handles=handles, title=said, fontsize=6, title_fontsize=6, frameon=False, **place)


def _exponent(one: Fit) -> str:
    """alpha, or phi in the panel of the recurrence."""
    if not one.law:
        return "no fit"
    return _said(one.law.phi if one.panel == RECURRENCE else one.law.exponent)


def _said(value: Interval) -> str:
    """Estimate and interval, where there is one."""
    return f"{value.estimate:.2f}" + (f" [{value.low:.2f}, {value.high:.2f}]" if value.n > 1 else "")


def _recurrence(ax: Axes, shown: Sequence[Fit], looks: Mapping[str, dict[str, object]]) -> None:
    """The joint fit, or in words what it lacks."""
    ax.set_title("recurrence, every R", loc="left", fontsize=7)
    if fitted := [one for one in shown if one.law]:
        _panel(ax, fitted, looks, "$N_{once} + R^φ N_{rec}$ (log scale)")
        _legend(ax, shown, looks, "φ")
        return
    reasons = [f"{', '.join(arms)}: {reason}" for reason, arms in _reasons(shown).items()]
    text = "\n\n".join(reasons or ["No arm among the runs repeats its blocks (loop, poh)."])
    lines = "\n".join(textwrap.fill(part, LINE) for part in text.split("\n"))
    ax.text(0.02, 0.97, lines, transform=ax.transAxes, ha="left", va="top", fontsize=6)
    ax.set(xticks=[], yticks=[])


def _reasons(shown: Sequence[Fit]) -> dict[str, list[str]]:
    """Why there is no law: arms by reason."""
    found: dict[str, list[str]] = {}
    for one in shown:
        if not one.law and one.arch not in found.setdefault(one.reason, []):
            found[one.reason].append(one.arch)
    return found


def _data(found: Sequence[Fit]) -> pd.DataFrame:
    """A row per point (measure "loss") and per number of a law, with its interval over n seeds."""
    parts = [one.points.assign(panel=one.panel, measure="loss") for one in found]
    numbers = [
        {"panel": one.panel, "arch": one.arch, "measure": measure} | _numbers(getattr(one.law, measure))
        for one in found
        for measure in _fitted(one)
    ]
    return pd.concat([*parts, pd.DataFrame(numbers)], ignore_index=True).reindex(columns=COLUMNS)


def _fitted(one: Fit) -> list[str]:
    """Which numbers of the law were fitted."""
    if not one.law:
        return []
    free = ["irreducible"] if len(one.points) >= FREE else []
    return ["exponent", "coefficient", *free, *(["phi"] if one.panel == RECURRENCE else [])]


def _numbers(value: Interval) -> dict[str, float]:
    ends = (value.low, value.high) if value.n > 1 else (np.nan, np.nan)
    return dict(zip(mazes.INTERVAL, (value.estimate, *ends, value.n), strict=True))


def _caption(rows: pd.DataFrame, found: Sequence[Fit], gaps: Sequence[str]) -> str:
    over_sizes = [one for one in found if one.panel in COSTS]
    points = pd.concat([one.points for one in found])
    return (
        "Cross entropy on the test mazes against parameters and against the FLOPs of the whole training (counted by "
        "formula), a point per arm and size. Lines: L = E + A x^-α, shaded with its pointwise 95 % interval; "
        f"{_irreducible(over_sizes)}Intervals of fits are over seeds, resampled whole, of those that have every size. "
        f"{_unfitted(over_sizes)}{_joint([one for one in found if one.panel == RECURRENCE])}"
        f"{mazes.seeds_sentence(points)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )


def _irreducible(shown: Sequence[Fit]) -> str:
    """Whose E was fitted and whose was not."""
    arms = {True: [], False: []}
    for one in shown:
        if one.law and one.panel == "parameters":
            arms[len(one.points) >= FREE].append(one.arch)
    said = [f"E is free for {', '.join(arms[True])} ({FREE} sizes or more)"] if arms[True] else []
    said += [f"E = 0 for {', '.join(arms[False])} (fewer than {FREE} sizes)"] if arms[False] else []
    return "; ".join(said) + ". " if said else "no arm has one. "


def _unfitted(shown: Sequence[Fit]) -> str:
    return "".join(f"Without a fit, {', '.join(arms)}: {reason} " for reason, arms in _reasons(shown).items())


def _joint(shown: Sequence[Fit]) -> str:
    """What the third panel says."""
    fitted = [f"{one.arch} φ = {_said(one.law.phi)}, α = {_said(one.law.exponent)}" for one in shown if one.law]
    said = (
        "Right: loss of every size and R among the runs, those left out elsewhere too, against effective parameters "
        "N_once + R^φ N_rec, φ fitted jointly with E, A and α (1: running a block R times is worth R different blocks; "
        f"0: nothing); the points lie where the fitted φ puts them: {'; '.join(fitted)}. "
        if fitted
        else "Right: no joint fit of recurrence. "
    )
    return said + _unfitted(shown)
