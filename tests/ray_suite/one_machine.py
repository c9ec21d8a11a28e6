"""The command `ray` as it is on a machine of its own: it has one address, meets no other Ray, stops only its own.

Tests put it in the place of `ray`, so that `ray symmetric-run` can start several machines here: it tells them apart by
their addresses, and refuses where it finds a Ray that is not its own.
"""

import os
import socket
import sys
from types import SimpleNamespace

import psutil
from ray.scripts import scripts, symmetric_run

ADDRESS = os.environ["MACHINE"]
GRACE = 5.0  # seconds


def stop() -> None:
    """End Ray's servers that were started here, the one that others report to last."""
    for name in ("raylet", "gcs_server"):
        ours = [process for process in psutil.process_iter(["name"]) if process.name() == name and _is_ours(process)]
        for process in ours:
            process.terminate()
        for process in psutil.wait_procs(ours, timeout=GRACE)[1]:
            process.kill()


def _is_ours(process: psutil.Process) -> bool:
    try:
        return all(process.environ().get(name) == os.environ[name] for name in ("MACHINE", "RECOUNT_ROOM"))
    except psutil.Error:
        return False


if __name__ == "__main__":
    psutil.net_if_addrs = lambda: {"eth0": [SimpleNamespace(family=socket.AF_INET, address=ADDRESS)]}
    symmetric_run.check_ray_already_started = lambda: False
    stop() if sys.argv[1:] == ["stop"] else scripts.main()
