"""What the maze study saves against the published one: making mazes, training, learning, walking, memory.

| part | measured |
|---|---|
| `carve` | microseconds to carve and label one maze, best of several |
| `train` | mazes per second of one step on the same mazes, ours and the published loop's interleaved, stack and poh |
| `learn` | seconds of training to the same validation accuracy, stack against stack: see `mazes_learning` |
| `eval` | seconds per maze to walk the same test mazes: one forward per step, or one forward and one batched walk |
| `race` | the goal of that, when each reached it, and their ratio |
| `memory` | peak resident memory of training steps, each in a fresh process |

`mazes_original` says what the published side is made of. A number over both arms is their geometric mean.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from lib import runs
from lib.bench import mazes_learning
from lib.bench import mazes_original as original
from lib.bench.report import end
from lib.data import mazes as data
from lib.data.mazes import Mazes
from lib.mazes import evaluation
from lib.metrics.cost import PeakMemory
from lib.models import maze
from lib.models.maze_training import Recipe, Training
from lib.params import resolve
from lib.params.mazes import PohScaling

ARMS = ("stack", "poh")
SIDES = (8, 12, 16, 20, 30)  # of the mazes that are carved
CARVED = 2000  # mazes
WIDEST = 22  # side: the published model numbers 512 cells
WALKED = 64  # mazes in one batch of ours
MEMORY_STEPS = 2  # the second finds the optimizer's state in place


def command(
    size: Annotated[list[str] | None, typer.Option(help="model size; repeatable; default: tiny and small")] = None,
    side: Annotated[int, typer.Option(min=2, max=WIDEST, help="side of the mazes trained on and walked")] = 16,
    batch: Annotated[int, typer.Option(min=1, help="mazes per step; the plan's is 32")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="timed steps of each arm")] = 5,
    learn_side: Annotated[int, typer.Option(min=4, max=WIDEST, help="side of the mazes that are learned")] = 8,
    budget: Annotated[float, typer.Option(min=0.1, help="seconds the published loop may learn for, each size")] = 60,
    walks: Annotated[int, typer.Option(min=1, help="mazes walked with one forward per step")] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Mazes, training, evaluation and memory of the maze study against the published one, on one thread.

    Keys of the JSON object: maze_us (side -> microseconds per maze, carved and labelled), train_vs_original (size ->
    our mazes per second over theirs), time_to_accuracy_vs_original (size -> their seconds over ours to the same
    accuracy; null where ours did not get there), time_to_accuracy_is_at_least (size -> whether theirs learned nothing
    in its budget: the ratio is a lower bound), peak_memory_vs_original (size -> their bytes over ours; null where
    they cannot be read), eval_vs_original (their seconds per maze over ours).
    """
    raw = {"size": size or ["tiny", "small"], "arch": list(ARMS), "maze_size": side, "batch_size": batch}
    raw |= {"train": 1000, "validation": 128, "larger": [], "seed": [0]}
    learning = resolve("bench/mazes", raw | {"maze_size": learn_side})  # a wrong side is refused before it counts
    torch.set_num_threads(1)
    run = runs.open_run("bench/mazes", raw)
    rows = []
    for row in measure(run.params, learning, repeats, budget, walks):
        rows.append(row)
        run.measure(**row)
    table = pd.DataFrame(rows)
    for protocol, part in table.groupby("protocol", sort=False):
        print(
            f"\n{protocol}\n{part.drop(columns='protocol').dropna(axis=1, how='all').round(3).to_string(index=False)}"
        )
    report = summary(table)
    run.finish(report)
    end(report, as_json)


def measure(
    params: PohScaling, learning: PohScaling, repeats: int, budget: float, walks: int
) -> Iterator[dict[str, Any]]:
    """Every row, part by part."""
    yield from carving(repeats)
    few = data.make(params.maze_size, params.batch_size, seed=0)
    for name in params.size:
        for arch in ARMS:
            yield from training(arch, name, params, few, repeats)
    for name in params.size:
        yield from memory(name, params)
    for name in params.size:
        yield from mazes_learning.race(name, learning, budget)
    yield evaluate(params, walks)


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """The JSON object."""
    parts = {name: rows.dropna(axis=1, how="all") for name, rows in table.groupby("protocol")}
    raced = parts["race"].reindex(columns=["size", "ratio"]).set_index("size").ratio
    return {
        "maze_us": {str(int(side)): us for side, us in parts["carve"].set_index("side").maze_us.items()},
        "train_vs_original": by_size(parts["train"], "mazes_per_s", ours_over_theirs=True),
        "time_to_accuracy_vs_original": {size: None if math.isnan(r) else float(r) for size, r in raced.items()},
        "time_to_accuracy_is_at_least": parts["race"].set_index("size").at_least.astype(bool).to_dict(),
        "peak_memory_vs_original": by_size(parts["memory"], "peak_memory_bytes", ours_over_theirs=False),
        "eval_vs_original": float(parts["eval"].ratio.item()),
    }


def by_size(rows: pd.DataFrame, column: str, ours_over_theirs: bool) -> dict[str, float | None]:
    """size -> geometric mean over arms of the ratio of medians; None where a number is missing or 0."""
    medians = rows.reindex(columns=["size", "arch", "who", column]).groupby(["size", "arch", "who"], sort=False)
    medians = medians[column].median().unstack("who")
    ratios = medians.ours / medians.theirs if ours_over_theirs else medians.theirs / medians.ours
    found = (
        np.log(ratios.where(medians.min(axis=1) > 0)).groupby("size", sort=False).agg(lambda r: r.mean(skipna=False))
    )
    return {size: None if math.isnan(value) else float(math.exp(value)) for size, value in found.items()}


def carving(repeats: int) -> Iterator[dict[str, Any]]:
    """One row per side: microseconds to carve and label one maze."""
    for side in SIDES:
        goal = np.random.default_rng(0).integers(side * side, size=CARVED)
        data.label(data.carve(side, 1, seed=0), goal[:1])  # compiles
        seconds = [
            _seconds(lambda s=side, g=goal, r=r: data.label(data.carve(s, CARVED, r), g)) for r in range(repeats)
        ]
        yield {"protocol": "carve", "side": side, "n": CARVED, "maze_us": 1e6 * min(seconds) / CARVED}


def training(arch: str, name: str, params: PohScaling, mazes: Mazes, repeats: int) -> Iterator[dict[str, Any]]:
    """Rows of one step each on the same mazes, ours and theirs by turns, after an untimed one."""
    steps = {"ours": _our_step(arch, params, name, mazes), "theirs": _their_step(arch, params, name, mazes)}
    for repeat in range(-1, repeats):
        for who, step in list(steps.items())[:: 1 if repeat % 2 else -1]:  # each goes first as often
            seconds = _seconds(step)
            if repeat >= 0:
                about = {"protocol": "train", "size": name, "arch": arch, "who": who, "repeat": repeat}
                yield about | {"seconds": seconds, "mazes_per_s": len(mazes) / seconds}


def _our_step(arch: str, params: PohScaling, name: str, mazes: Mazes) -> Callable[[], object]:
    """An epoch of one batch, with all that an epoch does; the schedule is too long to matter."""
    model = maze.build(arch, params.shape(name), params.R, params.T, seed=0)
    recipe = Recipe(10**6, len(mazes), params.rate(arch))
    ours = Training(model, mazes, recipe)
    return lambda: ours.run_epoch(lambda: None)


def _their_step(arch: str, params: PohScaling, name: str, mazes: Mazes) -> Callable[[], object]:
    theirs = original.Training(original.Original(arch, params.shape(name), mazes.side, params.R), mazes)
    return lambda: theirs.step(torch.arange(len(mazes)))


def memory(name: str, params: PohScaling) -> Iterator[dict[str, Any]]:
    """Rows of the peak of training steps, in bytes above what the process held before them."""
    for arch in ARMS:
        for who in ("ours", "theirs"):
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as fresh:
                peak = fresh.submit(peak_of_steps, who, arch, name, params).result()
            yield {"protocol": "memory", "size": name, "arch": arch, "who": who, "peak_memory_bytes": peak}


def peak_of_steps(who: str, arch: str, name: str, params: PohScaling) -> int | None:
    """Peak memory of training steps in this process, which should be a fresh one."""
    torch.set_num_threads(1)
    make = {"ours": _our_step, "theirs": _their_step}[who]
    mazes = data.make(params.maze_size, params.batch_size, seed=0)
    make(arch, params, "nano", data.make(4, 1, seed=0))()  # what libraries set up once is not the model's
    step, meter = make(arch, params, name, mazes), PeakMemory(torch.device("cpu"))
    meter.start()
    for _ in range(MEMORY_STEPS):
        step()
    return meter.stop()


def evaluate(params: PohScaling, walks: int) -> dict[str, Any]:
    """The row of walking: their seconds per maze by one forward per step, ours by one forward for all and a walk.

    Both are stacks of the first size, untrained, so their walks are about as long as such walks can be.
    """
    mazes, shape = data.make(params.maze_size, WALKED, seed=0), params.shape(params.size[0])
    theirs = original.Original("stack", shape, mazes.side, params.R)
    ours = maze.build("stack", shape, params.R, params.T, seed=0)
    answer = partial(evaluation.validate, ours, mazes)
    answer(), original.walk(theirs, mazes, WALKED - 1)  # untimed
    seconds = [_seconds(partial(original.walk, theirs, mazes, i)) for i in range(min(walks, WALKED))]
    about = {"protocol": "eval", "size": params.size[0], "n": len(seconds), "theirs_s": statistics.fmean(seconds)}
    about["ours_s"] = statistics.median(_seconds(answer) for _ in range(3)) / WALKED
    return about | {"ratio": about["theirs_s"] / about["ours_s"]}


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
