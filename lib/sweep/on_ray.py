"""Cells as Ray tasks: on this machine's GPUs (`--ray local`) or on a cluster (`--ray ADDRESS`).

Ray knows which devices are free, hands each cell its own through CUDA_VISIBLE_DEVICES, and queues the rest; a task's
worker process is used once, so memory comes back. What a cell is, and when it is done, is the same as without Ray.
All machines must see the checkout, its environment and the runs folder under the same paths (docs/cluster.md).
"""

import os
import signal
import socket
import time
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lib import paths, runs
from lib.params import ParameterError
from lib.sweep.cell import Job, Outcome, print_into_log, run_cell
from lib.sweep.planning import Task, spell

if TYPE_CHECKING:
    import ray

NOT_INSTALLED = "Ray is not installed; type pip install -e '.[ray]', or leave --ray out."
GRACE = 10.0  # seconds that cells have to end when the sweep is stopped
ANSWERS = 5.0  # seconds in which a cluster's address must take a connection; Ray itself would try for two minutes
JOINS = 900.0  # seconds in which a large enough machine must join a cluster; clouds need about ten minutes for one


class RayTask:
    """A cell that Ray has taken: waiting for devices, or at work somewhere."""

    def __init__(self, task: Task, reference: "ray.ObjectRef") -> None:
        self.task, self.reference = task, reference
        self._ended = False
        self._short: float | None = None  # since when no machine has been large enough

    def look(self, ended: bool, most: float) -> None:
        """Take in whether Ray is done with the cell, and how many GPUs the largest machine has now."""
        self._ended = ended
        self._short = None if self.task.cell.gpus <= most else self._short or time.monotonic()

    def outcome(self) -> Outcome | None:
        """What became of the cell, or None while it waits or works."""
        if not self._ended:
            return self._unplaced()
        import ray

        try:
            return ray.get(self.reference)
        except ray.exceptions.RayTaskError as error:  # our own code could not be run there
            return Outcome("failed", reason=f"It could not be started on a machine: {_last_line(error)}")
        except ray.exceptions.RayError as error:  # the worker or its machine is gone
            return Outcome("died", reason=_first_line(error))

    def _unplaced(self) -> Outcome | None:
        """The failure of a cell for which no machine came, or came again; None while one may."""
        if self._short is None or time.monotonic() < self._short + JOINS:
            return None
        self.stop()
        needs = f"It needs {_gpus(self.task.cell.gpus)} on one machine"
        return Outcome("failed", reason=f"{needs}, and none that has them joined the cluster in {spell(JOINS)}.")

    def stop(self) -> None:
        """Take the cell back, or end its worker, with which its kernel ends."""
        import ray

        ray.cancel(self.reference, force=True)


class OnRay:
    """Every cell is handed over at once; Ray starts it where its devices and cores are free."""

    def __init__(self, address: str, tasks: Sequence[Task]) -> None:
        self._taken: list[RayTask] = []
        _connect(address)
        import ray

        self._remote = ray.remote(max_calls=1, max_retries=0)(_work)
        self._check(tasks, address)

    def _check(self, tasks: Sequence[Task], address: str) -> None:
        """A cell that fits no machine is refused here; on a cluster, a larger one may be started because it waits."""
        most = _most_gpus()
        if short := next((task for task in tasks if task.cell.gpus > most), None):
            needs = f"{short.cell.label} needs {_gpus(short.cell.gpus)} on one machine and the largest has {most:g}"
            if address == "local":
                self.close()
                raise ParameterError(
                    f"{needs}; leave such cells out with --skip, or name a cluster with --ray ADDRESS."
                )
            warnings.warn(f"{needs}; such cells wait {spell(JOINS)} for one to join the cluster.", stacklevel=1)

    def has_room(self, task: Task, running: Sequence[Task]) -> bool:
        """Always: Ray queues."""
        return True

    def start(self, task: Task, job: Job) -> RayTask:
        """Hand the cell to Ray with the GPUs and cores it needs; one that measures time asks for all the cores.

        All: of the smallest machine that it fits on. On a larger one Ray may place others beside it, and each side then
        waits for the other at the machine's lock, holding its GPUs meanwhile.
        """
        gpus = task.cell.gpus
        cores = min((int(node["CPU"]) for node in _machines() if node.get("GPU", 0) >= gpus), default=1)
        wanted = cores if task.cell.exclusive else min(getattr(task.params, "threads", 1), cores)
        reference = self._remote.options(num_gpus=gpus, num_cpus=wanted, name=task.cell.label).remote(job)
        self._taken.append(RayTask(task, reference))
        return self._taken[-1]

    def wait(self, running: Sequence[RayTask], seconds: float) -> None:
        """Return when one of the tasks has ended, or after `seconds`."""
        import ray

        references = [handle.reference for handle in running]
        ray.wait(references, num_returns=1, timeout=seconds)
        ended, most = set(ray.wait(references, num_returns=len(references), timeout=0)[0]), _most_gpus()
        for handle in running:
            handle.look(handle.reference in ended, most)

    def close(self) -> None:
        """Leave the cluster, once the workers of stopped cells have ended; the local one ends."""
        import ray

        references = [handle.reference for handle in self._taken]
        if references:
            ray.wait(references, num_returns=len(references), timeout=GRACE)
        ray.shutdown()


def _connect(address: str) -> None:
    """Join the cluster, or start one on this machine; ParameterError, one sentence, where that cannot be."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read when Ray is imported
    try:
        import ray
    except ModuleNotFoundError:
        raise ParameterError(NOT_INSTALLED) from None
    local = address == "local"
    if not local:
        _check_address(os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address)
    on_kill = signal.getsignal(signal.SIGTERM)
    places = {"RECOUNT_RUNS": paths.RUNS, "RECOUNT_FIGURES": paths.FIGURES, "RECOUNT_CACHE": paths.CACHE}  # absolute
    carried = {name: str(places.get(name, value)) for name, value in os.environ.items() if name.startswith("RECOUNT_")}
    carried.pop("RECOUNT_LOCKS", None)  # each machine has its own
    carried["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"  # a cell without GPUs sees none, however Ray was started
    options: dict[str, Any] = {"include_dashboard": False} if local else {}
    try:
        ray.init(address, log_to_driver=False, logging_level="ERROR", runtime_env={"env_vars": carried}, **options)
    except (OSError, RuntimeError, ValueError, SystemExit, ray.exceptions.RayError) as error:
        where = "Ray did not start on this machine" if local else f"No Ray cluster can be used at {address}"
        silent = isinstance(error, SystemExit)  # Ray's end of a process whose cluster does not answer
        reason = "it does not answer" if silent else _first_line(error).rstrip(".")
        raise ParameterError(f"{where} ({reason}); see docs/cluster.md.") from None
    finally:
        signal.signal(signal.SIGTERM, on_kill)  # Ray puts its own in its place


def check_form(address: str) -> None:
    """ParameterError unless it is local, auto or host:port; asks nobody."""
    host, colon, port = address.rpartition(":")
    if address not in ("local", "auto") and not (colon and host and port.isdecimal() and "/" not in host):
        raise ParameterError(f"{address!r} is no address of a Ray cluster; type local, auto, or HOST:PORT.")


def _check_address(address: str) -> None:
    """ParameterError unless something listens at host:port; how Ray finds a cluster by itself (`auto`) is its own."""
    check_form(address)
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS).close()
    except (OSError, OverflowError) as error:
        raise ParameterError(
            f"No Ray cluster answers at {address} ({error}); start one with 'ray start --head', or type --ray local."
        ) from None


def _machines() -> list[dict[str, float]]:
    """What each machine has that runs cells: `CPU`, and `GPU` where it has any."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]


def _most_gpus() -> float:
    """How many GPUs the largest machine has."""
    return max((node.get("GPU", 0) for node in _machines()), default=0)


def _gpus(number: float) -> str:
    return f"{number:g} GPU" + ("s" if number > 1 else "")


def _work(job: Job) -> Outcome:
    """The worker: run the cell, return the outcome."""
    folder = runs.experiment_folder(job.experiment, job.parameters["runs_dir"])
    if not folder.is_dir():
        reason = (
            f"{folder} is not to be seen on {socket.gethostname()}; name a folder that all machines see: --runs-dir."
        )
        return Outcome("failed", reason=reason)
    return run_cell(job, opened=print_into_log)


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _last_line(error: BaseException) -> str:
    return next(reversed(str(error).strip().splitlines()), type(error).__name__)
