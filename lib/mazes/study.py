"""Trained arms: each is trained once, kept in the cache, and goes on from its last checkpoint if it was stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from lib.data import mazes
from lib.mazes import evaluation
from lib.mazes.sets import Sets, make
from lib.metrics.cost import PeakMemory
from lib.models import cache, devices, maze, maze_sizes, maze_training
from lib.models.memory import explain_oom
from lib.params.mazes import PohScaling

KIND = "mazes"  # folder of the cache
SOURCE = [  # what decides the weights
    *(f"lib.data.{name}" for name in ("mazes", "maze_carving", "maze_solving")),
    *(
        f"lib.models.{name}"
        for name in ("maze", "maze_blocks", "maze_controller", "maze_sizes", "maze_training", "muon")
    ),
]


@dataclass(frozen=True)
class Subject:
    """What one training makes: an arm of one size from one seed."""

    arch: str
    size: str
    seed: int

    def __str__(self) -> str:
        return f"{self.size}-{self.arch}-{self.seed}"


@dataclass(frozen=True)
class Trained:
    """A trained model, the rows of its epochs, and the peak memory of training it (None where it is not known)."""

    model: maze.MazeModel
    epochs: list[dict[str, Any]]
    peak_memory_bytes: int | None


def subjects(params: PohScaling) -> list[Subject]:
    """Every model of a run, the arms of one size and seed beside each other."""
    return [Subject(arch, size, seed) for size in params.size for seed in params.seed for arch in params.arch]


def describe(params: PohScaling, subject: Subject) -> dict[str, Any]:
    """The columns that every row of a model has: who it is, its shape, and what it costs."""
    kind, size = maze_sizes.resolve(subject.arch, params.shape(subject.size), params.R)
    forward = maze_sizes.forward_flops(kind, size, params.R, params.T, params.maze_size)
    shape = {field.name: getattr(size, field.name) for field in fields(size) if field.name != "target"}
    costs = {
        "parameters": maze_sizes.parameters(kind, size),
        "recurrent_parameters": maze_sizes.recurrent_parameters(kind, size),
        "forward_flops": forward,
        "train_flops": maze_sizes.train_flops(forward, steps(params) * min(params.batch_size, params.train)),
    }
    return asdict(subject) | shape | costs | {"learning_rate": params.rate(subject.arch)}


def steps(params: PohScaling) -> int:
    """Optimizer steps of one training."""
    return params.epochs * max(1, params.train // params.batch_size)


def trained(params: PohScaling, subject: Subject, sets: Sets) -> Trained:
    """The subject's model: out of the cache, or trained now, with a progress bar."""
    device = devices.choose(params.device)
    key = cache.key_of(_facts(params, subject, sets, device))
    checkpoint = cache.folder(KIND, str(subject), key).with_suffix(".checkpoint")
    build = partial(_train, params, subject, sets, device, checkpoint)
    place = cache.get(KIND, str(subject), key, build)
    checkpoint.unlink(missing_ok=True)
    model = _untrained(params, subject).to(device)
    model.load_state_dict(load_file(place / "model.safetensors", device=str(device)))
    return Trained(model.eval(), **json.loads((place / "training.json").read_text(encoding="utf-8")))


def _facts(params: PohScaling, subject: Subject, sets: Sets, device: torch.device) -> dict[str, Any]:
    """Everything that the weights depend on."""
    chosen = ("R", "T", "epochs", "batch_size", "augment")
    return {
        "subject": asdict(subject) | {"shape": asdict(params.shape(subject.size))},
        "recipe": {name: getattr(params, name) for name in chosen} | {"learning_rate": params.rate(subject.arch)},
        "data": [mazes.digest(sets.train), mazes.digest(sets.validation)],
        "source": cache.source_hash(SOURCE),
        "machine": [torch.__version__, device.type, params.compile],
    }


def _untrained(params: PohScaling, subject: Subject) -> maze.MazeModel:
    return maze.build(subject.arch, params.shape(subject.size), params.R, params.T, subject.seed)


def _train(
    params: PohScaling, subject: Subject, sets: Sets, device: torch.device, checkpoint: Path, folder: Path
) -> None:
    """Train, and write the model and its record into the empty `folder`."""
    model = _untrained(params, subject).to(device)
    if params.compile:
        for block in model.blocks:
            block.compile()
    recipe = maze_training.Recipe(
        params.epochs, params.batch_size, params.rate(subject.arch), params.augment, subject.seed
    )
    rows: list[dict[str, Any]] = []
    memory = PeakMemory(device)
    memory.start()
    with tqdm(total=steps(params), desc=str(subject), unit="step", file=sys.stderr, mininterval=0.5) as bar:

        def log(row: dict[str, Any]) -> None:
            rows.append(row)
            bar.set_postfix(loss=f"{row['loss']:.3f}", solved=f"{row['val_accuracy']:.0%}", refresh=False)

        judge = partial(evaluation.validate, mazes=sets.validation)
        with explain_oom("batch_size"):
            maze_training.train(model, sets.train, recipe, judge, log, bar.update, checkpoint)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")
    record = {"epochs": rows, "peak_memory_bytes": memory.stop()}
    (folder / "training.json").write_text(json.dumps(record, allow_nan=False), encoding="utf-8")


def run(params: PohScaling, respond: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Train and judge every model of a run; yields measurement rows, those of a model as soon as it is there.

    respond: called once per model with what it did in each test maze: its steps to the goal (-1: not reached), and how
    few there can be.
    """
    for seed in params.seed:
        sets = make(params, seed)
        yield from evaluation.references(sets, seed)
        for subject in (s for s in subjects(params) if s.seed == seed):
            about, found = describe(params, subject), trained(params, subject, sets)
            walks, judged = evaluation.judge(found.model, subject.arch, sets)
            respond(**asdict(subject), steps=walks.steps, shortest=sets.test.shortest)
            yield from _rows(params, about, found, judged, sets)


def _rows(
    params: PohScaling, about: dict[str, Any], found: Trained, judged: list[dict[str, Any]], sets: Sets
) -> Iterator[dict[str, Any]]:
    """The rows of one model, each with the columns that all of them have."""
    for epoch in found.epochs:
        spent = maze_sizes.train_flops(about["forward_flops"], epoch["mazes"])
        yield {"protocol": "epoch"} | about | epoch | {"flops": spent}
    extra = evaluation.facts(sets, params.least_cells) | {
        "train_s": found.epochs[-1]["train_s"],
        "peak_memory_bytes": found.peak_memory_bytes,
    }
    for row in judged:
        yield row | about | (extra if row["protocol"] == "result" else {})
