"""Entropy coding of a message's symbols: an adaptive model of order 0 in front of the range coder.

The chance of a symbol is its count over all counts; each symbol that passes adds STEP to its own. So a receiver that
counts along needs no table. What the counts begin with matters more than how they grow, because a message may have no
more than a hundred values: codes begin as those of normally distributed values do, scaled by the largest of their
group, as if PRIOR of them had been seen. Everything is integer arithmetic, so every machine has the same counts.

The counts of code_counts and byte_counts are part of the wire format, as is STEP.

Bytes of the body as it is, by zstandard (level 19, of packed bits, of a byte per code, or of the bytes of floats sorted
by place, whichever is least), and by this coder; means over normally distributed messages, groups of 32:

| codec | 16 x 6: plain | zstd | here  | 16 x 16: plain | zstd | here  | 64 x 4096: plain | zstd      | here      |
|-------|---------------|------|-------|----------------|------|-------|------------------|-----------|-----------|
| fp32  | 384           | 384  | 328.8 | 1,024          | 956  | 864.2 | 1,048,576        | 887,111   | 872,320   |
| fp16  | 192           | 201  | 180.1 | 512            | 522  | 458.6 | 524,288          | 443,777   | 441,596   |
| bf16  | 192           | 189  | 137.0 | 512            | 450  | 352.7 | 524,288          | 363,035   | 348,042   |
| int8  | 96            | 105  | 93.1  | 256            | 266  | 249.8 | 262,144          | 253,188   | 252,094   |
| int6  | 72            | 81   | 69.2  | 192            | 201  | 184.6 | 196,608          | 188,406   | 187,219   |
| int4  | 48            | 57   | 44.0  | 128            | 137  | 116.5 | 131,072          | 119,305   | 118,692   |
| int3  | 36            | 45   | 29.9  | 96             | 105  | 78.9  | 98,304           | 81,636    | 80,400    |
| int2  | 24            | 33   | 13.1  | 64             | 66   | 35.1  | 65,536           | 35,558    | 35,164    |

So zstandard never wins, and on the small messages of a narrow wire its own header costs more than it saves.
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
    being the code over `top`: near the normal density whose largest of 32 is 1 on average, with the heavier tails that
    come of the largest not being the average. The outmost codes stand for half a step only, about x = 1 - 1 / (4 top).
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
