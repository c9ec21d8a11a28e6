"""Verdicts follow the rows: each can be reached, errors are as rare as stated, and a planted effect is found."""

import json

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from lib import claims, presets, runs
from lib.claims import NOT_RUN, Claim, Finding, report, scaling
from lib.claims.__main__ import app
from lib.figures.scaling import EXPECTED
from lib.metrics import stats
from lib.models import registry

SIZES = {"ladder-60k": 57_000, "ladder-160k": 164_416, "ladder-1m": 919_680, "ladder-3m": 2_781_504}
LOGS = np.log2(list(SIZES.values()))
LEVER = float(np.sqrt(((LOGS - LOGS.mean()) ** 2).sum()))  # noise of log2 speedup over that of its slope
PUBLISHED, BATCHED = "1a3/growth-as-published", "1a3/growth-batched"
EVERY = [claim for made in claims.experiments().values() for claim in made]
NEEDY = [claim.id for claim in EVERY if claim.needs]  # the others are decided by arithmetic
ARMS = {"matched": "eab_sequential", "fixed": "eab"}


def ladder(rng: np.random.Generator, slope: float = 0.0, spread: float = 0.15, prompts: int = 30) -> pd.DataFrame:
    """Rows in which both EAB arms' log2 speedup grows by `slope` per doubling; `spread`: between prompts."""
    frames = []
    for protocol, arm in ARMS.items():
        noise = rng.normal(0, spread * LEVER, (4, prompts))
        base = rng.lognormal(size=(4, prompts))
        gain = 4 * 2 ** (slope * (LOGS - LOGS[0])[:, None] + noise)
        for name, seconds in (("naive", base), (arm, base / gain)):
            frames.append(grid(seconds).assign(protocol=protocol, arm=name))
    return pd.concat(frames, ignore_index=True).assign(dummy=False, stale=False, **scaling.PUBLISHED)


def grid(seconds: np.ndarray) -> pd.DataFrame:
    """Seconds [models, prompts] as rows."""
    models, prompts = (index.ravel() for index in np.indices(seconds.shape))
    names = np.array(list(SIZES))[models]
    return pd.DataFrame(
        {"run": names, "model": names, "parameters": np.array(list(SIZES.values()))[models], "prompt": prompts}
    ).assign(wall_s=seconds.ravel())


def qwen(name: str, speedup: float, prompts: int = 10, spread: float = 0.05, **changes) -> pd.DataFrame:
    """Rows of the published protocol on one model; `spread` of log2 speedup."""
    entry = registry.lookup(name)
    noise = 2 ** np.random.default_rng(0).normal(0, spread, prompts)
    noise /= np.exp(np.log(noise).mean())
    rows = [
        {"model": entry.hub_id, "parameters": entry.parameters, "protocol": "matched", "arm": arm, "prompt": i}
        | {"wall_s": seconds, "run": f"{name}_x", "dummy": False, "stale": False}
        for i in range(prompts)
        for arm, seconds in (("naive", 1.0), ("eab_sequential", 1 / (speedup * noise[i])))
    ]
    return pd.DataFrame(rows).assign(**{**scaling.PUBLISHED, **changes})


def decided(rows: pd.DataFrame, every: pd.DataFrame | None = None) -> dict[str, claims.Verdict]:
    verdicts = claims.decide(scaling.claims(), rows, rows if every is None else every)
    return {v.claim.id: v for v in verdicts}


@pytest.mark.parametrize(
    ("slope", "spread", "verdict"),
    [
        (0.13, 0.05, "supported"),
        (0.0, 0.05, "not supported"),
        (-0.2, 0.05, "not supported"),
        (0.05, 0.4, "inconclusive"),
    ],
)
def test_growth_can_be_supported_refuted_or_left_open(slope, spread, verdict):
    found = decided(ladder(np.random.default_rng(1), slope, spread))
    for name in (PUBLISHED, BATCHED):
        assert found[name].verdict == verdict
        finding = found[name].finding
        assert finding.low < 100 * (2**slope - 1) < finding.high
        assert (finding.n, finding.runs) == (30, tuple(sorted(SIZES)))
    assert all(found[f"1a3/range-{name}"].verdict == NOT_RUN for name in scaling.QWEN)


def test_growth_below_the_margin_is_no_support_and_the_ledger_says_so():
    found = decided(ladder(np.random.default_rng(2), slope=0.03, spread=0.01))[BATCHED]
    assert found.verdict == "not supported"
    assert "It grows, but by less than 5 %." in found.finding.remark


def test_an_open_claim_says_how_many_prompts_would_do():
    remark = decided(ladder(np.random.default_rng(3), slope=0.04, spread=0.3))[BATCHED].finding.remark
    assert "30 prompts find a difference of" in remark
    needed = int(remark.rsplit("takes ", 1)[1].rstrip("."))
    assert stats.detectable(0.3, needed, stats.ALPHA / 2) == pytest.approx(stats.FLAT, rel=0.3)
    assert needed > 30


def test_few_prompts_one_model_or_random_weights_decide_nothing():
    rng = np.random.default_rng(4)
    few = decided(ladder(rng, 0.5, 0.01, prompts=stats.ENOUGH - 1))
    assert few[BATCHED].verdict == few[PUBLISHED].verdict == "inconclusive"
    single = decided(ladder(rng, 0.5, 0.01, prompts=1))[BATCHED]
    assert (single.verdict, single.row()["high"]) == ("inconclusive", None)
    rows = ladder(rng, 0.5, 0.01)
    assert decided(rows[rows.model == "ladder-1m"])[BATCHED].verdict == NOT_RUN
    assert decided(rows.assign(dummy=True))[BATCHED].verdict == NOT_RUN
    assert decided(rows.iloc[:0])[BATCHED].verdict == NOT_RUN


def growth_verdicts(rng: np.random.Generator, repeats: int, slope: float, spread: float) -> list[list[str]]:
    """Verdicts on a family of two growth claims about 4 models and 30 prompts, over and over."""
    source = pd.DataFrame({"run": ["r"], "stale": [False]})
    found = []
    for _ in range(repeats):
        noise = rng.normal(0, spread * LEVER, (2, 4, 30)) + rng.normal(size=(2, 1, 30))
        family = [
            Claim(f"{i}", "text", "more", lambda _, y=y: scaling.growth(list(SIZES.values()), y, source), "rows")
            for i, y in enumerate(2 ** (slope * LOGS[:, None] + noise))
        ]
        found.append([v.verdict for v in claims.decide(family, pd.DataFrame(), pd.DataFrame())])
    return found


def test_a_family_of_a_a_comparisons_is_supported_at_most_one_time_in_twenty():
    for spread in (0.05, 0.2):
        verdicts = growth_verdicts(np.random.default_rng(5), 500, 0.0, spread)
        assert np.mean(["supported" in family for family in verdicts]) <= 0.05


def test_a_planted_effect_is_found_with_the_stated_power_and_rarely_refuted():
    spread = 0.16
    effect = stats.detectable(spread, 30, stats.ALPHA / 2)
    assert effect > stats.FLAT, "below the margin it would not have to be found"
    verdicts = np.concatenate(growth_verdicts(np.random.default_rng(6), 500, effect, spread))
    assert (verdicts == "supported").mean() >= 0.78
    assert (verdicts == "not supported").mean() <= 0.05
    at_margin = np.concatenate(growth_verdicts(np.random.default_rng(7), 500, stats.FLAT, spread))
    assert (at_margin == "not supported").mean() <= 0.05


@pytest.mark.parametrize(
    ("speedup", "spread", "verdict"),
    [(2.0, 0.05, "supported"), (1.25, 0.05, "not supported"), (3.0, 0.05, "not supported"), (2.2, 0.3, "inconclusive")],
)
def test_ranges_are_decided_by_runs_of_that_very_model(speedup, spread, verdict):
    found = decided(pd.DataFrame(), qwen("Qwen2.5-0.5B", speedup, spread=spread))
    ours = found["1a3/range-Qwen2.5-0.5B"]
    assert ours.verdict == verdict
    assert ours.finding.estimate == pytest.approx(speedup)
    assert ours.finding.low < speedup < ours.finding.high
    assert found["1a3/range-Qwen2.5-1.5B"].verdict == NOT_RUN


def test_every_range_of_the_plan_has_its_model():
    found = scaling.claims()
    for name, band in zip(scaling.QWEN, EXPECTED.itertuples(), strict=True):
        assert registry.lookup(name).parameters == pytest.approx(band.parameters, rel=0.01)
        (claim,) = [c for c in found if c.id == f"1a3/range-{name}"]
        middle = np.sqrt(band.low * band.high)
        (verdict,) = claims.decide([claim], pd.DataFrame(), qwen(name, middle))
        assert verdict.verdict == "supported"


def test_other_settings_random_weights_and_other_arms_say_nothing_about_a_range():
    name = "1a3/range-Qwen2.5-7B"
    right = qwen("Qwen2.5-7B", 2.8)
    assert decided(pd.DataFrame(), right)[name].verdict == "supported"
    for wrong in (
        right.assign(prompt_tokens=50),
        right.assign(dummy=True),
        right.assign(arm=right.arm.replace("eab_sequential", "eab")),
        right.assign(protocol="fixed"),
        right.assign(model="Qwen/Qwen2-7B-Instruct"),
    ):
        assert decided(pd.DataFrame(), wrong)[name].verdict == NOT_RUN
        both = pd.concat([right, wrong.assign(run="newer")])
        assert decided(pd.DataFrame(), both)[name].finding.runs == ("Qwen2.5-7B_x",)
    newer = pd.concat([right, qwen("Qwen2.5-7B", 1.5).assign(run="newer", stale=True)])
    found = decided(pd.DataFrame(), newer)[name]
    assert (found.verdict, found.finding.runs, found.finding.stale) == ("not supported", ("newer",), True)


def test_evidence_is_adjusted_over_the_claims_that_were_tested():
    def finding(p: float) -> Finding:
        return Finding("x", "%", 1.0, 0.0, 2.0, 30, p, 1.0, 0.1, 0.1, ("r",))

    family = [Claim(str(p), "text", "more", lambda rows, p=p: finding(p), "rows") for p in (0.02, 0.03)]
    idle = Claim("idle", "text", "more", lambda rows: None, "rows")
    verdicts = claims.decide([*family, idle], pd.DataFrame(), pd.DataFrame())
    assert [v.verdict for v in verdicts] == ["supported", "supported", NOT_RUN]
    assert [v.finding.p_supports for v in verdicts[:2]] == [0.04, 0.04]
    three = claims.decide(
        [*family, Claim("0.9", "text", "more", lambda rows: finding(0.9), "rows")], pd.DataFrame(), pd.DataFrame()
    )
    assert [v.verdict for v in three] == ["inconclusive"] * 3
    alone = claims.decide(family[1:], pd.DataFrame(), pd.DataFrame())
    assert alone[0].finding.p_supports == 0.03


@pytest.fixture
def swept(tmp_path):
    """Finished runs of the quick preset in which EAB does not gain with size."""
    rows = ladder(np.random.default_rng(7), slope=-0.1, spread=0.02, prompts=6)
    for cell in presets.cells("1a3_scaling", "quick"):
        run = runs.open_run("1a3_scaling", {**cell.params, "runs_dir": str(tmp_path)})
        part = rows[rows.model == run.params.model].drop(columns=["run", "stale", *scaling.PUBLISHED])
        for row in part.to_dict("records"):
            run.measure(**row)
        run.finish({})
    return tmp_path


def test_the_command_decides_from_run_folders(swept):
    done = CliRunner().invoke(app, ["--runs-dir", str(swept), "--json"])
    assert done.exit_code == 0
    ledger = {row["id"]: row for row in json.loads(done.stdout.splitlines()[-1])}
    assert list(ledger) == [claim.id for claim in EVERY]
    assert ledger[BATCHED]["verdict"] == ledger[PUBLISHED]["verdict"] == "not supported"
    assert len(ledger[BATCHED]["runs"]) == 4
    assert not ledger[BATCHED]["stale"]
    assert ledger["1a3/range-Qwen2.5-7B"]["verdict"] == NOT_RUN
    of_preset = CliRunner().invoke(app, ["--runs-dir", str(swept), "--preset", "quick"])
    assert of_preset.stdout.splitlines()[0].split()[:3] == [PUBLISHED, "not", "supported"]
    others = len(claims.experiments()) - 1
    assert (of_preset.exit_code, of_preset.stderr.count("Note:")) == (0, others), "they have no run of it: no mistake"
    assert ledger["3a/recurrence"]["verdict"] == NOT_RUN


def test_without_runs_nothing_is_claimed_and_an_unknown_preset_is_an_error(tmp_path):
    done = CliRunner().invoke(app, ["--runs-dir", str(tmp_path)])
    assert done.exit_code == 0
    assert sum(NOT_RUN in line for line in done.stdout.splitlines()) == len(NEEDY)
    assert sum("(exact)" in line for line in done.stdout.splitlines()) == len(EVERY) - len(NEEDY)
    wrong = CliRunner().invoke(app, ["--runs-dir", str(tmp_path), "--preset", "qick"])
    assert "did you mean 'quick'" in str(wrong.exception)


def test_what_a_claim_that_is_not_run_would_need_is_said(tmp_path):
    options = ["--runs-dir", str(tmp_path)]
    ledger = {row["id"]: row for row in json.loads(CliRunner().invoke(app, [*options, "--json"]).stdout)}
    assert ledger[PUBLISHED]["needs"] == (
        "two models or more with trained weights and the arms naive and eab_sequential under the matched protocol"
    )
    text = " ".join(CliRunner().invoke(app, options).stdout.split())
    assert text.count("Not run: needs") == len(NEEDY)
    assert "Not run: needs a run of Qwen2.5-7B with trained weights and the plan's settings." in text
    rows = ladder(np.random.default_rng(9), 0.13, 0.05)
    assert "needs" not in report.text(claims.decide(scaling.claims()[:2], rows, pd.DataFrame()))


def test_growth_says_at_which_threshold_the_arm_itself_ran():
    rows = ladder(np.random.default_rng(10), 0.13, 0.05).assign(threshold=0.1)
    other = rows[rows.arm == "eab"].assign(arm="eab@0.2", threshold=0.2)
    found = decided(pd.concat([rows, other], ignore_index=True))
    for name in (PUBLISHED, BATCHED):
        assert found[name].finding.remark == "4 models. Run at threshold 0.1; the plan's is 0.055."


def test_the_table_has_a_line_per_claim_and_its_evidence_below():
    verdicts = claims.decide(scaling.claims(), ladder(np.random.default_rng(8), 0.13, 0.05), pd.DataFrame())
    text = report.text(verdicts)
    assert [line.split()[0] for line in text.splitlines()[:6]] == [v.claim.id for v in verdicts]
    assert "supported" in text.splitlines()[0]
    assert "n = 30 prompts" in text.splitlines()[0]
    assert "ladder-160k" in text
    assert max(map(len, text.splitlines())) <= 110
