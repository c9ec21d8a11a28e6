"""Figures are judged by their artists, data and files, not by pixels."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib import figures
from lib.figures import scaling, style

SIZES = {"ladder-160k": 164_416, "ladder-1m": 919_680, "ladder-3m": 2_781_504}
SPEED = {"naive": 1.0, "batched": 7.0, "eab": 9.0}  # of the smallest model; eab grows as size^0.1


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    settings = {"prompt_tokens": 200, "max_new_tokens": 30, "temperature": 0.8, "threshold": 0.2, "threads": 1}
    made = []
    for protocol, n in (("fixed", 20), ("matched", 17)):
        for model, size in SIZES.items():
            for prompt in range(6):
                base = size**0.5 * rng.lognormal(sigma=0.2) / 1000
                for arm, speed in SPEED.items():
                    gain = speed * (size / 164_416) ** (0.1 if arm == "eab" else 0)
                    made.append(
                        settings
                        | {"run": f"{model}_x", "model": model, "parameters": size, "protocol": protocol, "arm": arm}
                        | {"prompt": prompt, "num_samples": n, "wall_s": base / gain, "dummy": False}
                    )
    return pd.DataFrame(made)


def line(ax, label):
    return next(found for found in ax.get_lines() if str(found.get_label()).startswith(label))


def test_speedup_is_log_log_with_every_arm_and_the_expected_band(rows):
    drawn = scaling.speedup(rows)
    assert len(drawn.figure.axes) == 2
    for ax in drawn.figure.axes:
        assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
        np.testing.assert_allclose(line(ax, "batched").get_ydata(), 7.0)
        np.testing.assert_allclose(line(ax, "eab").get_xdata(), sorted(SIZES.values()))
        assert "+0.10" in line(ax, "eab").get_label(), "the exponent that was planted"
        assert "n = 6" in ax.get_title()
        ticks = [tick.get_text() for tick in ax.get_xticklabels()]
        assert ticks == ["160k", "1m", "3m", "0.5B", "7B"]
    labels = [text.get_text() for text in drawn.figure.legends[0].get_texts()]
    assert any(label.startswith("batched") for label in labels)
    assert "expected in the original plan" in labels
    assert drawn.figure.get_size_inches()[0] == style.TEXT
    assert set(drawn.data.columns) >= {"arm", "estimate", "low", "high", "n", "slope"}


def test_saved_seconds_are_differences_and_can_be_negative(rows):
    slow = rows[rows.arm == "batched"].assign(arm="hf_sequential", wall_s=lambda r: r.wall_s * 14)
    drawn = scaling.time_saved(pd.concat([rows, slow]))
    table = drawn.data.set_index(["arm", "model"]).estimate
    assert (table["hf_sequential"] < 0).all()
    assert (table["eab"] > 0).all()
    (ax,) = drawn.figure.axes
    np.testing.assert_allclose(sorted(line(ax, "eab").get_ydata()), sorted(table["eab"]))


def test_missing_cells_and_random_weights_are_said_on_figure_and_caption(rows):
    rows.loc[rows.model == "ladder-3m", "dummy"] = True
    drawn = scaling.speedup(rows, ["ladder-60k"])
    assert "No finished run: ladder-60k" in drawn.figure.get_suptitle()
    assert "Random weights, cost only: ladder-3m" in drawn.figure.get_suptitle()
    assert "ladder-60k" in drawn.caption
    assert "Random weights, cost only: ladder-3m" in drawn.caption


def test_a_single_model_draws_without_a_slope(rows):
    drawn = scaling.speedup(rows[rows.model == "ladder-1m"])
    assert "slope" not in drawn.data.columns


def test_saving_writes_four_files_and_the_same_bytes_twice(rows, tmp_path):
    for folder in ("a", "b"):
        style.save(scaling.speedup(rows), "fig", tmp_path / folder, "commit abc; runs r1, r2")
    for ending in ("pdf", "png", "csv", "txt"):
        first, second = ((tmp_path / folder / f"fig.{ending}").read_bytes() for folder in ("a", "b"))
        assert first == second
        assert len(first) > 300
    pdf = (tmp_path / "a" / "fig.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"commit abc" in pdf
    assert "commit abc" in (tmp_path / "a" / "fig.txt").read_text()


def test_every_registered_figure_belongs_to_an_experiment():
    from lib.params import EXPERIMENTS

    found = figures.specs()
    assert {"1a3_speedup", "1a3_time_saved"} <= set(found)
    assert {spec.experiment for spec in found.values()} <= set(EXPERIMENTS)


def test_too_few_prompts_get_no_interval(rows):
    few = rows[rows.prompt < 3]
    for drawn in (scaling.speedup(few), scaling.time_saved(few)):
        bands = [
            c for ax in drawn.figure.axes for c in ax.collections if c.get_label() != "expected in the original plan"
        ]
        assert all(len(path.vertices) <= 1 for band in bands for path in band.get_paths())
