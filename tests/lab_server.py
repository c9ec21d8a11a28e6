"""JupyterLab as `make lab` starts it, for tests: the same target, on a port and with settings of its own."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

PATIENCE = 240.0  # seconds until it must answer; far more than it takes, even on a busy machine
PRINTED = re.compile(r"(http://127\.0\.0\.1:\d+)(/lab\S*)\?token=(\w+)")


class Lab(NamedTuple):
    """A server that runs: where it serves from, what it printed, and the parts of the address printed last."""

    root: Path
    printed: str
    address: str
    page: str
    token: str


@contextmanager
def started(root: Path, folder: Path) -> Iterator[Lab]:
    """`make lab` in the checkout `root` with this interpreter; settings, kernels and the log lie in `folder`."""
    log = folder / "lab.log"
    # .venv/.ready is told to be up to date: nothing is installed, and the tools are those of this interpreter
    command = ["make", "--old-file=.venv/.ready", "lab", f"BIN={Path(sys.executable).parent}"]
    with log.open("wb") as out:
        server = subprocess.Popen(
            command, cwd=root, env=_environment(root, folder), stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield _answering(server, root, log)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _environment(root: Path, folder: Path) -> dict[str, str]:
    """`lib` is the one in `root`, nothing of the user's Jupyter is read, and no browser opens, as over SSH."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER_")}
    own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
    return {**kept, **own, "JUPYTER_PORT": str(_free_port()), "PYTHONPATH": str(root), "SSH_CONNECTION": "a test"}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _answering(server: subprocess.Popen, root: Path, log: Path) -> Lab:
    """The server once it has printed its address and listens there."""
    deadline = time.monotonic() + PATIENCE
    while True:
        printed = log.read_text()
        if (found := PRINTED.search(printed)) and _listens(found[1]):
            return Lab(root, printed, *found.groups())
        assert server.poll() is None and time.monotonic() < deadline, printed
        time.sleep(0.1)


def _listens(address: str) -> bool:
    host, port = address.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def stop_kernels(lab: Lab) -> None:
    """Shut down every kernel, as closing its notebook in the browser does not."""
    for session in json.loads(_ask(lab, "sessions")):
        _ask(lab, f"sessions/{session['id']}", method="DELETE")


def _ask(lab: Lab, what: str, method: str = "GET") -> bytes:
    request = urllib.request.Request(
        f"{lab.address}/api/{what}", method=method, headers={"Authorization": f"token {lab.token}"}
    )
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        return response.read()
