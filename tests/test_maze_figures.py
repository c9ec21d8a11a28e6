"""Figures of 3a from rows whose answers are known: artists, data, captions and the files of the plan, not pixels."""

import json
from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import maze_rows as synthetic
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from lib import figures
from lib.figures import (
    Drawn,
    Undrawable,
    mazes,
    mazes_pareto,
    mazes_plan,
    mazes_routing,
    mazes_summary,
    style,
)
from lib.figures import __main__ as cli
from lib.metrics import paired as pairing

NAMES = ("3a_scaling", "3a_pareto", "3a_training", "3a_refinement", "3a_larger", "3a_routing")
SIZES = ("nano", "micro", "mini")
ONE = ("mini",)  # as in the quick preset
PLAN_CONFIG = ["maze_size", "n_train", "n_test", "epochs", "R", "T", "seed"]
PLAN_RESULT = [
    "size", "d_model", "n_heads", "d_ff", "depth", "baseline_params", "baseline_acc", "baseline_opt", "poh_params",
    "poh_acc", "poh_opt", "poh_advantage_acc", "poh_advantage_opt",
]  # fmt: skip


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return synthetic.rows()


def draw(name: str, rows: pd.DataFrame, missing: tuple[str, ...] = ()) -> Drawn:
    return figures.specs()[name].draw(rows, missing)


@pytest.fixture(scope="module")
def drawn_of(rows) -> Callable[[str], Drawn]:
    """Each figure of `rows`, drawn once; a closed figure can still be read."""
    return cache(lambda name: draw(name, rows))


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def legend_labels(drawn) -> list[str]:
    return [text.get_text() for text in drawn.figure.legends[0].get_texts()]


def values(rows: pd.DataFrame, protocol: str, size: str, arm: str, value: str = "accuracy") -> np.ndarray:
    """A column of one model's rows over seeds, in percent, read without the code under test."""
    part = rows[(rows.protocol == protocol) & (rows["size"] == size) & (rows.arch == arm)]
    return 100 * part.sort_values("seed")[value].to_numpy(float)


def without(rows: pd.DataFrame, size: str, arm: str) -> pd.DataFrame:
    return rows[~((rows["size"] == size) & (rows.arch == arm))]


class TestEveryFigure:
    @pytest.mark.parametrize("name", NAMES)
    def test_lists_what_is_missing_on_figure_and_caption_and_says_n(self, name, rows):
        lacking = without(rows[rows["size"] != "nano"], "micro", "poh")
        drawn = draw(name, lacking[lacking.arch != "stack_flops"], ["nano_all"])
        said = "nano_all, poh (micro)" + (", stack_flops" if name != "3a_routing" else "")
        assert drawn.figure.get_suptitle() == f"No finished run: {said}"
        assert f"no finished run was found: {said}." in drawn.caption
        assert "Means over 3 seeds with 95 % t intervals over seeds" in drawn.caption
        assert "8 x 8 mazes, R = 4, T = 4" in drawn.caption
        assert any("seeds: n = 3" in ax.get_title("left") for ax in drawn.figure.axes)
        assert drawn.figure.get_size_inches()[0] == style.TEXT

    @pytest.mark.parametrize("name", NAMES)
    def test_of_one_size_and_one_seed_has_no_interval_and_says_so(self, name):
        drawn = draw(name, synthetic.rows(ONE, seeds=1))
        assert drawn.data[["low", "high"]].isna().all(axis=None)
        assert (drawn.data.n.dropna() == 1).all()
        assert "One seed per point, so no interval" in drawn.caption
        assert any("seeds: n = 1, no interval" in ax.get_title("left") for ax in drawn.figure.axes)
        assert drawn.figure.get_suptitle() == ""

    @pytest.mark.parametrize("name", NAMES)
    def test_refuses_rows_of_other_protocols_in_a_sentence(self, name, rows):
        for nothing in (rows.assign(protocol="audit"), rows[:0], pd.DataFrame()):
            with pytest.raises(Undrawable, match=r"python -m lib\.sweep 3a_poh_scaling") as refused:
                draw(name, nothing)
            assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_does_not_depend_on_the_order_of_rows(self, name):
        made = synthetic.rows(ONE)
        shuffled = draw(name, made.sample(frac=1, random_state=0))
        drawn = draw(name, made)
        pd.testing.assert_frame_equal(drawn.data, shuffled.data, check_exact=True)
        assert (drawn.caption, drawn.files) == (shuffled.caption, shuffled.files)

    def test_belongs_to_the_experiment(self):
        found = {name for name, spec in figures.specs().items() if spec.experiment == "3a_poh_scaling"}
        assert set(NAMES) <= found


class TestMeans:
    def test_are_over_seeds_with_scipys_t_interval(self, rows):
        table = mazes.over_seeds(mazes.protocol(rows, "result"), "accuracy").set_index(["size", "arch"])
        seeds = values(rows, "result", "micro", "poh")
        expected = distributions.t.interval(0.95, 2, seeds.mean(), distributions.sem(seeds))
        assert table.estimate["micro", "poh"] == pytest.approx(seeds.mean())
        assert (table.low["micro", "poh"], table.high["micro", "poh"]) == pytest.approx(expected)
        assert (table.n == 3).all()  # seeds, not 3 x 400 mazes

    def test_differences_are_within_seeds(self, rows):
        result = mazes.protocol(rows, "result")
        table = mazes.advantages(result, "accuracy").set_index(["size", "against"])
        paired = values(rows, "result", "mini", "poh") - values(rows, "result", "mini", "loop")
        expected = distributions.t.interval(0.95, 2, paired.mean(), distributions.sem(paired))
        assert (table.low["mini", "loop"], table.high["mini", "loop"]) == pytest.approx(expected)
        assert table.estimate["mini", "loop"] == pytest.approx(paired.mean())

    def test_only_seeds_that_both_arms_have_are_compared(self, rows):
        """A seed of easy mazes that only poh was run on must not count for it."""
        lacking = rows[~((rows.arch == "stack") & (rows.seed == 0))].copy()
        lacking.loc[(lacking.arch == "poh") & (lacking.seed == 0), "accuracy"] = 1.0
        table = mazes.advantages(mazes.protocol(lacking, "result"), "accuracy").set_index(["size", "against"])
        paired = (values(rows, "result", "nano", "poh") - values(rows, "result", "nano", "stack"))[1:]
        assert table.estimate["nano", "stack"] == pytest.approx(paired.mean())
        assert table.n["nano", "stack"] == 2

    @given(st.lists(st.floats(0, 100), min_size=2, max_size=9))
    def test_an_interval_holds_its_mean_and_moves_with_the_values(self, shares):
        found, moved = mazes.interval(shares), mazes.interval([share + 7 for share in shares])
        assert found["low"] <= found["estimate"] <= found["high"]
        assert found["n"] == len(shares)
        for name in ("estimate", "low", "high"):
            assert moved[name] == pytest.approx(found[name] + 7)


class TestSelection:
    def test_the_setting_of_most_models_is_drawn_and_the_rest_said(self, rows, drawn_of):
        other = synthetic.rows(ONE, maze_size=12)
        both = pd.concat([rows, other], ignore_index=True)
        drawn = draw("3a_scaling", both)
        assert "Left out, models of other settings: 15 of 12 x 12 mazes, R = 4, T = 4." in drawn.caption
        pd.testing.assert_frame_equal(drawn.data, drawn_of("3a_scaling").data)
        assert drawn.copies == ["scaling_plot_maze8.png"]

    def test_of_as_many_the_larger_mazes(self):
        both = [synthetic.results(ONE), synthetic.results(ONE, maze_size=12)]
        assert pairing.setting(pd.concat(both)).maze_size == pairing.setting(pd.concat(both[::-1])).maze_size == 12

    def test_every_kind_of_row_about_a_model_can_be_drawn(self):
        assert set(mazes.PROTOCOLS) == set(pairing.PROTOCOLS)

    def test_models_that_differ_in_something_else_are_not_averaged(self, rows):
        """As in a search over learning rates, whose cells share size, arm and seed."""
        twice = pd.concat([rows, rows.assign(run="other", accuracy=0.0)], ignore_index=True)
        for name in NAMES:
            with pytest.raises(Undrawable, match="trained more than once"):
                draw(name, twice)

    def test_rows_of_runs_without_a_model_do_not_count(self, rows, drawn_of):
        """A run's parameters are lists of sizes, arms and seeds; a row that names no model holds those."""
        noise = rows[:1].assign(protocol="data")
        noise = noise.astype(object).assign(size=[["mini"]], arch=[["poh"]], seed=[[1, 2]])
        pd.testing.assert_frame_equal(
            draw("3a_scaling", pd.concat([rows, noise])).data, drawn_of("3a_scaling").data, check_dtype=False
        )

    def test_sizes_and_arms_have_their_order(self, rows):
        shuffled = synthetic.results(synthetic.PLAN).sample(frac=1, random_state=1)
        assert mazes.sizes(shuffled) == list(synthetic.PLAN)
        assert mazes.arms(shuffled) == list(synthetic.ARMS)
        deeper = rows[~((rows["size"] == "nano") & (rows.arch != "stack_flops"))]
        deeper = deeper[deeper.protocol == "result"]  # nano's only arm has more parameters than micro's smallest
        assert deeper.groupby("size").parameters.min()["nano"] > deeper.groupby("size").parameters.min()["micro"]
        assert mazes.sizes(deeper) == list(SIZES)

    def test_colours_do_not_depend_on_which_arms_were_run(self, rows):
        assert mazes.looks(rows[rows.arch == "poh"])["poh"] == mazes.looks(rows)["poh"]

    def test_the_most_precise_size_is_that_of_most_models_then_the_largest(self, rows):
        assert mazes.precise(rows[rows["size"] != ""]) == "mini"
        many = pd.concat([synthetic.results(SIZES), synthetic.results(["nano"], seeds=30)])
        assert mazes.precise(many) == "nano"


class TestScaling:
    def test_draws_every_arm_at_its_parameters_on_a_log_axis(self, rows, drawn_of):
        accuracy, optimality, *_ = drawn_of("3a_scaling").figure.axes
        assert accuracy.get_xscale() == optimality.get_xscale() == "log"
        for arm in synthetic.ARMS:
            drawn = line(accuracy, arm)
            expected = [values(rows, "result", size, arm).mean() for size in SIZES]
            np.testing.assert_allclose(drawn.get_ydata(), expected)
            scale = synthetic.EXTRA_PARAMETERS[arm]
            np.testing.assert_allclose(drawn.get_xdata(), [round(synthetic.SIZES[s][-1] * scale) for s in SIZES])
        assert [tick.get_text() for tick in accuracy.get_xticklabels()] == [
            "nano\n6.0k",
            "micro\n13k",
            "mini\n22k",
            "\n84k",
        ]
        assert "mazes without loops: n = 400; seeds: n = 3" in accuracy.get_title("left")

    def test_shows_every_seed_behind_the_means(self, rows, drawn_of):
        accuracy = drawn_of("3a_scaling").figure.axes[0]
        dots = [found for found in accuracy.get_lines() if found.get_marker() == "."]
        single = np.sort(np.concatenate([found.get_ydata() for found in dots]))
        np.testing.assert_allclose(single, np.sort(100 * rows[rows.protocol == "result"].accuracy.to_numpy(float)))

    def test_optimality_is_that_of_mazes_with_loops_where_they_were_tested(self, rows, drawn_of):
        drawn = drawn_of("3a_scaling")
        optimality = drawn.figure.axes[1]
        assert "mazes with loops" in optimality.get_title("left")
        expected = [values(rows, "loops", size, "poh", "optimality").mean() for size in SIZES]
        np.testing.assert_allclose(line(optimality, "poh").get_ydata(), expected)
        alike = draw("3a_scaling", rows[rows.protocol != "loops"])
        assert "mazes without loops" in alike.figure.axes[1].get_title("left")
        assert "the right column repeats the left" in alike.caption
        np.testing.assert_allclose(
            line(alike.figure.axes[1], "poh").get_ydata(), line(drawn.figure.axes[0], "poh").get_ydata()
        )
        for caption in (drawn.caption, alike.caption):
            assert "coincide by construction" in caption

    def test_bars_show_their_sign_by_hatch_and_number(self):
        planted = {("mini", arm): share for arm, share in zip(synthetic.ARMS, (0.2, 0.7, 0.5, 0.6, 0.6), strict=True)}
        drawn = draw("3a_scaling", synthetic.rows(ONE, accuracy=planted, noise=0))
        _, _, accuracy, optimality = drawn.figure.axes
        for ax, factor in ((accuracy, 1), (optimality, synthetic.LOOPS_OPTIMAL)):
            expected = factor * np.array([40, -10, 10, 0])  # against stack, stack_params, loop, stack_flops
            np.testing.assert_allclose([bar.get_height() for bar in ax.patches], expected, atol=1e-9)
            assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, True, False, False]
            assert [text.get_text() for text in ax.texts] == [f"{points:+.1f}" for points in expected]
            assert all(
                text.xy[1] >= max(0, bar.get_height()) - 1e-9 for text, bar in zip(ax.texts, ax.patches, strict=True)
            )
            assert any(set(found.get_ydata()) == {0} for found in ax.get_lines())
        colours = mazes.looks(drawn.data)
        assert [bar.get_facecolor()[:3] for bar in accuracy.patches] == [colours[arm]["color"] for arm in mazes.AGAINST]
        assert "bar below zero" in legend_labels(drawn)

    def test_without_poh_there_are_levels_and_no_bars(self, rows):
        drawn = draw("3a_scaling", rows[rows.arch != "poh"])
        assert set(drawn.data.panel) == {"level"}
        for ax in drawn.figure.axes[2:]:
            assert not ax.patches
            assert [text.get_text() for text in ax.texts] == ["no arm to compare poh with"]
        assert "No finished run: poh" in drawn.figure.get_suptitle()

    def test_names_the_walkers_that_learn_nothing(self, rows, drawn_of):
        assert "bfs 100.0 %, manhattan 0.0 %, random 0.0 %" in drawn_of("3a_scaling").caption
        assert "walkers" not in draw("3a_scaling", rows[rows.protocol != "reference"]).caption


class TestMazesWithLoops:
    """Run parameter braid: test mazes themselves have loops, so nothing coincides by construction."""

    @pytest.fixture(scope="class")
    def braided(self, rows) -> pd.DataFrame:
        result = rows.protocol == "result"
        return rows.assign(braid=0.3, optimality=rows.optimality.where(~result, rows.optimality / 2))

    def test_optimality_is_that_of_the_test_mazes(self, braided):
        drawn = draw("3a_scaling", braided)
        accuracy, optimality, *_ = drawn.figure.axes
        for ax in (accuracy, optimality):
            assert ax.get_title("left").startswith("mazes with loops (braid 0.3): n = 400")
        expected = [values(braided, "result", size, "poh", "accuracy").mean() / 2 for size in SIZES]
        np.testing.assert_allclose(line(optimality, "poh").get_ydata(), expected)
        assert "Both are of mazes with loops (braid 0.3), on which the two can differ." in drawn.caption
        assert "construction" not in drawn.caption

    def test_the_plans_files_say_so(self, braided):
        found = mazes_plan.artefacts(braided)
        assert json.loads(found["scaling_results_maze8.json"])["config"]["braid"] == 0.3
        summary = found["scaling_summary_maze8.txt"]
        assert "Mazes have loops (braid 0.3), so optimality can be below accuracy." in summary
        assert "construction" not in summary

    def test_rows_without_the_parameter_are_of_mazes_without_loops(self, rows, drawn_of):
        same = draw("3a_scaling", rows.assign(braid=0.0))
        assert (same.caption, same.files) == (drawn_of("3a_scaling").caption, drawn_of("3a_scaling").files)
        summary = same.files["scaling_summary_maze8.txt"]
        assert "Optimality equals accuracy by construction on these mazes, which have no loops." in summary

    def test_sizes_may_differ_in_it(self, rows):
        mixed = rows.assign(braid=np.where(rows["size"] == "mini", 0.5, 0.0))
        drawn = draw("3a_scaling", mixed)
        kind = "mazes with and without loops (braid 0, 0.5)"
        assert drawn.figure.axes[0].get_title("left").startswith(kind)
        assert f"Both are of {kind}" in drawn.caption
        assert "Mazes have loops (braid 0.0, 0.5)" in drawn.files["scaling_summary_maze8.txt"]


class TestPlan:
    def test_json_has_the_plans_keys_in_its_order(self, rows):
        found = json.loads(mazes_plan.artefacts(rows)["scaling_results_maze8.json"])
        assert list(found["config"])[: len(PLAN_CONFIG)] == PLAN_CONFIG
        assert found["config"] | dict(zip(PLAN_CONFIG, (8, 1000, 400, 5, 4, 4, 0), strict=True)) == found["config"]
        assert found["config"]["seeds"] == [0, 1, 2]
        assert [row["size"] for row in found["results"]] == list(SIZES)
        for row in found["results"]:
            assert list(row)[: len(PLAN_RESULT)] == PLAN_RESULT
            assert tuple(row[name] for name in PLAN_RESULT[1:5]) == synthetic.SIZES[row["size"]][:4]

    def test_json_holds_percentages_over_seeds(self, rows):
        row = json.loads(mazes_plan.artefacts(rows)["scaling_results_maze8.json"])["results"][1]
        poh, stack = (values(rows, "result", "micro", arm) for arm in ("poh", "stack"))
        assert row["poh_acc"] == row["poh_opt"] == pytest.approx(poh.mean(), rel=1e-5)
        assert row["baseline_acc"] == pytest.approx(stack.mean(), rel=1e-5)
        assert row["poh_advantage_acc"] == pytest.approx((poh - stack).mean(), rel=1e-5)
        assert row["baseline_params"] == 13_000
        assert row["advantages"]["loop"]["accuracy"]["estimate"] < 0 < row["advantages"]["stack"]["accuracy"]["low"]
        assert row["arms"]["stack_flops"]["depth"] == 8
        assert row["arms"]["loop"]["accuracy"]["n"] == 3
        assert row["arms"]["poh"]["optimality_loops"]["estimate"] == pytest.approx(0.75 * row["poh_acc"], rel=1e-5)

    def test_a_missing_arm_is_null_and_the_shape_is_still_the_sizes(self, rows):
        lacking = without(without(rows, "nano", "poh"), "micro", "stack")
        nano, micro, _ = json.loads(mazes_plan.artefacts(lacking)["scaling_results_maze8.json"])["results"]
        assert [nano[key] for key in PLAN_RESULT[8:]] == [None] * 5
        assert nano["baseline_acc"] is not None
        assert [micro[key] for key in ("baseline_params", "baseline_acc", "poh_advantage_acc")] == [None] * 3
        assert (micro["poh_params"], micro["d_ff"], micro["depth"]) == (15_665, 48, 2)
        summary = mazes_plan.artefacts(lacking)["scaling_summary_maze8.txt"]
        assert "nano      | 6.0k/-" in summary
        assert "- / - " not in summary.split("All arms")[1]

    def test_counts_that_differ_are_all_said(self, rows):
        uneven = rows.assign(train_mazes=rows.train_mazes.where(rows.seed != 1, 900))
        found = json.loads(mazes_plan.artefacts(uneven)["scaling_results_maze8.json"])
        assert found["config"]["n_train"] == [900, 1000]

    def test_json_has_no_nan_even_of_one_seed_with_nothing_but_results(self):
        text = mazes_plan.artefacts(synthetic.results(ONE, seeds=1))["scaling_results_maze8.json"]
        assert "NaN" not in text
        found = json.loads(text)
        assert found["config"]["epochs"] is None
        assert found["results"][0]["arms"]["poh"]["accuracy"]["low"] is None
        assert found["references"] == {}

    def test_summary_has_the_table_all_arms_and_findings(self, rows):
        text = mazes_plan.artefacts(rows)["scaling_summary_maze8.txt"]
        assert max(map(len, text.splitlines())) <= 120
        assert "8 x 8, 1000 for training, 400 for the test" in text
        assert "5 epochs; seeds 0, 1, 2" in text
        poh, stack = (values(rows, "result", "mini", arm) for arm in ("poh", "stack"))
        cells = f"{stack.mean():.1f} / {poh.mean():.1f} / {(poh - stack).mean():+.1f}"
        (table_row,) = [found for found in text.splitlines() if found.startswith("mini      |")]
        assert [cell.strip() for cell in table_row.split("|")] == ["mini", "22k/27k", cells, cells]
        assert (
            len([found for found in text.splitlines() if found.startswith(("nano  ", "micro  ", "mini  "))]) == 3 + 15
        )
        average = np.mean([values(rows, "result", s, "poh") - values(rows, "result", s, "loop") for s in SIZES], axis=0)
        low, high = distributions.t.interval(0.95, 2, average.mean(), distributions.sem(average))
        said = f"accuracy {average.mean():+.1f} [{low:+.1f}, {high:+.1f}]"
        assert f"PoH minus loop         points, mean of 3 size(s): {said}" in text
        best = max(values(rows, "result", s, "poh").mean() for s in SIZES)
        assert f"Best accuracy of PoH: {best:.1f} % (poh, size mini, 27k parameters)" in text
        assert "Target and actual" not in text

    def test_summary_sets_the_plans_targets_beside_the_counts(self):
        from lib.models.maze_sizes import SIZES as MODELS

        text = mazes_plan.artefacts(synthetic.rows(synthetic.PLAN, seeds=2))["scaling_summary_maze8.txt"]
        assert "tiny      |   1,000,000 |        463,000 (0.46x) |        557,915 (0.56x)" in text
        assert {name: size.target for name, size in MODELS.items() if size.target} == mazes_summary.TARGETS

    def test_come_with_the_figure_and_the_four_panels_under_the_plans_name(self, drawn_of):
        drawn = drawn_of("3a_scaling")
        assert set(drawn.files) == {"scaling_results_maze8.json", "scaling_summary_maze8.txt"}
        assert drawn.copies == ["scaling_plot_maze8.png"]
        assert len(drawn.figure.axes) == 4

    def test_the_command_names_the_further_files(self, rows, tmp_path, capsys, monkeypatch):
        def with_files(*_) -> Drawn:
            return Drawn(style.new(1, 1)[0], pd.DataFrame(), "Nothing.", {"more.txt": ""}, ["copy.png"])

        def alone(*_) -> Drawn:
            return Drawn(style.new(1, 1)[0], pd.DataFrame(), "Nothing.")

        specs = {draw.__name__: figures.Spec(draw.__name__, "3a_poh_scaling", draw) for draw in (with_files, alone)}
        monkeypatch.setattr(cli.figures, "specs", lambda: specs)
        monkeypatch.setattr(cli.paper.results, "grid_rows", lambda *_: (rows, []))
        cli.draw(names=list(specs), preset="", set_=None, runs_dir=tmp_path, out=tmp_path)
        assert capsys.readouterr().out.splitlines() == [
            f"{tmp_path / 'with_files.pdf'} (+ .png .csv .txt .json, more.txt, copy.png), preset quick",
            f"{tmp_path / 'alone.pdf'} (+ .png .csv .txt .json), preset quick",
        ]

    def test_files_and_copies_are_saved_beside_a_figure_and_the_same_twice(self, tmp_path):
        for folder in ("a", "b"):
            figure, _ = style.new(1, 1)
            drawn = Drawn(figure, pd.DataFrame({"x": [1]}), "Nothing.", {"more.txt": "ü\n"}, ["copy.png"])
            saved = style.save(drawn, "fig", tmp_path / folder, "commit abc")
            assert sorted(saved) == sorted((tmp_path / folder).iterdir())
        assert {path.name for path in saved} == {"more.txt", "copy.png", "fig.pdf", "fig.png", "fig.csv", "fig.txt"}
        for path in saved:
            assert (tmp_path / "a" / path.name).read_bytes() == path.read_bytes()
        assert (tmp_path / "a" / "copy.png").read_bytes() == (tmp_path / "a" / "fig.png").read_bytes()
        assert (tmp_path / "a" / "more.txt").read_text(encoding="utf-8") == "ü\n"
        assert plt.imread(tmp_path / "a" / "copy.png").shape[:2] == (300, 300)


class TestPareto:
    def test_curves_are_accuracy_against_flops_of_the_training(self, rows, drawn_of):
        (ax,) = drawn_of("3a_pareto").figure.axes
        assert ax.get_xscale() == "log"
        for arm in synthetic.ARMS:
            flops = [rows[(rows["size"] == s) & (rows.arch == arm)].train_flops.iloc[0] for s in SIZES]
            np.testing.assert_allclose(line(ax, arm).get_xdata(), flops)
        faint = [found for found in ax.get_lines() if found.get_label() == "_during training"]
        assert len(faint) == len(SIZES) * len(synthetic.ARMS)
        assert all(len(found.get_xdata()) == synthetic.EPOCHS for found in faint)

    def test_the_front_is_marked_and_named(self, drawn_of):
        drawn = drawn_of("3a_pareto")
        best = drawn.data[drawn.data.front.astype(bool)]
        ringed = line(drawn.figure.axes[0], "_on the front")
        np.testing.assert_allclose(np.sort(ringed.get_xdata()), np.sort(best.flops))
        assert set(best.measure) == {"test"}
        named = drawn.caption.split("ignores their intervals: ")[1].split(". ")[0]
        assert set(named.split(", ")) == {f"{row.arch} {row.size}" for row in best.itertuples()}
        assert "loop mini" in named
        assert "poh mini" not in named  # loop is cheaper and better here

    @given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=12))
    def test_no_point_on_the_front_is_beaten_and_every_other_is(self, both):
        flops, shares = zip(*both, strict=True)
        on = mazes_pareto.front(flops, shares)
        for (flop, share), best in zip(both, on, strict=True):
            beaten = any((f <= flop and a > share) or (f < flop and a >= share) for f, a in both)
            assert best != beaten
        assert any(on)

    def test_draws_without_epochs(self, rows):
        assert set(draw("3a_pareto", rows[rows.protocol != "epoch"]).data.measure) == {"test"}


class TestTraining:
    def test_a_panel_per_size_with_both_losses_and_a_band(self, rows, drawn_of):
        drawn = drawn_of("3a_training")
        assert [ax.get_title("left").split(";")[0] for ax in drawn.figure.axes] == list(SIZES)
        ax = drawn.figure.axes[-1]
        for label, column in (("poh", "val_loss"), ("_poh, training", "loss")):
            part = rows[(rows.protocol == "epoch") & (rows["size"] == "mini") & (rows.arch == "poh")]
            expected = part.groupby("epoch")[column].mean()
            np.testing.assert_allclose(line(ax, label).get_ydata(), expected)
            np.testing.assert_allclose(line(ax, label).get_xdata(), expected.index)
        assert len(ax.collections) == len(synthetic.ARMS)
        assert line(ax, "poh").get_linewidth() > line(ax, "_poh, training").get_linewidth()


class TestRefinement:
    def test_trained_and_further_refinements_are_told_apart(self, drawn_of):
        drawn = drawn_of("3a_refinement")
        ax = drawn.figure.axes[0]
        inside, further = line(ax, "poh"), line(ax, "_poh, beyond R")
        assert (inside.get_linestyle(), further.get_linestyle()) == ("-", "--")
        assert list(inside.get_xdata()) == [1, 2, 3, 4]
        assert list(further.get_xdata()) == [4, 5, 6, 7, 8]
        assert further.get_markerfacecolor() == "white"
        (grey,) = ax.patches
        assert (grey.get_x(), grey.get_x() + grey.get_width()) == (4.5, 8.5)
        assert set(drawn.data[~drawn.data.trained].arch) == {"loop", "poh"}

    def test_arms_without_recurrence_end_at_their_read_outs(self, rows, drawn_of):
        ax = drawn_of("3a_refinement").figure.axes[0]
        assert list(line(ax, "stack").get_xdata()) == [1, 2]  # two blocks
        assert list(line(ax, "stack_flops").get_xdata()) == [1, 2, 3, 4]
        final = values(rows, "result", "nano", "stack").mean()
        assert line(ax, "stack").get_ydata()[-1] == pytest.approx(final)

    def test_without_recurrent_arms_nothing_lies_beyond(self, rows):
        (ax, *_) = draw("3a_refinement", rows[~rows.arch.isin(synthetic.RECURRENT)]).figure.axes
        assert not ax.patches


class TestLarger:
    def test_sides_at_r_and_at_2r_with_the_training_side_marked(self, rows, drawn_of):
        drawn = drawn_of("3a_larger")
        left, _ = drawn.figure.axes
        np.testing.assert_allclose(line(left, "loop").get_xdata(), [8, 10, 12])
        mean = values(rows, "result", "mini", "loop").mean()
        np.testing.assert_allclose(line(left, "loop").get_ydata(), [mean, mean / 2, mean / 4])
        expected = [share + 0.1 * (100 - share) for share in (mean, mean / 2, mean / 4)]
        np.testing.assert_allclose(line(left, "_loop at 2R").get_ydata(), expected)
        assert line(left, "_loop at 2R").get_linestyle() == "--"
        assert not any(found.get_label() == "_stack at 2R" for found in left.get_lines())
        assert any(list(found.get_xdata()) == [8, 8] and found.get_linestyle() == ":" for found in left.get_lines())
        assert "mazes: n = 400; seeds: n = 3" in left.get_title("left")
        assert "In the plotted data only: nano, micro." in drawn.caption
        assert set(drawn.data["size"]) == set(SIZES)

    def test_bins_of_length_that_differ_between_seeds_are_averaged_by_rank(self, rows, drawn_of):
        drawn = drawn_of("3a_larger")
        _, right = drawn.figure.axes
        mean = values(rows, "result", "mini", "stack_flops").mean()
        np.testing.assert_allclose(line(right, "stack_flops").get_ydata(), [mean, 0.8 * mean, 0.5 * mean])
        middles = [27.5, (31 + 40 + 2 / 3) / 2, (41 + 2 / 3 + 64) / 2]  # the second of three seeds has its edge at 42
        np.testing.assert_allclose(line(right, "stack_flops").get_xdata(), middles)
        assert "mazes: n = 100; seeds: n = 3" in right.get_title("left")
        assert set(drawn.data[drawn.data.measure == "accuracy by length"].n) == {3}

    def test_draws_without_bins(self, rows):
        drawn = draw("3a_larger", rows[rows.protocol != "length"])
        assert "no rows by length of the path" in [text.get_text() for text in drawn.figure.axes[1].texts]


class TestRouting:
    def test_entropy_by_refinement_a_line_per_size(self, drawn_of):
        left, _ = drawn_of("3a_routing").figure.axes
        for size in SIZES:
            np.testing.assert_allclose(line(left, size).get_ydata(), 1 - 0.05 * np.arange(1, 9))

    def test_heads_are_ranked_within_a_model_before_they_are_averaged(self):
        """Two seeds that use one head each, but not the same one: by name the heads would look alike."""
        made = synthetic.rows(ONE, seeds=2)
        first = made.head_share.notna() & (made.seed == 0)
        made["head_share"] = [
            None if not isinstance(shares, list) else [0.7, 0.1, 0.1, 0.1] if own else [0.1, 0.1, 0.1, 0.7]
            for shares, own in zip(made.head_share, first, strict=True)
        ]
        _, right = draw("3a_routing", made).figure.axes
        np.testing.assert_allclose(line(right, "mini").get_ydata(), [2.8, 0.4, 0.4, 0.4])

    def test_shares_are_those_of_the_last_trained_refinement(self, rows):
        sharper = rows.assign(
            head_share=[
                [1.0] + [0.0] * (len(shares) - 1) if isinstance(shares, list) and step > synthetic.R else shares
                for shares, step in zip(rows.head_share, rows.refinement, strict=True)
            ]
        )
        _, right = draw("3a_routing", sharper).figure.axes
        np.testing.assert_allclose(line(right, "mini").get_ydata(), [1.6, 1.2, 0.8, 0.4])

    def test_needs_a_model_that_routes(self, rows):
        with pytest.raises(Undrawable, match="arm poh"):
            draw("3a_routing", rows[rows.arch != "poh"])
        assert mazes_routing.FIGURES.keys() == {"3a_routing"}
