"""Who is at a cell, who has the machine, and what the last attempt at a cell came to.

Each cell has a lock file and a note beside the runs, in `runs/<experiment>/.attempts/`. The lock is the system's own
and goes with the process that holds it, however that ends; so a cell is run by one process at a time, whatever was
killed before. The note (host, process, devices, folder, and the reason of a failure) is for people: it decides nothing,
and where it cannot be written the cell runs all the same.
The machine's lock is shared by ordinary cells and held alone by one that measures time. It is per user and machine, and
lies in /dev/shm where there is one, because jobs are often given temporary folders of their own; RECOUNT_LOCKS names
another folder.
Where there are no such locks (Windows, some cluster file systems) two sweeps may run a cell twice, which loses nothing.
"""

import json
import os
import socket
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from lib import runs
from lib.params import Params, config_hash

try:
    import fcntl
except ImportError:
    fcntl = None

FOLDER = ".attempts"
LOOKS = 4  # at a lock before it counts as held: someone who only asks who is there has it for a moment


def notes(experiment: str, runs_dir: str) -> dict[str, dict[str, Any]]:
    """The note of the last attempt at each cell that is not complete, by configuration hash."""
    paths = (runs.experiment_folder(experiment, runs_dir) / FOLDER).glob("*.json")
    return {path.stem: note for path in paths if (note := _read(path)) is not None}


class Attempt:
    """The lock and the note of one cell."""

    def __init__(self, experiment: str, params: Params) -> None:
        self._stem = runs.experiment_folder(experiment, params.runs_dir) / FOLDER / config_hash(params)

    @contextmanager
    def claimed(self) -> Iterator[bool]:
        """Hold the cell for the block; False when another process is at it. OSError where no file can be made."""
        self._stem.parent.mkdir(parents=True, exist_ok=True)
        with self._stem.with_suffix(".lock").open("a") as file:  # closing it gives the cell back, and so does dying
            yield _locked(file, alone=True)

    def is_claimed(self) -> bool:
        """Whether a process, on this machine or another that shares the file system, is at the cell."""
        try:
            with self._stem.with_suffix(".lock").open() as file:  # only read: it may be another user's
                return not _locked(file, alone=False)
        except OSError:
            return False

    def wait(self, sweep: str) -> None:
        """Note that the cell waits for the machine, and for which sweep."""
        self._write({"sweep": sweep, "folder": ""})

    def begin(self, folder: Path, sweep: str) -> None:
        """Note where the cell is being run, and for which sweep."""
        devices = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        self._write({"sweep": sweep, "gpus": devices, "folder": str(folder)})

    def fail(self, folder: str, reason: str) -> None:
        """Note why the cell could not be completed."""
        self._write({"folder": folder, "failed": reason})

    def clear(self) -> None:
        """The cell is complete, and its run says the rest."""
        with suppress(OSError):
            self._stem.with_suffix(".json").unlink()

    def note(self) -> dict[str, Any] | None:
        """What `wait`, `begin` or `fail` noted last."""
        return _read(self._stem.with_suffix(".json"))

    def _write(self, note: dict[str, Any]) -> None:
        path = self._stem.with_suffix(".json")
        temporary = path.with_suffix(".tmp")  # one writer: who holds the lock
        place = {"host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
        with suppress(OSError):
            temporary.write_text(json.dumps({**place, **note}), encoding="utf-8")
            os.replace(temporary, path)


def _read(path: Path) -> dict[str, Any] | None:
    """A note; None where there is none, or one that was damaged."""
    try:
        note = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(note, dict) and isinstance(note.get("folder"), str) and isinstance(note.get("started"), float)
    return note if whole else None


@contextmanager
def machine(alone: bool, waits: Callable[[], None]) -> Iterator[None]:
    """Use the machine beside others of this user, or alone; `waits` is called where that has to be waited for."""
    file = _machines_file()
    if file is None:
        yield
        return
    with file:
        if not _locked(file, alone):
            waits()
            fcntl.flock(file, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


def _machines_file() -> TextIO | None:
    """The machine's lock, open; None where there are no locks, or where it is closed to this user."""
    if fcntl is None:
        return None
    shared = os.environ.get("RECOUNT_LOCKS") or ("/dev/shm" if os.access("/dev/shm", os.W_OK) else "")
    path = Path(shared or tempfile.gettempdir()) / f"recount-{os.getuid()}.lock"
    for mode in ("a", "r"):  # another user's may be read, if not written, and that is enough to lock it
        with suppress(OSError):
            return path.open(mode)
    advice = "name another folder for it in RECOUNT_LOCKS"
    warnings.warn(f"{path} cannot be used, so runs that measure time may run beside others; {advice}.", stacklevel=1)
    return None


def _locked(file: TextIO, alone: bool) -> bool:
    """Lock an open file, alone or beside others who share it; False when it is held. Does not wait."""
    if fcntl is None:
        return True
    for look in range(LOOKS):
        if look:
            time.sleep(0.01)
        try:
            fcntl.flock(file, (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # what NFS says, on some systems
            continue
        except OSError:
            return True  # a file system without locks
        return True
    return False
