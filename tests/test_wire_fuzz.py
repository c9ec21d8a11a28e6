"""A hundred thousand damaged frames: each is refused with a WireError, or is a valid frame of another message.

Frames whose checksum is made right again get past it, to the checks behind. Of those that are accepted, a reader that
shares no code with the wire has to find the same values.
"""

from collections import Counter

import numpy as np
import pytest

from lib.models import wire
from lib.models.wire import BITS, CODECS, WireError
from tests import wire_reader
from tests.wire_reader import sealed

EACH = 17_000  # damaged frames of each kind
SHAPES = [(1, 1), (2, 3), (4, 4), (16, 6), (3, 40)]
CHECKED = 10  # of so many accepted frames, one is read again by the independent reader, which is slow
LONG = b"\xff\xff\xff\xff\x0f"  # the largest number that a header can hold


def frames(rng):
    """Valid frames of every codec, scale type, shape and coding."""
    made = []
    for codec in CODECS:
        for scales in ("fp32", "fp16") if codec in BITS else ("fp32",):
            for shape in SHAPES:
                array = rng.standard_normal(shape).astype(np.float32)
                group = int(rng.choice([1, 4, 32, 300]))
                given = {"scales": scales, "group": group, "bridge": int(rng.integers(2**32)), "anchor": "é: "}
                made += [wire.encode(array, codec, entropy=entropy, **given) for entropy in (False, True)]
    return made


def one_of(rng, valid):
    return bytearray(valid[rng.integers(len(valid))])


def flipped(rng, valid):
    """One to four bits the other way round."""
    frame = one_of(rng, valid)
    for bit in rng.integers(0, 8 * len(frame), rng.integers(1, 5)):
        frame[bit // 8] ^= 1 << bit % 8
    return bytes(frame)


def truncated(rng, valid):
    frame = one_of(rng, valid)
    return bytes(frame[: rng.integers(len(frame))])


def spliced(rng, valid):
    """The beginning of one frame and the end of another; half of them with a right checksum."""
    one, other = one_of(rng, valid), one_of(rng, valid)
    joined = bytes(one[: rng.integers(len(one))] + other[rng.integers(len(other)) :])
    return sealed(joined[:-4]) if rng.random() < 0.5 else joined


def anything(rng, _):
    """Random bytes, half of them behind a right beginning, half of these with a right checksum."""
    data = rng.bytes(rng.integers(0, 100))
    if rng.random() < 0.5:
        return data
    data = b"RW\x01" + data
    return sealed(data) if rng.random() < 0.5 else data


def other_header(rng, valid):
    """Header bytes replaced, by random ones or the largest number, behind a right checksum."""
    frame = one_of(rng, valid)[:-4]
    place = int(rng.integers(3, 13))
    if rng.random() < 0.3:
        frame[place : place + 1] = LONG
    else:
        for _ in range(rng.integers(1, 4)):
            frame[min(int(rng.integers(3, 13)), len(frame) - 1)] = rng.choice([0, 1, 2, 6, 0x20, 0x7F, 0x80, 0xFF])
    return sealed(frame)


def other_body(rng, valid):
    """Up to four bytes behind the header replaced, one left out or one put in, behind a right checksum."""
    frame = one_of(rng, valid)[:-4]
    for place in rng.integers(8, len(frame), rng.integers(1, 5)):
        frame[place] = rng.integers(256)
    if rng.random() < 0.2:
        place = int(rng.integers(8, len(frame)))
        frame[place : place + rng.integers(0, 2)] = rng.bytes(rng.integers(0, 2))
    return sealed(frame)


def accepted(frame):
    """The message of a frame if it is read, None if it is refused; anything else is an error."""
    try:
        found = wire.read(frame)
    except WireError as error:
        assert str(error).endswith(".") and "\n" not in str(error)
        return None
    assert found.array.size <= wire.MOST_PER_BYTE * len(frame)
    assert np.isfinite(found.array).all()
    return found


def check(frame, found):
    """The independent reader finds in a frame what was found."""
    told = wire_reader.read(frame)
    np.testing.assert_array_equal(np.array(told["values"], np.float32), found.array)
    assert (told["anchor"], told["bridge"], told["coded"]) == (found.anchor, found.bridge, found.coded)


KINDS = [flipped, truncated, spliced, anything, other_header, other_body]
TAKEN = Counter()  # damaged frames that were tried, by kind


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damaged_frames_are_refused_or_valid(kind):
    rng = np.random.default_rng(KINDS.index(kind))
    valid = frames(rng)
    known, refused, read = set(valid), 0, 0
    for _ in range(EACH):
        frame = kind(rng, valid)
        if frame in known:
            continue
        found = accepted(frame)
        refused, read = refused + (found is None), read + (found is not None)
        if found and read % CHECKED == 0:
            check(frame, found)
    TAKEN[kind.__name__] = refused + read
    assert refused > 0.3 * EACH
    assert read > 100 if kind in (spliced, other_header, other_body) else read == 0


def test_there_were_a_hundred_thousand():
    if len(TAKEN) < len(KINDS):
        pytest.skip("not all kinds were tried in this run")
    assert TAKEN.total() >= 100_000
