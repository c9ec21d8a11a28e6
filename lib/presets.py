"""Presets: one YAML per experiment, expanded into the cells of a grid.

`params/<experiment>.yaml` holds `base` (parameters all presets share), `exclusive` (its runs measure time) and
`presets`, each with `base`, `grid` (lists, multiplied out), `exclude` (combinations to leave out), `overrides` (other
values for some cells: `where` says which, `set` says what), `gpus` per cell (a number, or the parameter that holds it),
`exclusive` and `label` (a template such as "{model}"). Expansion is pure: it reads the YAML and nothing else.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_origin

from lib import paths, plain_yaml, preset_files
from lib.params import EXPERIMENTS, ParameterError, Params, check_names, config_hash, nearest, resolve, schema


@dataclass(frozen=True)
class Cell:
    """One run of a grid: raw parameters that `resolve` accepts, and what the run needs of the machine.

    `devices` is how many GPUs the run needs (0.5: half of one, beside another), or the parameter that says so.
    """

    experiment: str
    params: dict[str, Any]
    devices: int | float | str
    exclusive: bool  # it measures time, so nothing may run beside it

    @property
    def gpus(self) -> int | float:
        """Devices this run needs; 0 = it runs on the CPU."""
        return getattr(self.resolved(), self.devices) if isinstance(self.devices, str) else self.devices

    @property
    def label(self) -> str:
        return self.resolved().folder_label()

    def resolved(self) -> Params:
        return resolve(self.experiment, self.params)


def load_yaml(experiment: str) -> dict[str, Any]:
    """The parsed `params/<experiment>.yaml`: `base`, `exclusive` and `presets`; ParameterError where it is damaged."""
    schema(experiment)
    path = paths.PARAMS / f"{experiment}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in paths.PARAMS.glob("*.yaml") if p.stem in EXPERIMENTS))
        raise ParameterError(f"{experiment} has no presets, since there is no {path}; choose one of {shipped}.")
    return preset_files.read(path)


def cells(
    experiment: str, preset: str, only: Iterable[str] = (), skip: Iterable[str] = (), set_: Iterable[str] = ()
) -> list[Cell]:
    """The cells of a preset, in the order of the YAML file, duplicates removed.

    `set_` overrides a parameter in every cell, then `only` keeps and `skip` drops the cells its filters select. A
    filter is "name=value"; filters of one name select either value, filters of different names must all hold, and the
    value "all" selects every cell. A set parameter takes away the say of the one it replaces (`Params.REPLACES`).
    Raises ParameterError in one sentence for anything unknown, of the wrong type, or that leaves cells which cannot be
    compared.
    """
    document = load_yaml(experiment)
    presets = document["presets"]
    if preset not in presets:
        raise ParameterError(f"{experiment} has no preset {preset!r}; {nearest(preset, presets)}")
    overrides = dict(_assignment(experiment, text) for text in set_)
    grid = [_with(cell, overrides) for cell in expand(experiment, document, preset)]
    grid = list({config_hash(c.resolved()): c for c in reversed(grid)}.values())[::-1]
    if only:
        grid = _matching(grid, [_assignment(experiment, text) for text in only], preset)
    if skip:
        dropped = _matching(grid, [_assignment(experiment, text) for text in skip], preset)
        grid = [c for c in grid if c not in dropped]
    schema(experiment).check_grid([c.resolved() for c in grid])
    return grid


def expand(experiment: str, document: Mapping[str, Any], preset: str) -> list[Cell]:
    """The full product of a preset's grid without the excluded combinations; pure."""
    spec, place = preset_files.preset(experiment, document, preset), f"Preset {preset!r} of {experiment}"
    base = {**document.get("base", {}), **spec.base, "preset": preset}
    changed = [rule for override in spec.overrides for rule in (override.where, override.set)]
    check_names(experiment, itertools.chain(base, spec.grid, *spec.exclude, *changed))
    exclusive = document.get("exclusive", False) if spec.exclusive is None else spec.exclusive
    found = []
    for values in itertools.product(*spec.grid.values()):
        params = {**base, **dict(zip(spec.grid, values, strict=True))}
        if any(_matches(params, rule) for rule in spec.exclude):
            continue
        for override in spec.overrides:
            params |= override.set if _matches(params, override.where) else {}
        if spec.label:
            params["label"] = preset_files.labelled(spec.label, params, place)
        found.append(Cell(experiment, params, spec.gpus, exclusive))
    if not found:
        raise ParameterError(f"{place} excludes every cell of its grid; shorten its 'exclude'.")
    return found


def _with(cell: Cell, overrides: Mapping[str, Any]) -> Cell:
    """The cell with other values of some parameters."""
    replaced = {name for name in map(schema(cell.experiment).REPLACES.get, overrides) if name not in overrides}
    kept = {name: value for name, value in cell.params.items() if name not in replaced}
    return replace(cell, params={**kept, **overrides})


def _matches(params: Mapping[str, Any], rule: Mapping[str, Any]) -> bool:
    return all(params.get(name) == value for name, value in rule.items())


def _assignment(experiment: str, text: str) -> tuple[str, Any]:
    """`prompts=50` -> ("prompts", 50): text stays text where the parameter is text, else it is read as YAML."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ParameterError(f"{text!r} is not a setting; write name=value, like model=ladder-1m.")
    check_names(experiment, [name])
    name = schema(experiment).ALIASES.get(name, name)
    kind = schema(experiment).model_fields[name].annotation
    if kind is float:  # YAML 1.1 takes 1e-4 for text
        return name, _float(value)
    if kind not in (int, bool) and get_origin(kind) is not list:
        return name, value
    try:
        return name, plain_yaml.parse(value)
    except plain_yaml.YamlError:
        raise ParameterError(
            f"{text!r} cannot be read; write a list as '{name}=[a, b]' and a number plainly."
        ) from None


def _float(text: str) -> float | str:
    """The number, or the text itself for `resolve` to complain about."""
    try:
        return float(text)
    except ValueError:
        return text


def _matching(grid: list[Cell], filters: list[tuple[str, Any]], preset: str) -> list[Cell]:
    """The cells for which every filtered name has one of its wanted values, compared after `resolve`."""
    for name, value in filters:
        if grid and not any(_has(cell, name, value) for cell in grid):
            held = sorted({str(cell.params.get(name, getattr(cell.resolved(), name))) for cell in grid})
            raise ParameterError(f"No cell of preset {preset!r} has {name}={value}; {nearest(str(value), held)}")
    names = dict.fromkeys(name for name, _ in filters)
    return [c for c in grid if all(any(_has(c, n, v) for m, v in filters if m == n) for n in names)]


def _has(cell: Cell, name: str, value: Any) -> bool:
    """Whether giving the cell this value would leave it as it is: so `Qwen2.5-7B` also finds its full hub id.

    A parameter that is a list has what it contains.
    """
    if value == "all":
        return True
    there = getattr(cell.resolved(), name)
    whole = isinstance(there, list)
    try:
        given = resolve(cell.experiment, {name: value}) if whole else _with(cell, {name: value}).resolved()
    except ParameterError:
        return False  # no such value, or one that contradicts the rest of the cell
    wanted = getattr(given, name)
    return set(wanted) <= set(there) if whole else wanted == there
