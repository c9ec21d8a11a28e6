"""The benchmark of the sweep itself: real processes, real runs, few of them; its keys and what they are medians of."""

import io
import json
from contextlib import redirect_stdout

import pytest

from lib import paths, provenance, runs
from lib.bench import sweep as bench


def test_it_sweeps_loads_prints_json_last_and_keeps_its_rows(monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(bench, "OPENED", 2)
    out = io.StringIO()
    with redirect_stdout(out):
        bench.command(cells=2, loaded=5, repeats=2, as_json=True)
    report, rows = json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/sweep", tmp_path)
    assert list(rows.part.value_counts().sort_index().items()) == [
        ("load", 2),
        ("opening", 2),
        ("planning", 1),
        ("summaries", 2),
        ("sweeping", 1),
    ]
    assert set(rows.n[rows.part == "load"]) == {5}
    spent = rows[rows.part.isin(["planning", "sweeping"])].seconds.sum()
    assert report["overhead_ms_per_cell"] == pytest.approx(1000 * spent / 2)
    assert report["load_10k_runs_s"] == rows[rows.part == "load"].seconds.median() > 0
    assert set(rows.cells) == {2}
    assert set(rows.runs) == {5}


def test_what_is_loaded_are_runs_of_their_own_and_whole(monkeypatch, tmp_path):
    monkeypatch.setattr(provenance, "environment", lambda *_: {"git": {"commit": None, "dirty": None}})
    bench._fill(4, tmp_path)
    table = runs.load("bench/sweep", tmp_path)
    assert sorted(table.groupby("seed").size().items()) == [(seed, bench.ROWS) for seed in range(4)]


def test_a_sweep_that_loses_a_cell_is_no_measurement(monkeypatch, tmp_path):
    monkeypatch.setattr(bench.loop, "run_all", lambda *_: bench.loop.Queue([], None))
    monkeypatch.setattr(bench, "OPENED", 0)
    with pytest.raises(RuntimeError, match="did not complete its 3 cells"):
        bench.sweep(3, tmp_path / "cells")
