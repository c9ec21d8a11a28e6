"""The speculative-decoding benchmark: every part runs, what it reports is possible, and its heads are kept."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import pytest

from lib import paths, runs
from lib.bench import specdec
from lib.models import eagle_training
from lib.models.registry import ModelError

TINY = "ladder-micro"  # which nothing smaller drafts for


@pytest.fixture(scope="module")
def bench(micro_path, tmp_path_factory):
    """The JSON object and the stored rows of a short run of the whole command, with heads trained for an instant."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(paths, "RUNS", folder)
        patch.setattr(specdec, "METHODS", ("ngram", "eagle", "hybrid"))
        patch.setattr(eagle_training, "RECIPE", replace(eagle_training.RECIPE, tokens=2000))
        patch.setattr(eagle_training, "VALIDATION_DOCUMENTS", 4)
        specdec.command(model=TINY, rungs=[TINY], requests=7, repeats=1, dtype="float32", as_json=True)
        heads = {name: eagle_training.training_of(eagle_training.path(TINY, name)) for name in specdec.INPUTS}
    return json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/specdec", folder), heads


def test_every_arm_is_compared_on_the_same_requests(bench):
    report, rows, _ = bench
    arms = {"baseline", "ngram", "eagle", "hybrid", "eagle_tree"}
    for key in ("speedup_vs_baseline", "tokens_per_forward", "mean_acceptance_length", "token_equal"):
        assert set(report[key]) - {"baseline"} == arms - {"baseline"}, key
    assert set(report["speedup_vs_baseline"]["baseline"].values()) == {1.0}
    assert set(report["token_equal"].values()) == {1.0}, "greedy in float32: the baseline's tokens, whoever drafts"
    methods = rows[rows.label == "methods"]
    assert set(methods.arm) == arms
    assert methods.groupby("arm").prompt.agg(tuple).nunique() == 1


def test_a_forward_gives_a_token_at_least_and_one_more_than_was_drafted_at_most(bench):
    report, rows, _ = bench
    most = int(rows.num_speculative_tokens.max()) + 1
    for arm, found in report["mean_acceptance_length"].items():
        assert all(1 <= length <= most for length in found.values()), arm


def test_both_engines_run_what_both_can_and_nobody_drafts_for_the_smallest(bench):
    report, rows, _ = bench
    assert set(report["vs_transformers"]) == {"baseline", "ngram"}
    assert all(ratio[TINY] > 0 for ratio in report["vs_transformers"].values())
    assert set(rows[rows.label == f"{TINY}_engines"].arm) == {
        f"{method}{engine}" for method in ("baseline", "ngram") for engine in ("", "_transformers")
    }


def test_heads_that_see_half_of_the_input_are_trained_beside_the_whole_one(bench):
    report, _, heads = bench
    assert set(report["eagle_inputs"]) == set(heads) == set(specdec.INPUTS)
    for name, record in heads.items():
        assert record["inputs"] == name
        assert record["recipe"]["tokens"] == 2000
        assert record["curve"][-1]["tokens"] >= 2000 > record["curve"][-2]["tokens"]
        assert all(0 <= share <= 1 for share in record["validation_top1"])


def test_a_model_that_has_no_ladder_to_train_heads_on_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    with pytest.raises(ModelError, match="not on the ladder"):
        specdec.command(model=TINY, rungs=["Qwen2.5-0.5B"], requests=7, repeats=1, dtype="float32", as_json=True)
    assert not list(tmp_path.iterdir())
