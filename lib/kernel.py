"""The kernel a notebook runs in: this interpreter's own, reached in a way that no other kernel can disturb.

Kernels that start together race for TCP ports (papermill issue 511), so where there are Unix sockets they are used.
They lie in a folder made for this one kernel: left alone, jupyter_client would put them in the current folder, under
numbers that two kernels starting together would again both choose.
"""

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from traitlets import default
from traitlets.config import Config

from lib import forked_kernel

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

PREFIX, IN_USE = "recount-", "in-use"
SOCKET_PATH_LIMIT = 100  # bytes; the system's own limit is 104 on macOS and 108 on Linux
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class OwnKernelManager(AsyncKernelManager):
    """Looks into no folder of kernels, where a user's `python3` may be another interpreter: what is left is ours."""

    @default("kernel_spec_manager")
    def _no_registered_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])

    async def start_kernel(self, **options: Any) -> None:
        """Start the kernel so that it ends when this process does, however that ends."""
        tied = {"preexec_fn": partial(end_with_parent, os.getpid())} if LIBC else {}
        await super().start_kernel(**options, **tied)

    async def _async_launch_kernel(self, kernel_cmd: list[str], **options: Any) -> None:
        """Launch the kernel: the process that waits to become one (`lib.forked_kernel`), else a new process."""
        waiting = forked_kernel.take() if options["env"].get("OMP_NUM_THREADS") == "1" else None
        try:
            told = options["env"] | {"JPY_PARENT_PID": str(os.getpid())}
            process = waiting and waiting.become(kernel_cmd, told, options.get("cwd") or os.getcwd())
        except OSError:  # it was killed meanwhile
            process = None
        if process is None:
            await super()._async_launch_kernel(kernel_cmd, **options)
            return
        local = self.provisioner  # jupyter_client's for processes of this machine
        local.process, local.pid, local.pgid = process, process.pid, process.pid
        self._reconcile_connection_info(local.connection_info)


@contextmanager
def connection() -> Iterator[Config]:
    """Configuration of one kernel's connection: private Unix sockets, or TCP where there are none or paths are long."""
    config = Config()
    _clear_abandoned()
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder, _in_use(Path(folder)):
        config.KernelManager.connection_file = os.path.join(folder, "connection.json")  # not in the user's home
        sockets = os.path.join(folder, "kernel")
        if fcntl is not None and len(os.fsencode(f"{sockets}-10")) < SOCKET_PATH_LIMIT:
            config.KernelManager.transport = "ipc"
            config.KernelManager.ip = sockets
        yield config


@contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Mark the folder as in use until the block, or this process, ends: a locked file, there once it is locked."""
    if fcntl is None:
        yield
        return
    with (folder / "new").open("w") as file:
        _lock(file)
        yield (folder / "new").rename(folder / IN_USE)


def _clear_abandoned() -> None:
    """Remove the folders of processes that were killed."""
    for path in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{IN_USE}"):
        with suppress(OSError), path.open() as file:
            if _lock(file):
                shutil.rmtree(path.parent)


def _lock(file: TextIO) -> bool:
    """Lock an open file until it is closed; False where that cannot be done."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held, or a file system without locks
        return False
    return True


def end_with_parent(parent: int) -> None:
    """Have the system kill this process when the one that started it is gone; without it, that takes a second."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # gone before the system was told
        os._exit(1)


def options(kernel_name: str | None) -> dict[str, Any]:
    """Arguments for papermill.execute_notebook: our own kernel unless the user asked for another by name."""
    return {"kernel_name": kernel_name} if kernel_name else {"kernel_manager_class": OwnKernelManager}
