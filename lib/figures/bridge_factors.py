"""Ablation 1: what each fix is worth on the test items, and what the plan's two configurations keep of their peak.

Effects are paired within a seed: the accuracy with the fix minus that without, everything else the same. Early stopping
and hygiene are crossed in after the training, so theirs are differences on the same training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import Drawn, bridge, bridge_captions, style

EXPERIMENT = bridge.EXPERIMENT

FACTORS = {
    "info_nce": "InfoNCE",
    "distill": "distillation",
    "early_stopping": "early stopping",
    "decode_hygiene": "decoding hygiene",
}
CONTEXTS = {  # name: look
    "mean over the other fixes": {"color": "C0", "marker": "o"},
    "without the other fixes": {"color": "C1", "marker": "s", "mfc": "white"},
}
APART = 0.16  # between the two, in the distance of two factors
PLAN = {
    "no fixes": (("1b_",), {"color": "C3", "marker": "v"}),
    "all fixes": (("1a_", "2c_"), {"color": "C2", "marker": "D"}),
}
STAGES = {"peak": "peak\n(validation)", "final": "kept\n(validation)", "test_accuracy": "kept\n(test)"}
PROMISED = 70.0  # percent: what the plan expects of the end with all fixes


def factors(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: effect of each fix in points of test accuracy. Right: peak, what is kept, and its test accuracy."""
    stability = bridge.protocol(rows, "stability")
    own = bridge.factorial(stability[stability.stressor == ""] if (stability.stressor == "").any() else stability)
    part = bridge.trainings(own, ["early_stopping", "decode_hygiene"])
    table, stages = effects(part), _stages(own)
    figure, (left, right) = style.new(style.TEXT, 2.9, 2, width_ratios=[1.5, 1])
    _forest(left, table)
    seeds = bridge_captions.seeds_title(part.groupby("fixes").seed.nunique())
    items = f"test items: n = {bridge_captions.spread(part.n_test)}"
    left.set_title(f"{part.task.iloc[0]}; {items}; {seeds}", loc="left", fontsize=7)
    _slopes(right, own, stages)
    _legend(figure, stages)
    lacking = [*missing, *_lacking(table, stages)]
    style.note(figure, lacking, [])
    data = pd.concat([table.assign(panel="effect"), stages.assign(panel="stages")], ignore_index=True)
    return Drawn(figure, data, _caption(rows, part, table, lacking))


FIGURES = {"4a_factors": factors}


def effects(part: pd.DataFrame) -> pd.DataFrame:
    """Test accuracy with each fix minus without, in points: factor, context, estimate, low, high, seeds, pairs.

    `pairs`: how many states of the other fixes are averaged within a seed. Seeds that lack one of them are left out.
    """
    states = part.assign(**{name: part[name].astype(float) > 0 for name in FACTORS})
    found = []
    for factor in FACTORS:
        others = [name for name in FACTORS if name != factor]
        wide = states.pivot(index="seed", columns=[factor, *others], values="test_accuracy")
        if wide.columns.get_level_values(factor).nunique() < 2:
            continue
        gaps = (wide[True] - wide[False]).dropna(axis=1, how="all").dropna()
        alone = [column for column in gaps if not any(column)]
        for context, chosen in zip(CONTEXTS, (gaps, gaps[alone]), strict=True):
            if chosen.size:
                row = {"factor": factor, "context": context, "pairs": chosen.shape[1]}
                found.append(row | bridge.over_seeds(chosen.mean(axis=1)))
    return pd.DataFrame(found, columns=["factor", "context", "pairs", "estimate", "low", "high", "seeds"])


def _named(own: pd.DataFrame, labels: tuple[str, ...]) -> pd.DataFrame:
    """Rows of the plan's configuration of these labels, with the weights and decoding that it asks for."""
    part = own[own.label.str.startswith(labels)]
    stops, hygiene = part.early_stopping.astype(bool), part.decode_hygiene.astype(bool)
    return part[(stops == (part.patience > 0)) & (hygiene == part.hygiene.astype(bool))]


def _stages(own: pd.DataFrame) -> pd.DataFrame:
    """configuration, label, stage, estimate, low, high, seeds and collapsed seeds of the plan's two configurations."""
    found = [
        {"configuration": name, "label": part.label.iloc[0], "stage": stage, "collapsed": int(part.collapsed.sum())}
        | bridge.over_seeds(part[stage])
        for name, (labels, _) in PLAN.items()
        for part in [_named(own, labels)]
        for stage in STAGES
        if len(part)
    ]
    return pd.DataFrame(
        found, columns=["configuration", "label", "stage", "collapsed", "estimate", "low", "high", "seeds"]
    )


def _forest(ax: Axes, table: pd.DataFrame) -> None:
    """A dot with its interval per fix, averaged over the others and without them."""
    ax.axvline(0, color="0.5", lw=0.8, zorder=0)
    for row in table.itertuples():
        y = list(FACTORS).index(row.factor) + APART * (2 * list(CONTEXTS).index(row.context) - 1)
        look = CONTEXTS[row.context]
        ax.hlines(y, row.low, row.high, color=look["color"], lw=1)
        ax.plot(row.estimate, y, ls="", ms=4.5, label=f"_{row.factor}, {row.context}", **look)
    for y, name in enumerate(FACTORS):
        if name not in set(table.factor):
            place = {"transform": ax.get_yaxis_transform(), "ha": "right", "va": "center"}
            ax.text(0.99, y, "not trained with and without", fontsize=6.5, color="0.4", **place)
    ax.set_yticks(range(len(FACTORS)), FACTORS.values())
    ax.set(ylim=(len(FACTORS) - 0.5, -0.5), xlabel="effect on test accuracy (points)")
    extent = max(2.0, table[["estimate", "low", "high"]].abs().max().max()) if len(table) else 2.0
    ax.set_xlim(-1.1 * min(extent, 100), 1.1 * min(extent, 100))


def _slopes(ax: Axes, own: pd.DataFrame, stages: pd.DataFrame) -> None:
    """A thin line per seed from its peak to what is kept of it; the means thick, with intervals."""
    for name, (labels, look) in PLAN.items():
        for seed, part in _named(own, labels).groupby("seed"):
            ax.plot(
                range(len(STAGES)),
                part[list(STAGES)].iloc[0],
                lw=0.5,
                alpha=0.6,
                color=look["color"],
                label=f"_{name}, seed {seed:g}",
            )
        mean = stages[stages.configuration == name]
        if len(mean):
            ax.plot(range(len(STAGES)), mean.estimate, ms=4.5, lw=1.5, label=f"_{name}", **look)
            ax.vlines(range(len(STAGES)), mean.low, mean.high, color=look["color"], lw=0.9)
    ax.axhline(PROMISED, color="0.5", lw=0.8, ls=":", zorder=0)
    ax.set_xticks(range(len(STAGES)), STAGES.values())
    ax.set(xlim=(-0.3, len(STAGES) - 0.7), ylim=(-3, 103), ylabel="accuracy (%)")
    ax.set_title(_kept(stages), loc="left", fontsize=7)


def _kept(stages: pd.DataFrame) -> str:
    """How many seeds of each configuration have collapsed as kept."""
    once = stages.drop_duplicates("configuration").itertuples()
    counts = ", ".join(f"{row.configuration} {row.collapsed}/{row.seeds}" for row in once)
    return f"collapsed as kept:\n{counts}" if counts else "neither was run"


def _legend(figure: Figure, stages: pd.DataFrame) -> None:
    handles = [Line2D([], [], ls="", ms=4.5, label=name, **look) for name, look in CONTEXTS.items()]
    labels: Mapping[str, str] = dict(zip(stages.configuration, stages.label, strict=True))
    handles += [
        Line2D([], [], ms=4.5, lw=1.5, label=f"{name} ({labels[name]})", **look)
        for name, (_, look) in PLAN.items()
        if name in labels
    ]
    handles.append(Line2D([], [], color="0.5", lw=0.8, ls=":", label=f"the plan's bound, {PROMISED:g} %"))
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False)


def _lacking(table: pd.DataFrame, stages: pd.DataFrame) -> list[str]:
    """Fixes that were not trained with and without, and named configurations that were not run."""
    found = [f"trainings with and without {label}" for name, label in FACTORS.items() if name not in set(table.factor)]
    return found + [name for name in PLAN if name not in set(stages.configuration)]


def _caption(rows: pd.DataFrame, part: pd.DataFrame, table: pd.DataFrame, lacking: Sequence[str]) -> str:
    return (
        "Left: accuracy on the test items with each fix minus that without, in percentage points, paired by seed; the "
        "mean over all states of the other fixes that were run, and with the others off. Early stopping and hygiene "
        "compare the same trainings. Right: the plan's two configurations, each as it asks to be kept and decoded: "
        "best validation accuracy of the whole training, validation accuracy of the kept weights, and their test "
        "accuracy; a thin line per seed. "
        f"{bridge_captions.weights_sentence(part)}{bridge_captions.seeds_sentence(table, items=False)}"
        f"{bridge_captions.pair_sentence(part, rows)}{style.missing_sentence(lacking)}"
    )
