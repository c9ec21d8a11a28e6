"""What a response says of its steps is what happened, in our loop and as read off transformers' assisted generation."""

import copy
import itertools

import numpy as np
import pytest

from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.hf_arm import TransformersArm
from lib.metrics.acceptance import crop
from tests.test_speculative import CHAINS, DECODING, METHODS, PROMPTS, VOCAB, K, greedy, run, target
from tests.toys import drafter, perturbed, prompt

LONGER = [*PROMPTS, *[prompt(12, VOCAB, seed).tolist() for seed in (30, 31)]]


@pytest.mark.parametrize("decoding", [DECODING, Decoding(max_new_tokens=30, temperature=0.8, stop_ids=(5,))])
@pytest.mark.parametrize("method", METHODS)
def test_steps_are_forwards_and_make_the_tokens(method, decoding):
    arm, widths = TorchArm(target(), drafter(method, target(), decoding, K), decoding), []
    hook = target().register_forward_pre_hook(
        lambda _m, _a, kw: widths.append(kw["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        (response,) = arm.run(PROMPTS[:1], [0])
    finally:
        hook.remove()
    assert widths == [len(PROMPTS[0]), *[drafted + 1 for drafted in response.drafted]]
    assert all(0 <= a <= d for d, a in zip(response.drafted, response.accepted, strict=True))
    made = response.first + sum(a + 1 for a in response.accepted)
    last = response.accepted[-1] + 1
    assert made - last < len(response.tokens) <= made, "no step after the end"
    _, cropped = crop(response.drafted, response.accepted, len(response.tokens))
    assert 0 <= len(response.tokens) - 1 - sum(cropped) <= len(cropped), (
        "each step adds one token of the target's, or ends"
    )


@pytest.mark.parametrize("method", CHAINS)
def test_seconds_are_parts_of_each_other(method):
    responses = run(method, PROMPTS)
    for r in responses:
        assert r.wall_s == pytest.approx(r.prefill_s + r.decode_s)
        assert r.draft_s > 0
        assert r.verify_s > 0
        assert r.draft_s + r.verify_s <= r.decode_s
    by_steps = sorted(responses, key=lambda r: len(r.drafted))
    assert [r.wall_s for r in by_steps] == sorted(r.wall_s for r in responses), "who leaves later took longer"
    (single,) = run(method, PROMPTS[:1], Decoding(max_new_tokens=1))
    assert (len(single.tokens), single.drafted, single.draft_s, single.verify_s) == (1, [], 0, 0)


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_draft_depends_on_the_text_and_not_on_the_steps_that_led_there(method):
    """Whatever was drafted and taken back before, alone or in a batch; so a trace can be replayed."""
    prompts = PROMPTS[:1] if method.startswith("tree") else PROMPTS[:3]
    together = _drafts(method, prompts)
    assert len({len(text) for text in together}) > 10
    for text, drafted in together.items():
        assert _drafts(method, [list(text[:-1])], new=2) == {text: drafted}  # its prefill yields the last token


def _drafts(method, prompts, new=24):
    """What was drafted behind every text that a run came through."""
    decoding = Decoding(max_new_tokens=new)
    drafts, found = drafter(method, target(), decoding, K), {}
    propose = drafts.propose

    def noted(rows, room):
        draft = propose(rows, room)
        for row, length, tokens, count in zip(rows.history, rows.length, draft.tokens, draft.lengths, strict=True):
            found.setdefault(tuple(row[:length].tolist()), tokens[:count].tolist())
        return draft

    drafts.propose = noted
    TorchArm(target(), drafts, decoding).run(prompts, list(range(len(prompts))))
    return found


@pytest.mark.parametrize("method", ["ngram", "draft", "eagle", "hybrid"])
def test_a_trace_is_a_draft_from_every_prefix_on_its_own(method):
    ids, ahead = PROMPTS[0], 6
    (crept,) = run(method, [ids], k=ahead, creep=True)
    assert crept.tokens == greedy(target(), ids, 30)
    apart = []
    for place in range(1, 30):
        (there,) = run(method, [[*ids, *crept.tokens[: place - 1]]], Decoding(max_new_tokens=2), k=ahead)
        apart.append((there.drafted[0], there.accepted[0]))
    assert list(zip(crept.drafted, crept.accepted, strict=True)) == apart
    assert max(crept.accepted) > 1


# transformers


def outside(method, ids, decoding=DECODING, assistant=None):
    return TransformersArm(target(), Speculation(method, K), decoding, assistant).run([ids], [0])[0]


def sizes(response):
    """Tokens of the output that each step made."""
    ends = np.minimum(response.first + np.cumsum(np.array(response.accepted) + 1), len(response.tokens))
    return np.diff([response.first, *ends]).tolist()


@pytest.mark.parametrize("stops", [(), (5,)])
@pytest.mark.parametrize("method", ["baseline", "ngram", "draft"])
def test_transformers_takes_the_same_steps(method, stops):
    """It verifies its first draft in the prefill. What that kept goes to our prompt, and from there steps are alike."""
    small, firsts = perturbed(target()), set()
    for ids in LONGER:
        theirs = outside(method, ids, Decoding(max_new_tokens=30, stop_ids=stops), small)
        kept = theirs.first - 1
        ours = Decoding(max_new_tokens=30 - kept, stop_ids=stops)
        (mine,) = TorchArm(target(), drafter(method, target(), ours, K), ours).run([ids + theirs.tokens[:kept]], [0])
        assert theirs.tokens == theirs.tokens[:kept] + mine.tokens
        assert sizes(theirs) == sizes(mine)
        if not stops:  # it drafts no tokens that would lie behind the end, so drafts are compared before it
            far = [left > K for left in itertools.accumulate(sizes(mine), int.__sub__, initial=len(mine.tokens) - 1)]
            assert list(itertools.compress(theirs.drafted, far)) == list(itertools.compress(mine.drafted, far))
        firsts.add(theirs.first)
    assert (1 in firsts) and (max(firsts) > 1) == (method != "baseline")


def test_transformers_answers_what_it_can_and_refuses_the_rest():
    with pytest.raises(ValueError, match=r"batch_size to 1\.$"):
        TransformersArm(target(), Speculation("ngram"), DECODING).run(PROMPTS[:2], [0, 1])
    with pytest.raises(ValueError, match=r"prompt_lookup_min to 1\.$"):
        TransformersArm(target(), Speculation("ngram", prompt_lookup_min=2), DECODING)


def test_generation_configs_neither_matter_nor_change():
    """Qwen's would filter and penalise, and an assistant's would draft 20 tokens, fewer where it is unsure."""
    m, small = target(), perturbed(target())
    plain = outside("draft", PROMPTS[0], assistant=small)
    assert max(plain.drafted) == K
    saved = [copy.deepcopy(each.generation_config) for each in (m, small)]
    try:
        for each in (m, small):
            each.generation_config.update(repetition_penalty=5.0, top_k=2, num_assistant_tokens=2, eos_token_id=4)
        before = [each.generation_config.to_dict() for each in (m, small)]
        again = outside("draft", PROMPTS[0], assistant=small)
        assert [each.generation_config.to_dict() for each in (m, small)] == before
    finally:
        m.generation_config, small.generation_config = saved
    assert (again.tokens, again.drafted, again.accepted) == (plain.tokens, plain.drafted, plain.accepted)


@pytest.mark.parametrize("method", ["baseline", "ngram", "draft"])
def test_a_seed_repeats_a_sampled_answer_of_transformers(method):
    sampled = Decoding(max_new_tokens=20, temperature=1.0, top_k=5)
    arm = TransformersArm(target(), Speculation(method, K), sampled, perturbed(target()))
    first, other, again = (arm.run(PROMPTS[:1], [seed])[0].tokens for seed in (0, 1, 0))
    assert first == again != other
