"""Whether the local data sets and models that parameters name can be read.

Asked before a run folder is made: every row is read, of weights the headers, which give a cut file away. No model stack
is needed for that.
"""

import os
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError, safe_open

from lib.params.base import ParameterError


def check_rows(task: str, path: str) -> None:
    """Read every row of the file or folder `path` for a task; ParameterError, one sentence, where one is unusable."""
    _check_rows(task, path, os.stat(path).st_mtime_ns)


@lru_cache(maxsize=16)  # a sweep checks every cell
def _check_rows(task: str, path: str, changed: int) -> None:
    from lib.bridge.tasks import TASKS
    from lib.data.rows import DataError

    try:
        for split in ("test", "train"):
            TASKS[task].load(split, 1, path)
    except DataError as error:
        raise ParameterError(str(error)) from None


def check_model(name: str) -> None:
    """ParameterError, one sentence, where a model is a local folder whose weights are missing or damaged."""
    folder = Path(name)
    if not folder.is_absolute():
        return
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ParameterError(f"{name!r} holds no .safetensors weights (pickled ones are not read): save it again.")
    for file in files:
        try:
            with safe_open(file, "numpy"):
                pass
        except (SafetensorError, OSError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ParameterError(f"{str(file)!r} is damaged ({reason}): get the model again.") from None
