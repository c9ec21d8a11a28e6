"""What the parameters of every experiment share, and the sentence that a wrong one ends in."""

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, Field

from lib import plain_yaml

MOST_NAMED = 24  # choices that an error lists
NOT_HASHED = frozenset({"label", "preset", "run_dir", "runs_dir"})  # where a result lands does not change the result


class ParameterError(ValueError):
    """A parameter that cannot be used; the message is one sentence for the person who typed it."""

    def _render_traceback_(self) -> list[str]:
        """What IPython shows for it: the sentence alone, for the mistake is in the parameters cell and not in `lib`."""
        return [f"{type(self).__name__}: {self}"]


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that helps someone who typed `name`: the nearest of the known names, or what there is to choose from."""
    names = list(known)
    lower = {k.lower(): k for k in names}
    match = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    if match:
        return f"did you mean {lower[match[0]]!r}?"
    more = f", or one of {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f"choose one of {', '.join(names[:MOST_NAMED])}{more}."


def listed(value: Any) -> Any:
    """A list parameter as it may be typed: one value alone, or the text that papermill's -p hands a list over as."""
    if isinstance(value, str) and value.startswith("["):
        try:
            value = plain_yaml.parse(value)
        except plain_yaml.YamlError:
            raise ValueError(f"{value!r} cannot be read as a list; write it as [a, b].") from None
    return [value] if isinstance(value, str | int | float) and not isinstance(value, bool) else value


def local(path: str, name: str) -> str:
    """The absolute path of a file or folder that is there; ValueError, one sentence, for any other."""
    place = os.path.realpath(os.path.expanduser(path))  # os.path, because pathlib raises for a name too long
    if not os.path.exists(place):
        raise ValueError(f"There is no file or folder {path!r}; give one, or leave {name!r} empty.")
    return place


def different(seeds: list[int]) -> list[int]:
    """Seeds that a run may have: at least one, each once, none below 0; ValueError, one sentence, for others."""
    if not seeds or len(set(seeds)) < len(seeds) or min(seeds) < 0:
        raise ValueError(f"Parameter 'seed' is {seeds}; give at least one, each once, none below 0.")
    return seeds


class Typed(BaseModel):
    """Parameters of any notebook: each of its own type, and none that is not there."""

    ALIASES: ClassVar[dict[str, str]] = {}  # other names that users may type, and the parameters they mean

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=False)


class Params(Typed):
    """What every experiment shares; the experiment's own parameters are added by a subclass."""

    REPLACES: ClassVar[dict[str, str]] = {}  # a parameter, and the one whose say it takes away when it is set anew

    seed: int = Field(0, ge=0, description="seed of prompts, sampling and the order of timed passes")
    label: str = Field("", description="first part of the run folder's name; empty = the model's name")
    preset: str = Field("", description="the preset this cell came from, for the record")
    run_dir: str = Field("", description="folder of this run; empty = a new one under runs_dir")
    runs_dir: str = Field("", description="folder that holds all runs; empty = runs/ of the repository")

    def folder_label(self) -> str:
        """The first part of the run folder's name."""
        return self.label or "run"

    def unavailable(self) -> str | None:
        """Why this run cannot be had at all, whatever the machine: one sentence; None where it can.

        A sweep leaves such a cell out and says so.
        """
        return None

    def check_named(self) -> None:
        """Raise ParameterError where what the parameters name, such as a bridge or a data set, is not there.

        Asked before a run starts and never when an old one is read; nothing is loaded.
        """

    @classmethod
    def check_grid(cls, cells: Sequence[Self]) -> None:
        """Raise ParameterError where runs of one grid could not be compared with each other."""

    def modules(self) -> tuple[str, ...]:
        """Modules of `lib` the run loads by name: invisible in a notebook's imports, yet they decide its results."""
        return ()
