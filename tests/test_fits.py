"""Planted power laws come back, intervals cover them, and what cannot be fitted is refused in a sentence."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lib.metrics import fits
from lib.metrics.fits import FitError

PARAMETERS = np.array([4e5, 2.4e6, 1.26e7, 4.2e7, 1e8])
PHI, ALPHA, A, E = 0.46, 0.4, 20.0, 0.02


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(fits, "RESAMPLES", 60)


def noisy(rng: np.random.Generator, curve: np.ndarray, seeds: int = 6, spread: float = 0.05) -> np.ndarray:
    """[sizes, seeds]; a seed's mazes make all its losses higher or lower, and each model adds its own."""
    return curve[:, None] * np.exp(rng.normal(0, spread, seeds) + rng.normal(0, spread, (len(curve), seeds)))


def grid(
    rng: np.random.Generator | None = None, sizes=(6e3, 2e4, 5e4, 4e5), R=(1, 2, 4, 8), seeds: int = 6, phi: float = PHI
) -> pd.DataFrame:
    """Results of a recurrent arm with nine tenths of its parameters in the blocks that are repeated."""
    found = []
    for seed in range(seeds):
        of_seed = rng.normal(0, 0.05) if rng else 0
        for total, r in ((total, r) for total in sizes for r in R):
            loss = E + A * (0.1 * total + r**phi * 0.9 * total) ** -ALPHA
            loss *= np.exp(of_seed + (rng.normal(0, 0.05) if rng else 0))
            model = {"arch": "loop", "size": f"{total:g}", "R": r, "seed": seed, "loss": loss}
            found.append(model | {"parameters": round(total), "recurrent_parameters": round(0.9 * total)})
    return pd.DataFrame(found)


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.1, 1.2), st.floats(0.01, 5), st.floats(0.05, 0.95), st.sampled_from([1.0, 1e6, 1e12]), st.integers(4, 7)
)
def test_a_planted_law_comes_back_whatever_its_units(alpha, scale, share, unit, sizes):
    x = unit * 4.0 ** np.arange(sizes)
    reducible = scale * (x / x[0]) ** -alpha
    irreducible = share * reducible[-1]
    law = fits.power_law(x, irreducible + reducible)
    assert law.exponent.estimate == pytest.approx(alpha, rel=1e-3)
    assert law.irreducible.estimate == pytest.approx(irreducible, rel=1e-3)
    assert law(x) == pytest.approx(irreducible + reducible, rel=1e-5)
    assert law.error < 1e-5


def test_without_an_irreducible_loss_it_is_a_line_in_logarithms(quick):
    curve = 30 * PARAMETERS**-0.3
    law = fits.power_law(PARAMETERS[:3], curve[:3], irreducible=False)
    assert (law.exponent.estimate, law.coefficient.estimate) == (pytest.approx(0.3), pytest.approx(30))
    assert law.irreducible.estimate == 0
    losses = noisy(np.random.default_rng(0), curve)
    ours = fits.power_law(PARAMETERS, losses, irreducible=False)
    theirs = scipy_stats.linregress(np.log(np.repeat(PARAMETERS, 6)), np.log(losses.ravel()))
    assert -ours.exponent.estimate == pytest.approx(theirs.slope, abs=2 * theirs.stderr)


def test_one_bad_seed_does_not_bend_the_fit(quick):
    losses = noisy(np.random.default_rng(1), 0.05 + 30 * PARAMETERS**-0.3, spread=0.002)
    broken = losses.copy()
    broken[-1, 0] *= 20  # a model that did not learn
    before, after = (fits.power_law(PARAMETERS, y).exponent.estimate for y in (losses, broken))
    assert after == pytest.approx(before, abs=0.02)


def test_intervals_of_a_noisy_law_cover_it_about_as_often_as_they_say(quick):
    rng, hits = np.random.default_rng(2), 0
    for _ in range(30):
        law = fits.power_law(PARAMETERS, noisy(rng, 30 * PARAMETERS**-0.3), irreducible=False)
        hits += law.exponent.low <= 0.3 <= law.exponent.high
        assert law.exponent.low <= law.exponent.estimate <= law.exponent.high
    assert hits >= 0.83 * 30  # 95 % less two standard errors and what 60 resamples cannot resolve


def test_the_band_of_a_law_holds_its_curve_and_widens_outside_the_sizes(quick):
    truth = 0.05 + 30 * PARAMETERS**-0.3
    law = fits.power_law(PARAMETERS, noisy(np.random.default_rng(3), truth))
    low, high = law.band(PARAMETERS)
    assert ((low <= truth) & (truth <= high)).all()
    assert ((low <= law(PARAMETERS)) & (law(PARAMETERS) <= high)).all()
    widths = [np.log(end[1] / end[0])[0] for end in (law.band([2e7]), law.band([1e11]))]
    assert widths[1] > 2 * widths[0]
    single = fits.power_law(PARAMETERS, truth)
    assert (single.n, single.exponent.low, single.exponent.high) == (1, -np.inf, np.inf)
    assert np.isinf(single.band(PARAMETERS)).all()


def test_fits_are_the_same_every_time_and_seeds_stay_whole(quick):
    losses = noisy(np.random.default_rng(4), 30 * PARAMETERS**-0.3)
    first, second = (fits.power_law(PARAMETERS, losses, irreducible=False) for _ in range(2))
    assert (first.draws == second.draws).all()
    alike = (30 * PARAMETERS**-0.3)[:, None] * np.exp(np.random.default_rng(5).normal(0, 0.5, 6))
    law = fits.power_law(PARAMETERS, alike, irreducible=False)  # seeds differ by much, but not in the exponent
    assert law.exponent.high - law.exponent.low < 5e-3
    assert law.coefficient.high / law.coefficient.low > 1.5


def test_the_gradient_is_that_of_the_cost():
    rng = np.random.default_rng(6)
    rows = grid(rng)
    wide = rows.pivot_table(index=["parameters", "recurrent_parameters", "R"], columns="seed", values="loss")
    total, recurrent, r = (wide.index.get_level_values(i).to_numpy(dtype=float) for i in range(3))
    problem = fits._Problem(total - recurrent, recurrent, r, np.log(wide.to_numpy()), np.ones(4, dtype=bool))
    theta, weights = np.array([-1.0, 0.5, -4.0, 0.3]), rng.dirichlet(np.ones(6))
    _, gradient = problem.cost(theta, weights)
    for i, step in enumerate(1e-6 * np.eye(4)):
        numeric = (problem.cost(theta + step, weights)[0] - problem.cost(theta - step, weights)[0]) / 2e-6
        assert gradient[i] == pytest.approx(numeric, rel=1e-4)


@pytest.mark.parametrize("phi", [0.0, PHI, 1.0])
def test_the_worth_of_a_repetition_comes_back(phi):
    law = fits.recurrence(grid(seeds=1, phi=phi))
    assert law.phi.estimate == pytest.approx(phi, abs=0.01)
    assert law.exponent.estimate == pytest.approx(ALPHA, rel=0.02)
    assert law.irreducible.estimate == pytest.approx(E, rel=0.05)


def test_the_worth_of_a_repetition_has_an_interval_that_narrows_with_seeds(quick):
    few, many = (fits.recurrence(grid(np.random.default_rng(7), seeds=seeds)) for seeds in (6, 24))
    for law in (few, many):
        assert law.phi.low <= PHI <= law.phi.high
        assert law.phi.low > 0
        assert law.phi.high < 1
    assert many.phi.high - many.phi.low < few.phi.high - few.phi.low
    assert (few.n, many.n) == (6, 24)


def test_what_cannot_be_fitted_is_refused_in_a_sentence():
    flat = np.ones(5)
    with pytest.raises(FitError, match="at least 3 sizes, got 2"):
        fits.power_law(PARAMETERS[:2], flat[:2], irreducible=False)
    with pytest.raises(FitError, match="at least 3 sizes, got 1"):
        fits.power_law(np.full(5, 1e6), flat)
    with pytest.raises(FitError, match="at least 4 sizes, got 3: fix it at 0"):
        fits.power_law(PARAMETERS[:3], flat[:3])
    for bad in (0.0, -1.0, np.nan, np.inf):
        with pytest.raises(FitError, match="not a positive number"):
            fits.power_law(PARAMETERS, np.array([1, 1, bad, 1, 1]))


def test_a_recurrence_needs_its_grid_and_says_what_is_missing():
    rows = grid(seeds=2)
    with pytest.raises(FitError, match="4 sizes with 3 values of R") as error:
        fits.recurrence(rows[(rows.R < 4) | (rows["size"] == "6000")])
    assert "2 at 20000" in str(error.value)
    assert "4 at 6000" in str(error.value)
    with pytest.raises(FitError, match="4 sizes"):
        fits.recurrence(rows[rows["size"] != "6000"])
    with pytest.raises(FitError, match="there are none"):
        fits.recurrence(rows.iloc[:0])
    with pytest.raises(FitError, match="loop, poh: choose one"):
        fits.recurrence(pd.concat([rows, rows.assign(arch="poh")]))
    with pytest.raises(FitError, match="No seed has all"):
        fits.recurrence(rows[np.where(rows.seed == 0, rows.R < 8, rows.R > 1)])
    with pytest.raises(FitError, match="not a positive number"):
        fits.recurrence(rows.assign(recurrent_parameters=0))
    assert fits.recurrence(rows[(rows.seed == 0) | (rows.R < 8)]).n == 1, "a seed that lacks models is left out"
