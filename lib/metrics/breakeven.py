"""When a message is worth its bytes: how many numbers it may have, and how often it has to be sent.

A message of soft tokens is shorter than a text only if it has few numbers; and a bridge, like a dictionary or a
language model, is itself something that both sides have to get before the first message. Both questions have exact
answers, which need no model and no frame.
"""

from __future__ import annotations

import math


def values(size: int, bits: int, around: int, group: int = 0, scale_bytes: int = 0) -> int:
    """The most numbers that a message may have so that its frame is not longer than a text of `size` bytes.

    The frame is around + scale_bytes x ceil(n / group) + ceil(bits x n / 8) bytes; numbers without scales have no
    group (0). In bits, a whole group costs 8 scale_bytes + group x bits, and what is left over pays for one more scale
    and some numbers, or for none.
    """
    room = max(8 * (size - around), 0)
    if not group:
        return room // bits
    whole, rest = divmod(room, 8 * scale_bytes + group * bits)
    return whole * group + max(rest - 8 * scale_bytes, 0) // bits


def messages(side: float, size: float, other: float, other_side: float = 0) -> float:
    """After how many messages of `size` bytes `side` bytes beforehand have paid for themselves; inf where never.

    That is the least n with side + n size <= other_side + n other: as many bytes in all as the other coder, or fewer,
    from then on. 0 where it is never behind.
    """
    extra, saved = side - other_side, other - size
    if saved < 0 or (saved == 0 and extra > 0):
        return math.inf
    return math.ceil(extra / saved) if extra > 0 else 0
