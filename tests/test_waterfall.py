"""Factors multiply to the speedup, take their milestones from the rows, and say what was merged."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.figures import waterfall
from lib.metrics import stats

SIZES = {"ladder-160k": 164_416, "ladder-1m": 919_680, "ladder-3m": 2_781_504}
SPEED = {"naive": 1, "hf": 4, "batched": 8, "bifurcated": 10, "eab_sequential": 1.25, "eab": 9, "tree": 12}
SETTINGS = {"prompt_tokens": 200, "max_new_tokens": 30, "temperature": 0.8, "threshold": 0.1, "threads": 1}
N, PREFILL = 20, 0.6  # the share of naive's time that its prefills take


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rows(noise: float = 0.0, arms: dict[str, float] = SPEED, prompts: int = 8) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = []
    for model, size in SIZES.items():
        for prompt in range(prompts):
            base = rng.lognormal(sigma=1.0)
            for arm, speed in arms.items():
                for repeat in range(1 if arm == "naive" else 3):
                    wall = base / speed * rng.lognormal(sigma=noise)
                    row = {"model": model, "parameters": size, "protocol": "fixed", "arm": arm, "prompt": prompt}
                    row |= {"repeat": repeat, "num_samples": N, "wall_s": wall, "prefill_s": PREFILL * wall}
                    made.append(SETTINGS | row | {"dummy": False})
    table = pd.DataFrame(made)
    return pd.concat([table, table.assign(protocol="matched", wall_s=1.0), law_row()], ignore_index=True)


def law_row() -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"model": "ladder-1m", "parameters": 919_680, "protocol": "law", "arm": "tree", "prompt": 0}
            | {"dummy": False}
        ]
    )


def factors(table: pd.DataFrame, arm: str, model: str = "ladder-1m") -> dict[str, float]:
    part = table[(table.model == model) & (table.arm == arm)]
    return dict(zip(part.stage, part.factor, strict=True))


def test_factors_are_those_that_were_planted():
    table = waterfall.split(rows())
    once = 1 / (1 - PREFILL * (1 - 1 / N))
    assert factors(table, "tree") == pytest.approx(
        {"prompt read once": once, "batching": 8 / once, "engine": 10 / 8, "tree": 12 / 10}
    )
    assert factors(table, "eab") == pytest.approx(
        {"prompt read once": once, "batching": 8 / once, "engine": 10 / 8, "tree": 9 / 10}
    )
    assert factors(table, "batched") == pytest.approx({"prompt read once": once, "batching": 8 / once})
    assert factors(table, "eab_sequential") == pytest.approx({"prompt read once": once, "tree": 1.25 / once})
    assert factors(table, "hf") == pytest.approx({"batching, prompt read N times": 4})


def test_factors_multiply_to_the_median_speedup_exactly_and_their_intervals_hold_them():
    noisy = rows(noise=0.3)
    table = waterfall.split(noisy)
    totals = stats.summarise(stats.against(noisy[noisy.protocol == "fixed"])).set_index(["model", "arm"]).estimate
    for (model, arm), part in table.groupby(["model", "arm"]):
        assert part.factor.prod() == pytest.approx(totals[model, arm], rel=1e-12)
        assert part.end.iloc[-1] == pytest.approx(totals[model, arm], rel=1e-12)
        np.testing.assert_allclose(part.start.iloc[1:], part.end.iloc[:-1])
    assert ((table.low <= table.factor) & (table.factor <= table.high)).all()
    assert (table.total_low < table.total_high).all()


def test_a_milestone_that_was_not_measured_is_merged_under_both_names():
    without = {arm: speed for arm, speed in SPEED.items() if arm != "bifurcated"}
    table = waterfall.split(rows(arms=without))
    assert "bifurcated" not in set(table.arm)
    assert factors(table, "tree")["engine + tree"] == pytest.approx(12 / 8)
    nor_batched = {"naive": 1, "eab": 9}
    once = 1 / (1 - PREFILL * (1 - 1 / N))
    merged = factors(waterfall.split(rows(arms=nor_batched)), "eab")
    assert merged == pytest.approx({"prompt read once": once, "batching + engine + tree": 9 / once})


def test_a_panel_per_model_with_every_factor_in_writing_and_steps_back_hatched():
    drawn = waterfall.waterfall(rows(), ["ladder-60k"])
    panels = [ax for ax in drawn.figure.axes if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in panels] == [f"{m}: prompts n = 8" for m in ("160k", "1m", "3m")]
    for ax in panels:
        assert ax.get_xscale() == "log"
        written = [text.get_text() for text in ax.texts]
        assert {"12.0", "1.25", "0.90"} <= set(written), "total of tree, factor of the engine, EAB's step back"
        hatched = [bar for bar in ax.patches if bar.get_hatch()]
        assert [(round(bar.get_x(), 6), round(bar.get_x() + bar.get_width(), 6)) for bar in hatched] == [
            (1.25, 2.325581),
            (9.0, 10.0),
        ]
    assert "No finished run: ladder-60k" in drawn.figure.get_suptitle()
    assert "ladder-60k" in drawn.caption
    labels = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert "engine: shared attention, ended rows dropped, compiled sampling" in labels
    assert "engine" in [text.get_text() for text in panels[0].texts]
    assert "drops rows that have ended and draws tokens in compiled code" in drawn.caption


def test_thresholds_and_what_else_has_no_stages_of_its_own_are_named_in_the_caption():
    drawn = waterfall.waterfall(rows(arms=SPEED | {"eab@0.055": 7.0, "hf_sequential": 0.5}))
    assert "Not drawn: eab@0.055, hf_sequential." in drawn.caption
    assert "eab@0.055" not in set(drawn.data.arm)


def test_random_weights_are_said_and_one_model_draws():
    table = rows()
    drawn = waterfall.waterfall(table[table.model == "ladder-1m"].assign(dummy=True))
    assert "Random weights, cost only: ladder-1m" in drawn.figure.get_suptitle()
    assert "Random weights" in drawn.caption
