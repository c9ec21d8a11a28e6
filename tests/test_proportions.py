"""Shares and their differences: against scipy, against other formulas, and how often the intervals hold the truth."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lib.metrics.proportions import mcnemar, paired_difference, wilson
from lib.metrics.stats import t_interval

MARKS = st.integers(1, 40).flatmap(lambda n: st.tuples(*[st.text("01", min_size=n, max_size=n)] * 2))


@given(st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilson_as_scipy(share, level):
    successes, n = share
    expected = stats.binomtest(successes, n).proportion_ci(level, "wilson")
    assert wilson(successes, n, level) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (5, 4), (-1, 4)])
def test_no_share_no_interval(successes, n):
    with pytest.raises(ValueError, match="is no share"):
        wilson(successes, n)


def test_mcnemar_counts_the_items_on_which_arms_differ():
    a, b = "1" * 11 + "0" * 36 + "1" * 100 + "0" * 53, "0" * 11 + "1" * 36 + "1" * 100 + "0" * 53
    tail = stats.binom.cdf(11, 47, 0.5)
    assert mcnemar(a, b) == mcnemar(b, a) == pytest.approx(2 * tail)
    assert mcnemar(a, b) == pytest.approx(3.5e-4, rel=0.02)
    assert mcnemar(a, a) == 1.0
    assert mcnemar(np.array([1, 1, 0]), "111") == 1.0
    with pytest.raises(ValueError, match="of one seed, not 2"):
        mcnemar(["10", "01"], "11")


@given(MARKS)
def test_one_seed_is_the_interval_of_agresti_and_min(marks):
    """Their formula, on the counts of the 2 x 2 table; theirs divides by n where a sample variance has n - 1."""
    a, b = marks
    n = len(a) + 2
    only_a = 0.5 + sum(x > y for x, y in zip(a, b, strict=True))
    only_b = 0.5 + sum(x < y for x, y in zip(a, b, strict=True))
    centre = (only_a - only_b) / n
    error = np.sqrt((only_a + only_b - (only_a - only_b) ** 2 / n) / (n * (n - 1)))
    found = paired_difference(a, b)
    half = stats.norm.ppf(0.975) * error
    assert (found.low, found.high) == pytest.approx((max(-1, centre - half), min(1, centre + half)))
    assert found.p == pytest.approx(2 * stats.norm.sf(abs(centre) / error))
    assert found.estimate == pytest.approx((a.count("1") - b.count("1")) / len(a))
    assert (found.seeds, found.items) == (1, len(a))


def test_swapping_arms_swaps_signs_and_strings_are_arrays():
    rng = np.random.default_rng(0)
    a, b = rng.integers(2, size=(2, 3, 50))
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert (one.estimate, one.low, one.high, one.p) == pytest.approx(
        (-other.estimate, -other.high, -other.low, other.p)
    )
    assert paired_difference(["".join(map(str, row)) for row in a], b) == one
    assert paired_difference(a, b[0]) == paired_difference(a, np.stack([b[0]] * 3))


def test_seeds_that_agree_say_no_more_than_one():
    rng = np.random.default_rng(1)
    a, b = rng.integers(2, size=(2, 200))
    once, thrice = paired_difference(a, b), paired_difference([a] * 3, [b] * 3)
    assert thrice[:4] == pytest.approx(once[:4], rel=1e-3)


def test_with_countless_items_seeds_are_what_counts():
    """Differences of a seed spread evenly over items, which then say nothing: a t interval over seeds."""
    shares = np.array([0.5, 0.55, 0.6, 0.65])
    items = 20_000
    rng = np.random.default_rng(2)
    a = np.stack([rng.permutation(np.arange(items) < share * items) for share in shares])
    found = paired_difference(a, np.zeros(items, int))
    assert (found.estimate, found.low, found.high) == pytest.approx(t_interval(shares), abs=1e-3)


def test_seeds_that_happen_to_agree_are_not_taken_for_sure():
    """Equal totals on different items are chance: the items' spread then speaks for the seeds too."""
    a = np.tile(np.eye(4, dtype=int), 25)  # every seed has a quarter right, no two the same
    found = paired_difference(a, np.zeros(100, int))
    assert found.estimate == 0.25
    assert found.high - found.low == pytest.approx(2 * 1.96 * np.sqrt(0.25 / 400), rel=0.05)


def test_equal_arms_leave_room_for_what_was_not_seen():
    few, many = (paired_difference(["1" * n] * 2, "1" * n) for n in (100, 1000))
    assert few.estimate == many.estimate == 0
    assert few.p == many.p == 1
    assert few.high == -few.low > 0.015 > 0.002 > many.high == -many.low > 0.0015


@given(MARKS, st.integers(1, 3), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_interval_holds_the_estimate_and_agrees_with_its_p_value(marks, seeds, level):
    a, b = marks
    turned = [a[i:] + a[:i] for i in range(seeds)]
    found = paired_difference(turned, b, level)
    assert -1 <= found.low <= found.estimate <= found.high <= 1
    assert (found.p < 1 - level) == (found.low > 0 or found.high < 0)


def coverage(seeds, items, easy, arm, spread, text, repeats=400):
    """How often 95 % intervals hold the true difference 0.1: (paired_difference, t interval over seeds).

    Items have a difficulty that both arms share (+-easy) and one that the first arm alone feels (+-arm), seeds of the
    first arm an own skill (up to +-spread). Probabilities stay inside 0..1, so the difference is exactly 0.1.
    """
    rng, hits = np.random.default_rng(3), np.zeros(2)
    for _ in range(repeats):
        shared = 0.6 + rng.choice([-easy, easy], items)
        alone = 0.1 + rng.choice([-arm, arm], items) + rng.uniform(-spread, spread, (seeds, 1))
        a = (rng.random((seeds, items)) < shared + alone).astype(int)
        b = (rng.random((1 if text else seeds, items)) < shared).astype(int)
        found = paired_difference(a, b)
        _, low, high = t_interval((a - b).mean(axis=1))
        hits += [found.low <= 0.1 <= found.high, low <= 0.1 <= high]
    return hits / repeats


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("design", [(1, 200, 0.1, 0, 0), (4, 200, 0.05, 0.2, 0.02), (4, 200, 0.05, 0.05, 0.1)])
def test_intervals_hold_the_truth_as_often_as_they_say(design, text):
    assert 0.92 <= coverage(*design, text)[0] <= 0.99


def test_seeds_alone_would_be_too_sure():
    """Why items are in the interval: all seeds face the same ones, and the text arm's luck is in every difference."""
    crossed, seeds_only = coverage(4, 200, 0.05, 0.2, 0.02, text=True)
    assert seeds_only < 0.8 < crossed


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ("101", "11", "3 and 2 items"),
        ("", "", "0 and 0 items"),
        (["10", "11"], ["10", "11", "11"], "2 and 3 seeds"),
        (["10", "111"], "11", "differ in their number of items"),
        ("1012", "1111", "neither 0 nor 1"),
        (np.array([0.5, 1]), "11", "neither 0 nor 1"),
    ],
)
def test_arms_that_cannot_be_compared(a, b, message):
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)
