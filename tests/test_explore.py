"""Any column over any other: the medians against pandas, what is refused and how, and the notebook as it is run."""

import json

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from matplotlib import pyplot

from lib import lab, notebooks, pages, paths, presets, runs
from lib.explore import panel, picture, table
from lib.explore.table import ALL, Choice
from lib.metrics import stats
from lib.params import ParameterError, resolve

EXPERIMENT = "1a3_scaling"


@pytest.fixture(autouse=True)
def _closed():
    yield
    pyplot.close("all")


def rows(prompts: int = 8, repeats: int = 3, arms: tuple[str, ...] = ("naive", "tree")) -> pd.DataFrame:
    """Synthetic rows: the time of an arm on a prompt, the repeats around it."""
    return pd.DataFrame(
        {
            "run": f"run-{size}",
            "protocol": "fixed",
            "model": f"ladder-{size}",
            "parameters": size,
            "arm": arm,
            "prompt": prompt,
            "wall_s": size * (1 + i) + prompt + 0.1 * repeat**2,
            "trace": [[1, 2]] if repeat else None,
            "note": None,
        }
        for size in (60, 160)
        for i, arm in enumerate(arms)
        for prompt in range(prompts)
        for repeat in range(repeats)
    )


FIXED = Choice("fixed", "parameters", "wall_s", "arm")


def test_repeats_of_a_prompt_are_one_replicate():
    values = table.replicates(rows(), FIXED)
    assert len(values) == 2 * 2 * 8
    one = values[(values.x == 60) & (values.hue == "tree") & (values.replicate == 5)]
    assert one.y.item() == pytest.approx(60 * 2 + 5 + 0.1)


def test_medians_and_intervals_are_those_of_the_replicates():
    found = table.medians(table.replicates(rows(), FIXED)).set_index(["hue", "x"])
    expected = np.array([60 + prompt + 0.1 for prompt in range(8)])
    about = stats.bootstrap(expected)
    assert found.loc[("naive", 60)].tolist() == pytest.approx([about.estimate, about.low, about.high, 8])


def test_few_replicates_have_no_interval():
    found = table.medians(table.replicates(rows(prompts=stats.ENOUGH - 1), FIXED))
    assert (found.n == stats.ENOUGH - 1).all()
    assert found[["low", "high"]].isna().all(axis=None)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=20, max_size=60))
@example([-3.0, -5e-324, *range(30)])
def test_bins_keep_every_row_and_the_order(values):
    made = pd.DataFrame({"protocol": "p", "x": values, "y": values, "arm": "a"})
    found = table.replicates(made, Choice("p", "x", "y", ALL))
    assert len(found) == len(values)
    means = found.groupby("x").y.median()
    assert means.is_monotonic_increasing
    assert len(means) <= max(table.BINS, table.MOST_PLACES)


def test_a_replicate_is_never_the_axis_itself():
    found = table.replicates(rows(), Choice("fixed", "prompt", "wall_s", ALL))
    assert sorted(found.x.unique()) == list(range(8))


def test_a_seed_that_never_changes_is_no_replicate_where_batches_do():
    made = rows(repeats=1).rename(columns={"prompt": "batch"}).assign(seed=0)
    assert table.medians(table.replicates(made, FIXED)).n.tolist() == [8] * 4
    assert table.medians(table.replicates(made.drop(columns="batch"), FIXED)).n.tolist() == [1] * 4


def test_rows_without_a_hue_keep_their_place():
    made = rows().assign(checkpoint=lambda r: r.arm.where(r.arm == "tree"))
    found = table.medians(table.replicates(made, Choice("fixed", "parameters", "wall_s", "checkpoint")))
    assert set(found.hue) == {"tree", table.WITHOUT}


def test_collections_and_empty_columns_are_not_offered():
    part = table.of_protocol(rows(), "fixed")
    assert not {"trace", "note"} & set(part)
    assert "wall_s" in table.numeric(part)
    assert "model" not in table.numeric(part)


def test_what_is_empty_is_suggested():
    assert table.choose(EXPERIMENT, rows()) == FIXED
    unknown = table.choose("bench/growth", rows())
    assert unknown == Choice("fixed", "arm", "wall_s", ALL)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"x": "parametres"}, "no x 'parametres'; did you mean 'parameters'?"),
        ({"y": "model"}, "no y 'model'; "),
        ({"hue": "arms"}, "no hue 'arms'; did you mean 'arm'?"),
        ({"protocol": "fix"}, "no protocol 'fix'; did you mean 'fixed'?"),
    ],
)
def test_a_wrong_name_is_one_sentence(given, sentence):
    with pytest.raises(ParameterError) as refused:
        table.choose(EXPERIMENT, rows(), **given)
    assert sentence in str(refused.value)


@pytest.mark.parametrize("experiment", table.SUGGESTED)
def test_suggestions_are_of_experiments_that_there_are(experiment):
    assert presets.load_yaml(experiment)
    assert len({choice.protocol for choice in table.SUGGESTED[experiment]}) == len(table.SUGGESTED[experiment])


class TestPicture:
    def draw(self, made: pd.DataFrame, choice: Choice):
        values = table.replicates(made, choice)
        (ax,) = picture.picture(values, table.medians(values), choice).axes
        return ax

    def test_a_number_is_joined_by_lines(self):
        ax = self.draw(rows(), FIXED)
        medians = [c[0] for c in ax.containers]
        assert [c.get_label() for c in ax.containers] == ["naive", "tree"]
        assert [line.get_linestyle() for line in medians] == ["-", "-"]
        assert medians[0].get_xdata().tolist() == [60, 160]
        assert (ax.get_xlabel(), ax.get_ylabel()) == ("parameters", "wall_s")
        assert "n = 8, with 95 % interval" in ax.get_title(loc="left")

    def test_names_stand_side_by_side(self):
        ax = self.draw(rows(), Choice("fixed", "model", "wall_s", "arm"))
        assert [label.get_text() for label in ax.get_xticklabels()] == ["ladder-60", "ladder-160"]
        first, second = (c[0].get_xdata() for c in ax.containers)
        assert (first < second).all()
        assert np.abs(np.concatenate([first, second]) - [0, 1, 0, 1]).max() < 0.5

    def test_shares_stay_linear_and_times_of_many_sizes_do_not(self):
        times = rows().assign(wall_s=lambda r: r.wall_s * r.parameters**3)
        assert self.draw(times, FIXED).get_yscale() == "log"
        assert self.draw(times.assign(wall_s=times.wall_s / times.wall_s.max()), FIXED).get_yscale() == "linear"


@pytest.fixture
def stored(tmp_path):
    """A folder with one finished run of synthetic rows."""
    params = resolve(EXPERIMENT, {"model": "ladder-60k", "runs_dir": str(tmp_path)})
    run = runs.open_run(EXPERIMENT, params.model_dump())
    for row in rows()[["protocol", "parameters", "arm", "prompt", "wall_s"]].to_dict("records"):
        run.measure(**row)
    run.finish({})
    return tmp_path


def shown(monkeypatch) -> list:
    """What a notebook would show."""
    found = []
    monkeypatch.setattr(panel, "display", lambda *parts, **_: found.extend(parts))
    monkeypatch.setattr(lab, "say", found.append)
    return found


def test_shows_picture_and_table(stored, monkeypatch):
    found = shown(monkeypatch)
    panel.show(runs_dir=str(stored))
    drawn, made = found
    assert list(made.columns) == ["by arm", "parameters", "median wall_s", "low", "high", "n"]
    assert drawn.data.startswith(b"\x89PNG")


def test_without_runs_says_what_to_run(tmp_path, monkeypatch):
    found = shown(monkeypatch)
    panel.show(runs_dir=str(tmp_path))
    (sentence,) = found
    assert "make demo" in sentence
    assert f"python -m lib.sweep {EXPERIMENT} --preset quick" in sentence


def test_an_experiment_without_runs_among_others_is_refused_in_a_sentence(stored):
    with pytest.raises(ParameterError, match="2a_specdec --preset quick"):
        panel.show("2a_specdec", runs_dir=str(stored))


class Handle:
    """A shown output that can be replaced."""

    def __init__(self, part) -> None:
        self.part = part

    def update(self, part) -> None:
        self.part = part


class TestDropdowns:
    @pytest.fixture
    def open(self, stored, monkeypatch):
        """The panel in front of a page, and what it shows."""
        monkeypatch.setattr(lab, "live", lambda: True)
        monkeypatch.setattr(panel, "display", lambda part, display_id=False: Handle(part) if display_id else None)
        made = []
        monkeypatch.setattr(panel.Panel, "show", lambda self, show=panel.Panel.show: (show(self), made.append(self)))
        panel.show(runs_dir=str(stored))
        return made[0]

    def test_offers_what_the_rows_have(self, open):
        assert open._experiment.options == (EXPERIMENT,)
        assert set(open._fields["hue"].options) >= {ALL, "arm", "prompt"}
        assert open._fields["x"].value == "parameters"

    def test_a_choice_changes_table_and_picture(self, open):
        drawn, made = (handle.part for handle in open._shown)
        open._fields["x"].value = "arm"
        redrawn, again = (handle.part for handle in open._shown)
        assert list(made.columns)[:2] == ["by arm", "parameters"]
        assert list(again.columns)[:2] == ["by arm", "arm"]
        assert drawn.data != redrawn.data

    def test_no_chosen_run_means_all(self, open):
        made = open._shown[1].part
        open._runs.value = ()
        pd.testing.assert_frame_equal(open._shown[1].part, made)


def test_the_notebook_runs_as_a_page(stored, tmp_path):
    book = paths.NOTEBOOKS / "explore.ipynb"
    given = {"experiment": EXPERIMENT, "y": "wall_s", "runs_dir": str(stored)}
    output = tmp_path / "explore.ipynb"
    notebooks.execute_page(book, pages.resolve(book, given), given, str(output), progress_bar=False)
    outputs = [out for cell in nbformat.read(output, 4).cells for out in cell.get("outputs", [])]
    assert [sorted(out["data"]) for out in outputs] == [["image/png", "text/plain"], ["text/html", "text/plain"]]
    assert outputs[0]["metadata"]["image/png"]["width"] > 0
    assert "widget" not in json.dumps([out["data"] for out in outputs])
