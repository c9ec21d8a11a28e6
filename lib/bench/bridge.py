"""What training and evaluating bridges saves against the loops that one would write first (`bridge_simple`).

| part | arms | measured |
|---|---|---|
| `train` | ours, simple, simple with all ingredients or all but one, Muon | milliseconds per step, in blocks |
| `eval` | ours, simple, with one ingredient left out | milliseconds per item answered |
| `states` | reading | milliseconds per text whose states the source makes, which ours does once |
| `limit` | ours | what a step does beside what the machine can do: `bridge_limits` |

Both sides train the same bridge by AdamW with the same losses on batches of the same size; what Muon costs is a row of
its own. Answers are greedy and have to be the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import pandas as pd
import torch
import typer

from lib import runs
from lib.bench import bridge_limits, bridge_simple
from lib.bench.bridge_simple import INGREDIENTS
from lib.bench.report import end
from lib.bridge import evaluation
from lib.bridge.pair import Encoded, Pair, encode
from lib.bridge.tasks import TASKS
from lib.bridge.worker import Job, untrained
from lib.models import bridge_losses, bridge_training
from lib.models.bridge import Bridge
from lib.models.bridge_losses import Recipe
from lib.params.bridge import Bridge as Params

STUDY = {"device": "cpu"}  # besides what the command line says
STEPS = 8  # in a block: enough that its batches are of all lengths
ADAMW_RATE = 1e-3  # for both sides; Muon's would make AdamW diverge
SINGLY = 8  # items that are answered one by one in a repeat
EQUAL = 0.95  # share of answers that have to be the same: batches round otherwise, which may settle a tie
Side = Callable[[int], float]  # from a repeat to milliseconds per step or item

# Of each ratio: part, ingredient ("" = all of them), the arm that has it, the arm that has not.
COMPARED = [
    ("train", "", "ours", "simple"),
    *(("train", name, "all", f"without_{name}") for name in INGREDIENTS),
    ("train", "rest", "ours", "all"),
    ("train", "muon", "muon", "ours"),
    ("eval", "", "ours", "simple"),
    ("eval", "cached_states", "ours", "without_cached_states"),
    ("eval", "batched_generation", "ours", "without_batched_generation"),
]


def command(
    task: Annotated[str, typer.Option(help="what is asked: arithmetic or multihop")] = "arithmetic",
    source: Annotated[str, typer.Option(help="model that reads: name, hub id or folder")] = "bridge-source",
    target: Annotated[str, typer.Option(help="model that answers: name, hub id or folder")] = "bridge-target",
    repeats: Annotated[int, typer.Option(min=1, help="timed blocks of each arm")] = 5,
    items: Annotated[int, typer.Option(min=2, help="test items that are answered together")] = 256,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Training and evaluation of bridges against straightforward loops, on one CPU thread.

    Keys of the JSON object: train_vs_simple_loop (their time over ours for a first training with its evaluations),
    step_vs_simple_loop (one step of it), eval_vs_simple_loop (an item answered), train_ingredients and
    eval_ingredients (ingredient -> the time without it over the time with it; `muon` over AdamW is below 1 where it
    costs, `rest` is what no ingredient explains), equal_answers (share), and limit (what a step does, what the machine
    can do, and which of arithmetic, memory and calls takes the longest).
    """
    raw = {"task": task, "source": source, "target": target, "test": items} | STUDY
    torch.set_num_threads(1)
    run = runs.open_run("bench/bridge", raw)
    rows = []
    for row in measure(run.params, repeats):
        rows.append(row)
        run.measure(**row)
    table = pd.DataFrame(rows)
    for found in ratios(table):
        run.measure(**found)
    report = summary(table, run.params)
    shown = pd.DataFrame(ratios(table)).drop(columns="protocol")
    print(f"{shown.round(2).to_string(index=False)}\n")
    print(pd.Series(report["limit"]).to_string(float_format="{:.3g}".format))
    run.finish(report)
    end(report, as_json)


def measure(params: Params, repeats: int) -> Iterator[dict[str, Any]]:
    """Every row, part by part; raises RuntimeError where the two sides answer differently."""
    job, task = Job.of(params), TASKS[params.task]
    pair = job.pair()
    examples = encode(pair, task, task.load("train", params.train, params.data))
    tested = encode(pair, task, task.load("test", params.test, params.data))
    recipe = replace(job.recipe(), steps=STEPS, evaluations=1, info_nce_from=0)
    bridges = {arm: untrained(pair, job) for arm in ("ours", "muon")}
    sides = _our_training(pair, examples, recipe, bridges) | _simple_training(pair, examples, recipe, job)
    timed = list(by_turns("train", sides, repeats))
    yield from timed
    answers = Answers(pair, bridges["muon"].eval(), tested)
    yield from by_turns("eval", answers.sides(), repeats)
    yield {"protocol": "equal", "equal": answers.equal()}
    yield from by_turns("states", {"reading": _reading(pair, examples, params.batch_size)}, repeats)
    with bridge_limits.Work() as work:
        sides["ours"](repeats)
    fastest = min(row["ms"] for row in timed if row["arm"] == "ours")  # as the machine's rates are
    yield {"protocol": "limit"} | bridge_limits.limit(work, STEPS, fastest, bridge_limits.machine())


def by_turns(part: str, sides: dict[str, Side], repeats: int) -> Iterator[dict[str, Any]]:
    """Rows of every side in every repeat, each going first as often, after an untimed one."""
    for repeat in range(-1, repeats):
        for arm, side in list(sides.items())[:: 1 if repeat % 2 else -1]:
            found = side(repeat + 1)
            if repeat >= 0:
                yield {"protocol": "timed", "part": part, "arm": arm, "repeat": repeat, "ms": found}


def _our_training(pair: Pair, examples: Encoded, recipe: Recipe, bridges: dict[str, Bridge]) -> dict[str, Side]:
    """A block of `bridge_training.train` as it is, of which evaluations are no part."""
    recipes = {"ours": replace(recipe, optimizer="adamw", learning_rate=ADAMW_RATE), "muon": recipe}

    def side(arm: str) -> Side:
        def block(repeat: int) -> float:
            found = bridge_training.train(
                bridges[arm],
                pair.reader,
                examples,
                replace(recipes[arm], seed=repeat),
                bridge_losses.message,
                judge=lambda _: {"val_accuracy": 0.0},
                watch=lambda _: (0, None),
                log=lambda _: None,
            )
            return 1e3 * found.seconds / STEPS

        return block

    return {arm: side(arm) for arm in recipes}


def _simple_training(pair: Pair, examples: Encoded, recipe: Recipe, job: Job) -> dict[str, Side]:
    """Blocks of the simple loop: as it is, with all ingredients, and with all but one."""
    given = {"simple": (), "all": INGREDIENTS}
    given |= {f"without_{name}": [other for other in INGREDIENTS if other != name] for name in INGREDIENTS}
    recipe = replace(recipe, learning_rate=ADAMW_RATE)
    loops = {
        arm: bridge_simple.Training(pair, untrained(pair, job), examples, recipe, put) for arm, put in given.items()
    }
    return {arm: lambda repeat, loop=loop: _ms(lambda: loop.run(repeat)) / STEPS for arm, loop in loops.items()}


def _reading(pair: Pair, examples: Encoded, batch_size: int) -> Side:
    reading = bridge_simple.Reading(pair, examples)
    size = min(batch_size, len(examples.items))
    return lambda repeat: _ms(lambda: reading.rows(np.arange(size))) / size


class Answers:
    """Evaluates one bridge in every way, and remembers what was answered."""

    def __init__(self, pair: Pair, bridge: Bridge, tested: Encoded) -> None:
        self.pair, self.bridge, self.tested = pair, bridge, tested
        self.rereading = bridge_simple.rereading(pair, tested)
        self.together: list[str] = []
        self.singly: dict[int, str] = {}

    def sides(self) -> dict[str, Side]:
        """Ours answers all items at once; the simple loop the next SINGLY of them."""
        return {
            "ours": lambda _: self._together(self.tested),
            "without_cached_states": lambda _: self._together(self.rereading),
            "without_batched_generation": lambda repeat: self._singly(self.tested, repeat),
            "simple": lambda repeat: self._singly(self.rereading, repeat),
        }

    def equal(self) -> float:
        """Share of the items answered singly to which both sides say the same; RuntimeError if it is too small."""
        share = float(np.mean([text == self.together[i] for i, text in self.singly.items()]))
        if share < EQUAL:
            raise RuntimeError(
                f"One by one, {1 - share:.0%} of the items were answered otherwise than together, so the two sides do "
                "not do the same work; look for what differs between lib.bridge.decoding and lib.bench.bridge_simple."
            )
        return share

    def _together(self, encoded: Encoded) -> float:
        def work() -> None:
            message = evaluation.sent(self.bridge, encoded)
            self.together = evaluation.answer_messages(self.pair, self.bridge, encoded.task, message, False).texts

        return _ms(work) / len(encoded.items)

    def _singly(self, encoded: Encoded, repeat: int) -> float:
        chosen = [i % len(encoded.items) for i in range(repeat * SINGLY, (repeat + 1) * SINGLY)]

        def work() -> None:
            for i in chosen:
                self.singly[i] = bridge_simple.answer(self.pair, self.bridge, encoded, i)

        return _ms(work) / len(chosen)


def ratios(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Of every comparison: the medians of both arms in milliseconds, and of their ratio within a repeat."""
    timed = table[table.protocol == "timed"].pivot(index="repeat", columns=["part", "arm"], values="ms")
    rows = []
    for part, ingredient, fast, slow in COMPARED:
        ours, simple = timed[part, fast], timed[part, slow]
        about = {"protocol": "ratio", "part": part, "ingredient": ingredient, "ours_ms": float(ours.median())}
        rows.append(about | {"simple_ms": float(simple.median()), "ratio": float((simple / ours).median())})
    return rows


def summary(table: pd.DataFrame, params: Params) -> dict[str, Any]:
    """The JSON object."""
    found = {(row["part"], row["ingredient"]): row["ratio"] for row in ratios(table)}
    parts = {
        f"{part}_ingredients": {name: ratio for (where, name), ratio in found.items() if where == part and name}
        for part in ("train", "eval")
    }
    return {
        "train_vs_simple_loop": whole_training(table, params),
        "step_vs_simple_loop": found["train", ""],
        "eval_vs_simple_loop": found["eval", ""],
        **parts,
        "equal_answers": float(table.equal.dropna().item()),
        "limit": table[table.protocol == "limit"].dropna(axis=1).drop(columns="protocol").iloc[0].to_dict(),
    }


def whole_training(table: pd.DataFrame, params: Params) -> float:
    """Seconds of a first training by the simple loop over ours: steps, and validation items answered at each evaluation
    with and without hygiene; ours also makes all source states once."""
    ms = table[table.protocol == "timed"].groupby(["part", "arm"]).ms.median()
    answered = 2 * (params.evaluations + 1) * params.validation
    simple, ours = (params.steps * ms["train", arm] + answered * ms["eval", arm] for arm in ("simple", "ours"))
    return float(simple / (ours + (params.train + params.validation) * ms["states", "reading"]))


def _ms(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)
