"""Run folders: complete or not, never overwritten, read back as written, and named when they are damaged."""

import errno
import json
import math
import os
import re
import shutil
import tempfile
import types
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib import paths, provenance, runs
from lib.params import ParameterError, config_hash, resolve
from lib.records import plain
from lib.runs import reading, writing
from lib.runs.checking import check

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


class Clock:
    """Stands in for the clock of everything that is written; set `now`, with its time zone."""

    def __init__(self, monkeypatch) -> None:
        self.now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        outer = self

        class Set(datetime):
            @classmethod
            def now(cls, tz=None):
                return outer.now if tz else outer.now.replace(tzinfo=None)

        monkeypatch.setattr(writing, "datetime", Set)


def literal_globals(**extra) -> dict:
    """What a notebook's globals hold when its second cell runs."""
    ipython = {"In": [""], "Out": {}, "exit": object(), "get_ipython": lambda: None, "open": open, "_i1": "", "_": ""}
    return {"__name__": "__main__", "__annotations__": {"model": str}, **ipython, "runs": runs, "json": json, **extra}


def fill_the_disk(patch, run, call) -> None:
    """Make one of the calls that write, of an open run, fail as on a full disk."""

    def full(*_args, **_options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    class Full:
        def __init__(self, file) -> None:
            self._file = file

        def __getattr__(self, name):
            return full if name == "flush" else getattr(self._file, name)

    if call == "flush":
        patch.setattr(run, "_files", {name: Full(file) for name, file in run._files.items()})
    else:
        patch.setattr(os, call, full)


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

    @pytest.mark.parametrize("call", ["flush", "fsync", "replace"])
    def test_a_full_disk_while_finishing_leaves_no_metrics_and_the_run_open(self, monkeypatch, call):
        run = runs.open_run(EXPERIMENT, BASIC)
        run.measure(arm="eab")
        with monkeypatch.context() as patch:
            fill_the_disk(patch, run, call)
            with pytest.raises(runs.StorageError, match="No space left on device") as caught:
                run.finish({})
        assert str(run.dir) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert {p.name for p in run.dir.iterdir()} == {"config.yaml", "env.json", *runs.RECORDS}
        assert runs.finished(EXPERIMENT) == []
        run.finish({})  # once there is room
        assert len(runs.load(EXPERIMENT)) == 1

    def test_a_full_disk_while_measuring_is_one_sentence_and_no_line_is_lost(self, monkeypatch):
        run = runs.open_run(EXPERIMENT, BASIC)
        with monkeypatch.context() as patch:
            fill_the_disk(patch, run, "flush")
            with pytest.raises(runs.StorageError, match="No space left on device"):
                run.measure(arm="eab")
        run.measure(arm="naive")
        run.finish({})
        assert list(runs.load(EXPERIMENT).arm) == ["eab", "naive"]

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
        Clock(monkeypatch)
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

    def test_a_name_that_readers_would_misread_is_refused(self, tmp_path):
        for name, words in ((".mine", "is hidden"), ("mine_20260102_030405_abcdef", "was made for other parameters")):
            with pytest.raises(ParameterError, match=words):
                runs.open_run(EXPERIMENT, BASIC | {"run_dir": str(tmp_path / name)})
            assert not (tmp_path / name).exists()

    @pytest.mark.parametrize("text", ["{", "[]", "arms: [naive, eab]\nmodle: x\n", "\0", "a: &a [*a]"])
    def test_with_a_config_that_means_nothing_is_one_sentence(self, tmp_path, text):
        (tmp_path / "config.yaml").write_text(text)
        with pytest.raises(ParameterError) as caught:
            runs.prepare(EXPERIMENT, resolve(EXPERIMENT, BASIC | {"run_dir": str(tmp_path)}))
        assert "\n" not in str(caught.value)
        assert (tmp_path / "config.yaml").read_text() == text

    def test_with_part_of_a_config_gets_the_whole(self, tmp_path):
        (tmp_path / "config.yaml").write_text("{arms: [naive, eab], prompts: 2, label: mine}")
        run = runs.open_run(EXPERIMENT, BASIC | {"run_dir": str(tmp_path)})
        assert resolve(EXPERIMENT, yaml.safe_load((tmp_path / "config.yaml").read_text())).prompts == run.params.prompts
        run.finish({})
        assert len(yaml.safe_load((tmp_path / "config.yaml").read_text())) == len(run.params.model_dump())

    @pytest.mark.parametrize("call", ["mkdir", "replace", "fsync"])
    def test_that_cannot_be_made_is_one_sentence_and_leaves_nothing(self, monkeypatch, tmp_path, call):
        def refuse(*_args, **_options):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        runs.experiment_folder(EXPERIMENT).mkdir()
        with monkeypatch.context() as patch:
            patch.setattr(os, call, refuse)
            with pytest.raises(runs.StorageError, match="Read-only file system") as caught:
                runs.prepare(EXPERIMENT, resolve(EXPERIMENT, BASIC))
        assert str(tmp_path / EXPERIMENT) in str(caught.value)
        assert "--runs-dir DIR" in str(caught.value)
        assert not list(runs.experiment_folder(EXPERIMENT).iterdir())

    @pytest.mark.parametrize("place", ["file", "loop", "file/below"])
    def test_in_a_place_that_is_no_folder_is_one_sentence(self, tmp_path, place):
        (tmp_path / "file").write_text("")
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        for raw in ({"runs_dir": str(tmp_path / place)}, {"run_dir": str(tmp_path / place)}):
            with pytest.raises(runs.StorageError, match=r"^Results cannot be stored in ") as caught:
                runs.open_run(EXPERIMENT, BASIC | raw)
            assert place in str(caught.value)

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

    @pytest.mark.parametrize("same_second", [False, True])
    def test_a_clock_set_back_brings_no_old_result_back(self, monkeypatch, same_second):
        """A stale run of tomorrow does not hide the one that refreshed it, nor does a folder of the same second."""
        clock = Clock(monkeypatch)
        monkeypatch.setattr(provenance, "source_hash", lambda *_: "source two")
        clock.now = datetime(2026, 1, 2, 3, 4, 5, 7, tzinfo=UTC)
        complete([{"seconds": 1.0}])
        monkeypatch.setattr(provenance, "source_hash", lambda *_: "source one")
        clock.now -= timedelta(microseconds=1) if same_second else timedelta(days=1)
        complete([{"seconds": 2.0}])
        table = runs.load(EXPERIMENT)
        assert list(table.seconds) == [2.0]
        assert not table.stale.any()
        (*_, best) = runs.complete_with(EXPERIMENT, config_hash(resolve(EXPERIMENT, BASIC)))
        assert best.rows()[0]["seconds"] == 2.0

    def test_of_two_current_runs_or_two_stale_ones_the_later_counts(self, monkeypatch):
        clock = Clock(monkeypatch)
        for seconds in (1.0, 2.0):
            clock.now += timedelta(microseconds=1)
            complete([{"seconds": seconds}])
        assert list(runs.load(EXPERIMENT).seconds) == [2.0]
        monkeypatch.setattr(provenance, "source_hash", lambda *_: "source two")
        table = runs.load(EXPERIMENT)
        assert list(table.seconds) == [2.0]
        assert table.stale.all()

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


def _deep(_text):
    return "[" * 200_000


def _as_loop(name):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).symlink_to(folder / name)

    return damage


def _as_folder(name):
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return damage


def _bytes(name, content):
    return lambda folder: (folder / name).write_bytes(content)


def _metrics(**changes):
    return _edit("metrics.json", lambda text: json.dumps(json.loads(text) | changes))


DAMAGES = {
    "half a line": (_edit("measurements.jsonl", lambda text: text[:-5]), "measurements.jsonl is not the file of"),
    "one more line": (
        _edit("measurements.jsonl", lambda text: text + '{"arm"'),
        "measurements.jsonl is not the file of",
    ),
    "same size, not JSON": (_edit("measurements.jsonl", lambda t: "[" + t[1:]), "measurements.jsonl cannot be read"),
    "JSON, not a row": (_edit("measurements.jsonl", lambda t: "1" * (len(t) - 1) + "\n"), "a line is not a row"),
    "rows not UTF-8": (
        lambda folder: _bytes("measurements.jsonl", b"\xff" * (folder / "measurements.jsonl").stat().st_size)(folder),
        "can't decode byte 0xff",
    ),
    "no responses": (_edit("responses.jsonl", lambda text: ""), "responses.jsonl is not the file of"),
    "records in a folder": (_as_folder("responses.jsonl"), "responses.jsonl is not a file"),
    "records in a loop": (_as_loop("measurements.jsonl"), "measurements.jsonl cannot be read (Too many levels"),
    "empty": (_edit("metrics.json", lambda text: ""), "metrics.json is not JSON"),
    "cut": (_edit("metrics.json", lambda text: text[:20]), "metrics.json is not JSON"),
    "not UTF-8": (_bytes("metrics.json", b"\xff\xfe{}"), "metrics.json is not JSON"),
    "nested": (_edit("metrics.json", _deep), "metrics.json is not JSON"),
    "nested summary": (
        _edit("metrics.json", lambda t: t.replace('"config": {', '"config": {"deep": ' + "[" * 900 + "]" * 900 + ",")),
        "",
    ),
    "huge number": (_edit("metrics.json", lambda text: "1" * 10_000), "metrics.json is not JSON"),
    "a list": (_edit("metrics.json", lambda text: "[]"), "metrics.json was not written by Recount"),
    "foreign": (_edit("metrics.json", lambda text: '{"accuracy": 0.5}'), "metrics.json was not written by Recount"),
    "schema of another kind": (_metrics(schema=True), "metrics.json was not written by Recount"),
    "newer": (_metrics(schema=99), "by a newer version of Recount (schema 99); update Recount to read it."),
    "older": (_metrics(schema=0), "by an older version of Recount (schema 0); read it with the version that wrote it"),
    "no configuration": (_edit("metrics.json", _without("config")), "metrics.json lacks config"),
    "little left": (_edit("metrics.json", _without("summary", "finished")), "metrics.json lacks finished, summary"),
    "no time": (_metrics(finished="yesterday"), "metrics.json has no time"),
    "no length": (_metrics(seconds=True), "no time that a run can take"),
    "less than no time": (_metrics(seconds=-1), "no time that a run can take"),
    "endless": (_edit("metrics.json", lambda t: re.sub('"seconds": [^,]*', '"seconds": 1e999', t)), "can take"),
    "more digits than a float": (_metrics(seconds=10**400), "no time that a run can take"),
    "NaN": (_metrics(seconds=math.nan), "metrics.json is not JSON"),
    "NaN in the summary": (_metrics(summary={"speedup": math.nan}), "metrics.json is not JSON"),
    "no time zone": (_metrics(finished="2026-01-02T03:04:05"), "metrics.json has no time"),
    "vouches for less": (_metrics(bytes={"responses.jsonl": 19}), "does not vouch for both"),
    "vouches for nothing": (_metrics(bytes=dict.fromkeys(runs.RECORDS)), "does not vouch for both"),
    "another hash": (_metrics(config_hash="0" * 64), "another configuration than the one its hash is of"),
    "another experiment": (_metrics(experiment="2a_specdec"), "it is a run of '2a_specdec'; move it"),
    "metrics in a folder": (_as_folder("metrics.json"), "metrics.json is not a file"),
    "metrics in a loop": (_as_loop("metrics.json"), "metrics.json cannot be read (Too many levels"),
    "no config.yaml": (lambda folder: (folder / "config.yaml").unlink(), "config.yaml is missing"),
    "config.yaml differs": (_edit("config.yaml", lambda t: t.replace("seed: 2", "seed: 3")), "holds other parameters"),
    "config.yaml cut": (_edit("config.yaml", lambda t: t[: len(t) // 2]), "config.yaml"),
    "config.yaml not UTF-8": (_bytes("config.yaml", b"\xff"), "config.yaml cannot be read"),
    "config.yaml a bomb": (
        _bytes(
            "config.yaml",
            b"a: &a [1, 1]\n"
            + b"".join(b"%c: &%c [*%c, *%c]\n" % (n + 1, n + 1, n, n) for n in b"abcdefghijklmnopqrstuvwxy"),
        ),
        "config.yaml cannot be read",
    ),
    "config.yaml nested": (_edit("config.yaml", _deep), "config.yaml cannot be read"),
    "config.yaml in a folder": (_as_folder("config.yaml"), "config.yaml is not a file"),
    "config.yaml in a loop": (_as_loop("config.yaml"), "config.yaml cannot be read (Too many levels"),
    "no env.json": (lambda folder: (folder / "env.json").unlink(), "env.json is missing"),
    "env.json in a folder": (_as_folder("env.json"), "env.json is not a file"),
    "no measurements": (lambda folder: (folder / "measurements.jsonl").unlink(), "measurements.jsonl is missing"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_folder_is_named_in_one_sentence_and_left_out(name):
    damage, words = DAMAGES[name]
    good, bad = complete(seed=1), complete(seed=2)
    damage(bad)
    with pytest.warns(runs.RunWarning) as caught:
        table = runs.load(EXPERIMENT)
    assert set(table.run) == {good.name}
    (message,) = {str(w.message) for w in caught}
    assert message.startswith(f"Run folder {bad} is left out because ")
    assert words in message
    assert message.count("; ") >= 1  # what to do
    assert message.endswith(".")
    assert "\n" not in message


def test_a_folder_named_after_another_configuration_is_left_out():
    bad = complete()
    renamed = bad.rename(bad.with_name(bad.name[:-6] + "abcdef"))
    with pytest.warns(runs.RunWarning, match=f"{renamed.name} is left out because its name has the hash of another"):
        assert runs.finished(EXPERIMENT) == []


def test_a_folder_that_links_to_itself_is_named(tmp_path):
    complete()
    loop = runs.experiment_folder(EXPERIMENT) / "loop"
    loop.symlink_to(loop)
    with pytest.warns(runs.RunWarning, match=f"{loop} is left out"):
        assert len(runs.finished(EXPERIMENT)) == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_in_place_of_a_file_is_named_and_never_waited_for():
    folder = complete()
    (folder / "metrics.json").unlink()
    os.mkfifo(folder / "metrics.json")
    with pytest.warns(runs.RunWarning, match=r"metrics\.json is not a file"):
        assert runs.finished(EXPERIMENT) == []


def test_an_older_runs_configuration_is_compared_by_what_it_means():
    folder = complete(seed=7)
    _edit("metrics.json", _without("config_sha256"))(folder)
    _edit("config.yaml", lambda text: "# by hand\n" + text.replace("label: ''", "label: mine"))(folder)
    assert len(runs.finished(EXPERIMENT)) == 1
    _edit("config.yaml", lambda text: text.replace("seed: 7", "seed: 8"))(folder)
    with pytest.warns(runs.RunWarning, match="other parameters"):
        assert runs.finished(EXPERIMENT) == []


def test_a_run_of_a_clock_that_was_set_back_by_years_still_counts():
    _edit("metrics.json", lambda text: json.dumps(json.loads(text) | {"finished": "2999-01-02T03:04:05+00:00"}))(
        complete()
    )
    assert len(runs.finished(EXPERIMENT)) == 1


def test_hidden_folders_are_no_runs():
    folder = complete()
    shutil.copytree(folder, folder.parent / ".import" / folder.name)
    shutil.copytree(folder, folder.parent / ".attempts")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        digest = config_hash(resolve(EXPERIMENT, BASIC))
        assert [run.dir for run in runs.complete_with(EXPERIMENT, digest)] == [folder]


def test_a_place_for_runs_that_is_none_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(runs.StorageError, match="cannot be listed") as caught:
        runs.finished("runs", tmp_path / "file")
    assert str(tmp_path / "file") in str(caught.value)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(runs.StorageError, match="cannot be listed"):
        runs.load(EXPERIMENT, tmp_path / "loop")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["", "mine", "b_20260102_030405_000000x"])), max_size=6),
    st.integers(0, 3),
)
def test_complete_with_is_finished_without_the_other_configurations(tmp_path, made, asked):
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    for n, (seed, name) in enumerate(made):
        own = {"run_dir": str(place / EXPERIMENT / f"{name}{n}")} if name else {}
        run = runs.open_run(EXPERIMENT, BASIC | {"seed": seed, "runs_dir": str(place), **own})
        run.finish({})
    wanted = config_hash(resolve(EXPERIMENT, BASIC | {"seed": asked}))
    found = runs.complete_with(EXPERIMENT, wanted, place)
    assert len(found) == sum(seed == asked for seed, _ in made)
    counts = [run for run in runs.finished(EXPERIMENT, place) if run.metrics["config_hash"] == wanted]
    assert found[-1:] == counts


def test_complete_with_reads_no_other_run(monkeypatch):
    folders = {seed: complete(seed=seed) for seed in range(3)}
    read = []
    monkeypatch.setattr(reading, "check", lambda folder, experiment: read.append(folder) or check(folder, experiment))
    runs.complete_with(EXPERIMENT, config_hash(resolve(EXPERIMENT, BASIC | {"seed": 1})))
    assert read == [folders[1]]


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
