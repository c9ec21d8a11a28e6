"""What a sweep costs besides the work of its cells, and how long ten thousand finished runs take to load.

| part        | measured                                                                                        |
|-------------|-------------------------------------------------------------------------------------------------|
| `planning`  | looking up which cells are done                                                                 |
| `sweeping`  | all cells, one after another: process, locks, folder, opening and finishing the run, reaping    |
| `opening`   | of that, opening and finishing a run, in a process that is there already                        |
| `load`      | `runs.load` over runs of three rows each, in a warm file cache                                  |
| `summaries` | `runs.summaries` over the same                                                                  |

The cells do nothing. Only the notebook's execution is replaced: what a kernel takes to start is not the sweep's. Their
runs go to a temporary folder; where that is on a disk, each waits until five of its files are there.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import typer
from tqdm import tqdm

from lib import notebooks, runs
from lib.params import Params, config_hash
from lib.presets import Cell
from lib.sweep import loop, planning, processes
from lib.sweep.board import Board
from lib.sweep.cell import Job

EXPERIMENT = "bench/sweep"
ROWS = 3  # of each loaded run
OPENED = 20  # runs that are timed alone
DELAY = 2.0  # seconds before a bar is shown
MILLI = 1e3


def command(
    cells: Annotated[int, typer.Option(min=1, help="cells that the timed sweep runs")] = 1000,
    loaded: Annotated[int, typer.Option("--runs", min=1, help="finished runs that are loaded")] = 10_000,
    repeats: Annotated[int, typer.Option(min=1, help="times they are loaded")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Book-keeping of a sweep per cell, and the time to load many runs.

    Keys of the JSON object: overhead_ms_per_cell; of that, planning_ms_per_cell and opening_ms_per_cell (to open and
    finish a run in a process that is there); load_10k_runs_s and summaries_10k_runs_s (of as many as --runs says).
    """
    from lib.bench.report import end  # pandas, which the processes of the cells would load too

    run = runs.open_run(EXPERIMENT, {"cells": cells, "runs": loaded})
    with tempfile.TemporaryDirectory(prefix="recount-") as place:
        rows = [*sweep(cells, Path(place, "cells")), *load(loaded, repeats, Path(place, "runs"))]
    for row in rows:
        run.measure(**row)
    report = summary(rows)
    print("\n".join(f"{name:24} {value:8.2f}" for name, value in report.items()))
    run.finish(report)
    end(report, as_json)


def summary(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The JSON object: milliseconds for each cell, and seconds for all runs, medians over the repeats."""
    parts = {row["part"]: [r for r in rows if r["part"] == row["part"]] for row in rows}
    seconds = {part: statistics.median(row["seconds"] for row in of) for part, of in parts.items()}
    each = {part: MILLI * seconds[part] / parts[part][0]["n"] for part in ("planning", "sweeping", "opening")}
    return {
        "overhead_ms_per_cell": each["planning"] + each["sweeping"],
        "planning_ms_per_cell": each["planning"],
        "opening_ms_per_cell": each["opening"],
        "load_10k_runs_s": seconds["load"],
        "summaries_10k_runs_s": seconds["summaries"],
    }


def sweep(cells: int, place: Path) -> list[dict[str, Any]]:
    """Rows of a sweep over cells that do nothing, their runs in `place`."""
    grid = [Cell(EXPERIMENT, {"seed": seed}, devices=0, exclusive=False) for seed in range(cells)]
    opening = [_seconds(lambda n=n: _nothing({"seed": n, "runs_dir": str(place.parent)})) for n in range(OPENED)]
    began = time.perf_counter()
    tasks = planning.plan(grid, str(place))
    planned = time.perf_counter()
    with _instead(), _quiet(cells) as board:
        queue = loop.run_all(tasks, processes.Processes(1), board)
    ended = time.perf_counter()
    if queue.failed or len(runs.finished(EXPERIMENT, place)) != cells:
        raise RuntimeError(f"The sweep did not complete its {cells} cells: {queue.failed[:1]}")
    return [
        {"part": "planning", "repeat": 0, "n": cells, "seconds": planned - began},
        {"part": "sweeping", "repeat": 0, "n": cells, "seconds": ended - planned},
        *({"part": "opening", "repeat": n, "n": 1, "seconds": seconds} for n, seconds in enumerate(opening)),
    ]


def _nothing(parameters: dict[str, Any]) -> None:
    """What the notebook of a cell does, without the work."""
    with contextlib.redirect_stdout(None):  # in a cell's process that is log.txt already
        run = runs.open_run(EXPERIMENT, parameters)
    run.measure(answer=42)
    run.finish({})


@contextlib.contextmanager
def _instead() -> Iterator[None]:
    """Have the processes of the sweep do nothing in place of a notebook."""
    preloaded = [*processes.PRELOADED, __name__]
    with mock.patch.object(processes, "_work", _work), mock.patch.object(processes, "PRELOADED", preloaded):
        yield


def _work(job: Job, tell: Connection) -> None:
    """A process of the sweep, in which `processes` is as it was."""
    notebooks.execute = _execute
    processes._work(job, tell)


def _execute(_notebook: Path, _params: Params, parameters: dict[str, Any], folder: Path, **_options: Any) -> None:
    _nothing({**parameters, "run_dir": str(folder)})


@contextlib.contextmanager
def _quiet(cells: int) -> Iterator[Board]:
    """The sweep's own board, writing where nobody looks, with one bar on stderr instead."""
    bar = tqdm(total=cells, desc="sweep", unit="cell", file=sys.stderr)

    class Counting(Board):
        def say(self, text: str) -> None:
            super().say(text)
            bar.update()

    with bar, open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):
        yield Counting()


def load(count: int, repeats: int, place: Path) -> list[dict[str, Any]]:
    """Rows of loading that many finished runs, written to `place` first."""
    _fill(count, place)
    rows = []
    for repeat in range(-1, repeats):  # the first only warms up
        for read in (runs.load, runs.summaries):
            seconds = _seconds(lambda read=read: read(EXPERIMENT, place))
            rows.append({"part": read.__name__, "repeat": repeat, "n": count, "seconds": seconds})
    return [row for row in rows if row["repeat"] >= 0]


def _fill(count: int, place: Path) -> None:
    """One run as it is, and copies of it, each with a seed, and so a configuration, of its own."""
    with contextlib.redirect_stdout(None):
        first = runs.open_run(EXPERIMENT, {"runs_dir": str(place)})
    for n in range(ROWS):
        first.measure(arm=f"arm {n}", repeat=n, seconds=n / 7, tokens=100 * n, note=None)
    metrics = json.loads(first.finish({"speedup": 1.5}).read_text(encoding="utf-8"))
    config = (first.dir / "config.yaml").read_text(encoding="utf-8")
    stem = first.dir.name.rpartition("_")[0]
    for seed in tqdm(range(1, count), desc="runs to load", unit="run", delay=DELAY):
        own = config_hash(first.params.model_copy(update={"seed": seed}))
        folder = place / EXPERIMENT / f"{stem}_{own[:6]}-{seed}"
        shutil.copytree(first.dir, folder)
        text = config.replace("seed: 0\n", f"seed: {seed}\n")
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        metrics |= {"run": folder.name, "config_hash": own, "config_sha256": hashlib.sha256(text.encode()).hexdigest()}
        metrics["config"]["seed"] = seed
        (folder / "metrics.json").write_text(json.dumps(metrics, indent=1), encoding="utf-8")


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
