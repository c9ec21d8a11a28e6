"""Cells as Ray tasks: on this machine's GPUs (`--ray local`) or on a cluster (`--ray ADDRESS`).

Ray knows which devices are free, hands each cell its own through CUDA_VISIBLE_DEVICES, and queues the rest; a task's
worker process is used once, so memory comes back. What a cell is, and when it is done, is the same as without Ray.
All machines must see the checkout, its environment and the runs folder under the same paths.
"""

import os
import socket
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib import runs
from lib.params import ParameterError
from lib.sweep.cell import Job, Outcome, print_into_log, run_cell
from lib.sweep.planning import Task

if TYPE_CHECKING:
    import ray


class RayTask:
    """A cell that Ray has taken: waiting for devices, or at work somewhere."""

    def __init__(self, task: Task, reference: "ray.ObjectRef") -> None:
        self.task, self.reference = task, reference

    def outcome(self) -> Outcome | None:
        """What became of the cell, or None while it waits or works."""
        import ray

        if not ray.wait([self.reference], timeout=0)[0]:
            return None
        try:
            return ray.get(self.reference)
        except ray.exceptions.RayError as error:  # the worker or its machine is gone
            return Outcome("died", reason=str(error).strip().splitlines()[0])

    def stop(self) -> None:
        """Take the cell back, or end its worker, with which its kernel ends."""
        import ray

        ray.cancel(self.reference, force=True)


class OnRay:
    """Every cell is handed over at once; Ray starts it where its devices and cores are free."""

    def __init__(self, address: str, tasks: Sequence[Task]) -> None:
        import ray

        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")  # a cell without GPUs sees none
        carried = {name: value for name, value in os.environ.items() if name.startswith("RECOUNT_")}
        options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
        ray.init(
            address=address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": carried}, **options
        )
        self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._remote = ray.remote(max_calls=1, max_retries=0)(_work)
        self._check(tasks, address)

    def _check(self, tasks: Sequence[Task], address: str) -> None:
        """A cell that fits no machine would wait for ever; on a cluster, a larger machine may still join."""
        most = max(node.get("GPU", 0) for node in self._nodes)
        if short := next((task for task in tasks if task.cell.gpus > most), None):
            needs = f"{short.cell.label} needs {short.cell.gpus:g} GPUs on one machine and the largest has {most:g}"
            if address == "local":
                self.close()
                raise ParameterError(
                    f"{needs}; leave such cells out with --skip, or name a cluster with --ray ADDRESS."
                )
            warnings.warn(f"{needs}; such cells wait until one joins the cluster.", stacklevel=1)

    def has_room(self, task: Task, running: Sequence[Task]) -> bool:
        """Always: Ray queues."""
        return True

    def start(self, task: Task, job: Job) -> RayTask:
        cores = min((node["CPU"] for node in self._nodes if node.get("GPU", 0) >= task.cell.gpus), default=1)
        wanted = cores if task.cell.exclusive else min(getattr(task.params, "threads", 1), cores)
        options = {"num_gpus": task.cell.gpus, "num_cpus": wanted, "name": task.cell.label}
        return RayTask(task, self._remote.options(**options).remote(job))

    def wait(self, running: Sequence[RayTask], seconds: float) -> None:
        """Return when one of the tasks has ended, or after `seconds`."""
        import ray

        ray.wait([handle.reference for handle in running], num_returns=1, timeout=seconds)

    def close(self) -> None:
        """Leave the cluster; the local one ends."""
        import ray

        ray.shutdown()


def _work(job: Job) -> Outcome:
    """The worker: run the cell, return the outcome."""
    folder = runs.experiment_folder(job.experiment, job.parameters["runs_dir"])
    if not folder.is_dir():
        reason = (
            f"{folder} is not to be seen on {socket.gethostname()}; name a folder that all machines see: --runs-dir."
        )
        return Outcome("failed", reason=reason)
    return run_cell(job, opened=print_into_log)
