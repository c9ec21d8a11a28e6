"""Bias is told from noise, and a sample's worth is right, on laws small enough to know exactly."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.metrics.law import entropy, fidelity, judge, masses, prefixes, total_variation

VOCABULARY, LENGTH, N = 6, 4, 20
REPLICATES = 600


class Toy:
    """A Markov chain of a few tokens, of which all sequences can be listed; four answers."""

    def __init__(self) -> None:
        rng = np.random.default_rng(5)
        self.laws = rng.dirichlet(np.full(VOCABULARY, 0.4), size=(LENGTH, VOCABULARY))  # [step, token before, token]

    def next(self, tokens: tuple[int, ...]) -> np.ndarray:
        return self.laws[len(tokens), tokens[-1] if tokens else 0]

    def p(self, tokens: tuple[int, ...]) -> float:
        return math.prod(self.next(tokens[:t])[token] for t, token in enumerate(tokens))

    @staticmethod
    def answer(tokens: tuple[int, ...]) -> int:
        return (tokens[0] + tokens[1] // 3 + 2 * (tokens[-1] // 4)) % 4

    def truth(self) -> dict[int, float]:
        total: Counter[int] = Counter()
        for tokens in itertools.product(range(VOCABULARY), repeat=LENGTH):
            total[self.answer(tokens)] += float(self.p(tokens))
        return dict(total)

    def tree(self, counts, rng) -> list[tuple[int, ...]]:
        """N leaves, each node's multiplicity divided among its children by `counts(m, law, rng)`."""
        live = {(): N}
        for _ in range(LENGTH):
            below = {}
            for tokens, m in live.items():
                below |= {(*tokens, v): k for v, k in enumerate(counts(m, self.next(tokens), rng)) if k}
            live = below
        return [tokens for tokens, m in live.items() for _ in range(m)]


def multinomial(m, law, rng):
    return rng.multinomial(m, law)


def systematic(m, law, rng):
    return np.diff(np.floor(m * np.append(0, law.cumsum()) + rng.random()).astype(int))


def gated(m, law, rng):
    """Everybody follows one draw where the law is fairly sure of it: the gate that makes EAB biased per tree, and a
    tail cut off: what makes it biased over all trees.
    """
    law = np.where(law >= 0.1, law, 0) / law[law >= 0.1].sum()
    return m * rng.multinomial(1, law) if law.max() > 0.6 else rng.multinomial(m, law)


@pytest.fixture(scope="module")
def toy():
    return Toy()


@pytest.fixture(scope="module")
def judged(toy):
    """By count law: the judgement of REPLICATES replicates, and their pooled answers."""
    result = {}
    for counts in (multinomial, systematic, gated):
        rng = np.random.default_rng(1)
        replicates = [[toy.answer(leaf) for leaf in toy.tree(counts, rng)] for _ in range(REPLICATES)]
        result[counts] = judge(replicates, toy.truth()), list(itertools.chain(*replicates))
    return result


def test_total_variation_and_entropy_agree_with_their_definitions():
    p, q = {"a": 0.5, "b": 0.5}, {"b": 0.25, "c": 0.75}
    largest = max(abs(sum(p.get(x, 0) - q.get(x, 0) for x in event)) for event in ("a", "b", "c", "ab", "ac", "bc"))
    assert total_variation(p, q) == pytest.approx(largest) == pytest.approx(0.75)
    assert total_variation(p, p) == 0
    assert total_variation({"a": 1.0}, {"b": 1.0}) == 1
    assert entropy({"a": 0.2, "b": 0.8, "c": 0.0}) == pytest.approx(stats.entropy([0.2, 0.8]))


@given(st.lists(st.integers(0, 5), min_size=1), st.lists(st.integers(0, 5), min_size=1))
def test_masses_are_a_law_and_total_variation_a_distance(a, b):
    p, q = masses(a), masses(b)
    assert sum(p.values()) == pytest.approx(1)
    assert entropy(p) <= math.log(len(p)) + 1e-12
    assert 0 <= total_variation(p, q) <= 1 + 1e-12
    assert total_variation(p, q) == pytest.approx(total_variation(q, p))
    assert (total_variation(p, q) < 1e-12) == (all(abs(p.get(x, 0) - q.get(x, 0)) < 1e-12 for x in range(6)))


def test_independent_draws_are_worth_themselves(judged):
    verdict, _ = judged[multinomial]
    # The standard deviation of a mean of 600 squared errors is about 4 % of it.
    assert verdict["effective_samples"] == pytest.approx(N, rel=0.15)
    assert verdict["tv_answers"] < 0.02


def test_independent_draws_show_the_bias_of_the_plug_in_estimate_and_no_other(judged, toy):
    verdict, _ = judged[multinomial]
    truth = np.array(list(toy.truth().values()))
    assert verdict["entropy_reference"] == pytest.approx(stats.entropy(truth))
    drawn = np.random.default_rng(3).multinomial(N, truth, size=20_000) / N
    plain = stats.entropy(drawn, axis=1) - stats.entropy(truth)
    assert verdict["entropy_bias"] == pytest.approx(plain.mean(), abs=4 * plain.std() / math.sqrt(REPLICATES))
    assert verdict["entropy_rmse"] == pytest.approx(math.sqrt((plain**2).mean()), rel=0.15)
    assert plain.mean() == pytest.approx(-(len(truth) - 1) / (2 * N), rel=0.3)  # Miller's formula


def test_systematic_counts_are_worth_more_than_independent_draws_and_as_faithful(judged):
    verdict, _ = judged[systematic]
    independent, _ = judged[multinomial]
    assert verdict["tv_answers"] < 0.02
    assert verdict["effective_samples"] > 1.3 * N
    assert verdict["entropy_rmse"] < 0.9 * independent["entropy_rmse"]
    assert abs(verdict["entropy_bias"]) < abs(independent["entropy_bias"])


def test_a_biased_sampler_is_caught(judged, toy):
    verdict, pooled = judged[gated]
    independent, faithful = judged[multinomial]
    assert verdict["effective_samples"] < 0.5 * N
    assert verdict["entropy_bias"] < 2 * independent["entropy_bias"] < 0
    truth = toy.truth()
    rng = np.random.default_rng(4)
    reference = rng.choice(list(truth), size=20_000, p=list(truth.values())).tolist()
    assert fidelity(pooled, reference).tv > 2 * fidelity(pooled, reference).noise_95
    assert fidelity(faithful, reference).tv < fidelity(faithful, reference).noise_95


def test_worth_of_a_collapsed_and_of_a_perfect_sampler():
    fair = {"yes": 0.5, "no": 0.5}
    collapsed = judge([["yes"] * N, ["no"] * N], fair)
    assert collapsed["effective_samples"] == pytest.approx(1), "N copies of one independent draw are one draw"
    assert collapsed["tv_answers"] == 0, "pooled, it is unbiased"
    assert collapsed["entropy_bias"] == pytest.approx(-math.log(2))
    perfect = judge([["yes", "no"] * 10] * 2, fair)
    assert perfect["effective_samples"] is None
    assert (perfect["mass_rmse"], perfect["entropy_rmse"]) == (0, 0)
    assert judge([["yes"] * N], {"yes": 1.0})["effective_samples"] is None


def test_an_answer_the_reference_never_gave_counts_as_error():
    verdict = judge([["a", "never"]], {"a": 1.0})
    assert verdict["tv_answers"] == 0.5
    assert verdict["mass_rmse"] == pytest.approx(math.sqrt(0.5))


def test_the_error_of_the_reference_is_not_blamed_on_the_arm():
    truth, size = {"a": 0.5, "b": 0.3, "c": 0.2}, 100
    rng = np.random.default_rng(0)

    def sample(n):
        return rng.choice(list(truth), size=n, p=list(truth.values())).tolist()

    corrected, blamed = [], []
    for _ in range(300):
        reference, replicates = masses(sample(size)), [sample(N) for _ in range(20)]
        corrected.append(judge(replicates, reference, size)["mass_rmse"] ** 2)
        blamed.append(judge(replicates, reference)["mass_rmse"] ** 2)
    expected = (1 - sum(p * p for p in truth.values())) / N
    assert np.mean(corrected) == pytest.approx(expected, rel=0.04)
    assert np.mean(blamed) == pytest.approx(expected * (1 + N / size), rel=0.04)


def test_noise_is_what_independent_draws_show():
    rng = np.random.default_rng(2)
    law = rng.dirichlet(np.full(40, 0.5))
    gaps, verdicts = [], []
    for seed in range(300):
        ours, theirs = (rng.choice(40, size=n, p=law).tolist() for n in (300, 2000))
        verdict = fidelity(ours, theirs, seed)
        gaps.append(verdict.tv)
        verdicts.append(verdict)
    assert np.mean(gaps) == pytest.approx(np.mean([v.noise for v in verdicts]), rel=0.03)
    above = sum(v.tv > v.noise_95 for v in verdicts)
    assert stats.binomtest(above, 300, 0.05).pvalue > 1e-3
    assert fidelity(ours, theirs, 1) == fidelity(ours, theirs, 1)


def test_prefixes_tell_first_tokens_apart_jointly():
    samples = [[1, 2, 3], [1, 2, 4], [2, 9]]
    assert prefixes(samples, 1) == [(1,), (1,), (2,)]
    assert prefixes(samples, 3) == [(1, 2, 3), (1, 2, 4), (2, 9)]


def test_nothing_to_judge_is_one_sentence():
    with pytest.raises(ValueError, match="none of them empty"):
        judge([], {"a": 1.0})
    with pytest.raises(ValueError, match="none of them empty"):
        judge([["a"], []], {"a": 1.0})
    with pytest.raises(ValueError, match="There are 0 samples"):
        fidelity([], ["a"])
