"""Figures of 4c from rows whose answers are known: artists, data and captions, not pixels."""

import inference_rows as planted
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from inference_rows import MESSAGE4, MESSAGE8

from lib import figures
from lib.figures import Undrawable, inference
from lib.figures.inference import RAN, RUNS

NAMES = ("4c_stages", "4c_memory", "4c_throughput", "4c_breakeven")


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def rows():
    return planted.rows()


def draw(name, rows, missing=()):
    return figures.specs()[name].draw(rows, missing)


def total(arm, size, number, leave=()):
    return sum(s for stage, s in planted.batch_seconds(arm, size, number).items() if stage not in leave)


def middle(values):
    return float(np.median(list(values)))


SOURCE = ("source_tokenize_s", "source_prefill_s")


@pytest.mark.parametrize("size", planted.BATCHES)
@pytest.mark.parametrize("arm", planted.TOKENS)
@pytest.mark.parametrize(("accounting", "leave"), [(RUNS, ()), (RAN, SOURCE)])
def test_totals_are_medians_over_batches_of_medians_over_repeats(rows, arm, size, accounting, leave):
    found = inference.times(rows)
    row = found[(found.arm == arm) & (found.batch_size == size) & (found.accounting == accounting)].iloc[0]
    count = planted.SAMPLES // size
    assert row.estimate == pytest.approx(middle(total(arm, size, i, leave) for i in range(count)))
    assert row.n == count
    assert np.isnan(row.low) == (count < 6)


@pytest.mark.parametrize("bandwidth", [10.0, 1000.0])
def test_a_link_takes_the_bits_of_all_questions_over_its_bandwidth(rows, bandwidth):
    with_link, without = (inference.latency(rows, link) for link in (bandwidth, 0.0))
    for arm, sent in planted.SENT.items():
        own = with_link[(with_link.arm == arm) & (with_link.batch_size == 4)]
        assert own.link_s.tolist() == pytest.approx([4 * sent * 8 / (bandwidth * 1e6)] * len(own))
    assert (without.link_s == 0).all()


def test_speedups_compare_the_same_batches(rows):
    found = inference.speedups(rows).set_index(["arm", "batch_size", "accounting"]).estimate
    for arm in (MESSAGE8, MESSAGE4):  # all batches grow alike, so the ratio is the same in each
        assert found[arm, 4, RUNS] == pytest.approx(total("text", 1, 0) / total(arm, 1, 0))
        assert found[arm, 4, RAN] == pytest.approx(total("text", 1, 0) / total(arm, 1, 0, SOURCE))


def test_what_a_source_may_cost_by_the_clock(rows):
    found = inference.breakeven(rows).set_index(["arm", "batch_size", "measure"]).estimate
    assert found[MESSAGE8, 1, "affordable"] == pytest.approx((10 - 1 - 0.5 - 0.25 - 0.25 - 4) / 10)
    assert found[MESSAGE4, 8, "affordable"] == pytest.approx((10 - 1 - 0.25 - 0.25 - 0.5 - 2) / 10)
    assert found[MESSAGE8, 1, "ratio"] == pytest.approx(0.4)


def test_memory_is_told_per_question_and_with_the_source(rows):
    found = inference.memory(rows).set_index(["arm", "batch_size"])
    for size in planted.BATCHES:
        row = found.loc[(MESSAGE8, size)]
        assert row.kv_bytes == 700
        assert row.saved_kv == pytest.approx(30)
        assert row.saved_kv_with_source == pytest.approx(0)
        assert row.saved_peak == pytest.approx(30)
        assert row.saved_peak_with_source == pytest.approx(100 * (1 - 1900 / 2000))
        assert row.weight_bytes == 8000  # in all, not per question


def test_the_newest_run_counts(rows):
    newer = planted.frame(planted.latency(), run="run_2").assign(decode_s=1.0)
    assert inference.latency(pd.concat([rows, newer])).decode_s.eq(1.0).all()
    assert inference.latency(pd.concat([newer, rows])).decode_s.lt(1.0).all()


def test_stage_bars_follow_one_another_and_end_at_the_total(rows):
    drawn = draw("4c_stages", rows)
    axes = drawn.figure.axes
    assert len(axes) == 6
    whole, before = axes[:2]
    data = drawn.data[(drawn.data.batch_size == 1) & (drawn.data.arm == MESSAGE8)]
    medians = middle(1 + i / 10 for i in range(24))
    link = 8 * planted.SENT[MESSAGE8] / 10e6 * 1e3
    ends = [bar.get_x() + bar.get_width() for bar in whole.patches if round(bar.get_y() + bar.get_height() / 2) == 1]
    assert max(ends) == pytest.approx(1e3 * total(MESSAGE8, 1, 0) * medians + link)
    shown = data[(data.until == "writing") & (data.stage == RAN)].ms.item()
    assert shown == pytest.approx(1e3 * total(MESSAGE8, 1, 0, (*SOURCE, "decode_s")) * medians + link)
    assert [text.get_text() for text in whole.get_yticklabels()] == ["text", "message, 8 tokens", "message, 4 tokens"]
    assert sum(bool(bar.get_hatch()) for bar in before.patches) == 2 * 3  # two stages of the source in each bar
    assert "(" not in whole.texts[0].get_text()  # the text has no source
    assert "(" in whole.texts[1].get_text()
    legend = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert "link of 10 Mbit/s" in legend
    assert len(legend) == 10


def test_without_links_none_is_drawn(rows):
    plain = rows.assign(bandwidths=[(0.0,)] * len(rows))
    drawn = draw("4c_stages", plain)
    assert not any("link" in text.get_text() for text in drawn.figure.legends[0].get_texts())
    assert "Mbit" not in drawn.caption


def test_memory_bars_and_changes(rows):
    drawn = draw("4c_memory", rows)
    cache, peak, weights = drawn.figure.axes
    assert [text.get_text().strip() for text in cache.texts] == ["", "-30 % (0 %)", "-40 % (-10 %)"]
    assert [bar.get_width() for bar in cache.patches] == [1000, 700, 600, 0, 300, 300]
    assert [bar.get_width() for bar in peak.patches] == [2000, 1400, 1200, 0, 500, 500]
    assert [bar.get_width() for bar in weights.patches] == [5000] * 3 + [0, 3000, 3000]
    assert "2 batches" in drawn.caption


def test_throughput_is_questions_over_seconds(rows):
    drawn = draw("4c_throughput", rows)
    ran, must = drawn.figure.axes
    assert [ax.get_title(loc="left") for ax in (ran, must)] == [RAN, RUNS]
    for ax, leave in ((ran, SOURCE), (must, ())):
        line = ax.get_lines()[1]
        rates = [middle(s / total(MESSAGE8, s, i, leave) for i in range(24 // s)) for s in planted.BATCHES]
        assert line.get_label() == "message, 8 tokens"
        assert list(line.get_ydata()) == pytest.approx(rates)
        assert ax.get_xscale() == "log"


def test_an_engine_has_a_panel_of_its_own(rows):
    served = planted.frame(planted.serving(), run="run_2", backend="vllm")
    both, alone = draw("4c_throughput", pd.concat([rows, served])), draw("4c_throughput", served)
    assert len(both.figure.axes) == 3
    (ax,) = alone.figure.axes
    assert list(ax.get_lines()[0].get_ydata()) == [10, 40, 80]  # medians over the repeats
    assert "vLLM 0.32.0" in alone.caption


def test_breakeven_marks_the_questions_asked(rows):
    drawn = draw("4c_breakeven", rows)
    here, plan, clock = drawn.figure.axes
    marks = {tuple(line.get_xydata()[0]) for line in here.get_lines() if len(line.get_xdata()) == 1}
    assert {(25, 0.5), (25, 0.7), (25, 0.9)} <= marks
    assert any(list(line.get_xdata()) == [16, 150, 1024] for line in plan.get_lines())
    filled = [line for line in clock.get_lines() if line.get_linestyle() == "-" and len(line.get_xdata()) == 3]
    assert list(filled[0].get_ydata()) == pytest.approx([0.4] * 3)
    assert "spends 2.1 TFLOP to save 1.2 on 150 tokens" in drawn.caption


def test_captions_name_the_plans_length_and_the_texts_padding_masks(rows):
    assert "with the plan's, the 150 tokens that it assumes" in draw("4c_breakeven", rows).caption
    timed = inference.protocol(rows, "latency")
    assert inference.masked(timed) == (2 + 2, 24 // 4 + 24 // 8)
    assert inference.masked(timed.assign(padded_tokens=29.0)) == (0, 9)
    for name in ("4c_stages", "4c_throughput", "4c_breakeven"):
        assert "4 of the text's 9 batches of several questions (44%) had a padding mask" in draw(name, rows).caption
    assert inference.masks_sentence(timed[timed.batch_size == 1]) == ""


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_says_what_is_missing(rows, name):
    drawn = draw(name, rows, ["full_cell"])
    assert "full_cell" in drawn.figure.get_suptitle()
    assert "full_cell" in drawn.caption


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_what_a_figure_needs_are_refused_in_a_sentence(rows, name):
    with pytest.raises(Undrawable, match=r"lib\.sweep 4c_inference"):
        draw(name, rows[rows.protocol == "quality"])


def test_arms_of_equal_tokens_are_told_apart(rows):
    same = rows.assign(tokens=rows.tokens.replace(4, 8))
    called = inference.names(inference.protocol(same, "latency"))
    assert len(set(called.values())) == 3
    assert called[MESSAGE4] == f"message, 8 tokens ({MESSAGE4})"
