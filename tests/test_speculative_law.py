"""Sampled speculation keeps the target's law: number for number where drafts are definite, else jointly."""

import functools
import itertools

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from lib.generators import naive
from lib.generators.common import SamplingParams
from lib.generators.sampling import draw, probabilities, uniforms
from lib.generators.speculative import acceptance
from lib.generators.speculative.chain import ChainDrafter
from lib.generators.speculative.common import Decoding
from lib.generators.speculative.decode import TorchArm
from lib.metrics.lossless import goodness_of_fit, goodness_of_prefixes, prefix_law
from lib.metrics.stats import holm
from tests.toys import drafter, perturbed, prompt, tiny_model

DEFINITE = ("baseline", "ngram", "draft", "eagle", "hybrid", "tree2", "tree3")
FILTERS = ({}, {"top_k": 4}, {"top_p": 0.8, "temperature": 1.3}, {"top_k": 5, "top_p": 0.9, "temperature": 0.7})
LEVEL = 1e-3  # of a family of tests that must pass
CERTAIN = 1e-6  # of one that must fail


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("method", DEFINITE)
def test_definite_drafts_leave_naives_tokens(method, filters):
    m, accepted = tiny_model(vocab=8), 0
    decoding = Decoding(**{"max_new_tokens": 20, "temperature": 1.0, "stop_ids": (5,)} | filters)
    params = SamplingParams(**vars(decoding), num_samples=1)
    prompts = [prompt(length, 8, seed=length) for length in (5, 9, 14)]
    seeds = [3, 4, 5]
    expected = [naive.generate(m, [p], params, [s])[0].samples[0].tokens for p, s in zip(prompts, seeds, strict=True)]
    arm = TorchArm(m, drafter(method, m, decoding), decoding)
    groups = [[0], [1], [2]] if method.startswith("tree") else [[0], [0, 1, 2]]
    for rows in groups:
        responses = arm.run([prompts[row].tolist() for row in rows], [seeds[row] for row in rows])
        assert [r.tokens for r in responses] == [expected[row] for row in rows]
        accepted += sum(sum(r.accepted) for r in responses)
    assert (accepted > 0) == (method != "baseline")


# The rule by itself, on laws that can be listed

V, ROWS = 5, 60_000
P = torch.tensor([0.45, 0.25, 0.2, 0.1, 0.0], dtype=torch.float64)
LAWS = {  # the drafter's
    "the same": P,
    "disjoint": torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0], dtype=torch.float64),
    "one token": torch.tensor([0.0, 0.0, 1.0, 0.0, 0.0], dtype=torch.float64),
    "misses some": torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2], dtype=torch.float64),
    "other": torch.tensor([0.1, 0.1, 0.3, 0.3, 0.2], dtype=torch.float64),
}


def numbers(stream, columns):
    return torch.from_numpy(uniforms(11, stream, ROWS * columns).reshape(ROWS, columns))


def verified(p, q, lengths, rule):
    """Tokens int64 [ROWS, K + 1] after a verification of K drafts of q, and how many drafts were kept."""
    k = len(q)
    p, q = p.expand(ROWS, k + 1, V), q.expand(ROWS, k, V)
    drafts = draw(q.reshape(-1, V), numbers(2, k).reshape(-1, 1)).view(ROWS, k)
    kept, extra = rule(p, q, drafts, lengths, numbers(1, k), numbers(0, k + 1))
    tokens = torch.cat([drafts, torch.zeros(ROWS, 1, dtype=torch.long)], 1)
    return tokens.scatter(1, kept[:, None], extra[:, None]), kept


def p_values(rule):
    """Of every law's single token, kept or replaced, and of the token behind drafts that were all kept."""
    values = []
    for q in LAWS.values():
        tokens, kept = verified(P, q[None], torch.ones(ROWS, dtype=torch.long), rule)
        values.append(goodness_of_fit(np.bincount(tokens[:, 0], minlength=V), P.numpy()))
        if int((kept == 1).sum()) > 100:
            values.append(goodness_of_fit(np.bincount(tokens[kept == 1, 1], minlength=V), P.numpy()))
    return values


def test_the_rule_gives_the_targets_law_whatever_the_drafters():
    assert min(holm(p_values(acceptance.rejection))) > LEVEL


@pytest.mark.parametrize("name", LAWS)
def test_as_many_drafts_are_kept_as_the_laws_have_in_common(name):
    _, kept = verified(P, LAWS[name][None], torch.ones(ROWS, dtype=torch.long), acceptance.rejection)
    common = float(torch.minimum(P, LAWS[name]).sum())  # 1 - TV
    if common in (0, 1):
        assert kept.double().mean() == pytest.approx(common, abs=1e-4)
    else:
        assert scipy_stats.binomtest(int(kept.sum()), ROWS, common).pvalue > LEVEL


def test_short_drafts_end_where_they_end():
    """Rows of one batch have 0 to 3 drafts; what stands behind is padding that no law knows."""
    lengths = torch.arange(ROWS) % 4
    q = torch.stack([LAWS["other"], LAWS["misses some"], LAWS["the same"]])
    tokens, kept = verified(P, q, lengths, acceptance.rejection)
    assert (kept <= lengths).all()
    values = []
    for length, place in itertools.product(range(4), range(4)):
        rows = (lengths == length) & (kept >= place)
        if rows.any():
            values.append(goodness_of_fit(np.bincount(tokens[rows, place], minlength=V), P.numpy()))
    assert len(values) == 10
    assert min(holm(values)) > LEVEL


def test_a_rejection_that_leaves_no_excess_draws_from_the_law():
    """Laws that differ by rounding: a number close to 1 rejects, and p - q has no mass."""
    q = (P * (1 + 1e-7)).expand(ROWS, 1, V)
    drafts, lengths = torch.zeros(ROWS, 1, dtype=torch.long), torch.ones(ROWS, dtype=torch.long)
    always = torch.full((ROWS, 1), 1 - 1e-9, dtype=torch.float64)
    kept, extra = acceptance.rejection(P.expand(ROWS, 2, V), q, drafts, lengths, always, numbers(0, 2))
    assert kept.sum() == 0
    assert goodness_of_fit(np.bincount(extra, minlength=V), P.numpy()) > LEVEL


# Rules that are wrong, each in a way of its own

RIGHT = acceptance.rejection


def without_excess(p, q, drafts, lengths, u_accept, u_draw):
    """A rejected draft is replaced from p itself."""
    kept, _ = RIGHT(p, q, drafts, lengths, u_accept, u_draw)
    row = torch.arange(len(p))
    return kept, draw(p[row, kept], u_draw[row, kept][:, None])[:, 0]


def keeping_all(p, q, drafts, lengths, u_accept, u_draw):
    return RIGHT(p, q, drafts, lengths, torch.zeros_like(u_accept), u_draw)


def not_clamped(p, q, drafts, lengths, u_accept, u_draw):
    """The excess counts what is lacking as if it were there."""
    kept, extra = RIGHT(p, q, drafts, lengths, u_accept, u_draw)
    row, rejected = torch.arange(len(p)), kept < lengths
    excess = (p[row, kept] - q[row, kept.clamp(max=q.shape[1] - 1)]).abs() + 1e-12
    return kept, torch.where(rejected, draw(excess, u_draw[row, kept][:, None])[:, 0], extra)


def not_normalised(p, q, drafts, lengths, u_accept, u_draw):
    """A number up to 1 looks for its place in an excess that sums to less; what finds none takes the last token."""
    kept, extra = RIGHT(p, q, drafts, lengths, u_accept, u_draw)
    row, rejected = torch.arange(len(p)), kept < lengths
    excess = (p[row, kept] - q[row, kept.clamp(max=q.shape[1] - 1)]).clamp(min=0)
    found = torch.searchsorted(excess.cumsum(-1), u_draw[row, kept][:, None].to(excess)).clamp(max=p.shape[-1] - 1)
    return kept, torch.where(rejected, found[:, 0], extra)


def same_number(p, q, drafts, lengths, u_accept, u_draw):
    """The replacement is drawn with the number that rejected the draft."""
    u = torch.cat([u_accept, u_draw[:, -1:]], 1)
    return RIGHT(p, q, drafts, lengths, u_accept, u)


WRONG = (without_excess, keeping_all, not_clamped, not_normalised, same_number)


@pytest.mark.parametrize("rule", WRONG)
def test_wrong_rules_are_caught(rule):
    assert min(holm(p_values(rule))) < CERTAIN


# The whole loop: the joint law of the first tokens, by enumeration

TOKENS, SAMPLES, K, STOP = 4, 3000, 3, 3
SAMPLED = ("draft", "eagle", "hybrid")
WHOLE = ({"temperature": 1.0}, {"temperature": 0.7, "top_k": 3}, {"temperature": 1.4, "top_p": 0.85})


@functools.cache
def toy():
    """A model of four tokens, and a prompt in which an n-gram of three stands twice."""
    return tiny_model(vocab=TOKENS, spread=0.3), [1, 2, 0, 1, 2, 2, 1, 2, 0]


def exact(decoding, length=4):
    """The law of the first tokens."""
    m, ids = toy()

    def next_law(prefix):
        with torch.inference_mode():
            logits = m(input_ids=torch.tensor([[*ids, *prefix]])).logits[:, -1]
        return probabilities(logits, decoding)[0].double().tolist()

    return prefix_law(next_law, length, (STOP,))


def whole(method, decoding):
    """Many answers of the toy."""
    m, ids = toy()
    return TorchArm(m, drafter(method, m, decoding, K, sampled=True), decoding).run([ids] * SAMPLES, range(SAMPLES))


def p_value_of_the_loop(method="draft", filters=WHOLE[1]):
    decoding = Decoding(max_new_tokens=4, stop_ids=(STOP,), **filters)
    responses = whole(method, decoding)
    assert sum(sum(r.accepted) for r in responses) > 0
    return goodness_of_prefixes([r.tokens for r in responses], exact(decoding))


def test_the_loop_gives_the_joint_law_of_the_first_tokens():
    values = [p_value_of_the_loop(method, filters) for method in SAMPLED for filters in WHOLE]
    assert min(holm(values)) > LEVEL


@pytest.mark.parametrize("rule", WRONG)
def test_the_loop_with_a_wrong_rule_is_caught(rule, monkeypatch):
    monkeypatch.setattr(acceptance, "rejection", rule)
    assert p_value_of_the_loop() < CERTAIN


def test_a_drafter_that_hands_on_another_law_than_it_drew_from_is_caught(monkeypatch):
    """Before temperature and filters: https://github.com/huggingface/transformers/issues/47932."""
    pick = ChainDrafter._pick

    def raw(drafts, logits, rows, place):
        return pick(drafts, logits, rows, place)[0], logits.softmax(-1)

    monkeypatch.setattr(ChainDrafter, "_pick", raw)
    assert p_value_of_the_loop() < CERTAIN


@pytest.mark.parametrize("filters", WHOLE)
def test_the_loop_keeps_as_many_first_drafts_as_the_laws_have_in_common(filters):
    decoding, (m, ids) = Decoding(max_new_tokens=2, stop_ids=(STOP,), **filters), toy()
    common, weights = [], []
    for token in range(TOKENS - 1):  # the prefill's
        text = torch.tensor([[*ids, token]])
        with torch.inference_mode():
            laws = [probabilities(one(input_ids=text).logits[:, -1], decoding)[0] for one in (m, perturbed(m))]
        common.append(float(torch.minimum(*laws).sum()))
        weights.append(exact(decoding, 1).get((token,), 0.0))
    kept = [r.accepted[0] > 0 for r in whole("draft", decoding) if r.drafted]
    expected = np.average(common, weights=weights)
    assert 0.3 < expected < 0.99
    assert scipy_stats.binomtest(sum(kept), len(kept), expected).pvalue > LEVEL


def test_a_hybrid_without_lookups_is_its_head():
    """Drawn drafts must reach the rule with their laws, or fewer of them are kept."""
    m = tiny_model(spread=0.1)
    decoding = Decoding(max_new_tokens=12, temperature=1.0)
    prompts, kept = [prompt(6, seed=seed).tolist() for seed in range(12)], 0
    head, hybrid = (
        TorchArm(m, drafter(name, m, decoding, K, sampled=True), decoding).run(prompts, range(12))
        for name in ("eagle", "hybrid")
    )
    for ids, one, other in zip(prompts, head, hybrid, strict=True):
        text = ids + one.tokens
        if len(set(zip(text, text[1:], text[2:], strict=False))) == len(text) - 2:  # no ending stood there before
            assert (other.tokens, other.drafted, other.accepted) == (one.tokens, one.drafted, one.accepted)
            kept += sum(one.accepted)
    assert kept > 20
