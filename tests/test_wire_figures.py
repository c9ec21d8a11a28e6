"""Figures of 4b from rows whose answers are known: artists, data and captions, not pixels."""

from collections.abc import Callable
from functools import cache

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import wire_rows as synthetic
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as distributions
from wire_rows import BEST, NARROW, NARROW_NOISY, NOISY, config

from lib import figures
from lib.figures import Drawn, Undrawable, style, wire
from lib.params.wire import CODECS, SCALES

NAMES = ("4b_bytes", "4b_frontier", "4b_overhead", "4b_payback", "4b_geometry")
MEASURED = NAMES[:4]
SEEDS = 4


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    return synthetic.rows(seeds=SEEDS, noise=0.01)


@pytest.fixture(scope="module")
def drawn_of(rows) -> Callable[[str], Drawn]:
    """Each figure of `rows`, drawn once; a closed figure can still be read."""
    return cache(lambda name: draw(name, rows))


def draw(name: str, rows: pd.DataFrame, missing: tuple[str, ...] = ()) -> Drawn:
    return figures.specs()[name].draw(rows, missing)


def line(ax, label: str):
    (found,) = [found for found in ax.get_lines() if found.get_label() == label]
    return found


def words(ax) -> str:
    return "\n".join(text.get_text() for text in ax.texts)


def own(rows: pd.DataFrame, label: str, **equal: object) -> pd.DataFrame:
    """A run's message rows, read without the code under test."""
    part = rows[(rows.protocol == "message") & (rows.label == label)]
    for column, wanted in equal.items():
        part = part[part[column] == wanted]
    return part


class TestEveryFigure:
    def test_names_belong_to_the_experiment(self):
        assert {name for name, spec in figures.specs().items() if spec.experiment == "4b_wire"} == {*NAMES, "4b_table"}

    @pytest.mark.parametrize("name", NAMES)
    def test_lists_what_is_missing(self, name, rows):
        drawn = draw(name, rows, ("narrow_7",))
        assert "No finished run: narrow_7" in drawn.figure.get_suptitle()
        assert "no finished run was found: narrow_7" in drawn.caption
        assert drawn.figure.get_size_inches()[0] == style.TEXT

    @pytest.mark.parametrize("name", NAMES)
    def test_refuses_rows_of_other_protocols_in_a_sentence(self, name, rows):
        for nothing in (rows.assign(protocol="audit"), rows[:0], pd.DataFrame()):
            with pytest.raises(Undrawable, match=r"python -m lib\.sweep 4b_wire") as refused:
                draw(name, nothing)
            assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("name", NAMES)
    def test_does_not_depend_on_the_order_of_rows(self, name, rows, drawn_of):
        shuffled = draw(name, rows.sample(frac=1, random_state=0))
        columns = [column for column in ("codec", "scales", "name", "coder", "geometry") if column in shuffled.data]
        tables = [drawn.data.sort_values(columns, ignore_index=True) for drawn in (drawn_of(name), shuffled)]
        pd.testing.assert_frame_equal(*tables, check_exact=False)
        assert drawn_of(name).caption == shuffled.caption

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("of", [config("quick", 8, 16, label_of="2a_stable_8tok"), NARROW_NOISY])
    def test_draws_a_single_run_of_one_seed(self, name, of):
        """What a notebook has, also where it is not the plan's best, or was trained with noise."""
        assert draw(name, synthetic.rows([of], seeds=1)).figure.axes

    @pytest.mark.parametrize("name", NAMES)
    def test_draws_a_bridge_that_learned_nothing_and_no_text(self, name):
        made = synthetic.rows([BEST], seeds=1, accuracy={"best": 0.0})
        made = made[~made.protocol.isin(["text", "floor"])].drop(columns=["coder", "entropy_bytes", "bytes"])
        assert draw(name, made).figure.axes

    @pytest.mark.parametrize("name", NAMES)
    def test_draws_float_codecs_alone_and_an_unknown_floor(self, name):
        made = synthetic.rows([BEST], seeds=2).assign(entropy_bytes=None)
        drawn = draw(name, made[~made.codec.isin([codec for codec in synthetic.BITS if codec.startswith("int")])])
        assert "entropy of a question" not in drawn.caption

    @pytest.mark.parametrize("name", MEASURED)
    def test_the_newest_run_about_a_bridge_counts(self, name, rows, drawn_of):
        old = synthetic.rows([BEST, NARROW], seeds=2, accuracy={"best": 0.1, "narrow": 0.99}).assign(run="older")
        newest_last = draw(name, pd.concat([old, rows], ignore_index=True))
        pd.testing.assert_frame_equal(drawn_of(name).data, newest_last.data)

    @pytest.mark.parametrize("name", MEASURED)
    def test_another_pair_or_task_stays_out(self, name, rows, drawn_of):
        for changes in ({"target": "other"}, {"task": "multihop", "label_of": "3_a"}):
            others = synthetic.rows([NARROW | changes | {"width": 2}], seeds=2).assign(run="other")
            drawn = draw(name, pd.concat([others, rows], ignore_index=True))
            pd.testing.assert_frame_equal(drawn_of(name).data, drawn.data)


class TestShared:
    def test_the_reference_is_the_plans_best_as_4a_trained_it(self, rows):
        assert set(wire.messages(rows).query("reference").label) == {"best"}
        larger = config("larger", 32, 32)
        baseline = config("baseline", soft_tokens=0, wire_dim=0, label_of="1b_baseline_16tok")
        for others in ((larger, BEST), (BEST, larger), (baseline, NOISY, BEST)):
            part = wire.messages(synthetic.rows(others, seeds=2))
            assert set(part[part.reference].label) == {"best"}
        part = wire.messages(synthetic.rows([NARROW, NOISY], seeds=2))
        assert set(part[part.reference].label) == {"narrow"}

    def test_points_have_t_intervals_over_seeds_and_text_has_wilsons(self, rows):
        part = wire.messages(rows)
        table, texts = wire.points(part), wire.texts(rows, part)
        (row,) = table[(table.name == "16 × 6") & (table.codec == "int4") & (table.scales == "fp16")].itertuples()
        shares = 100 * own(rows, "narrow", codec="int4", scales="fp16").accuracy.to_numpy(float)
        interval = distributions.t.interval(0.95, SEEDS - 1, shares.mean(), distributions.sem(shares))
        assert (row.estimate, row.low, row.high) == pytest.approx((shares.mean(), *interval))
        assert (row.seeds, row.items) == (SEEDS, synthetic.N_TEST)
        wilson = distributions.binomtest(195, 200).proportion_ci(method="wilson")
        coders = texts[texts.coder != wire.FLOOR]
        np.testing.assert_allclose(coders.low, 100 * wilson.low)
        assert list(texts.coder) == [*synthetic.CODERS, wire.FLOOR]
        assert set(coders.seeds) == {0}

    def test_bridges_with_messages_of_one_size_have_names_of_their_own(self):
        longer, plain = config("longer", train_steps=640), config("plain", width=6, label_of="1b_baseline_16tok")
        table = wire.points(wire.messages(synthetic.rows([BEST, longer, NARROW, plain], seeds=2)))
        assert set(table.name) == {
            "16 × 16 (320 steps)", "16 × 16 (640 steps)", "16 × 6 (1a_stable_16tok)", "16 × 6 (1b_baseline_16tok)",
        }  # fmt: skip

    def test_names_and_captions_tell_of_longer_training(self, drawn_of):
        longer = config("longer", tokens=4, width=8, train_steps=1280)
        made = synthetic.rows([BEST, NARROW, longer], seeds=2)
        assert set(wire.points(wire.messages(made)).name) == {"16 × 16", "16 × 6", "4 × 8 (1280 steps)"}
        for name in ("4b_bytes", "4b_frontier"):
            caption = draw(name, made).caption
            assert "not trained equally long" in caption
            assert "1280 steps: 4 × 8 (1280 steps). 320 steps: all others. " in caption
            assert "equally long" not in drawn_of(name).caption

    def test_the_finest_scales_are_chosen_for_each_bridge_and_codec(self, rows):
        part = wire.messages(rows)
        part = part[~((part.label == "narrow") & (part.codec == "int4") & (part.scales == "fp32"))]
        found = wire.finest(part).groupby(["label", "codec"]).scales.unique().map(list)
        assert found["narrow", "int4"] == ["fp16"]
        assert found["narrow", "int3"] == found["best", "int4"] == ["fp32"]
        assert found["narrow", "fp16"] == [""]

    def test_codecs_are_those_of_the_parameters(self):
        assert wire.CODECS == CODECS
        assert set(wire.SCALES) - {""} == set(SCALES)

    def test_text_comes_from_any_run_of_the_task_that_coded_it(self, rows):
        silent = rows[(rows.label == "best") | ~rows.protocol.isin(["text", "floor"])]
        part = wire.messages(silent)
        pd.testing.assert_frame_equal(wire.texts(silent, part), wire.texts(rows, part))

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=9).map(sorted), st.floats(0.01, 0.2))
    def test_names_are_pushed_apart_no_further_than_needed(self, wanted, gap):
        placed = wire.apart(wanted, gap)
        assert (np.diff(placed) >= gap - 1e-9).all()
        assert placed.mean() == pytest.approx(np.mean(wanted))
        if (np.diff(wanted) >= gap).all():
            np.testing.assert_allclose(placed, wanted, atol=1e-9)
        centred = np.mean(wanted) + gap * (np.arange(len(wanted)) - (len(wanted) - 1) / 2)
        assert ((placed - wanted) ** 2).sum() <= ((centred - wanted) ** 2).sum() + 1e-9, "another that fits is as near"


class TestBytes:
    def test_a_line_per_bridge_over_its_codecs(self, rows, drawn_of):
        (ax,) = drawn_of("4b_bytes").figure.axes
        assert ax.get_xscale() == "log"
        reference = line(ax, "16 × 16")
        part = own(rows, "best")
        fine = part[part.scales.isin(["", "fp32"])].groupby("codec")
        codecs = list(synthetic.BITS)
        np.testing.assert_allclose(reference.get_xdata(), fine.frame_bytes.mean()[codecs])
        np.testing.assert_allclose(reference.get_ydata(), 100 * fine.accuracy.mean()[codecs])
        noisy = line(ax, "16 × 6, 4-bit noise")
        sizes = own(rows, "narrow_noisy", seed=0).query("scales != 'fp16'").frame_bytes
        np.testing.assert_allclose(noisy.get_xdata(), sizes, rtol=0.12)  # lines are shifted a little
        assert noisy.get_color() != reference.get_color()
        assert line(ax, "_8 × 8").get_color() == "0.7"

    @pytest.mark.parametrize(
        ("label", "name"), [("narrow", "16 × 6"), ("few", "8 × 8"), ("noisy", "16 × 16, 4-bit noise")]
    )
    def test_lines_run_over_the_finest_scales_that_there_are(self, rows, label, name):
        part = rows[~((rows.label == label) & (rows.scales == "fp32"))]
        (ax,) = draw("4b_bytes", part).figure.axes
        (own_line,) = [found for found in ax.get_lines() if found.get_label().lstrip("_") == name]
        means = own(part, label).groupby("codec")[["frame_bytes", "accuracy"]].mean().loc[list(synthetic.BITS)]
        np.testing.assert_allclose(own_line.get_xdata(), means.frame_bytes)
        np.testing.assert_allclose(own_line.get_ydata(), 100 * means.accuracy)

    def test_what_the_frontier_rings_has_a_colour_and_intervals(self):
        noisy = [config(f"noisy_{width}", width=width, noise=4) for width in (8, 9, 10, 11, 12, 16)]
        plain = config("plain", tokens=4, width=8)
        made = synthetic.rows([BEST, plain, *noisy], accuracy={"plain": 0.96}, noise=0.01)
        made = made[~((made.label == "plain") & (made.scales == "fp32"))]
        ringed = line(draw("4b_frontier", made).figure.axes[0], "_smallest").get_xdata()[0]
        assert ringed in set(own(made, "plain").frame_bytes)
        (ax,) = draw("4b_bytes", made).figure.axes
        seen = line(ax, "4 × 8")
        assert ringed in seen.get_xdata()
        assert seen.get_color() not in ("0.7", line(ax, "16 × 16").get_color())
        at = [path[0][0] for lines in ax.collections for path in lines.get_segments()]
        assert ringed in at
        coloured = {found.get_label() for found in ax.get_lines() if not found.get_label().startswith("_")}
        assert len(coloured) == 1 + 4

    def test_of_many_bridges_with_noise_the_smallest_accurate_frames_have_colours(self):
        noisy = [config(f"noisy_{width}", width=width, noise=4) for width in (4, 5, 6, 7, 8, 16)]
        shares = {"noisy_4": 0.5, "noisy_5": 0.97, "noisy_6": 0.8, "noisy_7": 0.98, "noisy_8": 0.96, "noisy_16": 0.2}
        (ax,) = draw("4b_bytes", synthetic.rows([BEST, *noisy], accuracy=shares)).figure.axes
        named = {found.get_label() for found in ax.get_lines() if not found.get_label().startswith("_")}
        assert named == {"16 × 16", *(f"16 × {width}, 4-bit noise" for width in (16, 5, 7, 8))}
        assert line(ax, "_16 × 6, 4-bit noise").get_color() == "0.7"

    def test_scales_of_two_bytes_are_hollow_and_coded_frames_fainter_and_smaller(self, rows, drawn_of):
        (ax,) = drawn_of("4b_bytes").figure.axes
        hollow, faint = line(ax, "_16 × 16, fp16 scales"), line(ax, "_16 × 16, entropy-coded")
        half = own(rows, "best", scales="fp16", seed=0)
        np.testing.assert_allclose(hollow.get_xdata(), half.frame_bytes)
        assert hollow.get_markerfacecolor() == "white"
        coded = own(rows, "best", seed=0)
        coded = coded[coded.coded_bytes < coded.frame_bytes].coded_bytes
        np.testing.assert_allclose(np.sort(faint.get_xdata()), np.sort(coded))
        assert faint.get_alpha() < 1

    def test_text_stands_at_its_accuracy_and_the_floor_as_a_line(self, drawn_of):
        (ax,) = drawn_of("4b_bytes").figure.axes
        for coder, (size, _) in synthetic.CODERS.items():
            dot = line(ax, f"_{coder}")
            assert (*dot.get_xdata(), *dot.get_ydata()) == pytest.approx((size, 97.5))
        assert set(line(ax, "_entropy").get_xdata()) == {synthetic.ENTROPY_BYTES}
        for said in ("UTF-8, 104 B", "coded under the LM, 4.2 B", "entropy, 2.9 B", "fp16\nbf16", "int2"):
            assert said in words(ax)

    def test_says_n_on_the_figure_and_of_one_seed_claims_nothing_of_others(self, drawn_of):
        (ax,) = drawn_of("4b_bytes").figure.axes
        assert "test items: n = 200; seeds: n = 4" in ax.get_xlabel()
        assert "Means over 4 seeds" in drawn_of("4b_bytes").caption
        assert "One seed" in draw("4b_bytes", synthetic.rows([BEST], seeds=1)).caption

    def test_a_lossy_coder_is_hollow(self):
        made = synthetic.rows([BEST], seeds=1)
        made.loc[made.coder == "zstd_dict", "lossless"] = False
        (ax,) = draw("4b_bytes", made).figure.axes
        assert line(ax, "_zstd_dict").get_markerfacecolor() == "white"
        assert line(ax, "_utf8").get_markerfacecolor() != "white"


class TestFrontier:
    def test_nothing_smaller_is_as_accurate(self, drawn_of):
        data = drawn_of("4b_frontier").data.query("arm == 'message'")
        for size in ("frame_bytes", "payload_bytes", "coded_bytes", "coded_payload_bytes"):
            for row in data.itertuples():
                bytes_of, share = getattr(row, size), row.estimate
                better = (data[size] <= bytes_of) & (data.estimate >= share)
                strictly = better & ((data[size] < bytes_of) | (data.estimate > share))
                assert getattr(row, f"{size}_front") == (not strictly.any())
        best = data[data.frame_bytes_front.eq(True)].sort_values("frame_bytes")
        step = line(drawn_of("4b_frontier").figure.axes[0], "_front frame_bytes")
        np.testing.assert_allclose(np.unique(step.get_xdata()), best.frame_bytes.unique())

    def test_payload_is_scales_and_codes(self, drawn_of):
        data = drawn_of("4b_frontier").data.query("arm == 'message'")
        np.testing.assert_allclose(data.payload_bytes, data.scale_bytes + data.code_bytes)
        saved = data.frame_bytes - data.coded_bytes
        np.testing.assert_allclose(data.coded_payload_bytes, data.payload_bytes - saved)

    @pytest.mark.parametrize(("noise", "said"), [(0.0, "passes"), (0.02, "does not pass")])
    def test_rings_the_smallest_accurate_frame_and_says_what_its_interval_does(self, noise, said):
        shares = {"best": 0.99, ("narrow", "int4"): 0.955, ("narrow", "int3"): 0.94, ("narrow", "int2"): 0.1}
        made = synthetic.rows([BEST, NARROW], accuracy=shares, noise=noise, rng_seed=1)
        left, right = draw("4b_frontier", made).figure.axes
        part = made[(made.protocol == "message") & (made.n > 0)]
        means = part.groupby(["label", "codec", "scales"]).agg({"accuracy": "mean", "frame_bytes": "mean"})
        expected = means[means.accuracy >= 0.95].frame_bytes.min()
        assert line(left, "_smallest").get_xdata()[0] == expected
        assert line(right, "_smallest").get_xdata()[0] == expected - 36
        assert f"{expected:.4g} B" in words(left)
        assert " ".join(words(left).split()).count(said) == 1

    def test_what_is_said_of_the_ring_hides_no_dot_and_no_frontier(self, drawn_of):
        for ax in drawn_of("4b_frontier").figure.axes:
            (said,) = [text for text in ax.texts if text.get_text().startswith("ringed")]
            fronts = [found for found in ax.get_lines() if found.get_label().startswith("_front")]
            dots = [line(ax, "_plain"), line(ax, "_noise")]
            assert said.get_zorder() < min(found.get_zorder() for found in [*fronts, *dots])
            assert (said.get_position()[0], said.get_ha()) == (0.99, "right")

    def test_says_so_where_no_frame_is_accurate_enough(self):
        drawn = draw("4b_frontier", synthetic.rows([BEST], accuracy={"best": 0.8}))
        assert "none reaches 95 %" in words(drawn.figure.axes[0])
        assert "whole frame: none" in drawn.caption
        assert "optimistic" not in drawn.caption

    def test_names_the_text_that_the_smallest_frame_beats(self):
        drawn = draw("4b_frontier", synthetic.rows([NARROW], accuracy={"narrow": 0.96}))
        assert "16 × 6 in int2 with fp16 scales, 66 bytes (96.0 %, interval 96.0 to 96.0), " in drawn.caption
        assert "smaller than UTF-8 and deflate (with" in drawn.caption
        assert "scales and codes alone: 16 × 6 in int2 with fp16 scales, 30 bytes" in drawn.caption

    def test_text_and_floor_are_lines_in_both_panels(self, drawn_of):
        for ax in drawn_of("4b_frontier").figure.axes:
            for coder, (size, _) in synthetic.CODERS.items():
                assert set(line(ax, f"_{coder}").get_xdata()) == {size}
            assert set(line(ax, "_enough").get_ydata()) == {95.0}


class TestOverhead:
    def test_parts_of_each_bar_add_up_to_the_frame(self, rows, drawn_of):
        (ax,) = drawn_of("4b_overhead").figure.axes
        names = [text.get_text() for text in ax.get_yticklabels()]
        ends: dict[str, float] = {}
        for bars in ax.containers:
            for bar in bars:
                row = names[round(bar.get_y() + bar.get_height() / 2)]
                assert row not in ends or bar.get_x() == pytest.approx(ends[row])
                ends[row] = bar.get_x() + bar.get_width()
        for codec in ("fp32", "int6", "int2"):
            for scales in ("fp32", "fp16") if codec != "fp32" else ("",):
                frame = own(rows, "best", codec=codec, scales=scales).frame_bytes.iloc[0]
                assert ends[codec + (f", {scales} scales" if scales else "")] == pytest.approx(frame)
        assert ends["text: UTF-8"] == synthetic.TEXT_BYTES
        assert ends["text: zstd, dictionary"] == synthetic.CODERS["zstd_dict"][0]
        assert len(ends) == len(names) == 13 + 3

    def test_scales_grow_with_their_format(self, drawn_of):
        data = drawn_of("4b_overhead").data.query("codec == 'int4'").set_index("scales")
        assert (data.scale_bytes["fp32"], data.scale_bytes["fp16"]) == (32, 16)


class TestPayback:
    def test_lines_begin_with_what_both_sides_hold(self, drawn_of):
        (ax,) = drawn_of("4b_payback").figure.axes
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        dictionary = line(ax, "zstd, dictionary: 17 B, 97.5 %")
        np.testing.assert_allclose(dictionary.get_ydata(), 16384 + 17 * dictionary.get_xdata())
        (bridge_line,) = [found for found in ax.get_lines() if found.get_label().startswith("bridge 16 × 16, int4")]
        assert bridge_line.get_ydata()[0] == pytest.approx(4 * BEST["bridge_parameters"] + 196)

    def test_dots_lie_on_both_lines(self, drawn_of):
        (ax,) = drawn_of("4b_payback").figure.axes
        dot = line(ax, "_pays coded under the LM")
        (x,), (y,) = dot.get_xdata(), dot.get_ydata()
        assert y == 104 * x
        assert 104 * (x - 1) < 1_400_000 + 4.2 * (x - 1) < 1_400_000 + 4.2 * x <= y
        assert f"{x:,.0f}" in words(ax)
        assert not [found for found in ax.get_lines() if found.get_label().startswith("_pays bridge")]
        assert "bridge 16 × 16, int4 never" in drawn_of("4b_payback").caption

    def test_a_bridge_that_beats_utf8_pays_back(self):
        drawn = draw("4b_payback", synthetic.rows([NARROW], accuracy={"narrow": 0.97}))
        (row,) = drawn.data[drawn.data.sender == "bridge 16 × 6, int2, fp16 scales"].itertuples()
        assert row.pays_after == np.ceil(4 * NARROW["bridge_parameters"] / (104 - 66))
        (ax,) = drawn.figure.axes
        assert ax.get_lines()[0].get_xdata()[-1] >= 10 * drawn.data.pays_after.replace(np.inf, 0).max()


class TestGeometry:
    def test_every_size_in_every_codec_stands_at_its_bytes(self, rows, drawn_of):
        (ax,) = drawn_of("4b_geometry").figure.axes
        assert ax.get_yscale() == "log"
        dots = line(ax, "_64 x 4096, fp16")
        names = [text.get_text() for text in ax.get_xticklabels()]
        found = {names[round(x)]: y for x, y in zip(dots.get_xdata(), dots.get_ydata(), strict=True)}
        assert found["int4"] == 64 * 4096 // 2 + 2 * 64 * 4096 // 32 + 36
        assert set(found) == {"int8", "int6", "int4", "int3", "int2"}
        assert set(line(ax, "_prompt").get_ydata()) == {480.0}
        assert set(line(ax, "_kv_cache").get_ydata()) == {synthetic.KV_BYTES}

    def test_says_how_many_times_the_prompt_it_is(self, drawn_of):
        drawn = drawn_of("4b_geometry")
        assert "341×" in words(drawn.figure.axes[0])
        assert "64 × 4096 341×" in drawn.caption
        assert "(150 tokens, assumed)" in drawn.caption
        assert "KV cache, Llama-3.1-8B: 18.8 MiB" in words(drawn.figure.axes[0])

    def test_needs_no_message(self, rows):
        assert draw("4b_geometry", rows[rows.protocol == "geometry"]).figure.axes

    def test_caches_of_one_size_share_a_line(self, rows):
        cache_rows = rows[rows.codec == "kv_cache"].assign(geometry="KV cache, Mistral-7B")
        (ax,) = draw("4b_geometry", pd.concat([rows, cache_rows.assign(run=rows.run.iloc[-1])])).figure.axes
        assert len([found for found in ax.get_lines() if found.get_label() == "_kv_cache"]) == 1
        assert "KV cache, Mistral-7B" in words(ax)
