"""The wire format refuses what no sender writes: each fault by its name, with no large allocation."""

import struct
import tracemalloc

import numpy as np
import pytest

from lib.models import wire
from lib.models.wire import BITS, CODECS, FLOATS, WireError
from tests.test_wire import each_kind, normal
from tests.wire_reader import sealed


def refused(frame, said, bridge=None):
    with pytest.raises(WireError, match=said):
        wire.decode(frame, bridge)


def frame_of(codec="int4", array=None, **given):
    return wire.encode(normal(3, 5) if array is None else array, codec, **{"group": 4, "anchor": "A: ", **given})


def changed(frame, place, *new):
    """The frame with other bytes at `place` and a right checksum."""
    return sealed(frame[:place] + bytes(new) + frame[place + len(new) : -4])


class TestRefusal:
    @each_kind
    def test_of_every_truncation_and_every_flipped_bit(self, codec, scales):
        for entropy in (False, True):
            frame = frame_of(codec, scales=scales, entropy=entropy)
            for end in range(len(frame)):
                refused(frame[:end], "cut short|checksum")
            for bit in range(8 * len(frame)):
                flipped = bytearray(frame)
                flipped[bit // 8] ^= 1 << bit % 8
                refused(flipped, "begin with|version|checksum")

    @each_kind
    def test_of_truncations_and_trailing_bytes_behind_a_right_checksum(self, codec, scales):
        frame = frame_of(codec, scales=scales, array=normal(20, 20))
        for end in [*range(60), len(frame) - 5]:
            refused(sealed(frame[:end]), "cut|fit")
        for more in (b"\0", b"\xff", b"abcd" * 10):
            refused(frame + more, "checksum")
            refused(sealed(frame[:-4] + more), "cut|fit")

    def test_of_what_is_no_frame(self):
        for other in ("text", None, 3, [1, 2]):
            refused(other, "A frame is bytes")
        refused(b"", "at least 15 bytes, and this has 0")
        refused(b"PK" + frame_of()[2:], "no frame")

    def test_of_another_version(self):
        refused(changed(frame_of(), 2, 2), "version 2.*version 1")

    @pytest.mark.parametrize("byte", [0x08, 0x0F, 0x45, 0x85, 0x10, 0x12])
    def test_of_unknown_codecs_and_flags(self, byte):
        refused(changed(frame_of(), 3, byte), f"{byte:#04x}")

    def test_of_a_foreign_bridge(self):
        frame = frame_of(bridge=0x1234)
        np.testing.assert_array_equal(wire.decode(frame), wire.decode(frame, 0x1234))
        refused(frame, "bridge 00001234, not 00000005", bridge=5)

    @pytest.mark.parametrize("place", [8, 9, 10])
    def test_of_shapes_with_nothing_in_them(self, place):
        refused(changed(frame_of(), place, 0), "tokens, width or group is 0")

    @pytest.mark.parametrize(
        "number",
        [b"\xff\xff\xff\xff\x0f", b"\xff\xff\xff\xff\x7f", b"\x80" * 5 + b"\1", b"\x83\0", b"\x80\x80\0", b"\xff" * 9],
    )
    @pytest.mark.parametrize("place", range(4))
    @pytest.mark.parametrize("coded", [0, 32])
    def test_of_absurd_and_overlong_numbers_without_allocating(self, number, place, coded):
        frame = frame_of()
        wrong = frame[:3] + bytes([frame[3] | coded]) + frame[4 : 8 + place] + number + frame[9 + place : -4]
        refused(sealed(wrong), "fit|overlong|cut|before or after")  # once, for what is compiled or read from disk then
        tracemalloc.start()
        try:
            refused(sealed(wrong), "fit|overlong|cut|before or after")
            assert tracemalloc.get_traced_memory()[1] < 50_000
        finally:
            tracemalloc.stop()

    def test_of_numbers_that_do_not_stay_below_their_limit(self):
        frame = frame_of(group=2**32 - 1)
        refused(sealed(frame[:10] + b"\xff\xff\xff\xff\x1f" + frame[15:-4]), "not below 2\\^32")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, -0.0, 1e-40, 1.1, 3e38])
    def test_of_scales_that_no_sender_writes(self, bad):
        frame = frame_of("int8")
        refused(changed(frame, 12, *struct.pack("<f", bad)), "scale")

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, -0.0, 2.0**-15])
    def test_of_half_scales_that_no_sender_writes(self, bad):
        refused(changed(frame_of("int8", scales="fp16"), 12, *struct.pack("<e", bad)), "scale")

    @pytest.mark.parametrize(
        ("codec", "lowest"), [("int8", 0x80), ("int6", 0x20), ("int4", 8), ("int3", 4), ("int2", 2)]
    )
    def test_of_the_code_that_has_no_opposite(self, codec, lowest):
        frame = frame_of(codec, array=np.zeros((3, 5), np.float32))
        refused(changed(frame, 28, lowest), f"code below -{2 ** (BITS[codec] - 1) - 1}")
        assert not wire.decode(changed(frame, 28, lowest - 1)).any()

    @pytest.mark.parametrize("codec", ["int6", "int4", "int3", "int2"])
    def test_of_bits_behind_the_last_code(self, codec):
        frame = frame_of(codec)
        last = len(frame) - 4 - 3 - 1
        for bit in range(15 * BITS[codec] % 8, 8):
            refused(changed(frame, last, frame[last] | 1 << bit), "behind its last code")

    @pytest.mark.parametrize(("codec", "bits"), [("fp32", 0x7F800000), ("fp16", 0xFE00), ("bf16", 0x7FC0)])
    def test_of_values_that_are_not_finite(self, codec, bits):
        frame = frame_of(codec)
        refused(changed(frame, 11, *bits.to_bytes(FLOATS[codec], "little")), "not finite")

    def test_of_an_anchor_that_is_no_text(self):
        frame = frame_of()
        refused(changed(frame, len(frame) - 5, 0xFF), "UTF-8")

    @pytest.mark.parametrize("codec", CODECS)
    def test_of_coded_bodies_that_go_on_behind_the_last_value(self, codec):
        frame = frame_of(codec, array=normal(20, 20), entropy=True, anchor="")
        assert wire.read(frame).coded
        for more in (b"\0", b"\1", b"abcd" * 10):
            refused(sealed(frame[:-4] + more), "before or after its last value")
        refused(sealed(frame[:30]), "fit")

    @pytest.mark.parametrize("codec", BITS)
    def test_of_a_coded_body_that_is_a_number_no_symbol_has(self, codec):
        """The shares of all symbols end a little before the interval does, which all bits set is behind."""
        frame = frame_of(codec, array=normal(20, 20), group=400, entropy=True, anchor="")
        refused(changed(frame, 17, *[255] * (len(frame) - 21)), "before or after its last value")

    @pytest.mark.parametrize(
        ("array", "said"),
        [
            ([1.0, 2.0], r"matrix \[tokens, width\], not float64 \[2\]"),
            (np.zeros((2, 0)), "matrix"),
            (np.zeros((0, 2)), "matrix"),
            (np.zeros((1, 2, 3)), "matrix"),
            (np.zeros((2, 3), int), "int64"),
            (np.zeros((2, 3), complex), "complex128"),
            ([["a"]], "matrix"),
            ([[np.nan, 0]], "not finite"),
            ([[np.inf, 0]], "not finite"),
            ([[1.0, 0.5], [1.0]], "differ in length"),
            ([[1e300, 0]], "not finite in float32"),
        ],
    )
    @pytest.mark.parametrize("codec", CODECS)
    def test_of_messages_that_are_none(self, array, said, codec):
        with pytest.raises(WireError, match=said):
            wire.encode(array, codec)

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"codec": "int5"}, "no codec 'int5'; choose one of fp32"),
            ({"scales": "bf16"}, "no scale type 'bf16'"),
            ({"group": 0}, "group from 1"),
            ({"group": 2**32}, "group from 1"),
            ({"group": 32.0}, "group from 1 .* whole, not 32.0"),
            ({"bridge": None}, "bridge from 0 .* not None"),
            ({"bridge": True}, "bridge from 0"),
            ({"anchor": None}, "anchor is text, not NoneType"),
            ({"anchor": b"A: "}, "anchor is text, not bytes"),
            ({"bridge": -1}, "bridge from 0"),
            ({"bridge": 2**32}, "bridge from 0"),
            ({"anchor": "\ud800"}, "UTF-8"),
        ],
    )
    def test_of_arguments_that_a_frame_cannot_hold(self, given, said):
        with pytest.raises(WireError, match=said):
            wire.encode([[1.0]], **{"codec": "int4", **given})

    @pytest.mark.parametrize(("codec", "value"), [("fp16", 65520.0), ("bf16", 3.4e38)])
    def test_of_values_that_a_float_codec_rounds_to_infinity(self, codec, value):
        with pytest.raises(WireError, match=f"too large for {codec}"):
            wire.encode([[value]], codec)
        assert np.isfinite(wire.decode(wire.encode([[value * 0.99]], codec))).all()
