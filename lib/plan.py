"""Sweeps that belong together, and what comes before and after them, in one go: `python -m lib.plan bridge`.

A plan of `params/plans.yaml` is a list of stages, each a command of this package, in order of priority. Every stage is
checked before the first one starts; then each has the terminal to itself, in a process of its own. A stage that fails
does not keep the later ones from running, since what they need of it may be complete; Ctrl-C does, and so does a
mistake in a command. At the end stand what became of each stage and how to go on. A plan remembers nothing: its
commands keep what is done, so a plan that was stopped goes on when it is started again.
"""

import itertools
import json
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from lib import console, paths, plain_yaml, presets
from lib.params import ParameterError, config_hash, nearest
from lib.sweep import __main__ as sweep
from lib.sweep import planning
from lib.sweep.planning import Task, spell

TAKES = {  # the commands a stage may be, each with the options of a plan that are handed on to it
    "sweep": ("--jobs", "--ray", "--runs-dir"),
    "bench": ("--runs-dir",),
    "figures": ("--runs-dir",),
    "claims": ("--runs-dir",),
    "models.ladder": (),
}
VERDICTS = ("supported", "not supported", "inconclusive", "not run")
MISTAKE, INTERRUPTED = 2, 130  # exit codes of a stage that stop the plan

Options = Mapping[str, str]  # option -> value, of the plan's own command line


def _words(text: Any) -> Any:
    return shlex.split(text) if isinstance(text, str) else text


class Stage(BaseModel):
    """One command of a plan: its name, for people, and the words after `python -m lib.`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    name: str
    run: Annotated[list[str], BeforeValidator(_words), Field(min_length=1)]

    @property
    def command(self) -> str:
        """The first word: `sweep`, `figures`, `models.ladder`."""
        return self.run[0]

    def line(self, options: Options) -> list[str]:
        """The whole command line after the interpreter, with those options that the command takes."""
        taken = ((name, value) for name, value in options.items() if name in TAKES[self.command])
        return ["-m", f"lib.{self.command}", *self.run[1:], *itertools.chain.from_iterable(taken)]

    def typed(self, options: Options) -> str:
        """The command line as a person would type it."""
        return shlex.join(["python", *self.line(options)])

    def tasks(self, options: Options) -> list[Task]:
        """A sweep's cells and what is done of them; none of another command. ParameterError where it is wrong."""
        if self.command != "sweep":
            return []
        try:
            asked = typer.main.get_command(sweep.app).make_context("sweep", self.line(options)[2:]).params
        except typer.TyperException as error:
            raise ParameterError(f"Stage {self.name!r} is no sweep that can be run. {error.format_message()}") from None
        filters = (asked[name] or () for name in ("only", "skip", "set_"))
        return planning.plan(presets.cells(asked["experiment"], asked["preset"], *filters), asked["runs_dir"])


class Plan(BaseModel):
    """Stages in their order; `jobs` cells run beside each other where neither --jobs nor --ray says otherwise."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: str
    jobs: int = Field(1, ge=1)
    stages: list[Stage] = Field(min_length=1)


@dataclass(frozen=True)
class Result:
    """What became of a stage: its exit code, None where it was not begun, and wall-clock seconds."""

    stage: Stage
    code: int | None = None
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """The code in words."""
        return {None: "not begun", 0: "done", MISTAKE: "mistaken", INTERRUPTED: "stopped"}.get(self.code, "failed")


def load(name: str) -> Plan:
    """A plan of params/plans.yaml; ParameterError, one sentence, where there is none or the file is wrong."""
    path = paths.PARAMS / "plans.yaml"
    try:
        plans = TypeAdapter(dict[str, Plan]).validate_python(plain_yaml.read(path))
    except plain_yaml.YamlError as error:
        raise ParameterError(f"{path} cannot be used ({error}); correct it.") from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "its top"
        raise ParameterError(f"{path} has a mistake at {place} ({first['msg']}); correct it.") from None
    if name not in plans:
        raise ParameterError(f"There is no plan {name!r}; {nearest(name, plans)}")
    return plans[name]


def check(plan: Plan, options: Options) -> list[list[Task]]:
    """The cells of each stage; ParameterError for a command or an option that is none, before anything runs."""
    for stage in plan.stages:
        if stage.command not in TAKES:
            raise ParameterError(f"Stage {stage.name!r} runs {stage.command!r}; {nearest(stage.command, TAKES)}")
    for option in options:
        if not any(option in TAKES[stage.command] for stage in plan.stages):
            raise ParameterError(f"No stage of this plan takes {option}; leave it out.")
    return [stage.tasks(options) for stage in plan.stages]


def run(plan: Plan, options: Options) -> list[Result]:
    """Run the stages to the end, or until one stops the plan; a result for each, in order."""
    results: list[Result] = []
    for place, stage in enumerate(plan.stages, 1):
        typer.secho(f"\n[{place} of {len(plan.stages)}] {stage.name}", bold=True)
        print(stage.typed(options), flush=True)
        started = time.monotonic()
        code = _execute([sys.executable, *stage.line(options)])
        results.append(Result(stage, code, time.monotonic() - started))
        if _stops([result.code for result in results]):
            break
    return [*results, *map(Result, plan.stages[len(results) :])]


def _stops(codes: Sequence[int]) -> bool:
    """Whether the last of the exit codes ends the plan: Ctrl-C, or a mistake in a command.

    Once a stage has failed, what looks like a mistake may be its consequence, such as a bridge that is not there.
    """
    return codes[-1] == INTERRUPTED or (codes[-1] == MISTAKE and not any(codes[:-1]))


def _execute(command: Sequence[str]) -> int:
    """Run a stage to its end; its exit code, INTERRUPTED also where the signal itself ended it.

    Ctrl-C reaches the stage as well, which stops in its own time. A polite kill, such as a batch system's at the time
    limit, may reach this process alone, and is handed on.
    """
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return INTERRUPTED if code in (-signal.SIGINT, -signal.SIGTERM) else code


def preview(plan: Plan, tasks: Sequence[Sequence[Task]], options: Options) -> str:
    """Each stage with its command, what its cells are and may take, and the GPUs that each needs."""
    lines = []
    for place, (stage, cells) in enumerate(zip(plan.stages, tasks, strict=True), 1):
        lines += [f"{place:2}. {stage.name}", f"    {stage.typed(options)}"]
        if cells:
            gpus = " or ".join(f"{n:g}" for n in sorted({task.cell.gpus for task in cells}))
            lines.append(f"    {planning.total(cells, None)}; GPUs per cell: {gpus}")
    every = {(task.cell.experiment, config_hash(task.params)): task for task in itertools.chain(*tasks)}
    return "\n".join([*lines, f"In all: {planning.total(every.values(), None)}"])


def summary(results: Sequence[Result], options: Options) -> str:
    """What became of each stage, where the figures are, what the claims came to, and how to go on."""
    width = max(len(result.stage.name) for result in results)
    lines = [f"    {'stage':{width}}  {'outcome':9}  {'complete':>8}  time"]
    tasks = [result.stage.tasks(options) for result in results]
    for place, (result, cells) in enumerate(zip(results, tasks, strict=True), 1):
        took = "" if result.code is None else spell(result.seconds)
        row = f"{place:2}. {result.stage.name:{width}}  {result.outcome:9}  {_complete(cells):>8}  {took}"
        lines.append(row.rstrip())
    lines.append(f"In all {spell(sum(result.seconds for result in results))}.")
    done = {result.stage.command: result.stage for result in results if result.code == 0}
    if "figures" in done:
        lines.append(f"Figures: {paths.FIGURES}")
    if "claims" in done:
        experiments = {task.cell.experiment for task in itertools.chain(*tasks)}
        lines.append(f"Claims: {_verdicts(done['claims'], experiments, options)}")
    if any(result.code != 0 for result in results):
        again = shlex.join(["python", "-m", "lib.plan", *sys.argv[1:]])
        lines.append(f"Not everything is done. What is complete is kept; the same command goes on: {again}")
    return "\n".join(lines)


def _complete(tasks: Sequence[Task]) -> str:
    """Complete runs of the cells that can be had, as 3/4; "" where a stage has no cells."""
    wanted = [task for task in tasks if not task.params.unavailable()]
    return f"{sum(task.done is not None for task in wanted)}/{len(wanted)}" if wanted else ""


def _verdicts(stage: Stage, experiments: Iterable[str], options: Options) -> str:
    """How many claims about the experiments came to which verdict, and what prints them."""
    command = [sys.executable, *stage.line(options), "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    about = {experiment.split("_")[0] for experiment in experiments}  # a claim's id begins with the code
    counts = Counter(claim["verdict"] for claim in found if claim["id"].split("/")[0] in about)
    counted = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS)
    return f"{counted}; the ledger again: {stage.typed(options)}"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(metavar="PLAN", help="A plan of params/plans.yaml: demo, bridge, ...")],
    ray: Annotated[str, typer.Option(metavar="local|ADDRESS", help="Let Ray place the cells on GPUs.")] = "",
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells beside each other; default: the plan's own.")] = None,
    runs_dir: Annotated[str, typer.Option(help="Put runs here instead of runs/.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the stages and stop.")] = False,
) -> None:
    """Run the sweeps, figures and claims that belong together, in order of priority; what is done is kept.

    \b
    python -m lib.plan bridge --ray local    the five ablations of the bridge on this machine's GPUs
    python -m lib.plan bridge_small          the same between the pair trained here
    python -m lib.plan bridge --dry-run      what there is to do, what is done, how long the rest may take

    Exit codes: 0 every stage succeeded, 1 some failed, 2 a mistake in a command, 130 Ctrl-C.
    """
    try:
        plan = load(name)
        options = _options(plan, ray, jobs, runs_dir)
        tasks = check(plan, options)
    except ParameterError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(MISTAKE) from None
    print(f"{name}: {plan.title}")
    if dry_run:
        print(preview(plan, tasks, options))
        return
    results = run(plan, options)
    print(f"\n{summary(results, options)}")
    codes = [result.code for result in results if result.code is not None]
    if any(codes):
        raise typer.Exit(codes[-1] if _stops(codes) else 1)


def _options(plan: Plan, ray: str, jobs: int | None, runs_dir: str) -> dict[str, str]:
    """The plan's own command line as options of its stages; ParameterError where they contradict each other."""
    if ray and jobs:
        raise ParameterError("Ray decides how many cells run beside each other; leave --jobs out.")
    beside = "" if ray else str(jobs or plan.jobs)
    folder = str(Path(runs_dir).expanduser().resolve()) if runs_dir else ""
    given = {"--ray": ray, "--jobs": beside if beside != "1" else "", "--runs-dir": folder}
    return {name: value for name, value in given.items() if value}


if __name__ == "__main__":
    console.command(app)
