"""The range coder: what goes in comes out, in no more bytes than it has to take."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import range_coder


def shares(rng, n, bits, symbols):
    """A random model of `symbols` symbols (their borders) and n symbols drawn from it."""
    inner = rng.choice(np.arange(1, 2**bits), symbols - 1, replace=False)
    borders = np.concatenate([[0], np.sort(inner), [2**bits]])
    return borders, rng.choice(symbols, n, p=np.diff(borders) / 2**bits)


def decoded(data, borders, n, bits):
    decoder, found = range_coder.Decoder(data, bits), []
    for _ in range(n):
        symbol = int(np.searchsorted(borders, decoder.target(), side="right")) - 1
        decoder.consume(int(borders[symbol]), int(borders[symbol + 1] - borders[symbol]))
        found.append(symbol)
    return found


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 300), st.integers(1, 16), st.integers(2, 40))
def test_every_symbol_comes_back_within_a_byte_of_the_ideal(seed, n, bits, symbols):
    rng = np.random.default_rng(seed)
    borders, drawn = shares(rng, n, bits, min(symbols, 2**bits))
    sizes = np.diff(borders)[drawn]
    data = range_coder.encode(borders[drawn], sizes, bits)
    assert decoded(data, borders, n, bits) == drawn.tolist()
    ideal = (bits - np.log2(sizes)).sum() / 8
    assert len(data) <= ideal + 1 + 1e-6
    assert not data.endswith(b"\0")


def unlimited(starts, sizes, bits):
    """The same intervals with `low` as an integer of any length, which needs no carries; its shortest number."""
    low, width, written = 0, 2**64 - 1, 8  # bytes of low
    for start, size in zip(starts, sizes, strict=True):
        step = width >> bits
        low, width = low + int(start) * step, int(size) * step
        while width < 2**56:
            low, width, written = low << 8, width << 8, written + 1
    for kept in range(written + 1):
        unit = 256 ** (written - kept)
        if -(-low // unit) * unit < low + width:
            return (-(-low // unit) * unit).to_bytes(written, "big").rstrip(b"\0")
    raise AssertionError("low itself is in the interval")


@pytest.mark.parametrize("seed", range(40))
def test_the_bytes_are_those_of_integers_of_any_length(seed):
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, 2**12, 200)
    sizes = rng.integers(1, 2**12 - starts + 1)
    if seed % 2:  # near the middle again and again, where it stays open which way a carry goes
        starts, sizes = np.where(rng.random(200) < 0.97, 2**11 - 1, starts), np.where(starts < 2**11, 2, sizes)
        sizes = np.minimum(sizes, 2**12 - starts)
    assert range_coder.encode(starts, sizes, 12) == unlimited(starts, sizes, 12)


def test_a_carry_runs_through_bytes_already_written():
    starts, sizes = [2**15 - 1, *[2**16 - 1] * 12, 2**15, 2**15], [2, *[1] * 12, 2**15, 2**15]
    data = range_coder.encode(starts, sizes)
    decoder = range_coder.Decoder(data)
    for start, size in zip(starts, sizes, strict=True):
        assert start <= decoder.target() < start + size
        decoder.consume(start, size)


@pytest.mark.parametrize("bits", [1, 8, 16, 32])
def test_certain_symbols_cost_nothing_and_rare_ones_their_bits(bits):
    assert range_coder.encode([0] * 1000, [2**bits] * 1000, bits) == b""
    assert range_coder.encode([], [], bits) == b""
    rare = range_coder.encode([2**bits - 1] * 100, [1] * 100, bits)
    assert len(rare) in (-(-100 * bits // 8), -(-100 * bits // 8) + 1)
    decoder = range_coder.Decoder(rare, bits)
    for _ in range(100):
        assert decoder.target() == 2**bits - 1
        decoder.consume(2**bits - 1, 1)


def test_damaged_data_is_read_without_running_away():
    rng = np.random.default_rng(0)
    for attempt in range(300):
        data = rng.bytes(rng.integers(0, 12)) if attempt else b"\xff" * 12  # behind the shares of all symbols
        decoder = range_coder.Decoder(data, 8)
        for _ in range(50):
            value = decoder.target()
            assert 0 <= value < 256
            decoder.consume(value, 1)


@pytest.mark.parametrize(
    ("starts", "sizes", "bits", "said"),
    [
        ([0], [0], 8, "non-empty"),
        ([-1], [2], 8, "inside"),
        ([250], [7], 8, "inside"),
        ([0], [2**62], 8, "inside"),
        ([0, 1], [1], 8, "same length"),
        ([[0]], [[1]], 8, "lists"),
        ([0], [1], 33, "2\\*\\*32"),
        ([0], [1], 0, "2\\*\\*1"),
    ],
)
def test_impossible_shares_are_refused(starts, sizes, bits, said):
    with pytest.raises(ValueError, match=said):
        range_coder.encode(starts, sizes, bits)


def test_a_decoder_is_not_led_past_its_symbol():
    decoder = range_coder.Decoder(range_coder.encode([10], [5], 8), 8)
    with pytest.raises(ValueError, match="not in"):
        decoder.consume(0, 10)
    with pytest.raises(ValueError, match="not in"):
        decoder.consume(10, 0)
