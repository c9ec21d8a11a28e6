"""What the rows of a run of 3a say, as tables to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib.data.mazes import Mazes
from lib.figures import Undrawable, maze_picture, mazes_scaling, style
from lib.mazes import evaluation
from lib.metrics import stats
from lib.models import maze_sizes
from lib.models.maze import MazeModel
from lib.params.mazes import Mazes as Parameters

SHARES = ["accuracy", "optimality", "cell_accuracy"]


def shapes(params: Parameters) -> pd.DataFrame:
    """Every arm of the run's sizes: blocks, feed-forward width, parameters, and FLOPs per maze."""
    rows = []
    for name in params.size:
        for arch in params.arch:
            kind, size = maze_sizes.resolve(arch, params.shape(name), params.R)
            rows.append(
                {
                    "size": name,
                    "arch": arch,
                    "blocks": size.depth,
                    "d_ff": size.d_ff,
                    "parameters": maze_sizes.parameters(kind, size),
                    "MFLOP": maze_sizes.forward_flops(kind, size, params.R, params.T, params.maze_size) / 1e6,
                }
            )
    return pd.DataFrame(rows).set_index(["size", "arch"]).round(2)


def scores(table: pd.DataFrame) -> pd.DataFrame:
    """Means over seeds on the test mazes, in percent, beside what walkers without a model reach."""
    result = table[table.protocol.isin(["result", "reference"])]
    by = result.groupby(["size", "arch"], sort=False)
    means = (100 * by[SHARES].mean()).round(1)
    return means.join(by.seed.nunique().rename("seeds")).join(by[["loss", "train_s"]].mean().round(3))


def differences(table: pd.DataFrame, arch: str = "poh") -> pd.DataFrame:
    """What `arch` solves more than each other arm, in points, paired by seed: estimate, low, high, n, detectable."""
    result = table[table.protocol == "result"]
    wide = 100 * result.pivot_table(index=["size", "seed"], columns="arch", values="accuracy")
    rows = []
    for size in result["size"].unique():  # in the order of the run, from small to large
        part = wide.loc[[size]]
        for other in part.columns.drop(arch, errors="ignore"):
            gaps = (part[arch] - part[other]).dropna().to_numpy() if arch in part else []
            if len(gaps):
                estimate, low, high = stats.t_interval(gaps)
                spread = gaps.std(ddof=1) if len(gaps) > 1 else float("inf")
                about = {"size": size, "comparison": f"{arch} - {other}"}
                numbers = {"points": estimate, "low": low, "high": high, "seeds": len(gaps)}
                rows.append(about | numbers | {"detectable": stats.detectable(spread, len(gaps))})
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
    said = evaluation.answers(model, mazes)
    titles = [f"{name}, {i + 1} of {len(said.policy)}" if i == 0 else str(i + 1) for i in range(len(said.policy))]
    about = (mazes.open[0], int(mazes.goal[0]), int(mazes.start[0]), mazes.next_steps[0])
    return maze_picture.refining(*about, said.policy[:, 0], titles)
