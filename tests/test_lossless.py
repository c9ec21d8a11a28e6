"""The tests of losslessness pass what is lossless as often as they say, and catch samplers that are not."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.metrics.lossless import (
    BOUND,
    ROUNDING,
    audit,
    divergence,
    goodness_of_fit,
    goodness_of_prefixes,
    prefix_law,
    surprise,
)

V, K = 8, 3


def laws(seed, temperature=1.0):
    """A Markov chain over V tokens: row v is the law of what follows v."""
    logits = np.random.default_rng(seed).normal(scale=2.0, size=(V, V)) / temperature
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


P, Q = laws(0), laws(1)  # target and drafter


def draw(law, rng):
    """One outcome from each row of law [n, V]."""
    return np.minimum((law.cumsum(-1) < rng.random((len(law), 1))).sum(-1), V - 1)


def speculative(p, q, rng, chains, tokens, fault=""):
    """[chains, tokens]: what K drafts from q, verified against p, make of a chain; the mechanism, step by step."""
    out, filled = np.zeros((chains, tokens + K + 2), dtype=int), np.ones(chains, dtype=int)
    every = np.arange(chains)
    while (live := filled <= tokens).any():
        at, going = filled.copy(), live.copy()
        for drafts in range(K + 1):
            before = out[every, at - 1]
            if drafts == K:
                token, right = draw(p[before], rng), np.zeros(chains, dtype=bool)  # the bonus ends the step
            else:
                drafter = q[before] ** 2 if fault == "raw q" else q[before]  # drawn colder than it is judged
                token = draw(drafter / drafter.sum(1, keepdims=True), rng)
                ratio = p[before, token] / q[before, token]
                right = (rng.random(chains) < ratio) | (fault == "accepts always")
                residual = np.maximum(p[before] - q[before], 1e-300)  # all zero where both are alike
                instead = p[before] if fault == "residual omitted" else residual
                token = np.where(right, token, draw(instead / instead.sum(1, keepdims=True), rng))
            out[every[going], at[going]] = token[going]
            at[going] += 1
            going &= right
        filled = np.where(live, at, filled)
    return out[:, 1 : tokens + 1]


def judged(tokens, p):
    """Audit of chains [n, tokens], all started from token 0, against p."""
    before = np.concatenate([np.zeros((len(tokens), 1), dtype=int), tokens[:, :-1]], axis=1)
    with np.errstate(divide="ignore"):
        return audit(*surprise(np.log(p[before.ravel()]), tokens.ravel()))


@pytest.mark.parametrize(
    ("a", "b", "where"),
    (([1, 2, 3], [1, 2, 3], None), ([1, 2, 3], [1, 9, 3], 1), ([1, 2], [1, 2, 3], 2), ([1], [], 0), ([], [], None)),
)
def test_divergence_is_the_first_difference(a, b, where):
    assert divergence(a, b) == divergence(b, a) == where


@given(st.lists(st.integers(0, 1)), st.lists(st.integers(0, 1)))
def test_before_the_divergence_all_is_equal(a, b):
    where = divergence(a, b)
    assert (where is None) == (a == b)
    if where is not None:
        assert a[:where] == b[:where] and a[: where + 1] != b[: where + 1]


class TestGoodnessOfFit:
    def test_agrees_with_scipy_where_no_cell_is_rare(self):
        counts, law = [30, 50, 20], [0.25, 0.5, 0.25]
        assert goodness_of_fit(counts, law) == pytest.approx(stats.chisquare(counts, [25, 50, 25]).pvalue)

    def test_rare_cells_are_one(self):
        expected = [1, 2, 3, 44, 50]
        found = goodness_of_fit([0, 1, 9, 40, 50], np.array(expected) / 100)
        assert found == pytest.approx(stats.chisquare([10, 40, 50], [6, 44, 50]).pvalue)

    def test_rare_cells_that_are_few_together_join_the_next(self):
        found = goodness_of_fit([50, 2, 3, 45], np.array([50, 1, 2, 47]) / 100)
        assert found == pytest.approx(stats.chisquare([50, 50], [50, 50]).pvalue)

    def test_the_order_of_outcomes_is_nothing_to_it(self):
        counts, law = np.array([3, 1, 60, 36]), np.array([0.02, 0.03, 0.6, 0.35])
        mixed = np.array([2, 0, 3, 1])
        assert goodness_of_fit(counts, law) == pytest.approx(goodness_of_fit(counts[mixed], law[mixed]))

    def test_is_as_wrong_as_it_says(self):
        rng, law = np.random.default_rng(0), np.random.default_rng(1).dirichlet(np.full(30, 0.5))
        pvalues = [goodness_of_fit(rng.multinomial(2000, law), law) for _ in range(600)]
        assert stats.kstest(pvalues, "uniform").pvalue > 1e-3

    def test_the_impossible_is_proof_and_one_cell_is_none(self):
        assert goodness_of_fit([1_000_000, 1], [1.0, 0.0]) == 0
        assert goodness_of_fit([7, 0], [1.0, 0.0]) == 1
        assert goodness_of_fit([2, 1, 1], [0.5, 0.25, 0.25]) == 1, "4 draws: nothing can be said"

    @pytest.mark.parametrize(
        ("counts", "law"), (([1, 2], [1.0]), ([0, 0], [0.5, 0.5]), ([1, 2], [0.6, 0.6]), ([1, 1], [1.5, -0.5]))
    )
    def test_what_is_no_law_is_one_sentence(self, counts, law):
        with pytest.raises(ValueError, match="one probability per outcome"):
            goodness_of_fit(counts, law)


class TestPrefixes:
    def test_the_law_is_that_of_a_chain_and_sums_to_one(self):
        law = prefix_law(lambda prefix: P[prefix[-1] if prefix else 0], 3)
        assert len(law) == V**3 and sum(law.values()) == pytest.approx(1)
        assert law[2, 0, 5] == pytest.approx(P[0, 2] * P[2, 0] * P[0, 5])

    def test_a_stop_id_ends_a_beginning(self):
        law = prefix_law(lambda prefix: [0.5, 0.5, 0.0], 3, stop_ids={1})
        assert law == {(1,): 0.5, (0, 1): 0.25, (0, 0, 1): 0.125, (0, 0, 0): 0.125}
        assert goodness_of_prefixes([[1]] * 50 + [[0, 1]] * 25 + [[0, 0, 1, 7]] * 12 + [[0, 0, 0]] * 13, law) > 0.9
        assert goodness_of_prefixes([[1]] * 50 + [[2, 0, 0]], law) == 0, "cannot occur"

    def test_tokens_tied_to_each_other_have_right_marginals_and_are_caught(self):
        law = prefix_law(lambda prefix: [0.5, 0.5], 2)
        tied = [[0, 0]] * 100 + [[1, 1]] * 100
        first, second = np.array(tied).T
        assert goodness_of_fit(np.bincount(first), [0.5, 0.5]) == goodness_of_fit(np.bincount(second), [0.5, 0.5]) == 1
        assert goodness_of_prefixes(tied, law) < 1e-9

    @pytest.mark.parametrize("fault", ("", "accepts always", "residual omitted", "raw q"))
    def test_a_sampler_passes_only_if_it_is_lossless(self, fault):
        law = prefix_law(lambda prefix: P[prefix[-1] if prefix else 0], 3)
        samples = speculative(P, Q, np.random.default_rng(2), 4000, 3, fault)
        found = goodness_of_prefixes(samples.tolist(), law)
        assert found > 0.01 if not fault else found < 1e-6


class TestAudit:
    def test_moments_are_those_of_the_definition(self):
        with np.errstate(divide="ignore"):
            logs = np.log(np.array([[0.5, 0.25, 0.25, 0.0], [1.0, 0, 0, 0], [0.25] * 4]))
        nll, entropy, varentropy = surprise(logs, np.array([1, 0, 3]))
        assert nll == pytest.approx(np.log([4, 1, 4]))
        assert entropy == pytest.approx([1.5 * math.log(2), 0, math.log(4)])
        assert varentropy == pytest.approx([0.25 * math.log(2) ** 2, 0, 0])
        assert surprise(logs, np.array([3, 0, 0]))[0][0] == math.inf

    @pytest.mark.parametrize("method", ("ancestral", "speculative"))
    def test_z_is_standard_normal_for_a_lossless_sampler_of_dependent_tokens(self, method):
        rng, runs, length = np.random.default_rng(3), 1500, 300
        tokens = speculative(P, P if method == "ancestral" else Q, rng, runs, length)
        z = np.array([judged(chain[None], P).z for chain in tokens])
        assert stats.kstest(z, "norm").pvalue > 1e-3
        assert stats.binomtest(int((np.abs(z) > 1.96).sum()), runs, 0.05).pvalue > 1e-3
        assert (np.abs(z) > BOUND).sum() <= 4

    def test_answers_that_end_at_a_stop_id_do_not_bias_it(self):
        """Keeping what precedes the first token 0: which tokens are judged depends on the tokens before, never on
        themselves. Leaving the stop ids themselves out is such a choice, and is caught.
        """
        tokens = speculative(P, Q, np.random.default_rng(4), 20_000, 20)
        before = np.concatenate([np.zeros((len(tokens), 1), dtype=int), tokens[:, :-1]], axis=1)
        moments = surprise(np.log(P[before.ravel()]), tokens.ravel())
        going = np.cumsum(np.pad(tokens == 0, ((0, 0), (1, 0)))[:, :-1], axis=1).ravel() == 0
        assert audit(*(values[going] for values in moments)).passed
        assert not audit(*(values[going & (tokens.ravel() != 0)] for values in moments)).passed

    @pytest.mark.parametrize("fault", ("accepts always", "residual omitted", "raw q"))
    def test_a_broken_sampler_is_caught(self, fault):
        assert not judged(speculative(P, Q, np.random.default_rng(5), 100, 300, fault), P).passed

    @pytest.mark.parametrize(("temperature", "sign"), ((0.8, -1), (1.25, 1)))
    def test_a_wrong_temperature_is_caught_and_told_hot_from_cold(self, temperature, sign):
        wrong = laws(0, temperature)
        found = judged(speculative(wrong, wrong, np.random.default_rng(6), 40, 300), P)
        assert not found.passed and np.sign(found.z) == np.sign(found.low) == np.sign(found.high) == sign
        assert judged(speculative(wrong, wrong, np.random.default_rng(6), 40, 300), wrong).passed

    def test_right_marginals_with_a_greedy_bias_are_caught(self):
        """Every token is equally frequent, under the law and under one that takes the likeliest step more often."""
        law, shift = P[0], (np.arange(V)[None] - np.arange(V)[:, None]) % V
        greedy = 0.8 * law + 0.2 * (law == law.max())
        right, biased = law[shift], greedy[shift]
        tokens = speculative(biased, biased, np.random.default_rng(7), 200, 200)
        assert stats.chisquare(np.bincount(tokens[:, 100:].ravel(), minlength=V)).pvalue > 1e-4
        assert judged(tokens, right).z < -BOUND

    def test_known_limit_equally_likely_tokens_are_one_to_it(self):
        """What the docstring says it cannot see, and the test that can."""
        law, wrong = np.array([0.4, 0.4, 0.2]), np.array([0.7, 0.1, 0.2])
        tokens = np.random.default_rng(8).choice(3, p=wrong, size=5000)
        assert audit(*surprise(np.log(np.tile(law, (5000, 1))), tokens)).passed
        assert goodness_of_fit(np.bincount(tokens), law) < 1e-9

    def test_interval_and_detectable_difference_are_what_they_say(self):
        """A sampler that is off by the detectable difference fails four times in five."""
        rng, runs, length = np.random.default_rng(9), 2000, 400
        spread = rng.uniform(0.5, 1.5, (runs, length))
        noise = rng.normal(size=(runs, length)) * spread
        fair = [audit(n + 1, np.ones(length), s**2) for n, s in zip(noise, spread, strict=True)]
        assert 0.93 < np.mean([a.low <= 0 <= a.high for a in fair]) < 0.97
        off = [audit(n + 1 + a.detectable, np.ones(length), s**2) for n, s, a in zip(noise, spread, fair, strict=True)]
        assert 0.77 < np.mean([not a.passed for a in off]) < 0.83
        assert off[0].difference == pytest.approx(off[0].nll - off[0].entropy)

    def test_tokens_needed_for_a_twentieth_of_a_nat(self):
        found = audit(np.ones(7540), np.ones(7540), np.ones(7540))
        assert found.detectable == pytest.approx(0.05, rel=1e-4)

    def test_one_token_outside_the_support_is_a_failure(self):
        found = audit(np.array([*np.ones(999), np.inf]), np.ones(1000), np.ones(1000))
        assert (found.outside_support, found.tokens, found.z, found.passed) == (1, 1000, 0, False)

    def test_laws_without_scatter(self):
        n = 1000
        assert audit(np.zeros(n), np.zeros(n), np.zeros(n)).passed
        assert audit(np.full(n, ROUNDING), np.zeros(n), np.full(n, -1e-9)).passed, "rounding is not a law"
        assert not audit(np.array([1.0] + [0] * (n - 1)), np.zeros(n), np.zeros(n)).passed

    def test_a_row_is_flat_json(self):
        for found in (audit(np.ones(5), np.ones(5), np.ones(5)), audit([np.inf] * 3, np.ones(3), np.ones(3))):
            columns = json.loads(json.dumps(found.row(), allow_nan=False))
            assert columns == found.row()
            names = {"tokens", "nll", "entropy", "difference", "low", "high", "z", "outside_support", "passed"}
            assert names <= columns.keys()
        assert columns == dict.fromkeys(columns) | {"tokens": 3, "outside_support": 3, "passed": False}

    @pytest.mark.parametrize("values", (([], [], []), ([1.0], [1.0, 1.0], [1.0]), ([1.0], [np.nan], [1.0])))
    def test_nothing_to_audit_is_one_sentence(self, values):
        with pytest.raises(ValueError, match="one of each per emitted token"):
            audit(*map(np.array, values))
