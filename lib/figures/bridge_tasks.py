"""Ablation 3: does the bridge carry over to other tasks, at either checkpoint, against the arms that read text?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.figures import Drawn, bridge, bridge_captions, style
from lib.metrics import proportions

EXPERIMENT = bridge.EXPERIMENT

CHECKPOINTS = {"best": "full", "final": "none"}  # how their markers are filled
TEXTS = ("target_alone", "source_alone", "relay", "truncated")
AGAINST = TEXTS[:3]  # a difference from the text cut short would hide the others
WIDEST = 0.6  # of the dots of one row, in the distance of two rows


def tasks(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: accuracy of bridged (both checkpoints) and of text arms. Right: bridged minus text arms, paired by item."""
    part = bridge.arms(rows)
    shown = bridge.tasks(part)
    both = [_of_task(part[part.task == task]) for task in shown]
    levels, ahead = (pd.concat(tables, ignore_index=True) for tables in zip(*both, strict=True))
    figure, (left, right) = style.new(style.TEXT, 3.3, 2)
    looks = style.arm_styles([*bridge.TASKS, *(task for task in shown if task not in bridge.TASKS)])
    _levels(left, levels, shown, looks)
    _differences(right, ahead, shown, looks)
    items = bridge_captions.spread(levels["items"])
    seeds = bridge_captions.seeds_title(levels[levels.seeds > 0].seeds)
    left.set_title(f"test items: n = {items}; {seeds}", loc="left", fontsize=7)
    _legend(figure, shown, looks)
    lacking = [*missing, *_lacking(levels, shown)]
    style.note(figure, lacking, [])
    data = pd.concat([levels.assign(panel="accuracy"), ahead.assign(panel="difference")], ignore_index=True)
    return Drawn(figure, data, _caption(rows, part, levels, lacking))


FIGURES = {"4a_tasks": tasks}


def _of_task(part: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accuracies and differences of one task, all decoded as the reference is.

    Accuracies: task, label, arm, checkpoint, f1, estimate, low, high, seeds, items. Differences: the same columns with
    `against` in place of f1, in points.
    """
    own = bridge.reference(part)
    same = own[own.decode_hygiene == own.hygiene]
    free = bridge.beside(part, own)
    place = {"task": own.task.iloc[0], "label": own.label.iloc[0]}
    levels, ahead = [], []
    for name in CHECKPOINTS:
        bridged = same[same.checkpoint == name]
        if len(bridged):
            ours = place | {"arm": "bridged", "checkpoint": name}
            levels.append(ours | {"f1": bridged.f1.astype(float).mean()} | bridge.estimate(bridged))
            ahead += [ours | row for row in _against(bridged, free)]
    levels += [
        place | {"arm": arm, "checkpoint": "", "f1": float(row.f1.iloc[0])} | bridge.estimate(row)
        for arm in TEXTS
        for row in [free[free.arm == arm].astype({"f1": float})]
        if len(row)
    ]
    return pd.DataFrame(levels), pd.DataFrame(ahead)


def _against(bridged: pd.DataFrame, free: pd.DataFrame) -> list[dict[str, object]]:
    """Bridged minus each text arm on the same items, in points."""
    found = []
    for arm in AGAINST:
        for correct in free[free.arm == arm].correct:
            gap = proportions.paired_difference(list(bridged.correct), correct)
            interval = {name: 100 * getattr(gap, name) for name in ("estimate", "low", "high")}
            found.append({"against": arm} | interval | {"seeds": gap.seeds, "items": gap.items})
    return found


def _places(shown: Sequence[str], task: str, checkpoint: str) -> float:
    """Where in its row a dot of this task and checkpoint stands."""
    order = [(name, which) for name in shown for which in CHECKPOINTS]
    return WIDEST * (order.index((task, checkpoint)) / (len(order) - 1) - 0.5)


def _levels(ax: Axes, levels: pd.DataFrame, shown: Sequence[str], looks: dict[str, dict[str, object]]) -> None:
    names = ["bridged", *TEXTS]
    for row in levels.itertuples():
        _dot(ax, row, names.index(row.arm) + _places(shown, row.task, row.checkpoint or "best"), looks)
    ax.set_yticks(range(len(names)), [bridge.ARMS[name] for name in names])
    ax.set(xlim=(-3, 103), ylim=(len(names) - 0.5, -0.5), xlabel="accuracy on test items (%)")


def _differences(ax: Axes, ahead: pd.DataFrame, shown: Sequence[str], looks: dict[str, dict[str, object]]) -> None:
    ax.axvline(0, color="0.5", lw=0.8, zorder=0)
    for row in ahead.itertuples():
        _dot(ax, row, AGAINST.index(row.against) + _places(shown, row.task, row.checkpoint), looks)
    ax.set_yticks(range(len(AGAINST)), [bridge.ARMS[name].replace(", ", ",\n") for name in AGAINST])
    ax.set(ylim=(len(AGAINST) - 0.5, -0.5), xlabel="bridged minus the arm (points)")
    ax.set_title("paired by item", loc="left", fontsize=7)


def _dot(ax: Axes, row: tuple, y: float, looks: dict[str, dict[str, object]]) -> None:
    """An estimate with its interval, filled as the checkpoint is."""
    look = looks[row.task]
    fill = CHECKPOINTS[row.checkpoint or "best"]
    ax.hlines(y, row.low, row.high, color=look["color"], lw=0.9)
    face = look["color"] if fill == "full" else "white"
    ax.plot(row.estimate, y, ls="", ms=4.5, mfc=face, label=f"_{row.task}, {row.arm}, {row.checkpoint}", **look)


def _legend(figure: Figure, shown: Sequence[str], looks: dict[str, dict[str, object]]) -> None:
    handles = [Line2D([], [], ls="", ms=4.5, label=task, **looks[task]) for task in shown]
    grey = {"color": "0.4", "marker": "o", "ls": "", "ms": 4.5}
    handles += [
        Line2D([], [], label=f"{name} checkpoint", mfc="white" if fill == "none" else "0.4", **grey)
        for name, fill in CHECKPOINTS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _lacking(levels: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """Arms and checkpoints that a task lacks."""
    wanted = [("bridged", name) for name in CHECKPOINTS] + [(arm, "") for arm in TEXTS]
    known = set(zip(levels.task, levels.arm, levels.checkpoint, strict=True))
    return [
        f"{arm} {checkpoint}".strip() + f" ({task})"
        for task in shown
        for arm, checkpoint in wanted
        if (task, arm, checkpoint) not in known
    ]


def _caption(rows: pd.DataFrame, part: pd.DataFrame, levels: pd.DataFrame, lacking: Sequence[str]) -> str:
    used = ", ".join(dict.fromkeys(f"{row.label} ({row.task})" for row in levels.itertuples()))
    return (
        "Left: accuracy on each task's test items, by its own scorer (exact match for questions with entities; F1 is "
        "in the plotted data). The bridge is that of the plan's best configuration at its best and at its last "
        f"checkpoint: {used}; text arms are decoded as it is. Right: bridged minus the arms that read all of the text, "
        "in points, on the same items; 95 % intervals over items and seeds of the paired differences. Left: "
        f"{bridge_captions.seeds_sentence(levels)}{bridge_captions.pair_sentence(part, rows)}"
        f"{style.missing_sentence(lacking)}"
    )
