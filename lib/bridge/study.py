"""One run of the bridge experiment: a configuration trained on every seed, judged, and laid beside the text arms.

A training is kept in the cache with its curve and two sets of weights, those of its end and those that early stopping
keeps, so early stopping and decoding hygiene are crossed in afterwards on the same weights. `lib.bridge.worker` does
the training itself, in this process or in several.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from lib.bridge import arms, evaluation, stored, worker
from lib.bridge.pair import Encoded, Pair, encode
from lib.bridge.tasks import TASKS, Item, Task
from lib.bridge.worker import Job
from lib.metrics import messages
from lib.models.bridge import Bridge
from lib.params.bridge import Bridge as Params

PREFIX = "prefix_text"
FINAL, BEST = "final", "best"
FEW = 300  # items of a split beside the test one


@dataclass(frozen=True)
class Subject:
    """A trained bridge of a run: its weights at the end and at the best evaluation, and the record of its training."""

    bridge: Bridge
    weights: dict[str, dict[str, Tensor]]  # by checkpoint
    record: dict[str, Any]  # curve, best_step, stop_step, train_s, peak_memory_bytes

    def at(self, checkpoint: str) -> Bridge:
        """The bridge with the weights of `final` or `best`."""
        self.bridge.load_state_dict(self.weights[checkpoint])
        return self.bridge.eval()

    @property
    def same(self) -> bool:
        """Whether both checkpoints are one."""
        return self.record["best_step"] == self.record["curve"][-1]["step"]


def run(params: Params, pair: Pair, respond: Callable[..., None], folder: Path) -> Iterator[dict[str, Any]]:
    """Train and judge a configuration; yields measurement rows, those of a seed as soon as it is trained.

    respond: called with what the target wrote to every test item, per seed. The bridge of the first seed is saved in
    `folder` with its configuration.
    """
    job, task = Job.of(params), TASKS[params.task]
    test = encode(pair, task, items(params, "test"))
    yield from arms.told(arms.text_rows(pair, test, params.soft_tokens), respond)
    for arm in ("constant", PREFIX):
        tuned = trained(pair, job.tuned(arm))
        yield from arms.told(arms.tuned_rows(pair, test, arm, tuned.at(BEST)), respond)
    shifted = {split: encode(pair, task, items(params, split)) for split in task.shifts}
    for split, encoded in shifted.items():
        rows = arms.text_rows(pair, encoded, params.soft_tokens, ["target_alone"])
        for row in arms.told(rows, respond, split=split):
            yield row | {"protocol": "shift", "split": split}
    for seed in params.seed:
        subject = trained(pair, job.of_seed(seed))
        if seed == params.seed[0]:
            stored.save(folder, subject.at(kept(params)), params, pair, kept(params), seed)
        yield from _rows(params, pair, test, shifted, subject, respond, seed)


def items(params: Params, split: str) -> list[Item]:
    """The items of a split; the splits beside the test one have FEW at most."""
    counts = {"train": params.train, "validation": params.validation, "test": params.test}
    return TASKS[params.task].load(split, counts.get(split, min(params.test, FEW)), params.data)


def trained(pair: Pair, job: Job) -> Subject:
    """The bridge of a job: out of the cache, or trained now, with a progress bar."""
    place = worker.folder(pair, job)
    weights = {name: load_file(place / f"{name}.safetensors", device=str(pair.target.device)) for name in (FINAL, BEST)}
    record = json.loads((place / "training.json").read_text(encoding="utf-8"))
    return Subject(worker.untrained(pair, job), weights, record)


def kept(params: Params) -> str:
    """The checkpoint that a configuration keeps: the best where it stops early, else the last."""
    return BEST if params.patience else FINAL


def _rows(
    params: Params,
    pair: Pair,
    test: Encoded,
    shifted: dict[str, Encoded],
    subject: Subject,
    respond: Callable[..., None],
    seed: int,
) -> Iterator[dict[str, Any]]:
    """The rows of one seed."""
    curve, about = subject.record["curve"], {"seed": seed, "parameters": subject.bridge.parameters_count}
    for row in curve:
        yield {"protocol": "curve"} | about | row
    accuracy: dict[tuple[str, bool], dict[str, Any]] = {}
    for checkpoint in (BEST, FINAL):
        if checkpoint == FINAL and subject.same:
            accuracy |= {(FINAL, hygiene): accuracy[BEST, hygiene] for hygiene in (False, True)}
        else:
            found = arms.message_rows(pair, test, subject.at(checkpoint), "bridged", (False, True), seed)
            for row in arms.told((row | {"checkpoint": checkpoint} for row in found), respond):
                accuracy[checkpoint, row["decode_hygiene"]] = row
        for hygiene in (False, True):
            yield accuracy[checkpoint, hygiene] | about | {"checkpoint": checkpoint}
    own, at = subject.at(kept(params)), {"checkpoint": kept(params)}
    destroyed = [arms.message_rows(pair, test, own, arm, [params.hygiene], seed) for arm in arms.CONTROLS]
    if params.stressor == "leak":
        destroyed.append([arms.leaked_row(pair, test, own, params.hygiene, seed)])
    for row in arms.told((row | at for rows in destroyed for row in rows), respond):
        yield row | about
    yield from (row | about for row in _stability(subject, accuracy, test.task, test.items))
    for split, encoded in shifted.items():
        found = arms.message_rows(pair, encoded, own, "bridged", [params.hygiene], seed)
        for row in arms.told((row | at for row in found), respond, split=split):
            yield row | about | {"protocol": "shift", "split": split}
    spent = {"train_s": subject.record["train_s"], "peak_memory_bytes": subject.record["peak_memory_bytes"]}
    yield {"protocol": "cost"} | about | evaluation.costs(pair, own, test) | spent


def _stability(
    subject: Subject, accuracy: dict[tuple[str, bool], dict[str, Any]], task: Task, asked: list[Item]
) -> Iterator[dict[str, Any]]:
    """Peak, end and collapse of a training, with and without early stopping and hygiene."""
    curve, record = subject.record["curve"], subject.record
    varied = messages.distinct([item.gold for item in asked])
    for stopping in (False, True):
        at = next(row for row in curve if row["step"] == record["best_step"]) if stopping else curve[-1]
        for hygiene in (False, True):
            column = "val_accuracy_hygiene" if hygiene else "val_accuracy"
            judged = accuracy[BEST if stopping else FINAL, hygiene]
            peak, final = max(row[column] for row in curve), at[column]
            delta = float("nan") if at["delta_ce"] is None else at["delta_ce"]
            why = messages.collapse(peak, final, delta, judged["distinct"], varied)
            yield {
                "protocol": "stability",
                "early_stopping": stopping,
                "decode_hygiene": hygiene,
                "peak": peak,
                "final": final,
                "degradation": peak - final,
                "test_accuracy": judged["accuracy"],
                "n_test": judged["n"],
                "best_step": record["best_step"],
                "stop_step": record["stop_step"],
                "collapsed": bool(why),
                "why": "+".join(why),
            }
