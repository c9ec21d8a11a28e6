"""A KV cache with room set aside: each step writes into place instead of concatenating everything so far.

transformers' `DynamicCache` copies the whole cache at every step (`torch.cat`); with 30 steps over a 200-token
prompt that is 30 copies. Here each layer owns one buffer [rows, kv_heads, capacity, head_dim] and hands the model a
view of the filled part. The model cannot tell the difference: `keys`, `values` and the lengths mean what they do in
`DynamicLayer`.
"""

from __future__ import annotations

from torch import Tensor
from transformers import PreTrainedConfig
from transformers.cache_utils import Cache, DynamicLayer


class BufferLayer(DynamicLayer):
    """One layer's keys and values in a buffer of `capacity` positions, doubled when it is full."""

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self.capacity = capacity
        self.filled = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._buffers = [self._room(t, self.capacity) for t in (key_states, value_states)]
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        """Append [rows, kv_heads, q, head_dim].

        Returns views [rows, kv_heads, filled, head_dim] of everything so far.
        """
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start, self.filled = self.filled, self.filled + key_states.shape[-2]
        if self.filled > self.capacity:
            self._grow(start)
        for buffer, new in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, start : self.filled] = new
        self.keys, self.values = (buffer[:, :, : self.filled] for buffer in self._buffers)
        return self.keys, self.values

    def rows(self, index: Tensor) -> BufferLayer:
        """A new layer with a copy of the chosen rows (int64 [R]).

        The filled part is copied, the room behind it only set aside.
        """
        copy = BufferLayer(self.capacity)
        copy.update(self.keys[index], self.values[index])
        return copy

    def _grow(self, filled: int) -> None:
        self.capacity = max(2 * self.capacity, self.filled)
        old, self._buffers = self._buffers, [self._room(b, self.capacity) for b in self._buffers]
        for new, buffer in zip(self._buffers, old, strict=True):
            new[:, :, :filled] = buffer[:, :, :filled]

    @staticmethod
    def _room(like: Tensor, capacity: int) -> Tensor:
        rows, heads, _, width = like.shape
        return like.new_empty(rows, heads, capacity, width)


class BufferCache(Cache):
    """A transformers cache of `BufferLayer`s with room for `capacity` positions.

    ValueError for sliding-window layers.
    """

    def __init__(self, config: PreTrainedConfig, capacity: int) -> None:
        if "sliding_attention" in (getattr(config, "layer_types", None) or []):
            raise ValueError("This model has sliding-window attention, which the shared KV pool does not support yet.")
        super().__init__(layers=[BufferLayer(capacity) for _ in range(config.num_hidden_layers)])

    def rows(self, index: Tensor) -> BufferCache:
        """A new cache holding a copy of the chosen rows (int64 [R])."""
        copy = object.__new__(BufferCache)
        Cache.__init__(copy, layers=[layer.rows(index) for layer in self.layers])
        return copy
