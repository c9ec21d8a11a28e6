"""Plans: their order, what goes on after a failure and what does not, the summary; all with real processes."""

import itertools
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

import checkout
import pytest

from lib import paths, presets
from lib.params import EXPERIMENTS, ParameterError, config_hash
from lib.plan import __main__ as plan
from lib.plan import running, stages, summary
from lib.sweep.planning import Task

PLAN = [sys.executable, "-m", "lib.plan"]
MADE = [name for name in EXPERIMENTS if not name.startswith("bench/")]

# Each stands in for a command, whose program reads its own command line.
APP = """\
import os, sys, threading
from typing import Annotated
import typer

app = typer.Typer(add_completion=False)

@app.command()
def main(words: list[str] = typer.Argument(None), preset: str = "", runs_dir: str = "",
         set_: Annotated[list[str] | None, typer.Option("--set")] = None) -> None:
"""
# Takes long: notes its arguments, then does what the first of them says.
BENCH = f"""\
{APP}
    with open("order.txt", "a") as order:
        print(*sys.argv[1:], file=order)
    if words[0] == "exit":
        sys.exit(int(words[1]))
    if words[0] == "rename":
        presets = open("params/1a3_scaling.yaml").read()
        open("params/1a3_scaling.yaml", "w").write(presets.replace("alone", "elsewhere"))
    if words[0] == "wait":
        channel = open(os.environ["CHANNEL"], "w")
        try:
            print("here", file=channel, flush=True)
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopping", file=channel, flush=True)
            open(os.environ["RELEASE"]).readline()
            with open("order.txt", "a") as order:
                print("tidied", file=order)
            raise

if __name__ == "__main__":
    app()
"""
FIGURES = f"{APP}    pass\n"
LEDGER = [("1a3/a", "supported"), ("1a3/b", "supported"), ("1a3/c", "not run at this scale"), ("4a/d", "not supported")]
CLAIMS = f"""\
{APP}
    print("the ledger")

def decided(preset, set_, runs_dir):
    from types import SimpleNamespace as Made
    if preset == "uncountable":
        raise ZeroDivisionError("one by\\nnone")
    return [Made(claim=Made(id=i), verdict=v) for i, v in {LEDGER}], []

if __name__ == "__main__":
    app()
"""
PLANS = """
order:
  title: one after the other
  stages:
    - {name: first, run: bench one}
    - {name: second, run: bench exit 1}
    - {name: third, run: "bench 'two words'"}
mistake:
  title: the second is mistaken
  stages: [{name: first, run: bench one}, {name: second, run: bench exit 2}, {name: third, run: bench three}]
consequence:
  title: what follows from a failure is no mistake
  stages: [{name: first, run: bench exit 1}, {name: second, run: bench exit 2}, {name: third, run: bench three}]
wait:
  title: the second never ends
  stages: [{name: first, run: bench one}, {name: second, run: bench wait}, {name: third, run: bench three}]
lost:
  title: what it rests on goes away while it runs
  stages:
    - {name: a sweep, run: sweep 1a3_scaling --preset alone --only model=ladder-1m}
    - {name: the preset, run: bench rename}
    - {name: claims, run: claims --preset uncountable}
large:
  title: a sweep on GPUs
  stages: [{name: first, run: sweep 1a3_scaling --preset large}]
whole:
  title: a sweep of which one run fails, and what comes after
  stages:
    - {name: one model, run: sweep 1a3_scaling --preset beside --only model=ladder-1m}
    - {name: both models, run: sweep 1a3_scaling --preset beside --set seed=13}
    - {name: figures, run: figures}
    - {name: claims, run: claims}
"""


@pytest.fixture
def root(tmp_path):
    root = checkout.make(tmp_path / "repository")
    (root / "lib/bench/__main__.py").write_text(BENCH)
    (root / "lib/claims/__main__.py").write_text(CLAIMS)
    (root / "lib/figures/__main__.py").write_text(FIGURES)
    (root / "params/plans.yaml").write_text(PLANS)
    return root


def order(root: Path) -> list[str]:
    """The stages that ran, by their arguments."""
    return (root / "order.txt").read_text().splitlines()


def rows(shown: str) -> dict[str, list[str]]:
    """The summary's table: stage -> outcome, then complete runs and time where it has them."""
    table = shown.split("  time\n")[1].split("\nIn all")[0].splitlines()
    cells = [[cell.strip() for cell in line[4:].split("  ") if cell] for line in table]
    return {stage: rest for stage, *rest in cells}


def test_stages_run_in_order_and_beyond_a_failure(root):
    done = checkout.run([*PLAN, "order"], root)
    assert order(root) == ["one", "exit 1", "two words"]
    assert done.returncode == 1
    outcomes = {stage: outcome for stage, (outcome, *_) in rows(done.stdout).items()}
    assert outcomes == {"first": "done", "second": "failed", "third": "done"}
    assert done.stdout.splitlines()[-1].endswith("the same command goes on: python -m lib.plan order")


def test_a_mistake_in_a_command_stops_the_plan_unless_it_may_come_of_a_failure(root):
    done = checkout.run([*PLAN, "mistake"], root)
    assert (done.returncode, order(root)) == (2, ["one", "exit 2"])
    assert [outcome for outcome, *_ in rows(done.stdout).values()] == ["done", "mistaken", "not begun"]
    assert "goes on" not in done.stdout
    assert "Stage 'second' is mistaken" in done.stdout
    (root / "order.txt").unlink()
    done = checkout.run([*PLAN, "consequence"], root)
    assert (done.returncode, order(root)) == (1, ["exit 1", "exit 2", "three"])


def test_options_reach_the_stages_that_take_them(root, tmp_path):
    checkout.run([*PLAN, "order", "--runs-dir", str(tmp_path / "else where")], root)
    assert order(root)[0] == f"one --runs-dir {tmp_path / 'else where'}"
    assert order(root)[2] == f"two words --runs-dir {tmp_path / 'else where'}"


class Started:
    """A plan whose second stage never ends, in a process group of its own as a terminal would start it."""

    def __init__(self, root: Path, folder: Path) -> None:
        self._pipes = {}
        for name, mode in {"CHANNEL": os.O_RDONLY | os.O_NONBLOCK, "RELEASE": os.O_RDWR}.items():
            os.mkfifo(folder / name)
            self._pipes[name] = os.open(folder / name, mode)
        self.process = subprocess.Popen(
            [*PLAN, "wait"],
            cwd=root,
            env=checkout.environment(root, **{name: str(folder / name) for name in self._pipes}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests run in the background ignore it
        )

    def hears(self) -> str:
        """What the stage says next."""
        assert select.select([self._pipes["CHANNEL"]], [], [], 60)[0], "the stage says nothing"
        return os.read(self._pipes["CHANNEL"], 100).decode().strip()

    def release(self) -> None:
        """Let the stage end, once it was asked to."""
        os.write(self._pipes["RELEASE"], b"go\n")

    def end(self) -> str:
        """What the plan printed, when it and its stage, which holds the same pipes, have ended."""
        shown, errors = self.process.communicate(timeout=60)
        assert "lib/plan/" not in errors  # the stage may show a traceback, the plan none
        return shown

    def close(self) -> None:
        """Leave nothing behind, whatever failed."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
        for pipe in self._pipes.values():
            os.close(pipe)


@pytest.fixture
def started(root, tmp_path):
    with closing(Started(root, tmp_path)) as plan_at_work:
        yield plan_at_work


def test_ctrl_c_lets_the_stage_finish_tidying_and_says_how_to_go_on(root, started):
    assert started.hears() == "here"
    os.killpg(started.process.pid, signal.SIGINT)
    assert started.hears() == "stopping"
    with pytest.raises(subprocess.TimeoutExpired):  # longer than subprocess itself leaves a child after Ctrl-C
        started.process.wait(0.5)
    started.release()
    shown = started.end()
    assert started.process.returncode == 130
    assert order(root) == ["one", "wait", "tidied"]
    assert [outcome for outcome, *_ in rows(shown).values()] == ["done", "stopped", "not begun"]
    assert shown.endswith("the same command goes on: python -m lib.plan wait\n")


def test_a_polite_kill_of_the_plan_alone_takes_its_stage_along(root, started):
    assert started.hears() == "here"
    started.process.terminate()
    shown = started.end()
    assert started.process.returncode == 130
    assert order(root) == ["one", "wait"]
    assert rows(shown)["second"][0] == "stopped"


def test_the_summary_counts_runs_and_claims(root):
    done = checkout.run([*PLAN, "whole"], root)
    assert done.returncode == 1, done.stderr
    table = rows(done.stdout)
    assert table["one model"][:2] == ["done", "1/1"]
    assert table["both models"][:2] == ["failed", "1/2"]
    assert [outcome for outcome, *_ in table.values()] == ["done", "failed", "done", "done"]
    assert "Claims: 2 supported, 0 not supported, 0 inconclusive, 1 not run at this scale" in done.stdout
    assert "the ledger again: python -m lib.claims\n" in done.stdout
    assert f"\nFigures: {root / 'figures'}\n" in done.stdout


def test_nothing_that_changes_or_fails_meanwhile_takes_the_summary_along(root):
    done = checkout.run([*PLAN, "lost"], root)
    assert done.returncode == 0, done.stderr
    table = rows(done.stdout)
    assert table["a sweep"][:2] == ["done", "1/1"]
    assert [outcome for outcome, *_ in table.values()] == ["done"] * 3
    assert "Claims: they cannot be counted (one by none); the ledger again:" in done.stdout
    assert "Traceback" not in done.stderr


def test_runs_that_cannot_be_read_leave_the_table_whole(root, monkeypatch):
    monkeypatch.setattr(paths, "PARAMS", root / "params")
    shipped = stages.load("whole")
    tasks = stages.check(stages.Plan(title="t", stages=shipped.stages[:1]), {})
    monkeypatch.setattr(summary.runs, "finished", lambda *_: 1 / 0)
    table = list(summary.summary([running.Result(shipped.stages[0], 1)], tasks, {}))
    assert table[1].split() == ["1.", "one", "model", "failed", "?/1", "0", "s"]


def test_a_dry_run_shows_the_stages_and_runs_nothing(root):
    before = sorted(root.rglob("*"))
    done = checkout.run([*PLAN, "whole", "--dry-run", "--runs-dir", "elsewhere"], root)
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stdout.splitlines()]
    assert "python -m lib.sweep 1a3_scaling --preset beside --only model=ladder-1m --runs-dir" in lines[2]
    assert [line for line in lines if "to run" in line] == [
        "1 to run; GPUs per cell: 0",
        "2 to run; GPUs per cell: 0",
        "In all: 3 to run",
    ]
    assert [path for path in sorted(root.rglob("*")) if "__pycache__" not in path.parts] == before


class TestMistakes:
    """Each is one sentence and exit code 2 before anything runs."""

    @pytest.fixture(autouse=True)
    def plans(self, tmp_path, monkeypatch):
        self.path = tmp_path / "plans.yaml"
        self.path.write_text(PLANS)
        (tmp_path / "1a3_scaling.yaml").write_text(
            f"{checkout.PRESETS}  large: {{gpus: 1, grid: {{model: [ladder-1m]}}}}\n"
        )
        monkeypatch.setattr(paths, "PARAMS", tmp_path)
        monkeypatch.setattr(running, "run", lambda *_: pytest.fail("something ran"))

    def complaint(self, capsys, *arguments: str) -> str:
        with pytest.raises(SystemExit) as stopped:
            plan.app(arguments)
        assert stopped.value.code == 2
        shown = capsys.readouterr()
        assert (shown.out, shown.err.count("\n")) == ("", 1)
        return shown.err

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["hwole"], "did you mean 'whole'?"),
            (["mistake", "--ray", "local"], "No stage of this plan takes --ray"),
            (["whole", "--ray", "local", "--jobs", "2"], "leave --jobs out"),
            (["whole", "--ray", "lokal"], "'lokal' is no address"),
            (["whole", "--ray", "host:port", "--dry-run"], "'host:port' is no address"),
            (["large", "--jobs", "2"], "Its runs need GPUs"),
        ],
    )
    def test_on_the_command_line(self, arguments, expected, capsys):
        assert expected in self.complaint(capsys, *arguments)

    @pytest.mark.parametrize(
        ("run", "expected"),
        [
            ("swep 1a3_scaling", "did you mean 'sweep'?"),
            ("sweep 1a3_scaling --preset alnoe", "did you mean 'alone'?"),
            ("sweep 1a3_scaling --prset alone", "--preset"),
            ("sweep 1a3_scaling --only modle=x", "has no preset 'quick'"),
            ("sweep 1a3_scaling --preset alone --only modle=x", "did you mean 'model'?"),
            ("sweep", "EXPERIMENT"),
            ("bench nosuch", "bench has no command 'nosuch'"),
            ("bench", "bench has no command ''"),
            ("bench growth --nosuch", "--nosuch"),
            ("claims --nosuch", "--nosuch"),
            ("figures --preset", "--preset"),
            ("models.ladder --jobs none", "--jobs"),
            ("'unbalanced", "No closing quotation"),
            ("", "at least 1 item"),
        ],
    )
    def test_in_a_stage(self, run, expected, capsys):
        listed = [{"name": "first", "run": "figures"}, {"name": "second", "run": run}]
        self.path.write_text(json.dumps({"wrong": {"title": "a mistake", "stages": listed}}))
        assert expected in self.complaint(capsys, "wrong")

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plan: [", "plans.yaml cannot be used"),
            ("", "mistake at its top"),
            ("a: {title: t, stages: []}", "a.stages"),
            ("a: {title: t, stages: [{name: n, run: figures, nite: x}]}", "a.stages.0.nite"),
            ("a: {title: t, jobs: many, stages: [{name: n, run: figures}]}", "a.jobs"),
            ("a: {title: t, stages: [{name: n, run: 3}]}", "a.stages.0.run"),
        ],
    )
    def test_in_the_file(self, text, expected, capsys):
        self.path.write_text(text)
        assert expected in self.complaint(capsys, "a")


class TestShipped:
    """What params/plans.yaml promises; no plan is run."""

    def hashes(self, tasks: Iterable[Task]) -> set[tuple[str, str]]:
        return {(task.cell.experiment, config_hash(task.params)) for task in tasks}

    def wanted(self, preset: str, experiments: list[str]) -> set[tuple[str, str]]:
        return {(e, config_hash(cell.resolved())) for e in experiments for cell in presets.cells(e, preset)}

    @pytest.mark.parametrize(
        ("name", "preset", "experiments"),
        [
            ("demo", "quick", MADE),
            ("standard", "standard", MADE),
            ("bridge", "full", ["4a_bridge", "4b_wire", "4c_inference"]),
            ("bridge_small", "standard", ["4a_bridge", "4b_wire", "4c_inference"]),
        ],
    )
    def test_a_plan_has_every_cell_of_its_preset_and_ends_with_figures_and_claims(
        self, name, preset, experiments, tmp_path
    ):
        shipped, options = stages.load(name), {"--runs-dir": str(tmp_path)}
        every, wanted = stages.check(shipped, options), self.wanted(preset, experiments)
        more = {"standard": ("sampled", "2a_specdec"), "bridge_small": ("ablation2", "4a_bridge")}
        if name in more:
            wanted |= self.wanted(more[name][0], [more[name][1]])
        assert self.hashes(itertools.chain(*every)) == wanted
        assert [stage.command for stage in shipped.stages[-2:]] == ["figures", "claims"]
        last = summary.preview(shipped, every, options).splitlines()[-1]
        assert last == f"In all: {len(wanted)} to run"  # a cell of two stages is run once

    @pytest.mark.parametrize("name", ["bridge", "bridge_small"])
    def test_the_bridge_keeps_to_its_priorities(self, name, tmp_path):
        listed = [stage for stage in stages.load(name).stages if stage.name.startswith("P")]
        priorities = [stage.name.split(",")[0] for stage in listed]
        assert priorities == ["P0", "P0", "P0", "P1", "P2"]
        assert [stage.run[1][:2] for stage in listed] == ["4a", "4a", "4b", "4a", "4c"]
        ablations = [stage.name.split(":")[0].split()[-1] for stage in listed]
        assert ablations == ["1", "2", "4", "3", "5"]
        labels = [{task.cell.label for task in stage.tasks({"--runs-dir": str(tmp_path)})} for stage in listed]
        assert all(label.startswith(("1", "2", "rival")) for label in labels[0] | labels[1])
        assert any(label.startswith("3a_") for label in labels[3])

    def test_the_demo_draws_its_first_figure_after_one_model(self):
        commands = [stage.run for stage in stages.load("demo").stages]
        assert [words[0] for words in commands[:3]] == ["models.ladder", "sweep", "figures"]
        assert commands[1][1] == "1a3_scaling" and commands[1][-1] == "model=ladder-60k"

    def test_make_starts_the_plans(self):
        makefile = (paths.ROOT / "Makefile").read_text()
        assert "\ndemo: $(READY)\n\t@$(BIN)/python -m lib.plan demo\n" in makefile
        assert "\nstandard: $(READY)\n\t@$(BIN)/python -m lib.plan standard\n" in makefile


def test_jobs_are_the_plans_own_unless_told_or_left_to_ray():
    shipped = stages.load("demo")
    options = [plan._options(shipped, ray, jobs, "") for ray, jobs in (("", None), ("", 4), ("", 1), ("local", None))]
    assert options == [{"--jobs": "2"}, {"--jobs": "4"}, {}, {"--ray": "local"}]


def test_an_unknown_option_of_a_stage_is_never_handed_on():
    stage = stages.Stage(name="n", run="figures --preset quick")
    line = stage.line({"--jobs": "2", "--runs-dir": "x"})
    assert line == ["-m", "lib.figures", "--preset", "quick", "--runs-dir", "x"]
    with pytest.raises(ParameterError, match="takes --jobs"):
        stages.check(stages.Plan(title="t", stages=[stage]), {"--jobs": "2"})
