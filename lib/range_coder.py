"""A range coder: symbols with known chances to bytes, within a byte of what information theory asks for, and back.

Martin (1979), "Range encoding": a message is an interval of numbers that each symbol narrows to its own share, and the
bytes are the shortest number inside. The interval is [low, low + range), at first low = 0 and range = 2^64 - 1; of this
a symbol that owns [start, start + size) of a total takes

    step = range div total;  low += start x step;  range = size x step

and while range < 2^56, both are multiplied by 256 and the highest of low's eight bytes is written. Adding to `low` may
still carry into bytes already written, so these are kept where a carry can reach them. With such a range, what the
division rounds away is below 2^(t - 56) of a symbol of total 2^t: nothing that could be measured. At the end the number
in the interval with the fewest bytes is written. Zero bytes at the end are dropped, and a decoder reads zeros past the
end, so neither a length nor an end mark is stored: the reader has to know how many symbols there are.

`encode` and `Decoder` are for models in Python, which say the shares in 2^bits-ths. `put`, `finish`, `start`, `target`
and `take` are the same coder for compiled models; they accept any total up to 2^40, another for each symbol if need be.
"""

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

MOST_BITS = 32
LOW, RANGE, PLACE = 0, 1, 2  # of a coder's state, uint64 [3]; a decoder has (number - low) for low
BYTE, TOP, WORD = np.uint64(8), np.uint64(56), np.uint64(64)
LEAST = np.uint64(1 << 56)  # range is kept at or above this
ONE, ALL = np.uint64(1), np.uint64(2**64 - 1)
MOST_BYTES = 5  # of a symbol, whose total is at most 2^40
SPARE = 16  # bytes that an output needs besides those of its symbols


def encode(starts: ArrayLike, sizes: ArrayLike, bits: int = 16) -> bytes:
    """The bytes of n symbols, of which symbol i owns [start, start + size) of 2**bits; `bits` is 1 to 32.

    starts, sizes: integers [n]. At most one byte longer than the sum of log2(2**bits / size) bits. ValueError for
    shares that are empty or not inside 2**bits.
    """
    starts, sizes = np.asarray(starts, np.int64), np.asarray(sizes, np.int64)
    if starts.ndim != 1 or starts.shape != sizes.shape:
        raise ValueError(f"Starts {starts.shape} and sizes {sizes.shape} have to be two lists of the same length.")
    total = _total(bits)
    if np.any((starts < 0) | (sizes < 1) | (sizes > total - starts)):
        raise ValueError(f"Every share has to be non-empty and inside [0, {total}); check the model's counts.")
    out = np.zeros(MOST_BYTES * len(starts) + SPARE, np.uint8)
    return out[: _encode(starts.astype(np.uint64), sizes.astype(np.uint64), np.uint64(total), out)].tobytes()


class Decoder:
    """Reads symbols back: `target()` says where in [0, 2**bits) the next one lies, `consume` what share that was."""

    def __init__(self, data: bytes, bits: int = 16) -> None:
        self._data = np.frombuffer(data, np.uint8)
        self._total = _total(bits)
        self._state = start(self._data)

    def target(self) -> int:
        """A number inside the share of the next symbol."""
        return int(target(self._state, np.uint64(self._total)))

    def consume(self, start: int, size: int) -> None:
        """Step over the symbol that owns [start, start + size); ValueError unless `target()` lies inside."""
        if not start <= self.target() < start + size <= self._total:
            raise ValueError(f"The next symbol is at {self.target()}, not in [{start}, {start + size}).")
        take(self._state, self._data, np.uint64(start), np.uint64(size), np.uint64(self._total))


def _total(bits: int) -> int:
    if not 1 <= bits <= MOST_BITS:
        raise ValueError(f"Shares are counted in 2**1 to 2**{MOST_BITS}-ths, not 2**{bits}-ths.")
    return 1 << bits


@njit(cache=True)
def fresh():
    """The state of an encoder that has written nothing (uint64 [3])."""
    return np.array([0, ALL, 0], np.uint64)


@njit(cache=True)
def put(state, out, start, size, total):
    """Append the symbol that owns [start, start + size) of `total` (uint64 each) to `out` (uint8)."""
    step = state[RANGE] // total
    low = state[LOW] + start * step
    if low < state[LOW]:
        _carry(out, state[PLACE])
    state[LOW], state[RANGE] = low, step * size
    while state[RANGE] < LEAST:
        out[state[PLACE]] = state[LOW] >> TOP
        state[PLACE] += ONE
        state[LOW] <<= BYTE
        state[RANGE] <<= BYTE


@njit(cache=True)
def finish(state, out):
    """Write the shortest number of the interval; returns how many bytes of `out` count."""
    for kept in range(9):
        below = ALL if kept == 0 else (ONE << (WORD - BYTE * np.uint64(kept))) - ONE if kept < 8 else np.uint64(0)
        short = (~state[LOW] + ONE) & below  # of the next number whose bits `below` are zeros
        if short < state[RANGE]:
            break
    number = state[LOW] + short
    if number < state[LOW]:
        _carry(out, state[PLACE])
    place = np.int64(state[PLACE])
    for i in range(8):
        out[place + i] = number >> (TOP - BYTE * np.uint64(i))
    length = place + 8
    while length > 0 and out[length - 1] == 0:
        length -= 1
    return length


@njit(cache=True)
def _carry(out, place):
    """Add one to the number that the first `place` bytes are."""
    i = np.int64(place) - 1
    while out[i] == 255:
        out[i] = 0
        i -= 1
    out[i] += 1


@njit(cache=True)
def _encode(starts, sizes, total, out):
    state = fresh()
    for i in range(len(starts)):
        put(state, out, starts[i], sizes[i], total)
    return finish(state, out)


@njit(cache=True)
def start(data):
    """The state of a decoder (uint64 [3]) at the beginning of `data` (uint8)."""
    state = np.array([0, ALL, 0], np.uint64)
    for _ in range(8):
        _shift(state, data)
    return state


@njit(cache=True)
def target(state, total):
    """Where in [0, total) the next symbol lies (uint64); less than `total` even where the data is damaged."""
    return min(state[LOW] // (state[RANGE] // total), total - ONE)


@njit(cache=True)
def take(state, data, start, size, total):
    """Step over the symbol that owns [start, start + size) of `total`; `size` is not 0."""
    step = state[RANGE] // total
    state[LOW] -= start * step
    state[RANGE] = step * size
    while state[RANGE] < LEAST:
        _shift(state, data)
        state[RANGE] <<= BYTE


@njit(cache=True)
def _shift(state, data):
    """Bring the next byte into sight; zeros follow the last."""
    byte = data[state[PLACE]] if state[PLACE] < len(data) else np.uint8(0)
    state[LOW] = (state[LOW] << BYTE) | np.uint64(byte)
    state[PLACE] += ONE
