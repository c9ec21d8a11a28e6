"""What the message is worth: the bridge between arms that read text and controls whose message was destroyed.

A bridge that works stands with the former, and its controls with the tuned prompt that carries no message at all.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.figures import Drawn, bridge, bridge_captions, style

EXPERIMENT = bridge.EXPERIMENT

ROW = 0.185  # inches per arm
OTHER = {"color": "0.35", "marker": "s"}
MESSAGES = ("shuffled", "mean", "zero", "noise")  # destroyed
GROUPS = {  # name: arms, look
    "reads the question, or an answer to it": (
        ("target_alone", "prefix_text", "source_alone", "relay", "truncated", "oracle"),
        OTHER,
    ),
    "bridged": (("bridged",), {"color": "C0", "marker": "o"}),
    "destroyed message, or none": ((*MESSAGES, bridge.FLOOR), {"color": "C3", "marker": "D"}),
}


def controls(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """A dot with its interval per arm, a panel per task; bridges of other kinds stand below the bridged arm."""
    part = bridge.arms(rows)
    shown = bridge.tasks(part)
    table = accuracies(part)
    names = _names(table)
    figure, axes = style.new(style.TEXT, ROW * len(names) + 1.35, len(shown), sharey=True)
    for ax, task in zip(axes, shown, strict=True):
        own = table[table.task == task]
        _dots(ax, own, names)
        seeds = bridge_captions.seeds_title(own[own.seeds > 0].seeds)
        ax.set_title(f"{task}; test items: n = {bridge_captions.spread(own['items'])}; {seeds}", loc="left", fontsize=7)
    _legend(figure)
    lacking = [*missing, *_lacking(table, shown)]
    style.note(figure, lacking, [])
    return Drawn(figure, table, _caption(rows, part, table, lacking))


FIGURES = {"4a_controls": controls}


def accuracies(part: pd.DataFrame) -> pd.DataFrame:
    """Arms of every task, of rows as `bridge.arms` has them; columns of `_of_task`."""
    return pd.concat([_of_task(part[part.task == task]) for task in bridge.tasks(part)], ignore_index=True)


def _of_task(part: pd.DataFrame) -> pd.DataFrame:
    """Arms of one task: task, arm, kind (of bridges of other kinds), label, hygiene, estimate, low, high, seeds, items.

    All decoded as the reference is; messages with the checkpoint that it keeps.
    """
    own = bridge.reference(part)
    first = own.iloc[0]
    messages = bridge.as_configured(bridge.same(part[part.seed.notna()], own)).assign(kind="")
    free = bridge.beside(part, own).assign(kind="")
    both = bridge.in_order(pd.concat([free, messages, _rivals(part, first)]))
    place = {"task": first.task, "label": first.label, "hygiene": bool(first.hygiene)}
    place["commonest"] = 100 * float(both.commonest.max()) if "commonest" in both else 0.0
    return pd.DataFrame(
        [
            place | {"arm": arm, "kind": kind} | bridge.estimate(group)
            for (arm, kind), group in both.groupby(["arm", "kind"], sort=False)
        ]
    )


def _rivals(part: pd.DataFrame, first: pd.Series) -> pd.DataFrame:
    """Bridges of another kind that were trained like the reference and send as many soft tokens."""
    alike = [*bridge.RECIPE, "info_nce", "distill", "hygiene", "soft_tokens"]
    others = part[(part.arm == "bridged") & (part["kind"] != first["kind"])]
    return bridge.as_configured(others[(others[alike] == first[alike]).all(axis=1)])


def _names(table: pd.DataFrame) -> list[str]:
    """Names of the arms among the rows, from top to bottom; bridges of other kinds after the bridged arm."""
    ordered = bridge.in_order(table)
    return list(dict.fromkeys(map(_name, ordered.arm, ordered["kind"])))


def _name(arm: str, kind: str) -> str:
    return f"bridged, {kind}" if kind else bridge.ARMS.get(arm, arm)


def _look(arm: str) -> dict[str, object]:
    return next((look for arms, look in GROUPS.values() if arm in arms), OTHER)


def _dots(ax: Axes, own: pd.DataFrame, names: Sequence[str]) -> None:
    """From top to bottom in the order of `names`; the band is what a message without information may reach."""
    bridge.floor(ax, own)
    for row in own.itertuples():
        y, look = names.index(_name(row.arm, row.kind)), _look(row.arm)
        face = "white" if row.kind else look["color"]
        size = 6 if row.arm == "bridged" and not row.kind else 4
        ax.plot(row.estimate, y, ls="", ms=size, mfc=face, label=f"_{_name(row.arm, row.kind)}", **look)
        ax.hlines(y, row.low, row.high, color=look["color"], lw=0.9)
    ax.set(xlim=(-3, 103), ylim=(len(names) - 0.4, -0.6), xlabel="accuracy on test items (%)")
    ax.set_yticks(range(len(names)), names)
    ax.grid(axis="y", color="0.93", lw=0.6)
    ax.set_axisbelow(True)


def _legend(figure: Figure) -> None:
    handles = [Line2D([], [], ls="", ms=4, label=name, **look) for name, (_, look) in GROUPS.items()]
    handles.append(Patch(label=f"within {bridge.ALLOWED:g} points of no message", **bridge.BAND))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False)


def _lacking(table: pd.DataFrame, shown: Sequence[str]) -> list[str]:
    """Arms that no task or not every task has."""
    found = {arm: set(table[table.arm == arm].task) for arm in bridge.ARMS}
    return [
        arm if not have else f"{arm} ({', '.join(task for task in shown if task not in have)})"
        for arm, have in found.items()
        if set(shown) - have
    ]


def _caption(rows: pd.DataFrame, part: pd.DataFrame, table: pd.DataFrame, lacking: Sequence[str]) -> str:
    used = "; ".join(
        f"{task}: {own.label.iloc[0]}, decoded {'with' if own.hygiene.iloc[0] else 'without'} hygiene"
        for task, own in table.groupby("task", sort=False)
    )
    return (
        "Share of test items answered right. Grey: arms that read the question or what the source answered to it, and "
        "the target given its own embeddings of the question as soft tokens. Blue: the target reads the message alone; "
        "hollow, bridges of other kinds. Orange: the same bridge with a destroyed message, and a tuned prompt in place "
        f"of any message. The band ends {bridge.ALLOWED:g} points above chance (that prompt, or always giving the "
        "commonest answer, whichever is right more often), and "
        f"destroyed messages should stay within. All arms of a task answer the same items. {used}. "
        f"{bridge_captions.seeds_sentence(table)}{bridge_captions.pair_sentence(part, rows)}"
        f"{style.missing_sentence(lacking)}"
    )
