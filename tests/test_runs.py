"""Run folders: complete or not, never overwritten, read back as written, and named when they are damaged."""

import json
import math
import types
import warnings
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lib import paths, provenance, runs
from lib.params import ParameterError, config_hash, resolve
from lib.records import plain
from lib.runs import writing

EXPERIMENT = "1a3_scaling"
BASIC = {"arms": ["naive", "eab"], "prompts": 2}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RUNS", tmp_path)
    monkeypatch.setattr(provenance, "environment", lambda *_: {"git": {"commit": "c" * 40, "dirty": False}})
    monkeypatch.setattr(provenance, "source_hash", lambda *_: "source one")


def complete(rows=({"arm": "eab", "seconds": 1.0},), summary=None, **raw) -> Path:
    """A finished run; returns its folder."""
    run = runs.open_run(EXPERIMENT, BASIC | raw)
    for row in rows:
        run.measure(**row)
    run.response(text="hé\nllo")
    run.finish(summary or {})
    return run.dir


def literal_globals(**extra) -> dict:
    """What a notebook's globals hold when its second cell runs."""
    ipython = {"In": [""], "Out": {}, "exit": object(), "get_ipython": lambda: None, "open": open, "_i1": "", "_": ""}
    return {"__name__": "__main__", "__annotations__": {"model": str}, **ipython, "runs": runs, "json": json, **extra}


class TestWriting:
    def test_config_comes_first_and_metrics_last(self):
        run = runs.open_run(EXPERIMENT, BASIC)
        assert {"config.yaml", "env.json"} <= {p.name for p in run.dir.iterdir()}
        assert resolve(EXPERIMENT, yaml.safe_load((run.dir / "config.yaml").read_text())) == run.params
        run.measure(arm="eab", seconds=1.0)
        assert json.loads((run.dir / "measurements.jsonl").read_text()) == {"arm": "eab", "seconds": 1.0}  # flushed
        assert runs.finished(EXPERIMENT) == []
        run.finish({"speedup": 2.0})
        assert len(runs.finished(EXPERIMENT)) == 1

    def test_metrics_repeat_the_configuration(self):
        metrics = json.loads((complete(summary={"speedup": 2.0}) / "metrics.json").read_text())
        params = resolve(EXPERIMENT, metrics["config"])
        assert metrics["config_hash"] == config_hash(params) == config_hash(resolve(EXPERIMENT, BASIC))
        assert (metrics["summary"], metrics["source_hash"], metrics["commit"]) == (
            {"speedup": 2.0},
            "source one",
            "c" * 40,
        )

    def test_a_crash_while_finishing_leaves_the_run_incomplete(self, monkeypatch):
        run = runs.open_run(EXPERIMENT, BASIC)
        monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("power cut")))
        with pytest.raises(OSError, match="power cut"):
            run.finish({})
        assert runs.finished(EXPERIMENT) == []

    def test_a_summary_that_cannot_be_stored_does_not_complete_the_run(self):
        run = runs.open_run(EXPERIMENT, BASIC)
        with pytest.raises(TypeError, match="cannot be stored"):
            run.finish({"model": object()})
        assert runs.finished(EXPERIMENT) == []
        run.finish({"model": "one that can"})
        assert len(runs.finished(EXPERIMENT)) == 1

    def test_nothing_is_added_to_a_finished_run(self):
        run = runs.open_run(EXPERIMENT, BASIC)
        run.finish({})
        for add in (run.measure, run.response, lambda: run.finish({})):
            with pytest.raises(RuntimeError, match="is finished"):
                add()

    def test_two_runs_of_one_second_get_two_folders(self, monkeypatch):
        class Frozen(datetime):
            @classmethod
            def now(cls, tz=None):
                return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

        monkeypatch.setattr(writing, "datetime", Frozen)
        folders = {complete() for _ in range(3)}
        assert len(folders) == 3
        assert all("_20260102_030405_" in folder.name for folder in folders)

    def test_folder_name(self):
        folder = complete(label="../a b/ü")
        assert folder.parent == runs.experiment_folder(EXPERIMENT)
        label, date, clock, digest = folder.name.rsplit("_", 3)
        assert label == "a-b"
        assert len(date + clock) == 14
        assert digest == config_hash(resolve(EXPERIMENT, BASIC))[:6]

    def test_runs_dir_puts_runs_elsewhere(self, tmp_path):
        folder = complete(runs_dir=str(tmp_path / "other"))
        assert folder.parent == tmp_path / "other" / EXPERIMENT
        assert runs.load(EXPERIMENT).empty
        assert len(runs.load(EXPERIMENT, tmp_path / "other")) == 1


class TestPreparedFolder:
    def test_is_used_once(self):
        folder = runs.prepare(EXPERIMENT, resolve(EXPERIMENT, BASIC))
        assert complete(run_dir=str(folder)) == folder
        with pytest.raises(ParameterError, match="already holds results; leave run_dir empty"):
            runs.open_run(EXPERIMENT, BASIC | {"run_dir": str(folder)})

    def test_a_crashed_run_is_not_continued_either(self):
        folder = runs.open_run(EXPERIMENT, BASIC).dir
        with pytest.raises(ParameterError, match="already holds results"):
            runs.open_run(EXPERIMENT, BASIC | {"run_dir": str(folder)})

    def test_for_other_parameters_is_refused(self):
        folder = runs.prepare(EXPERIMENT, resolve(EXPERIMENT, BASIC))
        with pytest.raises(ParameterError, match="other parameters"):
            runs.open_run(EXPERIMENT, BASIC | {"run_dir": str(folder), "seed": 1})

    def test_may_be_new(self, tmp_path):
        assert complete(run_dir=str(tmp_path / "mine" / "one")) == tmp_path / "mine" / "one"

    def test_config_repeats_a_run_in_a_new_folder(self):
        first = complete()
        again = complete(**yaml.safe_load((first / "config.yaml").read_text()))
        assert again != first
        assert len({json.loads((f / "metrics.json").read_text())["config_hash"] for f in (first, again)}) == 1


class TestNotebookGlobals:
    def test_parameters_are_picked_out(self):
        run = runs.open_run(EXPERIMENT, literal_globals(model="ladder-60k", prompts=3, helper=len, np=np))
        assert (run.params.model, run.params.prompts) == ("ladder-60k", 3)

    @pytest.mark.parametrize("value", ["X", 1, 2.5, True, None, [1], {"a": 1}])
    def test_a_misspelt_parameter_is_refused_before_a_folder_exists(self, value, tmp_path):
        with pytest.raises(ParameterError, match="no parameter 'modle'; did you mean 'model'"):
            runs.open_run(EXPERIMENT, literal_globals(modle=value))
        assert list(tmp_path.iterdir()) == []

    def test_papermills_own_paths_are_no_mistake(self):
        runs.open_run(EXPERIMENT, literal_globals(PAPERMILL_INPUT_PATH="a.ipynb", PAPERMILL_OUTPUT_PATH="b.ipynb"))

    def test_running_the_cell_again_forgives_the_notebooks_own_variables_but_not_parameters(self):
        names = literal_globals(model="ladder-60k")
        names["run"] = runs.open_run(EXPERIMENT, names)
        names["rows"] = [1, 2]
        again = runs.open_run(EXPERIMENT, names | {"model": "ladder-1m"})
        assert again.params.model == "ladder-1m"
        assert again.dir != names["run"].dir
        with pytest.raises(ParameterError, match="did you mean 'seed'"):
            runs.open_run(EXPERIMENT, names | {"sed": 3, "__annotations__": {"model": str, "sed": int}})

    def test_a_mapping_of_parameters_is_checked_whole(self):
        with pytest.raises(ParameterError, match="modle"):
            runs.open_run(EXPERIMENT, {"modle": types.SimpleNamespace()})


class TestReading:
    def test_rows_carry_their_run_and_its_parameters(self):
        folder = complete([{"arm": "eab", "seconds": 1.5}, {"arm": "naive", "seconds": 3, "threshold": 0.5}], seed=4)
        table = runs.load(EXPERIMENT)
        assert list(table.arm) == ["eab", "naive"]
        assert list(table.seconds) == [1.5, 3.0]
        assert list(table.threshold) == [0.055, 0.5]  # the row knows better than the run
        assert set(table.seed) == {4}
        assert set(table.run) == {folder.name}
        assert not table.stale.any()
        assert table.groupby("arms").ngroups == 1  # a list would not be hashable

    def test_missing_numbers_come_back_as_nan(self):
        complete([{"a": float("nan"), "b": np.float32(0.5)}, {"a": float("inf"), "b": 2}])
        table = runs.load(EXPERIMENT)
        assert table.a.isna().all()
        assert table.a.dtype == float
        assert list(table.b) == [0.5, 2.0]

    def test_newest_run_of_a_configuration_counts(self):
        for seconds in (1.0, 2.0):
            complete([{"seconds": seconds}])
        complete([{"seconds": 9.0}], seed=1)
        assert sorted(runs.load(EXPERIMENT).seconds) == [2.0, 9.0]

    def test_summaries_need_only_metrics(self):
        folder = complete(summary={"speedup": 3.0})
        size = (folder / "measurements.jsonl").stat().st_size
        (folder / "measurements.jsonl").write_text("x" * size)
        assert list(runs.summaries(EXPERIMENT).speedup) == [3.0]

    def test_changed_source_makes_a_run_stale(self, monkeypatch):
        complete()
        monkeypatch.setattr(provenance, "source_hash", lambda *_: "source two")
        assert runs.load(EXPERIMENT).stale.all()

    def test_an_empty_folder_gives_an_empty_table_with_columns(self):
        assert {"run", "stale", "model"} <= set(runs.load(EXPERIMENT).columns)
        assert runs.summaries(EXPERIMENT).empty

    def test_a_running_or_crashed_run_is_left_out_silently(self):
        runs.open_run(EXPERIMENT, BASIC).measure(arm="eab")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert runs.load(EXPERIMENT).empty


def _edit(name, change):
    def damage(folder: Path) -> None:
        (folder / name).write_text(change((folder / name).read_text()))

    return damage


def _without(*keys):
    return lambda text: json.dumps({k: v for k, v in json.loads(text).items() if k not in keys})


@pytest.mark.parametrize(
    "damage",
    [
        _edit("measurements.jsonl", lambda text: text[:-5]),  # half a line
        _edit("measurements.jsonl", lambda text: text + '{"arm"'),
        _edit("measurements.jsonl", lambda text: "[" + text[1:]),  # same size, not JSON
        _edit("measurements.jsonl", lambda text: "1" * (len(text) - 1) + "\n"),  # JSON, not a row
        _edit("responses.jsonl", lambda text: ""),
        _edit("metrics.json", lambda text: ""),
        _edit("metrics.json", lambda text: text[:20]),
        _edit("metrics.json", lambda text: "[]"),
        _edit("metrics.json", lambda text: text.replace('"schema": 1', '"schema": 99')),
        _edit("metrics.json", _without("config")),
        _edit("metrics.json", _without("summary", "finished")),
        lambda folder: (folder / "config.yaml").unlink(),
        lambda folder: (folder / "measurements.jsonl").unlink(),
    ],
)
def test_a_damaged_folder_is_named_in_one_sentence_and_left_out(damage):
    good, bad = complete(seed=1), complete(seed=2)
    damage(bad)
    with pytest.warns(runs.RunWarning) as caught:
        table = runs.load(EXPERIMENT)
    assert set(table.run) == {good.name}
    (message,) = {str(w.message) for w in caught}
    assert str(bad) in message
    assert message.endswith("delete the folder and run the sweep again.")
    assert "\n" not in message


def test_a_damaged_newest_run_does_not_hide_the_whole_one_before_it():
    whole, newest = complete(), complete()
    (newest / "metrics.json").write_text("{")
    with pytest.warns(runs.RunWarning):
        assert set(runs.load(EXPERIMENT).run) == {whole.name}


def test_stray_files_among_the_runs_do_no_harm(tmp_path):
    folder = complete()
    (folder.parent / ".DS_Store").write_text("")
    (folder.parent / "notes").mkdir()
    assert len(runs.load(EXPERIMENT)) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_plain_values_survive_json_except_that_nan_and_inf_become_null(value):
    def expected(v):
        if isinstance(v, float) and not math.isfinite(v):
            return None
        if isinstance(v, list):
            return [expected(x) for x in v]
        return {k: expected(x) for k, x in v.items()} if isinstance(v, dict) else v

    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected(value)


def test_plain_knows_arrays_and_paths():
    assert plain({1: np.int64(3), "m": np.eye(2), "p": Path("a"), "t": (np.bool_(True),)}) == {
        "1": 3,
        "m": [[1.0, 0.0], [0.0, 1.0]],
        "p": "a",
        "t": [True],
    }
