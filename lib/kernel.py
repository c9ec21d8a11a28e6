"""The kernel a notebook runs in: this interpreter's own, reached in a way that no other kernel can disturb.

Kernels that start together race for TCP ports (papermill issue 511), so where there are Unix sockets they are used.
They lie in a folder made for this one kernel: left alone, jupyter_client would put them in the current folder, under
numbers that two kernels starting together would again both choose.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from traitlets import default
from traitlets.config import Config

SOCKET_PATH_LIMIT = 100  # bytes; the system's own limit is 104 on macOS and 108 on Linux


class OwnKernelManager(AsyncKernelManager):
    """Looks into no folder of kernels, where a user's `python3` may be another interpreter: what is left is ours."""

    @default("kernel_spec_manager")
    def _no_registered_kernels(self) -> KernelSpecManager:
        return KernelSpecManager(kernel_dirs=[])


@contextmanager
def connection() -> Iterator[Config]:
    """Configuration of one kernel's connection: private Unix sockets, or TCP where there are none or paths are long."""
    config = Config()
    with tempfile.TemporaryDirectory(prefix="recount-", ignore_cleanup_errors=True) as folder:
        sockets = os.path.join(folder, "kernel")
        if os.name == "posix" and len(os.fsencode(f"{sockets}-10")) < SOCKET_PATH_LIMIT:
            config.KernelManager.transport = "ipc"
            config.KernelManager.ip = sockets
        yield config


def options(kernel_name: str | None) -> dict[str, Any]:
    """Arguments for papermill.execute_notebook: our own kernel unless the user asked for another by name."""
    return {"kernel_name": kernel_name} if kernel_name else {"kernel_manager_class": OwnKernelManager}
