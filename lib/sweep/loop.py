"""The queue: start cells as there is room, show them, give one whose worker died a second chance, say how each ends."""

import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from lib.console import tail
from lib.sweep.attempts import Attempt
from lib.sweep.board import Board, Line
from lib.sweep.cell import Job, Outcome, Rerun
from lib.sweep.planning import THIS_SWEEP, Task, spell, where

POLL = 0.5  # seconds between looks at the running cells
AWAY = 3.0  # seconds until a cell that another sweep is at is looked at again


class Handle(Protocol):
    """A cell that an executor has taken."""

    task: Task

    def outcome(self) -> Outcome | None: ...

    def stop(self) -> None: ...


class Executor(Protocol):
    """What runs cells: `processes.Processes` or `on_ray.OnRay`."""

    def has_room(self, task: Task, running: Sequence[Task]) -> bool: ...

    def start(self, task: Task, job: Job) -> Handle: ...

    def wait(self, running: Sequence[Handle], seconds: float) -> None: ...

    def close(self) -> None: ...


@dataclass
class Queue:
    """Cells on their way from waiting to ended, and what became of those that did not complete."""

    waiting: deque[Task]
    rerun: Rerun | None
    running: list[tuple[Handle, float]] = field(default_factory=list)  # and when each was started
    away: dict[int, float] = field(default_factory=dict)  # id of a task that another sweep is at: look again then
    retried: set[int] = field(default_factory=set)
    failed: list[tuple[Task, Outcome]] = field(default_factory=list)
    stuck: str = ""  # why nothing can be run any more
    ended: int = 0
    spent: list[float] = field(default_factory=list)  # seconds of the cells that completed here

    @property
    def total(self) -> int:
        return len(self.waiting) + len(self.running) + self.ended


def run_all(tasks: Sequence[Task], executor: Executor, board: Board, rerun: Rerun | None = None) -> Queue:
    """Run the tasks, saying how each ends; returns the queue with what failed. KeyboardInterrupt stops what runs."""
    queue = Queue(deque(tasks), rerun)
    try:
        while queue.waiting or queue.running:
            _start(queue, executor, board)
            if queue.running:
                executor.wait([handle for handle, _ in queue.running], POLL)
            else:
                time.sleep(POLL)  # all that is left is run by another sweep
            _collect(queue, board)
            at_work = _at_work(queue)
            board.show(_lines(at_work), queue.ended, queue.total, len(queue.failed), _left(queue, at_work))
    except KeyboardInterrupt:
        board.say("Stopping what runs; a second Ctrl-C kills it.")
        raise
    finally:
        try:
            for handle, _ in queue.running:
                handle.stop()
            executor.close()
        finally:
            board.close()
    return queue


def _start(queue: Queue, executor: Executor, board: Board) -> None:
    """Start waiting cells in their order, while there is room, leaving aside those that another sweep is at."""
    if queue.stuck:
        queue.waiting.clear()
    for task in list(queue.waiting):
        if _is_away(queue, task):
            continue
        if not executor.has_room(task, [handle.task for handle, _ in queue.running]):
            return
        queue.waiting.remove(task)
        queue.running.append((executor.start(task, task.job(queue.rerun)), time.monotonic()))


def _is_away(queue: Queue, task: Task) -> bool:
    """Whether another sweep is at the cell, looked at now and then: a process only to ask that is costly on Ray."""
    if id(task) not in queue.away:
        return False
    if queue.away[id(task)] > time.monotonic():
        return True
    queue.away[id(task)] = time.monotonic() + AWAY
    return Attempt(task.cell.experiment, task.params).is_claimed()


def _collect(queue: Queue, board: Board) -> None:
    """Take out what has ended."""
    for entry in list(queue.running):
        handle, started = entry
        if (outcome := handle.outcome()) is not None:
            queue.running.remove(entry)
            _end(queue, board, handle.task, outcome, time.monotonic() - started)


def _end(queue: Queue, board: Board, task: Task, outcome: Outcome, seconds: float) -> None:
    """Say what became of a cell, and decide whether it comes again."""
    if outcome.state == "busy":
        if id(task) not in queue.away:
            note = Attempt(task.cell.experiment, task.params).note()
            board.say(f"{task.cell.label} is being run by another sweep on {where(note)}; it is left to that one.")
        queue.away[id(task)] = time.monotonic() + AWAY
        queue.waiting.append(task)
        return
    if outcome.state in ("died", "failed") and not outcome.folder:
        outcome = _noted(task, outcome)
    if outcome.state == "died" and id(task) not in queue.retried:
        board.say(f"{task.cell.label} died after {spell(seconds)} and is tried once more. {outcome.reason}")
        queue.retried.add(id(task))
        queue.waiting.appendleft(task)
        return
    queue.ended += 1
    place = f"{queue.ended} of {queue.total}: {task.cell.label}"
    if outcome.seconds is not None:
        seconds = outcome.seconds
    if outcome.state == "complete":
        if outcome.seconds is not None:  # None: made meanwhile, by another sweep
            queue.spent.append(seconds)
            place += f" after {spell(seconds)}"
        board.say(f"{place} complete: {outcome.folder}" + (f" ({outcome.reason})" if outcome.reason else ""))
        return
    queue.failed.append((task, outcome))
    if outcome.state == "stuck" and not queue.stuck:
        queue.stuck = outcome.reason
    board.say(f"{place} after {spell(seconds)} failed. {outcome.reason}")


def _noted(task: Task, outcome: Outcome) -> Outcome:
    """Note for a process that could not why its cell is not complete; of one that died, tell where its run lies."""
    attempt = Attempt(task.cell.experiment, task.params)
    note = attempt.note() if outcome.state == "died" else None
    if note is not None and note.get("sweep") == THIS_SWEEP and note["folder"]:
        folder = Path(note["folder"])
        reason = f"{outcome.reason}; see {folder / 'log.txt'} and {folder / 'executed.ipynb'}"
        outcome = replace(outcome, folder=str(folder), reason=reason)
    with suppress(OSError), attempt.claimed() as mine:
        if mine:  # else another sweep is at it by now
            attempt.fail(outcome.folder, outcome.reason)
    return outcome


def _at_work(queue: Queue) -> list[tuple[Task, dict[str, Any]]]:
    """The cells at work and their notes, read once; of those that an executor has taken, Ray may hold some back."""
    tasks = [handle.task for handle, _ in queue.running]
    noted = [(task, Attempt(task.cell.experiment, task.params).note()) for task in tasks]
    return [(task, note) for task, note in noted if note is not None and note.get("sweep") == THIS_SWEEP]


def _lines(at_work: list[tuple[Task, dict[str, Any]]]) -> list[Line]:
    """What the board shows of each cell that is at work."""
    lines = []
    for task, note in at_work:
        newest = tail(Path(note["folder"]) / "log.txt") if note["folder"] else ""
        lines.append(Line(task.cell.label, where(note), newest))
    return lines


def _left(queue: Queue, at_work: list[tuple[Task, dict[str, Any]]]) -> float | None:
    """Seconds until the end, by what earlier runs took, or the mean of this sweep's; None while nothing tells."""
    if not queue.spent and not any(handle.task.expected for handle, _ in queue.running):
        return None
    tasks = [*queue.waiting, *(handle.task for handle, _ in queue.running)]
    usual = sum(queue.spent) / len(queue.spent) if queue.spent else 0.0
    gone = {id(task): time.time() - note["started"] for task, note in at_work}
    work = sum(max(0.0, (task.expected or usual) - gone.get(id(task), 0.0)) for task in tasks)
    return work / max(1, len(at_work))
