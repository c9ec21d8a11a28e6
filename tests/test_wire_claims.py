"""Claims of 4b follow the rows: each verdict can be reached, sizes decide alone where they can, and a codec is not
called harmless because no loss happened to show.
"""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from wire_rows import BEST, NARROW, NARROW_NOISY, NOISY, PLAN, STUDY, config, rows

from lib import claims
from lib.claims import report, wire
from lib.claims.bridge_tests import MARGIN, SEEDS, crossed
from lib.claims.wire_findings import no_lower
from lib.metrics import stats

PLANNED = ("int8-keeps", "int6-keeps", "int4-keeps")
SOURCE = pd.DataFrame({"run": ["r"], "stale": [False]})
LONG_TEXT = {"utf8": (1000.0, 0)}  # more than twice the reference's int8 frame


def decided(found: pd.DataFrame, every: pd.DataFrame | None = None) -> dict[str, claims.Verdict]:
    verdicts = claims.decide(wire.claims(), found, found if every is None else every)
    return {v.claim.id: v for v in verdicts}


def one(name: str, found: pd.DataFrame) -> claims.Verdict:
    """The verdict on one claim, as if it were the only one."""
    (verdict,) = claims.decide([c for c in wire.claims() if c.id == f"4b/{name}"], found, found)
    return verdict


def reached(name: str, verdict: str, found: pd.DataFrame) -> claims.Verdict:
    got = one(name, found)
    assert got.verdict == verdict, got
    return got


def made(configs, accuracy=None, **given) -> pd.DataFrame:
    return rows(configs, accuracy=accuracy, **{"n_test": 1000, **given})


class TestCodecs:
    @pytest.mark.parametrize("codec", ["int8", "int6", "int4"])
    @pytest.mark.parametrize(
        ("share", "verdict"),
        [(0.95, "supported"), (0.945, "supported"), (0.9, "not supported"), (0.93, "inconclusive")],
    )
    def test_a_codec_keeps_quality_within_a_margin_of_fp32(self, codec, share, verdict):
        found = made([BEST], {"best": 0.95, ("best", codec): share}, swaps=0.01)
        got = reached(f"{codec}-keeps", verdict, found).finding
        assert got.estimate == pytest.approx(100 * (share - 0.95))
        assert got.n == SEEDS
        assert got.statistic == f"accuracy of 1a_stable_16tok in {codec} with fp32 scales minus that in fp32"

    def test_it_is_the_plans_best_without_noise_that_is_asked(self):
        good, bad = {"best": 0.95}, dict.fromkeys(("narrow", "noisy", "other"), 0.2)
        others = [NARROW, NOISY, config("other", soft_tokens=0, wire_dim=0, label_of="1b_baseline_16tok")]
        for mixed in ([BEST, *others], [*others, BEST]):
            assert one("int4-keeps", made(mixed, good | bad)).finding.runs == ("best_x",)
        assert one("int4-keeps", made(others[2:], bad)).verdict == "not run at this scale"
        assert one("int4-keeps", made(others[1:2], bad)).verdict == "not run at this scale"

    def test_the_newest_run_counts(self):
        older = made([BEST], {"best": 0.95, ("best", "int4"): 0.5}).assign(run="older")
        assert one("int4-keeps", pd.concat([older, made([BEST], {"best": 0.95})])).verdict == "supported"
        stale = made([BEST], {"best": 0.95}).assign(run="newest", stale=True)
        assert one("int4-keeps", pd.concat([older, stale])).finding.stale

    def test_with_coarse_scales_alone_these_are_asked(self):
        found = made([BEST], {"best": 0.95})
        got = reached("int4-keeps", "supported", found[found.scales != "fp32"]).finding
        assert got.statistic.endswith("in int4 with fp16 scales minus that in fp32")

    def test_where_no_loss_shows_the_power_is_that_of_the_items(self):
        got = reached("int4-keeps", "inconclusive", made([BEST], {"best": 0.95}, n_test=100)).finding
        assert got.estimate == 0
        assert "find a difference of 0 points" not in got.remark
        assert got.spread == pytest.approx(100 * np.sqrt(0.02 * 0.98 / 100) * np.sqrt(SEEDS))

    def test_without_one_of_the_codecs_nothing_is_said(self):
        found = made([BEST])
        assert one("int6-keeps", found[found.codec != "int6"]).verdict == "not run at this scale"
        assert one("int6-keeps", found[found.codec != "fp32"]).verdict == "not run at this scale"
        assert one("int8-keeps", found[found.codec != "int6"]).verdict == "supported"


class TestCompression:
    def test_a_frame_that_is_too_large_decides_whatever_the_accuracy(self):
        got = reached("compression-utf8", "not supported", made([BEST], {"best": 0.95})).finding
        assert got.estimate == pytest.approx(104 / 180)
        assert (got.unit, got.replicate, got.p_refutes) == ("×", "count", 0)
        assert "int4 with fp16 scales 0.58×" in got.remark
        assert "fp32" not in got.remark.replace("fp32 scales", "")

    def test_where_frames_are_small_enough_accuracy_decides(self):
        text = {"coders": LONG_TEXT}
        found = made([BEST], {"best": 0.95}, **text)
        got = reached("compression-utf8", "supported", found).finding
        assert got.estimate == 0
        assert "int8 with fp32 scales 3.09×" in got.remark
        lost = {("best", codec): 0.8 for codec in ("int8", "int6", "int4")}
        reached("compression-utf8", "not supported", made([BEST], {"best": 0.95} | lost, **text))
        torn = {("best", codec): 0.93 for codec in ("int8", "int6", "int4")}
        reached("compression-utf8", "inconclusive", made([BEST], {"best": 0.95} | torn, swaps=0.01, **text))

    def test_one_codec_is_enough_and_costs_its_share_of_the_looks(self):
        lost = {("best", codec): 0.8 for codec in ("int8", "int6")} | {("best", "int4"): 0.94}
        found = made([BEST], {"best": 0.95} | lost, coders=LONG_TEXT, swaps=0.01, n_test=400)
        got = one("compression-utf8", found).finding
        assert "in int4" in got.statistic
        assert got.p_supports == pytest.approx(6 * one("int4-keeps", found).finding.p_supports)

    def test_sizes_at_the_border_count_as_twice_smaller(self):
        exactly = {"utf8": (2.0 * 180, 0)}
        assert one("compression-utf8", made([BEST], {"best": 0.95}, coders=exactly)).verdict == "supported"
        short = {"utf8": (2.0 * 180 - 1, 0)}
        assert one("compression-utf8", made([BEST], {"best": 0.95}, coders=short)).verdict == "not supported"

    def test_a_dictionary_is_another_claim_and_a_lossy_coder_is_none(self):
        found = made([BEST], {"best": 0.95}, coders=LONG_TEXT)
        got = reached("compression-dictionary", "not supported", found).finding
        assert got.estimate == pytest.approx(17 / 180)
        lossy = found.copy()
        lossy.loc[lossy.coder == "zstd_dict", "lossless"] = False
        assert one("compression-dictionary", lossy).finding.estimate == pytest.approx(19 / 180)
        assert one("compression-utf8", found[found.protocol != "text"]).verdict == "not run at this scale"


class TestBeats:
    def test_some_bridge_must_be_accurate_in_fewer_bytes(self):
        shares = {"narrow": 0.98, "best": 0.99}
        got = reached("beats-utf8", "supported", made([BEST, NARROW], shares)).finding
        assert got.statistic == "test accuracy of 16 × 6 in int4 with fp32 scales, 91.2 bytes"
        assert got.estimate == pytest.approx(98)
        reached("beats-utf8", "not supported", made([BEST, NARROW], {"narrow": 0.8, "best": 0.99}))
        reached("beats-utf8", "inconclusive", made([NARROW], {"narrow": 0.952}))

    def test_without_a_smaller_frame_size_decides(self):
        got = reached("beats-dictionary", "not supported", made([BEST, NARROW])).finding
        smallest = 66 - 0.1 * 24
        assert got.estimate == pytest.approx(17 / smallest)
        assert "No accuracy enters." in got.remark

    def test_every_bridge_that_is_asked_costs_its_share(self):
        shares = {"narrow": 0.98, "best": 0.99, "narrow_noisy": 0.5}
        alone = one("beats-utf8", made([BEST, NARROW], shares)).finding
        both = one("beats-utf8", made([BEST, NARROW, NARROW_NOISY], shares)).finding
        assert both.p_supports == pytest.approx(2 * alone.p_supports)

    def test_bridges_of_few_seeds_support_nothing_and_leave_the_question_open(self):
        few = made([NARROW_NOISY], {"narrow_noisy": 0.8}, seeds=2)
        good, bad = ({"narrow": share, "best": 0.99} for share in (0.98, 0.8))
        alone = one("beats-utf8", made([BEST, NARROW], good)).finding
        both = reached("beats-utf8", "supported", pd.concat([made([BEST, NARROW], good), few])).finding
        assert both.p_supports == alone.p_supports
        reached("beats-utf8", "inconclusive", pd.concat([made([BEST, NARROW], bad), few]))
        reached("beats-utf8", "inconclusive", few)


class TestNoise:
    def test_it_helps_where_the_same_bridge_without_it_is_worse(self):
        shares = {("narrow", "int3"): 0.7, ("narrow_noisy", "int3"): 0.8, ("best", "int3"): 0.7, ("noisy", "int3"): 0.9}
        found = made([BEST, NARROW, NOISY, NARROW_NOISY], shares)
        got = reached("noise-helps-int3", "supported", found).finding
        assert got.estimate == pytest.approx((10 + 20) / 2)
        fine = "int3 with fp32 scales"
        assert f"16 × 6, 4-bit noise 80.0 % in {fine}, without noise 70.0 % in {fine}" in got.remark
        assert len(got.runs) == 4
        reached("noise-helps-int4", "not supported", made([NARROW, NARROW_NOISY], {"narrow": 0.9, "narrow_noisy": 0.9}))
        torn = made([NARROW, NARROW_NOISY], {"narrow": 0.9, "narrow_noisy": 0.92}, noise=0.01)
        reached("noise-helps-int4", "inconclusive", torn)

    def test_of_several_noises_the_codecs_own_counts(self):
        fine, coarse = config("fine", noise=4), config("coarse", noise=2)
        shares = {"best": 0.5, "fine": 0.6, "coarse": 0.9}
        for mixed in ([BEST, fine, coarse], [BEST, coarse, fine]):
            assert one("noise-helps-int4", made(mixed, shares)).finding.estimate == pytest.approx(10)
            assert one("noise-helps-int2", made(mixed, shares)).finding.estimate == pytest.approx(40)
        fewer = pd.concat([made([BEST, fine], shares), made([coarse], shares, seeds=2)])
        assert one("noise-helps-int2", fewer).finding.estimate == pytest.approx(10), "seeds come first"

    def test_sizes_of_fewer_seeds_do_not_take_seeds_from_the_others(self):
        shares = {"best": 0.7, "noisy": 0.9, "narrow": 0.9, "narrow_noisy": 0.9}
        mixed = pd.concat([made([BEST, NOISY], shares), made([NARROW, NARROW_NOISY], shares, seeds=2)])
        got = reached("noise-helps-int4", "supported", mixed).finding
        assert (got.n, got.estimate) == (4, pytest.approx(20))
        assert got.runs == ("best_x", "noisy_x")

    def test_twins_are_compared_in_the_finest_scales_that_both_have(self):
        shares = {"best": 0.7, "noisy": 0.9, "narrow": 0.9, "narrow_noisy": 0.9}
        found = made([BEST, NOISY, NARROW, NARROW_NOISY], shares)
        half = found[~(found.label.str.startswith("narrow") & (found.scales == "fp32"))]
        for part in (half, half[~((half.label == "best") & (half.scales == "fp32"))], half[half.scales != "fp32"]):
            got = reached("noise-helps-int4", "supported", part).finding
            assert got.estimate == pytest.approx(10)
            assert "16 × 6, 4-bit noise 90.0 % in int4 with fp16 scales" in got.remark
            assert one("noise-int4-keeps-95", part).finding.estimate == pytest.approx(90 - 0.95 * 80)
        unlike = half[~((half.label == "narrow") & (half.codec == "int4"))]
        got = reached("noise-helps-int4", "supported", unlike).finding
        assert (got.estimate, got.runs) == (pytest.approx(20), ("best_x", "noisy_x")), (
            "a pair without the codec is none"
        )
        disjoint = found[~((found.label == "best") & (found.scales == "fp32"))]
        disjoint = disjoint[~((disjoint.label == "noisy") & (disjoint.scales == "fp16"))]
        assert one("noise-helps-int4", disjoint).finding.runs == ("narrow_noisy_x", "narrow_x")

    def test_of_several_noises_one_with_the_codec_counts(self):
        near, far = config("near", noise=4), config("far", noise=3)
        found = made([BEST, near, far], {"best": 0.7, "near": 0.9, "far": 0.8})
        assert one("noise-helps-int4", found).finding.estimate == pytest.approx(20)
        without = found[~((found.label == "near") & (found.codec == "int4"))]
        assert one("noise-helps-int4", without).finding.estimate == pytest.approx(10)

    def test_other_trainings_are_no_twins(self):
        for changes in ({"train_steps": 640}, {"width": 8}, {"group": 16}, {"label_of": "1b_baseline_16tok"}):
            assert one("noise-helps-int4", made([BEST, NOISY | changes])).verdict == "not run at this scale"
        assert one("noise-int4-keeps-95", made([NOISY])).verdict == "not run at this scale"

    @pytest.mark.parametrize(
        ("share", "verdict"), [(0.95, "supported"), (0.8, "not supported"), (0.912, "inconclusive")]
    )
    def test_int4_is_held_to_95_percent_of_what_fp32_has_without_noise(self, share, verdict):
        found = made([BEST, NOISY], {"best": 0.96, "noisy": 0.5, ("noisy", "int4"): share})
        got = reached("noise-int4-keeps-95", verdict, found).finding
        assert got.estimate == pytest.approx(100 * (share - 0.95 * 0.96))


class TestScales:
    def test_the_plans_sizes_are_decided_by_arithmetic(self):
        got = reached("plan-size", "not supported", rows([BEST])).finding
        assert got.estimate == pytest.approx(480 / (32 * 4096 // 2 + 2 * 32 * 4096 // 32 + 36))
        assert (got.n, got.p_refutes) == (1, 0)
        assert "64 x 4096 in fp16 524,324 bytes, 1,092× the prompt's" in got.remark
        tiny = rows([BEST]).assign(frame_bytes=200.0)
        assert one("plan-size", tiny).verdict == "supported"
        assert one("plan-size", tiny[tiny.protocol != "geometry"]).verdict == "not run at this scale"

    def test_neither_pair_answers_for_the_other(self):
        here, there = decided(rows(STUDY)), decided(rows(PLAN, n_test=1000))
        quality = {f"4b/plan-{name}" for name in PLANNED}
        assert {name for name, v in here.items() if v.verdict == "not run at this scale"} == quality
        ran = {name for name, v in there.items() if v.verdict != "not run at this scale"}
        assert ran == quality | {"4b/plan-size"}
        qwen = decided(rows([PLAN[0] | {"source": "Qwen/Qwen2.5-7B-Instruct"}]))
        assert {name for name, v in qwen.items() if v.verdict != "not run at this scale"} == {"4b/plan-size"}

    def test_the_plans_pair_is_looked_for_in_every_run(self):
        found = decided(rows([BEST]), pd.concat([rows([BEST]), rows(PLAN)]))
        assert found["4b/plan-int4-keeps"].finding.runs == ("plan_x",)
        assert found["4b/int4-keeps"].finding.runs == ("best_x",)

    def test_nothing_is_said_without_rows(self):
        for empty in (pd.DataFrame(), rows([BEST]).iloc[:0]):
            assert {v.verdict for v in decided(empty).values()} == {"not run at this scale"}

    @pytest.mark.parametrize("seeds", [1, SEEDS - 1])
    def test_few_seeds_decide_nothing_about_accuracy(self, seeds):
        for name, verdict in decided(rows(STUDY, seeds=seeds)).items():
            if verdict.finding and verdict.finding.replicate == "seed":
                assert (verdict.verdict, verdict.finding.n) == ("inconclusive", seeds), name
            json.dumps(verdict.row(), allow_nan=False)

    def test_the_ledger_reads(self):
        verdicts = claims.decide(wire.claims(), rows(STUDY), pd.DataFrame())
        text = " ".join(report.text(verdicts).split())
        ids = [claim.id for claim in wire.claims()]
        assert len(set(ids)) == len(ids) == len(verdicts)
        assert "Not run: needs a run about a bridge labelled 1a_ of gsm8k with messages in fp32 and int4," in text
        assert "4b/compression-utf8 not supported 0.578× (exact)" in text
        assert wire.EXPERIMENT in claims.experiments()


def bound(values: np.ndarray, at: float, rare: float) -> claims.Finding:
    return no_lower(values, at, rare, SOURCE, "x", "points", "")


class TestNoLower:
    def test_without_any_loss_it_is_as_sure_as_the_score_test(self):
        nothing = np.zeros((SEEDS, 400))
        found = bound(nothing, -MARGIN, 0.02)
        z = 0.02 / np.sqrt(0.02 * 0.98 / 400)
        assert found.p_supports == pytest.approx(2 * scipy_stats.norm.sf(z))
        assert (found.low, found.high) == pytest.approx((-1.372, 1.372), abs=0.001)
        assert bound(np.zeros((SEEDS, 100)), -MARGIN, 0.02).p_supports > stats.ALPHA, "100 items may hide a loss of 2 %"

    def test_where_answers_differ_it_is_the_crossed_test(self):
        values = 100 * np.random.default_rng(0).integers(-1, 2, (SEEDS, 300)).astype(float)
        found, mean = bound(values, -50.0, 0.02), crossed(values)
        assert found.p_supports == pytest.approx(2 * mean.above(-50.0))
        assert found.p_refutes == pytest.approx(mean.below(-50.0))
        assert (found.low, found.high) == pytest.approx(mean.interval())

    @pytest.mark.parametrize("items", [100, 200])
    @pytest.mark.parametrize(("shared", "gains"), [(True, 0.0), (False, 0.0), (True, 0.05), (False, 0.05)])
    def test_a_loss_at_the_bound_is_called_kept_or_lost_at_most_one_time_in_twenty(self, items, shared, gains):
        """Losses of exactly the margin, on the same items for all seeds or on others, with and without gains beside."""
        rng, repeats = np.random.default_rng([items, shared, int(100 * gains)]), 400
        kept, lost = 0, 0
        for _ in range(repeats):
            luck = rng.random((1 if shared else SEEDS, items)).repeat(SEEDS if shared else 1, axis=0)
            change = -100.0 * (luck < MARGIN / 100 + gains) + 100.0 * (luck > 1 - gains)
            found = bound(change, -MARGIN, MARGIN / 100)
            kept += found.p_supports < stats.ALPHA
            lost += found.p_refutes < stats.ALPHA
        slack = 2 * np.sqrt(0.05 * 0.95 / repeats)
        assert kept / repeats <= 0.05 + slack
        assert lost / repeats <= 0.05 + slack

    def test_a_codec_without_loss_is_found_harmless_on_a_thousand_items(self):
        rng = np.random.default_rng(1)
        found = []
        for _ in range(100):
            change = 100.0 * (rng.choice([-1, 0, 1], (SEEDS, 1000), p=[0.005, 0.99, 0.005]))
            found.append(bound(change, -MARGIN, 0.02).p_supports < stats.ALPHA / len(wire.claims()))
        assert np.mean(found) >= 0.8


def test_equal_arms_support_no_claim_of_an_advantage():
    asked = [claim for claim in wire.claims() if "noise-helps" in claim.id]
    equal, wrong = {of["label"]: 0.8 for of in (BEST, NOISY)}, 0
    for seed in range(10):
        found = rows([BEST, NOISY], accuracy=equal, noise=0.02, swaps=0.05, rng_seed=seed)
        wrong += any(v.verdict == "supported" for v in claims.decide(asked, found, found))
    assert wrong <= 2, "one in twenty and two standard errors"
