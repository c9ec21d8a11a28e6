"""What happens inside a cell's process: claim the cell, wait for the machine, execute the notebook, tell what came."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from lib import notebooks, paths, runs
from lib.notebooks import KernelDied, NotebookError
from lib.params import ParameterError, Params, config_hash, resolve
from lib.sweep import attempts

Which = Literal["stale", "all"]


@dataclass(frozen=True)
class Rerun:
    """Which complete runs are made again: those whose code has changed, or all but what was finished after `since`."""

    which: Which
    since: datetime | None = None

    def wants(self, run: runs.Finished) -> bool:
        """Whether to make this run again."""
        return run.stale if self.which == "stale" else self.since is None or run.ended <= self.since


@dataclass(frozen=True)
class Job:
    """A cell as it travels to its process: plain values only."""

    experiment: str
    parameters: dict[str, Any]
    exclusive: bool
    sweep: str  # whose it is: host and process of the sweep
    rerun: Rerun | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a cell.

    `complete`, now or meanwhile by another sweep; `failed`: its notebook or its folder says why; `died`: the process or
    the kernel went without a word; `busy`: another sweep is at it; `stuck`: nothing can be written, for no cell.
    """

    state: Literal["complete", "failed", "died", "busy", "stuck"]
    folder: str = ""
    reason: str = ""
    seconds: float | None = None  # of the work itself, without waiting for the machine


def run_cell(job: Job, opened: Callable[[Path], None]) -> Outcome:
    """Run one cell; `opened` is called with its run folder before anything is printed."""
    params = resolve(job.experiment, job.parameters)
    try:
        attempt = attempts.Attempt(job.experiment, params)
        with attempt.claimed() as mine:
            if not mine:
                return Outcome("busy")
            if done := _meanwhile(job, params):
                return Outcome("complete", str(done.dir), "made meanwhile")
            with attempts.machine(job.exclusive, waits=lambda: attempt.wait(job.sweep)):
                return _execute(job, params, attempt, opened)
    except ParameterError as error:
        return Outcome("failed", reason=str(error))
    except runs.StorageError as error:
        return Outcome("stuck", reason=str(error))
    except OSError as error:
        return Outcome("stuck", reason=f"Nothing can be written: {error}.")


def _meanwhile(job: Job, params: Params) -> runs.Finished | None:
    """The complete run that another sweep made of this cell since this one was planned."""
    found = runs.complete_with(job.experiment, config_hash(params), params.runs_dir)
    return next((run for run in reversed(found) if not (job.rerun and job.rerun.wants(run))), None)


def _execute(job: Job, params: Params, attempt: attempts.Attempt, opened: Callable[[Path], None]) -> Outcome:
    """Make the run folder and run the notebook into it; the run is complete if metrics.json says so, and only then."""
    started = time.monotonic()
    folder = runs.prepare(job.experiment, params)
    attempt.begin(folder, job.sweep)
    opened(folder)
    problem = _problem(paths.NOTEBOOKS / f"{job.experiment}.ipynb", params, folder)
    seconds = time.monotonic() - started
    if (folder / "metrics.json").exists():
        attempt.clear()
        return Outcome("complete", str(folder), f"afterwards: {problem[1]}" if problem else "", seconds)
    state, reason = problem or ("failed", f"The notebook ended without runs.finish; see {folder}")
    attempt.fail(str(folder), reason)
    return Outcome(state, str(folder), reason, seconds)


def _problem(notebook: Path, params: Params, folder: Path) -> tuple[Literal["failed", "died"], str] | None:
    """Run the notebook; what went wrong in it or around it."""
    try:
        notebooks.execute(notebook, params, params.model_dump(mode="json"), folder, progress_bar=False)
    except KernelDied as error:  # ends with the log's path
        return "died", f"{error} and {folder / 'executed.ipynb'}"
    except NotebookError as error:
        return "failed", str(error)
    except OSError as error:
        return "failed", f"The output of {folder} could not be written ({error}); make room there, then start again."
    return None


def print_into_log(folder: Path) -> None:
    """Send what this process prints, and libraries below Python in it, to the run's log.txt."""
    with (folder / "log.txt").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
