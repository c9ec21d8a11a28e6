"""A Ray cluster on one machine, a copy of the checkout that its workers use, and sweeps of it as real processes.

What a cell does is steered by its seed and by files in a folder of its test, the room: every cell leaves a note there
of what it sees, and those with a seed from 100 on wait until the test puts a file `go` there.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import checkout
import nbformat
import psutil

PATIENCE = 240.0  # seconds until a test gives up; far more than anything takes, even on a busy machine
SWEEP = [sys.executable, "-m", "lib.sweep", "1a3_scaling"]
Found = TypeVar("Found")

WORK = """\
import json, os, time
from pathlib import Path

room, config = Path(os.environ["RECOUNT_ROOM"]), run.params
note = {"label": config.label, "kernel": os.getpid(), "worker": os.getppid(), "folder": str(run.dir),
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"), "machine": os.environ.get("TMPDIR"),
        "secret": os.environ.get("HF_TOKEN"), "from": time.time()}
(room / f"{os.getpid()}.new").write_text(json.dumps(note))
(room / f"{os.getpid()}.new").rename(room / f"{os.getpid()}.json")
if config.seed == 13:
    raise ZeroDivisionError("unlucky")
while config.seed >= 100 and not (room / "go").exists():
    time.sleep(0.02)
run.measure(**note, to=time.time())"""

# `top_k` is a whole number that the notebook has no use for, so it says how many GPUs a cell gets.
PRESETS = """
base: {arms: [naive, eab]}
presets:
  mixed:
    gpus: top_k
    label: "{seed}-on-{top_k}"
    grid: {seed: [101, 102, 13], top_k: [0, 1, 2, 4]}
    exclude: [{seed: 102, top_k: 0}, {seed: 102, top_k: 2}, {seed: 102, top_k: 4},
              {seed: 13, top_k: 1}, {seed: 13, top_k: 2}, {seed: 13, top_k: 4}]
  halves: {gpus: 0.5, label: "{seed}", grid: {seed: [101, 102]}}
  fours: {gpus: 4, label: "{seed}", grid: {seed: [101, 102]}}
  five: {gpus: 5, label: "{seed}", grid: {seed: [101]}}
  pair: {label: "{seed}", grid: {seed: [1, 101]}}
  timed: {exclusive: true, label: "{seed}", grid: {seed: [101, 102, 103]}}
"""


def make(root: Path) -> Path:
    """A copy of the checkout with a notebook and presets for these tests; returns `root`."""
    checkout.make(root)
    path = root / "notebooks" / "1a3_scaling.ipynb"
    notebook = nbformat.read(path, as_version=4)
    notebook.cells[2].source = WORK
    nbformat.write(notebook, path)
    (root / "params" / "1a3_scaling.yaml").write_text(PRESETS)
    return root


def until(found: Callable[[], Found], what: str) -> Found:
    """Wait for `found` to return something true, and return that."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")


def is_alive(pid: int) -> bool:
    """Whether a process is there and not merely waiting to be buried."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill(pid: int) -> None:
    """End a process without giving it a word."""
    os.kill(pid, signal.SIGKILL)


class Sweeps:
    """The sweeps of one test, with a runs folder and a room of their own, and further environment variables."""

    def __init__(self, root: Path, address: str, folder: Path, **variables: str) -> None:
        self.root, self.address, self.folder, self._variables = root, address, folder, variables
        self.room, self.runs = folder / "room", folder / "runs"
        self.room.mkdir()
        self._logs: dict[subprocess.Popen, Path] = {}

    def start(self, preset: str, *arguments: str, address: str = "") -> subprocess.Popen:
        """Start a sweep on the cluster."""
        return self.launch(self.command("--preset", preset, "--ray", address or self.address, *arguments))

    def command(self, *arguments: str) -> list[str]:
        return [*SWEEP, "--runs-dir", str(self.runs), *arguments]

    def launch(self, command: list[str]) -> subprocess.Popen:
        """Start a command in the checkout, in a process group of its own."""
        log = self.folder / f"said-{len(self._logs)}.txt"
        with log.open("w") as said:
            process = subprocess.Popen(
                command,
                cwd=self.root,
                env=self.environment(),
                stdout=said,
                stderr=said,
                start_new_session=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
            )
        self._logs[process] = log
        return process

    def said(self, process: subprocess.Popen) -> str:
        """What a process has printed so far."""
        return self._logs[process].read_text()

    def end(self, process: subprocess.Popen) -> str:
        """Wait for a process to end; returns what it said."""
        process.wait(PATIENCE)
        return self.said(process)

    def run(self, *arguments: str, **extra: str) -> subprocess.CompletedProcess:
        """Run a command line of lib.sweep to its end."""
        return self.run_command(self.command(*arguments), **extra)

    def run_command(self, command: list[str], **extra: str) -> subprocess.CompletedProcess:
        """Run a command in the checkout to its end."""
        environment = {**self.environment(), **extra}
        return subprocess.run(
            command, cwd=self.root, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE
        )

    def environment(self) -> dict[str, str]:
        return checkout.environment(self.root, RECOUNT_ROOM=str(self.room), HF_TOKEN="hf_secret", **self._variables)

    def go(self) -> None:
        """Let the cells that wait go on."""
        (self.room / "go").touch()

    def notes(self) -> list[dict[str, Any]]:
        """What each cell that has begun saw, in the order in which they began."""
        return sorted((json.loads(path.read_text()) for path in self.room.glob("*.json")), key=lambda n: n["from"])

    def begun(self, number: int) -> list[dict[str, Any]]:
        """Wait until so many cells have begun; returns their notes."""
        return until(lambda: notes if len(notes := self.notes()) >= number else None, f"{number} cells begin")

    def rows(self) -> dict[str, dict[str, Any]]:
        """What each complete run measured, by its label."""
        found = {}
        for path in self.runs.glob("1a3_scaling/*/metrics.json"):
            label = json.loads(path.read_text())["config"]["label"]
            assert label not in found, f"{label} was run twice"
            found[label] = json.loads((path.parent / "measurements.jsonl").read_text())
        return found

    def folders(self) -> list[Path]:
        return [path for path in (self.runs / "1a3_scaling").glob("[!.]*") if path.is_dir()]

    def close(self) -> None:
        """End what a failed test has left."""
        for process in self._logs:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
