"""Figures of 2a from rows whose answers are known: artists, data and captions, not pixels."""

from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import specdec_rows as synthetic

from lib import figures
from lib.figures import (
    Undrawable,
    specdec,
    specdec_categories,
    specdec_positions,
    specdec_predicted,
    specdec_replay,
    specdec_speedup,
    style,
)
from lib.metrics import stats

NAMES = ("2a_speedup", "2a_batch", "2a_positions", "2a_categories", "2a_predicted", "2a_replay")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def every_row(**options: object) -> pd.DataFrame:
    parts = [synthetic.latency_rows(**options), synthetic.throughput_rows()]
    parts += [synthetic.cost_rows(), synthetic.trace_rows()]
    return pd.concat(parts, ignore_index=True)


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def legend_labels(drawn) -> list[str]:
    return [text.get_text() for text in drawn.figure.legends[0].get_texts()]


class TestEveryFigure:
    @pytest.mark.parametrize("name", NAMES)
    def test_lists_missing_cells_and_random_weights_on_figure_and_caption(self, name):
        rows = every_row()
        rows.loc[rows.model == "ladder-3m", "dummy"] = True
        drawn = figures.specs()[name].draw(rows, ["qwen2_72b_eagle"])
        assert drawn.figure.get_suptitle() == ("No finished run: qwen2_72b_eagle\nRandom weights, cost only: ladder-3m")
        assert "qwen2_72b_eagle" in drawn.caption
        assert "Random weights, cost only: ladder-3m" in drawn.caption
        assert "95 %" in drawn.caption
        assert drawn.figure.get_size_inches()[0] == style.TEXT

    @pytest.mark.parametrize("name", NAMES)
    def test_refuses_rows_of_other_protocols_in_a_sentence(self, name):
        rows = every_row().assign(protocol="audit")
        for nothing in (rows, rows[:0], pd.DataFrame()):
            with pytest.raises(Undrawable, match=r"python -m lib\.sweep 2a_specdec") as refused:
                figures.specs()[name].draw(nothing, [])
            assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_is_the_same_bytes_for_the_same_rows_in_any_order(self, name, tmp_path):
        rows = every_row().query("model == 'ladder-3m'")
        drawn = {folder: figures.specs()[name].draw(rows, []) for folder in ("a", "b")}
        for folder in drawn:
            style.save(drawn[folder], "fig", tmp_path / folder, "commit abc")
        for ending in ("pdf", "png", "csv", "txt"):
            assert (tmp_path / "a" / f"fig.{ending}").read_bytes() == (tmp_path / "b" / f"fig.{ending}").read_bytes()
        shuffled = figures.specs()[name].draw(rows.sample(frac=1, random_state=0), []).data
        keys = [column for column in shuffled if not pd.api.types.is_float_dtype(shuffled[column])]
        tables = (table.sort_values(keys, ignore_index=True) for table in (drawn["a"].data, shuffled))
        pd.testing.assert_frame_equal(*tables, rtol=1e-9)

    def test_belongs_to_the_experiment(self):
        found = {name: spec for name, spec in figures.specs().items() if spec.experiment == "2a_specdec"}
        assert set(found) == {*NAMES, "2a_table"}


class TestSpeedups:
    def test_are_ratios_within_a_request_and_medians_over_repeats(self):
        rows = synthetic.latency_rows(repeats=3)
        rows.loc[rows.repeat == 2, "s_per_token"] *= 50  # a pass that something disturbed
        pairs = specdec.speedups(rows)
        assert len(pairs) == len(synthetic.SIZES) * 20 * len(synthetic.SPEEDUPS)
        for arm, speedup in synthetic.SPEEDUPS.items():
            np.testing.assert_allclose(pairs[pairs.arm == arm].ratio, speedup)
        assert set(specdec.summarise(pairs).n) == {20}

    def test_compare_only_within_an_engine(self):
        slow = synthetic.latency_rows()
        slow = slow.assign(backend="vllm", s_per_token=slow.s_per_token * 7)
        pairs = specdec.speedups(pd.concat([synthetic.latency_rows(), slow], ignore_index=True))
        for (_, arm), part in pairs.groupby(["backend", "arm"]):
            np.testing.assert_allclose(part.ratio, synthetic.SPEEDUPS[arm])
        assert set(pairs.backend) == {"torch", "vllm"}

    def test_take_the_baseline_of_their_own_run_where_it_has_one(self):
        """A second run on a machine three times slower: its own baseline cancels that, another's would not."""
        rows = synthetic.latency_rows()
        again = rows[rows.arm.isin(["baseline", "eagle"])]
        again = again.assign(run="slower", s_per_token=again.s_per_token * 3)
        pairs = specdec.speedups(pd.concat([rows[rows.arm != "eagle"], again], ignore_index=True))
        np.testing.assert_allclose(pairs[pairs.arm == "eagle"].ratio, synthetic.SPEEDUPS["eagle"])
        assert not pairs.borrowed.any()
        alone = specdec.speedups(pd.concat([rows[rows.arm != "eagle"], again[again.arm == "eagle"]]))
        np.testing.assert_allclose(alone[alone.arm == "eagle"].ratio, synthetic.SPEEDUPS["eagle"] / 3)
        assert set(alone[alone.borrowed].arm) == {"eagle"}
        assert "baseline of another run of the same engine: eagle." in specdec.setting(rows, alone)

    def test_count_a_request_of_several_runs_once_by_its_median(self):
        rows = synthetic.latency_rows()
        disturbed = rows.assign(run="disturbed", s_per_token=rows.s_per_token.mask(rows.arm == "eagle", 1e-9))
        pairs = specdec.speedups(pd.concat([rows, rows.assign(run="again"), disturbed], ignore_index=True))
        table = specdec.summarise(pairs)
        assert set(table.n) == {20}
        np.testing.assert_allclose(table[table.arm == "eagle"].estimate, synthetic.SPEEDUPS["eagle"])

    def test_need_a_baseline(self):
        with pytest.raises(Undrawable, match="baseline of its own engine"):
            specdec.speedups(synthetic.latency_rows().query("arm != 'baseline'"))
        with pytest.raises(Undrawable, match="baseline of its own engine"):
            specdec.speedups(synthetic.latency_rows().query("arm == 'baseline'"))

    def test_leave_sampled_rows_out_where_greedy_ones_exist(self):
        rows = synthetic.latency_rows()
        hot = rows.assign(temperature=0.7, s_per_token=rows.s_per_token.mask(rows.arm != "baseline", 1.0))
        table = specdec_speedup.speedup(pd.concat([rows, hot], ignore_index=True)).data
        assert table.set_index(["model", "arm"]).estimate["ladder-3m", "draft"] == pytest.approx(0.8)
        assert "greedy decoding" in specdec_speedup.speedup(rows).caption
        assert "temperature 0.7" in specdec_speedup.speedup(hot).caption

    def test_of_fewer_requests_than_an_interval_needs_have_none(self):
        table = specdec.summarise(specdec.speedups(synthetic.latency_rows(per_category=1)))
        assert (table.n == 5).all()
        assert table[["low", "high"]].isna().all(axis=None)
        assert stats.ENOUGH == 6


class TestLooks:
    def test_colours_do_not_depend_on_which_methods_were_run(self):
        all_arms = specdec.looks(synthetic.latency_rows())
        few = specdec.looks(synthetic.latency_rows().query("arm in ('draft', 'baseline')"))
        assert few["draft"] == all_arms["draft"]
        assert specdec.methods(synthetic.latency_rows()) == ["ngram", "eagle", "draft"]
        more = specdec.looks(pd.DataFrame({"arm": ["own", "eagle"]}))
        assert more["own"] not in [more[arm] for arm in specdec.METHODS]

    @pytest.mark.parametrize(
        ("model", "short"),
        [
            ("ladder-160k", "160k"),
            ("Qwen/Qwen2-7B-Instruct", "Qwen2-7B"),
            ("Qwen/Qwen3-32B", "Qwen3-32B"),
            ("meta-llama/Meta-Llama-3-8B-Instruct", "Llama-3-8B"),
        ],
    )
    def test_short_names_keep_the_family(self, model, short):
        assert specdec.name(model) == short


class TestSpeedupFigure:
    def test_one_point_per_model_method_and_backend_on_a_log_axis_around_one(self):
        drawn = specdec_speedup.speedup(every_row(backends=("torch", "vllm")))
        (ax,) = drawn.figure.axes
        assert ax.get_yscale() == "log"
        assert [tick.get_text() for tick in ax.get_xticklabels()] == ["160k\nn = 20", "3m\nn = 20"]
        points = [found for found in ax.get_lines() if len(found.get_xdata()) == 1]
        assert len(points) == 2 * 3 * 2
        for found in points:
            arm, backend = found.get_label().rstrip(")").split(" (")
            assert found.get_ydata()[0] == pytest.approx(synthetic.SPEEDUPS[arm])
            assert found.get_fillstyle() == specdec.BACKENDS[backend]
        places = sorted(float(found.get_xdata()[0]) for found in points)
        assert min(np.diff(places)) > 0.05, "no two points in one place"
        (one,) = [found for found in ax.get_lines() if list(found.get_ydata()) == [1, 1]]
        assert one.get_xdata() == [0, 1]
        low, high = ax.get_ylim()
        assert low < 0.8 < 1 < 1.9 < high
        assert legend_labels(drawn) == ["ngram", "eagle", "draft", "torch", "vllm"]

    def test_one_backend_needs_no_key_and_losers_are_named(self):
        drawn = specdec_speedup.speedup(synthetic.latency_rows())
        assert legend_labels(drawn) == ["ngram", "eagle", "draft"]
        assert "Slower than the baseline by the whole interval: draft (torch) on 160k, 3m." in drawn.caption
        assert "20 requests" in drawn.caption

    def test_few_requests_draw_without_intervals(self):
        drawn = specdec_speedup.speedup(synthetic.latency_rows(per_category=1))
        paths = [path for found in drawn.figure.axes[0].collections for path in found.get_paths()]
        assert all(np.isnan(path.vertices[:, 1]).all() for path in paths)


class TestBatchFigure:
    def test_lines_per_model_and_where_they_cross_one(self):
        drawn = specdec_speedup.batch(every_row())
        assert len(drawn.figure.axes) == 2
        for ax in drawn.figure.axes:
            assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
            assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "2", "8", "16", "64"]
            eagle = line(ax, "eagle (torch)")
            np.testing.assert_allclose(eagle.get_xdata(), [1, 2, 8, 16, 64])
            np.testing.assert_allclose(eagle.get_ydata(), 2 / np.sqrt([1, 2, 8, 16, 64]))
            assert [text.get_text() for text in ax.texts] == ["4"], "only eagle crosses"
            assert ax.texts[0].xy == pytest.approx((4, 1))
        found = drawn.data.drop_duplicates(["model", "arm"]).set_index(["model", "arm"]).crossing
        assert found["ladder-3m"].to_dict() == pytest.approx({"ngram": np.inf, "eagle": 4, "draft": 0})
        assert "eagle on 3m (torch) stops at 4" in drawn.caption
        assert "draft on 3m (torch) never pays" in drawn.caption
        assert "ngram on 3m (torch) pays up to 64 at least" in drawn.caption

    @pytest.mark.parametrize(
        ("estimates", "crossing"),
        [
            ([2.0, 0.9, 1.1, 0.5], 2 ** (2 + np.log2(1.1) / np.log2(2.2))),  # the last one counts
            ([0.5, 0.7, 0.8, 1.0], np.inf),
            ([0.9, 0.8, 0.7, 0.6], 0.0),
            ([2.0, 2.0, 1.0, 0.5], 4.0),
        ],
    )
    def test_the_last_crossing_is_where_it_stops_paying(self, estimates, crossing):
        table = pd.DataFrame({"batch_size": [1, 2, 4, 8], "estimate": estimates}).sample(frac=1, random_state=3)
        found = specdec_speedup.crossings(table.assign(model="m", backend="torch", arm="eagle"))
        assert found.crossing.tolist() == pytest.approx([crossing])

    def test_batches_are_the_replicates(self):
        few = pd.concat([synthetic.latency_rows(), synthetic.throughput_rows(batches=2)])
        drawn = specdec_speedup.batch(few)
        assert (drawn.data.n == 2).all()
        assert drawn.data[["low", "high"]].isna().all(axis=None)
        assert drawn.figure.axes[0].get_title(loc="left") == "160k: 2 batches per point"


class TestPositionsFigure:
    def test_conditional_is_solid_and_unconditional_dashed_as_counted(self):
        drawn = specdec_positions.positions(every_row())
        assert [ax.get_title(loc="left") for ax in drawn.figure.axes] == [
            "160k: requests n = 20",
            "3m: requests n = 20",
        ]
        for ax in drawn.figure.axes:
            for arm, (drafted, tested, accepted) in synthetic.COUNTS.items():
                if arm != "baseline":
                    solid, dashed = line(ax, f"{arm} conditional"), line(ax, f"{arm} unconditional")
                    assert (solid.get_linestyle(), dashed.get_linestyle()) == ("-", "--")
                    assert solid.get_color() == dashed.get_color() == specdec.looks(drawn.data)[arm]["color"]
                    np.testing.assert_allclose(solid.get_xdata(), [1, 2, 3, 4, 5], atol=0.2)
                    np.testing.assert_allclose(solid.get_ydata(), np.divide(accepted, tested))
                    np.testing.assert_allclose(dashed.get_ydata(), np.divide(accepted, drafted[0]))
        assert legend_labels(drawn) == ["ngram", "eagle", "draft", "conditional", "unconditional"]
        assert "baseline" not in set(drawn.data.arm)

    def test_one_backend_is_drawn_and_all_are_in_the_data(self):
        rows = every_row(backends=("torch", "transformers", "vllm"))
        rows.loc[rows.backend == "transformers", "tested_at"] = None
        drawn = specdec_positions.positions(rows)
        assert all(len(ax.get_lines()) == 6 for ax in drawn.figure.axes)
        assert set(drawn.data.backend) == {"torch", "vllm"}, "transformers does not say what it drafted"
        assert "In the plotted data only: backend vllm." in drawn.caption

    def test_rows_without_drafts_are_refused_in_a_sentence(self):
        rows = synthetic.latency_rows()
        for nothing in (rows[rows.arm == "baseline"], rows.assign(tested_at=None), rows.drop(columns="tested_at")):
            with pytest.raises(Undrawable, match="a method that drafts"):
                specdec_positions.positions(nothing)

    def test_few_requests_have_no_intervals(self):
        drawn = specdec_positions.positions(synthetic.latency_rows(per_category=1))
        assert drawn.data.filter(regex="_low|_high").isna().all(axis=None)
        assert drawn.data.unconditional.notna().all()


class TestCategoriesFigure:
    def test_tokens_and_speedup_against_the_overlap_of_the_category(self):
        rows = every_row(per_category=7)
        edits = (rows.category == "edit") & (rows.arm == "ngram")
        rows.loc[edits, "s_per_token"] /= 2
        drawn = specdec_categories.categories(rows)
        upper, lower = drawn.figure.axes[:2], drawn.figure.axes[2:]
        for tokens, speed in zip(upper, lower, strict=True):
            np.testing.assert_allclose(line(tokens, "ngram").get_xdata(), sorted(synthetic.OVERLAP.values()))
            np.testing.assert_allclose(line(tokens, "eagle").get_ydata(), (40 + 99) / 40)
            np.testing.assert_allclose(line(speed, "ngram").get_ydata(), [1.4, 1.4, 1.4, 1.4, 2.8])
            np.testing.assert_allclose(line(speed, "draft").get_ydata(), 0.8)
            assert speed.get_yscale() == "log"
            assert {text.get_text(): text.xy[0] for text in tokens.texts} == pytest.approx(synthetic.OVERLAP)
            assert tokens.get_title(loc="left").endswith("requests n ≥ 7")
        assert set(drawn.data.n) == {7}
        assert drawn.data[["speedup_low", "tokens_per_forward_high"]].notna().all(axis=None)

    def test_categories_of_one_overlap_stay_apart(self):
        rows = every_row()
        rows = rows.assign(prompt_overlap=rows.prompt_overlap.where(rows.category != "maths", 0.05))
        drawn = specdec_categories.categories(rows)
        points = line(drawn.figure.axes[0], "eagle").get_xdata()
        assert list(points[:2]) == pytest.approx([0.05, 0.08]), "maths comes first by name"
        names = {text.get_text(): text.xy[0] for text in drawn.figure.axes[0].texts}
        assert (names["maths"], names["story"]) == pytest.approx((0.05, 0.08))
        assert set(drawn.data[drawn.data.category == "story"].prompt_overlap) == {0.05}, "the data is not moved"

    def test_labels_do_not_touch(self):
        rows = every_row()
        near = rows.assign(prompt_overlap=rows.prompt_overlap.where(rows.category != "choice", 0.4))
        drawn = specdec_categories.categories(near)
        drawn.figure.draw_without_rendering()
        for ax in drawn.figure.axes[:2]:
            boxes = sorted((text.get_window_extent() for text in ax.texts), key=lambda box: box.x0)
            assert len(boxes) == 5
            assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))

    @pytest.mark.parametrize(
        ("places", "expected"),
        [
            ([0.1, 0.5, 0.9], [0.1, 0.5, 0.9]),
            ([0.5, 0.5, 0.52], [0.5, 0.6, 0.7]),
            ([0.9, 0.95, 1.0], [0.8, 0.9, 1.0]),
            ([], []),
        ],
    )
    def test_spaced_keeps_the_gap_and_the_order(self, places, expected):
        np.testing.assert_allclose(specdec_categories.spaced(np.array(places), 0.1), expected)

    def test_requests_without_overlap_are_refused_in_a_sentence(self):
        rows = synthetic.latency_rows()
        for nothing in (rows.assign(prompt_overlap=None), rows.drop(columns="prompt_overlap")):
            with pytest.raises(Undrawable, match="prompt_overlap"):
                specdec_categories.categories(nothing)

    def test_one_backend_is_drawn_and_all_are_in_the_data(self):
        drawn = specdec_categories.categories(every_row(backends=("vllm", "torch")))
        assert len(drawn.data) == 2 * 2 * 3 * 5
        assert "In the plotted data only: backend vllm." in drawn.caption


# By hand from what synthetic.COUNTS, verify_s and DRAFT_S say: tokens of a step over its cost in forwards of one token.
DRAFTLESS = 79 / 99  # ngram makes 99 steps, 20 with a draft
PREDICTED = {
    "eagle": (1 + (36 + 27 + 18 + 9 + 9) / 40) / (0.5 + 1.5),
    "ngram": (1 + (1 - DRAFTLESS) * 40 / 20) / ((1 - DRAFTLESS) * (0.05 + 1.5) + DRAFTLESS),
    "draft": (1 + 40 / 95 * 44 / 40) / (40 / 95 * (2.5 + 1.5) + 55 / 95),
}


class TestCosts:
    def test_are_in_forwards_of_the_run_that_timed_them(self):
        """A run on a machine three times slower says the same of what costs how much."""
        rows = synthetic.cost_rows()
        slow = rows[rows.arm != "draft"].assign(run="slower", seconds=rows.seconds * 3)
        both = specdec.costs(pd.concat([rows[rows.arm.isin(["verify", "draft"])], slow], ignore_index=True))
        for arm, seconds in synthetic.DRAFT_S.items():
            curve = specdec.curve(both, "ladder-3m", "torch", arm, 10)
            assert [curve(k) for k in (1, 5, 10)] == pytest.approx([k * seconds * 1e3 for k in (1, 5, 10)])
        assert specdec.curve(both, "ladder-3m", "torch", "verify", 16)(8) == pytest.approx(1.7)
        assert specdec.curve(both, "ladder-3m", "torch", "eagle3", 1) is None
        assert specdec.curve(both[both.tokens == 5], "ladder-3m", "torch", "eagle", 5) is None

    def test_never_fall_with_more_tokens_so_that_no_fixed_k_beats_the_oracle(self):
        """A pause of everything but the timing of six tokens, as shared machines have them."""
        rows = every_row()
        odd = (rows.protocol == "cost") & (rows.arm == "verify") & (rows.tokens == 6)
        rows.loc[odd, "seconds"] /= 4
        curve = specdec.curve(specdec.costs(rows), "ladder-3m", "torch", "verify", 16)
        assert [curve(q) for q in (1, 2, 4, 6)] == pytest.approx([(1 + 1.1 + 1.3 + 1.5 / 4) / 4] * 4)
        assert [curve(q) for q in (8, 11, 16)] == pytest.approx([1.7, 2.0, 2.5])
        table = specdec_replay.replayed(rows).data
        best = table.groupby(["model", "arm", "strategy"]).speedup.max().unstack()
        assert (best.oracle >= best.fixed - 1e-9).all()

    def test_need_a_forward_of_one_token(self):
        with pytest.raises(Undrawable, match="single token"):
            specdec.costs(synthetic.cost_rows().query("arm != 'verify' or tokens > 1"))


class TestPredictedFigure:
    def test_predicted_beside_measured_per_method_model_and_category(self):
        drawn = specdec_predicted.predicted(every_row())
        table = drawn.data[drawn.data.panel == "speedup"]
        assert len(table) == 2 * 3 * (1 + 5)
        for arm, value in PREDICTED.items():
            part = table[table.arm == arm]
            np.testing.assert_allclose(part.predicted, value)
            np.testing.assert_allclose(part.estimate, synthetic.SPEEDUPS[arm])
            point = line(drawn.figure.axes[0], f"{arm} all")
            assert (point.get_xdata()[0], point.get_ydata()[0]) == pytest.approx((value, synthetic.SPEEDUPS[arm]))
            small = line(drawn.figure.axes[0], f"{arm} maths")
            assert small.get_markersize() < point.get_markersize()
        left = drawn.figure.axes[0]
        assert (left.get_xscale(), left.get_yscale()) == ("log", "log")
        assert left.get_xlim() == left.get_ylim()
        equal = line(left, "equal")
        np.testing.assert_allclose(equal.get_xdata(), equal.get_ydata())
        distances = sorted(max(p / m, m / p) - 1 for p, m in zip(PREDICTED.values(), (1.9, 1.4, 0.8), strict=True))
        assert f"Median distance from it: {100 * distances[1]:.0f} %" in drawn.caption

    def test_measured_is_decoding_alone(self):
        rows = every_row()
        slow = rows.assign(prefill_s=rows.prefill_s * 100, s_per_token=9.0, wall_s=99.0)
        table = specdec_predicted.predicted(slow).data
        assert sorted(set(table.estimate[table.panel == "speedup"].round(9))) == [0.8, 1.4, 1.9]

    def test_measured_is_pooled_as_the_rates_are(self):
        """Every other request makes three times the tokens and gains nothing: its seconds count, not its ratio."""
        rows = every_row()
        rows["new_tokens"] = rows.new_tokens.mask(rows.prompt % 2 == 0, 3 * rows.new_tokens - 2)
        slow = (rows.prompt % 2 == 0) & (rows.arm == "eagle") & (rows.protocol == "latency")
        base = rows[(rows.arm == "baseline") & (rows.protocol == "latency")].set_index(["model", "prompt"]).decode_s
        for model in synthetic.SIZES:
            mine = slow & (rows.model == model)
            rows.loc[mine, "decode_s"] = rows[mine].prompt.map(base[model]).to_numpy()
        table = specdec_predicted.predicted(rows).data
        for model in synthetic.SIZES:
            own = rows[(rows.model == model) & (rows.protocol == "latency")].groupby("arm").decode_s.sum()
            found = table[(table.model == model) & (table.arm == "eagle") & (table.category == "all")].estimate
            assert found.item() == pytest.approx(own.baseline / own.eagle)

    def test_the_cost_curve_lies_between_its_limits(self):
        drawn = specdec_predicted.predicted(every_row())
        right = drawn.figure.axes[1]
        assert (right.get_xscale(), right.get_yscale()) == ("log", "log")
        for model in ("160k", "3m"):
            curve = line(right, model)
            np.testing.assert_allclose(curve.get_xdata(), [1, 2, 4, 6, 8, 11, 16])
            np.testing.assert_allclose(curve.get_ydata(), 0.9 + 0.1 * curve.get_xdata())
        np.testing.assert_allclose(line(right, "memory-bound").get_ydata(), [1, 1])
        np.testing.assert_allclose(line(right, "compute-bound").get_ydata(), line(right, "compute-bound").get_xdata())
        curves = drawn.data[drawn.data.panel == "verify cost"]
        np.testing.assert_allclose(curves.low / curves.estimate, 0.9)  # quartiles of 0.8, 1, 1.2
        assert set(curves.n) == {3}

    def test_forwards_longer_than_any_timed_follow_a_fitted_curve(self):
        """Drafts of four are verified in five tokens, and forwards of up to four were timed, all on one line."""
        rows = every_row()
        for column in ("drafted_at", "tested_at", "accepted_at"):
            rows[column] = rows[column].map(lambda counts: counts[:4], na_action="ignore")
        short = rows[(rows.protocol != "cost") | (rows.arm != "verify") | (rows.tokens <= 4)]
        tables = [specdec_predicted.predicted(each).data for each in (short, rows)]
        found = [table[table.panel == "speedup"].predicted for table in tables]
        np.testing.assert_allclose(*found, rtol=0.03)

    def test_methods_and_backends_without_costs_are_left_out_and_named(self):
        rows = every_row(backends=("torch", "vllm"))
        free = (rows.arm == "draft") & (rows.protocol == "cost")
        drawn = specdec_predicted.predicted(rows[~free])
        table = drawn.data[drawn.data.panel == "speedup"]
        assert set(table.arm) == {"ngram", "eagle"}
        assert set(table.backend) == {"torch"}
        assert "No costs to predict from: draft." in drawn.caption

    def test_without_any_costs_of_a_method_or_of_one_token_it_is_refused_in_a_sentence(self):
        rows = every_row()
        for costs in (rows[rows.arm != "verify"], rows[(rows.protocol != "cost") | (rows.arm == "verify")]):
            with pytest.raises(Undrawable):
                specdec_predicted.predicted(costs)
        with pytest.raises(Undrawable, match="single token"):
            specdec_predicted.predicted(rows[rows.tokens != 1])


def seconds(arm: str, k: int) -> float:
    """A traced output decoded with at most k drafted tokens per step, walked place by place."""
    drafted, correct = synthetic.TRACES[arm]
    place, total = 0, 0.0
    while place < synthetic.PLACES:
        d, a = min(drafted[place], k), min(correct[place], k)
        verify = np.interp(d + 1, [1, 16], [synthetic.verify_s(1), synthetic.verify_s(16)])  # a straight line
        total += verify + max(d, 1) * synthetic.DRAFT_S[arm]
        place += a + 1
    return total


class TestReplayFigure:
    def test_projects_every_fixed_k_and_rings_the_best(self):
        drawn = specdec_replay.replayed(every_row())
        assert len(drawn.figure.axes) == 2
        for ax in drawn.figure.axes:
            assert ax.get_yscale() == "log"
            for arm in synthetic.TRACES:
                expected = [synthetic.PLACES * synthetic.verify_s(1) / seconds(arm, k) for k in range(1, 11)]
                np.testing.assert_allclose(line(ax, arm).get_xdata(), range(1, 11))
                np.testing.assert_allclose(line(ax, arm).get_ydata(), expected)
                ring = line(ax, f"{arm} best")
                place = int(np.argmax(expected))
                assert (ring.get_xdata()[0], ring.get_ydata()[0]) == pytest.approx((place + 1, expected[place]))
        assert "eagle 2.04× at 2 (2.08×)" in drawn.caption

    def test_the_oracle_is_a_dashed_line_no_fixed_k_reaches(self):
        drawn = specdec_replay.replayed(every_row())
        for ax in drawn.figure.axes:
            for arm in (*synthetic.TRACES, *specdec_replay.COMBINED):
                oracle = line(ax, f"{arm} oracle")
                assert oracle.get_linestyle() == "--"
                assert oracle.get_color() == line(ax, arm).get_color()
                assert max(line(ax, arm).get_ydata()) <= oracle.get_ydata()[0] + 1e-12
            # 13 steps of two right tokens at 1.2 + 0.2 ms, and one token by itself: 40 tokens in 19.2 ms
            assert line(ax, "eagle oracle").get_ydata()[0] == pytest.approx(40 / 19.2)
            assert line(ax, "draft oracle").get_ydata()[0] == pytest.approx(1), "not to draft is a choice"

    def test_combinations_with_eagle_are_drawn_and_the_others_in_the_data(self):
        drawn = specdec_replay.replayed(every_row())
        labels = legend_labels(drawn)
        assert labels[:5] == ["ngram", "eagle", "draft", "better of ngram, eagle", "ngram, else eagle"]
        assert labels[5:] == ["fixed k", "best fixed k", "oracle k"]
        assert {"ngram, else draft", "better of ngram, draft"} <= set(drawn.data.arm)
        assert "In the plotted data only: better of ngram, draft; ngram, else draft." in drawn.caption
        handles = {h.get_label(): h.get_color() for h in drawn.figure.legends[0].legend_handles}
        for arm in labels[:5]:
            assert handles[arm] == line(drawn.figure.axes[0], arm).get_color()

    def test_what_two_runs_traced_counts_once(self):
        rows = every_row()
        again = rows[rows.protocol == "trace"].assign(run="again")
        drawn = specdec_replay.replayed(pd.concat([rows, again], ignore_index=True))
        assert set(drawn.data.n) == {6}

    def test_drafters_of_unknown_cost_are_named_and_none_is_refused_in_a_sentence(self):
        rows = every_row()
        free = (rows.protocol == "cost") & (rows.arm == "draft")
        drawn = specdec_replay.replayed(rows[~free])
        assert "No costs to project from: draft." in drawn.caption
        assert '"ngram, else eagle" takes' in drawn.caption
        alone = specdec_replay.replayed(rows[rows.arm != "eagle"])
        assert "eagle" not in alone.caption, "what was not traced is not explained"
        assert not drawn.data.arm.str.contains("draft").any()
        with pytest.raises(Undrawable, match="costs measured"):
            specdec_replay.replayed(rows[(rows.protocol != "cost") | (rows.arm == "verify")])

    def test_drafts_longer_than_any_timed_follow_a_fitted_line(self):
        rows = every_row()
        short = specdec_replay.replayed(rows[(rows.protocol != "cost") | (rows.arm == "verify") | (rows.tokens <= 5)])
        full = specdec_replay.replayed(rows)
        np.testing.assert_allclose(short.data.speedup, full.data.speedup, rtol=0.02)

    def test_few_requests_have_no_intervals(self):
        rows = every_row()
        few = specdec_replay.replayed(rows[(rows.protocol != "trace") | (rows.prompt < 3)])
        assert few.data[["low", "high"]].isna().all(axis=None)
        assert few.figure.axes[0].get_title(loc="left") == "160k: requests n = 3"


def test_a_run_of_a_mixed_method_alone_has_no_prediction_and_says_so():
    rows = pd.concat([synthetic.latency_rows(), synthetic.cost_rows()], ignore_index=True)
    alone = rows[rows.arm.isin(["baseline", "ngram", "verify"])].replace({"arm": {"ngram": "hybrid"}})
    with pytest.raises(figures.Undrawable, match="hybrid drafts in two ways"):
        specdec_predicted.predicted(alone)
