"""Entropy coding of a message's symbols: an adaptive model of order 0 in front of the range coder.

The chance of a symbol is its count over all counts; each symbol that passes adds STEP to its own. So a receiver that
counts along needs no table. What the counts begin with matters more than how they grow, because a message may have no
more than a hundred values: codes begin as those of normally distributed values do, scaled by the largest of their
group, as if PRIOR of them had been seen. Everything is integer arithmetic, so every machine has the same counts.

Bytes of packed codes, of zstandard (level 19) on these, and of this coder; normally distributed messages, groups of 32:

| message   | codec | packed | zstandard | this coder |
|-----------|-------|--------|-----------|------------|
"""

import numpy as np
from numba import njit

from lib import range_coder
from lib.range_coder import finish, fresh, put, start, take, target

STEP = 32  # of a count, for each symbol seen
PRIOR = 256  # symbols that the counts of codes begin with


def code_counts(top: int, group: int) -> np.ndarray:
    """int64 [2 top + 1]: counts that codes -top..top of groups of `group` values begin with; they are symmetric.

    One code per group is its largest, -top or top, by construction. The others are shared out by (1 + 3/4 x^2)^-4, x
    being the code over `top`: within a few per cent the normal density whose largest of 32 is 1 on average. The outmost
    codes stand for half a step only, about x = 1 - 1 / (4 top).
    """
    total = STEP * PRIOR
    ends = total // (2 * group)
    quarters = [*range(0, 4 * top, 4), 4 * top - 1]  # x is these over 4 top
    unit = 4 * (4 * top) ** 2
    shape = [2**20 * unit**4 // (unit + 3 * quarter**2) ** 4 for quarter in quarters]
    shape[-1] //= 2
    whole = 2 * sum(shape) - shape[0]
    half = [max(1, weight * (total - 2 * ends) // whole) for weight in shape]
    half[-1] += ends
    return np.array([*half[:0:-1], *half], np.int64)


def byte_counts() -> np.ndarray:
    """int64 [256]: counts that the highest bytes of floats begin with: nothing is known of their scale."""
    return np.ones(256, np.int64)


def compress(symbols: np.ndarray, counts: np.ndarray) -> bytes:
    """The bytes of `symbols` (uint8 [n], each below len(counts)) under counts (int64) that grow with them."""
    return _compress(symbols, counts.copy()).tobytes()


def expand(data: bytes | memoryview, n: int, counts: np.ndarray) -> np.ndarray:
    """uint8 [n]: the symbols that `compress` was given; n of some kind come out of any bytes whatever."""
    return _expand(np.frombuffer(data, np.uint8), n, counts.copy())


@njit(cache=True)
def _compress(symbols, counts):
    out = np.zeros(range_coder.MOST_BYTES * len(symbols) + range_coder.SPARE, np.uint8)
    state, total = fresh(), counts.sum()
    for symbol in symbols:
        put(state, out, np.uint64(counts[:symbol].sum()), np.uint64(counts[symbol]), np.uint64(total))
        counts[symbol] += STEP
        total += STEP
    return out[: finish(state, out)]


@njit(cache=True)
def _expand(data, n, counts):
    symbols = np.empty(n, np.uint8)
    state, total = start(data), counts.sum()
    for i in range(n):
        aim = np.int64(target(state, np.uint64(total)))
        symbol, below = 0, np.int64(0)
        while below + counts[symbol] <= aim:
            below += counts[symbol]
            symbol += 1
        take(state, data, np.uint64(below), np.uint64(counts[symbol]), np.uint64(total))
        counts[symbol] += STEP
        total += STEP
        symbols[i] = symbol
    return symbols
