"""The most memory that a piece of work held beside what was there before: activations, caches, copies.

On CUDA the allocator says. On a CPU it cannot be read off the process, whose pages are coarse and reused, so there
every tensor is watched from the operation that makes it to its end; what a kernel allocates for itself and frees before
it returns is not seen. Watching is slow: measure in a pass that is not timed.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lib.metrics.cost import PeakMemory

Result = TypeVar("Result")


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages made inside that are alive, `now`, and at most, `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._own: set[int] = set()

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = {tensor.untyped_storage()._cdata for tensor in _tensors([*args, *kwargs.values()])}
        output = operation(*args, **kwargs)
        for tensor in _tensors([output]):
            storage = tensor.untyped_storage()
            if storage._cdata not in given and storage._cdata not in self._own:  # not a view, nor written in place
                self._hold(storage)
        return output

    def _hold(self, storage: torch.UntypedStorage) -> None:
        self._own.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, storage._cdata, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._own.discard(key)
        self.now -= size


def _tensors(values: Iterable[Any]) -> Iterator[torch.Tensor]:
    """Tensors among arguments or results, which may be lists of them."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def peak(work: Callable[[], Result], device: torch.device) -> tuple[Result, int]:
    """What `work` returns, and its peak in bytes above the level before it."""
    if device.type == "cuda":
        memory = PeakMemory(device)
        memory.start()
        result = work()
        torch.cuda.synchronize(device)
        return result, memory.stop()
    with LiveBytes() as live:
        result = work()
    return result, live.peak
