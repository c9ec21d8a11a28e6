"""Sweeps that are stopped, or that meet each other: nothing is lost, nothing runs on, nothing runs twice."""

import os
import shlex
import signal

import pytest
from clusters import is_alive, until

LEFT = "is being run by another sweep on"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_sweep_leaves_no_kernel_and_resumes_with_what_is_missing(sweeps, how):
    process = sweeps.start("pair")
    kernels = [note["kernel"] for note in sweeps.begun(2)]
    until(sweeps.rows, "the cell that does not wait completes")
    process.send_signal(how)
    said = sweeps.end(process)
    until(lambda: not any(map(is_alive, kernels)), "all kernels end")

    assert set(sweeps.rows()) == {"1"}
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert "Traceback" not in said
        assert shlex.join(process.args[1:]) in said.splitlines()[-1]

    sweeps.go()
    again = sweeps.start("pair")
    said = sweeps.end(again)
    assert again.returncode == 0, said
    assert "1 is done" in said
    assert "1 done, 1 stopped" in said
    assert set(sweeps.rows()) == {"1", "101"}
    assert len(sweeps.folders()) == 3


def test_two_sweeps_of_the_same_cells_run_nothing_twice(sweeps):
    processes = [sweeps.start("pair") for _ in range(2)]
    sweeps.begun(2)
    until(lambda: any(LEFT in sweeps.said(process) for process in processes), "one leaves a cell to the other")
    sweeps.go()
    said = [sweeps.end(process) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], said
    assert set(sweeps.rows()) == {"1", "101"}
    assert len(sweeps.notes()) == len(sweeps.folders()) == 2


def test_a_sweep_with_a_ray_of_its_own_stops_as_cleanly(sweeps):
    process = sweeps.start("pair", address="local")
    kernels = [note["kernel"] for note in sweeps.begun(2)]
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the sweep and to all that it started
    said = sweeps.end(process)
    assert process.returncode == 130
    assert "the same command resumes" in said
    assert "Traceback" not in said
    until(lambda: not any(map(is_alive, kernels)), "all kernels end")
    assert "101" not in sweeps.rows()
