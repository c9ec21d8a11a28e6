"""Whatever is killed, full, forbidden or damaged: complete runs count once, others never, the next sweep does the rest.

Real sweeps with real kernels in a copy of the checkout; what befalls a cell is told by its seed, through `FAULTS`.
"""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import checkout
import psutil
import pytest

from lib import runs

SWEEP = [sys.executable, "-m", "lib.sweep", "1a3_scaling"]
PATIENCE = 120.0  # seconds; a test machine may be busy

PRESETS = """
base: {arms: [naive, eab], model: ladder-60k}
presets:
  cells: {grid: {seed: [1, 2, 3, 4, 5, 6, 7, 8]}, label: "s{seed}"}
  timed: {grid: {seed: [1, 2, 3]}, label: "s{seed}", exclusive: true}
"""

# A fault befalls the first attempt at a cell; with "again", every one.
WORK = """\
import json, os, resource, signal, threading, time

def kill(process):
    os.kill(process, signal.SIGKILL)
    threading.Event().wait()

def fill():
    with open(run.dir.parent / "ballast", "ab", buffering=0) as file:
        for size in (2**16, 2**10, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass

first = len(list(run.dir.parent.glob(f"s{run.params.seed}_*"))) == 1
fault, _, again = json.loads(os.environ.get("FAULTS", "{}")).get(str(run.params.seed), "").partition(" ")
fault = fault if first or again else ""
replace, fsync = os.replace, os.fsync
run.measure(value=1, at=time.monotonic() - time.process_time())  # about when this kernel was started, not before
if fault == "kernel":
    kill(os.getpid())
if fault == "process":
    kill(os.getppid())
if fault == "half-a-line":
    os.write(run._files["measurements.jsonl"].fileno(), b'{"value": 0.')
    kill(os.getpid())
if fault == "before-the-end":
    os.replace = lambda source, target: kill(os.getpid())
if fault == "after-the-end":
    os.replace = lambda source, target: (replace(source, target), kill(os.getpid()))
if fault == "full":
    fill()
if fault == "full-at-the-end":
    os.fsync = lambda file: (fsync(file), fill())
if fault == "full-after-the-end":
    os.replace = lambda source, target: (replace(source, target), fill())
if fault == "limit":
    resource.setrlimit(resource.RLIMIT_FSIZE, (30, 30))
if fault == "waits":
    print("waits", flush=True)
    threading.Event().wait()
connection = json.load(open(get_ipython().kernel.parent.abs_connection_file))
run.measure(value=2, at=time.monotonic(), transport=connection["transport"])"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout.make(tmp_path / "repository", WORK, PRESETS)


def seeds(*wanted: int) -> list[str]:
    """Options that choose cells by their seeds."""
    return [part for seed in wanted for part in ("--only", f"seed={seed}")]


def start(
    root: Path, *options: str, faults: dict[int, str] | None = None, within: tuple[str, ...] = (), **extra: str
) -> subprocess.Popen:
    """A sweep under way; `within` is a command that starts it."""
    options = options if "--preset" in options else ("--preset", "cells", *options)
    return subprocess.Popen(
        [*within, *SWEEP, *options],
        cwd=root,
        env=checkout.environment(root, FAULTS=json.dumps(faults or {}), **extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # tests in the background ignore it
    )


def sweep(root: Path, *options: str, **given) -> tuple[int, str]:
    """A sweep to its end: exit code, and what it said."""
    process = start(root, *options, **given)
    said = process.communicate(timeout=PATIENCE)[0]
    return process.returncode, said


def until(true: Callable[[], bool], what: str) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def processes(root: Path) -> list[psutil.Process]:
    """What the copy's sweeps have started and still runs."""
    mine = []
    for process in psutil.process_iter():
        try:
            if (
                process.environ().get("PYTHONPATH", "").startswith(f"{root}{os.pathsep}")
                and process.status() != psutil.STATUS_ZOMBIE
            ):
                mine.append(process)
        except psutil.Error:  # gone meanwhile, or not ours to look at
            continue
    return mine


def complete(root: Path) -> Counter[int]:
    """How many complete runs lie in the copy for each seed, by what lies there and nothing else."""
    found = (json.loads(path.read_text()) for path in root.glob("runs/1a3_scaling/*/metrics.json"))
    return Counter(metrics["config"]["seed"] for metrics in found)


def check(root: Path, *wanted: int) -> None:
    """Exactly these seeds are complete, once each; loading gives exactly their rows; no process is left."""
    assert complete(root) == Counter(wanted)
    frame = runs.load("1a3_scaling", root / "runs")
    rows = sorted(zip(frame["seed"], frame["value"], strict=True)) if len(frame) else []
    assert rows == [(seed, value) for seed in sorted(wanted) for value in (1, 2)]
    until(lambda: not processes(root), "a process outlives its sweep")


def line(said: str, beginning: str) -> str:
    """The one line that begins so."""
    (found,) = [line for line in said.splitlines() if line.startswith(beginning)]
    return found


def test_what_is_killed_is_tried_once_more(root):
    faults = {1: "kernel", 2: "process", 3: "half-a-line", 4: "before-the-end", 5: "after-the-end"}
    faults |= {6: "kernel again", 7: "process again", 8: "limit"}
    code, said = sweep(root, "--jobs", "2", faults=faults)
    assert code == 1
    for seed in (1, 2, 3, 4, 6, 7):
        assert "is tried once more. The run's" in line(said, f"s{seed} died after")
    assert complete(root) == Counter([1, 2, 3, 4, 5])
    assert "(afterwards: The run's kernel died" in next(row for row in said.splitlines() if ": s5 after" in row)
    last = {seed: max(root.glob(f"runs/1a3_scaling/s{seed}_*"), key=os.path.getmtime) for seed in (6, 7, 8)}
    places = {seed: f"; see {last[seed] / 'log.txt'} and {last[seed] / 'executed.ipynb'}" for seed in (6, 7)}
    assert line(said, "s6 failed: ").endswith(f"kernel died, perhaps out of memory{places[6]}")
    assert "was killed by signal 9" in line(said, "s7 failed: ")
    assert line(said, "s7 failed: ").endswith(places[7])
    assert f"Results cannot be stored in {last[8]} (File too large)" in line(said, "s8 failed: ")
    assert "3 of 8 runs failed. The same command tries them again: " in said
    assert len(checkout.folders(root)) == 8 + 6  # nothing is run into a folder that was used

    code, said = sweep(root, "--jobs", "2")
    assert code == 0, said
    assert line(said, "s6 is failed: ")
    assert line(said, "s7 is failed: The run's process was killed")
    assert "5 done, 3 failed" in said
    check(root, *range(1, 9))
    assert os.listdir(checkout.environment(root)["TMPDIR"]) == [f"recount-{os.getuid()}.lock"]


def test_a_sweep_that_is_killed_resumes_at_once(root):
    killed = start(root, "--jobs", "2", *seeds(1, 2, 3), faults={1: "waits", 2: "waits"})
    logs = root.glob
    until(lambda: sum("waits" in path.read_text() for path in logs("runs/*/s*/log.txt")) == 2, "no kernel started")
    shown = sweep(root, "--status", *seeds(1, 2, 3))[1]
    assert "running: " in line(shown, "s1 ")
    assert line(shown, "s3 ").endswith("to run")
    assert "2 running, 1 to run" in shown
    killed.kill()
    killed.communicate(timeout=PATIENCE)  # ends when nothing that it started is left
    code, said = sweep(root, "--jobs", "2", *seeds(1, 2, 3))  # while what it started may still be ending
    assert code == 0, said
    assert "s1 is running: " in said or "s1 is stopped: s1_" in said
    check(root, 1, 2, 3)


def test_two_sweeps_of_one_grid_run_each_cell_once_and_what_measures_time_alone(root):
    both = [start(root, "--preset", "timed") for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    check(root, 1, 2, 3)
    assert len(checkout.folders(root)) == 3
    assert sum("is being run by another sweep on" in text or "(made meanwhile)" in text for text in said) >= 1
    for text in said:  # each knows what became of every cell
        assert all(re.search(rf"\bs{seed} (after .* complete|complete|is done): ", text) for seed in (1, 2, 3)), said
    at = runs.load("1a3_scaling", root / "runs").groupby("seed")["at"]
    spans = sorted(zip(at.min(), at.max(), strict=True))
    assert all(ended < began for (_, ended), (began, _) in itertools.pairwise(spans))


def test_damaged_runs_are_named_and_run_again(root):
    assert sweep(root, *seeds(1, 2, 3, 4), "--jobs", "2")[0] == 0
    folders = {int(folder.name[1]): folder for folder in checkout.folders(root)}
    half = (folders[1] / "measurements.jsonl").read_bytes()
    (folders[1] / "measurements.jsonl").write_bytes(half[: len(half) * 3 // 4])
    (folders[2] / "config.yaml").unlink()
    metrics = folders[3] / "metrics.json"
    metrics.write_text(metrics.read_text().replace('"schema": 1', '"schema": 99'))
    code, said = sweep(root, *seeds(1, 2, 3, 4), "--jobs", "2")
    assert code == 0, said
    reasons = {1: "measurements.jsonl is not the file of", 2: "config.yaml is missing", 3: "newer version of Recount"}
    for seed, reason in reasons.items():
        assert reason in line(said, f"Warning: Run folder {folders[seed]} is left out because")
    assert line(said, "s4 is done: ")
    for folder in (folders[1], folders[2], folders[3]):
        shutil.rmtree(folder)  # as it was told to do
    check(root, 1, 2, 3, 4)


def test_kernels_are_reached_through_sockets_or_where_paths_are_long_through_ports(root, tmp_path):
    long = tmp_path / ("x" * 120)
    long.mkdir()
    assert sweep(root, *seeds(1))[0] == 0
    code, said = sweep(root, *seeds(2), TMPDIR=str(long))
    assert code == 0, said
    check(root, 1, 2)
    frame = runs.load("1a3_scaling", root / "runs").dropna(subset="transport")
    assert dict(zip(frame["seed"], frame["transport"], strict=True)) == {1: "ipc", 2: "tcp"}
    assert list(long.iterdir()) == []  # sockets, and folders for them, go with the run


CLOCK = """
import datetime, os

class datetime_(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls.fromtimestamp(float(os.environ["CLOCK"]), tz)

if "CLOCK" in os.environ:
    datetime.datetime = datetime_
"""


def test_a_clock_set_back_overwrites_nothing(root):
    (root / "sitecustomize.py").write_text(CLOCK)
    for clock in ("1800000000", "1800000000", "1700000000"):  # the same second again, and years before
        code, said = sweep(root, *seeds(1), "--rerun", "all", CLOCK=clock)
        assert code == 0, said
    names = sorted(folder.name for folder in checkout.folders(root))
    assert len(names) == 3
    assert names[2] == f"{names[1]}-1"
    assert complete(root) == {1: 3}
    assert len(runs.load("1a3_scaling", root / "runs")) == 2  # one run's rows


@pytest.fixture
def namespace() -> Iterator[tuple[str, ...]]:
    """The command that runs another where mounts are private; it takes root, or a system that lends its namespaces."""
    options = ("-m",) if os.getuid() == 0 else ("-rm",)
    try:
        keeper = subprocess.Popen(["unshare", *options, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        keeper.stdin.write(b"ready\n")
        keeper.stdin.flush()
        ready = keeper.stdout.readline()
    except OSError:
        ready = b""
    if ready != b"ready\n":
        pytest.skip("no private mounts here")
    enter = (
        "nsenter",
        "-t",
        str(keeper.pid),
        *(("-m",) if os.getuid() == 0 else ("-m", "-U", "--preserve-credentials")),
    )
    try:
        yield enter
    finally:
        keeper.communicate()


def inside(namespace: tuple[str, ...], command: str) -> str:
    return subprocess.run([*namespace, "sh", "-euc", command], check=True, capture_output=True, text=True).stdout


def test_a_full_disk_stops_the_sweep_and_completes_nothing(root, namespace):
    folder = root / "runs" / "1a3_scaling"
    folder.mkdir(parents=True)
    ballast = folder / "ballast"
    inside(namespace, f"mount -t tmpfs -o size=1m none {folder}; cat /dev/zero > {ballast} || true")
    wanted = seeds(1, 2)
    code, said = sweep(root, *wanted, within=namespace)
    assert code == 1
    assert "No space left on device" in line(said, "1 of 2: s1 after")
    assert "1 of 2 runs failed. 1 were not begun." in said
    for faults, reason in [
        ({1: "full again"}, "No space left on device"),
        ({1: "full-at-the-end again"}, "No space left on device"),
    ]:
        inside(namespace, f"rm {ballast}")
        code, said = sweep(root, *wanted, within=namespace, faults=faults)
        assert code == 1
        assert reason in line(said, "s1 failed: ")
        assert "metrics.json" not in inside(namespace, f"find {folder}").replace("metrics.json.tmp", "")
    inside(namespace, f"rm {ballast}")
    code, said = sweep(root, *seeds(1), within=namespace, faults={1: "full-after-the-end again"})
    assert code == 0, said  # its results are whole; only executed.ipynb is not
    assert "complete: " in line(said, "1 of 1: s1 after")
    inside(namespace, f"rm {ballast}")
    code, said = sweep(root, *wanted, within=namespace)
    assert code == 0, said
    assert line(said, "s1 is done: ")
    inside(namespace, f"cp -r {folder} {root}/copy; umount {folder}")
    shutil.copytree(root / "copy", folder, dirs_exist_ok=True)
    check(root, 1, 2)


def test_a_folder_that_cannot_be_written_is_one_sentence(root, namespace):
    folder = root / "runs" / "1a3_scaling"
    assert sweep(root, *seeds(1))[0] == 0
    inside(namespace, f"mount --bind {folder} {folder}; mount -o remount,bind,ro {folder}")
    code, said = sweep(root, *seeds(1, 2), within=namespace)
    assert code == 1
    assert line(said, "s1 is done: ")
    assert "Read-only file system" in line(said, "1 of 1: s2 after")
    assert "Traceback" not in said
    code, said = sweep(root, "--status", *seeds(1, 2), within=namespace)
    assert (code, line(said, "s2 ").split()[-2:]) == (0, ["to", "run"])
    code, said = sweep(root, *seeds(2), "--runs-dir", "/proc/nowhere")
    assert code == 2
    assert said.count("\n") == 1
    assert said.startswith("Error: ")
    assert sweep(root, *seeds(1, 2))[0] == 0
    check(root, 1, 2)
