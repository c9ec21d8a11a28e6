"""Run the cells of a preset: `python -m lib.sweep 1a3_scaling --preset quick`.

Each cell is one notebook executed by papermill in a process of its own, so that memory is given back and a crash stays
where it happened. The parent only waits, shows what the running notebooks print last, and starts the next cell when
there is room; cells that measure time run alone. A cell that cannot be had at all, such as a method that its engine
lacks, is left out with the reason. Nothing is remembered between sweeps: a cell is done when a complete run of its
configuration lies in the runs folder, so a sweep that was stopped resumes by being started again.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Literal

import typer
from tqdm import tqdm

from lib import console, notebooks, paths, presets, runs
from lib.notebooks import NotebookError
from lib.params import ParameterError, Params, config_hash
from lib.presets import Cell

POLL = 0.5  # seconds between looks at the running cells
GRACE = 10.0  # seconds a stopped cell has to shut its kernel down


@dataclass(frozen=True)
class Task:
    """A cell with its typed parameters and what is known of it so far."""

    cell: Cell
    params: Params
    done: runs.Finished | None

    @property
    def state(self) -> str:
        """to run, done, stale or left out, as `--dry-run` shows it."""
        if reason := self.params.unavailable():
            return f"left out: {reason}"
        if self.done is None:
            return "to run"
        return f"{'stale' if self.done.stale else 'done'}: {self.done.dir.name}"

    def is_due(self, rerun: str | None) -> bool:
        """Whether to run it: not done, or done and asked for again (`rerun` is None, "stale" or "all")."""
        if self.params.unavailable():
            return False
        return self.done is None or rerun == "all" or (rerun == "stale" and self.done.stale)


def plan(cells: list[Cell], runs_dir: str = "") -> list[Task]:
    """Resolve every cell, so that a wrong parameter shows before the first run, and look up which are done."""
    if any(cell.params.keys() & {"run_dir", "runs_dir"} for cell in cells):
        raise ParameterError("A sweep makes a folder for each run; to put them elsewhere, type --runs-dir DIR.")
    done = {
        (experiment, run.metrics["config_hash"]): run
        for experiment in {cell.experiment for cell in cells}
        for run in runs.finished(experiment, runs_dir)
    }
    tasks = []
    for cell in cells:
        params = cell.resolved().model_copy(update={"runs_dir": runs_dir})
        tasks.append(Task(cell, params, done.get((cell.experiment, config_hash(params)))))
    return tasks


class Running:
    """A cell at work in its own process, with its line on the terminal."""

    def __init__(self, task: Task, slot: int) -> None:
        self.task, self.slot = task, slot
        self.folder = runs.prepare(task.cell.experiment, task.params)
        self.started = time.monotonic()
        spawn = multiprocessing.get_context("spawn")
        self._reason, theirs = spawn.Pipe(duplex=False)
        notebook = paths.NOTEBOOKS / f"{task.cell.experiment}.ipynb"
        self.process = spawn.Process(target=_run_cell, args=(notebook, task.params, self.folder, theirs))
        self.process.start()
        theirs.close()
        self._status = console.Status(task.cell.label, position=slot + 1)

    def show(self) -> None:
        """Bring the cell's line up to date with the last thing its notebook printed."""
        self._status.show(console.tail(self.folder / "log.txt"))

    def finish(self) -> str | None:
        """Wait for the process; None when the run is complete, else one sentence about what went wrong."""
        self.process.join()
        self._status.close()
        if (self.folder / "metrics.json").exists():
            return None
        try:
            return self._reason.recv()
        except EOFError:
            return f"The run's process ended with exit code {self.process.exitcode}; see {self.folder / 'log.txt'}"

    def stop(self) -> None:
        """End the process, its kernel first."""
        self._status.close()
        self.process.terminate()
        self.process.join(GRACE)
        self.process.kill()


def _run_cell(notebook: Path, params: Params, folder: Path, reason: Connection) -> None:
    """The child's work: execute the notebook into the prepared folder; a failure is sent back as a sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what stops
    threading.Thread(target=_die_with_parent, daemon=True).start()
    with (folder / "log.txt").open("a") as log:  # for what papermill, the kernel and libraries below Python print
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    try:
        notebooks.execute(notebook, params, params.model_dump(mode="json"), folder, progress_bar=False)
    except NotebookError as error:
        reason.send(str(error))
        sys.exit(1)


def _die_with_parent() -> None:
    """End this process, and so its kernel, when the sweep is gone, even killed: a resumed cell must run alone."""
    multiprocessing.connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def fits(task: Task, running: list[Running], jobs: int) -> bool:
    """Whether a cell may start now: a free slot, and nothing beside a cell that measures time."""
    if not running:
        return True
    return len(running) < jobs and not task.cell.exclusive and not any(r.task.cell.exclusive for r in running)


def run_all(tasks: list[Task], jobs: int) -> int:
    """Run the tasks, at most `jobs` beside each other, saying how each ends; returns the number that failed."""
    waiting, running, failures = list(tasks), [], 0
    bar = tqdm(total=len(tasks), unit="run", disable=not sys.stderr.isatty())
    try:
        while waiting or running:
            while waiting and fits(waiting[0], running, jobs):
                slot = min(set(range(jobs)) - {r.slot for r in running})
                running.append(Running(waiting.pop(0), slot))
            bar.set_description(", ".join(r.task.cell.label for r in running))
            multiprocessing.connection.wait([r.process.sentinel for r in running], timeout=POLL)
            for run in running:
                run.show()
            for run in [r for r in running if not r.process.is_alive()]:
                running.remove(run)
                failures += _report(run, f"{len(tasks) - len(waiting) - len(running)} of {len(tasks)}")
                bar.update()
    finally:
        for run in running:
            run.stop()
        bar.close()
    return failures


def _report(run: Running, place: str) -> bool:
    """Say how a cell ended; whether it failed."""
    problem = run.finish()
    outcome = f"complete: {run.folder}" if problem is None else f"failed. {problem}"
    _say(f"{place}: {run.task.cell.label} after {time.monotonic() - run.started:.0f} s {outcome}")
    return problem is not None


def _say(text: str) -> None:
    """A line on stderr that leaves the bars whole."""
    tqdm.write(text, file=sys.stderr)


def table(tasks: list[Task]) -> str:
    """The cells as text, one line each: what varies, GPUs, whether it runs alone, whether it is done."""
    width = max((len(task.cell.label) for task in tasks), default=len("run"))
    lines = [f"{'run':{width}} {'GPUs':>4}  {'beside others':13}  state"]
    for task in tasks:
        beside = "no" if task.cell.exclusive else "yes"
        lines.append(f"{task.cell.label:{width}} {task.cell.gpus:>4}  {beside:13}  {task.state}")
    return "\n".join(lines)


HELP = """Run the cells of a preset, each as a notebook with a run folder of its own.

Complete runs are kept: a sweep that was stopped, or that failed in places, resumes when it is started again.

\b
Examples:
  python -m lib.sweep 1a3_scaling --preset quick
      every cell of the preset that is not done yet
  python -m lib.sweep 1a3_scaling --preset full --dry-run
      what would run, on how many GPUs, and what is done
  python -m lib.sweep 1a3_scaling --preset full --only model=Qwen2.5-7B
      one model of the grid
  python -m lib.sweep 1a3_scaling --preset quick --set prompts=50
      the same grid with another value
  python -m lib.sweep 2a_specdec --preset full --only group=qwen2_7b --skip method=baseline
      filters of different names must all hold
  python -m lib.sweep 1a3_scaling --preset quick --rerun stale
      again, where the code behind a run has changed since
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Filters = list[str] | None
Rerun = Literal["stale", "all"]


@app.command(help=HELP)
def main(
    experiment: Annotated[
        str, typer.Argument(metavar="EXPERIMENT", help="An experiment: a file of params/ without .yaml.")
    ],
    preset: Annotated[str, typer.Option(help="A preset of params/EXPERIMENT.yaml.")] = "quick",
    only: Annotated[
        Filters, typer.Option(metavar="NAME=VALUE", help="Keep these cells; one name twice: or, two names: and.")
    ] = None,
    skip: Annotated[
        Filters, typer.Option(metavar="NAME=VALUE", help="Drop what --only with these filters would keep.")
    ] = None,
    set_: Annotated[Filters, typer.Option("--set", metavar="NAME=VALUE", help="Give every cell this value.")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Cells beside each other; those that measure time run alone.")] = 1,
    rerun: Annotated[Rerun | None, typer.Option(help="Run again what is done: all, or where code changed.")] = None,
    runs_dir: Annotated[str, typer.Option(help="Put runs here instead of runs/.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and stop.")] = False,
) -> None:
    """The command line; exit codes: 0 every cell is done, 1 some failed, 2 a mistake in the command, 130 Ctrl-C."""
    console.plain_warnings()
    folder = str(Path(runs_dir).expanduser().resolve()) if runs_dir else ""
    try:
        tasks = plan(presets.cells(experiment, preset, only or (), skip or (), set_ or ()), folder)
    except ParameterError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    if not tasks:
        _say("No cell is left after --only and --skip.")
    if dry_run:
        print(table(tasks))
        return
    due = [task for task in tasks if task.is_due(rerun)]
    for task in (t for t in tasks if t not in due):
        stale = task.state.startswith("stale")
        _say(f"{task.cell.label} is {task.state}" + ("; --rerun stale runs it again" if stale else ""))
    try:
        failures = run_all(due, jobs)
    except KeyboardInterrupt:
        _say("Stopped; complete runs are kept, and the same command resumes with the others.")
        raise typer.Exit(130) from None
    if failures:
        _say(f"{failures} of {len(due)} runs failed; the same command tries them again.")
        raise typer.Exit(1)


if __name__ == "__main__":
    app()
