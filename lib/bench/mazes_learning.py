"""How long training takes to an accuracy, ours and the published loop's: stack against stack, of the same shape.

Accuracy is the share of cells on the paths of validation mazes at which the next step is right: for the published model
its best open neighbour, for ours its direction, open or not. The goal is the best accuracy that the published loop
reached within its budget of seconds, and the ratio is its time to first reach it over ours. Where it stays less than
`LEARNED` above the accuracy of a random open direction it has learned nothing yet; then the goal is that much above
chance, and the ratio is a lower bound: the whole budget over our time. Where ours misses the goal there is no ratio.

Both look at the validation mazes after the same seconds of training, and looking is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from lib.bench import mazes_original as original
from lib.data import mazes as data
from lib.data.mazes import Mazes
from lib.mazes import evaluation
from lib.models import maze
from lib.models.maze_training import Recipe, Training
from lib.params.mazes import PohScaling

LEARNED = 0.05  # accuracy above chance that noise does not reach
EPOCHS = 4  # what our training is planned for; its schedule follows from it
FIRST, FURTHER = 0.25, 1.2  # seconds of training until the first look, and from then on by which factor
ORDER = 7  # seed of the order in which the published loop sees mazes


class Finished(Exception):
    """Ends a training from inside one of its steps."""


@dataclass
class Curve:
    """Called after every training step: keeps the time, and looks at the validation mazes now and then."""

    judge: Callable[[], float]
    budget: float  # seconds of training
    goal: float = float("inf")
    points: list[tuple[float, float]] = field(default_factory=list)  # seconds of training, accuracy
    clock: Callable[[], float] = time.perf_counter

    def __post_init__(self) -> None:
        self._spent, self._due, self._began = 0.0, FIRST, self.clock()

    def __call__(self) -> None:
        """Raises Finished when the goal is reached or the budget spent."""
        self._spent += self.clock() - self._began
        if self._spent >= min(self._due, self.budget):
            self.points.append((self._spent, self.judge()))
            if self._spent >= self.budget or self.points[-1][1] >= self.goal:
                raise Finished
            while self._due <= self._spent:
                self._due *= FURTHER
        self._began = self.clock()


def race(name: str, params: PohScaling, budget: float) -> Iterator[dict[str, Any]]:
    """Rows of both curves for the size `name`, and last a row with the ratio (None where ours missed the goal)."""
    mazes = data.make(params.maze_size, params.train, seed=0)
    taken = set(data.hashes(data.orbit(mazes.open)))
    judged = data.make(params.maze_size, params.validation, seed=1, exclude=taken)
    theirs = published(name, params, mazes, judged, budget)
    verdict = goal_of(theirs, chance(judged), budget)
    ours = recipe(name, params, mazes, judged, budget, verdict["goal"])
    for who, curve in (("theirs", theirs), ("ours", ours)):
        for seconds, accuracy in curve:
            yield {"protocol": "learn", "size": name, "who": who, "train_s": seconds, "accuracy": accuracy}
    reached = first(ours, verdict["goal"])
    ratio = verdict["theirs_s"] / reached if reached else None
    yield {"protocol": "race", "size": name} | verdict | {"ours_s": reached, "ratio": ratio}


def goal_of(theirs: list[tuple[float, float]], by_chance: float, budget: float) -> dict[str, Any]:
    """What ours has to reach, the published loop's seconds to it, and whether these are only a lower bound."""
    best = max(accuracy for _, accuracy in theirs)
    learned = best >= by_chance + LEARNED
    goal = best if learned else by_chance + LEARNED
    seconds = first(theirs, goal) if learned else budget
    return {"chance": by_chance, "theirs_best": best, "goal": goal, "theirs_s": seconds, "at_least": not learned}


def first(curve: list[tuple[float, float]], goal: float) -> float | None:
    """Seconds of training when a curve first reached `goal`."""
    return next((seconds for seconds, accuracy in curve if accuracy >= goal), None)


def published(name: str, params: PohScaling, mazes: Mazes, judged: Mazes, budget: float) -> list[tuple[float, float]]:
    """The published loop's curve: every maze once an epoch, in shuffled order, until the budget is spent."""
    model = original.Original("stack", params.shape(name), mazes.side, params.R)
    training, order = original.Training(model, mazes), torch.Generator().manual_seed(ORDER)
    curve = Curve(lambda: path_accuracy(original.policy(model, judged), judged), budget)
    try:
        while True:
            for index in torch.randperm(len(mazes), generator=order).split(params.batch_size):
                training.step(index)
                curve()
    except Finished:
        return curve.points


def recipe(
    name: str, params: PohScaling, mazes: Mazes, judged: Mazes, budget: float, goal: float
) -> list[tuple[float, float]]:
    """Our curve, until the goal is reached, the planned training is over, or the budget is spent."""
    model = maze.build("stack", params.shape(name), params.R, params.T, seed=0)
    training = Training(model, mazes, Recipe(EPOCHS, params.batch_size, params.rate("stack")))
    curve = Curve(lambda: path_accuracy(evaluation.answers(model, judged).policy[-1], judged), budget, goal)
    try:
        for _ in range(EPOCHS):
            training.run_epoch(curve)
    except Finished:
        pass
    return curve.points


def path_accuracy(policy: np.ndarray, mazes: Mazes) -> float:
    """Share of cells on the way from start to goal at which `policy` (uint8 [M, N]) shortens it."""
    return float((mazes.next_steps >> policy & 1)[on_path(mazes)].mean())


def chance(mazes: Mazes) -> float:
    """`path_accuracy` expected of a random open direction, in mazes without loops."""
    ways = (mazes.open[..., None] >> np.arange(4) & 1).sum(-1)
    return float((1 / ways[on_path(mazes)]).mean())


def on_path(mazes: Mazes) -> np.ndarray:
    """bool [M, N]: cells on the way from start to goal, without the goal."""
    path = original.paths(mazes).numpy()
    found = np.zeros(mazes.open.shape, bool)
    rows, places = np.nonzero(path >= 0)
    found[rows, path[rows, places]] = True
    return found & (mazes.next_steps != 0)
