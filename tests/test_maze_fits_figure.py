"""The figure of 3a's fits: planted laws are read off it, and what cannot be fitted is said."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import maze_rows as synthetic
import numpy as np
import pandas as pd
import pytest

from lib import figures
from lib.figures import Drawn, Undrawable, mazes, mazes_fits
from lib.metrics import fits

ALPHA = dict(zip(synthetic.ARMS, (0.3, 0.35, 0.4, 0.45, 0.5), strict=True))
E, PHI = 0.02, {"loop": 0.46, "poh": 0.2}
UNIT = {"parameters": 1e4, "train_flops": 1e10}  # of x, where the losses are 1 + E
OTHERS = ("stack", "stack_params", "stack_flops")
SMALL, FOUR = ("nano", "micro", "mini"), ("nano", "mini", "tiny", "small")
FEW_ARMS = ("stack", "loop")  # for tests of what all arms have in common


@pytest.fixture(autouse=True)
def close_figures(monkeypatch):
    monkeypatch.setattr(fits, "RESAMPLES", 20)
    yield
    plt.close("all")


def planted(
    sizes: Sequence[str],
    arms: Sequence[str] = FEW_ARMS,
    seeds: int = 1,
    R: Sequence[int] = (synthetic.R,),
    irreducible: float = E,
    noise: float = 0.0,
    by: str = "parameters",
) -> pd.DataFrame:
    """Results whose loss is E + x^-alpha of each arm, where x is its effective parameters if there are several R."""
    rng, made = np.random.default_rng(0), []
    for r in R:
        rows = synthetic.results(sizes, [arm for arm in arms if r == synthetic.R or arm in PHI], seeds).assign(R=r)
        x = rows[by].astype(float)
        if len(R) > 1:
            x += (rows.R ** rows.arch.map(PHI).fillna(0) - 1) * rows.recurrent_parameters
        loss = irreducible + (x / UNIT[by]) ** -rows.arch.map(ALPHA)
        made.append(rows.assign(loss=loss * np.exp(rng.normal(0, noise, len(rows)))))
    return pd.concat(made, ignore_index=True)


def draw(rows: pd.DataFrame, missing: tuple[str, ...] = ()) -> Drawn:
    return figures.specs()["3a_fits"].draw(rows, missing)


def line(ax, label):
    return next(found for found in ax.get_lines() if found.get_label() == label)


def legend(ax) -> dict[str, str]:
    """Arm: what the panel's legend says of it."""
    return dict(text.get_text().split(": ") for text in ax.get_legend().get_texts())


def numbers(drawn: Drawn, panel: str, measure: str) -> pd.DataFrame:
    part = drawn.data[(drawn.data.panel == panel) & (drawn.data.measure == measure)]
    return part.set_index("arch")


class TestLaws:
    @pytest.mark.parametrize("by", ["parameters", "train_flops"])
    def test_planted_exponents_and_limits_come_back_in_the_panel_they_belong_to(self, by):
        drawn = draw(planted(synthetic.PLAN, synthetic.ARMS, by=by))
        exponents, limits = (numbers(drawn, by, measure) for measure in ("exponent", "irreducible"))
        ax = drawn.figure.axes[list(mazes_fits.COSTS).index(by)]
        for arm in synthetic.ARMS:
            assert exponents.estimate[arm] == pytest.approx(ALPHA[arm], abs=0.01)
            assert limits.estimate[arm] == pytest.approx(E, rel=0.1)
            assert legend(ax)[arm] == f"{exponents.estimate[arm]:.2f}"
        assert f"E is free for {', '.join(synthetic.ARMS)} (4 sizes or more)" in drawn.caption
        assert "E = 0" not in drawn.caption

    def test_axes_are_logarithmic_and_points_are_means_over_seeds(self):
        rows = planted(SMALL, seeds=3, noise=0.1)
        drawn = draw(rows)
        for ax, cost in zip(drawn.figure.axes, mazes_fits.COSTS, strict=False):
            assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
            own = rows[rows.arch == "loop"].groupby("size")[[cost, "loss"]].mean().sort_values(cost)
            np.testing.assert_allclose(line(ax, "loop").get_xdata(), own[cost])
            np.testing.assert_allclose(line(ax, "loop").get_ydata(), own.loss)
            assert line(ax, "loop").get_color() == mazes.looks(rows)["loop"]["color"]
            low, high = ax.get_ylim()
            assert low < own.loss.min() < own.loss.max() < high
        assert "test mazes: n = 400; seeds: n = 3" in drawn.figure.axes[0].get_title("left")

    def test_with_three_sizes_the_limit_is_zero_and_the_law_a_straight_line(self):
        rows = planted(SMALL, synthetic.ARMS, irreducible=0)
        drawn = draw(rows)
        for arm in synthetic.ARMS:
            own = rows[rows.arch == arm]
            slope = np.polyfit(np.log(own.parameters.astype(float)), np.log(own.loss), 1)[0]
            assert numbers(drawn, "parameters", "exponent").estimate[arm] == pytest.approx(-slope, abs=1e-4)
            curve = line(drawn.figure.axes[0], f"_law of {arm}")
            np.testing.assert_allclose(np.diff(np.log(curve.get_ydata()), 2), 0, atol=1e-9)
        assert numbers(drawn, "parameters", "irreducible").empty
        assert f"E = 0 for {', '.join(synthetic.ARMS)} (fewer than 4 sizes)" in drawn.caption

    def test_each_arm_has_the_law_that_its_own_sizes_allow(self):
        rows = planted(FOUR, synthetic.ARMS)
        lacking = rows[
            ~((rows.arch == "poh") & (rows["size"] == "nano")) & ~((rows.arch == "loop") & (rows["size"] < "n"))
        ]
        lacking = lacking[~((lacking.arch == "loop") & (lacking["size"] == "tiny"))]
        drawn = draw(lacking)
        assert sorted(lacking[lacking.arch == "loop"]["size"]) == ["nano", "small"]
        assert "E is free for stack, stack_params, stack_flops (4 sizes" in drawn.caption
        assert "E = 0 for poh (fewer" in drawn.caption
        assert "Without a fit, loop: A power law needs at least 3 sizes, got 2" in drawn.caption
        assert "poh (nano)" in drawn.figure.get_suptitle()
        ax = drawn.figure.axes[0]
        assert legend(ax)["loop"] == "no fit"
        assert len(line(ax, "loop").get_xdata()) == 2
        assert not any(found.get_label() == "_law of loop" for found in ax.get_lines())

    def test_two_sizes_are_points_and_one_is_nothing(self):
        drawn = draw(planted(("nano", "micro")))
        assert set(legend(drawn.figure.axes[0]).values()) == {"no fit"}
        assert set(drawn.data.measure) == {"loss"}
        assert "no arm has one" in drawn.caption
        with pytest.raises(Undrawable, match=r"one size only \(nano\).*3 sizes or more"):
            draw(planted(("nano",)))

    def test_a_loss_that_has_no_logarithm_is_not_fitted(self):
        rows = planted(SMALL)
        rows.loc[(rows.arch == "stack") & (rows["size"] == "mini"), "loss"] = 0.0
        assert "Without a fit, stack: A power law is fitted to logarithms" in draw(rows).caption


class TestSeeds:
    def test_give_intervals_and_bands(self):
        drawn = draw(planted(SMALL, seeds=4, noise=0.05))
        exponents = numbers(drawn, "parameters", "exponent")
        assert (exponents.n == 4).all()
        assert (exponents.low < exponents.estimate).all() and (exponents.estimate < exponents.high).all()
        ax = drawn.figure.axes[0]
        stack = exponents.loc["stack"]
        assert legend(ax)["stack"] == f"{stack.estimate:.2f} [{stack.low:.2f}, {stack.high:.2f}]"
        assert ax.get_legend().get_title().get_text() == "exponent, 95 % interval"
        bands = [found for found in ax.collections if type(found).__name__ == "FillBetweenPolyCollection"]
        assert len(bands) == len(FEW_ARMS)

    def test_without_another_there_is_no_interval_and_no_band(self):
        drawn = draw(planted(SMALL, seeds=1))
        assert drawn.data[["low", "high"]].isna().all(axis=None)
        assert not [found for found in drawn.figure.axes[0].collections if len(found.get_paths())]
        assert drawn.figure.axes[0].get_legend().get_title().get_text() == "exponent"
        assert "One seed per point, so no interval" in drawn.caption

    def test_that_lack_a_size_are_shown_but_not_fitted(self):
        """As in a grid that has more seeds at one size than at the others."""
        rows = planted(SMALL, seeds=3, noise=0.05)
        more = synthetic.results(["micro"], FEW_ARMS, seeds=9).assign(loss=5.0)
        both = draw(pd.concat([rows, more[more.seed > 2]], ignore_index=True))
        alone = numbers(draw(rows), "parameters", "exponent")
        pd.testing.assert_frame_equal(numbers(both, "parameters", "exponent"), alone)
        assert set(numbers(both, "parameters", "loss").n) == {3, 9}

    def test_of_which_none_has_all_sizes_are_not_fitted(self):
        rows = planted(SMALL, seeds=2)
        drawn = draw(rows[(rows["size"] == "nano") == (rows.seed == 0)])
        assert "Without a fit, stack, loop: No seed has all sizes" in drawn.caption


class TestRecurrence:
    @pytest.fixture(scope="class")
    def rows(self) -> pd.DataFrame:
        return planted(FOUR, synthetic.ARMS, R=(1, 2, 4, 8))

    @pytest.fixture(scope="class")
    def drawn(self, rows) -> Drawn:
        return draw(rows)

    def test_planted_phi_comes_back_and_points_lie_on_the_curve(self, rows, drawn):
        ax = drawn.figure.axes[2]
        for arm in PHI:
            assert numbers(drawn, mazes_fits.RECURRENCE, "phi").estimate[arm] == pytest.approx(PHI[arm], abs=0.02)
            assert float(legend(ax)[arm]) == pytest.approx(PHI[arm], abs=0.02)
            own, points = rows[rows.arch == arm], line(ax, arm)
            assert len(points.get_xdata()) == 4 * 4
            effective = own.parameters + (own.R ** PHI[arm] - 1) * own.recurrent_parameters
            np.testing.assert_allclose(np.sort(points.get_xdata()), np.sort(effective), rtol=0.05)
            curve = line(ax, f"_law of {arm}")
            on_curve = np.interp(points.get_xdata(), curve.get_xdata(), curve.get_ydata())
            np.testing.assert_allclose(points.get_ydata(), on_curve, rtol=0.02)
        assert "loop φ = 0.4" in drawn.caption

    def test_other_panels_have_only_the_setting_drawn(self, drawn):
        assert len(line(drawn.figure.axes[0], "loop").get_xdata()) == 4
        assert set(numbers(drawn, "parameters", "loss").R) == {synthetic.R}
        assert "R = 8, T = 4" in drawn.caption.split("Left out, models of other settings")[1]

    def test_models_of_other_mazes_or_T_have_no_part_in_it(self, rows, drawn):
        others = pd.concat([rows[rows.R == 2].assign(T=1, loss=9.0), rows[rows.R == 2].assign(maze_size=20, loss=9.0)])
        found = numbers(draw(pd.concat([rows, others], ignore_index=True)), mazes_fits.RECURRENCE, "phi")
        pd.testing.assert_frame_equal(found, numbers(drawn, mazes_fits.RECURRENCE, "phi"))

    def test_an_arm_that_lacks_repetitions_says_so_beside_one_that_has_them(self, rows):
        drawn = draw(rows[(rows.arch != "poh") | (rows.R == synthetic.R)])
        assert legend(drawn.figure.axes[2])["poh"] == "no fit"
        assert "Without a fit, poh: The fit of a recurrence needs 4 sizes with 3 values of R" in drawn.caption

    def test_what_is_missing_stands_in_the_panel(self):
        ax = draw(planted(SMALL)).figure.axes[2]
        (text,) = ax.texts
        assert (
            text.get_text().replace("\n", " ").startswith("loop: The fit of a recurrence needs 4 sizes with 3 values")
        )
        assert max(map(len, text.get_text().splitlines())) <= mazes_fits.LINE
        (text,) = draw(planted(SMALL, OTHERS)).figure.axes[2].texts
        assert "No arm among the runs repeats its blocks" in text.get_text().replace("\n", " ")

    def test_models_trained_twice_are_refused_at_every_R(self, rows):
        twice = rows[(rows.R == 2) & (rows.arch == "loop")].assign(run="other")
        with pytest.raises(Undrawable, match="trained more than once"):
            draw(pd.concat([rows, twice], ignore_index=True))


def test_lists_what_is_missing_and_refuses_other_rows():
    assert (
        "No finished run: cell_x, poh, stack_flops"
        in draw(planted(SMALL, ("stack", "stack_params", "loop")), ("cell_x",)).figure.get_suptitle()
    )
    for nothing in (synthetic.results().assign(protocol="audit"), pd.DataFrame()):
        with pytest.raises(Undrawable, match=r"python -m lib\.sweep 3a_poh_scaling"):
            draw(nothing)


def test_does_not_depend_on_the_order_of_rows():
    rows = planted(SMALL, seeds=3, noise=0.05)
    first, second = draw(rows), draw(rows.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(first.data, second.data)
    assert first.caption == second.caption
