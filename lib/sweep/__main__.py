"""`python -m lib.sweep EXPERIMENT --preset NAME`: run the cells of a preset, or show what there is to run."""

import shlex
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from lib import console, presets, runs
from lib.params import ParameterError
from lib.sweep import on_ray
from lib.sweep.board import Board
from lib.sweep.cell import Rerun, Which
from lib.sweep.loop import Executor, Queue, run_all
from lib.sweep.planning import Task, plan, table, total
from lib.sweep.processes import Processes

STARTED = datetime.now(UTC).isoformat(timespec="seconds")
MOST_SAID = 20  # cells that are not run are named one by one up to here

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
  python -m lib.sweep 3a_poh_scaling --preset full --ray local
      each cell on GPUs of its own, as many beside each other as there are GPUs
  python -m lib.sweep 2a_specdec --preset full --ray auto --runs-dir /shared/runs
      on the Ray cluster this machine belongs to (docs/cluster.md)
  python -m lib.sweep 2a_specdec --preset full --status
      from another terminal: what is running where, what is done, what failed
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
Filters = list[str] | None


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
    ray: Annotated[str, typer.Option(metavar="local|ADDRESS", help="Let Ray place the cells on GPUs.")] = "",
    rerun: Annotated[Which | None, typer.Option(help="Run again what is done: all, or where code changed.")] = None,
    since: Annotated[str, typer.Option(metavar="TIME", help="With --rerun all: keep what was finished later.")] = "",
    runs_dir: Annotated[str, typer.Option(help="Put runs here instead of runs/.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the cells and stop.")] = False,
    status: Annotated[bool, typer.Option("--status", help="Show how far a running sweep of them is.")] = False,
) -> None:
    """The command line; exit codes: 0 every cell is done, 1 some failed, 2 a mistake in the command, 130 Ctrl-C."""
    console.plain_warnings()
    folder = str(Path(runs_dir).expanduser().resolve()) if runs_dir else ""
    try:
        again = _again(rerun, since)
        if ray:
            on_ray.check_form(ray)
        tasks = plan(presets.cells(experiment, preset, only or (), skip or (), set_ or ()), folder)
        if dry_run or status:
            tasks = [task.looked_up(again) for task in tasks]
            print(f"{table(tasks)}\n{total(tasks, again)}")
            return
        due = [task for task in tasks if task.is_due(again)]
        for task in due:
            task.params.check_named()
        _say_found(tasks, due, again)
        if due:
            _finish(_run(due, jobs, ray, again), len(due), again)
    except ParameterError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None


def _again(which: Which | None, since: str) -> Rerun | None:
    """What --rerun and --since ask for; a time without a zone is this machine's."""
    if not since:
        return Rerun(which) if which else None
    if which != "all":
        raise ParameterError("--since says which runs --rerun all has made already; type --rerun all with it.")
    try:
        return Rerun(which, datetime.fromisoformat(since).astimezone())
    except (ValueError, OverflowError):
        raise ParameterError(f"--since {since} is no time; write it like 2026-01-31T09:00.") from None


def _executor(due: list[Task], jobs: int, ray: str) -> Executor:
    """Ray where it is asked for; ParameterError where what is asked for cannot be had."""
    if not ray:
        if jobs > 1 and any(task.cell.gpus for task in due):
            raise ParameterError("--jobs gives no cell a GPU of its own; type --ray local instead.")
        return Processes(jobs, due)
    if jobs > 1:
        raise ParameterError("Ray decides how many cells run beside each other; leave --jobs out.")
    _say("Starting Ray on this machine ..." if ray == "local" else f"Joining the Ray cluster at {ray} ...")
    return on_ray.OnRay(ray, due)


def _say_found(tasks: list[Task], due: list[Task], rerun: Rerun | None) -> None:
    """What the sweep found: each cell that it will not run, or that was begun before, and how many there are."""
    if not tasks:
        _say("No cell is left after --only and --skip.")
    told = [task for task in tasks if task not in due or task.note]
    for task in told if len(told) <= MOST_SAID else [task for task in told if not task.done]:
        stale = task.state.startswith("stale") and task not in due
        _say(f"{task.cell.label} is {task.state}" + ("; --rerun stale runs it again" if stale else ""))
    if len(tasks) > 1:
        _say(total(tasks, rerun))


def _run(due: list[Task], jobs: int, ray: str, rerun: Rerun | None) -> Queue:
    """Run to the end, or to Ctrl-C; a polite kill, such as a batch system's at the time limit, counts as Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        executor = _executor(due, jobs, ray)
        runs.experiment_folder(due[0].cell.experiment, due[0].params.runs_dir).mkdir(parents=True, exist_ok=True)
        return run_all(due, executor, Board(), rerun)
    except KeyboardInterrupt:
        _say(f"Stopped; complete runs are kept, and {_which(rerun)} resumes with the others: {_command(rerun)}")
        raise typer.Exit(130) from None


def _finish(queue: Queue, due: int, rerun: Rerun | None) -> None:
    """Say which cells failed, with the place to look, and how to go on."""
    if not queue.failed:
        return
    for task, outcome in queue.failed if due > 1 else ():
        _say(f"{task.cell.label} failed: {outcome.reason}")
    missing = f" {due - queue.ended} were not begun. " if due > queue.ended else " "
    same = _which(rerun).capitalize()
    _say(f"{len(queue.failed)} of {due} runs failed.{missing}{same} tries them again: {_command(rerun)}")
    raise typer.Exit(1)


def _which(rerun: Rerun | None) -> str:
    return "this command" if rerun == Rerun("all") else "the same command"


def _command(rerun: Rerun | None) -> str:
    """The command that goes on: the same, but --rerun all alone would begin again, also with what it has made."""
    since = ["--since", STARTED] if rerun == Rerun("all") else []
    return shlex.join(["python", "-m", "lib.sweep", *sys.argv[1:], *since])


def _say(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    console.command(app)
