"""Typed parameters: what an experiment may be told.

One pydantic model per experiment (a module here) holds every parameter with its default, its help and its limits.
`resolve` turns what a user typed (papermill's `-p`, a YAML cell, a notebook's globals) into that model or into one
sentence that says what to type instead. Nothing is guessed and no unknown name is accepted: a misspelt parameter that
silently runs the default is the most expensive mistake a sweep can make.

No model stack is imported here: a mistake has to surface in a second, before anything loads.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from lib.params.base import NOT_HASHED, ParameterError, Params, Typed, nearest
from lib.params.bridge import Bridge
from lib.params.inference import Inference
from lib.params.mazes import PohScaling
from lib.params.scaling import Scaling, split_arm
from lib.params.specdec import SpecDec
from lib.params.sweep import Sweep
from lib.params.wire import Wire

__all__ = [
    "EXPERIMENTS",
    "NOT_HASHED",
    "Bridge",
    "Inference",
    "ParameterError",
    "Params",
    "PohScaling",
    "Scaling",
    "SpecDec",
    "Sweep",
    "Typed",
    "Wire",
    "check_names",
    "checked",
    "config_hash",
    "nearest",
    "own_names",
    "resolve",
    "schema",
    "split_arm",
    "stored_hash",
]

T = TypeVar("T", bound=Typed)

EXPERIMENTS: dict[str, type[Params]] = {
    "1a3_scaling": Scaling,
    "2a_specdec": SpecDec,
    "3a_poh_scaling": PohScaling,
    "4a_bridge": Bridge,
    "4b_wire": Wire,
    "4c_inference": Inference,
    "bench/sampling": Scaling,
    "bench/growth": Scaling,
    "bench/specdec": SpecDec,
    "bench/mazes": PohScaling,
    "bench/bridge": Bridge,
    "bench/wire": Wire,
    "bench/sweep": Sweep,
}


def schema(experiment: str) -> type[Params]:
    """The parameter model of an experiment; ParameterError names the nearest experiment for any other name."""
    if experiment not in EXPERIMENTS:
        raise ParameterError(f"There is no experiment {experiment!r}; {nearest(experiment, EXPERIMENTS)}")
    return EXPERIMENTS[experiment]


def check_names(experiment: str, names: Iterable[str]) -> None:
    """Raise ParameterError for the first name that is not a parameter of the experiment, nor an alias of one."""
    _check_names(experiment, schema(experiment), names)


def resolve(experiment: str, raw: Mapping[str, Any]) -> Params:
    """The typed, complete configuration; everything not in `raw` takes its default.

    Raises ParameterError, one sentence, for an unknown experiment or name, a wrong type or a value out of range.
    """
    return checked(experiment, schema(experiment), raw)


def own_names(experiment: str, raw: Mapping[str, Any]) -> dict[str, Any]:
    """`raw` with aliases replaced by the parameters they mean; ParameterError where both are given and differ."""
    return _own_names(schema(experiment), raw)


def checked(owner: str, cls: type[T], raw: Mapping[str, Any]) -> T:
    """`resolve` for the parameters `cls` of `owner`, whose name an error says."""
    _check_names(owner, cls, raw)
    for name, value in raw.items():
        _check_text(name, value)
    try:
        return cls.model_validate(_own_names(cls, raw))
    except ValidationError as error:
        raise ParameterError(_sentence(cls, error)) from None


def _check_names(owner: str, cls: type[Typed], names: Iterable[str]) -> None:
    known = [*cls.model_fields, *cls.ALIASES]
    for name in names:
        if name not in known:
            raise ParameterError(f"{owner} has no parameter {name!r}; {nearest(str(name), known)}")


def _own_names(cls: type[Typed], raw: Mapping[str, Any]) -> dict[str, Any]:
    aliases = cls.ALIASES
    values = {name: value for name, value in raw.items() if name not in aliases}
    for alias, name in ((a, n) for a, n in aliases.items() if a in raw):
        if name in values and values[name] != raw[alias]:
            raise ParameterError(f"{alias} is another name for {name}, and they differ; give one of them.")
        values[name] = raw[alias]
    return values


def _check_text(name: str, value: Any) -> None:
    """ParameterError for a text, alone or in a list, that no file and no file's name can hold."""
    for text in value if isinstance(value, list | tuple) else [value]:
        if isinstance(text, str) and ("\0" in text or not _is_unicode(text)):
            raise ParameterError(f"Parameter {name!r} is {_shown(text)}, which is no text in UTF-8; type it anew.")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a character, or a byte of another encoding typed in a terminal
        return False
    return True


def _shown(value: Any) -> str:
    """A wrong value as Python writes it, shortened."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _sentence(cls: type[Typed], error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence with the parameter, the value and what to type."""
    first = error.errors()[0]
    if first["type"] == "value_error":  # raised by our own validators, already a sentence
        return str(first["ctx"]["error"])
    name, value = str(first["loc"][0]), first["input"]
    expected = first["msg"].removeprefix("Input should be ")
    expected = expected.replace("a valid integer", "a whole number").replace("a valid ", "a ")
    sentence = f"Parameter {name!r} is {_shown(value)} but should be {expected}"
    if first["type"] == "string_type" and isinstance(value, int | float):
        return f"{sentence}; papermill reads -p values as numbers where it can, so type -r {name} {value}."
    if first["type"] == "list_type" and isinstance(value, str | int):
        items = ", ".join(re.findall(r"[\w@.-]+", str(value)))[:100]
        return f"{sentence}; type -y '{name}: [{items}]' to papermill, or --set '{name}=[{items}]' to the sweep."
    return f"{sentence} ({cls.model_fields[name].description})."


def config_hash(params: Params) -> str:
    """sha256 (hex) of the canonical JSON of all parameters that can change a result."""
    return stored_hash(params.model_dump(mode="json"))


def stored_hash(config: Mapping[str, Any]) -> str:
    """`config_hash` of a complete configuration as JSON holds it, even of a version that had other parameters."""
    values = {k: v for k, v in config.items() if k not in NOT_HASHED}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
