"""The wire format: every byte as documented, and every value within half a step."""

import math
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.models import wire, wire_entropy
from lib.models.wire import BITS, CODECS, FLOATS, WireError
from tests import wire_reader

KINDS = [(codec, "fp32") for codec in CODECS] + [(codec, "fp16") for codec in BITS]
each_kind = pytest.mark.parametrize(("codec", "scales"), KINDS)
HALF = 0.5 + 2.0**-16  # of a step: quotients up to 127 are rounded to fp32 before they are rounded to codes
SENT = np.array([[0.5, -1.5, 3.0], [0.0, 0.25, -2.75]], np.float32)
GOLDEN = {  # frame: codec, scales, group, entropy coding
    "52570100070000000203030000003f0000c0bf00004040000000000000803e000030c0413a2080d66292": ("fp32", "fp32", 32, False),
    "5257010107000000020303003800be00420000003480c1413a2096de31e9": ("fp16", "fp32", 32, False),
    "5257010207000000020303003fc0bf40400000803e30c0413a208fda102f": ("bf16", "fp32", 32, False),
    "5257010307000000020304038083c13c0063b13c15c17f000c81413a204198e920": ("int8", "fp32", 4, False),
    "525701140700000002030403322eae2d45fc014308413a20d3f3d698": ("int6", "fp16", 4, False),
    "52570105070000000203ac0203006edb3ed107a1413a20dfc6908d": ("int4", "fp32", 300, False),
    "525701160700000002032003003cf08002413a2051aab7ab": ("int3", "fp16", 32, False),
    "5257010707000000020303030000404000003040100c413a20ec9ff95f": ("int2", "fp32", 3, False),
    "5257013707000000020320030042c0413a20b4f560ce": ("int2", "fp16", 32, True),
    "525701050700000002032003006edb3ed107a1413a206efb1692": ("int4", "fp32", 32, True),
}


def normal(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@st.composite
def messages(draw):
    """Normal messages of all sizes, with groups of zeros, spikes and tiny values."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    array = rng.standard_normal((draw(st.integers(1, 12)), draw(st.integers(1, 40)))).astype(np.float32)
    array *= np.float32(10.0 ** draw(st.integers(-3, 4)))
    kind = draw(st.sampled_from(["plain", "zeros", "spike", "ties"]))
    if kind == "zeros":
        array[rng.random(array.shape[0]) < 0.6] = 0
    if kind == "spike":
        array[0, 0] = 60000.0
    if kind == "ties":
        array = np.round(array * 2) / 2
    return array


def steps(array, codec, group, scales):
    """Float64 [tokens, width]: the scale of each value's group, read out of the frame by struct."""
    frame = wire.encode(array, codec, group=group, scales=scales, anchor="")
    head, size = wire.sizes(*array.shape, codec, group=group, scales=scales, anchor=""), 2 if scales == "fp16" else 4
    stored = np.frombuffer(frame[head.header : head.header + head.scales], f"<f{size}").astype(np.float64)
    return np.repeat(stored, group)[: array.size].reshape(array.shape)


class TestValues:
    @settings(max_examples=150, deadline=None)
    @given(messages(), st.sampled_from(list(BITS)), st.sampled_from(["fp32", "fp16"]), st.integers(1, 70))
    def test_no_value_is_off_by_more_than_half_a_step(self, array, codec, scales, group):
        found = wire.decode(wire.encode(array, codec, group=group, scales=scales))
        step = steps(array, codec, group, scales)
        assert np.all(np.abs(found - array.astype(np.float64)) <= HALF * step)
        assert found.shape == array.shape and found.dtype == np.float32

    @settings(max_examples=100, deadline=None)
    @given(messages(), st.sampled_from(list(BITS)), st.sampled_from(["fp32", "fp16"]), st.integers(1, 70))
    def test_a_scale_is_the_least_of_its_kind_that_reaches_the_largest_value(self, array, codec, scales, group):
        bits, least = (17, Fraction(1, 2**126)) if scales == "fp32" else (11, Fraction(1, 2**14))
        q = 2 ** (BITS[codec] - 1) - 1
        flat, step = array.ravel(), steps(array, codec, group, scales).ravel()
        for first in range(0, len(flat), group):
            largest, scale = Fraction(float(np.abs(flat[first : first + group]).max())), Fraction(step[first])
            if largest == 0:
                assert scale == 0
                continue
            unit = Fraction(2) ** (math.frexp(scale)[1] - bits)  # of the last place of `bits` significant bits
            assert (scale / unit).denominator == 1
            assert scale * q >= largest
            assert scale == least or (scale - unit) * q < largest

    @settings(max_examples=100, deadline=None)
    @given(messages(), st.sampled_from(KINDS), st.integers(1, 70), st.booleans())
    def test_sending_what_arrived_changes_nothing(self, array, kind, group, entropy):
        given = {"codec": kind[0], "scales": kind[1], "group": group, "entropy": entropy}
        once = wire.decode(wire.encode(array, **given))
        np.testing.assert_array_equal(wire.decode(wire.encode(once, **given)), once)

    @pytest.mark.parametrize("codec", FLOATS)
    def test_float_codecs_round_as_torch_does(self, codec):
        torch = pytest.importorskip("torch")
        types = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
        exponents = np.random.default_rng(1).integers(-20, 15, (40, 50))
        array = (normal(40, 50) * 2.0**exponents).astype(np.float32)
        array[0, :6] = 1 + 2.0**-8, 1 + 3 * 2.0**-8, 1 + 2.0**-11, 1 + 3 * 2.0**-11, -0.0, 2.0**-24  # ties, subnormal
        found = wire.decode(wire.encode(array, codec))
        np.testing.assert_array_equal(found, torch.from_numpy(array).to(types[codec]).float().numpy())
        assert np.signbit(found[0, 4])

    @each_kind
    def test_layout_and_type_of_the_input_do_not_matter(self, codec, scales):
        torch = pytest.importorskip("torch")
        array = normal(6, 10).astype(np.float16).astype(np.float32)  # exact in all the types below
        frame = wire.encode(array, codec, scales=scales)
        given = [array.astype(np.float64), array.astype(np.float16), np.asfortranarray(array), array[::-1][::-1]]
        given += [array.tolist(), array.astype(">f4"), np.repeat(array, 2, axis=1)[:, ::2]]
        given += [torch.tensor(array, dtype=kind, requires_grad=True) for kind in (torch.float32, torch.float64)]
        given += [torch.tensor(array).half(), torch.tensor(array.T.copy()).T]
        for one in given:
            assert wire.encode(one, codec, scales=scales) == frame
        coarse = torch.tensor(array).bfloat16()
        assert wire.encode(coarse, codec, scales=scales) == wire.encode(coarse.float().numpy(), codec, scales=scales)

    @pytest.mark.parametrize("codec", BITS)
    def test_extreme_magnitudes_are_kept_or_refused(self, codec):
        q = 2 ** (BITS[codec] - 1) - 1
        for value in (2.0**-149, 2.0**-126, 1e-30, 1e38, 3.3e38):
            array = np.array([[value, -value, 0]], np.float32)
            found = wire.decode(wire.encode(array, codec))
            assert np.all(np.abs(found - array) <= HALF * max(abs(float(array[0, 0])) / q * (1 + 2.0**-16), 2.0**-126))
        for value, scales in ((70000.0 * q, "fp16"), (np.finfo(np.float32).max, "fp32")):
            with pytest.raises(WireError, match=f"too large for {scales} scales"):
                wire.encode([[value]], codec, scales=scales)
        tiny = wire.decode(wire.encode([[1e-6, 1.0]], codec, scales="fp16", group=1))
        assert abs(tiny[0, 0]) <= HALF * 2.0**-14 and abs(tiny[0, 1] - 1) < 1e-3


def plain_numpy(array, bits, group):
    """Scales (fp32) and body of an integer codec, a value at a time, packed by np.packbits."""
    flat, q, codes, scales = array.ravel(), 2 ** (bits - 1) - 1, [], []
    for first in range(0, len(flat), group):
        least = float(np.abs(flat[first : first + group]).max()) / q
        unit = 2.0 ** (np.frexp(least)[1] - 17)
        scale = np.float32(np.ceil(least / unit) * unit)
        scales.append(scale)
        codes += [int(np.rint(value / scale)) if scale else 0 for value in flat[first : first + group]]
    one = ((np.array(codes)[:, None] >> np.arange(bits)) & 1).astype(np.uint8)
    return np.array(scales, "<f4").tobytes() + np.packbits(one.ravel(), bitorder="little").tobytes()


class TestBytes:
    @settings(max_examples=150, deadline=None)
    @given(messages(), st.sampled_from(KINDS), st.integers(1, 300), st.text(max_size=200), st.booleans())
    def test_an_independent_reader_finds_what_was_sent(self, array, kind, group, anchor, entropy):
        codec, scales = kind
        frame = wire.encode(array, codec, scales=scales, group=group, anchor=anchor, bridge=0xABCD1234, entropy=entropy)
        told, own = wire_reader.read(frame), wire.read(frame, 0xABCD1234)
        np.testing.assert_array_equal(np.array(told["values"]), own.array)
        assert (told["codec"], told["bridge"], told["anchor"]) == (codec, 0xABCD1234, anchor)
        assert told["group"] == own.group == (0 if codec in FLOATS else group)
        assert (told["coded"], anchor, scales * (codec in BITS)) == (own.coded, own.anchor, own.scales)

    @settings(max_examples=80, deadline=None)
    @given(messages(), st.sampled_from(list(BITS)), st.integers(1, 70))
    def test_scales_and_codes_are_those_of_plain_numpy(self, array, codec, group):
        sizes = wire.sizes(*array.shape, codec, group=group)
        frame = wire.encode(array, codec, group=group)
        told = frame[sizes.header : sizes.header + sizes.scales + sizes.codes]
        assert told == plain_numpy(array, BITS[codec], group)

    @settings(max_examples=100, deadline=None)
    @given(
        st.sampled_from(KINDS), st.integers(1, 300), st.integers(1, 40), st.integers(1, 20000), st.text(max_size=200)
    )
    def test_sizes_are_exact(self, kind, tokens, width, group, anchor):
        codec, scales = kind
        found = wire.sizes(tokens, width, codec, group=group, scales=scales, anchor=anchor)
        assert found.total == len(wire.encode(normal(tokens, width), codec, group=group, scales=scales, anchor=anchor))
        n, bits = tokens * width, int(codec.removeprefix("int")) if codec in BITS else 8 * FLOATS[codec]
        assert found.codes == -(-n * bits // 8)
        assert found.scales == (-(-n // group) * (4 if scales == "fp32" else 2) if codec in BITS else 0)
        numbers = [tokens, width, len(anchor.encode()), *([group] if codec in BITS else [])]
        assert found.header == 8 + sum(1 + (k > 127) + (k > 16383) for k in numbers)
        assert (found.anchor, found.checksum) == (len(anchor.encode()), 4)

    def test_sizes_of_the_published_plan(self):
        """Codes and scales as its formula says; its 16 bytes of metadata and 8 of anchor are 17 and 8 here."""
        published = {32: (147_480, 114_712, 81_944), 48: (221_208, 172_056, 122_904), 64: (294_936, 229_400, 163_864)}
        for tokens, planned in published.items():
            found = [wire.sizes(tokens, 4096, codec).total for codec in ("int8", "int6", "int4")]
            assert found == [size + 1 for size in planned]
        assert wire.sizes(16, 6, "int4").total == 16 + 8 + 12 + 48

    @pytest.mark.parametrize("frame", GOLDEN)
    def test_the_format_stays_what_it_is(self, frame):
        codec, scales, group, entropy = GOLDEN[frame]
        found = wire.encode(SENT, codec, scales=scales, group=group, bridge=7, anchor="A: ", entropy=entropy)
        assert found.hex() == frame


class TestEntropyCoding:
    @each_kind
    def test_it_changes_the_length_and_nothing_else(self, codec, scales):
        array = normal(16, 16)
        plain, coded = (wire.read(wire.encode(array, codec, scales=scales, entropy=e)) for e in (False, True))
        np.testing.assert_array_equal(plain.array, coded.array)
        assert coded.coded and not plain.coded

    @pytest.mark.parametrize(("codec", "most"), [("int8", 0.99), ("int6", 0.97), ("int4", 0.93), ("int2", 0.6)])
    def test_it_gains_from_the_first_values_of_a_small_message(self, codec, most):
        n, found = 16 * 6, []
        for seed in range(30):
            frame = wire.encode(normal(16, 6, seed=seed), codec, entropy=True)
            found.append(len(frame) - wire.sizes(16, 6, codec).total)
        assert np.mean(found) <= (most - 1) * n * BITS[codec] / 8

    @pytest.mark.parametrize("codec", CODECS)
    def test_it_is_not_used_where_it_does_not_shorten_the_frame(self, codec):
        unlikely = np.array([[2.0**100, -0.9 * 2.0**-3, 0.8, -0.1]], np.float32)[:, 1 if codec == "fp16" else 0 :]
        if codec in BITS:
            unlikely = np.array([[1.0, 0.9, -0.9, 0.85]], np.float32)
        for array in (unlikely, np.zeros((200, 200), np.float32)):  # of zeros, one byte would stand for too many values
            assert wire.encode(array, codec, entropy=True) == wire.encode(array, codec)

    def test_the_length_is_that_of_its_model(self):
        array = normal(32, 32)
        counts = wire_entropy.code_counts(7, 32).astype(float)
        codes = np.rint(array / steps(array, "int4", 32, "fp32")).astype(int).ravel() + 7
        ideal = 0.0
        for code in codes:
            ideal -= np.log2(counts[code] / counts.sum()) / 8
            counts[code] += 32
        sizes = wire.sizes(32, 32, "int4")
        body = len(wire.encode(array, "int4", entropy=True)) - sizes.total + sizes.codes
        assert ideal - 1 <= body <= ideal + 1

    @pytest.mark.parametrize("top", [1, 3, 7, 31, 127])
    @pytest.mark.parametrize("group", [1, 2, 32, 4096, 2**32 - 1])
    def test_counts_begin_symmetric_positive_and_of_the_stated_weight(self, top, group):
        counts = wire_entropy.code_counts(top, group)
        assert len(counts) == 2 * top + 1 and np.array_equal(counts, counts[::-1])
        assert counts.min() > 0
        assert abs(counts.sum() - 32 * 256) <= 2 * top + 2


def test_the_wire_needs_no_model_stack():
    code = "import sys, lib.models.wire; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
