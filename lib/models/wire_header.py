"""The head of a wire frame: what is in it, how long everything has to be, and the refusal of anything else.

`lib.models.wire` documents the bytes. All lengths are computed here in Python's integers, from the header alone, and
compared with the frame's own length, so a header that lies about its shape costs no memory.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

MAGIC, VERSION = b"RW", 1
FLOATS = {"fp32": 4, "fp16": 2, "bf16": 2}  # codec -> bytes of a value
BITS = {"int8": 8, "int6": 6, "int4": 4, "int3": 3, "int2": 2}  # codec -> bits of a code
CODECS = (*FLOATS, *BITS)  # in the order of their numbers in a frame
SCALES = {"fp32": 4, "fp16": 2}  # scale type -> bytes of a scale
HALF_SCALES, CODED, KNOWN = 0x10, 0x20, 0x3F  # flags above the codec's number
FIXED = struct.Struct("<2sBBI")  # magic, version, codec and flags, bridge
CHECKSUM = 4  # bytes
SHORTEST = FIXED.size + 3 + CHECKSUM  # three one-byte numbers: no frame is shorter
LONGEST_NUMBER = 5  # bytes of a varint; it stays below 2^32
MOST = 2**32 - 1
MOST_PER_BYTE = 64  # values that one byte of entropy-coded symbols may stand for


class WireError(ValueError):
    """A message that cannot be encoded or a frame that cannot be decoded; one sentence says why."""


@dataclass(frozen=True)
class Header:
    """What a frame says about itself; `group` is 0 and `scales` empty for float codecs, `anchor` counts bytes."""

    codec: str
    tokens: int
    width: int
    group: int
    scales: str
    bridge: int
    anchor: int
    coded: bool = False

    @property
    def values(self) -> int:
        return self.tokens * self.width

    @property
    def groups(self) -> int:
        return -(-self.values // self.group) if self.group else 0

    @property
    def scale_bytes(self) -> int:
        return self.groups * SCALES.get(self.scales, 0)

    @property
    def code_bytes(self) -> int:
        """Of the values without entropy coding."""
        return self.values * FLOATS[self.codec] if self.codec in FLOATS else -(-self.values * BITS[self.codec] // 8)

    @property
    def plain_bytes(self) -> int:
        """Of a body with entropy coding: those that are stored as they are, all but each float's highest."""
        return self.values * (FLOATS[self.codec] - 1) if self.codec in FLOATS else 0

    def packed(self) -> bytes:
        """The header as it is sent."""
        flags = HALF_SCALES * (self.scales == "fp16") | CODED * self.coded
        numbers = [self.tokens, self.width, *([self.group] if self.group else []), self.anchor]
        first = FIXED.pack(MAGIC, VERSION, CODECS.index(self.codec) | flags, self.bridge)
        return first + b"".join(map(_varint, numbers))

    def end_of_body(self, place: int, end: int) -> int:
        """Where the body ends that begins at `place`, in a frame whose checksum begins at `end`.

        WireError where the header's shape and the length do not fit each other: a frame is as long as it has to be.
        """
        found = end - place - self.scale_bytes - self.anchor
        room = MOST_PER_BYTE * (found - self.plain_bytes)
        if (not self.coded and found != self.code_bytes) or (self.coded and self.values > room):
            raise WireError(
                f"{self.tokens} x {self.width} values as {self.codec} do not fit the frame's {end + CHECKSUM} bytes; "
                "it was cut short, something was appended, or its shape is wrong, so ask for it again."
            )
        return place + self.scale_bytes + found


def parse(data: memoryview) -> tuple[Header, int]:
    """The header of a frame without its checksum, and where it ends; WireError for anything but a valid one."""
    _, _, byte, bridge = FIXED.unpack_from(data)
    number, flags = byte & 0x0F, byte & ~0x0F
    if number >= len(CODECS) or flags & ~KNOWN or (flags & HALF_SCALES and CODECS[number] in FLOATS):
        raise WireError(
            f"The frame's codec byte is {byte:#04x}, which version {VERSION} does not have; update Recount."
        )
    codec, place, numbers = CODECS[number], FIXED.size, []
    for _ in range(3 if codec in FLOATS else 4):
        value, place = _number(data, place)
        numbers.append(value)
    tokens, width, *group, anchor = numbers
    if not (tokens and width and all(group)):
        raise WireError("The frame's tokens, width or group is 0, where at least 1 has to be; it is damaged.")
    scales = "" if codec in FLOATS else "fp16" if flags & HALF_SCALES else "fp32"
    return Header(codec, tokens, width, *(group or [0]), scales, bridge, anchor, bool(flags & CODED)), place


def _varint(value: int) -> bytes:
    """LEB128: seven bits a byte, lowest first, the high bit set on all but the last."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(data: memoryview, place: int) -> tuple[int, int]:
    """The varint at `place` and where it ends; WireError where it is cut off, overlong or not below 2^32."""
    value = 0
    for i, byte in enumerate(data[place : place + LONGEST_NUMBER]):
        value |= (byte & 0x7F) << 7 * i
        if byte <= 0x7F:
            if (i and not byte) or value > MOST:
                break
            return value, place + i + 1
    raise WireError(f"The number at byte {place} of the frame is cut off, overlong or not below 2^32; it is damaged.")
