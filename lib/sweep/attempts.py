"""Who is at a cell, who has the machine, and what the last attempt at a cell came to.

Each cell has a lock file and a note beside the runs, in `runs/<experiment>/.attempts/`. The lock is the system's own
and goes with the process that holds it, however that ends; so a cell is run by one process at a time, whatever was
killed before. The note (host, process, devices, folder, and the reason of a failure) is for people: it decides nothing.
The machine's lock is shared by ordinary cells and held alone by one that measures time. It is per user and machine.
"""

import getpass
import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from lib import runs
from lib.params import Params, config_hash

try:
    import fcntl
except ImportError:  # Windows: cells that measure time are kept apart within a sweep, not between two
    fcntl = None

FOLDER = ".attempts"


def notes(experiment: str, runs_dir: str) -> dict[str, dict[str, Any]]:
    """The note of the last attempt at each cell that is not complete, by configuration hash."""
    found = {}
    for path in (runs.experiment_folder(experiment, runs_dir) / FOLDER).glob("*.json"):
        with suppress(OSError, ValueError):  # being replaced or cleared, or damaged: it only informs
            note = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(note, dict) and isinstance(note.get("folder"), str):
                found[path.stem] = note
    return found


class Attempt:
    """The lock and the note of one cell."""

    def __init__(self, experiment: str, params: Params) -> None:
        self._stem = runs.experiment_folder(experiment, params.runs_dir) / FOLDER / config_hash(params)

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the cell for the block; False when another process is at it."""
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self._stem.with_suffix(".lock"), blocking=False)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def is_claimed(self) -> bool:
        """Whether a process, on this machine or another that shares the file system, is at the cell."""
        if not self._stem.with_suffix(".lock").exists():
            return False
        with self.claimed() as free:
            return not free

    def begin(self, folder: Path, sweep: str) -> None:
        """Note where the cell is being run, and for which sweep."""
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._write({"sweep": sweep, "gpus": devices, "folder": str(folder)})

    def fail(self, folder: Path, reason: str) -> None:
        """Note why the cell could not be completed."""
        self._write({"folder": str(folder), "failed": reason})

    def clear(self) -> None:
        """The cell is complete, and its run says the rest."""
        self._stem.with_suffix(".json").unlink(missing_ok=True)

    def note(self) -> dict[str, Any] | None:
        """What `begin` or `fail` noted last."""
        try:
            return json.loads(self._stem.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def _write(self, note: dict[str, Any]) -> None:
        path = self._stem.with_suffix(".json")
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        place = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        temporary.write_text(json.dumps({**place, **note}), encoding="utf-8")
        os.replace(temporary, path)


@contextmanager
def machine(alone: bool) -> Iterator[None]:
    """Use the machine beside others of this user, or alone: waits until that is possible."""
    path = Path(tempfile.gettempdir()) / f"recount-{getpass.getuser()}.lock"
    with path.open("a") as file:  # closing it gives the lock back, and so does dying
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
