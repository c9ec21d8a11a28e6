"""A kernel that starts in milliseconds: forked, not executed, by a process that has imported its packages already.

`prepare` forks a process that waits, and `lib.kernel` makes it the kernel. It is forked before anything else happens
in its parent, so it holds no lock, no thread and no open file of a run. What a new process would have of its own
(session, environment, folder, output, `lib` as its source is now) it takes on when it becomes the kernel. The packages
are those of the parent, which the server of `lib.sweep.processes` has imported once for all cells.

Only on Linux, where forking is safe, and only for kernels of one thread: how many threads a library starts is decided
when it is imported.
"""

import json
import multiprocessing
import os
import signal
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence

POSSIBLE = sys.platform == "linux"
PIECE = 1 << 16  # bytes read at once
OUTPUT = (1, 2)  # stdout and stderr
_waiting: "Waiting | None" = None


class Process:
    """A forked process, with what Jupyter asks of a `subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Exit code, the negative signal's number for one that was killed; None while the process is alive."""
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        """`poll`, once the process has ended."""
        return self._wait(0)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing where the process has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Waiting:
    """A process that waits to become a kernel, and ends when this one does."""

    def __init__(self) -> None:
        parent = os.getpid()
        self._ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            self._ours.close()
            _live(theirs, parent)
        theirs.close()
        self._process = Process(pid)

    def become(self, command: Sequence[str], environment: Mapping[str, str], folder: str) -> Process:
        """Make it the kernel of Jupyter's command [interpreter, "-m", module, arguments]; prints where we print.

        OSError where it is gone.
        """
        told = json.dumps({"argv": command[2:], "environment": dict(environment), "folder": folder}).encode()
        with self._ours:
            sent = socket.send_fds(self._ours, [told], OUTPUT)
            self._ours.sendall(told[sent:])
        return self._process


def prepare() -> None:
    """Have a process wait to become the next kernel; where there cannot be one, the kernel is an ordinary process."""
    global _waiting
    try:
        _waiting = Waiting() if POSSIBLE else None
    except OSError:
        _waiting = None


def take() -> Waiting | None:
    """The process that waits, if one does; whoever takes it has it alone."""
    global _waiting
    taken, _waiting = _waiting, None
    return taken


def _live(ear: socket.socket, parent: int) -> None:
    """The forked process: wait, become the kernel, end. Never returns into the parent's code."""
    from lib.kernel import end_with_parent

    code = 1
    try:
        end_with_parent(parent)
        os.setsid()  # a signal to the terminal's processes, or to the kernel's, reaches no others
        told, output = _hear(ear)
        code = _kernel(json.loads(told), output) if told else 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _hear(ear: socket.socket) -> tuple[bytes, list[int]]:
    """All that is said until the other side closes, and the files that come with it; nothing where it just went."""
    with ear:
        told, output, _, _ = socket.recv_fds(ear, PIECE, len(OUTPUT))
        while piece := ear.recv(PIECE):
            told += piece
    return told, output


def _kernel(told: dict, output: Sequence[int]) -> int:
    """Take on what a new process would have of its own, and run the kernel until it is shut down."""
    for ours, given in zip(OUTPUT, output, strict=True):
        os.dup2(given, ours)
        os.close(given)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.clear()
    os.environ.update(told["environment"])
    os.chdir(told["folder"])
    sys.argv = told["argv"]
    multiprocessing.set_start_method(None, force=True)  # the server's choice is none of the notebook's
    for name in [name for name in sys.modules if name.partition(".")[0] == "lib"]:
        del sys.modules[name]  # read anew, as the source is now

    from ipykernel import kernelapp

    kernelapp.launch_new_instance()
    return 0
