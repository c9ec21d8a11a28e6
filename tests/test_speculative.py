"""Drafting changes the speed and nothing else: the target's own tokens, alone or batched, from a cache that is true."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, BloomConfig, BloomForCausalLM

from lib.generators.speculative import decode
from lib.generators.speculative.chain import ChainDrafter
from lib.generators.speculative.common import Decoding
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.drafting import Rows
from lib.generators.speculative.ragged_cache import RaggedCache
from tests.toys import drafter, perturbed, prompt, tiny_gpt2, tiny_model

CHAINS = ("baseline", "ngram", "draft", "eagle", "hybrid")
METHODS = (*CHAINS, "tree2", "tree3")
VOCAB, K = 8, 4  # so few tokens that guesses are often right and endings repeat
DECODING = Decoding(max_new_tokens=30)
PROMPTS = [prompt(length, VOCAB, seed=length).tolist() for length in (9, 1, 5, 2, 9, 17)]
TARGETS = {
    "qwen2": functools.partial(tiny_model, "qwen2", VOCAB),
    "qwen3": functools.partial(tiny_model, "qwen3", VOCAB),
    "llama": functools.partial(tiny_model, "llama", VOCAB),
    "mistral": functools.partial(tiny_model, "mistral", VOCAB, sliding_window=64),
    "gpt2": functools.partial(tiny_gpt2, VOCAB),
}


@functools.cache
def target(name="qwen2"):
    return TARGETS[name]()


def run(method, prompts, decoding=DECODING, m=None, seeds=None, k=K, **options):
    m = m or target()
    arm = TorchArm(m, drafter(method, m, decoding, k), decoding, **options)
    return arm.run(prompts, seeds or list(range(len(prompts))))


def greedy(m, ids, count, stop_ids=()):
    """transformers' own greedy tokens."""
    with torch.inference_mode():
        row = torch.tensor([ids])
        options = {"do_sample": False, "max_new_tokens": count, "eos_token_id": list(stop_ids) or None}
        out = m.generate(row, attention_mask=torch.ones_like(row), pad_token_id=0, **options)
    return out[0, len(ids) :].tolist()


def counts(response):
    return response.drafted, response.accepted


@pytest.mark.parametrize("name", TARGETS)
def test_greedy_tokens_are_transformers(name):
    m, accepted = target(name), {}
    expected = [greedy(m, ids, 30) for ids in PROMPTS[:3]]
    for method in METHODS:
        responses = [run(method, [ids], m=m)[0] for ids in PROMPTS[:3]]
        assert [r.tokens for r in responses] == expected
        accepted[method] = sum(sum(r.accepted) for r in responses)
    assert accepted.pop("baseline") == 0
    assert min(accepted.values()) > 0, "a method whose guesses are never right shows little"


def test_greedy_tokens_of_a_trained_model_are_transformers(micro_path):
    m = AutoModelForCausalLM.from_pretrained(micro_path).eval()
    text = prompt(40, m.config.vocab_size).tolist() * 2
    expected = greedy(m, text, 40)
    for method in METHODS:
        assert run(method, [text], Decoding(max_new_tokens=40), m)[0].tokens == expected


@pytest.mark.parametrize("method", METHODS)
def test_drafts_end_with_the_window(method):
    """Learned positions: reading one beyond the last would be an error, not merely a wrong guess."""
    m = target("gpt2")
    ids = prompt(44, VOCAB).tolist()
    decoding = Decoding(max_new_tokens=20)  # 64 in all
    (response,) = run(method, [ids], decoding, m, k=7)
    assert response.tokens == greedy(m, ids, 20)
    assert method == "baseline" or max(response.drafted) >= 7
    with pytest.raises(ValueError, match="45 tokens and 20 new ones do not fit"):
        run(method, [[*ids, 0]], decoding, m)


def test_a_draft_model_with_a_shorter_window_drafts_as_far_as_it_reads():
    from lib.generators.speculative.common import Speculation
    from lib.generators.speculative.draft import DraftModel

    m, small = target("gpt2"), tiny_gpt2(VOCAB, positions=30)
    arm = TorchArm(m, DraftModel(small, Speculation("draft", K), DECODING), DECODING)
    (response,) = arm.run([PROMPTS[0]], [0])
    assert response.tokens == greedy(m, PROMPTS[0], 30)
    assert response.drafted[0] == K
    assert response.drafted[-1] == 0


def test_models_that_cannot_be_followed_are_refused_and_left_as_they_were():
    config = BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=1, n_head=4)
    window = tiny_model("mistral", VOCAB, sliding_window=12)
    layers = tiny_model("qwen2", VOCAB, use_sliding_window=True, sliding_window=12, max_window_layers=1)
    for m, reason in ((BloomForCausalLM(config), "attention"), (window, "sliding"), (layers, "sliding")):
        before = m.config._attn_implementation
        with pytest.raises(ValueError, match=rf"^[^.]*{reason}[^.]*\.$"):
            run("ngram", [PROMPTS[0]], m=m.eval())
        assert m.config._attn_implementation == before
    with pytest.raises(ValueError, match="empty"):
        run("ngram", [PROMPTS[0], []])
    with pytest.raises(ValueError, match="batch_size"):
        run("tree2", PROMPTS[:2])


# Several requests at once


@pytest.mark.parametrize("method", CHAINS)
def test_a_batch_does_for_each_row_what_it_does_alone(method):
    seen = set()
    for stops in ((2,), (5, 7), (3,)):
        decoding = Decoding(max_new_tokens=30, stop_ids=stops)
        together = run(method, PROMPTS, decoding)
        alone = [run(method, [ids], decoding)[0] for ids in PROMPTS]
        assert [r.tokens for r in together] == [r.tokens for r in alone]
        assert [r.tokens for r in together] == [greedy(target(), ids, 30, stops) for ids in PROMPTS]
        assert list(map(counts, together)) == list(map(counts, alone))
        for r in together:
            left = 1 + sum(a + 1 for a in r.accepted) - len(r.tokens)  # made behind the end of the output
            seen |= {"in the prefill"} if not r.drafted else {"inside a draft"} if left else {"at its end"}
        assert len({len(r.drafted) for r in together}) > 2, "rows should leave at different steps"
    assert seen >= {"in the prefill", "at its end"} | ({"inside a draft"} if method in ("ngram", "draft") else set())


@given(st.lists(st.booleans(), min_size=1, max_size=9))
def test_rows_that_go_on_fill_the_places_set_free(over):
    over = np.array(over)
    stay = decode._filled_up(over)
    assert sorted(stay) == np.flatnonzero(~over).tolist()
    assert all(stay[row] == row for row in range(len(stay)) if not over[row]), "nobody moves without need"


def test_rows_leave_a_cache_without_a_copy_of_the_others():
    cache = RaggedCache(target().config, 10)
    keys = torch.randn(4, 2, 3, 8)
    cache.place(0, None, 3)
    cache.layers[0].update(keys, keys)
    (buffer, _) = cache.layers[0]._buffers
    cache.layers[0].select(np.array([0, 3]))
    (kept, _) = cache.layers[0]._buffers
    assert kept.shape[0] == 2
    assert kept.data_ptr() == buffer.data_ptr()
    assert torch.equal(kept[:, :, :3], keys[[0, 3]])


@pytest.mark.parametrize("method", CHAINS)
def test_what_memory_held_before_does_not_matter(method, monkeypatch):
    """What a mask hides has weight 0, and 0 times a leftover NaN is NaN."""
    expected = [r.tokens for r in run(method, PROMPTS)]

    def leftovers(like, *size, **how):
        return torch.full_like(torch.zeros(*size), torch.nan if like.is_floating_point() else 7, dtype=like.dtype)

    monkeypatch.setattr(torch.Tensor, "new_empty", leftovers)
    assert [r.tokens for r in run(method, PROMPTS)] == expected


@pytest.mark.parametrize("method", ["draft", "eagle"])
def test_a_drafter_that_was_not_asked_for_long_catches_up_row_by_row(method):
    """In a hybrid, lookups may answer for many steps in which rows gain very different numbers of tokens."""
    texts = [prompt(length, VOCAB, seed=length).tolist() for length in (45, 70)]  # all that will be
    first = [(3 + step, 20 + 5 * step) for step in range(8)]
    lengths = [*first, *[(10 + 5 * step, 55 + step) for step in range(1, 7)]]
    together = _drafts_at(method, texts, lengths)
    for row, text in enumerate(texts):
        alone = _drafts_at(method, [text], [(length[row],) for length in lengths])
        assert [drafts[row] for drafts in together] == [drafts[0] for drafts in alone]


def _drafts_at(method, texts, lengths):
    """What a drafter proposes at the eighth and the last of the lengths that the texts grow to."""
    rows = Rows([text[:n] for text, n in zip(texts, lengths[0], strict=True)], Decoding(max_new_tokens=50), K, [])
    asked, proposed = drafter(method, target(), DECODING, K), []
    with torch.inference_mode():
        features = [target().base_model(torch.tensor([text])).last_hidden_state[0] for text in texts]
        asked.start(rows, _stacked([f[:n] for f, n in zip(features, lengths[0], strict=True)]))
        for step, grown in enumerate(lengths[1:], 1):
            before, counts = rows.length.copy(), np.array(grown) - rows.length
            spans = [slice(start, start + max(counts)) for start in before]
            rows.append(np.stack([text[span] for text, span in zip(texts, spans, strict=True)]), counts)
            read = [f[span.start - 1 : span.stop - 1] for f, span in zip(features, spans, strict=True)]
            asked.observe(rows, torch.stack(read), counts)
            if step in (7, len(lengths) - 1):
                proposed.append(asked.propose(rows, room=99).tokens.tolist())
    return proposed


def _stacked(tensors):
    return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True)


# The cache


@pytest.mark.parametrize("method", METHODS)
def test_every_forward_of_the_target_is_a_recompute_from_scratch(method, monkeypatch):
    """Logits, not only tokens: after drafts were taken back, a tree's path was kept, rows left the batch."""
    verify, checked = decode._Batch._verify, []

    def compared(batch, draft):
        logits = verify(batch, draft)
        for b, length in enumerate(batch.rows.length):
            for place in range(draft.lengths[b] + 1):
                text = [*batch.rows.history[b, :length], *_way(draft, b, place)]
                torch.testing.assert_close(logits[b, place], _plain(text), atol=1e-4, rtol=1e-4)
                checked.append(place)
        return logits

    monkeypatch.setattr(decode._Batch, "_verify", compared)
    run(method, PROMPTS[:1] if method.startswith("tree") else PROMPTS[:3], Decoding(max_new_tokens=12, stop_ids=(5,)))
    assert method == "baseline" or max(checked) >= K


def test_every_guess_of_a_draft_model_is_a_recompute_from_scratch(monkeypatch):
    pick, small, said, checked = ChainDrafter._pick, perturbed(_double()), [], []

    def compared(asked, logits, rows, place):
        if place == 0:
            said.clear()
        for b, length in enumerate(rows.length):
            text = [*rows.history[b, :length], *[tokens[b] for tokens in said]]
            plain = small(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
            torch.testing.assert_close(logits[b], plain, atol=1e-4, rtol=1e-4)
            checked.append(place)
        token, law = pick(asked, logits, rows, place)
        said.append(token.tolist())
        return token, law

    monkeypatch.setattr(ChainDrafter, "_pick", compared)
    run("draft", PROMPTS, Decoding(max_new_tokens=12, stop_ids=(5,)))
    assert max(checked) == K - 1


def _way(draft, b, place):
    """Tokens from the first draft to the one at `place` of a chain or a tree; none for place 0."""
    if draft.parents is None:
        return draft.tokens[b, :place]
    way = []
    while place:
        way, place = [draft.tokens[b, place - 1], *way], draft.parents[place - 1]
    return way


@functools.cache
def _double():
    return TARGETS["qwen2"]()  # whose attention nobody exchanges


def _plain(text):
    return _double()(input_ids=torch.tensor([text]), use_cache=False).logits[0, -1]
