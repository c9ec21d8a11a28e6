"""Which trained bridge a study of its messages is about (4b, 4c).

A bridge is named in one of two ways:

* `PRESET/LABEL`, such as `quick/1a_stable_8tok`: that cell of params/4a_bridge.yaml. It is trained now, with a progress
  bar, or comes out of the cache where 4a or an earlier study has trained it; no run of 4a is needed.
* a run id or label of a finished run of 4a: the bridge in its folder, which may come from another machine.

Parameters can be changed on the way (fewer numbers per token, other seeds): such a relative is trained in the same way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib import presets
from lib.bridge import stored, study
from lib.bridge.pair import Pair
from lib.bridge.tasks import TASKS, Item, Task
from lib.bridge.worker import Job
from lib.models.bridge import Bridge
from lib.params import ParameterError, nearest, resolve
from lib.params.bridge import Bridge as Params


@dataclass(frozen=True)
class Chosen:
    """A bridge that is named but not yet loaded: its parameters in 4a, and the run folder that holds its weights."""

    params: Params
    folder: Path | None = None

    def pair(self) -> Pair:
        """Both models, loaded."""
        return Job.of(self.params).pair()

    def task(self) -> Task:
        """What is asked."""
        return TASKS[self.params.task]

    def items(self, split: str, count: int) -> list[Item]:
        """At most `count` items of a split of the task."""
        return self.task().load(split, count, self.params.data)

    def bridge(self, models: Pair, seed: int | None = None) -> Bridge:
        """The trained bridge of a seed (None: its first), as its configuration keeps it, in eval mode."""
        seed = self.params.seed[0] if seed is None else seed
        if self.folder and seed == self.params.seed[0]:
            return stored.load(self.folder, models).bridge
        return study.trained(models, Job.of(self.params).of_seed(seed)).at(study.kept(self.params))


def find(name: str, runs_dir: str | Path = "", **changes: Any) -> Chosen:
    """The bridge of this name, with other values for some parameters; ParameterError, one sentence, where it is none.

    Nothing is loaded. What is changed has to be trained, so a changed bridge of a run is no longer that in its folder.
    """
    if not name:
        raise ParameterError("The name of a bridge is empty; give PRESET/LABEL of 4a, or a finished run of it.")
    folder = None if "/" in name else stored.find(name, runs_dir or None)
    found = _cell(name) if folder is None else stored.parameters(folder)
    changes = {key: value for key, value in changes.items() if value != getattr(found, key)}
    if changes:
        found = resolve(stored.EXPERIMENT, found.model_dump(mode="json") | changes)
    return Chosen(found, None if changes else folder)


def _cell(name: str) -> Params:
    """The cell `PRESET/LABEL` of 4a."""
    preset, _, label = name.partition("/")
    cells = {cell.label: cell.resolved() for cell in presets.cells(stored.EXPERIMENT, preset)}
    if label not in cells:
        raise ParameterError(
            f"Preset {preset!r} of {stored.EXPERIMENT} has no configuration {label!r}; {nearest(label, cells)}"
        )
    return cells[label]


def same_pair(chosen: list[Chosen]) -> None:
    """ParameterError unless all bridges are between the same two models, for one task: others cannot be compared."""
    first = chosen[0].params
    for other in (entry.params for entry in chosen[1:]):
        for name in ("source", "target", "source_layer", "task", "data"):
            if getattr(first, name) != getattr(other, name):
                raise ParameterError(
                    f"The bridges {first.folder_label()} and {other.folder_label()} differ in {name} "
                    f"({getattr(first, name)}, {getattr(other, name)}): name bridges of one pair and task."
                )
