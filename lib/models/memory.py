"""Running out of memory, on a GPU or in main memory, said in one sentence that names the setting to lower."""

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lib.models.registry import ModelError


@contextmanager
def explain_oom(setting: str) -> Iterator[None]:
    """Turn running out of memory in a with block into a ModelError that says what to lower: `setting`.

    The frames of the failed call are cleared, so that the memory they hold is free for the next attempt.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_oom(error):
            raise
        traceback.clear_frames(error.__traceback__)
        where = "GPU" if isinstance(error, torch.OutOfMemoryError) else "main"
        raise ModelError(f"Out of {where} memory: lower {setting}, or take a smaller model.") from None


def is_oom(error: BaseException) -> bool:
    """Whether memory ran out; torch's GPU allocator has a class for it, its CPU allocator only this text."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def capacity(device: torch.device) -> float:
    """All the memory of a device in bytes; infinite where the system does not say.

    Weights larger than this must be refused before they are read: Linux hands out main memory that it does not have
    and kills the process later, without an exception that `explain_oom` could catch.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return float("inf")
