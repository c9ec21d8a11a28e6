"""Diversity figures against sacrebleu's own sentence scores, hand counts, and the traps of size and of one sample."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics import BLEU

from lib.metrics.diversity import coverage, describe, distinct, self_bleu

SAMPLES = st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=12), min_size=2, max_size=7)


def by_sacrebleu(samples):
    """Mean sentence BLEU of each sample against the others, reference by reference."""
    texts = [" ".join(map(str, sample)) for sample in samples]
    bleu = BLEU(tokenize="none", smooth_method="exp", effective_order=True)
    scores = [bleu.sentence_score(text, texts[:i] + texts[i + 1 :]).score for i, text in enumerate(texts)]
    return sum(scores) / 100 / len(scores)


@settings(deadline=None, max_examples=150)
@given(SAMPLES)
def test_self_bleu_is_sacrebleus(samples):
    assert self_bleu(samples) == pytest.approx(by_sacrebleu(samples))


def test_self_bleu_by_hand():
    # Against [1, 2, 3, 5]: 3 of 4 words, 2 of 3 pairs, 1 of 2 triples, and 0 of 1 fours, smoothed to 1/2; same length.
    expected = (3 / 4 * 2 / 3 * 1 / 2 * 1 / 2) ** (1 / 4)
    assert self_bleu([[1, 2, 3, 4], [1, 2, 3, 5]]) == pytest.approx(expected)


def test_a_repeated_token_counts_as_often_as_the_best_other_sample_has_it():
    # Clipped at two 7s for the first; one 7 is all the second needs, and a sample is never its own reference.
    assert self_bleu([[7, 7, 7], [7, 7]]) == pytest.approx(by_sacrebleu([[7, 7, 7], [7, 7]]))
    assert self_bleu([[7, 7, 7], [7, 8, 9]]) < self_bleu([[7, 7, 7], [7, 7, 9]]) < 1


@pytest.mark.parametrize("sample", [[5], [1, 2, 3, 4, 5, 6]])
def test_samples_that_are_all_the_same_are_not_diverse(sample):
    row = describe([sample] * 20, [-0.5] * 20)
    assert row["self_bleu"] == pytest.approx(1)
    assert row["unique_ratio"] == pytest.approx(1 / 20)
    assert row["distinct_1"] == pytest.approx(len(set(sample)) / (20 * len(sample)))
    assert row["coverage"] == pytest.approx(math.exp(-0.5)), "the same sequence is seen once"


def test_one_sample_is_not_as_diverse_as_can_be():
    assert self_bleu([[1, 2, 3, 4]]) is None
    assert describe([[1, 2, 3, 4]], [-1.0])["self_bleu"] is None
    assert self_bleu([[1, 2, 3, 4], [5, 6, 7, 8]]) == 0


def test_distinct_by_hand():
    samples = [[1, 2, 1, 2], [1, 2, 3]]
    assert distinct(samples, 1) == pytest.approx(3 / 7)
    assert distinct(samples, 2) == pytest.approx(3 / 5)  # 12 21 | 23
    assert distinct(samples, 3) == pytest.approx(3 / 3)
    assert distinct([[1], [2]], 2) is None


def test_coverage_is_the_mass_of_different_sequences_and_nll_the_mean_over_all():
    samples, p = [[1, 2], [1, 2], [3]], [0.25, 0.25, 0.5]
    row = describe(samples, [math.log(x) for x in p])
    assert row["coverage"] == pytest.approx(0.75)
    assert row["nll"] == pytest.approx(-(2 * math.log(0.25) + math.log(0.5)) / 3)
    assert coverage([[1, 2], [3]], [-1000.0, -1000.0]) == 0
    assert set(row) == {
        "distinct_1",
        "distinct_2",
        "distinct_3",
        "self_bleu",
        "unique_ratio",
        "coverage",
        "nll",
    }


@given(SAMPLES, st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=50)
def test_order_does_not_matter_and_all_is_within_bounds(samples, random):
    logprobs = [-float(sum(sample)) - 1 for sample in samples]
    row = describe(samples, logprobs)
    order = list(range(len(samples)))
    random.shuffle(order)
    again = describe([samples[i] for i in order], [logprobs[i] for i in order])
    assert row == pytest.approx(again)
    assert all(
        value is None or 0 <= value <= 1 + 1e-9 for name, value in row.items() if name not in ("nll", "coverage")
    )


def test_what_cannot_be_described_is_one_sentence():
    with pytest.raises(ValueError, match="0 samples came with 0"):
        describe([], [])
    with pytest.raises(ValueError, match="1 samples came with 2"):
        describe([[1]], [0.0, 0.0])
