"""The SLURM template: its options are SLURM's, its shell is sound, and its Ray part runs a sweep on two machines."""

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from clusters import Sweeps, is_alive, until

from lib import paths

TEMPLATE = paths.ROOT / "docs" / "slurm.sbatch"
# of sbatch (SLURM 24.11) what a template may use; any other is taken for misspelt
OPTIONS = {
    *("account", "array", "cpus-per-gpu", "cpus-per-task", "constraint", "error", "exclude", "exclusive", "export"),
    *("gpus", "gpus-per-node", "gpus-per-task", "gres", "job-name", "mail-type", "mail-user", "mem", "mem-per-gpu"),
    *("nodelist", "nodes", "ntasks", "ntasks-per-node", "open-mode", "output", "partition", "qos", "requeue"),
    *("signal", "time"),
}
MACHINES = "127.0.0.2", "127.0.0.3"

STUBS = {
    "scontrol": f"""
case "$1" in
  show) printf '%s\\n' {" ".join(MACHINES)} ;;
  requeue) echo "$2" > "$RECOUNT_ROOM/requeued" ;;
esac
""",
    # one task on each machine, as with --ntasks-per-node=1
    "srun": f"""
while [[ $1 == --* ]]; do shift; done
for machine in {" ".join(MACHINES)}; do MACHINE=$machine "$@" & done
wait
""",
    "ray": f'exec {sys.executable} {Path(__file__).parent / "one_machine.py"} "$@"',
    "python": f'exec {sys.executable} "$@"',
}


VARIABLES = {
    "SLURM_JOB_ID": str(os.getpid()),  # its port follows from it
    "SLURM_JOB_NODELIST": "machine[2-3]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_CPUS_PER_TASK": "2",
    "SLURM_GPUS_ON_NODE": "4",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "10",  # until the second machine sees that the first has ended
}


def test_the_shell_is_sound():
    subprocess.run(["bash", "-n", TEMPLATE], check=True)


def test_the_shell_is_clean():
    found = shutil.which("shellcheck", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip("shellcheck is not here; type pip install -e '.[dev]'")
    subprocess.run([found, TEMPLATE], check=True)


def test_the_options_are_ones_that_sbatch_has():
    lines = TEMPLATE.read_text().splitlines()
    wanted = [line for line in lines if line.startswith("#SBATCH")]
    used = [re.fullmatch(r"#SBATCH --([a-z-]+)(=\S+)?(\s+#.*)?", line) for line in wanted]
    assert all(used), wanted
    assert {match[1] for match in used} <= OPTIONS
    first_command = next(n for n, line in enumerate(lines) if line and not line.startswith("#"))
    assert max(n for n, line in enumerate(lines) if line.startswith("#SBATCH")) < first_command  # SLURM stops there


@pytest.fixture
def job(root, tmp_path):
    """A job in the checkout: an environment to activate, SLURM's commands and variables."""
    commands, activate = tmp_path / "bin", root / ".venv" / "bin" / "activate"
    commands.mkdir()
    for name, body in STUBS.items():
        (commands / name).write_text(f"#!/bin/bash\n{body}\n")
        (commands / name).chmod(stat.S_IRWXU)
    activate.parent.mkdir(parents=True, exist_ok=True)
    activate.write_text(f"PATH={commands}:$PATH\n")
    sweeps = Sweeps(root, "", tmp_path, **VARIABLES, SLURM_SUBMIT_DIR=str(root))
    yield sweeps
    sweeps.close()
    for process in on_machines(sweeps):  # what a failed test has left
        process.kill()


def on_machines(job: Sweeps) -> list[psutil.Process]:
    """All that runs on the pretended machines of a job."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            variables = process.environ()
            if variables.get("MACHINE") in MACHINES and variables["RECOUNT_ROOM"] == str(job.room):
                found.append(process)
    return found


def test_the_template_runs_a_sweep_on_two_machines_and_goes_on_after_a_preemption(job):
    submit = ["bash", str(TEMPLATE), "1a3_scaling", "--preset", "fours", "--runs-dir", str(job.runs)]
    preempted = job.launch(submit)
    assert [note["devices"] for note in job.begun(2)] == ["0,1,2,3"] * 2  # at once, so there are two machines
    processes = on_machines(job)
    for process in processes:  # SLURM tells every process of a step
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    job.end(preempted)
    until(lambda: not any(is_alive(process.pid) for process in processes), "all that the job had started ends")
    assert job.rows() == {}

    job.go()
    again = job.launch(submit)
    said = job.end(again)
    assert again.returncode == 0, said
    assert set(job.rows()) == {"101", "102"}


def asked_of_the_machines(job: Sweeps, *arguments: str) -> tuple[int, str, list[str]]:
    """The exit code of a job whose step only notes what it is given, what it says, and those words."""
    (job.folder / "bin" / "srun").write_text(f"#!/bin/bash\nprintf '%s\\n' \"$@\" > {job.room}/step\n")
    process = job.launch(["bash", str(TEMPLATE), *arguments])
    said, step = job.end(process), job.room / "step"
    words = step.read_text().splitlines() if step.exists() else []
    return process.returncode, said, words[words.index("python") :] if words else []


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["2a_specdec", "--set", "label=two words"], "lib.sweep"),
        (["plan", "bridge"], "lib.plan"),
        (["2a_specdec", "--rerun", "stale"], "lib.sweep"),
        (["2a_specdec", "--rerun", "all", "--since", "2026-01-31T09:00"], "lib.sweep"),
    ],
)
def test_a_job_is_a_sweep_or_a_plan(job, arguments, module):
    code, _, words = asked_of_the_machines(job, *arguments)
    assert (code, words[:3]) == (0, ["python", "-m", module])
    assert words[3:-1] == [*arguments[module == "lib.plan" :], "--ray"]
    assert words[-1].startswith(f"{MACHINES[0]}:")


@pytest.mark.parametrize("rerun", [["--rerun", "all"], ["--rerun=all"]])
def test_what_would_begin_anew_whenever_it_is_queued_again_is_refused(job, rerun):
    code, said, words = asked_of_the_machines(job, "2a_specdec", *rerun)
    assert (code, said.count("\n"), words) == (2, 1, [])
    assert "add --since" in said


def test_a_job_whose_time_is_up_is_queued_again(job):
    (job.folder / "bin" / "srun").write_text(f"#!/bin/bash\ntouch {job.room}/started\nexec tail -f /dev/null\n")
    process = job.launch(["bash", str(TEMPLATE), "1a3_scaling"])
    until((job.room / "started").exists, "the job's step starts")
    process.send_signal(signal.SIGUSR1)
    job.end(process)
    os.killpg(process.pid, signal.SIGKILL)  # as SLURM does with the step
    assert (job.room / "requeued").read_text() == f"{os.getpid()}\n"
