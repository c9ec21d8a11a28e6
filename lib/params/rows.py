"""Whether a local data set that parameters name can be read, found out before a run folder is made or a model loads."""

import os
from functools import lru_cache

from lib.params.base import ParameterError


def check(task: str, path: str) -> None:
    """Read every row of the file or folder `path` for a task; ParameterError, one sentence, where one is unusable."""
    _check(task, path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=16)  # a sweep checks every cell
def _check(task: str, path: str, changed: int) -> None:
    from lib.bridge.tasks import TASKS
    from lib.data.rows import DataError

    try:
        for split in ("test", "train"):
            TASKS[task].load(split, 1, path)
    except DataError as error:
        raise ParameterError(str(error)) from None
