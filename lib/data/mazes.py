"""Mazes with the way to a goal written into every cell: what the maze models read and are scored on.

A maze is a spanning tree of a side x side lattice (one path between any two cells), or has loops where it is braided.
Cells are numbered row by row; directions are 0 north, 1 east, 2 south, 3 west; bit d of a cell's byte says that there
is no wall towards direction d. A path's length is counted in cells, both ends included; a distance in steps.

Maze i of a set depends on the parameters of the data, the seed and i, and on nothing else: not on how many mazes are
asked for, nor on what is trained on them. Endpoints are chosen so that the path is long enough, and no maze is thrown
away for being too short, which would change which mazes there are. The kernels are compiled on first use; importing
this module costs nothing.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache

import numpy as np

ALGORITHMS = ("dfs", "wilson", "kruskal")  # in the order of the codes in maze_carving
MAX_SIDE = 181  # cell numbers and distances are int16
TRIES = 1000  # carvings of one maze before the mazes outside `exclude` count as used up

CARVING, GOAL, START, VARIANT = range(4)  # what a random stream is for


class MazeError(ValueError):
    """Mazes that cannot be made; the message is one sentence for the person who asked for them."""


@dataclass(frozen=True, eq=False)
class Mazes:
    """M mazes of N = side * side cells with endpoints and labels."""

    side: int
    open: np.ndarray  # uint8 [M, N]; bit d: no wall towards direction d
    goal: np.ndarray  # int32 [M]
    start: np.ndarray  # int32 [M]
    distance: np.ndarray  # int16 [M, N]; steps to the goal
    next_steps: np.ndarray  # uint8 [M, N]; bits of the directions that shorten the way; 0 at the goal
    capped: int  # mazes whose longest path is shorter than min_path (only where min_path was "auto")

    def __len__(self) -> int:
        return len(self.open)

    @property
    def shortest(self) -> np.ndarray:
        """int16 [M]: steps of the shortest path from start to goal."""
        return self.distance[np.arange(len(self)), self.start]


def auto_min_path(side: int) -> int:
    """The least length of a path, in cells, that min_path "auto" asks for: 40 % of all cells, at least 2."""
    return max(2, 2 * side * side // 5)


def carve(side: int, count: int, seed: int, algorithm: str = "dfs", braid: float = 0.0) -> np.ndarray:
    """`count` mazes as open bits, uint8 [count, side * side].

    `algorithm`: "dfs" (randomised depth-first search: long winding corridors), "wilson" (every spanning tree equally
    likely) or "kruskal" (random edges that close no circle: many short dead ends). `braid`: each dead end, in the
    order of cells, is opened with this probability towards a random closed neighbour, which makes loops. `seed` is
    any integer, taken modulo 2^64. Raises MazeError for values that no maze can have.
    """
    check(side, count, algorithm, braid)
    return _carved(side, _streams(seed, CARVING, np.arange(count)), algorithm, braid)


def label(open: np.ndarray, goal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shortest ways to the goal from every cell, by one breadth-first search per maze.

    open: uint8 [M, N]; goal: integers [M]. Returns distance int16 [M, N] in steps (-1 where there is no way) and
    next_steps uint8 [M, N], the bits of all directions that shorten the way (0 at the goal). Raises MazeError where
    the arrays are not mazes with goals.
    """
    from lib.data import maze_solving

    side = _side_of(open)
    goal = np.asarray(goal)
    if goal.shape != open.shape[:1] or not np.all((goal >= 0) & (goal < open.shape[1])):
        raise MazeError(f"Each of {len(open)} mazes needs one goal, a cell from 0 to {open.shape[1] - 1}.")
    return maze_solving.label(np.ascontiguousarray(open), side, goal.astype(np.int32))


def make(
    side: int,
    count: int,
    seed: int,
    algorithm: str = "dfs",
    braid: float = 0.0,
    min_path: int | str = "auto",
    exclude: Collection[bytes] = (),
) -> Mazes:
    """Exactly `count` labelled mazes whose paths from start to goal have at least `min_path` cells.

    The goal is uniform among the cells that have another cell so far away, the start uniform among those so far from
    the goal. "auto" asks for `auto_min_path(side)` cells, or for the longest path of a maze that has none so long
    (`capped` counts these); a number is never lowered. With loops the longest path is known from below only, so a
    maze may be capped, or refused, a little early. `exclude` holds `hashes` of mazes that must not occur: such a maze
    is carved again from a further stream of its own. Raises MazeError.
    """
    check(side, count, algorithm, braid, min_path)
    walls = carve(side, count, seed, algorithm, braid)
    _replace_excluded(walls, side, seed, algorithm, braid, frozenset(exclude))
    return _with_endpoints(walls, side, seed, min_path)


def hashes(open: np.ndarray) -> list[bytes]:
    """One 16-byte BLAKE2b hash per maze of `open` (uint8 [M, N]); the number of cells, so the side, is part of it."""
    return [hashlib.blake2b(row, digest_size=16).digest() for row in np.ascontiguousarray(open, np.uint8)]


def digest(mazes: Mazes) -> str:
    """Hex hash of a whole set: its mazes, goals and starts in their order. Labels follow from these."""
    total = hashlib.blake2b(f"{mazes.side} {len(mazes)} ".encode(), digest_size=16)
    for array, dtype in ((mazes.open, "u1"), (mazes.goal, "<i4"), (mazes.start, "<i4")):
        total.update(np.ascontiguousarray(array, dtype))
    return total.hexdigest()


def variants(open: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Every maze of `open` (uint8 [M, N]) under a random one of the square's 8 symmetries, with a new goal.

    Returns open uint8 [M, N] and goal int32 [M], uniform over cells. Draws depend on `seed` and the maze's position.
    """
    from lib.data import maze_solving

    side = _side_of(open)
    draws = _streams(seed, VARIANT, np.arange(len(open)))
    goal = (draws >> np.uint64(32)) * np.uint64(side * side) >> np.uint64(32)
    kinds = (draws & np.uint64(7)).astype(np.int64)
    return maze_solving.transformed(np.ascontiguousarray(open), kinds, *_symmetries(side)), goal.astype(np.int32)


def orbit(open: np.ndarray) -> np.ndarray:
    """Every maze of `open` (uint8 [M, N]) under each of the square's 8 symmetries: uint8 [8 * M, N]."""
    from lib.data import maze_solving

    kinds = np.repeat(np.arange(8), len(open))
    return maze_solving.transformed(np.tile(open, (8, 1)), kinds, *_symmetries(_side_of(open)))


def check(side: int, count: int, algorithm: str = "dfs", braid: float = 0.0, min_path: int | str = "auto") -> None:
    """Raise MazeError for parameters that no set of mazes can have; costs nothing and compiles nothing."""
    if not 2 <= side <= MAX_SIDE:
        raise MazeError(f"A maze has a side of 2 to {MAX_SIDE} cells, not {side}: choose a side in this range.")
    if count < 0:
        raise MazeError(f"{count} mazes cannot be made: ask for 0 or more.")
    if algorithm not in ALGORITHMS:
        near = difflib.get_close_matches(str(algorithm).lower(), ALGORITHMS, 1, 0.0)[0]
        raise MazeError(
            f"There is no maze algorithm {algorithm!r} (of {', '.join(ALGORITHMS)}): did you mean {near!r}?"
        )
    if not 0 <= braid <= 1:
        raise MazeError(f"braid is the probability that a dead end is opened, not {braid}: choose 0 to 1.")
    if isinstance(min_path, str) and min_path != "auto":
        raise MazeError(f"min_path is a number of cells or 'auto', not {min_path!r}: type 'auto' or a number.")
    if not isinstance(min_path, str) and not 2 <= min_path <= side * side:
        raise MazeError(
            f"A path in a maze of side {side} has 2 to {side * side} cells, not min_path {min_path}: "
            "choose a number in this range or 'auto'."
        )


def _streams(seed: int, purpose: int, index: np.ndarray, attempt: int = 0) -> np.ndarray:
    """uint64 [M]: where the random stream of each maze in `index` (int64 [M]) begins."""
    from lib.data import maze_carving

    return maze_carving.streams(np.uint64(int(seed) % 2**64), np.uint64(purpose), index, np.uint64(attempt))


def _carved(side: int, streams: np.ndarray, algorithm: str, braid: float) -> np.ndarray:
    from lib.data import maze_carving

    return maze_carving.carve(side, streams, ALGORITHMS.index(algorithm), braid)


def _replace_excluded(
    walls: np.ndarray, side: int, seed: int, algorithm: str, braid: float, exclude: frozenset[bytes]
) -> None:
    """Carve anew, in place, every maze whose hash is in `exclude`."""
    if not exclude:
        return
    for i in [i for i, name in enumerate(hashes(walls)) if name in exclude]:
        walls[i] = _outside(side, seed, i, algorithm, braid, exclude)


def _outside(side: int, seed: int, i: int, algorithm: str, braid: float, exclude: frozenset[bytes]) -> np.ndarray:
    """Maze i from the first further stream that gives one outside `exclude`: uint8 [N]."""
    for attempt in range(1, TRIES + 1):
        walls = _carved(side, _streams(seed, CARVING, np.array([i]), attempt), algorithm, braid)
        if hashes(walls)[0] not in exclude:
            return walls[0]
    raise MazeError(
        f"No maze of side {side} outside the {len(exclude)} excluded ones was found in {TRIES} tries: "
        "choose a larger side or exclude fewer."
    )


def _with_endpoints(walls: np.ndarray, side: int, seed: int, min_path: int | str) -> Mazes:
    from lib.data import maze_solving

    cells = auto_min_path(side) if min_path == "auto" else int(min_path)
    index = np.arange(len(walls))
    draws = _streams(seed, GOAL, index), _streams(seed, START, index)
    goal, start, longest, distance, next_steps = maze_solving.endpoints(walls, side, cells - 1, *draws)
    short = int((longest < cells - 1).sum())
    if short and min_path != "auto":
        raise MazeError(
            f"{short} of {len(walls)} mazes of side {side} have no path of {cells} cells: "
            f"choose a min_path of at most {longest.min() + 1}, which all of them have, or 'auto'."
        )
    return Mazes(side, walls, goal, start, distance, next_steps, short)


def _side_of(open: np.ndarray) -> int:
    """The side of mazes given as open bits; raises MazeError for what would lead a walk out of the square."""
    cells = open.shape[1] if open.ndim == 2 else 0
    side = math.isqrt(cells)
    if open.dtype != np.uint8 or not 2 <= side <= MAX_SIDE or side * side != cells:
        raise MazeError(
            f"Mazes are uint8 [M, side * side] with a side of 2 to {MAX_SIDE}, "
            f"not {open.dtype} {list(open.shape)}: pass open bits as `carve` returns them."
        )
    grid = open.reshape(-1, side, side)
    edges = (grid[:, 0], 1), (grid[:, :, -1], 2), (grid[:, -1], 4), (grid[:, :, 0], 8)
    if any(np.any(edge & outwards) for edge, outwards in edges):
        raise MazeError("A maze is open towards the outside: close its border before it is labelled.")
    return side


@cache
def _symmetries(side: int) -> tuple[np.ndarray, np.ndarray]:
    """The square's 8 symmetries: [8, N], the old cell that each new cell shows; uint8 [8, 16], new bits for old.

    Kind k turns k % 4 times counter-clockwise (direction d becomes d - 1), then, from 4 on, swaps left and right
    (d becomes -d).
    """
    cells = np.arange(side * side).reshape(side, side)
    sources, renamed = [], []
    for kind in range(8):
        turned = np.rot90(cells, kind % 4)
        names = [(d - kind) % 4 for d in range(4)]
        if kind >= 4:
            turned, names = np.fliplr(turned), [-d % 4 for d in names]
        sources.append(turned.ravel())
        renamed.append([sum(1 << names[d] for d in range(4) if bits >> d & 1) for bits in range(16)])
    return np.array(sources), np.array(renamed, np.uint8)
