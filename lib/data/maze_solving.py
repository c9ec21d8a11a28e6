"""Compiled breadth-first search in mazes, and what rests on it: labels, endpoints, and mazes under symmetries.

`open` bits are those of `maze_carving`: direction d of a cell is open where bit d is set (0 north, 1 east, 2 south,
3 west). Nothing here draws random numbers: callers pass them, one uint64 per maze and choice.
"""

import numpy as np
from numba import njit

LOWEST = np.array([0, 0, 1, 0, 2, 0, 1, 0, 3, 0, 1, 0, 2, 0, 1, 0], np.uint8)  # position of the lowest set bit
BACK = np.array([4, 8, 1, 2], np.uint8)  # the bit that points back from where direction d leads
ONE = np.uint8(1)
HALF = np.uint64(32)


@njit(cache=True)
def flood(walls, source, offsets, distance, next_steps, queue):
    """Breadth-first search from `source`: fills `distance` (steps; -1 unreachable) and `next_steps`.

    `next_steps` gets the bits of the directions that lead one step nearer to the source. Cells enter `queue` in the
    order of their distance. Returns the number of cells reached.
    """
    distance[:] = -1
    next_steps[:] = 0
    distance[source] = 0
    queue[0] = source
    tail = 1
    head = 0
    while head < tail:
        cell = np.int64(queue[head])
        head += 1
        step = distance[cell] + 1
        bits = walls[cell] & ~next_steps[cell]
        while bits:
            direction = LOWEST[bits]
            bits &= bits - ONE
            neighbour = cell + offsets[direction]
            if distance[neighbour] < 0:
                distance[neighbour] = step
                next_steps[neighbour] = BACK[direction]
                queue[tail] = neighbour
                tail += 1
            elif distance[neighbour] == step:
                next_steps[neighbour] |= BACK[direction]
    return tail


@njit(cache=True)
def label(walls, side, goal):
    """Labels of `walls` (uint8 [M, N]) for `goal` (int32 [M]): distance int16 [M, N] and next_steps uint8 [M, N]."""
    offsets = np.array([-side, 1, side, -1])
    distance = np.empty(walls.shape, np.int16)
    next_steps = np.empty(walls.shape, np.uint8)
    queue = np.empty(side * side, np.int16)
    for i in range(len(walls)):
        flood(walls[i], goal[i], offsets, distance[i], next_steps[i], queue)
    return distance, next_steps


@njit(cache=True)
def choose_far(far, least, draw):
    """A uniform cell among those with `far[cell] >= least`; there must be one."""
    count = 0
    for cell in range(len(far)):
        count += far[cell] >= least
    skip = np.int64(((draw >> HALF) * np.uint64(count)) >> HALF)
    for cell in range(len(far)):
        if far[cell] >= least:
            if skip == 0:
                return cell
            skip -= 1
    return -1


@njit(cache=True)
def endpoints(walls, side, least, goal_draws, start_draws):
    """Goals, starts and labels: a path of at least `least` steps in every maze, or the longest where none is so long.

    Two searches, each from the cell that the one before found last, end at the two ends of a longest path; in a tree
    the farther of these ends is each cell's eccentricity. Where there are loops it is a lower bound, so a path is
    never shorter than asked, but a goal with a longer one may be missed. The goal is uniform among cells whose bound
    reaches `least`, the start among the cells so far from the goal.

    Returns goal int32 [M], start int32 [M], longest int16 [M] (steps between the two ends), distance int16 [M, N] to
    the goal, next_steps uint8 [M, N].
    """
    count, cells = walls.shape
    offsets = np.array([-side, 1, side, -1])
    goal, start = np.empty(count, np.int32), np.empty(count, np.int32)
    longest = np.empty(count, np.int16)
    distance, next_steps = np.empty(walls.shape, np.int16), np.empty(walls.shape, np.uint8)
    queue, from_one, far = np.empty(cells, np.int16), np.empty(cells, np.int16), np.empty(cells, np.int16)
    for i in range(count):
        one = queue[flood(walls[i], 0, offsets, far, next_steps[i], queue) - 1]
        other = queue[flood(walls[i], one, offsets, from_one, next_steps[i], queue) - 1]
        longest[i] = from_one[other]
        flood(walls[i], other, offsets, far, next_steps[i], queue)
        for cell in range(cells):
            far[cell] = max(far[cell], from_one[cell])
        enough = min(least, longest[i])
        goal[i] = choose_far(far, enough, goal_draws[i])
        flood(walls[i], goal[i], offsets, distance[i], next_steps[i], queue)
        start[i] = choose_far(distance[i], enough, start_draws[i])
    return goal, start, longest, distance, next_steps


@njit(cache=True)
def transformed(walls, kinds, sources, renamed):
    """Each maze under its own symmetry: uint8 [M, N].

    `kinds` [M] picks a row of `sources` [8, N] (the old cell that each new cell shows) and of `renamed` [8, 16] (the
    new bits for old ones).
    """
    out = np.empty_like(walls)
    for i in range(len(walls)):
        kind = kinds[i]
        for cell in range(walls.shape[1]):
            out[i, cell] = renamed[kind, walls[i, sources[kind, cell]]]
    return out
