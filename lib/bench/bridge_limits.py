"""What a training step is limited by: arithmetic, memory or the number of calls.

A step is counted while it runs, kernel by kernel as torch dispatches them, forwards and backwards: the FLOPs of its
matrix products (`torch.utils.flop_counter`), the bytes that all other kernels read and write, and the calls. The
machine's rates for the three are measured beside it, each where there is nothing else to wait for. Work over rate is
three times in milliseconds; the largest names the limit, and their sum over the measured time of a step says how much
of it they explain: the rest goes to kernels that stay below these rates, and to autograd's and autocast's own work
around each call. Products run in bfloat16 there, so that is the rate that counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm}
SIDE = 1024  # of the square matrices whose product is timed: large enough for the full rate
NUMBERS = 128 * 1024  # of a float32 tensor as the small target's activations are: 32 rows of 32 positions of 128
CALLS = 200  # in the chain of kernels on one number
ATTEMPTS = 5  # of which the fastest counts: what else runs on the machine only slows


class Work(TorchDispatchMode):
    """Counts `flops`, `bytes` and `calls` of everything that torch runs inside the with block."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.calls = 0, 0
        self._products = FlopCounterMode(display=False)

    @property
    def flops(self) -> int:
        return self._products.get_total_flops()

    def __enter__(self) -> Self:
        self._products.__enter__()
        return super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._products.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls += 1
        if func.overloadpacket not in PRODUCTS and not func.is_view:
            touched = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in touched)
        return out


def machine() -> dict[str, float]:
    """The machine's rates on as many threads as torch has: see the module."""
    rates = {f"matmul_{name}_gflop_per_s": _products(getattr(torch, name)) for name in ("float32", "bfloat16")}
    return rates | {"elementwise_gb_per_s": _elementwise(), "call_us": _call()}


def limit(work: Work, steps: int, step_ms: float, rates: dict[str, float]) -> dict[str, Any]:
    """The row of a step that takes `step_ms`, when `work` counted so many of them.

    gflop, mb and calls of a step; gflop_per_s reached; arithmetic_ms, memory_ms and calls_ms at the machine's rates;
    `limit`, which of the three is the largest; explained, their sum over step_ms.
    """
    gflop, mb, calls = work.flops / steps / 1e9, work.bytes / steps / 1e6, work.calls / steps
    spent = {
        "arithmetic": 1e3 * gflop / rates["matmul_bfloat16_gflop_per_s"],
        "memory": mb / rates["elementwise_gb_per_s"],
        "calls": 1e-3 * calls * rates["call_us"],
    }
    counted = {"gflop": gflop, "mb": mb, "calls": calls, "step_ms": step_ms, "gflop_per_s": 1e3 * gflop / step_ms}
    about = {"limit": max(spent, key=spent.get), "explained": sum(spent.values()) / step_ms}
    return counted | {f"{name}_ms": ms for name, ms in spent.items()} | about | rates


def _products(dtype: torch.dtype) -> float:
    a = torch.randn(SIDE, SIDE).to(dtype)
    return 2 * SIDE**3 / _fastest(lambda: a @ a) / 1e9


def _elementwise() -> float:
    a, b = torch.randn(NUMBERS), torch.randn(NUMBERS)
    return 3 * 4 * NUMBERS / _fastest(lambda: a + b, times=20) / 1e9


def _call() -> float:
    """Microseconds per kernel on one number, of a chain that is run forwards and backwards."""

    def chain() -> None:
        y = x
        for _ in range(CALLS):
            y = y * x
        y.backward()

    x = torch.ones(1, requires_grad=True)
    with Work() as work:
        chain()
    return 1e6 * _fastest(chain) / work.calls


def _fastest(run: Callable[[], object], times: int = 1) -> float:
    """Seconds of one run, in the fastest of ATTEMPTS rounds of `times` runs, after an untimed one."""
    run()
    seconds = []
    for _ in range(ATTEMPTS):
        began = time.perf_counter()
        for _ in range(times):
            run()
        seconds.append((time.perf_counter() - began) / times)
    return min(seconds)
