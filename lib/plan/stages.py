"""What a plan is: its stages, as params/plans.yaml has them, and everything about them that can be wrong beforehand."""

import importlib
import importlib.util
import itertools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import typer
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from lib import paths, plain_yaml, presets
from lib.params import ParameterError, nearest
from lib.sweep import on_ray, planning
from lib.sweep.planning import Task


@dataclass(frozen=True)
class Command:
    """What a stage may run: the module with its `app`, and the options of a plan that are handed on to it."""

    module: str
    takes: tuple[str, ...] = ("--runs-dir",)


COMMANDS = {
    "sweep": Command("lib.sweep.__main__", ("--jobs", "--ray", "--runs-dir")),
    "bench": Command("lib.bench.__main__"),
    "figures": Command("lib.figures.__main__"),
    "claims": Command("lib.claims.__main__"),
    "models.ladder": Command("lib.models.ladder_cli", ()),
}

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
        taken = ((name, value) for name, value in options.items() if name in COMMANDS[self.command].takes)
        return ["-m", f"lib.{self.command}", *self.run[1:], *itertools.chain.from_iterable(taken)]

    def typed(self, options: Options) -> str:
        """The command line as a person would type it."""
        return shlex.join(["python", *self.line(options)])

    def asked(self, options: Options) -> dict[str, Any]:
        """The command's parameters as its own program reads them; ParameterError where it would refuse the line."""
        words = self.line(options)[2:]
        command = typer.main.get_command(importlib.import_module(COMMANDS[self.command].module).app)
        if benches := getattr(command, "commands", None):
            name = words.pop(0) if words else ""
            if name not in benches:
                raise self._wrong(f"{self.command} has no command {name!r}; {nearest(name, benches)}")
            command = benches[name]
        try:
            return command.make_context(self.command, words).params
        except typer.TyperException as error:
            raise self._wrong(error.format_message()) from None

    def tasks(self, options: Options) -> list[Task]:
        """A sweep's cells and what is done of them, none of another command; ParameterError for what cannot be run."""
        asked = self.asked(options)
        if self.command != "sweep":
            return []
        filters = (asked[name] or () for name in ("only", "skip", "set_"))
        tasks = planning.plan(presets.cells(asked["experiment"], asked["preset"], *filters), asked["runs_dir"])
        if asked["jobs"] > 1 and any(task.cell.gpus and task.is_due(None) for task in tasks):
            raise self._wrong("Its runs need GPUs, and --jobs gives none of them its own; type --ray local instead.")
        return tasks

    def _wrong(self, reason: str) -> ParameterError:
        return ParameterError(f"Stage {self.name!r} cannot be run. {reason}")


class Plan(BaseModel):
    """Stages in their order; `jobs` cells run beside each other where neither --jobs nor --ray says otherwise."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    title: str
    jobs: int = Field(1, ge=1)
    stages: list[Stage] = Field(min_length=1)


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
        if stage.command not in COMMANDS:
            raise ParameterError(f"Stage {stage.name!r} runs {stage.command!r}; {nearest(stage.command, COMMANDS)}")
    for option in options:
        if not any(option in COMMANDS[stage.command].takes for stage in plan.stages):
            raise ParameterError(f"No stage of this plan takes {option}; leave it out.")
    if "--ray" in options:
        _check_ray(options["--ray"])
    return [stage.tasks(options) for stage in plan.stages]


def _check_ray(address: str) -> None:
    on_ray.check_form(address)
    if importlib.util.find_spec("ray") is None:
        raise ParameterError(on_ray.NOT_INSTALLED)
