"""The sampling benchmark: its ratios are what they say, and it stores what it measured."""

import io
import json
from contextlib import redirect_stdout

import pandas as pd
import pytest
import torch

from lib import fidelity, generators, paths, presets, runs
from lib.bench import bound, sampling, specdec, threshold, throughput
from lib.generators import replicates
from lib.generators.common import SamplingParams
from lib.generators.comparison import run_arm
from tests.toys import prompt, tiny_model


def test_ratios_are_medians_over_prompts_of_ratios_within_a_prompt():
    rows = pd.DataFrame(
        {"model": "m", "parameters": 1, "protocol": "fixed", "prompt": p, "arm": arm, "wall_s": wall}
        | {"token_forwards": tokens, "kv_bytes": kv}
        for p, scale in enumerate([1.0, 10.0, 100.0])
        for arm, wall, tokens, kv in [
            ("naive", 8 * scale, 4580, 400),
            ("batched", 2 * scale, 780, 400),
            ("hf", 4 * scale, 4580, 400),
            ("eab_sequential", 6 * scale, 600, 900),
            ("eab", [1.0, 8.0, 50.0][p], 600, 100),
        ]
    )
    report = sampling.ratios(rows)
    assert report["speedup_vs_naive"]["eab"]["m"] == 10.0  # of 8, 10 and 16
    assert report["speedup_vs_batched"]["hf"]["m"] == 0.5
    assert report["speedup_vs_hf"]["batched"]["m"] == 2.0
    assert report["speedup_vs_eab_sequential"]["naive"]["m"] == 0.75
    assert report["token_forwards"]["batched"]["m"] == 780
    assert report["kv_bytes_vs_naive"]["eab"]["m"] == 0.25


@pytest.fixture(scope="module")
def bench(micro_path, tmp_path_factory):
    """The JSON object and the stored rows of a short run of the whole command."""
    out = io.StringIO()
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(paths, "RUNS", folder)
        patch.setattr(sampling, "STUDY", {"questions": 1, "replicates": 2, "reference": 100, "answer_tokens": 6})
        patch.setattr(replicates, "PILOTS", 1)
        patch.setattr(replicates, "MOST", 2)
        patch.setattr(throughput, "REPEATS", 1)
        patch.setattr(throughput, "PROMPTS", 2)
        sampling.command(models=["ladder-micro"], prompts=1, repeats=1, dtype="float32", as_json=True)
    return json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/sampling", folder)


def test_the_benchmark_runs_prints_json_last_and_keeps_a_run(bench):
    report, rows = bench
    per_arm = {"fraction_of_bound", "overhead_per_step_us", "overhead_share", "token_forwards", "kv_bytes_vs_naive"}
    assert set(report) == {
        *(f"speedup_vs_{base}" for base in sampling.BASELINES),
        *per_arm,
        *("throughput_vs_batched", "cluster_entropy_rmse_vs_batched"),
    }
    (arms,) = {tuple(cell.params["arms"]) for cell in presets.cells("1a3_scaling", "quick")}
    for key in per_arm:
        assert set(report[key]) == set(arms), key
    assert report["speedup_vs_naive"]["naive"] == {"ladder-micro": 1.0}
    assert set(rows.protocol) == {"fixed", bound.PROTOCOL, throughput.PROTOCOL, fidelity.PROTOCOL}
    measured = rows[(rows.arm == "batched") & (rows.protocol == "fixed")].token_forwards.iloc[0]
    assert report["token_forwards"]["batched"]["ladder-micro"] == pytest.approx(measured)


def test_what_the_benchmark_reports_is_possible(bench):
    report, rows = bench
    for arm, fraction in report["fraction_of_bound"].items():
        assert 0 < fraction["ladder-micro"] < float("inf"), arm
        assert 0 < report["overhead_share"][arm]["ladder-micro"] < 1, arm
    assert report["throughput_vs_batched"]["batched"] == {"ladder-micro": 1.0}
    assert set(report["throughput_vs_batched"]) == set(throughput.ARMS)
    assert report["cluster_entropy_rmse_vs_batched"]["batched"] == 1.0
    assert {"tree", "tree_multinomial", "arithmetic", "eab"} <= set(report["cluster_entropy_rmse_vs_batched"])
    judged = rows[rows.protocol == fidelity.PROTOCOL]
    assert (judged[judged.arm == "batched"].num_samples == 20).all()
    passes, probed = rows[rows.protocol == "fixed"], rows[rows.protocol == bound.PROTOCOL]
    assert set(zip(probed.store, probed["rows"], strict=True)) == {
        (probe.store, probe.rows) for probe in bound.probes(list(passes.arm), 20)
    }
    assert all(sum(row.decode_rows) == row.decode_tokens for row in passes.itertuples()), (
        "hooks see what the meter sees"
    )
    assert (passes.forward_s < passes.wall_s).all()
    assert (passes.forward_s >= passes.prefill_s * 0.99).all()


def test_forwards_alone_are_probed_on_every_kind_of_store_and_leave_the_model_as_it_was():
    model, ids = tiny_model(), prompt(9)
    before = model(ids.unsqueeze(0)).logits
    arms = ["naive", "hf", "batched", "tree", "eab@0.1"]
    wanted = bound.probes(arms, 10)
    assert len(wanted) == len(set(wanted))
    assert {p.rows for p in wanted if p.store == "packed"} == {1, 2, 4, 8, 10, 20}
    assert {p.rows for p in wanted if p.store == "buffer"} == {1, 10}
    for probe in wanted:
        with bound.Forwards(model) as seen:
            assert bound.seconds_alone(model, ids, probe, 6) > 0
        decode = [t for t, prefill in zip(seen.tokens, seen.prefills, strict=True) if not prefill]
        assert decode == [probe.rows] * 5, "of 6 new tokens, the last is never read"
    torch.testing.assert_close(model(ids.unsqueeze(0)).logits, before)
    assert not model._forward_hooks
    assert not model._forward_pre_hooks


@pytest.mark.parametrize("arm", ["naive", "batched", "hf", "eab_sequential", "eab", "tree", "bifurcated"])
def test_the_rows_of_each_decode_forward_are_those_of_the_pass(arm):
    model, law = tiny_model(), SamplingParams(num_samples=3, max_new_tokens=5, threshold=0.5, max_paths=3)
    with bound.Forwards(model) as seen:
        run_arm(arm, model, [prompt(9, seed=4)], law, [4])  # another pass, which must not be counted
        (output,) = run_arm(arm, model, [prompt(9)], law, [0])
    rows = seen.last(output.cost.forward_calls)["decode_rows"]
    assert (len(rows), sum(rows)) == (output.cost.decode_calls, output.cost.decode_tokens)
    if arm in ("tree", "bifurcated"):
        assert rows == output.trace["live"][1:]
    if arm == "naive":
        assert rows == [1] * 12


def test_the_bound_is_the_prefill_and_the_forwards_alone():
    passes = pd.DataFrame(
        {"model": "m", "parameters": 1, "protocol": "fixed", "arm": "tree", "prompt": p, "prefill_s": 0.1}
        | {"forward_calls": 4, "decode_rows": [1, 3, 4], "wall_s": wall, "forward_s": 0.5}
        for p, wall in enumerate([1.0, 0.8, 2.0])
    )
    times = {("packed", 1): [0.1, 0.1, 9.0], ("packed", 4): [0.4, 0.4], ("buffer", 1): [5.0]}
    probed = pd.DataFrame(
        {"model": "m", "store": store, "rows": rows, "seconds": s}
        for (store, rows), many in times.items()
        for s in many
    )
    found = bound.report(passes, probed)
    assert found["fraction_of_bound"]["tree"]["m"] == pytest.approx((0.1 + 0.1 + 0.3 + 0.4) / 1.0)
    assert found["overhead_per_step_us"]["tree"]["m"] == pytest.approx(0.5e6 / 4)
    assert found["overhead_share"]["tree"]["m"] == pytest.approx(0.5)


def test_forwards_of_further_trees_are_bounded_by_a_probe_of_their_own_size():
    """EAB at N = 20 was seen with 51 rows: up to 40 are interpolated, more count as 40."""
    wanted = bound.probes(["eab"], 20)
    assert max(probe.rows for probe in wanted) == 40
    probed = pd.DataFrame({"model": "m", "seconds": 0.01 * p.rows} | vars(p) for p in wanted)
    row = {"model": "m", "parameters": 1, "protocol": "fixed", "arm": "eab", "prompt": 0, "prefill_s": 0.0}
    row |= {"forward_calls": 3, "wall_s": 1.0, "forward_s": 0.9}
    found = bound.report(pd.DataFrame([row | {"decode_rows": [20, 30]}]), probed)
    assert found["fraction_of_bound"]["eab"]["m"] == pytest.approx(0.5)
    found = bound.report(pd.DataFrame([row | {"decode_rows": [51]}]), probed)
    assert found["fraction_of_bound"]["eab"]["m"] == pytest.approx(0.4)


@pytest.mark.parametrize("arm", generators.NAMES)
def test_throughput_is_of_the_arms_that_decode_prompts_together(arm):
    law = SamplingParams(num_samples=2, max_new_tokens=2, prompts_together=2, threshold=0.5)
    outputs = run_arm(arm, tiny_model(), [prompt(5), prompt(5, seed=2)], law, [0, 1])
    assert {output.shared_by for output in outputs} == {2 if arm in throughput.ARMS else 1}


def test_throughput_is_a_ratio_of_medians_to_batched():
    rows = pd.DataFrame(
        {"model": "m", "arm": arm, "wall_s": wall}
        for arm, walls in {"batched": [4.0, 4.0, 40.0], "tree": [2.0, 1.0, 9.0]}.items()
        for wall in walls
    )
    assert throughput.report(rows)["throughput_vs_batched"] == {"batched": {"m": 1.0}, "tree": {"m": 2.0}}


def test_entropy_errors_are_pooled_over_questions_before_the_ratio():
    rows = pd.DataFrame(
        {"arm": arm, "entropy_rmse": error}
        for arm, errors in {"batched": [0.3, 0.4], "tree": [0.0, 0.25]}.items()
        for error in errors
    )
    assert sampling.entropy_errors(rows) == pytest.approx({"batched": 1.0, "tree": 0.5})


class TestSpecdec:
    """The bench's numbers from rows with known answers."""

    @pytest.fixture
    def table(self) -> pd.DataFrame:
        """Two requests, three passes, the last one slow; ngram copies in a quarter of the time, tells in all of it."""
        seconds = {("baseline", "repeat"): 4.0, ("baseline", "story"): 4.0, ("ngram", "repeat"): 1.0}
        rows = [
            {"arm": arm, "category": category, "prompt": prompt, "repeat": repeat, "new_tokens": 21, "steps": 10}
            | {"wall_s": seconds.get((arm, category), 4.0) * (1 + 8 * (repeat == 2)), "accepted": 10}
            | {"token_equal": not (arm == "ngram" and category == "story")}
            for arm in ("baseline", "ngram")
            for prompt, category in enumerate(("repeat", "story"))
            for repeat in range(3)
        ]
        return pd.DataFrame(rows)

    def test_a_speedup_is_a_ratio_of_total_seconds_by_category_and_over_all(self, table):
        found = specdec.speedups(table)
        assert found["baseline"] == {"repeat": 1, "story": 1, "copied": 1, "all": 1}
        assert found["ngram"] == pytest.approx({"repeat": 4, "story": 1, "copied": 4, "all": 8 / 5})

    def test_counts_and_equality_are_shares_of_what_was_done(self, table):
        assert specdec._by_category(table, specdec.COUNTS["tokens_per_forward"])["ngram"]["all"] == 2
        assert specdec._by_category(table, specdec.COUNTS["mean_acceptance_length"])["ngram"]["copied"] == 2
        assert specdec._equal(table) == {"baseline": 1, "ngram": 0.5}


def test_the_threshold_it_names_is_the_largest_with_whole_trees(micro_path, monkeypatch, capsys):
    monkeypatch.setattr(threshold, "THRESHOLDS", (0.0, 1.0))  # branch everywhere, branch nowhere
    threshold.command(model="ladder-micro", prompts=2)
    header, everywhere, nowhere, verdict = capsys.readouterr().out.splitlines()
    assert header.split()[0] == "threshold"
    assert [float(line.split()[0]) for line in (everywhere, nowhere)] == [0.0, 1.0]
    assert float(nowhere.split()[2]) == 1.0, "one path, one sample"
    assert verdict == f"Largest threshold at which the median tree returns {SamplingParams().max_paths} samples: 0"
