"""What a sweep would do: its cells, which of them are done, being run or failed before, and how long they may take."""

import os
import re
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lib import runs
from lib.params import NOT_HASHED, ParameterError, Params, config_hash
from lib.presets import Cell
from lib.sweep import attempts
from lib.sweep.cell import Job, Rerun

THIS_SWEEP = f"{socket.gethostname()}:{os.getpid()}"  # goes into the notes of its attempts


@dataclass(frozen=True)
class Task:
    """A cell with its typed parameters and what is known of it so far.

    `done` is its complete run; `note` what the last attempt left where there is none, and `claimed` whether that one is
    still at it; `expected` the seconds that it, or the same with another seed, took before; `lacks` why it could not
    run now.
    """

    cell: Cell
    params: Params
    done: runs.Finished | None = None
    note: dict[str, Any] | None = None
    claimed: bool = False
    expected: float | None = None
    lacks: str = ""

    @property
    def state(self) -> str:
        """One of: left out, running, done, stale, failed, stopped, to run; with what there is to say about it."""
        if reason := self.params.unavailable():
            return f"left out: {reason}"
        if self.claimed:
            return f"running: {where(self.note)}"
        if self.done is not None:
            return f"{'stale' if self.done.stale else 'done'}: {self.done.dir.name}"
        if self.lacks:
            return f"to run, but: {self.lacks}"
        if self.note and "failed" in self.note:
            return f"failed: {self.note['failed']}"
        begun = self.note and self.note["folder"]
        return f"stopped: {Path(begun).name}" if begun else "to run"

    def is_due(self, rerun: Rerun | None) -> bool:
        """Whether to run it: not done, or done and asked for again."""
        if self.params.unavailable():
            return False
        return self.done is None or (rerun is not None and rerun.wants(self.done))

    def looked_up(self, rerun: Rerun | None) -> "Task":
        """The same, with what it lacks: a bridge, a model or a file that it names and that is not there."""
        try:
            if self.is_due(rerun):
                self.params.check_named()
        except ParameterError as error:
            return replace(self, lacks=str(error))
        return self

    def job(self, rerun: Rerun | None) -> Job:
        """What its process needs to know."""
        return Job(self.cell.experiment, self.params.model_dump(mode="json"), self.cell.exclusive, THIS_SWEEP, rerun)


def plan(cells: list[Cell], runs_dir: str = "") -> list[Task]:
    """Resolve every cell, so that a wrong parameter shows before the first run, and look up what is known of each."""
    if any(cell.params.keys() & {"run_dir", "runs_dir"} for cell in cells):
        raise ParameterError("A sweep makes a folder for each run; to put them elsewhere, type --runs-dir DIR.")
    tasks = []
    for experiment in dict.fromkeys(cell.experiment for cell in cells):
        finished = runs.finished(experiment, runs_dir)
        done = {run.metrics["config_hash"]: run for run in finished}
        notes, expected = attempts.notes(experiment, runs_dir), _durations(finished)
        for cell in (c for c in cells if c.experiment == experiment):
            params = cell.resolved().model_copy(update={"runs_dir": runs_dir})
            key = config_hash(params)
            note = notes.get(key)
            claimed = note is not None and attempts.Attempt(experiment, params).is_claimed()
            tasks.append(Task(cell, params, done.get(key), note, claimed, expected(params)))
    return tasks


def _durations(finished: list[runs.Finished]) -> Callable[[Params], float | None]:
    """Seconds that a configuration took, else the median over runs that differ from it in the seed alone."""
    exact = {run.metrics["config_hash"]: run.metrics.get("seconds") for run in finished}
    alike: dict[str, list[float]] = {}
    for run in finished:
        if isinstance(seconds := run.metrics.get("seconds"), int | float):
            alike.setdefault(_but_seed(run.metrics["config"]), []).append(seconds)

    def expected(params: Params) -> float | None:
        seconds = exact.get(config_hash(params))
        others = alike.get(_but_seed(params.model_dump(mode="json")))
        return seconds if seconds is not None else statistics.median(others) if others else None

    return expected


def _but_seed(config: dict[str, Any]) -> str:
    return repr(sorted((k, v) for k, v in config.items() if k not in NOT_HASHED | {"seed"}))


def where(note: dict[str, Any] | None) -> str:
    """The place of an attempt: host, devices, process, and for how long."""
    if not note:
        return "just started"
    devices = f", GPU {note['gpus']}" if note.get("gpus") else ""
    waits = "" if note["folder"] else ", waiting for the machine"
    seconds = max(0.0, time.time() - note.get("started", time.time()))  # the clock may have been set back
    return f"{note.get('host')}{devices} (process {note.get('pid')}), {spell(seconds)}{waits}"


def spell(seconds: float) -> str:
    """A duration as people say it: 45 s, 12 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 100 * 60 else f"{seconds / 3600:.1f} h"


def table(tasks: list[Task]) -> str:
    """The cells as text, one line each: what varies, GPUs, whether it runs alone, expected time, state."""
    width = max((len(task.cell.label) for task in tasks), default=len("run"))
    lines = [f"{'run':{width}} {'GPUs':>4}  {'beside others':13}  {'expected':>8}  state"]
    for task in tasks:
        beside = "no" if task.cell.exclusive else "yes"
        expected = "" if task.expected is None else spell(task.expected)
        lines.append(f"{task.cell.label:{width}} {task.cell.gpus:>4g}  {beside:13}  {expected:>8}  {task.state}")
    return "\n".join(lines)


def total(tasks: Iterable[Task], rerun: Rerun | None) -> str:
    """One line: how many cells are in which state, and what those to run would take one after another."""
    tasks = list(tasks)
    counts: dict[str, int] = {}
    for task in tasks:
        name = re.split("[:,]", task.state)[0]
        counts[name] = counts.get(name, 0) + 1
    due = [task for task in tasks if task.is_due(rerun) and not task.claimed]
    known = [task.expected for task in due if task.expected is not None]
    line = ", ".join(f"{n} {name}" for name, n in counts.items()) or "no cell"
    if not due or not known:
        return line
    unknown = f" and {len(due) - len(known)} that never ran" if len(known) < len(due) else ""
    return f"{line}; about {spell(sum(known))} for those to run, one after another{unknown}"
