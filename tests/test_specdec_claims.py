"""Claims of 2a follow the rows: each verdict can be reached, the plan's models wait for their own runs, and a law
that is not kept is found out.
"""

import numpy as np
import pandas as pd
import pytest
import specdec_rows

from lib import claims
from lib.claims import NOT_RUN, specdec
from lib.models import groups

SETTING = {"batch_size": 1, "prompt_lookup_max": 4, "stale": False}


def decided(here: pd.DataFrame, every: pd.DataFrame | None = None) -> dict[str, claims.Verdict]:
    verdicts = claims.decide(specdec.claims(), here, here if every is None else every)
    return {v.claim.id.removeprefix("2a/"): v for v in verdicts}


def timed(gains: dict[str, float], spread: float = 0.1, requests: int = 30, seed: int = 0, **changes) -> pd.DataFrame:
    """Requests to ladder-3m, each arm `gains` times as fast as the baseline but for noise in log2 speedup."""
    rng, made = np.random.default_rng(seed), []
    for prompt in range(requests):
        base = rng.lognormal(sigma=0.5)
        for arm, gain in {"baseline": 1.0, **gains}.items():
            noise = 0.0 if arm == "baseline" else spread * rng.normal()
            counts = {"new_tokens": 21, "steps": 10, "draftless_steps": 2, "drafted": 40, "accepted": 10}
            row = specdec_rows.common("ladder-3m", arm, "latency") | counts | SETTING | {"prompt": prompt}
            made.append(row | {"s_per_token": base / (gain * 2**noise)})
    return pd.DataFrame(made).assign(**changes)


def audited(passed: dict[str, bool], **changes) -> pd.DataFrame:
    """What the model said of each arm's greedy answers."""
    rows = [
        specdec_rows.common("ladder-3m", arm, "audit")
        | SETTING
        | {
            "requests": 30,
            "tokens": 1000,
            "likeliest": 1000 - 5 * (not good),
            "diverged": int(not good),
            "passed": good,
        }
        for arm, good in {"baseline": True, **passed}.items()
    ]
    return pd.DataFrame(rows).assign(**changes)


def sampled(differences: dict[str, float], error: float = 0.01, outside: int = 0) -> pd.DataFrame:
    """What the model said of each arm's sampled answers: nats per token beyond the law's entropy."""
    rows = [
        specdec_rows.common("ladder-3m", arm, "audit")
        | SETTING
        | {"group": specdec.SAMPLED, "temperature": 0.8, "tokens": 4000, "difference": gap, "outside_support": outside}
        | {"low": gap - 1.96 * error, "high": gap + 1.96 * error, "run": f"{arm}_x"}
        for arm, gap in {"baseline": 0.0, **differences}.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("gain", "spread", "requests", "verdict"),
    [
        (1.5, 0.2, 30, "supported"),
        (1.0, 0.05, 30, "not supported"),
        (0.8, 0.1, 30, "not supported"),
        (1.01, 0.5, 30, "inconclusive"),
        (2.0, 0.1, 5, "inconclusive"),
    ],
)
def test_a_method_is_faster_slower_or_undecided(gain, spread, requests, verdict):
    found = decided(timed({"ngram": gain}, spread, requests))["ngram-ladder_3m"]
    assert found.verdict == verdict
    assert found.finding.low < gain < found.finding.high
    assert (found.finding.n, found.finding.replicate) == (requests, "request")
    assert "Acceptance rate 25.0 %" in found.finding.remark


def test_methods_are_told_apart_and_others_wait():
    found = decided(timed({"ngram": 1.5, "draft": 0.7}))
    said = {name: v.verdict for name, v in found.items() if v.finding}
    assert said == {"ngram-ladder_3m": "supported", "draft-ladder_3m": "not supported"}


def test_only_such_rows_count_as_the_claim_is_about():
    rows = timed({"ngram": 1.5})
    for other in ({"dummy": True}, {"temperature": 0.8}, {"batch_size": 8}, {"num_speculative_tokens": 3}):
        assert decided(rows.assign(**other))["ngram-ladder_3m"].verdict == NOT_RUN
    assert decided(rows[rows.arm != "baseline"])["ngram-ladder_3m"].verdict == NOT_RUN, "nothing to compare with"
    newer = timed({"ngram": 0.7}, run="newer", stale=True)
    found = decided(pd.concat([rows, newer]))["ngram-ladder_3m"]
    assert (found.verdict, found.finding.runs, found.finding.stale) == ("not supported", ("newer",), True)


def test_a_baseline_of_its_own_run_is_not_needed():
    rows = timed({"eagle": 1.5})
    apart = rows.assign(run=np.where(rows.arm == "baseline", "one", "another"))
    assert decided(apart)["eagle-ladder_3m"].finding.estimate == pytest.approx(1.5, rel=0.1)
    assert decided(apart.assign(backend=apart.run))["eagle-ladder_3m"].verdict == NOT_RUN, "another engine's baseline"


def test_the_plans_groups_are_decided_by_their_own_runs_wherever_they_are():
    there = timed({"ngram": 1.5}).assign(group="qwen2_7b", model="Qwen/Qwen2-7B-Instruct")
    found = decided(pd.DataFrame(), there)
    assert [name for name, v in found.items() if v.finding] == ["ngram-qwen2_7b"]
    asked = {name.split("-", 1)[1] for name in found if name.startswith("ngram")}
    assert set(groups.GROUPS) <= asked
    assert [name for name in found if name.startswith("eagle")] == [
        "eagle-ladder_3m", *(f"eagle-{group}" for group in specdec.HEADS)
    ]  # fmt: skip


@pytest.mark.parametrize(("good", "verdict"), [(True, "supported"), (False, "not supported")])
def test_greedy_output_is_the_models_where_every_arm_passed(good, verdict):
    found = decided(audited({"ngram": True, "eagle": good}))["unchanged-ladder_3m"]
    assert (found.verdict, found.finding.exact) == (verdict, True)
    assert found.finding.estimate == pytest.approx(100.0 if good else 99.75)
    assert ("Beyond rounding: eagle" in found.finding.remark) != good
    assert decided(audited({}))["unchanged-ladder_3m"].verdict == NOT_RUN, "the baseline alone says nothing"


@pytest.mark.parametrize(
    ("gaps", "given", "verdict"),
    [
        ({"ngram": 0.005, "eagle": -0.01}, {}, "supported"),
        ({"ngram": 0.005, "eagle": 0.045}, {"error": 0.03}, "inconclusive"),
        ({"ngram": 0.0, "eagle": 0.2}, {}, "not supported"),
        ({"ngram": 0.0, "eagle": 0.0}, {"outside": 1}, "not supported"),
    ],
)
def test_a_sampled_law_is_kept_broken_or_undecided(gaps, given, verdict):
    found = decided(pd.DataFrame(), sampled(gaps, **given))[f"law-{specdec.SAMPLED}"]
    assert found.verdict == verdict
    worst = max(gaps.values(), key=abs)
    assert found.finding.estimate == worst
    assert found.finding.low < worst < found.finding.high
    assert found.finding.runs == ("eagle_x", "ngram_x")


@pytest.mark.parametrize(("truth", "wrong"), [(0.0, "p_refutes"), (specdec.SURPRISE, "p_supports")])
def test_one_false_alarm_in_twenty_at_most(truth, wrong):
    """A law kept exactly is seldom called broken, and one that is as far off as counts seldom called kept."""
    (claim,) = [c for c in specdec.claims() if c.id.startswith("2a/law")]
    error, draws = 0.015, 200
    gaps = truth + error * np.random.default_rng(1).normal(size=(draws, 4))
    found = [claim.test(sampled(dict(zip(specdec.DRAFTS, row, strict=True)), error)) for row in gaps.tolist()]
    alarms = sum(getattr(one, wrong) < 0.05 for one in found)
    assert alarms <= 0.05 * draws + 2 * np.sqrt(0.05 * draws)


def test_without_rows_nothing_is_decided():
    assert {v.verdict for v in decided(pd.DataFrame()).values()} == {NOT_RUN}
    columns = pd.DataFrame(columns=["run", "stale", "group"])
    assert {v.verdict for v in decided(columns).values()} == {NOT_RUN}
