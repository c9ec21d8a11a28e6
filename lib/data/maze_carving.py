"""Compiled carving of mazes: three ways to a spanning tree of the lattice, and braiding, which opens dead ends.

Cells are numbered row by row; direction d of a cell is bit d of its byte (0 north, 1 east, 2 south, 3 west). Each
maze has one 64-bit random stream of its own, so no maze depends on how many others are carved with it. The stream is
splitmix64 (Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"): one addition and one mixing
per draw.

Which neighbours of a cell are still free is kept as four bits per cell and updated when a neighbour is taken. A step
then costs one look-up, and the border needs no test: a cell at the edge never had the bit that points outside.
"""

import numpy as np
from numba import njit

DFS, WILSON, KRUSKAL = 0, 1, 2  # positions in `mazes.ALGORITHMS`
NORTH, EAST, SOUTH, WEST = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: the step of splitmix64
MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
HALF = np.uint64(32)
UNIT = 2.0**-32

LCM = 12  # a draw below 12 chooses among 1, 2, 3 or 4 directions with equal chances


def _choices() -> np.ndarray:
    """uint8 [16 * 12]: the direction that draw r in 0..11 takes among the set bits of `bits`, at bits * 12 + r."""
    table = np.zeros((16, LCM), np.uint8)
    for bits in range(1, 16):
        directions = [d for d in range(4) if bits >> d & 1]
        table[bits] = np.resize(directions, LCM)
    return table.ravel()


CHOICE = _choices()


@njit(cache=True)
def mixed(state):
    """The random 64 bits of a stream's state (uint64)."""
    z = (state ^ (state >> SHIFTS[0])) * MULTIPLIERS[0]
    z = (z ^ (z >> SHIFTS[1])) * MULTIPLIERS[1]
    return z ^ (z >> SHIFTS[2])


@njit(cache=True)
def streams(seed, purpose, index, attempt):
    """uint64 [M]: where a random stream begins for each maze of `index` (int64 [M]); the rest are uint64 scalars.

    Every word is mixed in by itself, so neighbouring seeds, purposes, mazes or attempts share nothing.
    """
    states = np.empty(len(index), np.uint64)
    for i in range(len(index)):
        state = mixed(seed + GOLDEN)
        state = mixed((state ^ purpose) + GOLDEN)
        state = mixed((state ^ np.uint64(index[i])) + GOLDEN)
        states[i] = mixed((state ^ attempt) + GOLDEN)
    return states


@njit(cache=True)
def below(state, bound):
    """A uniform integer in 0..bound-1 (int64); off uniform by less than bound / 2^32."""
    return np.int64(((mixed(state) >> HALF) * np.uint64(bound)) >> HALF)


@njit(cache=True)
def pick(state, bits):
    """A uniform direction among the set bits of `bits`, which is not 0."""
    return np.int64(CHOICE[np.int64(bits) * LCM + below(state, LCM)])


@njit(cache=True)
def join(walls, cell, direction, offsets):
    """Opens the wall between `cell` and its neighbour, on both sides; returns the neighbour."""
    neighbour = cell + offsets[direction]
    walls[cell] |= np.uint8(1 << direction)
    walls[neighbour] |= np.uint8(1 << (direction ^ 2))
    return neighbour


@njit(cache=True)
def take(free, cell, side):
    """Tells the four neighbours of `cell` that it is no longer free; `free` has `side` spare entries at either end."""
    free[cell] &= ~SOUTH
    free[cell + side + 1] &= ~WEST
    free[cell + side + side] &= ~NORTH
    free[cell + side - 1] &= ~EAST


@njit(cache=True)
def carve_dfs(walls, inside, offsets, side, state):
    """Randomised iterative depth-first search: on to a uniform free neighbour, back where there is none."""
    cells = side * side
    free = np.zeros(cells + 2 * side, np.uint8)
    for cell in range(cells):
        free[cell + side] = inside[cell]
    stack = np.empty(cells, np.int32)
    state += GOLDEN
    cell = below(state, cells)
    take(free, cell, side)
    stack[0] = cell
    top = 0
    while top >= 0:
        cell = np.int64(stack[top])
        bits = free[cell + side]
        if bits == 0:
            top -= 1
            continue
        state += GOLDEN
        cell = join(walls, cell, pick(state, bits), offsets)
        take(free, cell, side)
        top += 1
        stack[top] = cell
    return state


@njit(cache=True)
def carve_wilson(walls, inside, offsets, side, state):
    """Wilson's algorithm (1996): loop-erased random walks; every spanning tree has the same chance.

    The last way out of each cell is remembered, so following these from the walk's start skips its loops.
    """
    cells = side * side
    in_tree = np.zeros(cells, np.bool_)
    way_out = np.empty(cells, np.uint8)
    state += GOLDEN
    in_tree[below(state, cells)] = True
    for first in range(cells):
        cell = first
        while not in_tree[cell]:
            state += GOLDEN
            way_out[cell] = pick(state, inside[cell])
            cell += offsets[way_out[cell]]
        cell = first
        while not in_tree[cell]:
            in_tree[cell] = True
            cell = join(walls, cell, np.int64(way_out[cell]), offsets)
    return state


@njit(cache=True)
def root_of(parents, cell):
    """The representative of a cell's component; halves the path on the way."""
    while parents[cell] != cell:
        parents[cell] = parents[parents[cell]]
        cell = parents[cell]
    return cell


@njit(cache=True)
def carve_kruskal(walls, inside, offsets, side, state):
    """Kruskal's algorithm over edges in a uniformly random order: an edge is opened where it joins two components."""
    cells = side * side
    edges = np.empty(2 * cells, np.int32)  # cell * 2 + (0 east, 1 south)
    count = 0
    for cell in range(cells):
        for south in range(2):
            if inside[cell] & (SOUTH if south else EAST):
                edges[count] = 2 * cell + south
                count += 1
    parents = np.arange(cells).astype(np.int32)
    while count > 0:
        state += GOLDEN
        drawn = below(state, count)
        count -= 1
        edge, edges[drawn] = edges[drawn], edges[count]
        cell, direction = np.int64(edge >> 1), np.int64(1 + (edge & 1))
        one, other = root_of(parents, cell), root_of(parents, cell + offsets[direction])
        if one != other:
            parents[one] = other
            join(walls, cell, direction, offsets)
    return state


@njit(cache=True)
def open_dead_ends(walls, inside, offsets, chance, state):
    """Joins each dead end, with probability `chance`, to a uniform neighbour behind one of its walls."""
    for cell in range(len(walls)):
        bits = walls[cell]
        if bits & (bits - np.uint8(1)):  # more than one way out
            continue
        state += GOLDEN
        if np.float64(mixed(state) >> HALF) * UNIT < chance:
            state += GOLDEN
            join(walls, cell, pick(state, inside[cell] & ~bits), offsets)


@njit(cache=True)
def carve_all(mazes, streams, inside, offsets, side, algorithm, braid):
    """Carves one maze into each row of `mazes` (uint8 [M, N], zeros)."""
    for i in range(len(streams)):
        if algorithm == DFS:
            state = carve_dfs(mazes[i], inside, offsets, side, streams[i])
        elif algorithm == WILSON:
            state = carve_wilson(mazes[i], inside, offsets, side, streams[i])
        else:
            state = carve_kruskal(mazes[i], inside, offsets, side, streams[i])
        if braid > 0:
            open_dead_ends(mazes[i], inside, offsets, braid, state)


def lattice(side: int) -> np.ndarray:
    """uint8 [side * side]: the bits of the directions that stay inside."""
    inside = np.full((side, side), NORTH | EAST | SOUTH | WEST, np.uint8)
    inside[0] &= ~NORTH
    inside[:, -1] &= ~EAST
    inside[-1] &= ~SOUTH
    inside[:, 0] &= ~WEST
    return inside.ravel()


def carve(side: int, streams: np.ndarray, algorithm: int, braid: float) -> np.ndarray:
    """One maze for each of `streams` (uint64 [M]): open directions as bits, uint8 [M, side * side].

    `algorithm` is DFS, WILSON or KRUSKAL; `braid` is the chance in [0, 1] that a dead end is opened.
    """
    mazes = np.zeros((len(streams), side * side), np.uint8)
    offsets = np.array([-side, 1, side, -1])
    carve_all(mazes, streams, lattice(side), offsets, side, algorithm, float(braid))
    return mazes
