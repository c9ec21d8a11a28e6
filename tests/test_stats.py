"""Intervals cover, slopes are found, and pairing by prompt is real."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lib.metrics import stats


def rows(times: dict[str, list[list[float]]], model: str = "m", parameters: int = 10) -> pd.DataFrame:
    """{arm: [[seconds of each repeat] of each prompt]} as measurement rows."""
    return pd.DataFrame(
        {"model": model, "parameters": parameters, "protocol": "fixed", "arm": arm, "prompt": p, "wall_s": seconds}
        for arm, prompts in times.items()
        for p, repeats in enumerate(prompts)
        for seconds in repeats
    )


def test_bootstrap_interval_agrees_with_scipy():
    values = np.random.default_rng(0).lognormal(size=25)
    ours = stats.bootstrap(values)
    theirs = scipy_stats.bootstrap(
        (values,), np.median, method="percentile", n_resamples=4000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert ours.estimate == np.median(values)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, rel=0.05), pytest.approx(theirs.high, rel=0.05))


def test_bootstrap_interval_of_a_mean_covers_about_as_often_as_it_says():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        interval = stats.bootstrap(rng.normal(size=30), lambda x: x.mean(-1))
        hits += interval.low <= 0 <= interval.high
    assert 0.88 * 200 <= hits <= 0.99 * 200


def test_one_prompt_has_no_spread_and_says_so_and_none_is_an_error():
    interval = stats.bootstrap(np.array([2.0]))
    assert (interval.low, interval.high, interval.n) == (2, 2, 1)
    with pytest.raises(ValueError, match="nothing to take an interval of"):
        stats.bootstrap(np.array([]))


@settings(deadline=None, max_examples=25)
@given(st.floats(-2, 2), st.floats(0.1, 10), st.integers(2, 6))
def test_slope_of_an_exact_power_law(exponent, factor, models):
    x = 10.0 ** np.arange(4, 4 + models)
    y = factor * x[:, None] ** exponent * np.ones(5)
    slope = stats.loglog_slope(x, y)
    assert slope.estimate == pytest.approx(exponent, abs=1e-9)
    assert slope.low == pytest.approx(slope.high, abs=1e-9)


def test_slope_agrees_with_scipy_and_resamples_prompts_jointly():
    rng = np.random.default_rng(2)
    x = np.array([1e5, 1e6, 1e7])
    difficulty = rng.lognormal(sigma=1.0, size=12)  # the same prompts are hard for every model
    y = x[:, None] ** 0.3 * difficulty
    slope = stats.loglog_slope(x, y)
    assert slope.estimate == pytest.approx(scipy_stats.linregress(np.log(x), np.log(np.median(y, 1))).slope)
    assert slope.high - slope.low < 1e-9, "what all models share must cancel"
    with pytest.raises(ValueError, match="at least two models"):
        stats.loglog_slope(x[:1], y[:1])


def test_speedup_pairs_prompts_and_takes_the_median_of_repeats_first():
    table = rows({"naive": [[10.0], [100.0]], "eab": [[1.0, 2.0, 90.0], [50.0, 20.0, 25.0]]})
    pairs = stats.against(table)
    eab = pairs[pairs.arm == "eab"].set_index("prompt")
    assert eab.ratio.to_dict() == {0: 5.0, 1: 4.0}
    assert eab.saved.to_dict() == {0: 8.0, 1: 75.0}
    assert (pairs[pairs.arm == "naive"].ratio == 1).all()


def test_models_and_protocols_are_not_mixed():
    a = rows({"naive": [[8.0]], "eab": [[2.0]]}, "a", 10)
    b = rows({"naive": [[9.0]], "eab": [[1.0]]}, "b", 20)
    other = a.assign(protocol="matched", wall_s=1.0)
    table = stats.summarise(stats.against(pd.concat([a, b, other])))
    found = table[table.arm == "eab"].set_index(["model", "protocol"]).estimate.to_dict()
    assert found == {("a", "fixed"): 4.0, ("b", "fixed"): 9.0, ("a", "matched"): 1.0}


def panel(rng, models=4, prompts=30, slope=0.0, spread=0.05, noise=0.1):
    """Speedups [models, prompts] whose log2 grows by `slope` +- `spread` (between prompts) per doubling of size."""
    x = 10.0 ** np.linspace(5, 7, models)
    steps = np.log2(x)[:, None] * rng.normal(slope, spread, prompts) + rng.normal(0, 2, prompts)  # prompts differ a lot
    return x, 2 ** (steps + rng.normal(0, noise, (models, prompts)))


def test_size_slope_is_per_doubling_and_its_interval_is_a_t_interval():
    x, y = panel(np.random.default_rng(3), slope=0.2)
    found = stats.size_slope(x, y)
    each = [scipy_stats.linregress(np.log2(x), np.log2(y[:, i])).slope for i in range(30)]
    np.testing.assert_allclose(found.slopes, each)
    theirs = scipy_stats.ttest_1samp(each, 0).confidence_interval()
    assert (found.estimate, found.low, found.high, found.n) == pytest.approx((np.mean(each), *theirs, 30))
    doubled = stats.size_slope([1, 2], [[3.0, 5.0], [6.0, 10.0]])
    assert doubled.estimate == pytest.approx(1.0), "twice as fast where twice as large: 1 per doubling"
    with pytest.raises(ValueError, match="at least two models"):
        stats.size_slope(x[:1], y[:1])


@pytest.mark.parametrize("intercept_variance", [0.1, 10.0])
def test_size_slope_is_that_of_the_mixed_model_with_an_intercept_per_prompt(intercept_variance):
    x, y = panel(np.random.default_rng(4), models=3, prompts=7)
    size, prompt = np.repeat(np.log2(x), 7), np.tile(np.arange(7), 3)
    covariance = np.eye(21) + intercept_variance * (prompt[:, None] == prompt)
    design, inverse = np.stack([np.ones(21), size], 1), np.linalg.inv(covariance)
    gls = np.linalg.solve(design.T @ inverse @ design, design.T @ inverse @ np.log2(y).ravel())
    assert stats.size_slope(x, y).estimate == pytest.approx(gls[1])


def test_size_slope_interval_covers_and_an_a_a_comparison_rejects_as_often_as_it_says():
    rng = np.random.default_rng(5)
    covered = rejected = 0
    for _ in range(1000):
        found = stats.size_slope(*panel(rng, prompts=12))
        covered += found.low <= 0 <= found.high
        rejected += stats.difference(found.slopes) < 0.05
    assert covered == 1000 - rejected, "interval and test are one"
    assert 0.035 * 1000 <= rejected <= 0.065 * 1000


def test_t_tests_agree_with_scipy():
    values = np.random.default_rng(6).normal(0.3, 1, 15)
    assert stats.difference(values, 0.1) == pytest.approx(scipy_stats.ttest_1samp(values, 0.1).pvalue)
    above = scipy_stats.ttest_1samp(values, -0.5, alternative="greater").pvalue
    below = scipy_stats.ttest_1samp(values, 0.9, alternative="less").pvalue
    assert stats.inside(values, -0.5, 0.9) == pytest.approx(max(above, below))
    assert stats.outside(values, 0.6, 0.9) == pytest.approx(
        2 * scipy_stats.ttest_1samp(values, 0.6, alternative="less").pvalue
    )
    assert stats.equivalence(values, 0.9) == stats.inside(values, -0.9, 0.9)


def test_equivalence_errs_at_most_one_time_in_twenty_at_its_margin_and_finds_a_flat_slope():
    rng = np.random.default_rng(7)
    at_margin = [stats.equivalence(rng.normal(stats.FLAT, 0.1, 30)) < 0.05 for _ in range(1000)]
    flat = [stats.equivalence(rng.normal(0, 0.1, 30)) < 0.05 for _ in range(300)]
    assert np.mean(at_margin) <= 0.065
    assert np.mean(flat) > 0.95
    assert pytest.approx(np.log2(1.05)) == stats.FLAT


def test_one_value_decides_nothing_and_values_without_spread_decide_outright():
    one = stats.size_slope([1, 2], [[1.0], [9.0]])
    assert (one.low, one.high, one.n) == (-np.inf, np.inf, 1)
    assert stats.difference(one.slopes) == stats.equivalence(one.slopes) == stats.outside(one.slopes, 0, 1) == 1
    assert stats.difference(np.ones(4)) == stats.equivalence(np.zeros(4)) == 0
    assert stats.difference(np.zeros(4)) == stats.equivalence(np.ones(4)) == 1


def test_holm_is_the_textbook_example_and_keeps_the_family_error():
    np.testing.assert_allclose(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]).size == 0
    rng = np.random.default_rng(8)
    families = [stats.holm(rng.uniform(size=5)).min() < 0.05 for _ in range(2000)]
    assert 0.035 <= np.mean(families) <= 0.065


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p):
    adjusted = stats.holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


@pytest.mark.parametrize(("n", "alpha"), [(6, 0.05), (30, 0.025)])
def test_detectable_effect_is_found_with_the_stated_power(n, alpha):
    effect = stats.detectable(0.1, n, alpha)
    draws = np.random.default_rng(9).normal(effect, 0.1, (4000, n))
    assert (scipy_stats.ttest_1samp(draws, 0, axis=1).pvalue < alpha).mean() == pytest.approx(0.8, abs=0.02)


def test_needed_inverts_detectable():
    assert stats.detectable(1.0, 1) == np.inf
    for effect in (0.07, 0.11, 0.6, 5.0):
        n = stats.needed(0.1, effect)
        assert stats.detectable(0.1, n) <= effect
        assert n == 2 or stats.detectable(0.1, n - 1) > effect
