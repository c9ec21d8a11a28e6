"""How close an arm comes to the time of its forwards alone, and what everything around them costs.

The bound of a pass is its prefill as measured in the pass, plus for each decode forward of it the time that one forward
of so many rows takes by itself: on the arm's own kind of KV store, the mean over a run of the same length, with nothing
drawn and nothing kept. Those times come from probes of a grid of row counts, run in between the timed passes, and are
interpolated, because in packed trees the row count changes from step to step. EAB's further trees can have more rows
than samples were asked for: packed stores are probed up to 2 N rows, and a forward of more counts as one of 2 N.

`fraction_of_bound` is bound / wall time; 1 is an arm that does nothing but its forwards. `overhead_share` asks the same
without a bound: hooks on the model time each forward inside the pass itself, and the rest of the wall time is overhead
(drawing, bookkeeping, KV copies). The two differ where a forward in the pass costs more than the same forward alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import LongTensor, nn
from transformers import DynamicCache

from lib.bench.report import by_arm_and_model
from lib.generators.decode import prefill
from lib.generators.engines import PackedTree
from lib.metrics import stats
from lib.metrics.cost import CostMeter

PROTOCOL = "forward"
GRID = (1, 2, 4, 8, 12, 16)  # rows of packed stores below N; N and 2 N are added
# The KV store of each arm that has not a packed tree's.
STORES = {
    "naive": "buffer",
    "batched": "buffer",
    "eab_sequential": "buffer",
    "hf": "dynamic",
    "hf_sequential": "dynamic",
}


class Forwards:
    """Seconds and rows of every forward of `model` between `__enter__` and `__exit__`, timed in hooks."""

    def __init__(self, model: nn.Module) -> None:
        self._model, self._device = model, next(model.parameters()).device
        self.seconds: list[float] = []
        self.tokens: list[int] = []
        self.prefills: list[bool] = []

    def __enter__(self) -> Self:
        self._hooks = [
            self._model.register_forward_pre_hook(self._before, with_kwargs=True),
            self._model.register_forward_hook(self._after, with_kwargs=True),
        ]
        return self

    def __exit__(self, *exc: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def last(self, calls: int) -> dict[str, Any]:
        """Of the last so many forwards: `forward_s` of them all, and `decode_rows`, the rows of each decode forward."""
        recent = slice(len(self.seconds) - calls, None)
        rows = [t for t, prefill in zip(self.tokens[recent], self.prefills[recent], strict=True) if not prefill]
        return {"forward_s": sum(self.seconds[recent]), "decode_rows": rows}

    def _before(self, _model: nn.Module, _args: tuple, kwargs: dict) -> None:
        cache = kwargs.get("past_key_values")
        self.prefills.append(cache is not None and cache.get_seq_length() == 0)
        self._synchronise()
        self._start = time.perf_counter()

    def _after(self, _model: nn.Module, args: tuple, kwargs: dict, _output: object) -> None:
        self._synchronise()
        self.seconds.append(time.perf_counter() - self._start)
        self.tokens.append(kwargs["input_ids"].numel())

    def _synchronise(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


@dataclass(frozen=True)
class Probe:
    """One forward to be timed alone: a kind of KV store and a number of rows."""

    store: str
    rows: int


def store_of(arm: str) -> str:
    """buffer, dynamic (transformers' own cache) or packed."""
    return STORES.get(arm, "packed")


def probes(arms: Sequence[str], num_samples: int) -> list[Probe]:
    """Everything that has to be probed once for the bounds of `arms`."""
    grid = [*(rows for rows in GRID if rows < num_samples), num_samples, 2 * num_samples]
    wanted = []
    for store in dict.fromkeys(map(store_of, arms)):
        wanted += [Probe(store, rows) for rows in (grid if store == "packed" else sorted({1, num_samples}))]
    return wanted


@torch.inference_mode()
def seconds_alone(model: nn.Module, prompt: LongTensor, probe: Probe, max_new_tokens: int) -> float:
    """Mean seconds of a decode forward of `probe.rows` rows behind prompt [P], over a run of `max_new_tokens` (the last
    of which no forward reads). What the rows say does not matter: every token is the prompt's last.
    """
    steps = max(max_new_tokens - 1, 1)
    forward = _packed if probe.store == "packed" else _in_rows
    with forward(model, prompt, probe, steps) as step, Forwards(model) as seen:
        for _ in range(steps):
            step()
    return sum(seen.seconds) / steps


def report(passes: pd.DataFrame, probed: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """fraction_of_bound, overhead_per_step_us and overhead_share, each arm -> model -> median over prompts.

    Args:
        passes: measurement rows of one pass each, with what `Forwards.last` adds. A step is a forward call.
        probed: model, store, rows, seconds of every probe.
    """
    alone = probed.groupby(["model", "store", "rows"]).seconds.median()
    overhead = passes.wall_s - passes.forward_s
    found = passes.assign(
        fraction=[_bound(row, alone[row.model][store_of(row.arm)]) / row.wall_s for row in passes.itertuples()],
        per_step_us=1e6 * overhead / passes.forward_calls,
        share=overhead / passes.wall_s,
    )
    names = {"fraction_of_bound": "fraction", "overhead_per_step_us": "per_step_us", "overhead_share": "share"}
    return {key: by_arm_and_model(stats.per_prompt(found, column), column) for key, column in names.items()}


def _bound(row: Any, alone: pd.Series) -> float:
    """Seconds of a pass at its bound; `alone` is seconds by number of rows."""
    return row.prefill_s + float(np.interp(row.decode_rows, alone.index, alone).sum())


@contextmanager
def _packed(model: nn.Module, prompt: LongTensor, probe: Probe, length: int) -> Iterator[Callable[[], object]]:
    with CostMeter(model) as meter, PackedTree(model, [prompt], probe.rows * length, meter) as engine:
        rows = np.arange(probe.rows)
        tokens, prompts = np.full_like(rows, int(prompt[-1])), np.zeros_like(rows)
        engine.roots(prompts)
        yield lambda: engine.step(rows, tokens, prompts)


@contextmanager
def _in_rows(model: nn.Module, prompt: LongTensor, probe: Probe, length: int) -> Iterator[Callable[[], object]]:
    if probe.store == "buffer":
        _, cache = prefill(model, [prompt], length)
        cache = cache.rows(prompt.new_zeros(probe.rows))
    else:
        cache = DynamicCache(config=model.config)
        model(input_ids=prompt.expand(probe.rows, -1), past_key_values=cache, use_cache=True, logits_to_keep=1)
    tokens = prompt[-1:].expand(probe.rows, 1)
    yield lambda: model(input_ids=tokens, past_key_values=cache, use_cache=True)
