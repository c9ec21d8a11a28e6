"""A kernel forked from a process that has its packages already: it is what a new process would be, and dies as one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import checkout
import psutil
import pytest

from lib import forked_kernel

pytestmark = pytest.mark.skipif(not forked_kernel.POSSIBLE, reason="kernels are forked on Linux only")

PATIENCE = 120.0  # seconds; a test machine may be busy

WORK = """\
import multiprocessing, os, signal, sys
import matplotlib

print("by Python")
os.write(1, b"below Python\\n")
run.measure(
    pid=os.getpid(), parent=os.getppid(), session=os.getsid(0), folder=os.getcwd(), marker=os.environ["MARKER"],
    start=multiprocessing.get_start_method(allow_none=True), backend=matplotlib.get_backend(),
    interrupt=str(signal.getsignal(signal.SIGINT)), sweep="lib.sweep.processes" in sys.modules,
    early="early_module" in sys.modules,
)
"""

# A cell's process as lib.sweep.processes has it: the kernel-to-be is forked first, and the environment changes after.
CELL = """\
import os, sys, types
from lib import forked_kernel, notebooks, runs, paths
from lib.params import resolve

sys.modules["early_module"] = types.ModuleType("early_module")  # stands for a package that the server imported
import lib.sweep.processes
if "ordinary" not in sys.argv:
    forked_kernel.prepare()
if "killed" in sys.argv:
    os.kill(forked_kernel._waiting._process.pid, 9)
    forked_kernel._waiting._process.wait()
os.environ["MARKER"] = "set after the fork \\udcff"
threads = 2 if "threads" in sys.argv else 1
params = resolve("1a3_scaling", {"model": "ladder-60k", "arms": ["naive", "eab"], "threads": threads})
folder = runs.prepare("1a3_scaling", params)
with open(folder / "log.txt", "a") as log:
    os.dup2(log.fileno(), 1)
notebook = paths.NOTEBOOKS / "1a3_scaling.ipynb"
notebooks.execute(notebook, params, params.model_dump(mode="json"), folder, progress_bar=False)
print(os.getpid(), folder, file=sys.stderr)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return checkout.make(tmp_path_factory.mktemp("forked"), work=WORK)


def cell(root: Path, *how: str) -> tuple[dict, str, int]:
    """What the notebook saw in a cell's process of this kind, its log, and the process's id."""
    done = checkout.run([sys.executable, "-c", CELL, *how], root)
    assert done.returncode == 0, done.stderr
    pid, folder = done.stderr.split()[-2:]
    seen = json.loads((Path(folder) / "measurements.jsonl").read_text())
    return seen, (Path(folder) / "log.txt").read_text(), int(pid)


def test_a_forked_kernel_is_what_a_new_process_would_be(root):
    forked, log, parent = cell(root)
    ordinary, _, its_parent = cell(root, "ordinary")
    assert (forked["parent"], ordinary["parent"]) == (parent, its_parent)
    assert (forked["early"], ordinary["early"]) == (True, False)  # it has the packages of its parent ...
    same = ("folder", "marker", "start", "sweep", "backend", "interrupt")
    assert {k: forked[k] for k in same} == {k: ordinary[k] for k in same}  # ... and all else of its own
    assert forked["marker"].startswith("set after the fork")
    assert forked["session"] == forked["pid"]
    assert "by Python" in log
    assert "below Python" in log


@pytest.mark.parametrize("how", ["killed", "threads"])
def test_where_nothing_can_be_forked_the_kernel_is_an_ordinary_process(root, how):
    seen, _, parent = cell(root, how)
    assert not seen["early"]
    assert seen["parent"] == parent


HOLDER = """\
import sys, time
from lib import forked_kernel
forked_kernel.prepare()
print(forked_kernel._waiting._process.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("end", ["killed", "leaves"])
def test_a_process_that_waits_ends_with_its_parent(root, end):
    asked = {"cwd": root, "env": checkout.environment(root), "text": True}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, **asked)
    waiting = psutil.Process(int(holder.stdout.readline()))
    if end == "killed":
        holder.send_signal(signal.SIGKILL)
    holder.communicate()
    gone, alive = psutil.wait_procs([waiting], timeout=PATIENCE)
    assert gone
    assert not alive


def test_a_process_tells_how_it_ended():
    pid = os.fork()
    if not pid:
        time.sleep(PATIENCE)
        os._exit(0)
    process = forked_kernel.Process(pid)
    assert process.poll() is None
    process.terminate()
    assert process.wait() == -signal.SIGTERM
    process.kill()  # of one that is gone: nothing
    assert process.poll() == -signal.SIGTERM
