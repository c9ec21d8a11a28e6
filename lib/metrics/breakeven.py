"""When a message is worth its bytes: how many numbers it may have, and how often it has to be sent.

A message of soft tokens is shorter than a text only if it has few numbers; and a bridge, like a dictionary or a
language model, is itself something that both sides have to get before the first message. Both questions have exact
answers, which need no model and no frame.
"""

from __future__ import annotations

import math

FLOATS = {"fp32": 32, "fp16": 16, "bf16": 16}  # bits of a value
CODES = {"int8": 8, "int6": 6, "int4": 4, "int3": 3, "int2": 2}
SCALES = {"fp32": 4, "fp16": 2}  # bytes of a scale
AROUND = 23  # bytes of a frame (`lib.models.wire`) besides scales and codes, with "Answer: " and numbers below 128
GROUP_BYTES = 1  # more where a frame has scales, for the size of their groups


def values(size: int, codec: str, group: int = 32, scales: str = "fp32", around: int | None = None) -> int:
    """The most numbers that a message may have so that its frame is not longer than a text of `size` bytes.

    The frame is around + scale x ceil(n / group) + ceil(bits x n / 8) bytes, without scales for a float codec; `around`
    is by default that of our frames of fewer than 128 tokens of fewer than 128 numbers. In bits, a whole group costs
    8 scale + group x bits, and what is left over pays for one more scale and some numbers, or for none.

    Raises ValueError for a codec or format of scales that there is not, and for a group below 1.
    """
    if codec not in FLOATS | CODES or scales not in SCALES or group < 1:
        raise ValueError(
            f"Codec {codec!r} with {scales!r} scales of groups of {group} is none: "
            f"use one of {', '.join(FLOATS | CODES)}, scales {' or '.join(SCALES)} and groups of 1 and more."
        )
    bits, scale = (FLOATS[codec], 0) if codec in FLOATS else (CODES[codec], 8 * SCALES[scales])
    if around is None:
        around = AROUND + (GROUP_BYTES if scale else 0)
    whole, rest = divmod(max(8 * (size - around), 0), scale + group * bits)
    return whole * group + max(rest - scale, 0) // bits


def messages(side: float, size: float, other: float, other_side: float = 0) -> float:
    """After how many messages of `size` bytes `side` bytes beforehand have paid for themselves; inf where never.

    That is the least n with side + n size <= other_side + n other: as many bytes in all as the other coder, or fewer,
    from then on. 0 where it is never behind.
    """
    extra, saved = side - other_side, other - size
    if saved < 0 or (saved == 0 and extra > 0):
        return math.inf
    return math.ceil(extra / saved) if extra > 0 else 0
