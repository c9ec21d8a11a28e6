"""The table of 3a: what each arm of each size has, costs and solves, and what PoH-HRM solves more."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, mazes, style

EXPERIMENT = mazes.EXPERIMENT
MEANS = ["train_flops", "train_s", "loss", "cell_accuracy"]
AHEAD = ["ahead", "ahead_low", "ahead_high"]


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per size and arm: accuracy on the test mazes, and poh's minus the arm's, paired by seed."""
    result = mazes.protocol(rows, "result")
    solved = mazes.over_seeds(result, "accuracy").rename(columns={"estimate": "accuracy"})
    means = result.astype(dict.fromkeys(MEANS, float)).groupby(["size", "arch"], as_index=False)[MEANS].mean()
    ahead = mazes.advantages(result, "accuracy").rename(columns={"against": "arch"}).drop(columns="n")
    ahead = ahead.rename(columns=dict(zip(mazes.INTERVAL[:3], AHEAD, strict=True)))
    data = solved.merge(means, on=["size", "arch"]).merge(ahead, on=["size", "arch"], how="left")
    gaps = mazes.gaps(result, missing)
    caption = (
        "Percent of test mazes solved (n seeds), what the training cost, nats per cell, percent of cells with a right "
        "direction, and the points that poh is ahead of each other arm on the same mazes. "
        f"{mazes.seeds_sentence(solved)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )
    return Tabled(data, caption, _reading(data))


TABLES = {"3a_table": table}


def _reading(data: pd.DataFrame) -> str:
    compared = data[data.ahead.notna()]
    said = [
        f"{size}: poh minus {', '.join(_said(row) for row in own.itertuples())} points."
        for size, own in compared.groupby("size", sort=False)
    ]
    return " ".join(said) or "poh has no other arm beside it on the same mazes, so nothing is compared."


def _said(row: tuple) -> str:
    return f"{row.arch} {style.said(row.ahead, row.ahead_low, row.ahead_high, '+.1f')}"
