"""Quality beside speed: differences and ratios to independent draws on the same prompt, and gaps that are said."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.figures import quality
from lib.metrics import stats

SIZES = {"ladder-160k": 164_416, "ladder-1m": 919_680}
SETTINGS = {"prompt_tokens": 200, "max_new_tokens": 30, "temperature": 0.8, "threshold": 0.1, "threads": 1}
ARMS = {"naive": (1, 0.0), "batched": (8, 0.0), "eab": (9, 0.07), "tree": (12, 0.0)}  # speedup, shift of distinct-2
LAW = {"batched": (-0.05, 0.2, 20.0), "tree": (-0.03, 0.12, 40.0), "eab": (-0.45, 0.5, 3.0)}  # bias, RMSE, effective


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def speed_rows(prompts: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    made = []
    for model, size in SIZES.items():
        for prompt in range(prompts):
            wall, level = rng.lognormal(sigma=1.0), rng.normal()  # prompts differ by more than arms do
            for arm, (speed, shift) in ARMS.items():
                row = {"model": model, "parameters": size, "protocol": "fixed", "arm": arm, "prompt": prompt}
                row |= {
                    "num_samples": 20,
                    "wall_s": wall / speed,
                    "distinct_2": level + shift,
                    "self_bleu": level - shift,
                }
                row |= {"unique_ratio": level + shift, "coverage": level, "nll": level - 10 * shift, "dummy": False}
                made.append(SETTINGS | row)
    return pd.DataFrame(made)


def law_rows(questions: int = 7) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    made = []
    for prompt in range(questions):
        hard = rng.lognormal(sigma=1.0)
        for arm, (bias, rmse, effective) in LAW.items():
            row = {"model": "ladder-160k", "parameters": 164_416, "protocol": "law", "arm": arm, "prompt": prompt}
            row |= {"entropy_bias": bias, "entropy_rmse": rmse * hard, "effective_samples": effective * hard}
            made.append(SETTINGS | row | {"replicates": 100, "reference": 4000, "dummy": False, "num_samples": 23})
    return pd.DataFrame(made)


def estimates(drawn, panel: str, model: str = "ladder-160k") -> dict[str, float]:
    part = drawn.data[(drawn.data.panel == panel) & (drawn.data.model == model)]
    return dict(zip(part.arm, part.estimate, strict=True))


def test_every_quantity_is_paired_with_independent_draws_of_the_same_prompt():
    drawn = quality.quality(pd.concat([speed_rows(), law_rows()], ignore_index=True))
    assert estimates(drawn, "speedup") == pytest.approx({"batched": 8, "eab": 9, "tree": 12})
    assert estimates(drawn, "distinct-2") == pytest.approx({"batched": 0, "eab": 0.07, "tree": 0}, abs=1e-12)
    assert estimates(drawn, "self-BLEU") == pytest.approx({"batched": 0, "eab": -0.07, "tree": 0}, abs=1e-12)
    assert estimates(drawn, "NLL (nats)") == pytest.approx({"batched": 0, "eab": -0.7, "tree": 0}, abs=1e-12)
    assert estimates(drawn, "entropy bias (nats)") == pytest.approx({"batched": -0.05, "tree": -0.03, "eab": -0.45})
    assert estimates(drawn, "entropy RMSE") == pytest.approx({"tree": 0.6, "eab": 2.5})
    assert estimates(drawn, "effective samples") == pytest.approx({"tree": 2.0, "eab": 0.15})
    assert not estimates(drawn, "entropy RMSE", "ladder-1m"), "the law was measured on one model"
    assert "7 questions on 160k, at least 100 replicates per arm against 4000 independent draws" in drawn.caption
    assert "Not measured" not in drawn.caption


def test_each_panel_has_its_target_line_and_a_dot_per_model_and_arm():
    drawn = quality.quality(pd.concat([speed_rows(), law_rows()], ignore_index=True))
    by_title = {ax.get_title(): ax for ax in drawn.figure.axes}
    for panel in quality.PANELS:
        ax = by_title[panel.title]
        assert ax.get_xscale() == ("log" if panel.log else "linear")
        lines = [line for line in ax.get_lines() if len(line.get_xdata()) == 2]
        assert [float(line.get_xdata()[0]) for line in lines] == [panel.line]
        dots = [line for line in ax.get_lines() if len(line.get_xdata()) == 1]
        assert len(dots) == {"entropy bias (nats)": 3}.get(panel.title, 2 if panel.protocol == "law" else 6)
    assert [tick.get_text() for tick in by_title["speedup"].get_yticklabels()] == ["batched", "eab", "tree"]


@pytest.mark.parametrize("arms", [{"eab": 1.04}, {"eab": 1.3, "tree": 0.9}, {"eab": 3.0}, {"eab": 0.02, "tree": 50.0}])
def test_log_panels_have_two_ticks_or_more_in_view(arms):
    rows = speed_rows()
    seconds = rows[rows.arm == "naive"].set_index(["model", "prompt"]).wall_s
    parts = [rows[rows.arm == "naive"]]
    for arm, speedup in arms.items():
        part = rows[rows.arm == arm]
        parts.append(part.assign(wall_s=part.set_index(["model", "prompt"]).index.map(seconds) / speedup))
    ax = next(ax for ax in quality.quality(pd.concat(parts)).figure.axes if ax.get_title() == "speedup")
    low, high = ax.get_xlim()
    shown = [tick for tick in ax.get_xticks() if low <= tick <= high]
    assert 2 <= len(shown) <= 6
    assert any(tick == 1 for tick in shown)
    assert len({f"{tick:.3g}" for tick in shown}) == len(shown)
    assert low < min(arms.values())
    assert max(arms.values()) < high


def test_arms_that_share_naives_random_numbers_are_named():
    rows = speed_rows()
    assert "Quality of batched equals that of naive exactly" in quality.quality(rows).caption
    more = [rows[rows.arm == "batched"].assign(arm=arm) for arm in ("tree_multinomial", "bifurcated")]
    caption = quality.quality(pd.concat([rows, *more])).caption
    assert "Quality of batched, bifurcated and tree_multinomial equals that of naive exactly" in caption
    assert "exactly" not in quality.quality(rows[rows.arm != "batched"]).caption


def test_bifurcated_is_judged_like_any_arm_and_one_question_is_singular():
    law = law_rows(1)
    law = pd.concat(
        [law, law[law.arm == "batched"].assign(arm="bifurcated", entropy_rmse=lambda t: t.entropy_rmse / 2)]
    )
    drawn = quality.quality(pd.concat([speed_rows(), law], ignore_index=True))
    assert estimates(drawn, "entropy RMSE")["bifurcated"] == pytest.approx(0.5)
    assert estimates(drawn, "entropy bias (nats)")["bifurcated"] == pytest.approx(-0.05)
    assert "1 question on 160k" in drawn.caption


def test_older_runs_without_quality_columns_or_law_rows_draw_and_say_so():
    drawn = quality.quality(speed_rows())
    assert "Not measured in these runs: entropy bias (nats), entropy RMSE, effective samples." in drawn.caption
    older = speed_rows().drop(columns=["distinct_2", "self_bleu", "unique_ratio", "coverage", "nll"])
    drawn = quality.quality(older, ["ladder-60k"])
    written = [text.get_text() for ax in drawn.figure.axes for text in ax.texts]
    assert written == ["not measured"] * 8
    assert set(drawn.data.panel) == {"speedup"}
    assert "ladder-60k" in drawn.figure.get_suptitle()


def test_what_one_sample_or_a_certain_answer_leaves_undefined_is_left_out():
    rows = pd.concat([speed_rows(), law_rows()], ignore_index=True)
    rows.loc[(rows.prompt == 0) & (rows.protocol == "fixed"), "self_bleu"] = np.nan
    rows.loc[(rows.prompt == 1) & (rows.protocol == "law"), "entropy_rmse"] = 0.0
    table = quality.quality(rows).data
    assert set(table[table.panel == "self-BLEU"].n) == {5}
    assert set(table[table.panel == "entropy RMSE"].n) == {6}
    assert np.isfinite(table[["estimate", "low", "high"]].to_numpy()).all()


def test_too_few_prompts_get_no_interval():
    drawn = quality.quality(speed_rows(stats.ENOUGH - 1))
    assert not any(ax.collections for ax in drawn.figure.axes)
