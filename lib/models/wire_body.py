"""The scales and the body of a wire frame: values to bytes under each codec, and back.

`lib.models.wire` documents the bytes and `wire_header` has settled all lengths before anything here runs.
"""

import numpy as np

from lib.models import wire_entropy, wire_kernels
from lib.models.wire_header import BITS, FLOATS, MOST_PER_BYTE, SCALES, Header, WireError

UNUSED = {"fp32": np.uint32(0x7F), "fp16": np.uint32(0x1FFF)}  # bits of a scale, as fp32, that are 0
SMALLEST = {"fp32": np.float32(2.0**-126), "fp16": np.float32(2.0**-14)}  # of scales above 0: below, precision is lost
LARGEST = {"fp32": np.finfo(np.float32).max, "fp16": np.finfo(np.float16).max}


def write(head: Header, values: np.ndarray, entropy: bool) -> tuple[bytes, bytes, bool]:
    """Scales, body, and whether it is entropy coded, of finite `values` (float32 [n]).

    With `entropy` the body is coded where that makes it shorter and a reader would accept it. WireError for values that
    are too large for the codec.
    """
    if head.codec in FLOATS:
        steps, symbols = b"", _float_bytes(values, head.codec)
        body = symbols.tobytes()
    else:
        scales = _scales(wire_kernels.largest(values, head.group), head)
        codes = wire_kernels.quantised(values, scales, head.group)
        steps = scales.astype(f"<f{SCALES[head.scales]}").tobytes()
        body = _packed(codes, head)
        symbols = codes[: len(values), None].view(np.uint8) + np.uint8(_top(head))
    if entropy:
        coded = _compressed(head, symbols)
        if len(coded) < len(body) and len(values) <= MOST_PER_BYTE * (len(coded) - head.plain_bytes):
            return steps, coded, True
    return steps, body, False


def read(head: Header, scales: memoryview, body: memoryview) -> np.ndarray:
    """float32 [n]: the values of a frame; WireError where scales or body are not what `write` can have written."""
    if head.codec in FLOATS:
        values = _floats(_expanded(head, body) if head.coded else np.frombuffer(body, np.uint8), head.codec)
        if not np.isfinite(values).all():
            raise WireError("The frame holds a value that is not finite, which no sender writes; it is damaged.")
        return values
    steps = _stored_scales(head, scales)
    codes = _expanded(head, body).view(np.int8).ravel() if head.coded else _unpacked(head, body)
    return wire_kernels.dequantised(codes, steps, head.group)


def _top(head: Header) -> int:
    """The largest code q of an integer codec."""
    return 2 ** (BITS[head.codec] - 1) - 1


def _float_bytes(values: np.ndarray, codec: str) -> np.ndarray:
    """uint8 [n, bytes of a value]: values as a float codec stores them; WireError where one becomes infinite."""
    if codec == "bf16":
        bits = values.view(np.uint32)
        stored = ((bits + np.uint32(0x7FFF) + (bits >> 16 & 1)) >> 16).astype("<u2")
        overflown = (stored & 0x7F80 == 0x7F80).any()
    else:
        with np.errstate(over="ignore"):
            stored = values.astype(f"<f{FLOATS[codec]}")
        overflown = not np.isfinite(stored).all()
    if overflown:
        raise WireError(f"The message has values too large for {codec}; send it as fp32 or as int8.")
    return stored.view(np.uint8).reshape(len(values), -1)


def _floats(data: np.ndarray, codec: str) -> np.ndarray:
    """float32 [n] of stored values (uint8, any shape, contiguous)."""
    if codec == "bf16":
        return (data.ravel().view("<u2").astype(np.uint32) << 16).view(np.float32)
    return data.ravel().view(f"<f{FLOATS[codec]}").astype(np.float32)


def _scales(largest: np.ndarray, head: Header) -> np.ndarray:
    """float32 [G]: the least scale of the stored type that, `_top` times, reaches the `largest` of each group.

    The quotient need not be checked before it is rounded up: a unit in the last place of `largest` over `_top` is more
    than half a unit in the last place of the quotient, so this was never rounded down to a number with fewer bits.
    """
    top, unused = np.float32(_top(head)), UNUSED[head.scales]
    scales = (((largest / top).view(np.uint32) + unused) & ~unused).view(np.float32)
    scales = np.where(largest > 0, np.maximum(scales, SMALLEST[head.scales]), np.float32(0))
    with np.errstate(over="ignore"):
        reached = scales * top  # exact, or infinite
    if not np.isfinite(reached).all() or (scales > LARGEST[head.scales]).any():
        raise WireError(f"The message has values too large for {head.scales} scales; send it as fp32.")
    return scales


def _stored_scales(head: Header, data: memoryview) -> np.ndarray:
    """float32 [G]: the scales of a frame; WireError unless `_scales` can have made each of them."""
    scales = np.frombuffer(data, f"<f{SCALES[head.scales]}").astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(scales * np.float32(_top(head))).all()
        normal = (scales.view(np.uint32) == 0) | (scales >= SMALLEST[head.scales])  # negative zero is refused too
    if not finite or not normal.all() or (scales.view(np.uint32) & UNUSED[head.scales]).any():
        raise WireError(
            "The frame has a scale that no sender writes (not finite, negative or too fine); it is damaged."
        )
    return scales


def _packed(codes: np.ndarray, head: Header) -> bytes:
    """The body of codes (int8 [n, padded with zeros])."""
    whole = codes if head.codec == "int8" else wire_kernels.packed(codes, BITS[head.codec])
    return whole[: head.code_bytes].tobytes()


def _unpacked(head: Header, body: memoryview) -> np.ndarray:
    """int8 [n]: the codes of a body; WireError for one below -q or for bits set behind the last."""
    bits, data = BITS[head.codec], np.frombuffer(body, np.uint8)
    if bits == 8:
        codes = data.view(np.int8)
    else:
        used = head.values * bits % 8
        if used and data[-1] >> used:
            raise WireError("The frame has bits set behind its last code, which no sender writes; it is damaged.")
        whole = np.zeros(-(-len(data) // bits) * bits, np.uint8)
        whole[: len(data)] = data
        codes = wire_kernels.unpacked(whole, bits)[: head.values]
    if codes.min() < -_top(head):
        raise WireError(f"The frame has a code below -{_top(head)}, which no sender writes; it is damaged.")
    return codes


def _counts(head: Header) -> np.ndarray:
    """What the entropy coder's counts begin with."""
    return wire_entropy.byte_counts() if head.codec in FLOATS else wire_entropy.code_counts(_top(head), head.group)


def _compressed(head: Header, symbols: np.ndarray) -> bytes:
    """The coded body of symbols (uint8 [n, bytes of each]): of several bytes, all but the highest stay as they are."""
    coded = wire_entropy.compress(np.ascontiguousarray(symbols[:, -1]), _counts(head))
    return symbols[:, :-1].tobytes() + coded


def _expanded(head: Header, body: memoryview) -> np.ndarray:
    """uint8 [n, bytes of a value]: the symbols of a coded body, codes as the int8 that they are.

    WireError unless coding them gives the same bytes again: of several bodies for one message, one is valid.
    """
    counts, coded = _counts(head), body[head.plain_bytes :]
    last = wire_entropy.expand(coded, head.values, counts)
    if wire_entropy.compress(last, counts) != coded:
        raise WireError("The frame's entropy-coded body ends before or after its last value; it is damaged.")
    if head.codec not in FLOATS:
        return last[:, None] - np.uint8(_top(head))
    plain = np.frombuffer(body[: head.plain_bytes], np.uint8).reshape(head.values, -1)
    return np.concatenate([plain, last[:, None]], axis=1)
