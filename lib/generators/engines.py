"""Two ways to give a set of live paths their next logits. A branching algorithm talks to either and cannot tell
which.

`PackedTree` puts all live paths of a step, of one prompt or of several, into ONE forward of batch 1: the paths are the
sequence axis, each token's position is its depth, and attention sees the prompt and the path's own nodes
(`shared_prefix`). Rotary positions are applied before keys are stored, so a node's keys serve every descendant.

`SequentialPaths` is the engine that the published EAB used: one batch-1 forward per live path and step, each path
with a cache of its own, copied on branching. (The original also cloned caches it threw away at once; that waste is
not reproduced.)

Both are context managers: on leaving, they report their KV memory to the meter and leave the model as it was.
"""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators import shared_prefix
from lib.generators.common import SamplingParams
from lib.generators.decode import prefill
from lib.generators.kv_cache import BufferCache
from lib.generators.shared_prefix import Pool
from lib.metrics.cost import CostMeter

ROOM = 16384  # nodes set aside at first: 0.9 GB at 7B, and more than any run of 20 samples needs


class Engine(Protocol):
    """`roots` starts paths at the ends of prompts; `step` extends chosen paths by one token each."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def roots(self, prompts: np.ndarray) -> Tensor:
        """Start a path at the end of each of the named prompts (int64 [D]), dropping the live ones: logits [D, V]."""

    def step(self, parents: np.ndarray, tokens: np.ndarray, prompts: np.ndarray | None = None) -> Tensor:
        """Extend path parents[i] of the last call by tokens[i] -> logits [D, V]; paths not named are dropped.

        All int64 [D]. prompts[i] is the path's prompt, None where there is only one; paths of one prompt stand
        together, in the order of prompts.
        """


class PackedTree:
    """All live paths in one forward over one KV pool.

    `prompts` are B of one length [P]; `nodes` is how many to expect (more are possible, at the price of a copy).
    ValueError for a model whose attention cannot be exchanged.
    """

    def __init__(self, model: nn.Module, prompts: list[LongTensor], nodes: int, meter: CostMeter) -> None:
        self._model, self._meter = model, meter
        self._logits, cache = prefill(model, prompts, room=0)
        self._device = self._logits.device
        self.pool = Pool(cache, min(nodes, ROOM))

    def __enter__(self) -> Self:
        self._own_attention = self._model.config._attn_implementation
        self._model.set_attn_implementation(shared_prefix.NAME)
        if self._model.config._attn_implementation != shared_prefix.NAME:
            raise ValueError(
                f"{type(self._model).__name__} does not use transformers' attention interface, as packed trees need: "
                "leave out the arms eab, tree, tree_multinomial, arithmetic and bifurcated."
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self._model.set_attn_implementation(self._own_attention)
        self._meter.count_kv(self.pool.bytes_used())

    def roots(self, prompts: np.ndarray) -> Tensor:
        if self.pool.used:  # further trees: those before are done with, and their nodes make room
            self._meter.count_kv(self.pool.bytes_used(), kept=self.pool.bytes_prompt())
        self.pool.used = 0
        self._paths = np.empty((len(prompts), 0), dtype=np.int64)
        return self._logits[torch.from_numpy(prompts)]

    def step(self, parents: np.ndarray, tokens: np.ndarray, prompts: np.ndarray | None = None) -> Tensor:
        pool, d, depth = self.pool, len(tokens), self._paths.shape[1]
        pool.reserve(d)
        slots = np.arange(pool.used, pool.used + d)
        pool.used += d
        self._paths = np.concatenate([self._paths[parents], slots[:, None]], 1)
        pool.slots, pool.paths = self._tensor(slots), self._tensor(self._paths)
        pool.pad = pool.unpad = None
        if prompts is not None:
            self._even_out(prompts)
        return self._model(
            input_ids=self._tensor(tokens[None]),
            position_ids=self._tensor(np.full((1, d), pool.prompt_len + depth)),
            use_cache=False,
            pool=pool,
        ).logits[0]

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _even_out(self, prompts: np.ndarray) -> None:
        """Where prompts have different numbers of rows, tell the attention how to lay them out side by side."""
        pool = self.pool
        counts = np.bincount(prompts, minlength=pool.prompts)
        most = counts.max()
        if (counts == most).all():
            return
        rank = np.arange(len(prompts)) - np.repeat(np.cumsum(counts) - counts, counts)
        place = prompts * most + rank
        row_of_place = np.zeros(pool.prompts * most, dtype=np.int64)
        row_of_place[place] = np.arange(len(prompts))
        pool.pad, pool.unpad = self._tensor(row_of_place), self._tensor(place)
        pool.paths = self._tensor(self._paths[row_of_place])


class SequentialPaths:
    """One forward and one private cache per live path."""

    def __init__(self, model: nn.Module, prompt: LongTensor, params: SamplingParams, meter: CostMeter) -> None:
        self._model, self._meter = model, meter
        self._logits, self._prompt_cache = prefill(model, [prompt], params.max_new_tokens)
        self._first_row = torch.zeros(1, dtype=torch.long, device=prompt.device)
        self._caches: list[BufferCache] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._meter.retire([self._prompt_cache, *self._caches])

    def roots(self, prompts: np.ndarray) -> Tensor:
        self._meter.retire(self._caches)
        self._caches = [self._prompt_cache.rows(self._first_row) for _ in prompts]
        return self._logits.expand(len(prompts), -1)

    def step(self, parents: np.ndarray, tokens: np.ndarray, prompts: np.ndarray | None = None) -> Tensor:
        before, self._caches = self._caches, self._branch(parents)
        self._meter.retire(cache for i, cache in enumerate(before) if i not in parents)
        logits = [
            self._model(
                input_ids=torch.tensor([[token]], device=self._logits.device), past_key_values=cache, use_cache=True
            ).logits[:, -1]
            for token, cache in zip(tokens, self._caches, strict=True)
        ]
        self._meter.hold([self._prompt_cache, *self._caches])
        return torch.cat(logits)

    def _branch(self, parents: np.ndarray) -> list[BufferCache]:
        """The first child of a path takes over its cache, the others get copies; no forward has run in between."""
        taken: set[int] = set()
        caches = []
        for parent in parents:
            cache = self._caches[parent]
            caches.append(cache.rows(self._first_row) if parent in taken else cache)
            taken.add(parent)
        return caches
