"""Sweeps: what is done is kept, what fails stays alone, what measures time runs alone, what is stopped resumes."""

import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import checkout
import pytest

from lib import presets, runs
from lib.sweep import __main__ as sweep
from lib.console import Log, newest_line, tail
from lib.params import ParameterError, config_hash

SWEEP = [sys.executable, "-m", "lib.sweep", "1a3_scaling"]


@pytest.fixture
def root(tmp_path):
    return checkout.make(tmp_path / "repository")


def complete(root: Path) -> list[str]:
    """Models of the complete runs in the copy."""
    return sorted(json.loads(p.read_text())["config"]["model"] for p in root.glob("runs/1a3_scaling/*/metrics.json"))


def test_a_failure_stays_alone_and_a_second_sweep_does_only_what_is_missing(root):
    first = checkout.run([*SWEEP, "--preset", "alone", "--set", "seed=13"], root)
    assert first.returncode == 1
    assert complete(root) == ["ladder-1m"]
    (failed,) = [folder for folder in checkout.folders(root) if not (folder / "metrics.json").exists()]
    (line,) = [line for line in first.stderr.splitlines() if "failed." in line]
    assert "ZeroDivisionError: unlucky" in line
    assert str(failed / "executed.ipynb") in line
    assert "1 of 2 runs failed; the same command tries them again." in first.stderr
    assert "ZeroDivisionError" in (failed / "log.txt").read_text()

    shown = checkout.run([*SWEEP, "--preset", "alone", "--set", "seed=13", "--dry-run"], root)
    states = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert states["ladder-60k"].endswith("to run")
    assert "done: ladder-1m_" in states["ladder-1m"]

    again = checkout.run([*SWEEP, "--preset", "alone", "--set", "seed=13", "--skip", "model=ladder-60k"], root)
    assert again.returncode == 0
    assert "ladder-1m is done: ladder-1m_" in again.stderr
    assert len(checkout.folders(root)) == 2


def test_jobs_run_beside_each_other(root, tmp_path):
    os.mkfifo(tmp_path / "channel")  # the two runs wait for each other here
    command = [
        *SWEEP,
        "--preset",
        "beside",
        "--set",
        "seed=15",
        "--jobs",
        "2",
        "--runs-dir",
        str(tmp_path / "else where"),
    ]
    environment = checkout.environment(root, CHANNEL=str(tmp_path / "channel"))
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "else where" / "1a3_scaling").glob("*/metrics.json"))) == 2
    assert not (root / "runs").exists()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopping_a_sweep_stops_its_kernel_and_completes_nothing(root, tmp_path, how):
    os.mkfifo(tmp_path / "channel")
    environment = checkout.environment(root, CHANNEL=str(tmp_path / "channel"))
    command = [*SWEEP, "--preset", "alone", "--set", "seed=14"]
    process = subprocess.Popen(
        command,
        cwd=root,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests run in the background ignore it
    )
    channel = os.open(tmp_path / "channel", os.O_RDONLY | os.O_NONBLOCK)  # its only writer is the kernel
    assert select.select([channel], [], [], 60)[0], "the kernel never started"
    assert os.read(channel, 100) == b"here\n"
    process.send_signal(how)
    assert select.select([channel], [], [], 60)[0], "the kernel outlives the sweep"
    assert os.read(channel, 100) == b""  # closed
    os.close(channel)
    message = process.communicate(timeout=30)[1]
    assert complete(root) == []
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "the same command resumes" in message
        assert "Traceback" not in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "alnoe"], "did you mean 'alone'?"),
        (["--preset", "alone", "--only", "modle=ladder-1m"], "did you mean 'model'?"),
        (["--preset", "alone", "--set", "prompts=many"], "should be a whole number"),
        (["--preset", "alone", "--set", "arms=[naive]"], "both 'naive' and 'eab'"),
        (["--preset", "alone", "--set", "run_dir=here"], "type --runs-dir DIR"),
    ],
)
def test_a_mistake_is_one_sentence_before_anything_runs(arguments, expected, tmp_path, monkeypatch, capsys):
    (tmp_path / "1a3_scaling.yaml").write_text(checkout.PRESETS)
    monkeypatch.setattr(presets.paths, "PARAMS", tmp_path)
    with pytest.raises(SystemExit) as stopped:
        sweep.app(["1a3_scaling", *arguments])
    assert stopped.value.code == 2
    shown = capsys.readouterr().err
    assert expected in shown
    assert shown.count("\n") == 1


def test_help_teaches_by_example(capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.app(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert "--only model=Qwen2.5-7B\n" in shown
    assert "resumes when it is started again" in shown


def task(exclusive: bool = False, done: runs.Finished | None = None) -> sweep.Task:
    cell = presets.Cell("1a3_scaling", {"arms": ["naive", "eab"]}, devices=0, exclusive=exclusive)
    return sweep.Task(cell, cell.resolved(), done)


class FakeRunning:
    def __init__(self, exclusive: bool) -> None:
        self.task = task(exclusive)


@pytest.mark.parametrize(
    ("exclusive", "running", "jobs", "expected"),
    [
        (True, [], 1, True),
        (False, [False], 1, False),
        (False, [False], 2, True),
        (True, [False], 2, False),
        (False, [True], 2, False),
        (True, [True], 9, False),
    ],
)
def test_nothing_runs_beside_a_cell_that_measures_time(exclusive, running, jobs, expected):
    assert sweep.fits(task(exclusive), [FakeRunning(other) for other in running], jobs) is expected


def test_what_is_run_again(tmp_path):
    fresh, stale = (runs.Finished(tmp_path, {}, stale=flag) for flag in (False, True))
    due = {rerun: [task(done=d).is_due(rerun) for d in (None, fresh, stale)] for rerun in (None, "stale", "all")}
    assert due == {None: [True, False, False], "stale": [True, False, True], "all": [True, True, True]}


def test_a_plan_knows_what_lies_in_another_runs_folder(tmp_path):
    cells = presets.cells("1a3_scaling", "debug")
    run = runs.open_run("1a3_scaling", {**cells[1].params, "runs_dir": str(tmp_path)})
    run.finish({})
    tasks = sweep.plan(cells, str(tmp_path))
    assert [t.done is not None for t in tasks] == [False, True]
    assert config_hash(tasks[1].params) == config_hash(run.params)
    assert {t.params.runs_dir for t in tasks} == {str(tmp_path)}


def test_what_cannot_be_had_is_left_out_with_its_reason(tmp_path):
    found = presets.cells("2a_specdec", "full_eagle", only=["group=qwen2_7b", "group=llama3_8b"], skip=["method=ngram"])
    tasks = {task.cell.label: task for task in sweep.plan(found, str(tmp_path))}
    assert [label for label, task in tasks.items() if not task.is_due(None)] == ["qwen2_7b_eagle"]
    left_out = tasks["qwen2_7b_eagle"]
    assert not left_out.is_due("all")
    assert left_out.state.startswith("left out: vLLM registers no EagleQwen2ForCausalLM; convert the head with")
    rows = dict(line.split(maxsplit=1) for line in sweep.table(list(tasks.values())).splitlines())
    assert rows["qwen2_7b_baseline"].split() == ["1", "no", "to", "run"]
    assert "left out: vLLM registers no" in rows["qwen2_7b_eagle"]
    with pytest.raises(ParameterError, match="vLLM registers no"):
        runs.prepare("2a_specdec", left_out.params)
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_sweep_says_what_it_leaves_out_and_runs_nothing_of_it(tmp_path, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr(sweep, "run_all", lambda tasks, jobs: ran.extend(t.cell.label for t in tasks) or 0)
    arguments = ["2a_specdec", "--preset", "full_eagle", "--only", "group=qwen2_72b", "--runs-dir", str(tmp_path)]
    with pytest.raises(SystemExit) as stopped:
        sweep.app(arguments)
    assert stopped.value.code == 0
    assert ran == ["qwen2_72b_baseline", "qwen2_72b_ngram"]
    assert "qwen2_72b_eagle is left out: vLLM registers no" in capsys.readouterr().err


def test_a_damaged_folder_is_one_line_of_a_dry_run(root):
    folder = root / "runs" / "1a3_scaling" / "old"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{")
    done = checkout.run([*SWEEP, "--preset", "alone", "--dry-run"], root)
    assert done.returncode == 0
    assert done.stdout.count("to run") == 2
    assert done.stderr.startswith(f"Warning: Run folder {folder} is left out because metrics.json is not JSON; delete")
    assert done.stderr.count("\n") == 1


class TestConsole:
    def test_newest_line_is_what_a_terminal_would_show_last(self):
        assert newest_line("one\ntwo 10%\rtwo 20%\r") == "two 20%"
        assert newest_line("\x1b[31mred\x1b[0m\n\n") == "red"
        assert newest_line("outer 1/2\ninner 50%\x1b[A") == "inner 50%"
        assert newest_line("\r\n \n") == ""

    def test_tail_reads_only_the_end(self, tmp_path):
        path = tmp_path / "log.txt"
        assert tail(path) == ""
        path.write_text("é" * 10_000 + "\nlast 5%\r")
        assert tail(path) == "last 5%"

    def test_log_keeps_everything_and_shows_the_newest(self, tmp_path):
        shown = []
        log = Log(tmp_path / "log.txt", show=shown.append)
        for text in ("a 1%\r", "a 2%\r", "\n"):
            log.write(text)
        log.flush()
        assert (tmp_path / "log.txt").read_bytes() == b"a 1%\ra 2%\r\n"
        assert shown == ["a 1%", "a 2%"]
