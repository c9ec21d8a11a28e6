"""Reads wire frames as their documentation says, one bit at a time: it shares no code with `lib`, and uses no numpy.

Everything here follows the docstrings of `lib.models.wire`, `lib.models.wire_entropy` and `lib.range_coder`.
"""

import struct
import zlib
from math import ceil

CODECS = ["fp32", "fp16", "bf16", "int8", "int6", "int4", "int3", "int2"]


def sealed(frame):
    """The frame without its checksum, with a right one instead."""
    return bytes(frame) + struct.pack("<I", zlib.crc32(frame))


def read(frame):
    """A dictionary of everything that a valid frame says; `values` is a list of rows."""
    assert struct.unpack("<I", frame[-4:])[0] == zlib.crc32(frame[:-4])
    assert frame[:3] == b"RW\x01"
    codec, coded, half = CODECS[frame[3] & 15], bool(frame[3] & 32), bool(frame[3] & 16)
    bridge, place = int.from_bytes(frame[4:8], "little"), 8
    tokens, place = varint(frame, place)
    width, place = varint(frame, place)
    n = tokens * width
    floats = codec in ("fp32", "fp16", "bf16")
    group, place = (0, place) if floats else varint(frame, place)
    anchor, place = varint(frame, place)
    end = len(frame) - 4 - anchor
    about = {"codec": codec, "bridge": bridge, "anchor": frame[end:-4].decode(), "coded": coded, "group": group}
    if floats:
        values = [as_float(codec, data) for data in float_bytes(codec, frame[place:end], n, coded)]
    else:
        scales = struct.unpack_from(f"<{ceil(n / group)}{'e' if half else 'f'}", frame, place)
        body = frame[place + (2 if half else 4) * len(scales) : end]
        bits = int(codec[3:])
        codes = coded_codes(body, n, bits, group) if coded else packed_codes(body, n, bits)
        values = [code * scales[i // group] for i, code in enumerate(codes)]
    return about | {"values": [values[i * width : (i + 1) * width] for i in range(tokens)]}


def varint(data, place):
    value = shift = 0
    while True:
        value |= (data[place] & 127) << shift
        place, shift = place + 1, shift + 7
        if data[place - 1] < 128:
            return value, place


def float_bytes(codec, body, n, coded):
    """The bytes of each value."""
    size = 4 if codec == "fp32" else 2
    if not coded:
        return [body[i * size : (i + 1) * size] for i in range(n)]
    low, highest = body[: n * (size - 1)], symbols(body[n * (size - 1) :], n, [1] * 256)
    return [low[i * (size - 1) : (i + 1) * (size - 1)] + bytes([top]) for i, top in enumerate(highest)]


def as_float(codec, data):
    if codec == "bf16":
        return struct.unpack("<f", b"\0\0" + data)[0]
    return struct.unpack("<f" if codec == "fp32" else "<e", data)[0]


def packed_codes(body, n, bits):
    assert len(body) == ceil(n * bits / 8)
    whole = int.from_bytes(body, "little")
    assert whole >> n * bits == 0
    codes = [whole >> i * bits & (1 << bits) - 1 for i in range(n)]
    return [code - (1 << bits) if code >> bits - 1 else code for code in codes]


def coded_codes(body, n, bits, group):
    q = 2 ** (bits - 1) - 1
    total = 32 * 256
    ends = total // (2 * group)
    weights = [2**20 * (4 * 16 * q * q) ** 4 // (4 * 16 * q * q + 3 * at * at) ** 4 for at in positions(q)]
    weights[0] //= 2
    weights[-1] //= 2
    counts = [max(1, weight * (total - 2 * ends) // sum(weights)) for weight in weights]
    counts[0] += ends
    counts[-1] += ends
    return [symbol - q for symbol in symbols(body, n, counts)]


def positions(q):
    """Of the codes, in quarters of a step; the outmost stand a quarter of a step further in."""
    return [4 * abs(k) - (abs(k) == q) for k in range(-q, q + 1)]


def symbols(data, n, counts):
    """n symbols of the range coder under counts that grow by 32; the number is a fraction of unlimited length."""
    data = data + bytes(8 + 6 * n)
    number, width, place, found = int.from_bytes(data[:8], "big"), 2**64 - 1, 8, []
    for _ in range(n):
        step = width // sum(counts)
        aim = number // step
        symbol = next(i for i in range(len(counts)) if sum(counts[: i + 1]) > aim)
        number -= step * sum(counts[:symbol])
        width = step * counts[symbol]
        while width < 2**56:
            number, width, place = number << 8 | data[place], width << 8, place + 1
        counts[symbol] += 32
        found.append(symbol)
    return found
