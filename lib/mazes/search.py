"""`python -m lib.mazes.search`: what the search presets found, judged on validation mazes alone.

The settings that a preset varies are compared by the loss on validation mazes after the last epoch, mean over seeds;
the search's seeds are used nowhere else, so no test maze has a say. What it chooses, and what that cost, is written
into params/3a_poh_scaling.yaml by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lib import console, results

EXPERIMENT = "3a_poh_scaling"
VARIED = ["learning_rate", "R", "T", "n_heads"]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


def found(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per size, arm and setting: val_loss, val_accuracy (percent), seeds, train_s (all seeds); best first."""
    last = rows[rows.protocol == "epoch"].sort_values("epoch").groupby(["run", "size", "arch", "seed"]).tail(1)
    varied = [name for name in VARIED if last[name].nunique() > 1]
    groups = last.groupby(["size", "arch", *varied])
    table = (
        groups[["val_loss", "val_accuracy"]].mean().join(groups.agg(seeds=("seed", "size"), train_s=("train_s", "sum")))
    )
    table["val_accuracy"] *= 100
    return table.sort_values("val_loss").sort_index(level=["size", "arch"], sort_remaining=False, kind="stable")


@app.command()
def show(
    preset: Annotated[
        str, typer.Option(help="search (learning rate of every arm) or search_shape (R, T, n_heads)")
    ] = "search",
    runs_dir: Annotated[Path | None, typer.Option(help="where the runs are; default: runs/")] = None,
) -> None:
    """Compare the settings of a search preset on validation mazes, best first within each arm."""
    rows, missing = results.grid_rows(EXPERIMENT, preset, None, runs_dir)
    table = found(rows)
    print(table.round({"val_loss": 4, "val_accuracy": 1, "train_s": 0}).to_string())
    print(f"\nIt took {table.train_s.sum() / 60:.1f} minutes of training.")
    if missing:
        print(f"No finished run: {', '.join(missing)}")


if __name__ == "__main__":
    console.command(app)
