"""The suite that needs a real Ray: run where it is named, `pytest tests/ray_suite`, and where there is one."""

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # checkout.py, which the other tests use too

from clusters import Sweeps, make

GPUS = 4  # of each machine; nobody computes on them
# of a cluster for tests: it tells nobody of itself and starts no worker before there is work
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_enable_worker_prestart": "0", "RAY_prestart_worker_first_driver": "0"}

collect_ignore_glob = [] if importlib.util.find_spec("ray") else ["test_*.py"]


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The copy of the checkout that every sweep of this suite is started in."""
    return make(tmp_path_factory.mktemp("ray") / "repository")


class Machines:
    """A cluster whose machines are pretended, each with a folder for temporary files, and so a lock, of its own."""

    def __init__(self, root: Path) -> None:
        from ray.cluster_utils import Cluster

        self._root, self._folders = root, []
        self.cluster = Cluster(shutdown_at_exit=True)

    def add(self, gpus: int):
        """Another machine; returns Ray's handle of it."""
        self._folders.append(tempfile.mkdtemp(prefix="m", dir="/tmp"))  # sockets lie below, so the path is short
        seen = {"TMPDIR": self._folders[-1], "RECOUNT_LOCKS": self._folders[-1], "PYTHONPATH": str(self._root), **QUIET}
        return self.cluster.add_node(
            num_cpus=8, num_gpus=gpus, include_dashboard=False, include_log_monitor=False, env_vars=seen
        )

    def close(self) -> None:
        self.cluster.shutdown()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def machines(root: Path) -> Iterator[Machines]:
    """Two machines of four GPUs."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HF_TOKEN", "RAY_ADDRESS"):
            patch.delenv(name, raising=False)
        machines = Machines(root)
        for _ in range(2):
            machines.add(GPUS)
        yield machines
        machines.close()


@pytest.fixture
def sweeps(root: Path, machines: Machines, tmp_path: Path) -> Iterator[Sweeps]:
    """Sweeps on the two machines."""
    sweeps = Sweeps(root, machines.cluster.address, tmp_path)
    yield sweeps
    sweeps.close()
