"""Break-even: against counting byte by byte, against real frames, and against sending one message after another."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.metrics import breakeven
from lib.models import wire

BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int6": 6, "int4": 4, "int3": 3, "int2": 2}
CODECS, SCALES = st.sampled_from(list(BITS)), st.sampled_from(["fp32", "fp16"])


def frame(n: int, codec: str, group: int, scales: str, around: int) -> int:
    scale = {"fp32": 4, "fp16": 2}[scales] * math.ceil(n / group) if codec.startswith("int") else 0
    return around + scale + math.ceil(n * BITS[codec] / 8)


@given(size=st.integers(0, 400), codec=CODECS, group=st.integers(1, 70), scales=SCALES, around=st.integers(0, 40))
def test_values_are_the_most_that_fit(size, codec, group, scales, around):
    most = breakeven.values(size, codec, group, scales, around)
    fits = [n for n in range(2 * 8 * size + 2) if frame(n, codec, group, scales, around) <= size]
    assert most == max(fits, default=0)


@given(
    tokens=st.integers(1, 127),
    width=st.integers(1, 127),
    codec=CODECS,
    group=st.integers(1, 127),
    scales=SCALES,
    more=st.integers(-3, 3),
)
def test_values_know_the_frames_of_the_wire(tokens, width, codec, group, scales, more):
    total = wire.sizes(tokens, width, codec, group=group, scales=scales).total
    fits = tokens * width <= breakeven.values(total + more, codec, group, scales)
    assert fits == (more >= 0)


def test_values_of_the_plan():
    """A prompt of 480 bytes at 5 bits a value, scales included, and nothing around."""
    assert breakeven.values(480, "int4", around=0) == 768


@pytest.mark.parametrize("wrong", [{"codec": "int5"}, {"scales": "fp8"}, {"group": 0}])
def test_values_of_no_codec(wrong):
    with pytest.raises(ValueError, match="use one of fp32"):
        breakeven.values(**{"size": 100, "codec": "int4"} | wrong)


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
