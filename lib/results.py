"""Rows as tables: those of the run at hand, and those of the finished runs that make up a preset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import presets, runs
from lib.params import ParameterError, config_hash

if TYPE_CHECKING:
    import pandas as pd


def frame(run: runs.Run, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Measurement rows beside their run's parameters, as `runs.load` would read them."""
    import pandas as pd

    return pd.DataFrame([{"run": run.dir.name, "stale": False, **run.params.model_dump(), **row} for row in rows])


def grid_rows(
    experiment: str, preset: str = "", set_: list[str] | None = None, runs_dir: Path | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """Measurement rows of the finished cells of a preset, and the labels of its cells that have none.

    An empty `preset` means the one that the newest sweep was made with; `set_` is what the sweep was given.
    ParameterError where there is no row at all.
    """
    done = runs.finished(experiment, runs_dir)
    return of_preset(experiment, done, runs.rows(experiment, done), preset, set_)


def of_preset(
    experiment: str, done: Sequence[runs.Finished], rows: pd.DataFrame, preset: str = "", set_: list[str] | None = None
) -> tuple[pd.DataFrame, list[str]]:
    """`grid_rows` of the rows of these finished runs."""
    preset = preset or next((r.config["preset"] for r in reversed(done) if r.config["preset"]), "")
    if not preset:
        raise ParameterError(
            f"There are {len(done)} finished runs of {experiment} and none of a sweep, which this needs: run "
            f"'python -m lib.sweep {experiment} --preset quick' (or 'make demo') first."
        )
    wanted = {config_hash(cell.resolved()): cell.label for cell in presets.cells(experiment, preset, set_=set_ or [])}
    finished = {run.metrics["config_hash"]: run.dir.name for run in done}
    rows = rows[rows.run.isin([finished[h] for h in wanted if h in finished])]
    if rows.empty:
        raise ParameterError(
            f"None of the {len(done)} finished runs of {experiment} is a cell of preset {preset!r}: name another, "
            "or give --set what the sweep was given."
        )
    return rows, [label for h, label in wanted.items() if h not in finished]
