"""The wire format: a message of soft tokens as bytes, and back.

A message is a matrix of floats, [tokens, width]; a frame is everything that is sent of it. What a message costs is
`len(encode(message))`, and what it is worth is what a reader makes of `decode(encode(message))`: nothing is estimated.

A frame of version 1, in this order, numbers little-endian:

| bytes      | field    | content                                                                                  |
|------------|----------|------------------------------------------------------------------------------------------|
| 2          | magic    | `RW`                                                                                     |
| 1          | version  | 1                                                                                        |
| 1          | codec    | bits 0-3: 0 fp32, 1 fp16, 2 bf16, 3 int8, 4 int6, 5 int4, 6 int3, 7 int2                 |
|            |          | bit 4: scales are fp16, not fp32 (integer codecs); bit 5: body is entropy coded; 6-7: 0  |
| 4          | bridge   | fingerprint of the bridge that made the message, 0 if it does not matter                 |
| 1-5        | tokens   | varint, at least 1                                                                       |
| 1-5        | width    | varint, at least 1: values per token                                                     |
| 1-5        | group    | varint, at least 1: values per scale; integer codecs only                                |
| 1-5        | anchor   | varint: bytes of the anchor text                                                         |
| G x 2 or 4 | scales   | of the G = ceil(n / group) groups of n = tokens x width values; integer codecs only      |
| the rest   | body     | the n values, the rows of the message one after another                                  |
| anchor     | anchor   | the text that stands between the message and the answer, in UTF-8                        |
| 4          | checksum | CRC-32 (of zlib, polynomial 0x04C11DB7 reflected) of all bytes before it                 |

A varint is LEB128: seven bits per byte, lowest first, bit 7 set on all bytes but the last, in as few bytes as possible,
below 2^32. Small messages have 16 bytes around scales, body and anchor, as many as the published plan assumed.

**Float codecs.** The body is n values of 4 or 2 bytes, rounded to nearest, ties to even; bf16 is the upper half of
fp32. Values that are not finite are neither sent nor accepted.

**Integer codecs** of b bits. A code is a whole number from -q to q, q = 2^(b-1) - 1; a value is code x scale. The scale
of a group is its largest magnitude over q, rounded up to a number of its type with 17 significant bits (fp32: the
lowest 7 bits are 0) or 11 (fp16), but at least the smallest normal one (2^-126, 2^-14); of a group of zeros it is 0.
Rounded up, it reaches the largest value; with so few bits, code x scale is exact in fp32, so all receivers have the
same values, and sending these again changes nothing. A code is value / scale in fp32, rounded to nearest, ties to even,
so no value is off by more than half a scale. Codes are two's complement in b bits, packed without gaps: code i has bits
i b to i b + b - 1 of the body, where bit j is bit j mod 8 of byte j div 8. The bits left over in the last byte are 0.
int6 takes exactly 3/4 of a byte.

**Entropy coding** (`lib.models.wire_entropy`, `lib.range_coder`) is used where it was asked for and makes the frame
shorter. Of integer codecs, code + q is a symbol, and the body is what the range coder writes of the n symbols. Of float
codecs, the lower bytes of all values come first, as they are, and then the highest bytes of all, range coded: the lower
ones are as good as random. The body has no length of its own: it is what the other fields leave. A byte of range-coded
symbols stands for at most 64 values (`wire_header.MOST_PER_BYTE`), or the body is not coded: no frame makes a receiver
allocate more values than 64 times its own length.

`read` accepts exactly the frames above. It compares the lengths that the header asks for with that of the frame before
anything is allocated, and refuses what no sender writes: nothing else may happen with any bytes whatever.
"""

import zlib
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

from lib.models import wire_body
from lib.models.wire_header import (
    BITS,
    CHECKSUM,
    CODECS,
    FLOATS,
    MAGIC,
    MOST,
    MOST_PER_BYTE,
    SCALES,
    SHORTEST,
    VERSION,
    Header,
    WireError,
    parse,
)

__all__ = [
    "BITS",
    "CODECS",
    "FLOATS",
    "MOST_PER_BYTE",
    "SCALES",
    "Message",
    "Sizes",
    "WireError",
    "decode",
    "encode",
    "read",
    "sizes",
]

ANCHOR = "Answer: "  # as in `lib.models.bridge_reader`, which needs torch


@dataclass(frozen=True, eq=False)
class Message:
    """What a frame says: `array` float32 [tokens, width]; `group` is 0 and `scales` empty for float codecs."""

    array: np.ndarray
    codec: str
    group: int
    scales: str
    bridge: int
    anchor: str
    coded: bool  # whether the body was entropy coded


@dataclass(frozen=True)
class Sizes:
    """Bytes of a frame without entropy coding, part by part."""

    header: int
    scales: int
    codes: int
    anchor: int
    checksum: int = CHECKSUM

    @property
    def total(self) -> int:
        """The length of the frame."""
        return self.header + self.scales + self.codes + self.anchor + self.checksum


def encode(
    array: Any,
    codec: str = "int4",
    *,
    group: int = 32,
    scales: str = "fp32",
    bridge: int = 0,
    anchor: str = ANCHOR,
    entropy: bool = False,
) -> bytes:
    """The frame of a message: float [tokens, width], of numpy or a torch tensor of any float type on any device.

    `group` and `scales` ("fp32" or "fp16") matter to integer codecs only. `bridge` is a fingerprint in 32 bits. With
    `entropy` the body is entropy coded where that makes it shorter. WireError for values that are not finite or too
    large for the codec, and for arguments that a frame cannot hold.
    """
    values, text = _matrix(array), _text(anchor)
    head = _header(*values.shape, codec, group, scales, bridge, len(text))
    steps, body, coded = wire_body.write(head, values.ravel(), entropy)
    parts = [replace(head, coded=coded).packed(), steps, body, text]
    return b"".join([*parts, _checksum(*parts)])


def decode(frame: bytes, bridge: int | None = None) -> np.ndarray:
    """The message of a frame, float32 [tokens, width]; WireError for anything but a valid frame.

    With `bridge`, frames of other bridges are refused: their numbers mean nothing to this one's receiver.
    """
    return read(frame, bridge).array


def read(frame: bytes, bridge: int | None = None) -> Message:
    """Everything that a frame says; WireError as for `decode`."""
    data = _sealed(frame)
    head, place = parse(data)
    if bridge is not None and head.bridge != bridge:
        raise WireError(f"The message is of bridge {head.bridge:08x}, not {bridge:08x}; use the bridge that sent it.")
    end = head.end_of_body(place, len(data))
    first = place + head.scale_bytes
    values = wire_body.read(head, data[place:first], data[first:end])
    try:
        anchor = str(data[end:], "utf-8")
    except UnicodeDecodeError:
        raise WireError("The frame's anchor is not UTF-8 text; its sender does not write this format.") from None
    array = values.reshape(head.tokens, head.width)
    return Message(array, head.codec, head.group, head.scales, head.bridge, anchor, head.coded)


def sizes(tokens: int, width: int, codec: str, *, group: int = 32, scales: str = "fp32", anchor: str = ANCHOR) -> Sizes:
    """Bytes of the frame of a message [tokens, width] without entropy coding, exactly; WireError as for `encode`."""
    head = _header(tokens, width, codec, group, scales, 0, len(_text(anchor)))
    return Sizes(len(head.packed()), head.scale_bytes, head.code_bytes, head.anchor)


def _header(tokens: int, width: int, codec: str, group: int, scales: str, bridge: int, anchor: int) -> Header:
    """The header of a message; WireError for what a frame cannot hold."""
    for name, value, known in (("codec", codec, CODECS), ("scale type", scales, tuple(SCALES))):
        if value not in known:
            raise WireError(f"There is no {name} {value!r}; choose one of {', '.join(known)}.")
    numbers = {"tokens": tokens, "width": width, "group": group, "bridge": bridge, "anchor": anchor}
    for name, value in numbers.items():
        least = 0 if name in ("bridge", "anchor") else 1
        if not isinstance(value, Integral) or isinstance(value, bool) or not least <= value <= MOST:
            raise WireError(f"A frame holds {name} from {least} to {MOST}, whole, not {value!r}.")
    if codec in FLOATS:
        group, scales = 0, ""
    return Header(codec, tokens, width, group, scales, bridge, anchor)


def _matrix(array: Any) -> np.ndarray:
    """float32 [tokens, width], contiguous; WireError unless `array` is a matrix of finite floats."""
    if hasattr(array, "detach"):  # a torch tensor, which may be of a type or on a device that numpy does not know
        array = array.detach().cpu()
        array = (array.float() if array.is_floating_point() else array).numpy()
    try:
        given = np.asarray(array)
    except ValueError:
        raise WireError("The rows of the message differ in length; a message is a matrix [tokens, width].") from None
    if given.ndim != 2 or given.dtype.kind != "f" or not given.size:
        raise WireError(f"A message is a float matrix [tokens, width], not {given.dtype} {list(given.shape)}.")
    with np.errstate(over="ignore"):
        values = given.astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise WireError("The message has values that are not finite in float32; look for what diverged.")
    return values


def _text(anchor: str) -> bytes:
    if not isinstance(anchor, str):
        raise WireError(f"The anchor is text, not {type(anchor).__name__}.")
    try:
        return anchor.encode()
    except UnicodeEncodeError:
        raise WireError(
            f"The anchor {anchor!r} cannot be written as UTF-8; it holds half of a surrogate pair."
        ) from None


def _checksum(*parts: bytes | memoryview) -> bytes:
    """CRC-32 of all parts, one after another, as it is stored."""
    value = 0
    for part in parts:
        value = zlib.crc32(part, value)
    return value.to_bytes(CHECKSUM, "little")


def _sealed(frame: bytes) -> memoryview:
    """All but the checksum of a frame, which it fits; WireError for anything else."""
    if not isinstance(frame, bytes | bytearray | memoryview):
        raise WireError(f"A frame is bytes, not {type(frame).__name__}.")
    data = memoryview(bytes(frame))
    if len(data) < SHORTEST:
        raise WireError(f"A frame has at least {SHORTEST} bytes, and this has {len(data)}; it was cut short.")
    if data[:2] != MAGIC:
        raise WireError(f"The bytes begin with {bytes(data[:2])!r}, not {MAGIC!r}; they are no frame.")
    if data[2] != VERSION:
        raise WireError(
            f"The frame is of version {data[2]}, and this is a reader of version {VERSION}; update Recount."
        )
    if _checksum(data[:-CHECKSUM]) != data[-CHECKSUM:]:
        raise WireError("The frame's checksum is wrong; it was damaged or cut short, so ask for it again.")
    return data[:-CHECKSUM]
