"""A KV cache whose rows have lengths of their own, and the attention that reads it.

In a batch, one row may keep five drafted tokens and its neighbour none. Each row therefore writes at its own slots of a
buffer set aside once, and a mask says what it sees; taking drafts back costs nothing, because slots behind a row's
length are masked now and overwritten later.

Grouped queries become rows of the same product (as in `shared_prefix`), so keys are read once per KV head and never
repeated. transformers' models run unchanged: `attention` is registered with their attention interface as `NAME`, and
the mask arrives the way any 4-D mask does.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import LongTensor, Tensor, nn
from transformers import AttentionInterface, PreTrainedConfig
from transformers.cache_utils import Cache

from lib.generators.kv_cache import BufferLayer

NAME = "recount_ragged"


class RaggedLayer(BufferLayer):
    """One layer's buffer; where new keys go is said beforehand, in `start` or `slots`."""

    start: int | None = 0  # the slot of the first new token, where it is the same in all rows
    slots: LongTensor | None = None  # int64 [rows, q], else

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Write [rows, kv_heads, q, head_dim] and return views [rows, kv_heads, filled, head_dim] of the buffers."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            if self.slots is None:
                buffer[:, :, self.start : self.start + new.shape[2]] = new
            else:
                buffer.scatter_(2, self.slots[:, None, :, None].expand_as(new), new)
        self.keys, self.values = (buffer[:, :, : self.filled] for buffer in self._buffers)
        return self.keys, self.values

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows only (int64 [R]); those that keep their place are not copied."""
        if self.is_initialized:  # rows may leave before a drafter first reads
            self._buffers = [keep_rows(buffer, rows) for buffer in self._buffers]

    def move(self, source: LongTensor, start: int) -> None:
        """Copy the slots `source` (int64 [n], rising, none below `start`) of all rows to `start`, `start` + 1, ..."""
        for buffer in self._buffers:
            buffer[:, :, start : start + len(source)] = buffer[:, :, source]

    @staticmethod
    def _room(like: Tensor, capacity: int) -> Tensor:
        """Zeros: a row reads its neighbours' lengths too, and a masked weight of 0 times a leftover NaN is NaN."""
        rows, heads, _, width = like.shape
        return like.new_zeros(rows, heads, capacity, width)


class RaggedCache(Cache):
    """A transformers cache of `RaggedLayer`s with `capacity` slots per row.

    ValueError for a model with layers that do not attend to all before them (sliding windows, linear attention).
    """

    def __init__(self, config: PreTrainedConfig, capacity: int) -> None:
        others = set(getattr(config, "layer_types", None) or []) - {"full_attention"}
        if others:
            raise ValueError(
                f"This model has layers of type {min(others)}, which the torch backend does not follow: use vllm."
            )
        super().__init__(layers=[RaggedLayer(capacity) for _ in range(config.num_hidden_layers)])

    def place(self, start: int | None, slots: LongTensor | None, filled: int) -> None:
        """Say where the next forward's tokens go: all rows at `start`, or row b's at slots[b]; `filled` bounds them."""
        for layer in self.layers:
            layer.start, layer.slots, layer.filled = start, slots, filled

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows only (int64 [R]), as `keep_rows` does."""
        for layer in self.layers:
            layer.select(rows)

    def move(self, source: LongTensor, start: int) -> None:
        """Copy the slots `source` of all rows to `start` onwards: what stays of a tree becomes its chain."""
        for layer in self.layers:
            layer.move(source, start)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """query [B, heads, q, head_dim], key, value [B, kv_heads, L, head_dim] -> [B, q, heads, head_dim].

    attention_mask: bool [B, 1, q, L], true where a query sees a key; None where all of q = L is causal, or where q is 1
    and sees everything. ValueError for what a model may ask of its attention and this one does not do.
    """
    if softcap is not None or s_aux is not None or (sliding_window is not None and key.shape[2] > sliding_window):
        raise ValueError("This model has a sliding window, capped scores or sinks, which torch drafting cannot follow.")
    (rows, heads, q, width), kv_heads = query.shape, key.shape[1]
    if attention_mask is None and q > 1:
        out = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=scaling, enable_gqa=True)
        return out.transpose(1, 2), None
    group = heads // kv_heads
    query = query.reshape(rows, kv_heads, group * q, width)
    mask = attention_mask if attention_mask is None or q == 1 else attention_mask.repeat(1, 1, group, 1)
    out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scaling)
    return out.view(rows, heads, q, width).transpose(1, 2), None


AttentionInterface.register(NAME, attention)


@contextmanager
def own_attention(model: nn.Module) -> Iterator[None]:
    """Have `model` attend through `attention` inside; ValueError for one whose attention cannot be exchanged."""
    before = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        if model.config._attn_implementation != NAME:
            raise ValueError(
                f"{type(model).__name__} does not use transformers' attention interface, as the torch backend needs: "
                "use backend=transformers or vllm."
            )
        yield
    finally:
        model.set_attn_implementation(before)


def seen(positions: LongTensor, filled: int) -> Tensor:
    """The mask of chains: bool [B, 1, q, filled], true for slots up to the query's own (positions int64 [B, q])."""
    return torch.arange(filled, device=positions.device) <= positions[:, None, :, None]


def keep_rows(buffer: Tensor, rows: np.ndarray) -> Tensor:
    """The chosen rows (int64 [R]) of a buffer [B, ...] as a view of it; only rows that change place are copied."""
    moved = np.flatnonzero(rows != np.arange(len(rows)))
    if moved.size:
        to, source = (torch.from_numpy(index).to(buffer.device) for index in (moved, rows[moved]))
        buffer[to] = buffer[source]
    return buffer[: len(rows)]
