"""Cells in processes of this machine, one after another or `--jobs` beside each other.

Processes are forked from a server that has imported what every cell needs and nothing else (no torch, no threads), so
that starting one costs milliseconds instead of the seconds that importing Jupyter takes; Windows starts each afresh.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection

from lib.sweep.cell import Job, Outcome, print_into_log, run_cell
from lib.sweep.planning import Task

GRACE = 10.0  # seconds a stopped cell has to shut its kernel down
PRELOADED = ["papermill", "nbclient", "lib.kernel", "lib.sweep.cell"]


class Process:
    """A cell at work in its own process."""

    def __init__(self, task: Task, job: Job, context: multiprocessing.context.BaseContext) -> None:
        self.task = task
        self._told, theirs = context.Pipe(duplex=False)
        self._process = context.Process(target=_work, args=(job, theirs))
        self._process.start()
        self.sentinel = self._process.sentinel
        theirs.close()

    def outcome(self) -> Outcome | None:
        """What became of the cell, or None while it is at work."""
        if self._process.is_alive():
            return None
        self._process.join()
        try:
            return self._told.recv()
        except EOFError:
            return Outcome("died", reason=f"The run's process ended with exit code {self._process.exitcode}.")
        finally:
            self._told.close()

    def stop(self) -> None:
        """End the process, its kernel first."""
        self._process.terminate()
        self._process.join(GRACE)
        self._process.kill()
        self._process.join()


class Processes:
    """At most `jobs` cells at once, and nothing beside a cell that measures time."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        fork = "forkserver" in multiprocessing.get_all_start_methods()
        self._context = multiprocessing.get_context("forkserver" if fork else "spawn")
        if fork:
            self._context.set_forkserver_preload(PRELOADED)

    def has_room(self, task: Task, running: Sequence[Task]) -> bool:
        """Whether the cell may start beside those running."""
        if not running:
            return True
        return len(running) < self.jobs and not any(other.cell.exclusive for other in (task, *running))

    def start(self, task: Task, job: Job) -> Process:
        return Process(task, job, self._context)

    def wait(self, running: Sequence[Process], seconds: float) -> None:
        """Return when one of the processes has ended, or after `seconds`."""
        multiprocessing.connection.wait([process.sentinel for process in running], timeout=seconds)

    def close(self) -> None:
        """Nothing is left behind: the server ends with this process."""


def _work(job: Job, tell: Connection) -> None:
    """The process: run the cell, tell the outcome."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what stops
    threading.Thread(target=_die_with_parent, daemon=True).start()
    tell.send(run_cell(job, opened=print_into_log))


def _die_with_parent() -> None:
    """End this process, and so its kernel, when the sweep is gone, even killed: a resumed cell must run alone."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
