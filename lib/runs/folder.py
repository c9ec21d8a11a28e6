"""What a run folder is: its place, its name, its files, and the words for one that cannot be used or made."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lib import paths

SCHEMA = 1  # version of metrics.json
RECORDS = ("responses.jsonl", "measurements.jsonl")
NAME = re.compile(r"_\d{8}_\d{6}_([0-9a-f]{6})(?:-\d+)?$")  # how the name of a folder made here ends
FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
HASH_DIGITS = 6  # of the configuration's hash, in that name


class RunWarning(UserWarning):
    """A run folder that cannot be used; the message names it and says what to do."""


class StorageError(OSError):
    """Results cannot be put on disk, or not be listed; the message is one sentence that names the folder.

    `errno` is that of the error behind it, where there is one.
    """

    def __init__(self, message: str, errno: int | None = None) -> None:
        super().__init__(message)
        self.errno = errno


def absolute(path: str | Path) -> Path:
    """The path without `~`, `..` and links; one that leads nowhere is refused by whoever opens it."""
    return Path(os.path.realpath(os.path.expanduser(path)))


def experiment_folder(experiment: str, runs_dir: str | Path | None = None) -> Path:
    """The folder that holds an experiment's runs, absolute; `runs_dir` empty or None means paths.RUNS."""
    return absolute(runs_dir or paths.RUNS) / experiment


def named_hash(name: str) -> str | None:
    """First digits of the configuration's hash as a folder's name has them; None for a name that was chosen freely."""
    match = NAME.search(name)
    return match and match[1]


@contextmanager
def storing(folder: Path) -> Iterator[None]:
    """Turn whatever keeps the block from writing in or below `folder` into a StorageError."""
    try:
        yield
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        advice = "make room there" if error.errno in FULL else "make it a folder in which you may write"
        raise StorageError(
            f"Results cannot be stored in {folder} ({error.strerror or error}): {advice}, or put runs elsewhere with "
            "--runs-dir DIR, and start again.",
            error.errno,
        ) from error
