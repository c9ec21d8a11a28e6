"""Signs of collapse and early stopping against oracles by hand, scipy and brute force."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import linalg
from scipy import stats as distributions

from lib.metrics import messages

WHOLE = st.integers(-4, 4).map(float)
SHAPES = st.tuples(st.integers(2, 7), st.integers(1, 6))
MATRICES = SHAPES.flatmap(lambda shape: arrays.arrays(float, shape, elements=WHOLE))
ACCURACIES = st.lists(st.integers(0, 5).map(lambda count: count / 5), min_size=1, max_size=14)


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    return float(a @ b / norms) if norms else 0.0


@given(MATRICES)
def test_mean_cosine_is_the_mean_over_all_pairs(matrix):
    pairs = [cosine(a, b) for a, b in combinations(matrix, 2)]
    assert messages.mean_cosine(matrix) == pytest.approx(np.mean(pairs), abs=1e-12)


def test_mean_cosine_of_parallel_opposite_and_orthogonal_messages():
    one = np.array([[3.0, 4.0]])
    assert messages.mean_cosine(np.vstack([one, 10 * one, 0.1 * one])) == pytest.approx(1)
    assert messages.mean_cosine(np.vstack([one, -one])) == pytest.approx(-1)
    assert messages.mean_cosine(np.eye(5)) == pytest.approx(0)
    assert messages.mean_cosine(np.vstack([one, one]).astype(np.float16)) == pytest.approx(1)


@given(MATRICES)
def test_effective_rank_is_the_exponential_of_scipys_entropy(matrix):
    singular = linalg.svdvals(matrix - matrix.mean(axis=0))
    found = messages.effective_rank(matrix)
    if np.ptp(matrix, axis=0).max() == 0:
        assert found == 0
    else:
        assert found == pytest.approx(np.exp(distributions.entropy(singular)), rel=1e-9)
        assert 1 - 1e-9 <= found <= min(len(matrix) - 1, matrix.shape[1]) + 1e-9


def test_effective_rank_counts_directions_of_equal_size_and_not_the_common_mean():
    turned = linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]
    around = np.vstack([np.eye(6)[:3], -np.eye(6)[:3]])
    for moved in (around, around @ turned, 50 + around @ turned, 1e-3 * around):
        assert messages.effective_rank(moved) == pytest.approx(3, rel=1e-6)


def test_messages_that_are_all_the_same_have_no_rank_though_their_mean_is_rounded():
    for kind in (np.float16, np.float32, np.float64):
        same = np.tile(np.random.default_rng(1).normal(0, 7, 40).astype(kind), (23, 1))
        assert messages.effective_rank(same) == 0
        assert messages.mean_cosine(same) == pytest.approx(1)
    line = np.outer(np.arange(9.0), np.random.default_rng(2).normal(size=40))
    assert messages.effective_rank(line) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize("measure", [messages.mean_cosine, messages.effective_rank])
@pytest.mark.parametrize("shape", [(1, 4), (0, 4), (3,), (2, 3, 4)])
def test_one_message_or_unflattened_ones_are_refused(measure, shape):
    with pytest.raises(ValueError, match=r"give \[items, values\] of at least two items"):
        measure(np.ones(shape))


def test_unreadable_answers_are_one_answer():
    assert messages.distinct(["3", "4", "3", None]) == 3 / 4
    assert messages.distinct([None] * 10) == 1 / 10
    assert messages.distinct(["3", "03"]) == 1, "answers are compared as they are given"
    with pytest.raises(ValueError, match="one per item"):
        messages.distinct([])


def plainly(accuracies: list[float], patience: int) -> tuple[int, int | None]:
    """The first evaluation whose best so far is `patience` evaluations old."""
    for now in range(len(accuracies)):
        best = int(np.argmax(accuracies[: now + 1]))
        if patience and now - best >= patience:
            return best, now
    return int(np.argmax(accuracies)), None


@given(ACCURACIES, st.integers(0, 6))
def test_early_stopping_is_that_of_a_plain_search(accuracies, patience):
    assert messages.early_stop(accuracies, patience) == plainly(accuracies, patience)


@given(ACCURACIES, ACCURACIES, st.integers(1, 5))
def test_nothing_after_the_stop_is_seen(accuracies, later, patience):
    best, stop = messages.early_stop(accuracies, patience)
    if stop is not None:
        assert messages.early_stop([*accuracies, *later, 1.0], patience) == (best, stop)
        assert stop - best == patience


def test_early_stopping_by_hand():
    rising = [0.1, 0.5, 0.5, 0.4, 0.9]
    assert messages.early_stop(rising, 5) == (4, None)
    assert messages.early_stop(rising, 3) == (4, None), "the last improves in time"
    assert messages.early_stop(rising, 2) == (1, 3), "an equal is no improvement"
    assert messages.early_stop(rising, 0) == (4, None)
    assert messages.early_stop([0.0] * 4, 0) == (0, None)
    with pytest.raises(ValueError, match="there is none"):
        messages.early_stop([], 5)


@given(ACCURACIES, st.integers(1, 5))
def test_as_a_training_goes_on_the_weights_kept_last_are_the_best(accuracies, patience):
    kept = None
    for now in range(len(accuracies)):
        best, stop = messages.early_stop(accuracies[: now + 1], patience)
        if stop is not None:
            break
        kept = now if best == now else kept
    assert kept == messages.early_stop(accuracies, patience)[0]


HEALTHY = {"peak": 0.9, "final": 0.9, "delta_ce": 2.5, "distinct": 0.04, "distinct_gold": 0.04}
SIGNS = [
    ({"final": 0.36 / 0.815 * 0.9}, ("accuracy",)),
    ({"final": 0.629}, ("accuracy",)),
    ({"final": 0.631}, ()),
    ({"delta_ce": 0.049}, ("delta_ce",)),
    ({"delta_ce": 0.05}, ()),
    ({"delta_ce": -1.0}, ("delta_ce",)),
    ({"distinct": 0.001}, ("distinct",)),
    ({"distinct": 0.0081}, ()),
    ({"distinct": 0.0079}, ("distinct",)),
    ({"peak": 0.02, "final": 0.02, "delta_ce": 0.0, "distinct": 0.001}, ("delta_ce", "distinct")),
    ({"peak": 0.0, "final": 0.0}, ()),
    ({"final": 0.1, "delta_ce": float("nan"), "distinct": 0.001}, ("accuracy", "delta_ce", "distinct")),
    ({"final": float("nan")}, ("accuracy",)),
]


@pytest.mark.parametrize(("changed", "reasons"), SIGNS)
def test_each_sign_of_collapse_shows_by_itself(changed, reasons):
    assert messages.collapse(**HEALTHY) == ()
    assert messages.collapse(**HEALTHY | changed) == reasons


def test_a_thousand_items_with_forty_answers_are_not_called_collapsed_for_it():
    gold = [str(i % 40) for i in range(1000)]
    assert messages.distinct(gold) < messages.VARIED
    found = HEALTHY | {"distinct": messages.distinct(gold), "distinct_gold": messages.distinct(gold)}
    assert messages.collapse(**found) == ()
    assert messages.collapse(**found | {"distinct": messages.distinct(["7"] * 1000)}) == ("distinct",)
