"""Sweeps: what is done is kept, what fails stays alone, what measures time runs alone, what is stopped resumes."""

import errno
import json
import os
import select
import shlex
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import Any

import checkout
import nbformat
import pytest
import typer

from lib import console, kernel, notebooks, paths, presets, runs
from lib.console import Log, newest_line, tail
from lib.params import ParameterError, config_hash, resolve
from lib.sweep import __main__ as sweep
from lib.sweep import attempts, cell, loop, on_ray, planning
from lib.sweep.cell import Outcome, Rerun
from lib.sweep.planning import Task
from lib.sweep.processes import Processes

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
    (line,) = [line for line in first.stderr.splitlines() if line.startswith("1 of 2: ladder-60k after")]
    assert "ZeroDivisionError: unlucky" in line
    assert str(failed / "executed.ipynb") in line
    typed = "python -m lib.sweep 1a3_scaling --preset alone --set seed=13"
    assert first.stderr.endswith(f"1 of 2 runs failed. The same command tries them again: {typed}\n")
    assert "ZeroDivisionError" in (failed / "log.txt").read_text()

    shown = checkout.run([*SWEEP, "--preset", "alone", "--set", "seed=13", "--dry-run"], root)
    states = dict(line.split(maxsplit=1) for line in shown.stdout.splitlines())
    assert "failed: The run failed in cell [4] with ZeroDivisionError: unlucky; see" in states["ladder-60k"]
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


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
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
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert message.endswith(
            "resumes with the others: python -m lib.sweep 1a3_scaling --preset alone --set seed=14\n"
        )
        assert "Traceback" not in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--preset", "alnoe"], "did you mean 'alone'?"),
        (["--preset", "alone", "--only", "modle=ladder-1m"], "did you mean 'model'?"),
        (["--preset", "alone", "--set", "prompts=many"], "should be a whole number"),
        (["--preset", "alone", "--set", "arms=[naive]"], "both 'naive' and 'eab'"),
        (["--preset", "alone", "--set", "run_dir=here"], "type --runs-dir DIR"),
        (["--preset", "alone", "--dry-run", "--ray", "lokal"], "type local, auto, or HOST:PORT"),
        (["--preset", "alone", "--rerun", "stale", "--since", "2026-01-31T09:00"], "type --rerun all with it"),
        (["--preset", "alone", "--rerun", "all", "--since", "noon"], "write it like 2026-01-31T09:00"),
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


def some_task(
    exclusive: bool = False, done: runs.Finished | None = None, gpus: float = 0, seed: int = 0, **known: Any
) -> Task:
    cell = presets.Cell("1a3_scaling", {"arms": ["naive", "eab"], "seed": seed, "label": f"s{seed}"}, gpus, exclusive)
    return Task(cell, cell.resolved(), done, **known)


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
    others = [some_task(other) for other in running]
    assert Processes(jobs).has_room(some_task(exclusive), others) is expected


def test_what_is_run_again(tmp_path):
    fresh, stale = (runs.Finished(tmp_path, {}, stale=flag) for flag in (False, True))
    reruns = {"": None, "stale": Rerun("stale"), "all": Rerun("all")}
    due = {name: [some_task(done=d).is_due(rerun) for d in (None, fresh, stale)] for name, rerun in reruns.items()}
    assert due == {"": [True, False, False], "stale": [True, False, True], "all": [True, True, True]}


def test_rerun_all_goes_on_with_what_was_not_made_since(root):
    typed = [*SWEEP, "--preset", "alone", "--set", "seed=13"]
    first = checkout.run([*typed, "--rerun", "all"], root)  # one cell fails
    resume = first.stderr.splitlines()[-1].partition("This command tries them again: python -m lib.sweep ")[2]
    assert resume.startswith("1a3_scaling --preset alone --set seed=13 --rerun all --since 20")
    again = checkout.run([*SWEEP[:-1], *shlex.split(resume)], root)
    assert again.returncode == 1
    assert "ladder-1m is done: ladder-1m_" in again.stderr
    assert complete(root) == ["ladder-1m"]
    assert again.stderr.splitlines()[-1].endswith(f"The same command tries them again: python -m lib.sweep {resume}")
    later = checkout.run([*typed, "--rerun", "all", "--since", "2100-01-01", "--only", "model=ladder-1m"], root)
    assert later.returncode == 0, later.stderr
    assert complete(root) == ["ladder-1m", "ladder-1m"]


class TestPlan:
    def test_knows_what_lies_in_another_runs_folder(self, tmp_path):
        cells = presets.cells("1a3_scaling", "debug")
        run = runs.open_run("1a3_scaling", {**cells[1].params, "runs_dir": str(tmp_path)})
        run.finish({})
        tasks = planning.plan(cells, str(tmp_path))
        assert [t.done is not None for t in tasks] == [False, True]
        assert config_hash(tasks[1].params) == config_hash(run.params)
        assert {t.params.runs_dir for t in tasks} == {str(tmp_path)}

    def test_what_cannot_be_had_is_left_out_with_its_reason(self, tmp_path):
        only = ["group=qwen2_7b", "group=llama3_8b"]
        found = presets.cells("2a_specdec", "full_eagle", only=only, skip=["method=ngram"])
        tasks = {task.cell.label: task for task in planning.plan(found, str(tmp_path))}
        assert [label for label, task in tasks.items() if not task.is_due(None)] == ["qwen2_7b_eagle"]
        left_out = tasks["qwen2_7b_eagle"]
        assert not left_out.is_due(Rerun("all"))
        assert left_out.state.startswith("left out: vLLM registers no EagleQwen2ForCausalLM; convert the head with")
        rows = dict(line.split(maxsplit=1) for line in planning.table(list(tasks.values())).splitlines())
        assert rows["qwen2_7b_baseline"].split() == ["1", "no", "to", "run"]
        assert "left out: vLLM registers no" in rows["qwen2_7b_eagle"]
        with pytest.raises(ParameterError, match="vLLM registers no"):
            runs.prepare("2a_specdec", left_out.params)
        assert not list(tmp_path.rglob("config.yaml"))

    def test_expects_what_the_same_run_took_or_the_same_with_other_seeds(self, tmp_path):
        def finished(seconds: float, **params: Any) -> runs.Finished:
            config = resolve("1a3_scaling", {"arms": ["naive", "eab"], **params})
            metrics = {"config": config.model_dump(mode="json"), "config_hash": config_hash(config)}
            return runs.Finished(tmp_path, {**metrics, "seconds": seconds}, stale=False)

        expected = planning._durations([finished(s, seed=n) for n, s in enumerate([10.0, 30.0, 20.0])])
        assert expected(some_task(seed=1).params) == 30.0  # itself
        assert expected(some_task(seed=9).params) == 20.0  # the median of its like
        other = resolve("1a3_scaling", {"arms": ["naive", "eab"], "model": "ladder-60k"})
        assert expected(other) is None

    def test_tells_the_time_where_earlier_runs_do(self):
        known, unknown = some_task(expected=90.0), some_task(seed=1)
        done = some_task(seed=2, expected=1e6, done=runs.Finished(Path("old"), {}, stale=False))
        rows = planning.table([known, unknown, done]).splitlines()
        assert [row.split()[0] for row in rows] == ["run", "s0", "s1", "s2"]
        assert "90 s" in rows[1]
        assert rows[2].split() == ["s1", "0", "yes", "to", "run"]
        line = "2 to run, 1 done; about 90 s for those to run, one after another and 1 that never ran"
        assert planning.total([known, unknown, done], None) == line
        assert "about 277.8 h" in planning.total([known, unknown, done], Rerun("all"))
        assert planning.total([], None) == "no cell"

    @pytest.mark.parametrize(
        ("note", "claimed", "state"),
        [
            (None, False, "to run"),
            ({"folder": "/x/a_run", "started": 0.0}, False, "stopped: a_run"),
            ({"folder": "", "started": 0.0}, False, "to run"),
            ({"folder": "/x/a_run", "started": 0.0, "failed": "Because."}, False, "failed: Because."),
            ({"host": "h", "pid": 7, "folder": "/x/a_run", "started": 940.0}, True, "running: h (process 7), 60 s"),
            ({"host": "h", "pid": 7, "gpus": "1", "folder": "/x", "started": 999.0}, True, "running: h, GPU 1 (process 7), 1 s"),  # noqa: E501
            ({"host": "h", "pid": 7, "folder": "", "started": 990.0}, True, "running: h (process 7), 10 s, waiting for the machine"),  # noqa: E501
            ({"host": "h", "pid": 7, "folder": "/x", "started": 5000.0}, True, "running: h (process 7), 0 s"),
        ],
    )  # fmt: skip
    def test_state_of_a_cell(self, note, claimed, state, monkeypatch):
        monkeypatch.setattr(planning.time, "time", lambda: 1000.0)
        assert some_task(note=note, claimed=claimed).state == state


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (7200, "2.0 h")]
)
def test_durations_are_spelt_as_people_say_them(seconds, text):
    assert planning.spell(seconds) == text


class Script:
    """An executor that runs nothing: each start of a cell takes the next of its outcomes, in the order of starting."""

    def __init__(self, outcomes: dict[str, list[str]], room: int = 1) -> None:
        self.outcomes, self.room, self.starts, self.stopped, self.closed = outcomes, room, [], [], False

    def has_room(self, task: Task, running: list[Task]) -> bool:
        return len(running) < self.room

    def start(self, task: Task, job: Any) -> "Script.Handle":
        self.starts.append(task.cell.label)
        return self.Handle(self, task, self.outcomes.get(task.cell.label, ["complete"]).pop(0))

    def wait(self, running: list["Script.Handle"], seconds: float) -> None:
        assert 0 < len(running) <= self.room

    def close(self) -> None:
        self.closed = True

    class Handle:
        def __init__(self, script: "Script", task: Task, state: str) -> None:
            self.script, self.task, self.state = script, task, state

        def outcome(self) -> Outcome | None:
            if self.state == "interrupt":
                raise KeyboardInterrupt
            if self.state == "made":
                return Outcome("complete", "/x/other", "made meanwhile")
            if self.state in ("gone", "refused"):  # no process that could tell more
                return Outcome("died" if self.state == "gone" else "failed", reason=f"It was {self.state}")
            folder = "" if self.state in ("busy", "stuck") else f"/x/{self.task.cell.label}"
            return None if self.state == "runs" else Outcome(self.state, folder, f"why {self.state}", 10.0)

        def stop(self) -> None:
            self.script.stopped.append(self.task.cell.label)


class Listener:
    """A board that keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.shown: list[tuple] = []
        self.closed = False

    def say(self, text: str) -> None:
        self.said.append(text)

    def show(self, *state: Any) -> None:
        self.shown.append(state)

    def close(self) -> None:
        self.closed = True


class TestQueue:
    """The loop over an executor that runs nothing."""

    @pytest.fixture(autouse=True)
    def _at_once(self, tmp_path, monkeypatch):
        monkeypatch.setattr(loop, "AWAY", 0.0)
        monkeypatch.setattr(loop, "POLL", 0.0)
        monkeypatch.setattr(runs.folder.paths, "RUNS", tmp_path)

    def run(self, outcomes: dict[str, list[str]], cells: int = 3, room: int = 1) -> tuple[Script, Listener, loop.Queue]:
        script, board = Script(outcomes, room), Listener()
        queue = loop.run_all([some_task(seed=seed) for seed in range(cells)], script, board)
        assert script.closed
        assert board.closed
        return script, board, queue

    def test_cells_are_started_in_their_order_and_each_end_is_said(self):
        script, board, queue = self.run({})
        assert script.starts == ["s0", "s1", "s2"]
        assert board.said == [f"{n + 1} of 3: s{n} after 10 s complete: /x/s{n} (why complete)" for n in range(3)]
        assert (queue.ended, queue.failed, queue.total) == (3, [], 3)
        assert board.shown[-1][1:4] == (3, 3, 0)

    def test_a_failure_stops_nothing_and_is_kept(self):
        script, board, queue = self.run({"s1": ["failed"]})
        assert script.starts == ["s0", "s1", "s2"]
        assert [(task.cell.label, outcome.reason) for task, outcome in queue.failed] == [("s1", "why failed")]
        assert "2 of 3: s1 after 10 s failed. why failed" in board.said

    def test_what_another_sweep_made_took_this_one_no_time(self):
        _script, board, queue = self.run({"s0": ["made"]}, cells=2)
        assert board.said[0] == "1 of 2: s0 complete: /x/other (made meanwhile)"
        assert queue.spent == [10.0]

    @pytest.mark.parametrize("held", [False, True])
    def test_a_failure_without_a_word_is_noted_unless_another_sweep_is_at_the_cell(self, held, tmp_path):
        attempt = attempts.Attempt("1a3_scaling", some_task().params)
        with attempt.claimed():
            attempt.begin(tmp_path / "others", "another sweep")
            if held:
                self.run({"s0": ["refused"]}, cells=1)
        if not held:
            self.run({"s0": ["refused"]}, cells=1)
        note = attempt.note()
        assert (note.get("failed"), note["folder"]) == (
            (None, str(tmp_path / "others")) if held else ("It was refused", "")
        )

    def test_what_died_is_looked_for_in_its_log_and_its_notebook(self, tmp_path):
        attempt = attempts.Attempt("1a3_scaling", some_task().params)
        with attempt.claimed():
            attempt.begin(tmp_path / "ours", loop.THIS_SWEEP)
        _script, board, _queue = self.run({"s0": ["gone", "complete"]}, cells=1)
        places = f"It was gone; see {tmp_path}/ours/log.txt and {tmp_path}/ours/executed.ipynb"
        assert board.said[0].endswith(places)
        assert attempt.note()["failed"] == places

    def test_notes_are_read_once_a_look(self, monkeypatch):
        reads, monkey = [], attempts.Attempt.note
        monkeypatch.setattr(attempts.Attempt, "note", lambda self: reads.append(0) or monkey(self))
        script, board = Script({"s0": ["runs"], "s1": ["runs"]}, room=2), Listener()
        looks = iter([None, None, KeyboardInterrupt])

        def wait(*_: Any) -> None:
            if (look := next(looks)) is not None:
                raise look

        script.wait = wait
        with pytest.raises(KeyboardInterrupt):
            loop.run_all([some_task(seed=seed, expected=5.0) for seed in range(2)], script, board)
        assert len(reads) == 2 * len(board.shown) == 4

    def test_what_died_is_tried_once_more_before_the_rest(self):
        script, board, queue = self.run({"s0": ["died", "complete"]})
        assert script.starts == ["s0", "s0", "s1", "s2"]
        assert queue.failed == []
        assert "s0 died after 0 s and is tried once more. why died" in board.said

    def test_what_died_twice_has_failed(self):
        script, _board, queue = self.run({"s0": ["died", "died"]})
        assert script.starts == ["s0", "s0", "s1", "s2"]
        assert [task.cell.label for task, _ in queue.failed] == ["s0"]

    def test_a_failure_is_not_tried_again(self):
        script, _board, _queue = self.run({"s0": ["failed", "complete"]})
        assert script.starts == ["s0", "s1", "s2"]

    def test_a_cell_of_another_sweep_is_left_to_it_and_looked_at_again_last(self):
        script, board, queue = self.run({"s0": ["busy", "busy", "complete"]})
        assert script.starts == ["s0", "s1", "s2", "s0", "s0"]
        assert queue.failed == []
        assert sum("is being run by another sweep" in line for line in board.said) == 1

    def test_a_full_disk_ends_the_sweep_and_tells_what_was_not_begun(self, capsys):
        script, _board, queue = self.run({"s0": ["stuck"]})
        assert script.starts == ["s0"]
        assert queue.stuck == "why stuck"
        with pytest.raises(typer.Exit):
            sweep._finish(queue, 3, None)
        assert "1 of 3 runs failed. 2 were not begun. The same command" in capsys.readouterr().err

    def test_ctrl_c_stops_what_runs(self):
        script, board = Script({"s0": ["runs"], "s1": ["interrupt"]}, room=2), Listener()
        with pytest.raises(KeyboardInterrupt):
            loop.run_all([some_task(seed=seed) for seed in range(3)], script, board)
        assert script.stopped == ["s0", "s1"]
        assert script.closed
        assert board.closed

    def test_the_board_is_closed_even_when_stopping_is_interrupted(self):
        script, board = Script({"s0": ["interrupt"]}), Listener()
        script.close = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            loop.run_all([some_task()], script, board)
        assert board.closed

    def test_time_left(self, monkeypatch, tmp_path):
        queue = loop.Queue(deque([some_task(seed=1), some_task(seed=2, expected=50.0)]), None)
        assert loop._left(queue, []) is None  # no run tells how long one takes
        queue.spent = [20.0, 40.0]
        assert loop._left(queue, []) == 30.0 + 50.0
        handles = [Script.Handle(Script({}), some_task(seed=n, expected=60.0), "runs") for n in (3, 4, 5)]
        queue.running = [(handle, 0.0) for handle in handles]
        for handle, began in zip(handles, (80.0, 0.0), strict=False):  # 40 s to go; overdue; the third is held back
            monkeypatch.setattr(loop.time, "time", lambda began=began: began)
            attempt = attempts.Attempt("1a3_scaling", handle.task.params)
            with attempt.claimed():
                attempt.begin(tmp_path, loop.THIS_SWEEP)
        monkeypatch.setattr(loop.time, "time", lambda: 100.0)
        at_work = loop._at_work(queue)
        assert [line.label for line in loop._lines(at_work)] == ["s3", "s4"]
        assert loop._left(queue, at_work) == (30.0 + 50.0 + 40.0 + 0.0 + 60.0) / 2

    def test_a_cell_of_another_sweep_costs_no_process_while_that_one_is_at_it(self, monkeypatch):
        claims = iter([True, True, False])
        monkeypatch.setattr(attempts.Attempt, "is_claimed", lambda _: next(claims))
        script, _board, _queue = self.run({"s0": ["busy", "complete"]}, cells=1)
        assert script.starts == ["s0", "s0"]
        assert next(claims, None) is None


def test_a_cell_whose_machine_left_while_it_waits_is_given_up_unless_one_joins_in_time(monkeypatch):
    now, stopped = [0.0], []
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(on_ray.RayTask, "stop", lambda _: stopped.append(now[0]))
    monkeypatch.setitem(sys.modules, "ray", None)  # nothing is asked of it
    cell = on_ray.RayTask(some_task(gpus=1), None)
    found = []
    for now[0], most in [(5.0, 4), (1000.0, 0), (1800.0, 0), (1850.0, 1), (2000.0, 0), (2800.0, 0), (2901.0, 0)]:
        cell.look(ended=False, most=most)
        found.append(cell.outcome())
    assert found[:-1] == [None] * 6
    assert found[-1].reason.startswith("It needs 1 GPU on one machine, and none that has them joined")
    assert stopped == [2901.0]


class TestAttempt:
    """Locks and notes, between processes of this test."""

    @pytest.fixture
    def attempt(self, tmp_path) -> attempts.Attempt:
        return attempts.Attempt("1a3_scaling", some_task().params.model_copy(update={"runs_dir": str(tmp_path)}))

    def test_a_cell_has_one_process_and_is_free_when_that_is_killed(self, attempt, tmp_path):
        assert not attempt.is_claimed()
        assert not list(tmp_path.iterdir())  # asking leaves no trace
        script = (
            "import sys, threading; from lib.params import resolve; from lib.sweep.attempts import Attempt;"
            "params = resolve('1a3_scaling', {'arms': ['naive', 'eab'], 'label': 's0', 'runs_dir': sys.argv[1]});"
            "lock = Attempt('1a3_scaling', params).claimed(); print(lock.__enter__(), flush=True);"
            "threading.Event().wait()"
        )
        command = [sys.executable, "-c", script, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT) as holder:
            try:
                assert holder.stdout.readline() == "True\n"
                assert attempt.is_claimed()
                with attempt.claimed() as mine:
                    assert not mine
            finally:
                holder.kill()
        assert not attempt.is_claimed()
        with attempt.claimed() as mine:
            assert mine

    def test_the_machines_lock_is_one_whatever_temporary_folder_a_job_has(self, tmp_path, monkeypatch):
        monkeypatch.delenv("RECOUNT_LOCKS", raising=False)
        monkeypatch.setattr(attempts.tempfile, "tempdir", str(tmp_path))
        with attempts._machines_file() as file:
            shared = Path("/dev/shm")
            assert Path(file.name).parent == (shared if os.access(shared, os.W_OK) else tmp_path)
        monkeypatch.setattr(attempts.os, "access", lambda *_: False)
        with attempts._machines_file() as file:
            assert Path(file.name).parent == tmp_path

    def test_a_machines_lock_of_another_user_stops_no_run(self, tmp_path, monkeypatch):
        monkeypatch.setenv("RECOUNT_LOCKS", str(tmp_path))
        path, opened, closed_to = tmp_path / f"recount-{os.getuid()}.lock", Path.open, ["a"]
        path.touch()

        def strict(self: Path, mode: str = "r") -> Any:
            if mode in closed_to:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return opened(self, mode)

        monkeypatch.setattr(Path, "open", strict)
        with attempts.machine(alone=True, waits=pytest.fail), opened(path) as other:
            assert not attempts._locked(other, alone=False)
        closed_to.append("r")
        with (
            pytest.warns(UserWarning, match="measure time may run beside others"),
            attempts.machine(True, pytest.fail),
        ):
            pass

    def test_two_that_only_ask_do_not_keep_a_cell_busy(self, attempt):
        with attempt.claimed():
            pass
        with attempt._stem.with_suffix(".lock").open() as file:
            assert attempts._locked(file, alone=False)
            assert not attempt.is_claimed()

    def test_a_file_system_without_locks_lets_everybody_run(self, attempt, monkeypatch):
        def refuse(*_args: Any) -> None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

        monkeypatch.setattr(attempts.fcntl, "flock", refuse)
        with attempt.claimed() as one, attempt.claimed() as two:
            assert (one, two) == (True, True)

    def test_a_note_that_cannot_be_written_or_read_changes_nothing(self, attempt, tmp_path):
        attempt.begin(tmp_path, "me")  # no folder for notes yet
        assert attempt.note() is None
        attempt.clear()
        with attempt.claimed():
            attempt.begin(tmp_path, "me")
        assert attempt.note()["folder"] == str(tmp_path)
        path = attempt._stem.with_suffix(".json")
        for damaged in ("{", "[]", '{"folder": 1, "started": 0.0}', '{"folder": "x"}', "\0"):
            path.write_text(damaged)
            assert attempt.note() is None
            assert attempts.notes("1a3_scaling", str(tmp_path)) == {}
        attempt.clear()
        assert not path.exists()


def test_a_sweep_says_what_it_leaves_out_and_runs_nothing_of_it(tmp_path, monkeypatch, capsys):
    ran = []

    def run_all(tasks: list[Task], *_: Any) -> loop.Queue:
        ran.extend(task.cell.label for task in tasks)
        return loop.Queue(deque(), None)

    monkeypatch.setattr(sweep, "run_all", run_all)
    arguments = ["2a_specdec", "--preset", "full_eagle", "--only", "group=qwen2_72b", "--runs-dir", str(tmp_path)]
    monkeypatch.setattr(sweep, "_executor", lambda *_: Script({}))
    assert sweep.app(arguments, standalone_mode=False) in (None, 0)
    assert ran == ["qwen2_72b_baseline", "qwen2_72b_ngram"]
    assert "qwen2_72b_eagle is left out: vLLM registers no" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--jobs", "2"], "--jobs gives no cell a GPU of its own; type --ray local instead."),
        (["--jobs", "2", "--ray", "local"], "leave --jobs out"),
    ],
)
def test_cells_on_gpus_are_left_to_ray_alone(options, expected, tmp_path, capsys):
    arguments = ["2a_specdec", "--preset", "full", "--only", "group=qwen2_7b", "--runs-dir", str(tmp_path), *options]
    with pytest.raises(SystemExit) as stopped:
        sweep.app(arguments)
    assert stopped.value.code == 2
    assert expected in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("look", ["--dry-run", "--status"])
def test_what_a_cell_lacks_is_part_of_its_state_and_refuses_only_a_run(look, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sweep, "run_all", None)
    arguments = ["4c_inference", "--preset", "full", "--runs-dir", str(tmp_path)]
    assert sweep.app([*arguments, look], standalone_mode=False) in (None, 0)
    lacks = "No finished run of 4a_bridge is called '1a_stable_64tok', which preset 'full' makes"
    advice = f"'python -m lib.sweep 4a_bridge --preset full --only label=1a_stable_64tok --runs-dir {tmp_path}' first."
    *rows, total = capsys.readouterr().out.splitlines()[1:]
    assert [f"to run, but: {lacks}" in row and row.endswith(advice) for row in rows] == [True, True]
    assert total == "2 to run"
    with pytest.raises(SystemExit) as stopped:
        sweep.app(arguments)
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith(f"Error: {lacks}")


def test_ctrl_c_while_ray_starts_tells_how_to_resume(tmp_path, monkeypatch, capsys):
    said_before = []

    def connect(*_: Any) -> None:
        said_before.append(capsys.readouterr().err.splitlines()[-1])
        signal.raise_signal(signal.SIGTERM)  # to this thread, at once

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(sweep.on_ray, "OnRay", connect)
    try:
        with pytest.raises(SystemExit) as stopped:
            sweep.app(["1a3_scaling", "--preset", "debug", "--ray", "local", "--runs-dir", str(tmp_path)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stopped.value.code == 130
    assert said_before == ["Starting Ray on this machine ..."]
    assert "the same command resumes with the others: python -m lib.sweep" in capsys.readouterr().err


def test_a_damaged_folder_is_one_line_of_a_dry_run(root):
    folder = root / "runs" / "1a3_scaling" / "old"
    folder.mkdir(parents=True)
    (folder / "metrics.json").write_text("{")
    done = checkout.run([*SWEEP, "--preset", "alone", "--dry-run"], root)
    assert done.returncode == 0
    assert done.stdout.count("to run") == 3  # two cells, and the total
    assert done.stderr.startswith(f"Warning: Run folder {folder} is left out because metrics.json is not JSON; delete")
    assert done.stderr.count("\n") == 1


def test_a_kernel_that_does_not_start_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(
        kernel.OwnKernelManager, "format_kernel_cmd", lambda *_, **__: [sys.executable, "-c", "exit(3)"]
    )
    notebook = tmp_path / "x.ipynb"
    nbformat.write(checkout.notebook(), notebook)
    with pytest.raises(notebooks.KernelDied) as died:
        notebooks.execute(notebook, some_task().params, {}, tmp_path, progress_bar=False)
    assert str(died.value).startswith("The run's kernel could not be started (Kernel died before")
    assert str(died.value).endswith(f"; see {tmp_path / 'log.txt'}")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (notebooks.KernelDied("It died; see /x/log.txt"), ("died", "It died; see /x/log.txt and /x/executed.ipynb")),
        (OSError("!"), ("failed", "The output of /x could not be written (!); make room there, then start again.")),
    ],
)
def test_what_ends_a_run_is_said_with_its_folder(error, expected, monkeypatch):
    def execute(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cell.notebooks, "execute", execute)
    assert cell._problem(Path("x.ipynb"), some_task().params, Path("/x")) == expected


def test_nobody_reads_the_table(root):
    command = shlex.join([*SWEEP, "--preset", "alone", "--dry-run"])
    done = checkout.run(["bash", "-c", f"{command} | true; echo ${{PIPESTATUS[0]}}"], root)
    assert (done.stdout, done.stderr) == ("1\n", "")


def test_ctrl_c_while_the_cells_are_planned(monkeypatch, capsys):
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sweep, "plan", interrupted)
    monkeypatch.setattr(sys, "argv", ["sweep", "1a3_scaling"])
    with pytest.raises(SystemExit) as stopped:
        console.command(sweep.app)
    assert stopped.value.code == 130
    assert capsys.readouterr().err == ""  # nothing was begun


def test_the_command_that_resumes_is_the_one_that_was_typed(monkeypatch):
    typed = ["1a3_scaling", "--preset", "alone", "--set", "arms=[naive, eab]", "--runs-dir", "/else where/it's"]
    monkeypatch.setattr(sys, "argv", ["/x/lib/sweep/__main__.py", *typed])
    said = sweep._command(None)
    assert said.startswith("python -m lib.sweep 1a3_scaling --preset alone --set ")
    assert shlex.split(said)[3:] == typed


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
