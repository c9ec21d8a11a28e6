"""Cells in processes of this machine, one after another or `--jobs` beside each other.

Processes are forked from a server that has imported what every cell needs, so that starting one costs milliseconds
instead of the seconds that importing Jupyter takes; Windows starts each afresh. Where several cells will import torch,
the server does, too, and their kernels have it from there (`lib.forked_kernel`).
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection

from lib import forked_kernel, notebooks, paths
from lib.sweep.cell import Job, Outcome, print_into_log, run_cell
from lib.sweep.planning import Task

GRACE = 15.0  # seconds a stopped cell has to shut its kernel down, which gives itself 5
PRELOADED = ["papermill", "nbclient", "ipykernel.kernelapp", "lib.kernel", "lib.sweep.cell", "lib.sweep.processes"]
# What cells with a model import. No matplotlib: what it draws with is decided when it is imported.
MODELS = ["numba", "scipy.stats", "pandas", "torch", "transformers.models.qwen2.modeling_qwen2"]
SOCKET_PATH = 70  # bytes a folder's path may have for the server's socket in it; the system's limit is 104 or 108


class Process:
    """A cell at work in its own process."""

    def __init__(self, task: Task, job: Job, context: multiprocessing.context.BaseContext) -> None:
        self.task = task
        self._told, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(job, theirs))
        self.process.start()
        theirs.close()

    def outcome(self) -> Outcome | None:
        """What became of the cell, or None while it is at work."""
        if self.process.is_alive():
            return None
        with self._told:
            if self._told.poll():  # also at the end of the pipe; not where only the server died, and the cell lives on
                with suppress(EOFError):
                    return self._told.recv()
        return Outcome("died", reason=f"The run's process {_end(self.process.exitcode)}")

    def stop(self) -> None:
        """Ask the process to end, its kernel first."""
        self.process.terminate()


class Processes:
    """At most `jobs` cells at once, and nothing beside a cell that measures time."""

    def __init__(self, jobs: int, due: Sequence[Task] = ()) -> None:
        """`due`: the cells that are to be run."""
        self.jobs = jobs
        self._started: list[Process] = []
        short = len(os.fsencode(tempfile.gettempdir())) <= SOCKET_PATH
        self._forks = "forkserver" in multiprocessing.get_all_start_methods() and short
        self._context = multiprocessing.get_context("forkserver" if self._forks else "spawn")
        if self._forks:
            self._context.set_forkserver_preload(PRELOADED + (MODELS if sum(map(_has_model, due)) > 1 else []))

    def has_room(self, task: Task, running: Sequence[Task]) -> bool:
        """Whether the cell may start beside those running."""
        if not running:
            return True
        return len(running) < self.jobs and not any(other.cell.exclusive for other in (task, *running))

    def start(self, task: Task, job: Job) -> Process:
        """Start a cell; OSError where the system gives no process, also after the server was started anew."""
        self._started = [process for process in self._started if process.process.is_alive()]
        try:
            self._started.append(self._start(task, job))
        except (EOFError, OSError):  # the server was killed this moment
            self._started.append(self._start(task, job))
        return self._started[-1]

    def _start(self, task: Task, job: Job) -> Process:
        if self._forks:
            _start_server()
        return Process(task, job, self._context)

    def wait(self, running: Sequence[Process], seconds: float) -> None:
        """Return when one of the processes has ended, or after `seconds`."""
        multiprocessing.connection.wait([process.process.sentinel for process in running], timeout=seconds)

    def close(self) -> None:
        """Wait until those that were stopped have ended; a second Ctrl-C kills them."""
        try:
            deadline = time.monotonic() + GRACE
            for process in self._started:
                process.process.join(max(0.0, deadline - time.monotonic()))
        finally:
            for process in self._started:
                process.process.kill()


def _has_model(task: Task) -> bool:
    """Whether the cell's notebook imports torch and has no GPU, which is another process's affair."""
    try:
        cells = notebooks.code_cells(paths.NOTEBOOKS / f"{task.cell.experiment}.ipynb")
    except (OSError, ValueError):  # the cell itself will say so
        return False
    return not task.cell.gpus and any("import torch" in cell.splitlines() for cell in cells)


def _start_server() -> None:
    """Have the server run, deaf to Ctrl-C from birth: it reaches every process of a terminal, and only we answer it.

    What it imports is told to use one thread, as the kernels that are forked from it do.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    environment = dict(os.environ)
    os.environ.update(dict.fromkeys(notebooks.THREAD_VARIABLES, "1"))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(environment)
        signal.signal(signal.SIGINT, before)


def _end(code: int | None) -> str:
    """How a process ended, after the words "The run's process"."""
    if code is not None and code < 0:
        return f"was killed by signal {-code}, perhaps because memory ran out"
    return f"ended with exit code {code}"


def _work(job: Job, tell: Connection) -> None:
    """The process: run the cell, tell the outcome."""
    forked_kernel.prepare()  # before anything of this process that it should not have
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # unwinds, so that the kernel is shut down
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the sweep decides what Ctrl-C stops
    threading.Thread(target=_end_with_parent, daemon=True).start()
    tell.send(run_cell(job, opened=print_into_log))


def _end_with_parent() -> None:
    """Stop when the sweep is gone, even killed: a resumed cell must run alone."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
