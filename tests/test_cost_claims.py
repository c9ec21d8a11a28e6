"""Claims about resources: sums and dimensions against other ways to count them, hours on planted runs."""

import json

import numpy as np
import pandas as pd
import pytest
import wire_rows

from lib import claims, presets
from lib.claims import (
    NOT_RUN,
    bridge_costs,
    dimensions,
    hours,
    inference_costs,
    mazes_costs,
    scaling_costs,
    specdec_costs,
    wire_costs,
)
from lib.models import registry
from lib.runs import Finished

MODULES = (bridge_costs, inference_costs, mazes_costs, scaling_costs, specdec_costs, wire_costs)
CARD = "NVIDIA H100 80GB HBM3"
NOTHING = pd.DataFrame()


def decided(module, rows: pd.DataFrame = NOTHING) -> dict[str, claims.Verdict]:
    return {v.claim.id: v for v in claims.decide(module.claims(), rows, rows)}


def test_arithmetic_needs_no_run_and_the_rest_waits_for_one():
    for module in MODULES:
        for verdict in decided(module).values():
            assert (verdict.verdict == NOT_RUN) == bool(verdict.claim.needs)
            assert not verdict.finding or (verdict.finding.exact and verdict.finding.runs == ())


def test_the_plans_sums():
    found = decided(bridge_costs)
    said = {name.removeprefix("4a/budget-"): (v.finding.estimate, v.verdict) for name, v in found.items() if v.finding}
    assert said["hours"] == (6 + 9 + 3 + 1 + 2, "supported")
    assert said["gpu-hours"] == (4 * 21, "not supported")
    assert said["configurations"] == (2 + 3 + 1 + 5 + 3, "supported")
    assert said["distinct"] == (13, "not supported"), "64 tokens with all fixes stand in two ablations"
    assert said["saved"] == (3, "not supported")
    assert (said["required"], said["optional"]) == ((4 * 3 + 1, "supported"), (4 * 3 + 1 + 2, "supported"))
    assert said["runs"] == (4, "supported")


def test_configurations_are_counted_in_the_preset(monkeypatch):
    some = presets.cells("4a_bridge", "full")[:-1]
    monkeypatch.setattr(presets, "cells", lambda *_: some)
    assert decided(bridge_costs)["4a/budget-runs"].verdict == "not supported"
    assert decided(bridge_costs)["4a/budget-distinct"].finding.estimate == 12


def test_cache_per_token_is_that_of_the_targets_grouped_heads():
    found = decided(bridge_costs)["4a/plan-kv-bytes"]
    assert (found.verdict, found.finding.estimate) == ("not supported", 2 * 32 * 8 * 128 * 2)
    assert "save 11,272,192 bytes" in found.finding.remark, "86 tokens of 131072 bytes"


@pytest.mark.parametrize("name", ["Qwen2.5-0.5B", "Qwen2.5-7B", "Qwen3-32B", "Llama-3.1-8B"])
def test_dimensions_agree_with_the_model_that_transformers_builds(name):
    import torch
    from transformers import AutoModelForCausalLM

    from lib.metrics.cost import ModelShape

    entry = registry.lookup(name)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(entry.config())
    tokens = 230
    assert dimensions.forward_flops(entry, tokens) == ModelShape.of(model).flops(tokens, tokens**2, tokens)
    projections = [m for n, m in model.named_modules() if n.endswith(("k_proj", "v_proj"))]
    assert dimensions.kv_bytes_per_token(entry) == sum(2 * m.out_features for m in projections)


def test_weights_and_cards():
    found = decided(scaling_costs)["1a3/memory-7B"]
    assert found.verdict == "supported"
    assert found.finding.estimate == pytest.approx(2 * 7.6156, rel=1e-4)
    cards = {name: (v.finding.estimate, v.verdict) for name, v in decided(specdec_costs).items()}
    assert cards == {
        "2a/cards-7B-8B": (1, "supported"),
        "2a/cards-32B": (2, "supported"),
        "2a/cards-70B-72B": (4, "supported"),
    }
    assert dimensions.cards(registry.lookup("Qwen2-72B"), 200) == 1
    assert dimensions.cards(registry.lookup("Qwen2-72B"), 100) == 2


def test_of_five_sizes_one_has_the_parameters_that_the_plan_names():
    found = decided(mazes_costs)
    fit = [name for name, v in found.items() if v.verdict == "supported"]
    assert fit == ["3a/parameters-xl"]
    assert "stack 396,948, poh 485,076" in found["3a/parameters-tiny"].finding.remark


def bridge_runs(each_hours: float, cards=(CARD,) * 4, **changes) -> pd.DataFrame:
    """Two finished trainings of the plan on four seeds."""
    rows = [
        {"run": label, "label": label, "seed": seed, "task": "gsm8k", "kind": "resampler", "stressor": ""}
        for label in ("1a_stable_64tok", "2a_stable_32tok")
        for seed in range(4)
    ]
    pair = {"source": "mistralai/Mistral-7B-Instruct-v0.3", "target": "meta-llama/Llama-3.1-8B-Instruct"}
    made = pd.DataFrame(rows).assign(stale=False, run_s=4 * 3600 * each_hours, **pair | changes)
    return made.assign(run_gpus=[cards] * len(made))


@pytest.mark.parametrize(("each", "verdict"), [(3.5, "supported"), (2.5, "supported"), (4.0, "not supported")])
def test_hours_of_a_training_are_those_of_its_runs_by_seed(each, verdict):
    found = decided(bridge_costs, bridge_runs(each))["4a/plan-hours-training"]
    assert (found.verdict, found.finding.estimate) == (verdict, pytest.approx(each))
    assert found.finding.runs == ("1a_stable_64tok", "2a_stable_32tok")


@pytest.mark.parametrize(
    "other",
    [
        {"cards": (CARD,)},
        {"cards": ("NVIDIA A100",) * 4},
        {"cards": ()},
        {"target": "bridge-target"},
    ],
)
def test_other_machines_and_models_say_nothing_of_the_plans_hours(other):
    assert decided(bridge_costs, bridge_runs(3.0, **other))["4a/plan-hours-training"].verdict == NOT_RUN


def maze_runs(minutes: float, peak: float = 8e9, cards=("Some card",), **changes) -> pd.DataFrame:
    """The plan's ten models on two seeds, alike but for their names."""
    rows = [
        {"run": f"{size}_{arm}", "size": size, "arch": arm, "seed": seed, "protocol": "result"}
        for size in mazes_costs.SIZES
        for arm in mazes_costs.ARMS
        for seed in range(2)
    ]
    took = {"train_s": 60.0 * minutes, "peak_memory_bytes": peak, "run_s": 1.0, "stale": False}
    made = pd.DataFrame(rows).assign(**took | mazes_costs.SETTING | changes)
    return made.assign(run_gpus=[cards] * len(made))


def test_maze_times_and_memory():
    def said(rows: pd.DataFrame) -> list[str]:
        found = decided(mazes_costs, rows)
        return [found[f"3a/{name}"].verdict for name in ("minutes-per-model", "hours-in-all", "memory-largest")]

    assert said(maze_runs(18)) == ["supported"] * 3, "ten times 18 minutes are three hours"
    assert said(maze_runs(10, peak=4e9)) == ["supported", "not supported", "not supported"]
    assert said(maze_runs(4)) == ["not supported", "not supported", "supported"]
    one = maze_runs(18)
    one.loc[one["size"] == "tiny", "train_s"] /= 10
    assert said(one)[0] == "not supported", "a model below the range"
    for nothing in (one[one["size"] != "xl"], maze_runs(18, cards=()), maze_runs(18, maze_size=6)):
        assert said(nothing) == [NOT_RUN] * 3


@pytest.mark.parametrize(
    ("took", "analysis", "benchmarks"), [(0.5, "supported", "not supported"), (2.2, "not supported", "supported")]
)
def test_hours_of_the_analysis_and_the_benchmarks(took, analysis, benchmarks):
    messages = wire_rows.rows(wire_rows.PLAN).query("protocol == 'message'")
    rows = messages.assign(run_s=3600 * took * messages.seed.nunique(), run_gpus=[(CARD,)] * len(messages))
    assert decided(wire_costs, rows)["4b/plan-hours"].verdict == analysis
    assert decided(inference_costs, rows)["4c/plan-hours"].verdict == benchmarks
    assert decided(wire_costs, messages)["4b/plan-hours"].verdict == NOT_RUN, "nothing is known of the machine"


def test_rows_are_told_what_their_runs_took(tmp_path):
    done = []
    for name, seconds, cards in (("a", 7.0, [CARD, CARD]), ("b", 9.0, [])):
        (tmp_path / name).mkdir()
        (tmp_path / name / "env.json").write_text(json.dumps({"gpus": cards}))
        done.append(Finished(tmp_path / name, {"seconds": seconds}, stale=False))
    rows = hours.timed(pd.DataFrame({"run": ["b", "a", "b"]}), done)
    assert rows.run_s.tolist() == [9.0, 7.0, 9.0]
    assert rows.run_gpus.tolist() == [(), (CARD, CARD), ()]
    assert hours.on_cards(rows, cards=2).run.tolist() == ["a"]
    for silent in ("", "{}", "[]", '{"gpus": null}'):
        (tmp_path / "a" / "env.json").write_text(silent)
        assert hours.timed(rows, done).run_gpus.tolist() == [()] * 3


class TestSmallModels:
    """1.A.3's estimates on models that have run."""

    SIZES = (50_000, 200_000, 800_000)

    def rows(self, saved=(0.1, 0.2, 0.4), naive_kv=1000, eab_kv=500, prompts=8, noise=0.01, rule=1.0):
        rng, made = np.random.default_rng(0), []
        for size, gain in zip(self.SIZES, saved, strict=True):
            for prompt in range(prompts):
                eab = (1.0 - gain + noise * rng.normal(), eab_kv * 2 ** (noise * rng.normal()))
                for arm, (seconds, kv) in (("naive", (1.0, naive_kv)), ("eab_sequential", eab)):
                    made.append((f"m{size}", size, prompt, arm, seconds, kv))
        frame = pd.DataFrame(made, columns=["model", "parameters", "prompt", "arm", "wall_s", "kv_bytes_per_sample"])
        frame = frame.assign(protocol="matched", dummy=False, stale=False, run=frame.model)
        return frame.assign(flops=frame.parameters, flops_2nd=rule * frame.parameters)

    @pytest.mark.parametrize(
        ("saved", "noise", "verdict"),
        [
            ((0.1, 0.2, 0.4), 0.01, "supported"),
            ((0.2, 0.2, 0.2), 0.01, "not supported"),
            ((0.4, 0.2, 0.1), 0.01, "not supported"),
            ((0.2, 0.25, 0.3), 0.4, "inconclusive"),
        ],
    )
    def test_time_saved(self, saved, noise, verdict):
        found = decided(scaling_costs, self.rows(saved, noise=noise))["1a3/time-saved"]
        assert found.verdict == verdict
        assert found.finding.low < (saved[-1] - saved[0]) / 4 < found.finding.high, "four doublings"

    @pytest.mark.parametrize(
        ("eab", "verdict"), [(500.0, "supported"), (1000.0, "not supported"), (2e3, "not supported")]
    )
    def test_memory_per_sample(self, eab, verdict):
        found = decided(scaling_costs, self.rows(eab_kv=eab))["1a3/memory-per-sample"]
        assert found.verdict == verdict
        assert found.finding.estimate == pytest.approx(1000 / eab, rel=0.02)

    @pytest.mark.parametrize(("rule", "verdict"), [(1.0, "supported"), (0.93, "supported"), (1.2, "not supported")])
    def test_operations(self, rule, verdict):
        found = decided(scaling_costs, self.rows(rule=rule))["1a3/flops"]
        assert (found.verdict, found.finding.estimate) == (verdict, pytest.approx(rule))
