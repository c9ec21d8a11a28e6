"""The growth benchmark measures the grid it promises or lists what it skipped, in an order that stays."""

import json
import types

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lib import paths, runs
from lib.bench import growth
from lib.bench.__main__ import app
from lib.figures import growth as figure
from lib.metrics import predictions
from lib.metrics.cost import Cost

SMALL = {"N": (1, 3), "P": (30, 40), "L": (2, 5), "prompts": (1, 2)}
BASE = {"N": 3, "P": 40, "L": 5, "prompts": 1}


@pytest.fixture
def bench(micro_path, tmp_path, monkeypatch):
    """The command on a small grid; returns its rows and its JSON object."""
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(growth, "AXES", SMALL)
    monkeypatch.setattr(growth, "BASE", BASE)

    def run(capsys, **options) -> tuple[pd.DataFrame, dict]:
        growth.command(model="ladder-micro", repeats=2, as_json=True, **options)
        return runs.load("bench/growth", tmp_path), json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def grid(axes: dict = SMALL) -> set[tuple]:
    """(axis, value, arm) of every place: arms of one prompt at a time have no place on the axis of prompts."""
    return {
        (axis, value, arm)
        for axis, values in axes.items()
        for value in values
        for arm in growth.ARMS
        if axis != "prompts" or arm in growth.TOGETHER
    }


def test_what_a_run_of_this_code_has_measured_is_kept_where_that_is_asked_for(bench, capsys, tmp_path):
    rows, _ = bench(capsys, budget=1000)
    growth.command(model="ladder-micro", repeats=2, keep=True)
    assert capsys.readouterr().out == f"Done already: {tmp_path / 'bench' / 'growth' / rows.run[0]}\n"
    growth.command(model="ladder-micro", repeats=1, keep=True, budget=1)
    assert runs.load("bench/growth", tmp_path).run.nunique() == 2


def test_the_whole_grid_is_measured_and_costs_what_the_formulas_say(bench, capsys):
    rows, report = bench(capsys, budget=1000)
    assert set(rows[["axis", "value", "arm"]].itertuples(index=False, name=None)) == grid()
    assert report["skipped"] == []
    assert (rows.wall_s > 0).all()
    for row in rows[rows.arm.isin(["naive", "batched", "tree"])].itertuples():
        size = row.prompt_tokens, row.max_new_tokens, row.num_samples
        rival = predictions.naive(*size) if row.arm == "naive" else predictions.batched(*size)
        if row.arm == "tree":
            assert row.prompts * row.prompt_tokens <= row.token_forwards <= row.prompts * rival.tokens
        else:
            assert row.token_forwards == row.prompts * rival.tokens
    repeats = rows.groupby(["axis", "value", "arm"]).repeat.max()
    assert set(repeats.xs("naive", level="arm")) == {0}
    assert set(repeats.drop("naive", level="arm")) == {1}
    assert report["token_forwards"]["P"]["naive"] == {"30": 3 * 34, "40": 3 * 44}
    assert set(report["seconds"]["prompts"]) == set(growth.TOGETHER)


def test_what_the_budget_leaves_out_is_listed_with_no_seconds(bench, capsys, monkeypatch):
    cost = {"naive": 1e9, "hf": 1e9}
    monkeypatch.setattr(growth.Point, "foretold", lambda self, base: cost.get(self.arm, 0.0))
    rows, report = bench(capsys, budget=1000.0)
    assert set(rows[["axis", "value", "arm"]].itertuples(index=False, name=None)) == grid()
    assert set(rows[rows.wall_s.isna()].arm) == {"naive", "hf"}
    assert report["skipped"] == [f"{arm} at {place}" for place in ("N = 1", "P = 30", "L = 2") for arm in cost]


def test_the_base_passes_stay_whatever_the_budget_and_everything_has_its_order(bench, capsys, monkeypatch):
    monkeypatch.setattr(growth.Point, "foretold", lambda self, base: 1e9)
    rows, report = bench(capsys, budget=1.0)
    timed = rows[rows.wall_s.notna()]
    base = {place for place in grid() if place[1] == BASE[place[0]]}
    assert sorted(timed[["axis", "value", "arm"]].itertuples(index=False, name=None)) == sorted(base)
    assert (timed.repeat == 0).all()
    assert not [name for name in report["skipped"] if name == "naive at N = 3"]
    assert list(report) == ["skipped", "seconds", "token_forwards", "kv_bytes"]
    for key in list(report)[1:]:
        assert list(report[key]) == list(SMALL)
        assert list(report[key]["N"]) == list(growth.ARMS)
    drawn = figure.growth(rows)
    assert "one pass of one prompt set" in drawn.caption
    plt.close("all")


def test_keys_come_in_order_though_passes_are_shuffled(bench, capsys):
    rows, report = bench(capsys, budget=1000)
    places = [(list(SMALL).index(r.axis), growth.ARMS.index(r.arm), r.value, r.repeat) for r in rows.itertuples()]
    assert places == sorted(places)
    assert len(places) == len(set(places)), "the base pass is stored once, and counts as the first of its repeats"
    assert list(report["seconds"]["L"]["tree"]) == ["2", "5"]


def test_every_family_of_shapes_is_met_before_anything_is_timed(bench, capsys, monkeypatch):
    met, run = [], growth._Job.run
    monkeypatch.setattr(growth._Job, "run", lambda self, point: (met.append(point), run(self, point))[1])
    bench(capsys, budget=1000)
    untimed = next(i for i, point in enumerate(met) if point.length == BASE["L"])
    seen = {(point.arm, point.n, point.prompts) for point in met[:untimed]}
    assert seen == {
        (arm, n, prompts)
        for arm in growth.ARMS
        for n in (1, 3)
        for prompts in (1, 2)
        if prompts == 1 or arm in growth.TOGETHER
    }


@pytest.mark.parametrize("option", ["--budget", "--repeats"])
def test_nothing_to_measure_is_refused(option):
    done = CliRunner().invoke(app, ["growth", option, "0"])
    assert done.exit_code == 2
    assert "equal to 1" in " ".join(done.output.replace("│", " ").split())


def test_a_point_lies_on_one_axis_and_the_base_on_all():
    points = growth.points(growth.ARMS)
    assert len(points) == len(set(points))
    places = [(axis, value, point.arm) for point in points for axis, value in point.places()]
    assert len(places) == len(set(places))
    assert set(places) == grid(growth.AXES)
    assert [(p.n, p.prompt_tokens, p.length, p.prompts) for p in points[: len(growth.ARMS)]] == [(20, 200, 30, 1)] * 6


def test_seconds_are_foretold_from_prefill_and_decode_apart():
    base = types.SimpleNamespace(cost=Cost(prefill_s=1.0, wall_s=3.0))
    assert growth.Point("naive", 20, 200, 30, 1).foretold(base) == 3.0
    assert growth.Point("naive", 40, 200, 30, 1).foretold(base) == 6.0, "naive prefills once per sample"
    assert growth.Point("batched", 40, 200, 30, 1).foretold(base) == 5.0
    assert growth.Point("batched", 20, 400, 30, 1).foretold(base) == 4.0
    assert growth.Point("batched", 20, 200, 59, 8).foretold(base) == pytest.approx(8 * 5.0)


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=20), st.integers(1, 4), st.floats(0, 60))
def test_passes_keep_to_the_budget_and_first_passes_go_before_repeats(costs, repeats, budget):
    seconds = {growth.Point("naive" if i % 3 == 0 else "tree", i, 200, 30, 1): c for i, c in enumerate(costs)}
    chosen, skipped = growth.choose(seconds, repeats, budget)
    spent = sum(seconds[point] for point, _ in chosen)
    assert spent <= budget + 1e-9
    first = {point for point, repeat in chosen if repeat == 0}
    assert first | set(skipped) == set(seconds)
    assert not first & set(skipped)
    assert all(point in first for point, _ in chosen)
    assert {repeat for point, repeat in chosen if point.arm == "naive"} <= {0}
    left = budget - sum(seconds[point] for point in first)
    assert all(seconds[point] > left - 1e-9 for point in skipped), "what is skipped would not have fitted"
