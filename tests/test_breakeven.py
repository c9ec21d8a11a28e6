"""Break-even: against counting byte by byte, against real frames, and against sending one message after another."""

import math

from hypothesis import given
from hypothesis import strategies as st

from lib.metrics import breakeven
from lib.models import wire

CODECS, SCALES = st.sampled_from(wire.CODECS), st.sampled_from(["fp32", "fp16"])
BITS = {"fp32": 32, "fp16": 16, "bf16": 16} | wire.BITS


@given(
    size=st.integers(0, 400),
    bits=st.sampled_from([2, 3, 4, 6, 8, 16, 32]),
    around=st.integers(0, 40),
    group=st.integers(0, 70),
    scale=st.sampled_from([2, 4]),
)
def test_values_are_the_most_that_fit(size, bits, around, group, scale):
    def frame(n: int) -> int:
        return around + (scale * math.ceil(n / group) if group else 0) + math.ceil(n * bits / 8)

    fits = [n for n in range(8 * size + 2) if frame(n) <= size]
    assert breakeven.values(size, bits, around, group, scale) == max(fits, default=0)


@given(
    tokens=st.integers(1, 127),
    width=st.integers(1, 127),
    codec=CODECS,
    group=st.integers(1, 500),
    scales=SCALES,
    more=st.integers(-3, 3),
)
def test_values_know_the_frames_of_the_wire(tokens, width, codec, group, scales, more):
    own = wire.sizes(tokens, width, codec, group=group, scales=scales)
    around = own.header + own.anchor + own.checksum
    grouped = (group, wire.SCALES[scales]) if codec in wire.BITS else ()
    fits = tokens * width <= breakeven.values(own.total + more, BITS[codec], around, *grouped)
    assert fits == (more >= 0)


def test_values_of_the_plan():
    """A prompt of 480 bytes at 5 bits a value, scales included, and nothing around."""
    assert breakeven.values(480, 4, 0, 32, 4) == 768


@given(side=st.integers(0, 300), size=st.integers(0, 30), other=st.integers(0, 30), other_side=st.integers(0, 300))
def test_messages_are_the_first_after_which_it_stays_ahead(side, size, other, other_side):
    """300 bytes are repaid after 300 messages at the latest, a byte each."""
    ahead = [side + n * size <= other_side + n * other for n in range(400)]
    behind = [n for n, fine in enumerate(ahead) if not fine]
    stays = size <= other and ahead[-1]
    assert breakeven.messages(side, size, other, other_side) == (
        (behind[-1] + 1 if behind else 0) if stays else math.inf
    )


def test_messages_of_mean_sizes():
    assert breakeven.messages(32_506, 12.5, 86.0) == math.ceil(32_506 / 73.5)
    assert breakeven.messages(10, 86.0, 86.0) == math.inf
    assert breakeven.messages(0, 86.0, 86.0) == 0
