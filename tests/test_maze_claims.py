"""Claims of 3a follow the rows: each verdict can be reached, seeds are the replicates, errors are as rare as stated."""

import json

import maze_rows
import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from lib import claims
from lib.claims import Claim, advantage, mazes, report
from lib.claims.advantage import MARGIN
from lib.metrics import paired, stats
from lib.metrics.contrasts import contrast

ADVANTAGES = {  # claims about one arm being ahead of another
    "3a/recurrence": ("loop", "stack_params"),
    "3a/q1-equal-parameters": ("poh", "stack_params"),
    "3a/q1-equal-flops": ("poh", "stack_flops"),
    "3a/q1-routing": ("poh", "loop"),
}
SMALLEST = {"3a/h1-small-by-name", "3a/h1-small-by-count"}


def models(protocol: str = "result", sizes=("nano", "micro"), optimality=None, **percent) -> pd.DataFrame:
    """Rows of arms whose `percent` of solved mazes is [sizes, seeds], or one number for all 8 seeds."""
    frames = []
    for arm, values in percent.items():
        values = np.broadcast_to(values, (len(sizes), 8)) if np.ndim(values) < 2 else np.asarray(values)
        size, seed = (index.ravel() for index in np.indices(values.shape))
        counts = np.array([maze_rows.SIZES[name][-1] for name in sizes])
        frame = pd.DataFrame({"size": np.array(sizes)[size], "seed": seed, "parameters": counts[size]})
        frames.append(frame.assign(arch=arm, accuracy=values.ravel() / 100))
    rows = pd.concat(frames, ignore_index=True)
    rows["optimality"] = rows.accuracy if optimality is None else rows.arch.map(optimality) / 100
    return rows.assign(protocol=protocol, run="r_" + rows["size"], stale=False, maze_size=8, R=4, T=4)


def noisy(
    rng: np.random.Generator, mean: float, spread: float, sizes: int = 2, seeds: int = 8
) -> dict[str, np.ndarray]:
    """poh and stack in percent: poh is `mean` points ahead with this spread, however much seeds themselves differ."""
    stack = rng.normal(40, 15, (sizes, seeds))
    return {"stack": stack, "poh": stack + rng.normal(mean, spread, (sizes, seeds))}


def decided(rows: pd.DataFrame) -> dict[str, claims.Verdict]:
    return {v.claim.id: v for v in claims.decide(mazes.claims(), rows, rows)}


def one(name: str, rows: pd.DataFrame) -> claims.Verdict:
    """The verdict on one claim, as if it were the only one."""
    (verdict,) = claims.decide([c for c in mazes.claims() if c.id == name], rows, rows)
    return verdict


@pytest.fixture
def terse(monkeypatch):
    """No sentence on what it would take to decide, which takes longer than deciding."""
    monkeypatch.setattr(claims, "explained", lambda found, family: "")


VERDICTS = [(20, 2, "supported"), (0, 2, "not supported"), (-20, 2, "not supported"), (3, 12, "inconclusive")]


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize(("ahead", "spread", "verdict"), VERDICTS)
def test_an_advantage_can_be_supported_refuted_or_left_open(name, ahead, spread, verdict):
    arm, other = ADVANTAGES[name]
    made = noisy(np.random.default_rng(0), ahead, spread)
    found = one(name, models(**{arm: made["poh"], other: made["stack"]}))
    assert found.verdict == verdict
    assert found.finding.estimate == pytest.approx((made["poh"] - made["stack"]).mean())
    assert (found.finding.n, found.finding.runs) == (8, ("r_micro", "r_nano"))
    assert found.finding.unit == "points"


def test_an_advantage_is_tested_as_scipy_tests_pairs_of_seeds():
    made = noisy(np.random.default_rng(1), 6, 5, sizes=1, seeds=11)
    found = one("3a/q1-routing", models(sizes=("mini",), poh=made["poh"], loop=made["stack"])).finding
    theirs = scipy_stats.ttest_rel(made["poh"][0], made["stack"][0])
    interval = theirs.confidence_interval()
    assert found.p_supports == pytest.approx(theirs.pvalue)
    assert (found.low, found.high) == (pytest.approx(interval.low), pytest.approx(interval.high))
    less = scipy_stats.ttest_rel(made["poh"][0], made["stack"][0] + MARGIN, alternative="less")
    assert found.p_refutes == pytest.approx(less.pvalue)


def test_an_advantage_that_counts_as_none_is_no_support_and_the_ledger_says_so():
    made = noisy(np.random.default_rng(2), 2, 0.5)
    found = one("3a/recurrence", models(loop=made["poh"], stack_params=made["stack"]))
    assert found.verdict == "not supported"
    assert found.finding.low > 0
    assert found.finding.remark.startswith("There is a difference, but one that counts as none.")


def test_an_advantage_at_every_size_needs_every_size():
    rng = np.random.default_rng(3)
    sizes = ("nano", "micro", "mini")
    made = noisy(rng, 20, 2, sizes=3)
    assert one("3a/q1-advantage", models(sizes=sizes, **made)).verdict == "supported"
    made["poh"][1] -= 20  # none at micro
    found = one("3a/q1-advantage", models(sizes=sizes, **made))
    assert found.verdict == "not supported"
    assert "least certain at micro" in found.finding.statistic
    assert found.finding.estimate == pytest.approx((made["poh"] - made["stack"])[1].mean())
    made["poh"][1] += 6 * np.array([3, -1, 3, -1, 3, -1, 3, -1])  # somewhere between 0 and 12
    assert one("3a/q1-advantage", models(sizes=sizes, **made)).verdict == "inconclusive"
    thin = models(sizes=sizes, **noisy(rng, 30, 1, sizes=3))
    thin = thin[(thin["size"] != "mini") | (thin.seed < stats.ENOUGH - 1)]
    found = one("3a/q1-advantage", thin)
    assert (found.verdict, found.finding.n) == ("inconclusive", stats.ENOUGH - 1)
    assert one("3a/q1-advantage", models(sizes=("nano",), stack=10, poh=60)).verdict == "not run at this scale"


def test_growth_is_the_mean_of_the_seeds_own_slopes():
    rng = np.random.default_rng(4)
    sizes = ("tiny", "small", "medium")
    doublings = np.log2([maze_rows.SIZES[size][-1] for size in sizes])
    for slope, spread, verdict in (
        (6, 2, "supported"),
        (0, 1, "not supported"),
        (-4, 1, "not supported"),
        (1, 15, None),
    ):
        made = noisy(rng, 0, spread, sizes=3)
        made["poh"] += slope * (doublings - doublings[0])[:, None]
        found = one("3a/q2-scale", models(sizes=sizes, **made).sample(frac=1, random_state=0))  # of rows in any order
        lines = np.polyfit(doublings, made["poh"] - made["stack"], 1)[0]
        assert found.finding.estimate == pytest.approx(lines.mean())
        assert found.verdict == (verdict or "inconclusive")
        assert found.finding.matters == pytest.approx(MARGIN / (doublings[-1] - doublings[0]))
        assert found.finding.unit == "points per doubling"
    assert "The advantage is largest at" in found.finding.remark


def test_saturation_is_about_the_two_largest_sizes_of_poh_alone():
    sizes = ("large", "tiny", "small")
    for last, verdict in ((90, "supported"), (61, "not supported")):
        solved = np.array([last, 20, 60])[:, None] + np.random.default_rng(5).normal(0, 0.5, (3, 8))
        found = one("3a/q3-improves", models(sizes=sizes, poh=solved))
        assert found.verdict == verdict
        assert found.finding.statistic == "poh's accuracy at large minus that at small"
    assert one("3a/q3-improves", models(sizes=("large",), poh=90)).verdict == "not run at this scale"


def test_accuracy_and_optimality_are_told_apart_on_mazes_with_loops_only():
    made = noisy(np.random.default_rng(6), 30, 2)
    perfect = models(**made)
    assert one("3a/q4-accuracy-or-optimality", perfect).verdict == "not run at this scale"
    loops = models(protocol="loops", **made)
    assert one("3a/q4-accuracy-or-optimality", loops).verdict == "not supported", "both advantages are the same"
    shorter = models(protocol="loops", optimality={"poh": 45, "stack": 40}, **made)
    found = one("3a/q4-accuracy-or-optimality", pd.concat([perfect, shorter]))
    assert found.verdict == "supported"
    assert found.finding.estimate == pytest.approx((made["poh"] - made["stack"]).mean() - 5)
    assert "the same by construction" in found.finding.remark


@pytest.mark.parametrize("by", ["name", "count"])
def test_hypotheses_are_decided_at_the_sizes_they_name(by):
    made = noisy(np.random.default_rng(7), 0, 0.5, sizes=5)
    made["poh"] += np.array([0, 0, 20, 18, 30])[:, None]  # as the plan expects
    found = decided(models(sizes=maze_rows.PLAN, **made))
    for name in (f"3a/h1-small-by-{by}", f"3a/h2-medium-by-{by}", f"3a/h3-large-by-{by}"):
        assert found[name].verdict == "supported"
    made["poh"] += np.array([30, 30, -20, -20, -30])[:, None]  # the very opposite
    found = decided(models(sizes=maze_rows.PLAN, **made))
    for name in (f"3a/h1-small-by-{by}", f"3a/h2-medium-by-{by}", f"3a/h3-large-by-{by}"):
        assert found[name].verdict == "not supported"


def test_an_advantage_is_kept_only_where_there_is_one():
    for medium, large, verdict in ((30, 28, "supported"), (30, 15, "not supported"), (0, 0, "not supported")):
        made = noisy(np.random.default_rng(8), 0, 0.5, sizes=2)
        made["poh"] += np.array([medium, large])[:, None]
        found = one("3a/h3-large-by-name", models(sizes=("medium", "large"), **made))
        assert found.verdict == verdict
        assert found.finding.estimate == pytest.approx(large - medium, abs=1)


def test_an_advantage_that_stays_the_same_but_may_be_none_is_not_called_kept():
    advantage_of_seed = 8 + 20 * np.array([1, -1, 1, -1, 1, -1, 1, -1])
    rows = models(sizes=("medium", "large"), stack=40, poh=40 + advantage_of_seed + np.array([[0.1], [0]]))
    found = one("3a/h3-large-by-name", rows)
    assert found.verdict == "inconclusive"
    assert found.finding.estimate == pytest.approx(-0.1)
    assert found.finding.spread == pytest.approx(advantage_of_seed.std(ddof=1)), "of the test that fails"


def test_by_count_the_plans_own_tiny_is_not_among_its_small_models():
    rows = models(sizes=("tiny",), stack=10, poh=40)
    assert one("3a/h1-small-by-name", rows).verdict == "not supported"
    assert one("3a/h1-small-by-count", rows).verdict == "not run at this scale"
    renamed = rows.assign(size="ours", parameters=2_000_000)
    assert one("3a/h1-small-by-name", renamed).verdict == "not run at this scale"
    assert one("3a/h1-small-by-count", renamed).verdict == "not supported"
    cpu = decided(models(sizes=("nano", "micro", "mini"), stack=10, poh=40))
    assert {name for name, found in cpu.items() if found.verdict == "not run at this scale"} >= {
        n for n in cpu if "/h" in n
    }


def test_seeds_are_the_replicates_however_many_mazes_there_are():
    rows = maze_rows.rows(seeds=3).assign(n_test=1_000_000)
    found = decided(rows)
    for name in [*ADVANTAGES, "3a/q1-advantage", "3a/q2-scale", "3a/q3-improves", "3a/q4-accuracy-or-optimality"]:
        assert found[name].finding.n == 3
        assert found[name].verdict == "inconclusive"
        assert "3 seeds decide nothing; to find" in found[name].finding.remark
        assert int(found[name].finding.remark.rsplit("takes ", 1)[1].rstrip(".")) >= stats.ENOUGH
    single = decided(maze_rows.rows(seeds=1))["3a/recurrence"]
    assert (single.verdict, single.row()["high"]) == ("inconclusive", None)
    assert single.finding.remark.endswith("One seed decides nothing.")


def test_what_a_seed_does_to_both_arms_alike_cancels():
    made = noisy(np.random.default_rng(9), 12, 3)
    moved = {arm: values + np.random.default_rng(10).normal(0, 30, 8) for arm, values in made.items()}  # the same
    plain, other = (one("3a/h1-small-by-name", models(sizes=("tiny", "small"), **m)).finding for m in (made, moved))
    assert (plain.estimate, plain.spread) == (pytest.approx(other.estimate), pytest.approx(other.spread))


def test_a_mean_over_sizes_is_taken_where_most_seeds_are():
    rows = models(loop=50, stack_params=30)
    rows = rows[(rows["size"] == "micro") | (rows.seed < 3)]
    found = one("3a/recurrence", rows).finding
    assert found.n == 8
    assert found.statistic.endswith("at micro, which has most seeds")
    assert "nano +20.0 (loop 50.0 %, stack_params 30.0 %; 3 seeds)" in found.remark


def test_other_settings_are_not_mixed_in_and_of_a_model_trained_twice_the_newest_counts():
    rows = models(poh=50, loop=50)
    fewer = models(poh=99, loop=1).assign(R=1).query("seed < 3")
    again = models(poh=80, loop=50).assign(run="newest")
    for mixed in ([fewer, rows], [rows, fewer]):
        assert one("3a/q1-routing", pd.concat(mixed)).finding.estimate == 0
    found = one("3a/q1-routing", pd.concat([rows, again])).finding
    assert found.estimate == pytest.approx(30)
    stale = rows.assign(stale=rows["size"] == "nano")
    assert one("3a/q1-routing", stale).finding.stale


def test_a_model_without_its_partner_is_left_out():
    rows = models(poh=60, loop=50)
    alone = (rows.arch == "loop") & (rows.seed == 7)
    found = one("3a/q1-routing", rows[~alone]).finding
    assert (found.n, found.estimate) == (7, pytest.approx(10))
    assert one("3a/q1-routing", rows[rows.arch == "poh"]).verdict == "not run at this scale"
    assert one("3a/q1-routing", rows[(rows.arch == "poh") == (rows.seed < 4)]).verdict == "not run at this scale"
    for empty in (pd.DataFrame(), rows.iloc[:0]):
        assert {found.verdict for found in decided(empty).values()} == {"not run at this scale"}


def test_the_ledger_says_seeds_points_and_signs():
    made = noisy(np.random.default_rng(11), 3, 9)
    verdicts = claims.decide(mazes.claims(), models(**made), pd.DataFrame())
    text = " ".join(report.text(verdicts).split())
    found = next(v for v in verdicts if v.claim.id == "3a/q1-advantage").finding
    assert f"{found.estimate:+.3g} points (95 % interval {found.low:+.3g} to {found.high:+.3g}), n = 8 seeds" in text
    assert "8 seeds find a difference of" in text
    assert "to find 5 points takes" in text
    family = sum(v.finding is not None for v in verdicts)
    visible = stats.detectable(found.spread, 8, stats.ALPHA / family, 1 - 0.2 / 2)  # at either of two sizes
    assert f"8 seeds find a difference of {visible:.3g} points in 4 of 5 cases" in found.remark
    assert len({claim.id for claim in mazes.claims()}) == len(mazes.claims()) == len(verdicts)
    for row in (v.row() for v in verdicts):
        json.dumps(row, allow_nan=False)


def family_verdicts(rng: np.random.Generator, repeats: int, mean: float, spread: float, seeds: int) -> np.ndarray:
    """Verdicts [repeats, 4] on families of four advantages, each of other seeds."""
    source = pd.DataFrame({"run": ["r"], "stale": [False]})
    found = []
    for values in rng.normal(mean, spread, (repeats, 4, seeds)):
        family = [
            Claim(f"{i}", "text", "more", lambda _, v=v: advantage.ahead(contrast(v[None], np.ones(1)), source), "rows")
            for i, v in enumerate(values)
        ]
        found.append([v.verdict for v in claims.decide(family, pd.DataFrame(), pd.DataFrame())])
    return np.array(found)


@pytest.mark.parametrize("seeds", [6, 30])
def test_a_family_of_a_a_comparisons_is_supported_at_most_one_time_in_twenty(seeds, terse):
    verdicts = family_verdicts(np.random.default_rng(12), 250, 0, 8, seeds)
    assert (verdicts == "supported").any(axis=1).mean() <= 0.05 + 0.03  # two standard errors of 250 repeats
    at_margin = family_verdicts(np.random.default_rng(13), 250, MARGIN, 3, seeds)
    assert (at_margin == "not supported").any(axis=1).mean() <= 0.05 + 0.03


@pytest.mark.parametrize("seeds", [6, 30])
def test_a_planted_advantage_is_found_with_the_stated_power(seeds, terse):
    spread = MARGIN * 2 if seeds == 30 else MARGIN
    effect = stats.detectable(spread, seeds, stats.ALPHA / 4)
    assert effect > MARGIN, "below the margin it would not have to be found"
    verdicts = family_verdicts(np.random.default_rng(14), 250, effect, spread, seeds)
    assert (verdicts == "supported").mean() >= 0.78
    assert (verdicts == "not supported").mean() <= 0.05


def test_the_power_stated_for_several_tests_at_once_holds(terse):
    rng, spread, alpha = np.random.default_rng(15), 6, stats.ALPHA
    effect = stats.detectable(spread, 8, alpha, 1 - 0.2 / 2)
    assert effect > MARGIN
    verdicts = [one("3a/q1-advantage", models(**noisy(rng, effect, spread))).verdict for _ in range(80)]
    assert np.mean([v == "supported" for v in verdicts]) >= 0.8 - 0.09  # two standard errors of 80 repeats


def test_no_advantage_is_claimed_at_most_one_time_in_twenty_where_there_is_one(terse):
    rng = np.random.default_rng(16)
    rows = (models(sizes=("tiny",), **noisy(rng, MARGIN, 4, sizes=1)) for _ in range(60))
    verdicts = [one("3a/h1-small-by-name", r).verdict for r in rows]
    for wrong in ("supported", "not supported"):  # at the margin itself, either is an error
        assert np.mean([v == wrong for v in verdicts]) <= 0.05 + 0.06  # two standard errors of 60 repeats


def test_all_claims_together_are_supported_by_equal_arms_at_most_one_time_in_twenty(terse):
    rng, wrong = np.random.default_rng(17), 0
    for _ in range(20):
        made = {arm: rng.normal(50, 5, (5, 6)) for arm in maze_rows.ARMS}
        found = decided(models(sizes=maze_rows.PLAN, **made))
        wrong += any(v.verdict == "supported" for name, v in found.items() if name not in SMALLEST)
    assert wrong <= 2


def test_pairs_and_balance_are_those_of_a_table_by_hand():
    rows = models(sizes=("mini", "nano"), poh=[[60, 62, 64], [10, 12, 14]], stack=[[50, 51, 52], [9, 9, 9]])
    pairs = paired.pairs(rows, "poh", "stack")
    assert pairs.points.to_numpy().tolist() == pytest.approx(np.array([[1, 3, 5], [10, 11, 12]]))
    assert list(pairs.points.index) == ["nano", "mini"]
    assert list(pairs.parameters) == [maze_rows.SIZES[size][-1] for size in ("nano", "mini")]
    more = pd.concat([rows, models(sizes=("micro", "tiny"), poh=50), models(sizes=("micro",), loop=50)])
    assert list(paired.pairs(more, "poh", "stack").parameters) == list(pairs.parameters)
    thin = paired.pairs(rows[(rows["size"] == "mini") | (rows.seed != 1)], "poh", "stack").points
    assert thin.notna().sum(axis=1).tolist() == [2, 3]
    assert list(paired.balanced(thin).index) == ["mini"]
