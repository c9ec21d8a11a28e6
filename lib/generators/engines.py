"""Two ways to give a set of live paths their next logits. A branching algorithm talks to either and cannot tell
which.

`PackedTree` puts all live paths of a step into ONE forward of batch 1: the paths are the sequence axis, each
token's position is its depth, and a 4-D mask lets it see the prompt, its own ancestors and itself. Keys and values
of every node lie once in one pool; branching copies nothing, dead branches are just never looked at again. (Rotary
positions are applied before keys are cached, so a node's keys serve every descendant. Tree attention as in
speculative decoding: SpecInfer, arXiv 2305.09781.)

`SequentialPaths` is the engine that the published EAB used: one batch-1 forward per live path and step, each path
with a cache of its own, copied on branching. (The original also cloned caches it threw away at once; that waste is
not reproduced.)
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import LongTensor, Tensor, nn

from lib.generators.common import SamplingParams
from lib.generators.decode import prefill
from lib.generators.kv_cache import BufferCache
from lib.metrics.cost import CostMeter, kv_bytes


class Engine(Protocol):
    """`roots` starts paths at the end of the prompt; `step` extends chosen paths by one token each."""

    def roots(self, n: int) -> Tensor:
        """Start n paths, replacing the live ones: logits [n, V]."""

    def step(self, parents: list[int], tokens: LongTensor) -> Tensor:
        """Extend path parents[i] of the last call by tokens[i] -> logits [D, V]; paths not named are dropped."""

    def finish(self) -> None:
        """Report KV memory to the meter; called once at the end."""


class PackedTree:
    """All live paths in one forward over one KV pool."""

    def __init__(self, model: nn.Module, prompt: LongTensor, params: SamplingParams, meter: CostMeter) -> None:
        self._model, self._meter = model, meter
        self._prompt_len = self._pool_len = len(prompt)
        self._logits, self._cache = prefill(model, prompt, room=params.max_paths * params.max_new_tokens)

    def roots(self, n: int) -> Tensor:
        self._forget_trees()
        self._depth = 0
        self._seen = torch.ones(n, self._prompt_len, dtype=torch.bool, device=self._logits.device)
        return self._logits.expand(n, -1)

    def step(self, parents: list[int], tokens: LongTensor) -> Tensor:
        d, start = len(parents), self._pool_len
        self._pool_len += d
        ancestors = self._seen[torch.tensor(parents, device=tokens.device)]
        self._seen = ancestors.new_zeros(d, self._pool_len)
        self._seen[:, : ancestors.shape[1]] = ancestors
        self._seen[:, start:].fill_diagonal_(True)  # each path's own new node
        position = torch.full((1, d), self._prompt_len + self._depth, device=tokens.device)
        self._depth += 1
        out = self._model(
            input_ids=tokens.unsqueeze(0),
            position_ids=position,
            attention_mask=self._seen[None, None],
            past_key_values=self._cache,
            use_cache=True,
        )
        return out.logits[0]

    def finish(self) -> None:
        self._meter.hold([self._cache])
        self._meter.retire([self._cache])

    def _forget_trees(self) -> None:
        """Give the pool back to the prompt, so that new trees do not attend over the slots of finished ones."""
        self._meter.hold([self._cache])
        grown = kv_bytes(self._cache)
        self._cache.keep(self._prompt_len)
        self._meter.cost.kv_bytes += grown - kv_bytes(self._cache)
        self._pool_len = self._prompt_len


class SequentialPaths:
    """One forward and one private cache per live path."""

    def __init__(self, model: nn.Module, prompt: LongTensor, params: SamplingParams, meter: CostMeter) -> None:
        self._model, self._meter = model, meter
        self._logits, self._prompt_cache = prefill(model, prompt, params.max_new_tokens)
        self._first_row = torch.zeros(1, dtype=torch.long, device=prompt.device)
        self._caches: list[BufferCache] = []

    def roots(self, n: int) -> Tensor:
        self._meter.retire(self._caches)
        self._caches = [self._prompt_cache.rows(self._first_row) for _ in range(n)]
        return self._logits.expand(n, -1)

    def step(self, parents: list[int], tokens: LongTensor) -> Tensor:
        before, self._caches = self._caches, self._branch(parents)
        self._meter.retire(cache for i, cache in enumerate(before) if i not in parents)
        logits = [
            self._model(input_ids=token.view(1, 1), past_key_values=cache, use_cache=True).logits[:, -1]
            for token, cache in zip(tokens, self._caches, strict=True)
        ]
        self._meter.hold([self._prompt_cache, *self._caches])
        return torch.cat(logits)

    def finish(self) -> None:
        self._meter.retire([self._prompt_cache, *self._caches])

    def _branch(self, parents: list[int]) -> list[BufferCache]:
        """The first child of a path takes over its cache, the others get copies; no forward has run in between."""
        taken: set[int] = set()
        caches = []
        for parent in parents:
            cache = self._caches[parent]
            caches.append(cache.rows(self._first_row) if parent in taken else cache)
            taken.add(parent)
        return caches
