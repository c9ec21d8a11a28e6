"""The speedup model is the paper's where its assumptions hold, a simulation's where they do not, and fits published
measurements.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.metrics.speculation import (
    Fitted,
    best_k,
    expected_tokens,
    fit,
    measured,
    optimal_k,
    predicted,
    roofline,
    speedup,
)

RATE = st.floats(0, 1)
COST = st.floats(0.01, 2)


def free(_):
    return 0.0


@st.composite
def rates(draw, most=8):
    """Unconditional rates: the share of drafts that get as far as position i cannot grow."""
    return sorted(draw(st.lists(RATE, min_size=1, max_size=most)), reverse=True)


@given(RATE, st.integers(0, 6))
def test_expected_tokens_are_those_of_all_outcomes(alpha, k):
    total = 0.0
    for outcome in itertools.product((True, False), repeat=k):
        chance = np.prod([alpha if right else 1 - alpha for right in outcome])
        accepted = next((i for i, right in enumerate(outcome) if not right), k)
        total += chance * (accepted + 1)
    assert expected_tokens(alpha, k) == pytest.approx(total)


def test_expected_tokens_in_the_published_case_and_at_the_limits():
    assert [round(expected_tokens(0.8, k), 2) for k in range(1, 6)] == [1.8, 2.44, 2.95, 3.36, 3.69]
    assert expected_tokens(1, 7) == 8
    assert expected_tokens(0, 7) == 1


@pytest.mark.parametrize(
    ("c", "alpha", "k", "gain"),
    (
        (0.05, 0.6, 4, 1.92),
        (0.05, 0.7, 6, 2.35),
        (0.05, 0.8, 8, 3.09),
        (0.05, 0.9, 13, 4.67),
        (0.1, 0.5, 2, 1.46),
        (0.1, 0.6, 3, 1.67),
        (0.1, 0.7, 4, 1.98),
        (0.1, 0.8, 6, 2.47),
        (0.1, 0.9, 10, 3.43),
        (0.2, 0.7, 3, 1.58),
        (0.2, 0.8, 4, 1.87),
        (0.375, 0.7, 2, 1.25),
        (0.375, 0.8, 2, 1.39),
    ),
)
def test_table_of_the_best_k(c, alpha, k, gain):
    assert optimal_k(alpha, c) == k
    assert speedup(alpha, k, c) == pytest.approx(gain, abs=0.005)
    by_time = [sum(alpha**i for i in range(n + 1)) / (n * c + 1) for n in range(40)]
    assert speedup(alpha, k, c) == pytest.approx(max(by_time))


@given(RATE, st.floats(0.001, 1))
def test_drafting_pays_exactly_where_a_token_is_likelier_right_than_it_costs(alpha, c):
    """Leviathan et al. 2023, Corollary 3.9."""
    if abs(alpha - c) > 1e-9:
        assert (optimal_k(alpha, c) > 0) == (alpha > c)
    if alpha > c:
        assert speedup(alpha, optimal_k(alpha, c), c) >= (1 + alpha) / (1 + c) - 1e-12


@given(RATE, st.integers(0, 8), COST)
def test_the_general_model_is_the_paper_s_under_its_assumptions(alpha, k, c):
    unconditional = alpha ** np.arange(1, k + 1)
    found = predicted(unconditional, lambda n: n * c * 7, lambda _: 7.0)
    assert found == pytest.approx(speedup(alpha, k, c))


@given(rates(), st.integers(1, 20), st.floats(0, 0.9))
def test_compute_bound_drafting_never_pays(unconditional, batch_size, draftless):
    costs = free, lambda tokens: 3e-3 * tokens, 0.0, draftless, batch_size
    assert predicted(unconditional, *costs) <= 1 + 1e-9
    ones = [1.0] * len(unconditional)
    assert predicted(ones, *costs) == pytest.approx(1), "even if every draft is right it is only even"


def test_a_batch_with_steps_that_have_no_draft_is_what_a_simulation_of_it_gives():
    rng, k, batch, draftless, unconditional = np.random.default_rng(0), 4, 3, 0.4, [0.8, 0.5, 0.3, 0.2]
    curve = Fitted("max", 5.0, 1.0)  # bends at 5 tokens: the mean number of tokens would not do
    drafts = rng.random((200_000, batch)) >= draftless
    accepted = drafts * (rng.random((200_000, batch, 1)) < unconditional[0]).sum(-1)
    for i in range(1, k):
        accepted += (accepted == i) & (rng.random((200_000, batch)) < unconditional[i] / unconditional[i - 1])
    seconds = np.maximum(5, batch + k * drafts.sum(1)) + 3.0 * drafts.any(1) + 0.1
    simulated = ((accepted + 1).sum() / batch) / (seconds.sum() / curve(batch))
    costs = lambda n: 3.0 if n == k else np.nan, curve, 0.1, draftless, batch
    assert predicted(unconditional, *costs) == pytest.approx(simulated, rel=0.004)


@settings(deadline=None)
@given(rates(), COST, COST, st.floats(0, 1), st.integers(1, 8))
def test_best_k_is_best_and_may_be_not_to_draft(unconditional, a, b, draft, batch_size):
    costs = lambda n: draft * n, Fitted("sum", a, b), 0.01, 0.1, batch_size
    k, gain = best_k(unconditional, *costs)
    assert gain >= 1
    assert gain == (pytest.approx(predicted(unconditional[:k], *costs)) if k else 1)
    assert all(predicted(unconditional[:n], *costs) <= gain for n in range(1, len(unconditional) + 1))


def test_speedup_falls_with_the_batch_once_it_has_used_the_free_tokens():
    curve = Fitted("max", 1.0, 1 / 64)
    gains = [predicted([0.8, 0.6, 0.5], free, curve, batch_size=b) for b in (1, 8, 16, 32, 64)]
    assert gains[:3] == pytest.approx([2.9] * 3)
    assert gains[3:] == pytest.approx([2.9 / 2, 2.9 / 4])


@pytest.mark.parametrize(
    ("lengths", "per_token_ms", "k", "gain"),
    (
        ((2.10, 2.29, 2.39, 2.43, 2.45, 2.47), (4.37, 4.29, 4.48, 4.71, 4.94, 5.20), 3, 1.65),
        ((2.36, 2.79, 3.08, 3.32, 3.46, 3.54), (4.32, 4.09, 4.05, 4.13, 4.20, 4.29), 4, 1.75),
    ),
    ids=("EAGLE", "EAGLE-3"),
)
def test_published_sweep_of_k_on_a_gpu(lengths, per_token_ms, k, gain):
    """vLLM issue 20780: Llama-3.1-8B on an H100 at batch size 1, k = 2..7, 7.07 ms per token without drafting.

    From the mean acceptance lengths and a step whose cost is fitted as a line, every measured speedup and the best k.
    """
    ks, plain = np.arange(2, 8), 7.07
    steps = fit(ks, np.multiply(lengths, per_token_ms))
    unconditional = [(lengths[0] - 1) / 2] * 2 + np.diff(lengths).tolist()  # k = 1 was not measured
    costs = lambda n: steps(n) - plain, lambda _: plain
    found = [predicted(unconditional[:n], *costs) for n in ks]
    assert found == pytest.approx(plain / np.array(per_token_ms), rel=0.025)
    best, best_gain = best_k(unconditional, *costs)
    assert best == k == ks[np.argmin(per_token_ms)]
    assert best_gain == pytest.approx(gain, abs=0.03)


class TestCurves:
    def test_roofline_of_an_h100(self):
        curve = roofline(peak_flops=989e12, bandwidth=3.35e12, bytes_per_parameter=2)
        assert curve.critical_tokens == pytest.approx(295, abs=0.5)
        assert 8e9 * curve(1) == pytest.approx(16e9 / 3.35e12), "8 billion parameters: 4.8 ms to read them"
        assert curve(1) == curve(290) < curve(300)

    @settings(deadline=None)
    @given(COST, st.floats(0, 1), st.sampled_from(("max", "sum")))
    def test_an_exact_curve_is_found_again(self, fixed, per_token, kind):
        tokens, truth = np.arange(1, 17), Fitted(kind, fixed, per_token)
        found = fit(tokens, [truth(q) for q in tokens])
        assert [found(q) for q in tokens] == pytest.approx([truth(q) for q in tokens], rel=1e-6)
        assert found.error < 1e-6

    @pytest.mark.parametrize(("kind", "seed"), itertools.product(("max", "sum"), range(4)))
    def test_no_curve_is_closer_to_noisy_measurements(self, kind, seed):
        rng, tokens = np.random.default_rng(seed), np.repeat(np.arange(1, 17), 3)
        truth = Fitted(kind, 5e-3, 8e-4)
        seconds = np.array([truth(q) for q in tokens]) * rng.lognormal(sigma=0.1, size=len(tokens))
        found = fit(tokens, seconds)
        assert found.kind == kind
        fixed, per_token = np.meshgrid(np.linspace(0, 0.012, 200), np.linspace(0, 2e-3, 200))
        both = fixed[..., None], per_token[..., None] * tokens
        closest = min(((c - seconds) ** 2).mean(-1).min() for c in (np.maximum(*both), np.add(*both)))
        assert found.error * seconds.mean() <= np.sqrt(closest)

    def test_a_bend_on_a_measurement_is_found(self):
        """Neither side alone puts the bend where it then is."""
        tokens, seconds = np.array([1, 2, 4, 8]), np.array([3.0, 6.0, 3.0, 9.0])
        found = fit(tokens, seconds)
        assert (found.kind, found.critical_tokens) == ("max", 4)
        closest = min(np.sum((np.maximum(4 * b, b * tokens) - seconds) ** 2) for b in np.linspace(0, 3, 3001))
        assert found.error == pytest.approx(np.sqrt(closest / 4) / seconds.mean(), rel=1e-4)

    def test_no_cost_is_negative(self):
        found = fit([1, 2, 4, 8], [4.0, 3.0, 2.0, 1.0])
        assert (found.fixed_s, found.per_token_s) == (2.5, 0)
        assert found.critical_tokens == np.inf
        assert fit([1, 2, 4, 8], [0.5, 1.9, 4.2, 9.0]).fixed_s >= 0

    def test_one_number_of_tokens_is_no_curve(self):
        with pytest.raises(ValueError, match="two different numbers of tokens"):
            fit([4, 4], [1.0, 1.1])

    def test_a_measured_curve_goes_through_the_medians_and_not_beyond(self):
        curve = measured([4, 1, 4, 4, 2], [9.0, 1.0, 4.0, 5.0, 2.0])
        assert [curve(q) for q in (0, 1, 2, 3, 4)] == [1, 1, 2, 3.5, 5]
        with pytest.raises(ValueError, match="measured up to 4"):
            curve(5)
