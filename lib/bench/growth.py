"""How each arm's cost grows: seconds, token-forwards and KV bytes against N, P, L and prompts decoded together.

One quantity is varied at a time around a base (N = 20 samples, P = 200 prompt tokens, L = 30 new tokens, one prompt).
Stop ids are off, so that every sample has exactly L tokens and a point measures the size its label says.

P goes to 2000, twice the ladder's 1024 positions. The trained weights are kept and only `max_position_embeddings` is
raised (rotary angles are computed, not stored): what a forward costs does not depend on what it says. What a tree costs
does, through its live prefixes, so those are measured at every point. Entropy rises beyond the first 256 positions,
which are all that the ladder was trained on; a tree merges less there than it would with a model at home in long
prompts, so its gain at large P is rather under- than overstated.

The first pass of each arm's base point is always run, whatever the budget. The other passes are chosen before they are
run: the seconds of each are foretold from that one (prefill and decode each in proportion to its tokens), first passes
before repeats and cheap before dear, until the time budget is spent. A point that got no pass is stored as a row
without seconds. Chosen passes run in shuffled order; slow arms run once.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pandas as pd
import torch
import typer
from torch import LongTensor
from tqdm import tqdm

from lib import generators, presets, runs
from lib.bench import report, throughput
from lib.data.prompts import natural_prompts
from lib.generators.common import Output, SamplingParams
from lib.generators.comparison import SLOW_ARMS
from lib.models import hub
from lib.params import config_hash, resolve

EXPERIMENT = "bench/growth"
BASE = {"N": 20, "P": 200, "L": 30, "prompts": 1}
AXES = {
    "N": (1, 2, 5, 10, 20, 50, 100, 200),
    "P": (50, 100, 200, 500, 1000, 2000),
    "L": (10, 20, 30, 50, 100, 200),
    "prompts": (1, 2, 4, 8, 16, 32, 64),
}
ARMS = ("naive", "hf", "batched", "bifurcated", "eab", "tree")
TOGETHER = tuple(arm for arm in ARMS if arm in throughput.ARMS)
COSTS = ("wall_s", "prefill_s", "token_forwards", "prefill_tokens", "decode_tokens", "kv_bytes")
UNSHARED = ("naive", "hf")  # prefill the prompt once per sample
WARM_LENGTH = 4  # new tokens of an untimed pass


@dataclass(frozen=True)
class Point:
    """One arm at one size: `n` samples of `length` new tokens for each of `prompts` prompts of `prompt_tokens`."""

    arm: str
    n: int
    prompt_tokens: int
    length: int
    prompts: int

    def places(self) -> list[tuple[str, int]]:
        """The axes this point lies on, with its value there: all of them for the base point, else one."""
        sizes = dict(zip(BASE, (self.n, self.prompt_tokens, self.length, self.prompts), strict=True))
        off = [axis for axis in BASE if sizes[axis] != BASE[axis]]
        axes = off or [axis for axis in BASE if axis != "prompts" or self.arm in TOGETHER]
        return [(axis, sizes[axis]) for axis in axes]

    def foretold(self, base: Output) -> float:
        """Seconds, if prefill and decode each cost in proportion to their tokens. `base`: the arm's own base point."""
        prefills = self.prompts * self.prompt_tokens / BASE["P"]
        prefills *= self.n / BASE["N"] if self.arm in UNSHARED else 1
        decodes = self.prompts * self.n * max(self.length - 1, 1) / (BASE["N"] * (BASE["L"] - 1))
        return base.cost.prefill_s * prefills + base.cost.decode_s * decodes


def command(
    model: Annotated[str, typer.Option(help="ladder name, short name, hub id or folder")] = "ladder-1m",
    repeats: Annotated[int, typer.Option(min=1, help="timed passes of each fast arm at most")] = 3,
    budget: Annotated[
        float, typer.Option(min=1, help="seconds of timed passes; points beyond it are listed as skipped")
    ] = 150,
    keep: Annotated[bool, typer.Option("--keep", help="measure nothing where a run of this code has")] = False,
    runs_dir: Annotated[str, typer.Option(help="put the run here instead of runs/")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Cost against N, P, L and prompts decoded together, one at a time around N=20, P=200, L=30; stop ids are off.

    Keys of the JSON object: skipped (the points left out to keep to the budget), seconds, token_forwards, kv_bytes
    (each axis -> arm -> value -> number, of the whole job). One pass of every arm at N=20, P=200, L=30 is always run.
    """
    quick = next(cell.params for cell in presets.cells("1a3_scaling", "quick"))
    arms = list(ARMS)
    own = {"model": model, "prompts": 1, "repeats": repeats, "arms": arms, "preset": "", "label": ""}
    asked = quick | own | {"runs_dir": runs_dir}
    done = runs.complete_with(EXPERIMENT, config_hash(resolve(EXPERIMENT, asked)), runs_dir) if keep else []
    if done and not done[-1].stale:
        print(f"Done already: {done[-1].dir}")
        return
    rows = measure(runs.open_run(EXPERIMENT, asked), budget)
    for axis, part in rows.groupby("axis", sort=False):
        seconds = part.pivot_table(index="arm", columns="value", values="wall_s", aggfunc="median")
        seconds = seconds.reindex([arm for arm in arms if arm in seconds.index])
        print(f"\nSeconds against {axis}\n{seconds.round(3).to_string(na_rep='')}")
    report.end(summary(rows), as_json)


def measure(run: runs.Run, budget: float) -> pd.DataFrame:
    """Measure every point that fits the budget (seconds) and finish the run; one row per place of a point and pass, by
    axis, arm, value and repeat.
    """
    p = run.params
    torch.set_num_threads(p.threads)
    with hub.loaded(p.model, dtype=p.dtype, device=p.device, load_format=p.load_format) as lm:
        _allow(lm, max(AXES["P"]) + max(AXES["L"]))
        job = _Job(lm, SamplingParams(**p.model_dump(include=set(SamplingParams.__annotations__))), p.seed)
        done, chosen, skipped = job.plan(p.arms, p.repeats, budget)
        timed = [(point, job.cost([output]) | {"repeat": 0}) for point, output in done.items()]
        for point, repeat in tqdm(chosen, desc="timed passes", unit="pass"):
            timed.append((point, job.cost(job.run(point)) | {"repeat": repeat}))
        untimed = [(point, dict.fromkeys([*COSTS, "repeat"])) for point in skipped]
        about = {"model": lm.name, "parameters": lm.parameters, "dummy": lm.dummy}
        rows = [_row(point, place) | about | cost for point, cost in timed + untimed for place in point.places()]
    rows.sort(key=_place_in_table)
    for row in rows:
        run.measure(**row)
    table = pd.DataFrame(rows)
    run.finish(summary(table))
    return table


def points(arms: Sequence[str]) -> list[Point]:
    """Every point of the grid once, base points first."""
    sizes = [BASE, *(BASE | {axis: value} for axis, values in AXES.items() for value in values)]
    found = [Point(arm, *size.values()) for size in sizes for arm in arms if size["prompts"] == 1 or arm in TOGETHER]
    return list(dict.fromkeys(found))


def choose(
    seconds: dict[Point, float], repeats: int, budget: float, done: Collection[Point] = ()
) -> tuple[list[tuple[Point, int]], list[Point]]:
    """Passes (point, repeat) that fit the budget, first passes before repeats and cheap before dear; and the points
    that got none. `seconds` foretells one pass of each point; `done`: points whose first pass has been run.
    """
    passes = [(p, r) for p in seconds for r in range(p in done, 1 if p.arm in SLOW_ARMS else repeats)]
    chosen: list[tuple[Point, int]] = []
    for point, repeat in sorted(passes, key=lambda pass_: (pass_[1], seconds[pass_[0]])):
        if seconds[point] <= budget:
            budget -= seconds[point]
            chosen.append((point, repeat))
    return chosen, [point for point in seconds if point not in done and (point, 0) not in chosen]


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """The JSON object: the skipped points in words, and medians over repeats, axis -> arm -> value -> number, in the
    order of the rows.
    """
    missed = rows[rows.wall_s.isna()]
    found: dict[str, Any] = {"skipped": [f"{r.arm} at {r.axis} = {r.value}" for r in missed.itertuples()]}
    names = {"seconds": "wall_s", "token_forwards": "token_forwards", "kv_bytes": "kv_bytes"}
    for key, column in names.items():
        medians = rows[rows.wall_s.notna()].groupby(["axis", "arm", "value"], sort=False)[column].median()
        found[key] = {}
        for (axis, arm, value), number in medians.items():
            found[key].setdefault(axis, {}).setdefault(arm, {})[str(value)] = float(number)
    return found


class _Job:
    """A loaded model, the law it draws from, and the prompts of each length."""

    def __init__(self, lm: hub.LoadedModel, law: SamplingParams, seed: int) -> None:
        self._lm, self._law, self._seed = lm, law, seed
        self._prompts: dict[int, list[LongTensor]] = {}

    def plan(
        self, arms: Sequence[str], repeats: int, budget: float
    ) -> tuple[dict[Point, Output], list[tuple[Point, int]], list[Point]]:
        """The base pass of every arm, run; what `choose` finds for the rest of the budget, passes in shuffled order."""
        grid = points(arms)
        for point in sorted(grid, key=lambda p: -p.prompts):  # before anything is timed
            self._of_length(point.prompt_tokens, point.prompts)
        base = {point.arm: point for point in grid[: len(arms)]}
        for point in base.values():
            self._warm_up(point)
        done = {point: self.run(point)[0] for point in base.values()}
        seconds = {point: point.foretold(done[base[point.arm]]) for point in grid}
        left = budget - sum(output.cost.wall_s for output in done.values())
        chosen, skipped = choose(seconds, repeats, left, done)
        random.Random(self._seed).shuffle(chosen)
        return done, chosen, skipped

    def _warm_up(self, base: Point) -> None:
        """Short untimed passes of an arm in every family of shapes that may be set up or compiled apart."""
        together = (1, 2) if base.arm in TOGETHER else (1,)
        for n, prompts in itertools.product((1, base.n), together):
            self.run(replace(base, n=n, prompts=prompts, length=WARM_LENGTH))

    def run(self, point: Point) -> list[Output]:
        law = replace(
            self._law, num_samples=point.n, max_new_tokens=point.length, prompts_together=point.prompts, stop_ids=()
        )
        prompts = self._of_length(point.prompt_tokens, point.prompts)
        seeds = [self._seed + i for i in range(len(prompts))]
        return generators.get(point.arm)(self._lm.model, prompts, law, seeds)

    @staticmethod
    def cost(outputs: list[Output]) -> dict[str, float]:
        """Cost of the whole job: what outputs of one group share is counted once."""
        return {name: sum(getattr(o.cost, name) / o.shared_by for o in outputs) for name in COSTS}

    def _of_length(self, tokens: int, count: int) -> list[LongTensor]:
        if len(self._prompts.get(tokens, [])) < count:
            made = natural_prompts(self._lm.tokenizer, count, tokens, self._seed)
            self._prompts[tokens] = [torch.tensor(prompt.ids, device=self._lm.device) for prompt in made]
        return self._prompts[tokens][:count]


def _allow(lm: hub.LoadedModel, positions: int) -> None:
    """Let the loaded model read so many positions; its folder is not touched."""
    lm.model.config.max_position_embeddings = max(lm.model.config.max_position_embeddings, positions)
    lm.tokenizer.model_max_length = max(lm.tokenizer.model_max_length, positions)


def _row(point: Point, place: tuple[str, int]) -> dict[str, Any]:
    sizes = {"num_samples": point.n, "prompt_tokens": point.prompt_tokens, "max_new_tokens": point.length}
    return {"axis": place[0], "value": place[1], "arm": point.arm} | sizes | {"prompts": point.prompts}


def _place_in_table(row: dict[str, Any]) -> tuple[int, int, int, int]:
    """Sorts rows by axis, arm, value and repeat, whatever the order in which they were measured."""
    return list(AXES).index(row["axis"]), ARMS.index(row["arm"]), row["value"], row["repeat"] or 0
