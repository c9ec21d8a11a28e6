"""The packed tree at shapes that never change, for `torch.compile` and, on a GPU, CUDA graphs.

Each prompt has N places whether or not its tree has as many live paths, and each path has room for its full depth: an
empty place computes on stale numbers that nobody reads, and a depth not yet reached is masked by a bias. The model's
forward is compiled once per set of shapes and kept with the model, and so are the pool and the inputs: a recorded CUDA
graph reads and writes fixed addresses.

This ends the dispatch of hundreds of small kernels per step and pays with rows that a smaller forward would not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.engines import PackedTree
from lib.generators.shared_prefix import Pool
from lib.metrics.cost import CostMeter

BACKEND = "inductor"
WORKSPACES = 8  # sets of shapes whose tensors are kept
GRAPHS = 64  # sets of shapes in one process; torch gives up at 8


@dataclass
class Workspace:
    """Tensors of one set of shapes, for B prompts of N places each: `ids` and `positions` int64 [1, B N]."""

    pool: Pool
    ids: LongTensor
    positions: LongTensor


class FixedTree(PackedTree):
    """`PackedTree` with N places per prompt, for at most `steps` steps."""

    def __init__(self, model: nn.Module, prompts: list[LongTensor], n: int, steps: int, meter: CostMeter) -> None:
        super().__init__(model, prompts, len(prompts) * n * steps, meter)
        self._n = n
        kept: dict[Any, Any] = model.__dict__.setdefault("_recount_fixed", {})
        shapes = (len(prompts), n, steps, self.pool.prompt_len)
        if shapes not in kept:
            self.pool.reserve(len(prompts) * n * steps)
            spaces = [key for key in kept if key != "forward"]
            for oldest in spaces[: max(0, len(spaces) + 1 - WORKSPACES)]:
                del kept[oldest]
            kept[shapes] = _lay_out(self.pool, len(prompts) * n, steps)
        self._space: Workspace = kept[shapes]
        self._space.pool.take_prompts(self.pool)
        self.pool = self._space.pool
        if "forward" not in kept:
            torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
            mode = "reduce-overhead" if self._device.type == "cuda" else None  # reduce-overhead: CUDA graphs
            kept["forward"] = torch.compile(model.forward, fullgraph=True, dynamic=False, backend=BACKEND, mode=mode)
        self._forward = kept["forward"]

    def roots(self, prompts: np.ndarray) -> Tensor:
        self._depth = 0
        self._places = self._place(prompts)
        self._old_paths = np.zeros(self.pool.paths.shape, dtype=np.int64)
        self.pool.bias.fill_(-torch.inf)
        return super().roots(prompts)

    def step(self, parents: np.ndarray, tokens: np.ndarray, prompts: np.ndarray | None = None) -> Tensor:
        pool = self.pool
        places = np.arange(len(tokens)) if prompts is None else self._place(prompts)
        slots = np.arange(pool.used, pool.used + len(self._old_paths))
        paths = np.zeros_like(self._old_paths)
        paths[places] = self._old_paths[self._places[parents]]
        paths[:, self._depth] = slots
        ids = np.zeros(len(slots), dtype=np.int64)
        ids[places] = tokens
        pool.used += len(slots)
        for tensor, array in ((pool.slots, slots), (pool.paths, paths), (self._space.ids[0], ids)):
            tensor.copy_(torch.from_numpy(array))
        pool.bias[self._depth] = 0
        self._space.positions.fill_(pool.prompt_len + self._depth)
        self._depth, self._places, self._old_paths = self._depth + 1, places, paths
        logits = self._forward(
            input_ids=self._space.ids, position_ids=self._space.positions, use_cache=False, pool=pool
        ).logits[0]
        self._meter.count_forward(len(slots), pool.query_key_pairs)
        return logits[torch.from_numpy(places).to(self._device)]

    def _place(self, prompts: np.ndarray) -> np.ndarray:
        """The place of each row, rows of one prompt side by side from its first place on."""
        first = np.searchsorted(prompts, prompts)
        return prompts * self._n + np.arange(len(prompts)) - first


def _lay_out(pool: Pool, places: int, steps: int) -> Workspace:
    """The pool and the inputs of one set of shapes; zeros, since a masked number must still be a number."""
    device = pool.nodes[0].device
    pool.nodes = [torch.zeros_like(nodes) for nodes in pool.nodes]
    pool.slots = torch.zeros(places, dtype=torch.long, device=device)
    pool.paths = torch.zeros(places, max(1, steps - 1), dtype=torch.long, device=device)
    pool.bias = torch.zeros(pool.paths.shape[1], dtype=pool.nodes[0].dtype, device=device)
    for tensor in (*pool.nodes, *pool.prompt_keys, *pool.prompt_values, pool.slots, pool.paths, pool.bias):
        torch._dynamo.mark_static_address(tensor)
    ids = torch.zeros(1, places, dtype=torch.long, device=device)
    return Workspace(pool, ids, torch.zeros_like(ids))
