"""How results are put on disk: values in JSON's own types, files that are either whole or absent."""

import math
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` in JSON's own types: numpy and torch scalars and arrays become numbers and lists, NaN and inf null."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    raise TypeError(f"A {type(value).__name__} cannot be stored in a run; convert it to a number, text, list or dict.")


def write_in_one_step(path: Path, text: str) -> Path:
    """Write a file so that a reader, and a machine that loses power, sees all of it or none; OSError leaves nothing."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise
    return path
