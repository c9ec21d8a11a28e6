"""What cannot be had from Ray is said in one sentence, soon."""

import socket
import subprocess
import sys

import pytest
from clusters import Sweeps

from lib import presets
from lib.sweep import on_ray, planning

WITHOUT_RAY = "import sys; sys.modules['ray'] = None; from lib.sweep.__main__ import app; app()"
IMPATIENT = "from lib.sweep import on_ray; on_ray.JOINS = 1.0; from lib.sweep.__main__ import app; app()"


def changed(code: str, sweeps: Sweeps, *arguments: str) -> subprocess.CompletedProcess:
    """lib.sweep, with something changed before it starts."""
    return sweeps.run_command([sys.executable, "-c", code, *sweeps.command(*arguments)[3:]])


def test_an_address_where_nothing_listens_is_refused_at_once(sweeps):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # ours, and closed to visitors
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = sweeps.run("--preset", "five", "--ray", address)
    assert done.returncode == 2
    joining, error = done.stderr.splitlines()
    assert joining == f"Joining the Ray cluster at {address} ..."
    assert error.startswith(f"Error: No Ray cluster answers at {address} (")
    assert not sweeps.runs.exists()


@pytest.mark.parametrize("address", ["locl", "ray://head:10001", "head:port", "head"])
def test_what_is_no_address_is_told_what_one_is(address):
    with pytest.raises(on_ray.ParameterError, match=r"type local, auto, or HOST:PORT\.$"):
        on_ray._check_address(address)


def test_without_ray_a_sweep_on_ray_names_the_extra_and_any_other_runs(sweeps):
    sweeps.go()
    done = changed(WITHOUT_RAY, sweeps, "--preset", "halves", "--ray", "local")
    assert done.returncode == 2
    error = "Error: Ray is not installed; type pip install -e '.[ray]', or leave --ray out."
    assert done.stderr.splitlines()[-1] == error
    assert "Traceback" not in done.stderr
    done = changed(WITHOUT_RAY, sweeps, "--preset", "pair", "--only", "seed=1")
    assert done.returncode == 0, done.stderr
    assert set(sweeps.rows()) == {"1"}


def test_a_cell_too_large_for_this_machine_is_refused(sweeps):
    done = sweeps.run("--preset", "five", "--ray", "local", CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    starting, error = done.stderr.splitlines()
    assert starting == "Starting Ray on this machine ..."
    assert "101 needs 5 GPUs on one machine and the largest has 0; leave such cells out with --skip" in error


def test_a_cell_too_large_for_a_cluster_waits_for_a_machine_and_then_fails(sweeps):
    done = changed(IMPATIENT, sweeps, "--preset", "five", "--ray", sweeps.address)
    assert done.returncode == 1
    _, warning, failed, _ = done.stderr.splitlines()
    needs = "101 needs 5 GPUs on one machine and the largest has 4"
    assert warning == f"Warning: {needs}; such cells wait 1 s for one to join the cluster."
    reason = "It needs 5 GPUs on one machine, and none that has them joined the cluster in 1 s."
    assert f"failed. {reason}" in failed
    assert f"failed: {reason}" in sweeps.run("--preset", "five", "--status").stdout


def test_a_runs_folder_that_a_machine_does_not_see_is_named(tmp_path):
    (cell,) = presets.cells("1a3_scaling", "debug", only=["model=ladder-60k"])
    (task,) = planning.plan([cell], str(tmp_path / "elsewhere"))
    outcome = on_ray._work(task.job(None))
    assert outcome.state == "failed"
    assert outcome.reason.startswith(f"{tmp_path / 'elsewhere' / '1a3_scaling'} is not to be seen on ")
    assert not list(tmp_path.iterdir())
