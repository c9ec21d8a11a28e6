"""The size hypothesis: planted slopes come back with the right verdict, and every grid draws."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.figures import size
from lib.metrics import stats

SIZES = {"ladder-60k": 57_000, "ladder-160k": 164_416, "ladder-1m": 919_680, "ladder-3m": 2_781_504}
GROWTH = {"naive": 0.0, "batched": 0.0, "eab": 0.02, "eab_sequential": 0.12, "hf": -0.15}  # log2 per doubling
SETTINGS = {"prompt_tokens": 200, "max_new_tokens": 30, "temperature": 0.8, "threshold": 0.1, "threads": 1}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def rows(prompts: int = 30, noise: float = 0.1) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = []
    for model, parameters in SIZES.items():
        for prompt in range(prompts):
            base = parameters**0.5 * rng.lognormal(sigma=0.5)
            for arm, slope in GROWTH.items():
                gain = 4 * (parameters / 57_000) ** slope * rng.lognormal(sigma=noise) if arm != "naive" else 1
                row = {"model": model, "parameters": parameters, "protocol": "fixed", "arm": arm, "prompt": prompt}
                row |= {"num_samples": 20, "wall_s": base / gain, "flops": parameters / (1 if arm == "naive" else 5)}
                made.append(SETTINGS | row | {"dummy": False})
    table = pd.DataFrame(made)
    law = table[table.arm == "eab"].assign(protocol="law", wall_s=np.nan, flops=np.nan)
    return pd.concat([table, table.assign(protocol="matched", wall_s=1.0), law], ignore_index=True)


def fixed_speedups(table: pd.DataFrame) -> pd.DataFrame:
    pairs = stats.against(table[table.protocol == "fixed"])
    return pairs[pairs.arm != "naive"]


def test_verdicts_of_planted_slopes():
    table = size.slopes(fixed_speedups(rows())).set_index("arm")
    assert table.verdict.to_dict() == {"batched": "flat", "eab": "flat", "eab_sequential": "grows", "hf": "shrinks"}
    for arm, planted in GROWTH.items():
        if arm != "naive":
            assert table.slope_low[arm] - 0.01 < planted < table.slope_high[arm] + 0.01
    assert (table.prompts == 30).all()


def test_noise_or_too_few_prompts_leave_it_undecided_and_the_caption_says_what_could_be_found():
    noisy = size.size(rows(prompts=8, noise=0.8))
    verdicts = noisy.data.drop_duplicates("arm").set_index("arm").verdict
    assert "undecided" in set(verdicts)
    assert "8 prompts find in 4 of 5 cases" in noisy.caption
    few = size.slopes(fixed_speedups(rows(prompts=stats.ENOUGH - 1, noise=1e-6)))
    assert set(few.verdict) == {"undecided"}


def test_p_values_are_adjusted_over_the_arms():
    speedups = fixed_speedups(rows(noise=0.5))
    together = size.slopes(speedups).set_index("arm")
    for arm in ("batched", "hf"):
        alone = size.slopes(speedups[speedups.arm == arm]).iloc[0]
        assert alone.p_changes <= together.p_changes[arm] <= 4 * alone.p_changes + 1e-12
    assert (together.p_changes > 0).all()


def test_only_prompts_that_every_model_has_count():
    speedups = fixed_speedups(rows())
    lacking = speedups[~((speedups.model == "ladder-1m") & (speedups.prompt < 4))]
    assert set(size.slopes(lacking).prompts) == {26}


def test_the_figure_shows_slopes_in_percent_the_band_and_what_flops_predict():
    drawn = size.size(rows(), ["ladder-10m"])
    left, right = drawn.figure.axes
    (band,) = [patch for patch in left.patches if patch.get_width() > 1]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((100 * (1 / 1.05 - 1), 5))
    points = {
        round(float(line.get_ydata()[0])): float(line.get_xdata()[0])
        for line in left.get_lines()
        if line.get_marker() not in ("None", "", None)
    }
    arms = [tick.get_text() for tick in left.get_yticklabels()]
    assert arms == ["batched", "eab", "eab_sequential", "hf"]
    for arm, planted in GROWTH.items():
        if arm != "naive":
            assert points[arms.index(arm)] == pytest.approx(100 * (2**planted - 1), abs=0.8)
    assert [text.get_text() for text in left.texts] == ["flat", "flat", "grows", "shrinks"]
    dashed = [line for line in right.get_lines() if line.get_linestyle() == "--"]
    assert len(dashed) == 4
    for line in dashed:
        np.testing.assert_allclose(line.get_ydata(), 5.0)
    assert [tick.get_text() for tick in right.get_xticklabels()] == ["60k", "160k", "1m", "3m"]
    assert "No finished run: ladder-10m" in drawn.figure.get_suptitle()


def test_one_model_draws_without_slopes():
    one = rows(prompts=3)
    drawn = size.size(one[one.model == "ladder-1m"])
    assert "one model: no slope yet" in [text.get_text() for text in drawn.figure.axes[0].texts]
    assert "slope" not in drawn.data
