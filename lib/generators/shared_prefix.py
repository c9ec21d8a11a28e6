"""Attention of many live paths over the prompt they share and the tokens of their own, and the KV pool it reads.

Each key and value is stored once: the prompt's where they were prefilled, and every later node's in one pool, in the
order in which nodes came to be. A live path is a list of pool slots, so branching copies nothing, and a path that
ended is simply named by no list any more: a dead node costs memory and no time, and so the pool is never compacted.

A query's scores have two parts under one softmax: against the prompt, one matrix product for all its paths (its keys
are read once for all of them: bifurcated attention, arXiv 2403.08845; Hydragen, arXiv 2402.05099), and against its own
path's nodes, gathered from the pool. Grouped queries are rows of the same products, so keys are never repeated per
query head. A path's work is prompt + depth, however large the tree has grown; one mask over one big pool would make
every path pay for every node.

transformers' models run unchanged: `attention` is registered with their attention interface under `NAME`, and
whoever calls the model that way hands over the pool as the keyword `pool`.
"""

from __future__ import annotations

import torch
from torch import LongTensor, Tensor, nn
from transformers import AttentionInterface

from lib.generators.kv_cache import BufferCache

NAME = "recount_shared_prefix"


class Pool:
    """KV of B prompts of one length P and of all nodes grown from them.

    Per layer: `prompt_keys` [kv_heads * B, head_dim, P] (transposed for the product), `prompt_values` [kv_heads * B, P,
    head_dim], and `nodes` [kv_heads, capacity, 2 * head_dim], a node's key and value side by side.

    The caller says before each forward of T rows where they go and what they see: `slots` int64 [T]; `paths` int64
    [R, t], the slots of each row's nodes, its own included; `bias` float [t] or None, added to the scores of those. R
    is T, the rows ordered by prompt with equally many for each. Where prompts have different numbers of rows, `pad`
    int64 [R] names the row that fills each place, and `unpad` int64 [T] the place of each row.
    """

    def __init__(self, prompts: BufferCache, capacity: int) -> None:
        self.prompts, _, self.prompt_len, _ = prompts.layers[0].keys.shape
        self.prompt_keys = [layer.keys.permute(1, 0, 3, 2).flatten(0, 1).contiguous() for layer in prompts.layers]
        self.prompt_values = [layer.values.transpose(0, 1).flatten(0, 1).contiguous() for layer in prompts.layers]
        self.nodes = [k.new_empty(k.shape[0] // self.prompts, capacity, 2 * k.shape[1]) for k in self.prompt_keys]
        self.used = 0
        self.slots: LongTensor | None = None
        self.paths: LongTensor | None = None
        self.bias: Tensor | None = None
        self.pad: LongTensor | None = None
        self.unpad: LongTensor | None = None

    def take_prompts(self, other: Pool) -> None:
        """Copy the prompts' keys and values of another pool of the same shapes, and forget all nodes."""
        for mine, theirs in zip(
            [*self.prompt_keys, *self.prompt_values], [*other.prompt_keys, *other.prompt_values], strict=True
        ):
            mine.copy_(theirs)
        self.used = 0

    def reserve(self, rows: int) -> None:
        """Make sure that `rows` more nodes fit: a full pool doubles, which copies it once."""
        capacity = self.nodes[0].shape[1]
        if self.used + rows > capacity:
            self.nodes = [
                torch.cat([n, n.new_empty(n.shape[0], max(capacity, rows), n.shape[2])], 1) for n in self.nodes
            ]

    def longer_than(self, window: int | None) -> bool:
        """Whether a path sees more positions than an attention window holds."""
        return window is not None and self.prompt_len + self.paths.shape[1] > window

    @property
    def query_key_pairs(self) -> int:
        """Products of a query with a key in the last forward, for one head of one layer; padded rows included."""
        rows, depth = self.paths.shape
        return rows * (self.prompt_len + depth)

    def bytes_prompt(self) -> int:
        """Bytes of the prompts' keys and values."""
        return sum(t.numel() * t.element_size() for t in [*self.prompt_keys, *self.prompt_values])

    def bytes_used(self) -> int:
        """The same and those of the nodes, without the room that is only set aside."""
        return self.bytes_prompt() + self.used * sum(n.shape[0] * n.shape[2] * n.element_size() for n in self.nodes)


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    scaling: float,
    pool: Pool,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: object,
) -> tuple[Tensor, None]:
    """query [1, heads, T, head_dim], key, value [1, kv_heads, T, head_dim] of T new nodes -> [1, T, heads, head_dim].

    Stores the new nodes, then attends as `pool` says. The softmax is in float32. ValueError for what a model may ask of
    its attention and this one does not do: a window shorter than the path, capped scores, attention sinks.
    """
    if softcap is not None or s_aux is not None or pool.longer_than(sliding_window):
        raise ValueError(
            "This model has a sliding window, capped scores or sinks, which packed trees cannot follow: leave "
            "out the arms eab, tree, tree_multinomial, arithmetic and bifurcated."
        )
    i, (_, heads, _, width), kv_heads = module.layer_idx, query.shape, key.shape[1]
    pool.nodes[i].index_copy_(1, pool.slots, torch.cat([key[0], value[0]], -1))
    rows, depth = pool.paths.shape
    q = query[0].transpose(0, 1) * scaling
    if pool.pad is not None:
        q = q.index_select(0, pool.pad)
    group = heads // kv_heads
    q = q.reshape(rows, kv_heads, group, width).transpose(
        0, 1
    )  # from here on ordered by kv_head, prompt, row, query head
    q = q.reshape(kv_heads * pool.prompts, -1, width)
    to_prompt = torch.bmm(q, pool.prompt_keys[i])
    own = pool.nodes[i].index_select(1, pool.paths.flatten()).view(kv_heads * rows, depth, 2 * width)
    to_own = torch.bmm(q.reshape(kv_heads * rows, group, width), own[..., :width].transpose(1, 2))
    if pool.bias is not None:
        to_own = to_own + pool.bias
    scores = torch.cat([to_prompt, to_own.view(*to_prompt.shape[:2], depth)], -1)
    weights = scores.softmax(-1, dtype=torch.float32).to(scores.dtype)
    out = torch.bmm(weights[..., : pool.prompt_len], pool.prompt_values[i]).view(kv_heads * rows, group, width)
    own_weights = weights.view(kv_heads * rows, group, -1)[..., pool.prompt_len :]
    out = torch.baddbmm(out, own_weights, own[..., width:])
    out = out.view(kv_heads, rows, group, width).transpose(0, 1).reshape(rows, heads, width)
    if pool.unpad is not None:
        out = out.index_select(0, pool.unpad)
    return out.unsqueeze(0), None


AttentionInterface.register(NAME, attention)
