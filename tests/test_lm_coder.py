"""Arithmetic coding under a language model: every text comes back, whatever batch it was in, at the model's price."""

import copy
import random

import numpy as np
import pytest
import torch
from bridge_toys import save
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import two_step
from lib.models import hub, lm_coder
from lib.models.hub import LoadedModel

CONTEXT = 96  # tokens: toys have more positions, but what never ends takes as long as these
ODD = [
    "",
    " ",
    "How many books",
    "How many zebras does Zoë have?",  # words that the tokenizer has not
    "Ada has 14 coins.\n",
    "Ada has\n\n14 coins",  # the usual end
    "Ada has </s> 14",  # the other end
    "Ada\n</s>",  # both
    "<s><pad><unk>",
    "\0é漢🙂",
    "Ada has 3 eggs. " * 12,
    "Ada has 3 eggs. " * CONTEXT,  # too long for the model
]


@pytest.fixture(scope="module")
def asked() -> list[str]:
    return [made.question for made in two_step.problems("coded", 60, "test")]


@pytest.fixture(scope="module")
def lms(tmp_path_factory) -> dict[str, LoadedModel]:
    """Toys with other tokenizers, architectures and first tokens: one has no BOS."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("lms")
    made = {
        "words": save(folder / "words", "llama", "words", seed=1),
        "pieces": save(folder / "pieces", "qwen2", "pieces", bos=False, seed=2),
    }
    found = {name: hub.load(place, device="cpu") for name, place in made.items()}
    for lm in found.values():
        lm.model.config.max_position_embeddings = CONTEXT
    return found


@pytest.fixture(scope="module", params=["words", "pieces"])
def lm(lms, request) -> LoadedModel:
    return lms[request.param]


@pytest.fixture
def noisy(monkeypatch):
    """Lets one side see logits that are off by `scale`."""

    def disturb(scale: float) -> None:
        plain, noise = lm_coder._Coder.borders, torch.Generator().manual_seed(0)

        def borders(self, logits: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
            off = torch.randn(logits.shape, generator=noise, dtype=logits.dtype)
            return plain(self, logits + scale * off)

        monkeypatch.setattr(lm_coder._Coder, "borders", borders)

    return disturb


def bits(lm: LoadedModel, text: str, end: int) -> float:
    """-log2 of the probability of a text with its end, from one forward over all of it."""
    tokenizer = lm.tokenizer
    first = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    ids = torch.tensor([[first, *tokenizer(text, add_special_tokens=False)["input_ids"], end]])
    with torch.no_grad():
        logs = lm.model(ids).logits[0, :-1].double().log_softmax(-1)
    return -logs.gather(1, ids[0, 1:, None]).sum().item() / np.log(2)


class TestEveryTextComesBack:
    def test_questions(self, lm, asked):
        assert lm_coder.decode(lm, lm_coder.encode(lm, asked)) == asked

    def test_odd_ones(self, lm):
        assert lm_coder.decode(lm, lm_coder.encode(lm, ODD)) == ODD

    @settings(max_examples=12, deadline=None)
    @given(texts=st.lists(st.text(max_size=20) | st.sampled_from(ODD[:10]), max_size=5))
    def test_any(self, lm, texts):
        assert lm_coder.decode(lm, lm_coder.encode(lm, texts)) == texts

    def test_none(self, lm):
        assert lm_coder.decode(lm, lm_coder.encode(lm, [])) == []


class TestMessagesStandAlone:
    """A receiver has one message, or others, in another order, and its sums come out otherwise."""

    @pytest.fixture(scope="class")
    def blobs(self, lm, asked) -> list[bytes]:
        return lm_coder.encode(lm, asked)

    def test_one_by_one(self, lm, asked, blobs):
        assert [lm_coder.decode(lm, [blob])[0] for blob in blobs[:12]] == asked[:12]

    def test_sent_one_by_one(self, lm, asked, blobs):
        assert [lm_coder.encode(lm, [text])[0] for text in asked[:12]] == blobs[:12]

    def test_in_another_order_with_others(self, lm, asked, blobs):
        order = random.Random(0).sample(range(len(asked)), 40)
        others = lm_coder.encode(lm, ODD[:10])
        back = lm_coder.decode(lm, [*others, *(blobs[i] for i in order)])
        assert back[10:] == [asked[i] for i in order]

    @pytest.mark.parametrize("size", [1, 7, 33])
    def test_in_batches_of_another_size(self, lm, asked, blobs, monkeypatch, size):
        monkeypatch.setattr(lm_coder, "BATCH", size)
        assert lm_coder.decode(lm, blobs[:15]) == asked[:15]

    def test_where_sums_come_out_differently(self, lm, asked, blobs, noisy):
        noisy(1e-14)
        assert lm_coder.decode(lm, blobs) == asked

    def test_but_not_at_the_precision_of_float32(self, lm, asked, blobs, noisy):
        """What would happen without float64: the reason for it."""
        noisy(1e-5)
        try:
            assert lm_coder.decode(lm, blobs) != asked
        except ValueError as error:
            assert "no end" in str(error)


class TestPrice:
    def test_is_the_information_of_the_text(self, lm, asked):
        (line,) = lm.tokenizer("\n", add_special_tokens=False)["input_ids"]
        told = np.array([bits(lm, text, line) for text in asked]) / 8
        sent = np.array([len(blob) for blob in lm_coder.encode(lm, asked)])
        assert (sent - told).max() < 2
        assert abs((sent - told).mean()) < 1

    def test_of_a_text_with_a_line_end_is_a_byte_more(self, lm, asked):
        texts = [text.replace(" and then", "\n and then") for text in asked]
        told = np.array([bits(lm, text, lm.tokenizer.eos_token_id) for text in texts]) / 8
        sent = np.array([len(blob) for blob in lm_coder.encode(lm, texts)])
        assert (sent - told).max() < 3
        assert 0 < (sent - told).mean() < 2

    def test_of_a_text_that_is_not_spelled_is_utf8_and_little_more(self, lms):
        text = "How many zebras does Zoë have? " * 5
        (blob,) = lm_coder.encode(lms["words"], [text])
        assert len(text.encode()) < len(blob) <= len(text.encode()) + 4

    def test_of_what_both_sides_hold_is_weights_and_tokenizer(self, lm):
        table = lm_coder.table_bytes(lm)
        assert table == len(lm.tokenizer.backend_tokenizer.to_str().encode())
        assert lm_coder.side_bytes(lm) == 4 * lm.parameters + table


class TestDoubt:
    def test_sends_a_text_raw(self, lm, asked, monkeypatch):
        plain = lm_coder.encode(lm, asked)
        monkeypatch.setattr(lm_coder, "TOLERANCE", 1.0)
        raw = lm_coder.encode(lm, asked)
        assert all(len(blob) >= len(text) for blob, text in zip(raw, asked, strict=True))
        assert sum(map(len, plain)) < sum(map(len, raw))
        monkeypatch.undo()
        assert lm_coder.decode(lm, raw) == asked

    def test_is_rare(self, lm, asked):
        coder = lm_coder._Coder(lm)
        seen = []
        coder.side_by_side(list(range(9)), lambda alive, borders, doubtful: seen.append(doubtful.mean()) or [None] * 9)
        assert seen[0] < 1e-4

    def test_is_of_a_border_at_a_rounding_edge(self, lms):
        """Probabilities made so that the second border lies half way between two numbers, or not quite."""
        coder = lm_coder._Coder(lms["words"])
        room = (1 << coder.bits) - coder.vocabulary
        for off, doubt in ((0.0, True), (1e-9, True), (1e-4, False), (-1e-4, False)):
            first = (12_345.5 + off) / room
            rest = torch.full((coder.vocabulary - 1,), (1 - first) / (coder.vocabulary - 1), dtype=torch.float64)
            logits = torch.cat([torch.tensor([first], dtype=torch.float64), rest]).log()[None]
            assert bool(coder.borders(logits)[1][0, 1]) is doubt


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spread=st.sampled_from([0.0, 1.0, 30.0, 1e4]))
def test_borders_give_every_token_a_share(lms, seed, spread):
    coder = lm_coder._Coder.__new__(lm_coder._Coder)
    coder.vocabulary, coder.bits = 318, 16
    made = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(4, 318, generator=made, dtype=torch.float64)
    borders, _ = coder.borders(logits)
    sizes = np.diff(borders)
    assert (borders[:, 0] == 0).all()
    assert (borders[:, -1] == 2**16).all()
    assert sizes.min() >= 1
    shares = torch.softmax(logits, -1).numpy() * (2**16 - 318) + 1
    assert np.abs(sizes - shares).max() <= 1 + 1e-6


class TestFloat64:
    def test_is_the_same_model(self, lm, asked):
        ids = torch.tensor([lm.tokenizer(asked[0], add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            exact, plain = lm_coder.in_float64(lm.model)(ids).logits, lm.model(ids).logits
        assert exact.dtype == torch.float64
        assert torch.allclose(exact, plain.double(), atol=1e-3)
        assert lm.model.dtype == torch.float32

    def test_has_no_step_of_less_precision(self, lm):
        """A change of 1e-12 of an embedding comes through every layer: to float32 it would be nothing."""
        exact = lm_coder.in_float64(lm.model)
        with torch.no_grad():
            inputs = exact.get_input_embeddings()(torch.tensor([[3, 4, 5]]))
            way = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
            at = [exact(inputs_embeds=inputs + step * way).logits for step in (0.0, 1e-10, 1e-6)]
        small, large = (at[1] - at[0]) / 1e-10, (at[2] - at[0]) / 1e-6
        assert torch.allclose(small, large, rtol=1e-2, atol=1e-2 * large.abs().max().item())


class TestDamage:
    @settings(max_examples=15, deadline=None)
    @given(data=st.binary(max_size=30))
    def test_is_another_text_or_said(self, lms, data):
        try:
            (text,) = lm_coder.decode(lms["words"], [data])
            assert isinstance(text, str)
        except ValueError:
            pass

    def test_that_never_ends_is_said(self, lms):
        silent = copy.copy(lms["words"])
        silent.model = copy.deepcopy(silent.model)
        with torch.no_grad():
            silent.model.get_output_embeddings().weight.zero_()
        with pytest.raises(ValueError, match="no end within the model's 96 tokens"):
            lm_coder.decode(silent, [b""])

    def test_of_bytes_is_said(self, lms):
        coder = lm_coder._Coder(lms["words"])
        shares = [coder.share_of(lm_coder.RAW), coder.share_of_symbol(256), coder.share_of_symbol(0)]
        blob = lm_coder.range_coder.encode(*zip(*shares, strict=True), coder.bits)
        with pytest.raises(ValueError, match="is not UTF-8"):
            lm_coder.decode(lms["words"], [blob])
