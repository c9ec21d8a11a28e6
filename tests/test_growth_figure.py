"""The growth figure shows the formulas and where trees begin to win, and refuses what it cannot draw."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import runs
from lib.bench.growth import ARMS, TOGETHER
from lib.figures import __main__ as cli
from lib.figures import growth as figure


@pytest.fixture
def synthetic() -> pd.DataFrame:
    """Rows of arms that cost a microsecond per token-forward, with a fixed 0.01 s per job on top for batched."""
    base, made = {"N": 20, "P": 200, "L": 30, "prompts": 1}, []
    axes = {"N": (5, 20, 80), "P": (50, 200, 800), "L": (10, 30), "prompts": (1, 4)}
    places = [(axis, value, arm) for axis, values in axes.items() for value in values for arm in ARMS]
    for axis, value, arm in sorted(place for place in places if place[0] != "prompts" or place[2] in TOGETHER):
        sizes = base | {axis: value}
        n, p, new, prompts = sizes.values()
        decode = {"naive": n * (new - 1), "hf": n * (new - 1), "tree": n * (new - 1) / 2}.get(arm, n * (new - 1))
        tokens = prompts * (decode + (n * p if arm in ("naive", "hf") else p))
        for repeat, wobble in enumerate([1.0, 0.9, 1.3]):
            made.append(
                {"axis": axis, "value": value, "arm": arm, "num_samples": n, "prompt_tokens": p, "max_new_tokens": new}
                | {
                    "prompts": prompts,
                    "decode_tokens": prompts * decode,
                    "repeat": repeat,
                    "model": "m",
                    "dummy": False,
                }
                | {"wall_s": (1e-6 * tokens + (0.01 if arm == "batched" else 0)) * wobble}
            )
    rows = pd.DataFrame(made)
    gone = (rows.arm == "naive") & (rows.axis == "N") & (rows.value == 80)
    return rows.assign(wall_s=rows.wall_s.mask(gone)).drop(rows.index[gone & (rows.repeat > 0)])


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def test_formula_lines_meet_the_measurement_at_the_base_and_only_there_if_something_else_costs(synthetic):
    drawn = figure.growth(synthetic)
    assert [ax.get_xlabel() for ax in drawn.figure.axes] == list(figure.AXES.values())
    assert {(ax.get_xscale(), ax.get_yscale()) for ax in drawn.figure.axes} == {("log", "log")}
    table = drawn.data.set_index(["axis", "arm", "value"]).sort_index()
    for arm in ("tree", "hf", "eab"):
        assert table.xs(arm, level="arm").eval("formula / seconds").to_numpy() == pytest.approx(1.0), arm
    batched = table.loc["N", "batched"]
    scale = (780e-6 + 0.01) / 780
    np.testing.assert_allclose(batched.formula, [scale * (200 + n * 29) for n in (5, 20, 80)])
    np.testing.assert_allclose(batched.seconds, [1e-6 * (200 + n * 29) + 0.01 for n in (5, 20, 80)])
    np.testing.assert_allclose(batched.high / batched.low, 1.3 / 0.9)
    ax = drawn.figure.axes[0]
    np.testing.assert_allclose(line(ax, "tree").get_ydata(), line(ax, "tree formula").get_ydata())
    assert len(line(ax, "naive").get_xdata()) == 2
    plt.close("all")


def test_seconds_are_per_prompt_and_trees_use_their_measured_live_prefixes(synthetic):
    table = figure.medians(synthetic).set_index(["axis", "arm", "value"]).sort_index()
    np.testing.assert_allclose(table.loc["prompts", "bifurcated"].seconds, 780e-6)
    assert table.loc["N", "tree", 20].token_forwards == 200 + 20 * 29 / 2


def test_skipped_points_are_named_on_the_figure_and_gains_in_the_caption(synthetic):
    drawn = figure.growth(synthetic)
    assert "naive 80" in drawn.figure.axes[0].get_title()
    assert drawn.figure.axes[1].get_title() == ""
    assert "naive at N = 80" in drawn.caption
    gain = (200 + 80 * 29 + 1e4) / (200 + 80 * 29 / 2)
    assert f"{gain:.2f} at 80)" in drawn.caption
    plt.close("all")


def test_the_smallest_value_at_which_the_tree_is_faster_is_in_caption_and_data(synthetic):
    """Made: tree takes T / 2 of batched's decode tokens T, and batched a hundredth of a second more."""
    slow = synthetic.assign(wall_s=synthetic.wall_s.mask((synthetic.arm == "tree") & (synthetic.axis == "N"), 1e-4))
    late = (slow.arm == "tree") & (slow.axis == "N") & (slow.value < 80)
    slow = slow.assign(wall_s=slow.wall_s.mask(late, 1.0))
    drawn = figure.growth(slow)
    ends = drawn.data.groupby("axis").tree_faster_from.unique()
    assert ends["N"].tolist() == [80]
    assert "N = 80 (" in drawn.caption
    never = slow.assign(wall_s=slow.wall_s.mask(slow.arm == "tree", 1.0))
    drawn = figure.growth(never)
    assert drawn.data.tree_faster_from.isna().all()
    assert "N none (" in drawn.caption
    back = slow.assign(wall_s=slow.wall_s.mask(late & (slow.value == 5), 1e-4))
    assert "N = 5, but not at 20 (" in figure.growth(back).caption
    without = figure.growth(synthetic[synthetic.arm != "tree"])
    assert without.data.tree_faster_from.isna().all()
    assert "tree is faster" not in without.caption
    assert list(drawn.data.axis.unique()) == list(figure.AXES)
    plt.close("all")


def test_a_run_that_cannot_be_drawn_is_refused_in_one_sentence(synthetic, tmp_path):
    base = figure.base_point(synthetic)
    off = synthetic.assign(wall_s=synthetic.wall_s.mask(synthetic.value == synthetic.axis.map(base)))
    for rows in (synthetic.assign(wall_s=np.nan), synthetic[synthetic.axis == "N"], synthetic[["run"][:0]], off):
        with pytest.raises(cli.figures.Undrawable, match="no timed pass"):
            figure.growth(rows)
    run = runs.open_run("bench/growth", {"model": "ladder-60k", "runs_dir": str(tmp_path)})
    for row in synthetic.where(synthetic.notna(), None).to_dict("records"):
        run.measure(**row | {"wall_s": None})
    run.finish({})
    options = {"preset": "", "set_": None, "runs_dir": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(cli.ParameterError, match="no timed pass"):
        cli.draw(names=["1a3_growth"], **options)


def test_figures_without_runs_are_left_out_in_one_line_unless_they_were_asked_for(
    synthetic, tmp_path, capsys, monkeypatch
):
    names = ("1a3_growth", "2a_speedup", "2a_batch")
    spec = {name: cli.figures.specs()[name] for name in names}
    monkeypatch.setattr(cli.figures, "specs", lambda: spec)
    options = {"preset": "", "set_": None, "runs_dir": tmp_path, "out": tmp_path / "out"}
    with pytest.raises(cli.ParameterError, match=r"lib\.bench growth"):  # there is nothing at all to draw
        cli.draw(names=None, **options)
    assert not (tmp_path / "out").exists()
    run = runs.open_run("bench/growth", {"model": "ladder-60k", "runs_dir": str(tmp_path)})
    for row in synthetic.where(synthetic.notna(), None).to_dict("records"):
        run.measure(**row)
    run.finish({})
    capsys.readouterr()
    cli.draw(names=None, **options)
    drawn, said = capsys.readouterr().out.splitlines()
    assert "1a3_growth.pdf" in drawn
    assert said.startswith("Left out: 2a_speedup, 2a_batch. There are 0 finished runs of 2a_specdec")
    with pytest.raises(cli.ParameterError):
        cli.draw(names=["2a_batch"], **options)


def test_a_benchmark_is_drawn_from_its_newest_run(synthetic, tmp_path):
    settings = {"arms": ["naive", "eab"], "runs_dir": str(tmp_path)}
    for model in ("ladder-60k", "ladder-1m"):
        run = runs.open_run("bench/growth", settings | {"model": model})
        for row in synthetic.where(synthetic.notna(), None).to_dict("records"):
            run.measure(**row | {"model": model})
        run.finish({})
    cli.draw(names=["1a3_growth"], preset="", set_=None, runs_dir=tmp_path, out=tmp_path / "out")
    assert "ladder-1m" in (tmp_path / "out" / "1a3_growth.txt").read_text()
    assert run.dir.name in (tmp_path / "out" / "1a3_growth.txt").read_text()
