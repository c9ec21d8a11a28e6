"""Codes of texts: lossless whatever the text, framed without a spare byte, and better for what they have learned."""

import zlib
from collections import Counter

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import two_step
from lib.metrics import textcodes
from lib.metrics.textcodes import CODERS, covering, fit, pack_ids, unpack_ids

each_coder = pytest.mark.parametrize("name", CODERS)
BYTES = st.binary(max_size=60)


@pytest.fixture(scope="module")
def asked() -> list[str]:
    return [made.question for made in two_step.problems("texts", 100, "test")]


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [made.question for made in two_step.problems("texts", 1200, "train")]


@pytest.fixture(scope="module")
def codes(corpus) -> dict:
    return {name: fit(name, corpus) for name in CODERS}


def mean_bytes(code, texts) -> float:
    return float(np.mean([len(code.encode(text)) for text in texts]))


@each_coder
class TestEveryCode:
    @settings(max_examples=60, deadline=None)
    @given(text=st.text(max_size=200) | st.sampled_from(["", "\0", "é" * 500, "Ada has 14 coins. " * 300]))
    def test_gives_any_text_back(self, codes, name, text):
        assert codes[name].decode(codes[name].encode(text)) == text

    @settings(max_examples=60, deadline=None)
    @given(data=BYTES)
    def test_reads_any_bytes_or_says_that_it_cannot(self, codes, name, data):
        try:
            assert isinstance(codes[name].decode(data), str)
        except ValueError as error:
            assert str(error).startswith(f"These {len(data)} bytes are no {name} text")

    def test_is_the_same_code_when_fitted_again(self, codes, name, corpus, asked):
        again = fit(name, corpus)
        assert [again.encode(text) for text in asked] == [codes[name].encode(text) for text in asked]
        assert again.side_bytes == codes[name].side_bytes

    def test_refuses_a_text_that_was_cut(self, codes, name, asked):
        if name == "utf8":
            pytest.skip("a shorter text is a text")
        with pytest.raises(ValueError, match="send them whole"):
            codes[name].decode(codes[name].encode(asked[0])[:-1])


def test_utf8_is_the_text_itself(codes):
    assert codes["utf8"].encode("zwölf") == "zwölf".encode()


def test_deflate_is_what_zlib_reads_without_header(codes, asked):
    for text in asked[:20]:
        assert zlib.decompress(codes["deflate"].encode(text), -zlib.MAX_WBITS).decode() == text


def test_zstandard_frames_carry_no_optional_field(codes, asked):
    frame = zstandard.get_frame_parameters(zstandard.FRAME_HEADER + codes["zstd_dict"].encode(asked[0]))
    assert (frame.dict_id, frame.has_checksum) == (0, False)
    assert frame.content_size == zstandard.CONTENTSIZE_UNKNOWN


class TestDictionaries:
    def test_make_unseen_questions_several_times_shorter(self, codes, asked):
        size = {name: mean_bytes(code, asked) for name, code in codes.items()}
        assert size["deflate"] < size["utf8"]
        assert size["deflate_dict"] < size["deflate"] / 4
        assert size["zstd_dict"] < size["deflate"] / 2

    def test_of_chosen_texts_beat_the_last_texts(self, codes, corpus, asked):
        plain = "".join(corpus).encode()[-textcodes.DEFLATE_WINDOW :]

        def size(text: str) -> int:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=plain)
            return len(packer.compress(text.encode()) + packer.flush())

        assert mean_bytes(codes["deflate_dict"], asked) < np.mean([size(text) for text in asked])

    def test_are_what_both_sides_hold(self, codes):
        assert codes["utf8"].side_bytes == codes["deflate"].side_bytes == 0
        assert 0 < codes["deflate_dict"].side_bytes <= textcodes.DEFLATE_WINDOW
        assert 0 < codes["zstd_dict"].side_bytes <= max(textcodes.ZSTD_SIZES)

    def test_reach_as_far_back_as_zlib_looks(self):
        """A text at the far end of the window is found, one byte further it is not."""
        noise = np.random.default_rng(0).integers(0, 256, 2**16, dtype=np.uint8).tobytes()

        def size(dictionary: bytes) -> int:
            packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=dictionary)
            return len(packer.compress(noise[:200]) + packer.flush())

        assert size(noise[: textcodes.DEFLATE_WINDOW]) < 20
        assert size(noise[: textcodes.DEFLATE_WINDOW + 1]) > 20

    @pytest.mark.parametrize("name", ["deflate_dict", "zstd_dict"])
    def test_need_texts(self, name):
        with pytest.raises(ValueError, match="says nothing: give at least 20"):
            fit(name, ["Ada has 14 coins."] * 19 + [""] * 9)


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text("abc", min_size=1, max_size=9).map(str.encode), max_size=12),
    stretch=st.integers(1, 4),
    size=st.integers(1, 40),
)
def test_covering_takes_the_text_worth_most_each_time(texts, stretch, size):
    """Against every worth computed anew for every choice."""
    held = [{text[at : at + stretch] for at in range(len(text) - stretch + 1)} for text in texts]
    frequency = Counter(one for stretches in held for one in stretches)
    seen, chosen, left = set(), [], list(range(len(texts)))
    while left and sum(map(len, chosen)) < size:
        worth = {i: sum(frequency[one] for one in held[i] - seen) / len(texts[i]) for i in left}
        best = max(left, key=lambda i: (worth[i], -i))
        if not worth[best]:
            break
        left.remove(best)
        chosen.append(texts[best])
        seen |= held[best]
    assert covering(texts, stretch, size) == b"".join(reversed(chosen))[-size:]


VOCABULARIES = st.integers(2, 300) | st.sampled_from([2, 128, 129, 255, 256, 257, 65_536, 65_537, 151_936])


class TestPackedIds:
    @given(data=st.data(), vocabulary=VOCABULARIES)
    def test_come_back(self, data, vocabulary):
        ids = data.draw(st.lists(st.integers(0, vocabulary - 1), max_size=40))
        assert unpack_ids(pack_ids(ids, vocabulary), vocabulary) == ids

    @given(data=st.data(), vocabulary=st.integers(2, 200_000))
    def test_are_as_short_as_they_can_be_and_in_order(self, data, vocabulary):
        ids = data.draw(st.lists(st.integers(0, vocabulary - 1), min_size=1, max_size=20))
        width = int(np.ceil(np.log2(vocabulary)))
        packed = pack_ids(ids, vocabulary)
        assert len(packed) == -(-(len(ids) * width + (width < 8)) // 8)
        bits = np.unpackbits(np.frombuffer(packed, np.uint8))[: len(ids) * width].reshape(len(ids), width)
        assert (bits @ (1 << np.arange(width)[::-1])).tolist() == ids

    @given(data=BYTES, vocabulary=VOCABULARIES)
    def test_are_all_that_is_read(self, data, vocabulary):
        try:
            assert pack_ids(unpack_ids(data, vocabulary), vocabulary) == data
        except ValueError as error:
            assert "are not packed ids" in str(error)

    @pytest.mark.parametrize("ids", [[-1], [318], [0, 1000]])
    def test_are_of_the_vocabulary(self, ids):
        with pytest.raises(ValueError, match=r"outside of 0\.\.317"):
            pack_ids(ids, 318)

    def test_need_a_choice(self):
        with pytest.raises(ValueError, match="at least 2"):
            pack_ids([0], 1)


def test_an_unknown_code_names_those_there_are():
    with pytest.raises(ValueError, match="'gzip' is not a coder of texts: use one of utf8, deflate, "):
        fit("gzip")
