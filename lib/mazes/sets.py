"""The mazes of a seed: for training, validation and testing, disjoint, and the same for every arm."""

from __future__ import annotations

from dataclasses import dataclass

from lib.data import mazes
from lib.data.mazes import Mazes
from lib.params.mazes import PohScaling

TEST, VALIDATION, LARGER, LOOPS = 10_000, 20_000, 30_000, 40_000  # added to the seed; the first as published
FEW = 400  # mazes at most of a larger side, which costs several times as much, or with loops: seeds are the replicates
OPENED = 0.5  # share of dead ends opened in the test mazes with loops


@dataclass(frozen=True)
class Sets:
    """All mazes of one seed."""

    train: Mazes
    validation: Mazes
    test: Mazes
    larger: dict[int, Mazes]  # side -> test mazes
    loops: Mazes  # test mazes of the training side in which ways may differ in length


def make(params: PohScaling, seed: int) -> Sets:
    """The mazes that `params` and `seed` name, and nothing else decides.

    No maze of one set is one of another's, nor the mirror image or a turned copy of one. Raises MazeError where that,
    or `min_path`, cannot be had.
    """
    about = {"algorithm": params.algorithm, "braid": params.braid}
    side = params.maze_size
    train = mazes.make(side, params.train, seed, **about)
    taken = set(mazes.hashes(mazes.orbit(train.open)))
    validation = mazes.make(side, params.validation, seed + VALIDATION, exclude=taken, **about)
    taken |= set(mazes.hashes(mazes.orbit(validation.open)))
    asked = about | {"min_path": params.least_cells}
    test = mazes.make(side, params.test, seed + TEST, exclude=taken, **asked)
    taken |= set(mazes.hashes(mazes.orbit(test.open)))
    few = min(params.test, FEW)
    larger = {side + more: mazes.make(side + more, few, seed + LARGER, **asked) for more in params.larger}
    loops = mazes.make(side, few, seed + LOOPS, params.algorithm, OPENED, exclude=taken)
    return Sets(train, validation, test, larger, loops)
