"""What the rows of a run of 3a say, as tables to read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib.data.mazes import Mazes
from lib.figures import Undrawable, maze_picture, mazes_scaling, style
from lib.figures import mazes as shared
from lib.mazes import evaluation, study
from lib.metrics import stats
from lib.models.maze import MazeModel
from lib.params.mazes import PohScaling

SHARES = ["accuracy", "optimality", "cell_accuracy"]


def shapes(params: PohScaling) -> pd.DataFrame:
    """Every arm of the run's sizes: blocks, feed-forward width, parameters, and FLOPs per maze."""
    rows = [study.describe(params, subject) for subject in study.subjects(params)]
    table = pd.DataFrame(rows).drop_duplicates(["size", "arch"]).rename(columns={"depth": "blocks"})
    table = table.assign(MFLOP=table.forward_flops / 1e6).set_index(["size", "arch"])
    return table[["blocks", "d_ff", "parameters", "MFLOP"]].round(2)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds on the test mazes, in percent, beside what walkers without a model reach."""
    result = table[table.protocol.isin(["result", "reference"])]
    by = result.groupby(["size", "arch"], sort=False)
    means = (100 * by[SHARES].mean()).round(1)
    return means.join(by.seed.nunique().rename("seeds")).join(by[["loss", "train_s"]].mean().round(3))


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """What PoH-HRM solves more than each other arm, in points, paired by seed: estimate, low, high, n, detectable."""
    part, rows = shared.protocol(table, "result"), []
    for other in shared.AGAINST:
        for size, gaps in shared.differences(part, "accuracy", other).items():
            found = shared.interval(gaps.dropna())
            spread = gaps.std(ddof=1) if found["n"] > 1 else float("inf")
            about = {"size": size, "comparison": f"poh - {other}"}
            rows.append(about | found | {"detectable": stats.detectable(spread, found["n"])})
    return pd.DataFrame(rows).set_index(["size", "comparison"]).round(1) if rows else pd.DataFrame()


def write_plan(table: pd.DataFrame, folder: Path) -> str:
    """Put the files that the published plan names beside the run's own; returns its summary."""
    try:
        drawn = mazes_scaling.scaling(table)
    except Undrawable as reason:
        return f"No summary: {reason}"
    style.save(drawn, "3a_scaling", folder, f"run {folder.name}")
    return next(text for name, text in drawn.files.items() if name.endswith(".txt"))


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json keeps of the run."""
    result, reference = (table[table.protocol == name] for name in ("result", "reference"))
    kept = ["size", "arch", "seed", "parameters", "train_flops", "train_s", "loss", *SHARES]
    walkers = reference.groupby("arch")[SHARES].mean().to_dict("index")
    return {"models": result[kept].to_dict("records"), "references": walkers}


def picture(model: MazeModel, mazes: Mazes, name: str) -> Figure:
    """The first of the mazes as the model sees it, read-out by read-out."""
    arrays = ("open", "goal", "start", "distance", "next_steps")
    first = replace(mazes, **{array: getattr(mazes, array)[:1] for array in arrays})
    policies = evaluation.answers(model, first).policy[:, 0]
    titles = [f"{name}, 1 of {len(policies)}", *map(str, range(2, len(policies) + 1))]
    return maze_picture.refining(first.open[0], first.goal[0], first.start[0], first.next_steps[0], policies, titles)
