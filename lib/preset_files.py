"""What a file of params/ may hold, checked before anything is made of it.

A wrong kind, a misspelt key, a grid without values or with more cells than anybody runs, a label that names nothing:
each is one sentence with the place in the file. What the parameters themselves may be is `lib.params`' business.
"""

import math
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from lib import plain_yaml
from lib.params import ParameterError, nearest, schema

MOST_CELLS = 10_000  # of one preset; the largest here has 60
Gpus = Annotated[int, Field(ge=0)] | Annotated[float, Field(ge=0, lt=1)] | str  # a share of one, not one and a half
Model = TypeVar("Model", bound=BaseModel)


class Override(BaseModel):
    """Other values for the cells of a preset that have those of `where`."""

    model_config = ConfigDict(strict=True, extra="forbid")

    where: dict[str, Any]
    set: dict[str, Any]


class Preset(BaseModel):
    """One preset of a file as it is written there."""

    model_config = ConfigDict(strict=True, extra="forbid")

    base: dict[str, Any] = {}
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = {}
    exclude: list[dict[str, Any]] = []
    overrides: list[Override] = []
    gpus: Gpus = 0
    exclusive: bool | None = None  # None: as the file says
    label: str = ""


class File(BaseModel):
    """A file of params/; other keys of it hold pieces that presets share by anchors."""

    model_config = ConfigDict(strict=True, extra="allow")

    base: dict[str, Any] = {}
    exclusive: bool = False
    presets: dict[str, dict[str, Any] | None]


def read(path: Path) -> dict[str, Any]:
    """The content of a file of params/; ParameterError, one sentence, where it is not one."""
    try:
        document = plain_yaml.read(path)
    except plain_yaml.YamlError as error:
        raise ParameterError(f"{path} cannot be used ({error}); correct it.") from None
    if not isinstance(document, dict):
        raise ParameterError(f"{path} holds no mapping; give it 'base' and 'presets', as the other files of params/.")
    _checked(File, document, str(path))
    for key in document.keys() - File.model_fields:
        if "did you mean" in (guess := nearest(str(key), File.model_fields)):
            raise ParameterError(f"{path} has an unknown key {key!r}; {guess}")
    return document


def preset(experiment: str, document: Mapping[str, Any], name: str) -> Preset:
    """A preset of a file; ParameterError, one sentence, where it is not one, or has too many cells."""
    place = f"Preset {name!r} of {experiment}"
    found = _checked(Preset, document["presets"][name] or {}, place)
    if math.prod(map(len, found.grid.values())) > MOST_CELLS:
        raise ParameterError(f"{place} has more than {MOST_CELLS:,} cells; shorten its grid.")
    if isinstance(found.gpus, str):
        _check_gpus(experiment, found.gpus, place)
    return found


def labelled(template: str, params: Mapping[str, Any], place: str) -> str:
    """A label made of the parameters that its template names in braces, and of nothing that they contain."""
    try:
        parts = list(string.Formatter().parse(template))
    except ValueError as error:
        raise ParameterError(f"{place} has a label {template!r} that cannot be used ({error}); correct it.") from None
    for _, name, form, conversion in parts:
        if form or conversion or (name is not None and name not in params):
            raise ParameterError(f"{place} has a label {template!r} with {name!r} in braces; {nearest(name, params)}")
    return "".join(text + ("" if name is None else str(params[name])) for text, name, _, _ in parts)


def _check_gpus(experiment: str, name: str, place: str) -> None:
    """ParameterError unless a parameter of this name counts something."""
    counts = [key for key, field in schema(experiment).model_fields.items() if field.annotation is int]
    if name not in counts:
        raise ParameterError(f"{place} takes its gpus from {name!r}, which is no number; {nearest(name, counts)}")


def _checked(model: type[Model], value: Any, place: str) -> Model:
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise ParameterError(_sentence(model, error, place)) from None


def _sentence(model: type[BaseModel], error: ValidationError, place: str) -> str:
    """The first complaint of pydantic, with the place in the file."""
    first = error.errors()[0]
    where = "gpus" if "gpus" in first["loc"] else ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        known = Override.model_fields if "overrides" in first["loc"] else model.model_fields
        return f"{place} has an unknown key {first['loc'][-1]!r}; {nearest(str(first['loc'][-1]), known)}"
    if first["type"] == "missing":
        return f"{place} lacks {where}; add it."
    kinds = {"dict_type": "a mapping", "list_type": "a list", "string_type": "text", "bool_type": "true or false"}
    kinds["too_short"] = "a list of at least one value"
    expected = kinds.get(first["type"], first["msg"].removeprefix("Input should be "))
    expected = (
        "a whole number from 0 on, a share below 1, or a parameter that holds a number" if where == "gpus" else expected
    )
    return f"{place} has {where}: {repr(first['input'])[:80]}, which should be {expected}; correct it."
