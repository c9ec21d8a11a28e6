"""Figures of 4a from rows whose answers are known: artists, data and captions, not pixels."""

from collections.abc import Callable
from functools import cache

import bridge_rows as synthetic
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions

from lib import figures
from lib.figures import Drawn, Undrawable, bridge, bridge_controls, bridge_curves, bridge_factors, bridge_series, style
from lib.metrics import messages, proportions

NAMES = ("4a_curves", "4a_tokens", "4a_controls", "4a_factors", "4a_stressors", "4a_tasks")
OTHERS = [name for name in NAMES if name != "4a_stressors"]
SEEDS = 4


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return synthetic.rows(seeds=SEEDS)


def draw(name: str, rows: pd.DataFrame, missing: tuple[str, ...] = ()) -> Drawn:
    return figures.specs()[name].draw(rows, missing)


@pytest.fixture(scope="module")
def one_seed() -> pd.DataFrame:
    return synthetic.rows(seeds=1)


@pytest.fixture(scope="module")
def drawn_of(rows) -> Callable[[str], Drawn]:
    """Each figure of `rows`, drawn once; a closed figure can still be read."""
    return cache(lambda name: draw(name, rows))


def lines(ax, label: str) -> list:
    return [found for found in ax.get_lines() if found.get_label() == label]


def line(ax, label: str):
    (found,) = lines(ax, label)
    return found


def values(rows: pd.DataFrame, label: str, value: str, **equal: object) -> np.ndarray:
    """A column of a configuration's rows in percent, over seeds, read without the code under test."""
    part = rows[rows.label == label]
    for column, wanted in equal.items():
        part = part[part[column] == wanted]
    return 100 * part.sort_values("seed")[value].to_numpy(float)


def t_interval(sample: np.ndarray) -> tuple[float, float]:
    return distributions.t.interval(0.95, len(sample) - 1, sample.mean(), distributions.sem(sample))


class TestEveryFigure:
    @pytest.mark.parametrize("name", NAMES)
    def test_lists_what_is_missing_and_says_n_and_pair(self, name, rows):
        drawn = draw(name, rows, ("2a_stable_8tok",))
        assert "No finished run: 2a_stable_8tok" in drawn.figure.get_suptitle()
        assert "no finished run was found: 2a_stable_8tok" in drawn.caption
        assert "bridge-source -> bridge-target (arithmetic)" in drawn.caption
        assert "95 %" in drawn.caption
        assert drawn.figure.get_size_inches()[0] == style.TEXT
        assert {"estimate", "low", "high", "seeds"} <= set(drawn.data)

    @pytest.mark.parametrize("name", OTHERS)
    def test_says_how_many_seeds_on_the_figure(self, name, drawn_of):
        titles = [ax.get_title("left") for ax in drawn_of(name).figure.axes]
        assert any("seeds: n = 4" in title for title in titles)
        assert "Means over 4 seeds with 95 % t intervals over seeds" in drawn_of(name).caption

    @pytest.mark.parametrize("name", NAMES)
    def test_of_one_seed_claims_nothing_of_others(self, name, one_seed):
        drawn = draw(name, one_seed)
        assert drawn.data.seeds.max() == 1
        if name != "4a_stressors":
            assert "One seed" in drawn.caption
        if name in ("4a_curves", "4a_factors"):
            assert drawn.data[["low", "high"]].isna().all(axis=None)

    @pytest.mark.parametrize("name", NAMES)
    def test_refuses_rows_of_other_protocols_in_a_sentence(self, name, rows):
        for nothing in (rows.assign(protocol="audit"), rows[:0], pd.DataFrame()):
            with pytest.raises(Undrawable, match=r"python -m lib\.sweep 4a_bridge") as refused:
                draw(name, nothing)
            assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_does_not_depend_on_the_order_of_rows(self, name, rows, drawn_of):
        shuffled = draw(name, rows.sample(frac=1, random_state=0))
        pd.testing.assert_frame_equal(drawn_of(name).data, shuffled.data, check_exact=False)
        assert drawn_of(name).caption == shuffled.caption

    @pytest.mark.parametrize("name", NAMES)
    def test_refuses_a_configuration_that_was_run_twice(self, name, rows):
        again = rows[rows.label.isin((synthetic.STABLE["label"], synthetic.BASELINE["label"]))]
        with pytest.raises(Undrawable, match="more than once"):
            draw(name, pd.concat([rows, again.assign(run="another", ce=1.0)], ignore_index=True))

    @pytest.mark.parametrize("name", OTHERS)
    @pytest.mark.parametrize(
        "of", [synthetic.BASELINE, synthetic.TASKS[0], synthetic.RIVALS[1]], ids=lambda of: of["label"]
    )
    def test_draws_a_single_run(self, name, of):
        """What a notebook has: one configuration, here without losses, of another task, of another kind."""
        assert draw(name, synthetic.rows([of], seeds=2)).figure.axes

    @pytest.mark.parametrize("name", OTHERS)
    def test_stressed_trainings_stay_out(self, name, rows, drawn_of):
        plain = draw(name, rows[rows.stressor == ""])
        pd.testing.assert_frame_equal(drawn_of(name).data, plain.data)

    @pytest.mark.parametrize("name", ["4a_controls", "4a_tokens", "4a_tasks"])
    def test_another_pair_stays_out_and_is_named(self, name, rows, drawn_of):
        drawn = draw(name, pd.concat([rows, synthetic.rows([synthetic.STABLE]).assign(target="other")]))
        pd.testing.assert_frame_equal(drawn_of(name).data, drawn.data)
        assert "Left out: bridge-source -> other." in drawn.caption

    def test_names_belong_to_the_experiment(self):
        assert {name for name, spec in figures.specs().items() if spec.experiment == "4a_bridge"} == {
            *NAMES,
            "4a_table",
        }

    @pytest.mark.parametrize("name", NAMES)
    def test_draws_the_plans_own_pair(self, name):
        plan = (*synthetic.PLAN, {**synthetic.PLAN[1], "label": "stress", "stressor": "decay"})
        drawn = draw(name, synthetic.rows(plan, seeds=2))
        assert "Mistral-7B-Instruct-v0.3 -> meta-llama/Llama-3.1-8B-Instruct (gsm8k)" in drawn.caption


class TestEstimates:
    def test_of_several_seeds_are_over_seeds_and_of_one_value_over_items(self, rows, drawn_of):
        table = drawn_of("4a_controls").data
        table = table[(table.task == "arithmetic") & (table.kind == "")].set_index("arm")
        own = {"protocol": "arm", "decode_hygiene": True}
        seeds = values(rows, "1a_stable_16tok", "accuracy", arm="bridged", checkpoint="best", **own)
        assert table.estimate["bridged"] == pytest.approx(seeds.mean())
        assert (table.low["bridged"], table.high["bridged"]) == pytest.approx(t_interval(seeds))
        (share,) = values(rows, "1a_stable_16tok", "accuracy", arm="relay", **own)
        low, high = distributions.binomtest(round(share * 2), synthetic.N_TEST).proportion_ci(method="wilson")
        assert (table.low["relay"], table.high["relay"]) == pytest.approx((100 * low, 100 * high))
        assert (table.seeds["relay"], table["items"]["relay"]) == (0, synthetic.N_TEST)

    def test_a_training_counts_once_whatever_is_crossed_in_after_it(self, rows):
        """The stressed runs with InfoNCE and with all fixes hold the same trainings."""
        stability = bridge.protocol(rows, "stability")
        decay = stability[(stability.stressor == "decay") & (stability.info_nce > 0)]
        assert set(decay.label) == {"stress_decay_info_nce", "stress_decay_all"}
        once = bridge.trainings(decay, ["early_stopping", "decode_hygiene"])
        assert len(once) == len(decay) / 2 == 4 * SEEDS

    def test_another_weight_of_a_loss_is_another_training(self, rows, drawn_of):
        stronger = synthetic.rows([synthetic.config("stronger", info_nce=0.5)], accuracy={"stronger": 0.1}, seeds=2)
        for name in ("4a_curves", "4a_factors"):
            drawn = draw(name, pd.concat([rows, stronger]))
            pd.testing.assert_frame_equal(drawn_of(name).data, drawn.data)
            assert "Weight: InfoNCE 0.05, distillation 1." in drawn.caption

    def test_another_warm_up_is_another_training(self, rows):
        """What only the run's parameters say tells trainings apart too, and does not hide a figure."""
        other = synthetic.rows([synthetic.config("other")], accuracy={"other": 0.1}, seeds=2).assign(warmup=0)
        drawn = draw("4a_curves", pd.concat([rows.assign(warmup=20), other]))
        assert set(drawn.data.seeds) == {SEEDS}

    @pytest.mark.parametrize(("label", "other"), [("1a_stable_16tok", "x"), ("x", "1a_stable_16tok")])
    def test_the_reference_is_the_plans_by_label(self, label, other):
        configs = [synthetic.config(label, 16), synthetic.config(other, 8)]
        own = bridge.reference(bridge.arms(synthetic.rows(configs, seeds=2)))
        assert set(own.label) == {"1a_stable_16tok"}
        unnamed = [synthetic.config("a", 8), synthetic.config("b", 16), synthetic.config("c", 32, patience=0)]
        own = bridge.reference(bridge.arms(synthetic.rows(unnamed, seeds=2)))
        assert set(own.label) == {"b"}


class TestCurves:
    def test_a_column_per_training_with_means_and_seeds(self, rows, drawn_of):
        axes = drawn_of("4a_curves").figure.axes
        assert [ax.get_title("left").split("\n")[0] for ax in axes[:4]] == list(bridge.CELLS)
        for ax, label in zip(axes, ("1b_baseline_16tok", "1a_stable_16tok"), strict=False):
            part = rows[(rows.protocol == "curve") & (rows.label == label)]
            for name, column in (("_val_accuracy", "val_accuracy"), ("_val_accuracy_hygiene", "val_accuracy_hygiene")):
                np.testing.assert_allclose(line(ax, name).get_ydata(), 100 * part.groupby("step")[column].mean())
            seed = part[part.seed == 2].sort_values("step")
            np.testing.assert_allclose(line(ax, "_seed 2").get_ydata(), 100 * seed.val_accuracy)
            assert line(ax, "_seed 2").get_linewidth() < line(ax, "_val_accuracy").get_linewidth()
        below = rows[(rows.protocol == "curve") & (rows.label == "1b_baseline_16tok")].groupby("step").delta_ce.mean()
        np.testing.assert_allclose(line(axes[4], "_delta_ce").get_ydata(), below)

    def test_peaks_and_stops_are_those_recorded(self, rows, drawn_of):
        ax = drawn_of("4a_curves").figure.axes[0]
        part = rows[(rows.label == "1b_baseline_16tok") & (rows.seed == 0)]
        recorded = part[(part.protocol == "stability") & part.early_stopping.eq(True) & part.decode_hygiene.eq(False)]
        curve = part[part.protocol == "curve"].set_index("step").val_accuracy
        peaks = {(peak.get_xdata()[0], peak.get_ydata()[0]) for peak in lines(ax, "_peak")}
        assert (recorded.best_step.iloc[0], 100 * recorded.peak.iloc[0]) in peaks
        stops = {(stop.get_xdata()[0], stop.get_ydata()[0]) for stop in lines(ax, "_stop")}
        assert (recorded.stop_step.iloc[0], 100 * curve[recorded.stop_step.iloc[0]]) in stops
        assert len(lines(ax, "_stop")) == SEEDS

    def test_collapse_is_shaded_per_seed_and_named(self, drawn_of):
        axes = drawn_of("4a_curves").figure.axes
        assert axes[0].get_title("left").endswith("seeds: n = 4; collapsed: 1/4\nby accuracy, delta_ce, distinct")
        assert axes[1].get_title("left").endswith("collapsed: 0/4")
        assert [len(ax.patches) for ax in axes] == [1, 0, 0, 0, 1, 0, 0, 0]

    def test_a_training_that_diverged_is_drawn(self):
        """Cross entropies that are no numbers come as null."""
        for seeds in ((0,), (0, 1)):
            made = synthetic.rows([synthetic.BASELINE], seeds=2)
            made.loc[made.seed.isin(seeds), "delta_ce"] = None
            drawn = draw("4a_curves", made)
            assert len(drawn.data[drawn.data.measure == "delta_ce"]) == synthetic.EVALUATIONS * (len(seeds) == 1)

    @given(st.lists(st.tuples(st.integers(0, 100), st.sampled_from([0.0, 0.2])), min_size=2, max_size=9))
    def test_shade_is_the_longest_collapsed_end(self, evaluations):
        accuracy, worth = zip(*evaluations, strict=True)
        own = pd.DataFrame({"step": np.arange(len(accuracy)) * 10, "val_accuracy": accuracy, "delta_ce": worth})
        for why in ("accuracy", "delta_ce", "accuracy+delta_ce+distinct"):
            low = [share < messages.KEPT * max(accuracy) and "accuracy" in why for share in accuracy]
            down = [a or (w < messages.MATTERS and "delta_ce" in why) for a, w in zip(low, worth, strict=True)]
            ends = [i for i in range(len(down)) if all(down[i:])] + [len(down) - 2]
            assert bridge_curves.since(own, why) == 10 * min(ends)


class TestTokens:
    def test_every_series_has_its_configurations_and_the_reference(self, drawn_of):
        table = drawn_of("4a_tokens").data.query("measure == 'accuracy'")
        found = {name: set(part.label) for name, part in table.groupby("series") if name in bridge_series.SERIES}
        shapes, weights, sizes = (
            {f"2_{what}_{k}tok" for k in (4, 8, 32)} | {"1a_stable_16tok"} for what in ("shape", "parameters", "bytes")
        )
        assert found == {
            bridge_series.PLAN: {"2a_stable_8tok", "2b_stable_12tok", "1a_stable_16tok"},
            bridge_series.ARCHITECTURE: shapes,
            bridge_series.PARAMETERS: weights,
            bridge_series.MESSAGE: sizes,
        }
        assert (table[table.series.isin(found)].seeds == SEEDS).all()  # not those of the cell with distillation too

    def test_accuracy_against_tokens_and_bytes(self, rows, drawn_of):
        left, _, right = drawn_of("4a_tokens").figure.axes
        expected = [
            values(
                rows, f"2_bytes_{k}tok" if k != 16 else "1a_stable_16tok", "accuracy",
                protocol="arm", arm="bridged", checkpoint="best", decode_hygiene=True,
            ).mean()
            for k in (4, 8, 16, 32)
        ]  # fmt: skip
        np.testing.assert_allclose(line(left, bridge_series.MESSAGE).get_ydata(), expected)
        np.testing.assert_allclose(line(left, bridge_series.MESSAGE).get_xdata(), [4, 8, 16, 32], rtol=0.1)
        np.testing.assert_allclose(line(right, bridge_series.MESSAGE).get_xdata(), 2 * 256)
        np.testing.assert_allclose(line(right, bridge_series.ARCHITECTURE).get_xdata(), [128, 256, 512, 1024])
        assert right.get_xscale() == "log"

    def test_text_arms_entropy_and_bytes_of_the_text_stand_beside(self, rows, drawn_of):
        left, _, right = drawn_of("4a_tokens").figure.axes
        own = {"protocol": "arm", "decode_hygiene": True}
        (alone,) = values(rows, "1a_stable_16tok", "accuracy", arm="target_alone", **own)
        for ax in (left, right):
            np.testing.assert_allclose(line(ax, "target_alone").get_ydata(), alone)
        cut = line(left, "truncated")
        assert list(cut.get_xdata()) == [4, 8, 12, 16, 32]
        upright = {found.get_xdata()[0] for found in right.get_lines() if len(set(found.get_xdata())) == 1}
        cost = rows[(rows.protocol == "cost") & (rows.label == "1a_stable_16tok")].iloc[0]
        assert {cost.text_bytes, cost.entropy_bits / 8} <= upright
        low, high = left.get_xlim()
        assert low < 4 < 32 < high
        ticks = [text.get_text() for text in left.get_xticklabels()]
        assert ticks[0] == f"4\n{cost.text_tokens / 4:.1f}"

    def test_arms_that_the_number_of_tokens_decides_are_those_of_its_own(self, rows):
        """A text cut to 32 tokens stands over 32, and not beside a bridge of 16."""
        made = rows.copy()
        longer = (made.arm == "truncated") & (made.soft_tokens == 32)
        made.loc[longer, ["run", "accuracy"]] = ["z_the_last", 0.9]
        left, *_ = draw("4a_tokens", made).figure.axes
        assert line(left, "truncated").get_ydata()[-1] == pytest.approx(90)
        table = draw("4a_controls", made).data
        assert (table[table.arm == "truncated"].estimate < 10).all()

    def test_degradation_is_of_what_is_kept_and_of_the_last_weights(self):
        configs = (synthetic.STABLE, *synthetic.SERIES[:2])
        lost = {"2a_stable_8tok": 0.5}
        made = synthetic.rows(configs, end=lost, collapsed={}, noise=0.0)
        _, middle, _ = draw("4a_tokens", made).figure.axes
        np.testing.assert_allclose(line(middle, bridge_series.PLAN).get_ydata(), [0, 0, 0], atol=1e-9)
        (hollow, *_) = lines(middle, "_last weights")
        np.testing.assert_allclose(hollow.get_ydata(), [30, 0, 0], atol=1e-9)
        assert hollow.get_markerfacecolor() == "white"

    def test_draws_without_costs(self, rows):
        drawn = draw("4a_tokens", rows[rows.protocol != "cost"])
        assert drawn.figure.axes[0].get_xticklabels()[0].get_text() == "4"
        assert "tokens of the target on average" not in drawn.caption


class TestControls:
    def test_a_panel_per_task_with_every_arm(self, drawn_of):
        figure = drawn_of("4a_controls").figure
        assert [ax.get_title("left").split(";")[0] for ax in figure.axes] == ["arithmetic", "multihop"]
        names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
        assert set(names) == {*bridge.ARMS.values(), "bridged, linear", "bridged, mean_pool"}
        bridged = names.index(bridge.ARMS["bridged"])
        assert names[bridged + 1 : bridged + 3] == ["bridged, linear", "bridged, mean_pool"]

    def test_dots_stand_in_their_rows_and_bridged_stands_out(self, rows, drawn_of):
        ax = drawn_of("4a_controls").figure.axes[0]
        names = [text.get_text() for text in ax.get_yticklabels()]
        for arm in ("shuffled", "target_alone", "bridged"):
            dot = line(ax, f"_{bridge.ARMS[arm]}")
            assert names[int(dot.get_ydata()[0])] == bridge.ARMS[arm]
            own = {"protocol": "arm", "arm": arm, "decode_hygiene": True}
            part = values(rows[rows.checkpoint.isin(("best", ""))], "1a_stable_16tok", "accuracy", **own)
            assert dot.get_xdata()[0] == pytest.approx(part.mean())
        sizes = {found.get_label(): found.get_markersize() for found in ax.get_lines()}
        assert max(sizes, key=sizes.get) == f"_{bridge.ARMS['bridged']}"

    def test_the_band_ends_five_points_above_the_arm_without_a_message(self, rows, drawn_of):
        ax = drawn_of("4a_controls").figure.axes[0]
        own = {"protocol": "arm", "decode_hygiene": True}
        (floor,) = values(rows, "1a_stable_16tok", "accuracy", arm="constant", **own)
        (band,) = ax.patches
        assert (band.get_x(), band.get_width()) == (0, pytest.approx(floor + 5))

    def test_an_arm_that_a_task_lacks_is_listed(self, rows):
        lacking = rows[~((rows.arm == "relay") & (rows.task == "multihop")) & (rows.arm != "oracle")]
        drawn = draw("4a_controls", lacking)
        assert drawn.figure.get_suptitle() == "No finished run: relay (multihop), oracle"

    def test_every_arm_of_the_contract_has_a_look(self):
        known = {arm for arms, _ in bridge_controls.GROUPS.values() for arm in arms}
        assert known == set(bridge.ARMS)


class TestFactors:
    def test_effects_are_paired_by_seed(self, rows, drawn_of):
        table = drawn_of("4a_factors").data.query("panel == 'effect'").set_index(["factor", "context"])
        averaged, alone = bridge_factors.CONTEXTS
        plain = {"protocol": "stability", "early_stopping": False, "decode_hygiene": False}
        both = [values(rows, label, "test_accuracy", **plain) for label in ("1a_stable_16tok", "1b_baseline_16tok")]
        gap = both[0] - both[1]
        assert table.estimate["info_nce", alone] == pytest.approx(gap.mean())
        assert tuple(table.loc[("info_nce", alone), ["low", "high"]]) == pytest.approx(t_interval(gap))
        assert table.pairs["info_nce", averaged] == 8
        assert table.estimate["decode_hygiene", averaged] == pytest.approx(-100 * synthetic.HYGIENE_COSTS)

    def test_main_effects_are_means_over_the_other_fixes(self, rows):
        part = bridge.factorial(bridge.protocol(rows, "stability").query("stressor == ''"))
        table = bridge_factors.effects(part).set_index(["factor", "context"])
        on = part[part.early_stopping.astype(bool)].test_accuracy.mean()
        off = part[~part.early_stopping.astype(bool)].test_accuracy.mean()
        averaged, _ = bridge_factors.CONTEXTS
        assert table.estimate["early_stopping", averaged] == pytest.approx(on - off)

    def test_only_seeds_with_both_are_compared(self, rows):
        lacking = rows[~((rows.label == "1a_stable_16tok") & (rows.seed == 3))]
        table = draw("4a_factors", lacking).data.query("factor == 'info_nce'")
        assert set(table.seeds) == {3}

    def test_without_distillation_it_is_said_and_the_rest_is_drawn(self):
        drawn = draw("4a_factors", synthetic.rows([synthetic.STABLE, synthetic.BASELINE]))
        assert drawn.figure.get_suptitle() == "No finished run: trainings with and without distillation"
        assert "not trained with and without" in [text.get_text() for text in drawn.figure.axes[0].texts]
        assert set(drawn.data.factor.dropna()) == set(bridge_factors.FACTORS) - {"distill"}

    def test_the_named_configurations_keep_what_they_ask_for(self, rows, drawn_of):
        ax = drawn_of("4a_factors").figure.axes[1]
        own = {"protocol": "stability", "early_stopping": False, "decode_hygiene": False}
        expected = [values(rows, "1b_baseline_16tok", name, **own).mean() for name in bridge_factors.STAGES]
        np.testing.assert_allclose(line(ax, "_no fixes").get_ydata(), expected)
        own = {"protocol": "stability", "early_stopping": True, "decode_hygiene": True}
        expected = [values(rows, "1a_stable_16tok", name, **own).mean() for name in bridge_factors.STAGES]
        np.testing.assert_allclose(line(ax, "_all fixes").get_ydata(), expected)
        assert "no fixes 1/4, all fixes 0/4" in ax.get_title("left")


class TestStressors:
    def test_cells_count_collapsed_seeds(self, drawn_of):
        table = drawn_of("4a_stressors").data.set_index(["stressor", "fixes"])
        for stressor in ("decay", "rate_x10"):
            assert tuple(table.loc[(stressor, "no fixes"), ["collapsed", "seeds"]]) == (4, 4)
            assert tuple(table.loc[(stressor, "InfoNCE"), ["collapsed", "seeds"]]) == (0, 4)
            assert table.collapsed[stressor, "early stopping"] == 0
        assert table.collapsed["none", "no fixes"] == 1
        assert table.why["decay", "no fixes"] == "accuracy+delta_ce+distinct"
        assert table.high["decay", "InfoNCE"] == pytest.approx(100 * proportions.wilson(0, 4)[1])

    def test_cells_say_counts_and_accuracies_on_shades(self, rows, drawn_of):
        (ax,) = drawn_of("4a_stressors").figure.axes
        texts = {(round(text.get_position()[0]), round(text.get_position()[1])): [] for text in ax.texts}
        for text in ax.texts:
            texts[round(text.get_position()[0]), round(text.get_position()[1])].append(text.get_text())
        own = {"protocol": "stability", "early_stopping": False, "decode_hygiene": False}
        peak, final = (values(rows, "stress_decay_none", name, **own).mean() for name in ("peak", "final"))
        assert [text.get_text() for text in ax.get_yticklabels()] == ["none", "decay", "rate_x10"]
        assert texts[0, 1] == ["4/4", f"{peak:.0f} → {final:.0f} %"]
        assert texts[2, 1] == ["not run"]
        shades = {patch.get_xy(): sum(patch.get_facecolor()[:3]) for patch in ax.patches}
        assert shades[-0.5, 0.5] < shades[-0.5, -0.5] < shades[0.5, 0.5]

    def test_clipping_that_was_varied_makes_rows_of_its_own(self, rows):
        decay = rows[rows.stressor == "decay"]
        unclipped = decay.assign(clip=0.0, run="z", collapsed=False)
        drawn = draw("4a_stressors", pd.concat([rows.assign(clip=1.0), unclipped]))
        table = drawn.data[drawn.data.fixes == "no fixes"].set_index("stressor").collapsed
        assert table.to_dict() == {"none": 1, "decay, clip 0.0": 0, "decay, clip 1.0": 4, "rate_x10": 4}
        (ax,) = drawn.figure.axes
        assert [text.get_text() for text in ax.get_yticklabels()] == list(table.index)

    def test_needs_a_stressor(self, rows):
        with pytest.raises(Undrawable, match="has a stressor"):
            draw("4a_stressors", rows[rows.stressor == ""])


class TestTasks:
    def test_both_checkpoints_beside_the_text_arms(self):
        made = synthetic.rows([synthetic.STABLE, *synthetic.TASKS], end={"3a_multihop_16tok": 0.5}, collapsed={})
        drawn = draw("4a_tasks", made)
        left, _ = drawn.figure.axes
        own = {"protocol": "arm", "arm": "bridged", "decode_hygiene": True}
        for checkpoint in ("best", "final"):
            mean = values(made, "3a_multihop_16tok", "accuracy", checkpoint=checkpoint, **own).mean()
            assert line(left, f"_multihop, bridged, {checkpoint}").get_xdata()[0] == pytest.approx(mean)
        hollow, full = (line(left, f"_arithmetic, bridged, {name}") for name in ("final", "best"))
        assert hollow.get_markerfacecolor() == "white" != full.get_markerfacecolor()
        relay = line(left, "_multihop, relay, ")
        names = [text.get_text() for text in left.get_yticklabels()]
        assert names[round(relay.get_ydata()[0])] == bridge.ARMS["relay"]

    def test_differences_are_paired_by_item(self, rows, drawn_of):
        table = drawn_of("4a_tasks").data.query("panel == 'difference'")
        row = table[(table.task == "arithmetic") & (table.checkpoint == "best") & (table.against == "relay")].iloc[0]
        part = rows[(rows.protocol == "arm") & (rows.label == "1a_stable_16tok") & rows.decode_hygiene.eq(True)]
        ours = part[(part.arm == "bridged") & (part.checkpoint == "best")].sort_values("seed").correct
        (theirs,) = part[part.arm == "relay"].correct
        gap = proportions.paired_difference(list(ours), theirs)
        assert (row.estimate, row.low, row.high) == pytest.approx((100 * gap.estimate, 100 * gap.low, 100 * gap.high))
        share = np.mean([[int(mark) for mark in answers] for answers in ours]) - np.mean([int(x) for x in theirs])
        assert row.estimate == pytest.approx(100 * share)

    def test_a_task_without_an_arm_is_listed(self, rows):
        lacking = rows[~((rows.arm == "truncated") & (rows.task == "multihop"))]
        assert draw("4a_tasks", lacking).figure.get_suptitle() == "No finished run: truncated (multihop)"
