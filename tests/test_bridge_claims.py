"""Claims of 4a follow the rows: each verdict can be reached, seeds and items are both replicates, errors are as rare as
stated, and what was found on the small pair says nothing about the plan's.
"""

import json
import re

import bridge_rows
import numpy as np
import pandas as pd
import pytest
from bridge_rows import BASELINE, FACTORIAL, PLAN, SERIES, STABLE, TASKS, UNFIXED, config, rows
from scipy import stats as scipy_stats

from lib import claims
from lib.claims import Claim, bridge, report
from lib.claims.bridge_tests import MARGIN, SEEDS, ahead, crossed, within
from lib.metrics import stats

HOPS = TASKS[0]["label"]
LABELS = [of["label"] for of in SERIES]
CELLS = {(bool(of["info_nce"]), bool(of["distill"])): of["label"] for of in FACTORIAL}
SEED_CLAIMS = [
    "enrichment", "enrichment-tuned-prompt", "stable-above-70", "baseline-collapses", "fixes-keep-more",
    "baseline-peak", "baseline-end",
    "tokens-2b-over-2a", "tokens-2c-over-2b", "quality-fewest-tokens", "quality-most-tokens",
    "fewest-tokens-most-stable", "token-ratio", "generalises",
]  # fmt: skip


def decided(found: pd.DataFrame, every: pd.DataFrame | None = None) -> dict[str, claims.Verdict]:
    verdicts = claims.decide(bridge.claims(), found, found if every is None else every)
    return {v.claim.id: v for v in verdicts}


def one(name: str, found: pd.DataFrame) -> claims.Verdict:
    """The verdict on one claim, as if it were the only one."""
    (verdict,) = claims.decide([c for c in bridge.claims() if c.id == f"4a/{name}"], found, found)
    return verdict


def evenly(share: float, configs=FACTORIAL, **changed: float) -> dict[str, float]:
    """The same accuracy for all labels, but for those changed."""
    return {of["label"]: share for of in configs} | changed


def made(configs, accuracy, **given) -> pd.DataFrame:
    return rows(configs, accuracy=accuracy, **{"collapsed": {}, "noise": 0.004, "n_test": 1000, **given})


def reached(name: str, verdict: str, found: pd.DataFrame) -> claims.Verdict:
    got = one(name, found)
    assert got.verdict == verdict, got
    return got


def bridged(found: pd.DataFrame, checkpoint: str, hygiene: bool) -> pd.DataFrame:
    """The bridged arm's rows."""
    part = found[(found.arm == "bridged") & (found.checkpoint == checkpoint)]
    return part[part.decode_hygiene.astype(bool) == hygiene]


@pytest.mark.parametrize(("other", "name"), [("target_alone", ""), ("prefix_text", "-tuned-prompt")])
def test_enrichment_is_measured_against_the_text_arm_decoded_alike(other, name):
    claim = f"enrichment{name}"
    for text, verdict in ((0.6, "supported"), (0.95, "not supported")):
        found = made([STABLE], {}, text={other: text}, hygiene_costs=0.1)
        got = reached(claim, verdict, found).finding
        own = bridged(found, "best", hygiene=True)
        assert got.estimate == pytest.approx(100 * (own.accuracy.mean() - (text - 0.1)))
        assert got.n == 4
    assert one(claim, found[found.arm != other]).verdict == "not run at this scale"


def test_a_target_with_nothing_left_to_gain_is_said_to_be_one():
    found = made([STABLE], {STABLE["label"]: 0.999}, text={"target_alone": 0.995}, hygiene_costs=0)
    remark = reached("enrichment", "not supported", found).finding.remark
    assert "target_alone leaves 0.5 points to gain" in remark
    assert "to gain" not in one("enrichment", made([STABLE], {}, text={"target_alone": 0.5})).finding.remark


def test_the_end_with_all_fixes_is_of_the_weights_that_are_kept():
    for share, verdict in ((0.8, "supported"), (0.6, "not supported"), (0.72, "inconclusive")):
        found = made([STABLE], {STABLE["label"]: share}, end={STABLE["label"]: 0.1}, hygiene_costs=0)
        assert reached("stable-above-70", verdict, found).finding.estimate == pytest.approx(100 * share, abs=1)


def test_a_baseline_collapses_by_what_it_loses():
    label = BASELINE["label"]
    fallen = reached("baseline-collapses", "supported", made([BASELINE], {label: 0.815}, end={label: 0.36}))
    assert fallen.finding.estimate == pytest.approx(100 * (0.7 * 0.815 - 0.36), abs=1)
    assert "4 of 4 seeds collapsed by the definition (accuracy: 4)" in fallen.finding.remark
    held = reached("baseline-collapses", "not supported", made([BASELINE], {label: 0.815}))
    assert "0 of 4 seeds collapsed by the definition." in held.finding.remark
    mixed = made([BASELINE], {label: 0.815}, collapsed={label: (0, 1)})
    assert "2 of 4 seeds" in reached("baseline-collapses", "inconclusive", mixed).finding.remark


def test_a_collapse_by_another_sign_is_no_evidence_that_the_training_held():
    found = made([BASELINE], {BASELINE["label"]: 0.03})
    assert one("baseline-collapses", found).verdict == "not supported"
    silent = (found.protocol == "stability") & (found.seed == 2)
    found.loc[silent, ["collapsed", "why"]] = [True, "delta_ce+distinct"]
    remark = reached("baseline-collapses", "inconclusive", found).finding.remark
    assert "1 of 4 seeds collapsed by the definition (delta_ce+distinct: 1)" in remark


def test_fixes_keep_more_compares_what_each_configuration_itself_keeps():
    labels = [STABLE["label"], BASELINE["label"]]
    found = made([STABLE, BASELINE], evenly(0.8), end=dict.fromkeys(labels, 0.4), hygiene_costs=0)
    assert reached("fixes-keep-more", "supported", found).finding.estimate == pytest.approx(40, abs=1)
    same = made([STABLE, BASELINE], evenly(0.8), hygiene_costs=0.03)
    assert reached("fixes-keep-more", "not supported", same).finding.estimate == pytest.approx(-3, abs=1)


@pytest.mark.parametrize(("claim", "at"), [("fix-info-nce", 0), ("fix-distill", 1)])
def test_a_loss_is_judged_by_its_main_effect_on_last_weights(claim, at):
    gains = {(False, False): 0.5, (True, False): 0.6, (False, True): 0.7, (True, True): 0.9}
    found = made(FACTORIAL, evenly(0.95), end={label: gains[cell] for cell, label in CELLS.items()})
    last = bridged(found, "final", hygiene=False)
    means = {cell: last[last.label == label].accuracy.mean() for cell, label in CELLS.items()}
    on, off = (np.mean([mean for cell, mean in means.items() if cell[at] == level]) for level in (True, False))
    assert reached(claim, "supported", found).finding.estimate == pytest.approx(100 * (on - off))
    assert reached(claim, "not supported", made(FACTORIAL, evenly(0.8))).finding.runs == tuple(
        sorted(f"{of['label']}_x" for of in FACTORIAL)
    )
    assert one(claim, found[found.label == STABLE["label"]]).verdict == "not run at this scale"
    alone = found[found.label.isin([STABLE["label"], BASELINE["label"]])]
    pair = one("fix-info-nce", alone)
    assert pair.finding.estimate == pytest.approx(100 * (means[True, False] - means[False, False]))
    assert pair.finding.statistic.endswith("mean over trainings without distill")


def test_early_stopping_and_hygiene_are_paired_on_the_same_trainings():
    fallen = made(FACTORIAL, evenly(0.9), end=evenly(0.6), hygiene_costs=0.05)
    assert reached("fix-early-stopping", "supported", fallen).finding.estimate == pytest.approx(30, abs=1)
    harmed = reached("fix-hygiene", "not supported", fallen).finding
    assert harmed.estimate == pytest.approx(-5, abs=0.2)
    assert "It changes target_alone, on the text, by -5.0 points." in harmed.remark
    helped = made(FACTORIAL, evenly(0.8), hygiene_costs=-0.05)
    assert reached("fix-hygiene", "supported", helped).finding.estimate == pytest.approx(5, abs=0.2)
    assert reached("fix-early-stopping", "not supported", helped).finding.estimate == pytest.approx(0, abs=0.1)


def test_the_plans_series_is_ordered_by_soft_tokens():
    two, three = "tokens-2b-over-2a", "tokens-2c-over-2b"
    found = made(SERIES, dict(zip(LABELS, (0.5, 0.7, 0.6), strict=True)))
    assert reached(two, "supported", found).finding.estimate == pytest.approx(20, abs=1)
    got = reached(three, "not supported", found).finding
    assert got.estimate == pytest.approx(-10, abs=1)
    assert got.statistic == "test accuracy at 16 tokens minus 12 tokens"
    assert one(two, found[found.label != LABELS[0]]).verdict == "not run at this scale"


def test_quality_at_either_end_is_a_range():
    for lowest, highest, verdict in ((0.55, 0.81, "supported"), (0.7, 0.95, "not supported")):
        found = made(SERIES, dict(zip(LABELS, (lowest, 0.7, highest), strict=True)), hygiene_costs=0)
        for name, share in (("fewest", lowest), ("most", highest)):
            got = reached(f"quality-{name}-tokens", verdict, found).finding
            assert got.estimate == pytest.approx(100 * share, abs=1)
            assert got.low < 100 * share < got.high


def test_the_slope_is_that_of_every_seed_where_nothing_but_the_tokens_changes():
    configs = (*bridge_rows.EQUAL_SHAPE, *bridge_rows.EQUAL_BYTES, *bridge_rows.EQUAL_PARAMETERS, *SERIES)
    accuracy = {f"2_shape_{k}tok": share for k, share in ((4, 0.5), (8, 0.6), (32, 0.95))} | {STABLE["label"]: 0.7}
    found = made(configs, evenly(0.1, configs) | accuracy)
    got = reached("tokens-slope", "supported", found).finding
    own = bridged(found[found.label.isin(accuracy)], "best", hygiene=True)
    wide = own.pivot(index="soft_tokens", columns="seed", values="accuracy")
    lines = np.polyfit(np.log2(wide.index.to_numpy(float)), 100 * wide, 1)[0]
    assert got.estimate == pytest.approx(lines.mean())
    assert len(got.runs) == 4
    flat = made(configs, evenly(0.8, configs))
    assert reached("tokens-slope", "inconclusive", flat).finding.estimate == pytest.approx(0, abs=0.5)
    falling = made(configs, evenly(0.1, configs) | dict(zip(accuracy, (0.95, 0.8, 0.5, 0.7), strict=True)))
    assert reached("tokens-slope", "not supported", falling).finding.estimate < -10


def test_the_fewest_tokens_are_most_stable_only_if_both_others_lose_more():
    claim = "fewest-tokens-most-stable"
    for ends, verdict in (((0.79, 0.6, 0.7), "supported"), ((0.7, 0.6, 0.8), "not supported")):
        found = made(SERIES, evenly(0.8, SERIES), end=dict(zip(LABELS, ends, strict=True)))
        got = reached(claim, verdict, found).finding
        assert got.statistic.startswith("degradation at 16 tokens minus that at 8")
        assert got.estimate == pytest.approx(100 * (ends[0] - ends[2]), abs=1.5)
    equal = reached(claim, "inconclusive", made(SERIES, evenly(0.8, SERIES))).finding
    assert equal.estimate == 0
    assert "4 seeds that do not differ at all do not tell how much others would." in equal.remark


def test_beyond_maths_one_checkpoint_is_enough():
    text = {"target_alone": 0.7}
    for best, end, verdict in ((0.9, 0.4, "supported"), (0.4, 0.9, "supported"), (0.6, 0.5, "not supported")):
        found = made(TASKS, {HOPS: best}, end={HOPS: end}, text=text)
        got = reached("generalises", verdict, found).finding
        assert got.estimate == pytest.approx(100 * (max(best, end) - 0.7), abs=1)
    assert one("generalises", found.assign(task="arithmetic")).verdict == "not run at this scale"


def test_looking_at_two_checkpoints_costs_its_share():
    found = made(TASKS, {HOPS: 0.75}, end={HOPS: 0.5}, text={"target_alone": 0.7}, noise=0.02)
    ours = [[int(c) for c in correct] for correct in bridged(found, "best", hygiene=True).correct]
    text = found[(found.arm == "target_alone") & found.decode_hygiene.eq(True)].correct.iloc[0]
    alone = crossed(100 * (np.array(ours, float) - [int(c) for c in text]))
    assert one("generalises", found).finding.p_supports == pytest.approx(min(1, 4 * alone.above(0)))


def test_counts_decide_outright_and_have_no_interval():
    assert "4.7× at 8 (plan 4.7×)" in reached("token-ratio", "supported", rows(SERIES)).finding.remark
    longer = rows(SERIES)
    longer["token_ratio"] *= 1.2
    assert reached("token-ratio", "not supported", longer).row()["high"] is None


def test_every_claim_of_the_plan_is_asked_at_both_scales_and_neither_answers_for_the_other():
    here, there = rows(SERIES + FACTORIAL + TASKS), rows(PLAN)
    on_small, on_plan = decided(here), decided(there)
    ran = {name for name, v in on_small.items() if v.finding}
    assert {f"4a/{name}" for name in SEED_CLAIMS} <= ran
    assert {name for name, v in on_plan.items() if v.finding} == {f"4a/plan-{name}" for name in SEED_CLAIMS}
    assert not any(name.startswith("4a/plan-") for name in ran)
    qwen = decided(there.assign(source="Qwen/Qwen2.5-0.5B", target="Qwen/Qwen2.5-1.5B"))
    assert {v.verdict for v in qwen.values()} == {"not run at this scale"}


def test_the_plans_pair_is_looked_for_in_every_run():
    here, both = rows([STABLE]), pd.concat([rows([STABLE]), rows(PLAN)])
    found = decided(here, both)
    assert found["4a/plan-enrichment"].finding
    assert found["4a/plan-enrichment"].finding.runs == ("1a_stable_64tok_x",)
    assert found["4a/enrichment"].finding.runs == ("1a_stable_16tok_x",)


def test_other_trainings_are_not_mixed_in_and_the_newest_counts():
    right = rows([STABLE, BASELINE])
    for changes in ({"stressor": "decay"}, {"kind": "linear"}, {"task": "multihop"}, {"soft_tokens": 8}):
        wrong = rows([STABLE | changes, BASELINE | changes], accuracy=evenly(0.3)).assign(run="wrong")
        for mixed in ([right, wrong], [wrong, right]):
            found = decided(pd.concat(mixed))
            for name in ("4a/enrichment", "4a/fixes-keep-more", "4a/fix-info-nce"):
                assert "wrong" not in found[name].finding.runs
    stronger = rows([config("stronger", info_nce=0.5)]).assign(run="wrong")
    assert "wrong" not in one("fix-info-nce", pd.concat([right, stronger])).finding.runs
    again = rows([STABLE], accuracy=evenly(0.5)).assign(run="newest", stale=True)
    found = one("enrichment", pd.concat([right, again])).finding
    assert (found.runs, found.stale) == (("newest",), True)
    assert found.estimate == pytest.approx(100 * (0.5 - 0.975), abs=2)


def test_few_seeds_decide_nothing_however_many_items_there_are():
    for seeds in (1, SEEDS - 1):
        found = decided(rows(SERIES + FACTORIAL + TASKS, seeds=seeds, n_test=1000))
        for name, verdict in found.items():
            if verdict.finding and name != "4a/token-ratio":
                assert (verdict.verdict, verdict.finding.n) == ("inconclusive", seeds), name
        remark = found["4a/enrichment"].finding.remark
        assert (
            "One seed decides nothing." if seeds == 1 else f"{seeds} seeds decide nothing; to find 2 points"
        ) in remark
        for verdict in found.values():
            json.dumps(verdict.row(), allow_nan=False)


def test_an_open_claim_says_what_its_seeds_could_have_found():
    found = one("stable-above-70", made([STABLE], {STABLE["label"]: 0.72}, hygiene_costs=0)).finding
    said = re.search(
        r"4 seeds find a difference of (\S+) points in 4 of 5 cases; to find 2 points takes 12", found.remark
    )
    error = max(error for error, *_ in found.errors)  # over the items, of which there are enough for a normal law
    visible = scipy_stats.norm.isf([stats.ALPHA / 2, 1 - stats.POWER]).sum() * error
    assert float(said[1]) == pytest.approx(visible, rel=0.01)


def test_seeds_that_only_one_arm_has_are_left_out_and_other_items_are_not_compared():
    found = rows([STABLE, BASELINE], seeds=6)
    fewer = found[(found.label == STABLE["label"]) | ~(found.seed >= 5)]
    assert one("fixes-keep-more", fewer).finding.n == 5
    split = pd.concat([found[(found.label == STABLE["label"]) & ~(found.seed > 2)],
                       found[(found.label == BASELINE["label"]) & ~(found.seed <= 2)]])  # fmt: skip
    assert one("fixes-keep-more", split).verdict == "not run at this scale"
    short = pd.concat([rows([STABLE], n_test=200), rows([BASELINE], n_test=100)])
    assert one("fixes-keep-more", short).verdict == "not run at this scale"


def test_a_prompt_tuned_once_per_seed_is_paired_by_seed():
    found = made([STABLE], {}, text={"prefix_text": 0.5})
    tuned = (found.arm == "prefix_text") & found.decode_hygiene.eq(True)
    shifted = [found[tuned].assign(seed=seed) for seed in (3, 2, 7)]
    got = one("enrichment-tuned-prompt", pd.concat([found[~tuned], *shifted])).finding
    assert got.n == 2


def test_nothing_is_said_without_rows():
    for empty in (pd.DataFrame(), rows([STABLE]).iloc[:0]):
        assert {v.verdict for v in decided(empty).values()} == {"not run at this scale"}


def test_a_single_item_leaves_the_t_test_over_seeds():
    values = np.random.default_rng(0).normal(6, 5, 9)
    found, theirs = crossed(values[:, None]), scipy_stats.ttest_1samp(values, 1.0)
    assert 2 * found.above(1.0) == pytest.approx(theirs.pvalue)
    interval = theirs.confidence_interval()
    assert found.interval() == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_the_error_is_that_of_two_variances_by_hand_and_never_below_that_of_the_seeds():
    values = np.random.default_rng(1).normal(3, 20, (5, 60)) + np.random.default_rng(2).normal(0, 10, (1, 60))
    found, (seeds, items) = crossed(values), (values.mean(axis=1), values.mean(axis=0))
    parts = [seeds.var(ddof=1) / 5, items.var(ddof=1) / 60]
    assert found.error == pytest.approx(np.sqrt(sum(parts)))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 4 + parts[1] ** 2 / 59)
    alone = scipy_stats.ttest_1samp(seeds, 0, alternative="greater").pvalue
    both = scipy_stats.t.sf(values.mean() / found.error, freedom)
    assert found.above(0) == pytest.approx(max(alone, both))
    assert found.below(0) == pytest.approx(max(1 - alone, 1 - both))


def test_seeds_that_agree_do_not_hide_the_luck_of_the_items():
    lucky = np.tile([100.0] * 3 + [0.0] * 17, (4, 1))  # four seeds, all better on the same 3 of 20 items
    source = pd.DataFrame({"run": ["r"], "stale": [False]})
    found = ahead(lucky, source, statistic="x")
    assert stats.difference(lucky.mean(axis=1)) == 0, "seeds alone are certain"
    assert found.p_supports > stats.ALPHA
    assert found.p_supports == pytest.approx(scipy_stats.ttest_1samp(lucky[0], 0).pvalue)


def test_a_difference_that_counts_as_none_is_no_support():
    values = np.random.default_rng(3).normal(MARGIN / 2, 0.05, (6, 1))
    found = ahead(values, pd.DataFrame({"run": ["r"], "stale": [False]}), statistic="x", remark="Rest.")
    claim = Claim("c", "text", "more", lambda rows: found, "rows")
    (verdict,) = claims.decide([claim], pd.DataFrame(), pd.DataFrame())
    assert (verdict.verdict, found.low > 0) == ("not supported", True)
    assert found.remark == "There is a difference, but one that counts as none. Rest."


def draws(rng: np.random.Generator, seeds: int, spread: tuple[float, float, float]) -> np.ndarray:
    """Differences [seeds, 200 items] of mean zero that vary by seed, by item and by both."""
    by_seed, by_item, rest = spread
    shape = rng.normal(0, by_seed, (seeds, 1)) + rng.normal(0, by_item, (1, 200))
    return shape + rng.normal(0, rest, (seeds, 200))


SPREADS = [(0.0, 0.0, 30.0), (5.0, 0.0, 10.0), (1.0, 30.0, 0.0), (3.0, 30.0, 30.0)]


def family(rng: np.random.Generator, seeds: int, spread: tuple, mean: float, repeats: int = 60) -> np.ndarray:
    """Verdicts [repeats, 6] on families of six advantages of this true mean."""
    source, found = pd.DataFrame({"run": ["r"], "stale": [False]}), []
    for _ in range(repeats):
        values = [mean + draws(rng, seeds, spread) for _ in range(6)]
        made = [
            Claim(f"{i}", "text", "more", lambda _, v=v: ahead(v, source, statistic="x"), "rows")
            for i, v in enumerate(values)
        ]
        found.append([v.verdict for v in claims.decide(made, pd.DataFrame(), pd.DataFrame())])
    return np.array(found)


@pytest.mark.parametrize("seeds", [SEEDS, 12])
def test_a_family_of_a_a_comparisons_is_wrong_at_most_one_time_in_twenty(seeds, monkeypatch):
    monkeypatch.setattr(claims, "explained", lambda found, family: "")
    rng, slack = np.random.default_rng(4), 0.03  # two standard errors of 240 repeats
    equal = np.concatenate([family(rng, seeds, spread, 0.0) for spread in SPREADS])
    assert (equal == "supported").any(axis=1).mean() <= 0.05 + slack
    at_margin = np.concatenate([family(rng, seeds, spread, MARGIN) for spread in SPREADS])
    assert (at_margin == "not supported").any(axis=1).mean() <= 0.05 + slack


@pytest.mark.parametrize("seeds", [SEEDS, 12])
def test_intervals_hold_their_mean_and_ranges_are_wrong_as_rarely_as_stated(seeds):
    rng, source = np.random.default_rng(5), pd.DataFrame({"run": ["r"], "stale": [False]})
    for spread in SPREADS:
        tables = [draws(rng, seeds, spread) for _ in range(300)]
        held = [low < 0 < high for low, high in (crossed(values).interval() for values in tables)]
        assert np.mean(held) >= 0.95 - 0.03
        at_end = [within(values, source, 0.0, 10.0, statistic="x") for values in tables]
        assert np.mean([found.p_supports < stats.ALPHA for found in at_end]) <= 0.05 + 0.03
        assert np.mean([found.p_refutes < stats.ALPHA for found in at_end]) <= 0.05 + 0.03


def test_a_planted_advantage_is_found_with_the_stated_power(monkeypatch):
    monkeypatch.setattr(claims, "explained", lambda found, family: "")
    spread = 4.0
    effect = stats.detectable(spread, SEEDS, stats.ALPHA / 6)
    verdicts = family(np.random.default_rng(6), SEEDS, (spread, 0.0, 0.0), effect)
    assert (verdicts == "supported").mean() >= 0.8 - 0.05
    assert (verdicts == "not supported").mean() <= 0.05


def test_equal_configurations_and_text_support_no_claim_of_an_advantage():
    configs, wrong = (*SERIES, *FACTORIAL[1:], *bridge_rows.EQUAL_SHAPE, *TASKS), []
    for seed in range(8):
        arms = dict.fromkeys(bridge_rows.TEXT, 0.75)
        found = rows(configs, accuracy=evenly(0.75, configs), collapsed={}, text=arms, noise=0.03, rng_seed=seed)
        ledger = decided(found)
        wrong += [n for n, v in ledger.items() if v.verdict == "supported" and n.split("/")[1] not in ABSOLUTE]
    assert len(wrong) <= 1


ABSOLUTE = {"stable-above-70", "token-ratio", "quality-most-tokens", "quality-fewest-tokens"}  # no comparison of two


def test_the_ledger_reads():
    verdicts = claims.decide(bridge.claims(), rows(), pd.DataFrame())
    text = " ".join(report.text(verdicts).split())
    ids = [claim.id for claim in bridge.claims()]
    assert len(set(ids)) == len(ids) == len(verdicts)
    assert "n = 4 seeds" in text
    assert "4a/token-ratio supported 4.7× (exact)" in text
    assert (
        "Not run: needs a run labelled 1a_ of gsm8k with the arms bridged and target_alone on the plan's own pair."
        in text
    )
    assert "on the small pair trained here. Expected:" in text
    for verdict in verdicts:
        json.dumps(verdict.row(), allow_nan=False)


def test_a_run_without_fixes_is_never_taken_for_the_best_configuration():
    found = rows([config("1a_mislabelled_4tok", 4), config("other", **UNFIXED), BASELINE])
    assert one("enrichment", found).finding.runs == ("1a_mislabelled_4tok_x",)
    assert one("enrichment", rows([BASELINE])).verdict == "not run at this scale"
