"""The bridge that a study of messages is about (4b, 4c): found by its name, trained or loaded when it is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.bridge import named, stored, study
from lib.bridge.pair import Pair
from lib.bridge.tasks import TASKS, Item, Task
from lib.bridge.worker import Job
from lib.models.bridge import Bridge
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
    """The bridge of a name (see `lib.bridge.named`), with other values for some parameters. Nothing is loaded."""
    return Chosen(*named.find(name, runs_dir, **changes))
