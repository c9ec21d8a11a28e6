"""The sampling benchmark: its ratios are what they say, and it stores what it measured."""

import json

import pandas as pd
import pytest

from lib import generators, paths, runs
from lib.bench import sampling


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


def test_the_benchmark_runs_prints_json_last_and_keeps_a_run(micro_path, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    sampling.command(models=["ladder-micro"], prompts=1, repeats=1, as_json=True)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(report) == {
        *(f"speedup_vs_{base}" for base in sampling.BASELINES),
        *("token_forwards", "kv_bytes_vs_naive"),
    }
    assert set(generators.NAMES) <= set(report["speedup_vs_naive"])
    assert report["speedup_vs_naive"]["naive"] == {"ladder-micro": 1.0}
    rows = runs.load("bench/sampling", tmp_path)
    assert set(rows.protocol) == {"fixed"}
    measured = rows[rows.arm == "batched"].token_forwards.iloc[0]
    assert report["token_forwards"]["batched"]["ladder-micro"] == pytest.approx(measured)
