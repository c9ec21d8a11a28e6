"""Tables of 4c from planted rows."""

import inference_rows as planted
import pytest
from inference_rows import MESSAGE4, MESSAGE8

from lib.bridge import inference_report as report


@pytest.fixture(scope="module")
def rows():
    made = planted.rows()
    return made.assign(masked=made.arm.eq("text") & made.batch_size.gt(1) & made.batch.eq(0))  # the first of each size


@pytest.fixture(scope="module")
def served():
    return planted.frame(planted.serving(), backend="vllm")


def test_stages_and_totals_for_every_link(rows):
    found = report.stages(rows)
    writing, token = found.loc["target: write", (1, "text")], found.loc["per written token", (1, "text")]
    assert writing / token == pytest.approx(31, 0.01)
    slow, none = found.loc["all and the source, 10 Mbit/s"], found.loc["all and the source"]
    assert (slow - none)[8, MESSAGE8] == pytest.approx(8 * 8 * planted.SENT[MESSAGE8] / 10e6 * 1e3, abs=0.02)
    assert (found.loc["all"] <= none).all()
    assert list(found.loc["batches with a mask, %"]) == pytest.approx([0, 0, 0, 100 / 6, 0, 0, 100 / 3, 0, 0], abs=0.01)
    assert list(found.columns[:3]) == [(1, "text"), (1, MESSAGE8), (1, MESSAGE4)]


def test_breakeven_says_who_saves_and_when(rows):
    found = report.breakeven(rows)
    assert not found.loc[("plan", "the plan's 64 tokens", "FLOPs"), "saves"]
    row = found.loc[("here", MESSAGE4, "seconds, batch of 4")]
    assert (row.affordable, row.ratio, row.saves) == (pytest.approx(0.6), pytest.approx(0.4), True)


def test_reading_and_summary_hold_both_accountings(rows):
    text = report.reading(rows)
    assert len(text.splitlines()) == 2 * len(planted.BATCHES)
    assert "30 % of the target's cache saved, 0 % with the source's own counted" in text
    speedups = report.summary(rows)["speedups"]
    assert len(speedups) == 2 * 2 * len(planted.BATCHES)
    assert report.summary(rows)["accuracy"]["text"] == 0.75


def test_a_served_run_has_throughput_and_nothing_else(served):
    assert report.throughput(served).loc[MESSAGE8].tolist() == [12, 48, 96]
    assert "10.0" not in report.reading(served)
    assert "at batch size 8" in report.reading(served)
    for name in ("quality", "stages", "speedups", "memory", "breakeven"):
        assert getattr(report, name)(served).empty
    assert len(report.summary(served)["served"]) == 3 * len(planted.BATCHES)
