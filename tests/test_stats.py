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
