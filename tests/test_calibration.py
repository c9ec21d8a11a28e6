"""Claims' tests err as rarely as they say, and find what is there as often as the ledger says.

What is quick is tried here, on fewer data; every case is in tests/extended and in `python -m lib.claims.calibration`.
"""

import re

import numpy as np
import pytest
from scipy import stats as scipy_stats
from typer.testing import CliRunner

from lib import claims
from lib.claims import Finding, calibration, power, trials
from lib.claims import synthetic as made
from lib.metrics import stats
from lib.metrics.contrasts import contrast, corrected, uncorrected

QUICK = [case for case in trials.CASES if not isinstance(case.draw, trials.ByRows)]
ROWS = [case for case in trials.CASES if isinstance(case.draw, trials.ByRows)]
NOT_TRIED = (  # decided by a number, or by hours on hardware: no sample, no test
    r"1a3/(memory-7B|flops.*)|2a/(unchanged-.*|cards-.*)|3a/(parameters-.*|minutes-.*|hours-.*|memory-.*)"
    r"|4a/(budget-.*|plan-kv-bytes|plan-hours.*|(plan-)?token-ratio)|4b/plan-(size|metadata|hours)|4c/plan-hours"
)


def rarely(share: float, draws: int) -> bool:
    """Whether a share of so many draws fits a rate of 5 %, but for bad luck of one in a thousand."""
    return share * draws <= scipy_stats.binom.ppf(0.999, draws, stats.ALPHA)


def test_every_claim_that_is_decided_by_a_sample_is_tried_once():
    known = [claim.id for of in claims.experiments().values() for claim in of]
    tried = [id_ for case in trials.CASES for id_ in case.claims()]
    assert sorted(tried) == sorted(id_ for id_ in known if not re.fullmatch(NOT_TRIED, id_))


def test_a_case_expects_what_its_claims_say():
    for case in trials.CASES:
        for id_ in case.claims():
            named = trials.known()[id_].effect
            assert named is None or named == pytest.approx(case.effect, rel=0.02)


@pytest.mark.parametrize("case", QUICK, ids=lambda case: case.ids.split()[0])
def test_a_test_is_rarely_wrong_and_as_powerful_as_it_says(case):
    draws = 120
    rates = calibration.run(case, draws)
    assert rarely(rates.wrong, draws)
    assert rarely(rates.refuted, draws)
    assert abs(rates.found - rates.printed) <= calibration.TOLERANCE + 3 * np.sqrt(0.25 / draws)


@pytest.mark.parametrize("case", ROWS, ids=lambda case: case.ids.split()[0])
def test_rows_reach_the_claim_they_are_made_for(case):
    rng = np.random.default_rng(0)
    for truth in (case.null, case.expected):
        found = case.draw(rng, truth)
        assert isinstance(found, Finding)
        assert found.n >= found.enough
        assert not found.exact


def test_an_anticonservative_test_is_caught():
    """The t test over six seeds alone, where one training of six fails in one arm: what 3a's tests were mended for."""

    def naive(rng: np.random.Generator, truth: float) -> Finding:
        values = made.points(rng, [truth] * 4, (True, False), [6] * 4)[1]
        p = stats.difference(values) if values.mean() > 0 else 1.0
        return Finding("x", "points", 0.0, 0.0, 0.0, 6, p, 1.0, 1.0, 1.0, ("r",))

    rates = calibration.run(trials.Case("3a/naive", "6 seeds", naive, 0.0, 5.0), 200)
    assert not rarely(rates.wrong, 200)


def test_the_table_has_every_case_and_every_plan():
    done = CliRunner().invoke(calibration.app, ["--draws", "8", "--only", "4b/int?-keeps"])
    lines = done.stdout.splitlines()
    assert done.exit_code == 0
    assert lines[2].startswith("| `4b/*int?-keeps` | 4 seeds × 1000 items |")
    assert lines[-1].startswith("| 4 | ")


def test_holm_guards_the_family_where_single_claims_would_not(monkeypatch):
    def chance(rng: np.random.Generator, truth: float) -> Finding:
        return Finding("x", "points", 0.0, 0.0, 0.0, 6, rng.random(), 1.0, 1.0, 1.0, ("r",))

    monkeypatch.setattr(calibration, "CASES", (trials.Case("4c/*", "6", chance, 0.0, 1.0),))
    assert calibration.familywise("4", 1000) == pytest.approx(0.05, abs=0.025)
    monkeypatch.setattr(calibration.stats, "holm", np.asarray)
    assert calibration.familywise("4", 200) > 0.3


class TestContrasts:
    def test_of_one_size_and_few_seeds_it_is_the_t_test(self):
        values = np.random.default_rng(0).normal(2, 3, 8)
        found, theirs = contrast(values[None], np.ones(1)), scipy_stats.ttest_1samp(values, 0.5)
        assert 2 * min(found.above(0.5), found.below(0.5)) == pytest.approx(theirs.pvalue)
        assert found.interval()[1:] == pytest.approx(tuple(theirs.confidence_interval()))

    def test_the_interval_ends_where_the_test_decides(self):
        table = made.points(np.random.default_rng(1), [0.0] * 4, (True, False), (6, 30, 6, 6))
        for weights in ([0, 1, 0, 0], [0.25] * 4, [-1, 0, 0, 1]):
            found = contrast(table, np.array(weights))
            _, low, high = found.interval()
            assert found.above(low) == pytest.approx(0.025)
            assert found.below(high) == pytest.approx(0.025)

    def test_spread_and_skewness_are_of_all_sizes(self):
        table = np.random.default_rng(2).exponential(10, (3, 9))
        found = contrast(table, np.array([1.0, 0, 0]))
        centred = table - table.mean(axis=1, keepdims=True)
        variance = (centred**2).sum() / 24
        assert found.error == pytest.approx(np.sqrt(variance / 9))
        third = np.mean([scipy_stats.skew(row, bias=False) * row.std(ddof=1) ** 3 for row in table])
        assert found.skewness == pytest.approx(third / variance**1.5 / 3)
        assert found.values == pytest.approx(table[0])

    def test_a_missing_model_leaves_its_seed_out_of_the_mean_alone(self):
        table = np.random.default_rng(3).normal(size=(2, 8))
        table[1, 6:] = np.nan
        assert contrast(table, np.array([0.5, 0.5])).values == pytest.approx(table[:, :6].mean(axis=0))
        assert len(contrast(table, np.array([1.0, 0.0])).values) == 8
        with pytest.raises(ValueError, match="No seed has all sizes"):
            contrast(np.array([[1.0, np.nan], [np.nan, 1.0]]), np.array([0.5, 0.5]))

    @pytest.mark.parametrize("skewness", [-0.5, 0.0, 0.3])
    def test_the_correction_increases_and_is_undone(self, skewness):
        t = np.linspace(-8, 8, 50)
        assert (np.diff(corrected(t, skewness)) >= 0).all()
        assert [uncorrected(corrected(x, skewness), skewness) for x in t] == pytest.approx(list(t))

    def test_seeds_that_agree_are_not_believed_where_other_sizes_fail(self):
        rng = np.random.default_rng(4)
        table = made.points(rng, [0.0] * 4, (True, False), [6] * 4)
        table[0] = 6 + rng.normal(0, 1, 6)
        alone, among = (contrast(part, np.eye(len(part))[0]).above(0.0) for part in (table[:1], table))
        assert alone < 0.001
        assert among > 0.05


class TestPower:
    def finding(self, **given) -> Finding:
        return Finding("x", "points", 1.0, 0.0, 2.0, 10, 1.0, 1.0, 4.0, 3.0, ("r",), scale="points", **given)

    def test_it_is_that_of_a_two_sided_t_test_at_the_familys_level(self):
        bound = scipy_stats.t.ppf(1 - 0.01 / 2, 9)
        expected = scipy_stats.nct.sf(bound, 9, 3 / (4 / np.sqrt(10)))
        assert power.power(self.finding(), family=5) == pytest.approx(expected)
        assert power.power(self.finding(looks=5), family=1) == pytest.approx(expected)
        assert power.power(self.finding(together=2), family=5) == pytest.approx(max(0, 2 * expected - 1))
        assert power.power(self.finding(enough=11), family=1) == 0

    def test_the_detectable_difference_is_found_in_four_of_five_cases(self):
        for found in (
            self.finding(),
            self.finding(together=3),
            self.finding(errors=((1.0, 3.0, 0.0), (1.2, 80.0, -0.4))),
        ):
            assert power.power(found, 4, power.detectable(found, 4)) == pytest.approx(0.8)
        assert power.detectable(self.finding(), 1) == pytest.approx(stats.detectable(4.0, 10))
        assert power.detectable(self.finding(enough=11), 1) == np.inf

    def test_the_least_certain_of_a_means_tests_counts(self):
        errors = ((1.0, 3.0, 0.0), (1.2, 80.0, 0.0))
        each = [power.power(self.finding(errors=(error,)), 3) for error in errors]
        assert power.power(self.finding(errors=errors), 3) == min(each)
