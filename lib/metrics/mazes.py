"""Walking mazes by a policy, and what a walk is worth; the policies that need no model.

A policy is one direction per cell (0 north, 1 east, 2 south, 3 west). A walk obeys the walls and remembers nothing:
it fails where the policy points into a wall, and where it comes back to a cell, because it would go round for ever.
All mazes of a set are walked at once. Cells are numbered row by row; bit d of a cell's `open` byte says that there is
no wall towards direction d.
"""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Walks:
    """How M walks ended."""

    reached: np.ndarray  # bool [M]; at the goal
    steps: np.ndarray  # int64 [M]; steps to the goal, -1 where it was not reached


def walk(policy: np.ndarray, open: np.ndarray, start: np.ndarray, goal: np.ndarray) -> Walks:
    """Follow `policy` (uint8 [M, N], directions) from start to goal (int [M]) in mazes `open` (uint8 [M, N])."""
    side = math.isqrt(open.shape[1])
    offsets = np.array([-side, 1, side, -1])
    steps = np.where(start == goal, 0, -1)
    walking = np.flatnonzero(start != goal)
    cell = start[walking].astype(np.int64)
    for step in range(1, open.shape[1]):  # a walk without a circle visits no cell twice
        direction = policy[walking, cell]
        legal = (open[walking, cell] >> direction & 1).astype(bool)
        walking, cell = walking[legal], cell[legal] + offsets[direction[legal]]
        there = cell == goal[walking]
        steps[walking[there]] = step
        walking, cell = walking[~there], cell[~there]
        if not len(walking):
            break
    return Walks(steps >= 0, steps)


def path(policy: np.ndarray, open: np.ndarray, start: int, goal: int) -> list[int]:
    """The cells of one maze (`open` uint8 [N]) that a walk by `policy` (uint8 [N]) visits, up to where it ends."""
    side = math.isqrt(len(open))
    offsets = (-side, 1, side, -1)
    cells = [int(start)]
    while cells[-1] != goal and open[cells[-1]] >> policy[cells[-1]] & 1:
        following = cells[-1] + offsets[policy[cells[-1]]]
        if following in cells:
            break
        cells.append(following)
    return cells


def accuracy(walks: Walks) -> float:
    """Share of walks that reach the goal."""
    return float(walks.reached.mean())


def optimality(walks: Walks, shortest: np.ndarray) -> float:
    """Share of walks that reach the goal in as few steps as there can be: `shortest`, int [M], by the distance field.

    In a maze without loops every walk that reaches the goal does.
    """
    return float((walks.reached & (walks.steps == shortest)).mean())


def cell_accuracy(policy: np.ndarray, next_steps: np.ndarray) -> float:
    """Share of cells, goals aside, where `policy` (uint8 [M, N]) shortens the way: is a bit of `next_steps` [M, N]."""
    counted = next_steps != 0
    return float(((next_steps >> policy) & 1)[counted].mean())


def random_policy(open: np.ndarray, seed: int) -> np.ndarray:
    """uint8 [M, N]: a uniformly random open direction in each cell of `open` (uint8 [M, N])."""
    ways = open[..., None] >> np.arange(4, dtype=np.uint8) & 1
    draws = np.random.default_rng(seed).random(ways.shape, dtype=np.float32)
    return np.where(ways, draws, -1).argmax(-1).astype(np.uint8)


def manhattan_policy(side: int, goal: np.ndarray, seed: int) -> np.ndarray:
    """uint8 [M, side * side]: blind to walls, a direction that brings each cell nearer to its goal (int [M]).

    Where a step along the row and one along the column both do, `seed` decides; at the goal the direction is 0.
    """
    row, column = np.divmod(np.arange(side * side), side)
    down, right = goal[:, None] // side - row, goal[:, None] % side - column
    vertical = np.where(down > 0, 2, 0)
    horizontal = np.where(right > 0, 1, 3)
    tie = np.random.default_rng(seed).random(down.shape) < 0.5
    along_column = (right == 0) | ((down != 0) & tie)
    return np.where(along_column, vertical, horizontal).astype(np.uint8)


def bfs_policy(next_steps: np.ndarray) -> np.ndarray:
    """uint8 like `next_steps` (bits of the directions that shorten the way): the lowest of them; 0 at the goal."""
    return (next_steps[..., None] >> np.arange(4, dtype=np.uint8) & 1).argmax(-1).astype(np.uint8)
