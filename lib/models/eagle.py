"""The EAGLE-1 head: one decoder layer that guesses the target's next feature, and so its next token.

A feature f_t is the target's hidden state behind its final norm, the vector its LM head reads. From the token that was
drawn at t + 1 and f_t the head makes g_t, its guess of f_{t+1} (Li et al. 2024, "EAGLE: Speculative Sampling Requires
Rethinking Feature Uncertainty", section 3.1):

    row t:  x = fc(embed(token_{t+1}) | f_t)  ->  attention over rows <= t  ->  MLP  ->  g_t  ->  target's LM head

Drafting goes on with g_t in place of f_{t+1}. The embedding comes first in the pair, the attention has no norm in front
and nothing is normalised behind: this is the layout that vLLM's `EagleLlamaForCausalLM` runs, so one set of weights
serves both. Embedding and LM head belong to the target and are never part of the head.

Drafting is one row at a time, where the dispatch of an operation costs more than its arithmetic. So this is plain torch
with q, k, v and gate, up in one matrix each, rotary angles from a table, and a cache that is written in place:
`lib.models.eagle_files` reads and writes the checkpoints, where they are apart.

    python -m lib.models.eagle train --model ladder-3m
    python -m lib.models.eagle convert --help
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding


@dataclass
class HeadCache:
    """Keys and values [rows, kv_heads, capacity, head_dim], and the rotary table of the positions below `capacity`.

    The table's `cosine` and `sine` [capacity, 1, head_dim] have the sign of the half turn in them.
    """

    keys: Tensor
    values: Tensor
    cosine: Tensor
    sine: Tensor

    def write(self, keys: Tensor, values: Tensor, slots: Tensor) -> None:
        """Store keys and values [B, kv_heads, q, head_dim] of the first B rows at slots [B, q]."""
        rows = torch.arange(len(slots), device=slots.device)[:, None]
        self.keys[rows, :, slots] = keys.transpose(1, 2)
        self.values[rows, :, slots] = values.transpose(1, 2)

    def append(self, keys: Tensor, values: Tensor, start: int) -> int:
        """Store keys and values [1, kv_heads, q, head_dim] from slot `start` on; returns the first slot behind them."""
        end = start + keys.shape[2]
        self.keys[:, :, start:end] = keys
        self.values[:, :, start:end] = values
        return end


class EagleHead(nn.Module):
    """The head of one target, in the target's dtype and on its device.

    Args:
        config: a Llama configuration of one layer; `attention_bias` gives o_proj a bias, and q, k, v too unless
            `qkv_bias` says otherwise; `fc_bias` gives one to fc (all off where absent).
        target: the model whose embedding and LM head are used; they are referred to, not owned.
    """

    def __init__(self, config: LlamaConfig, target: PreTrainedModel) -> None:
        super().__init__()
        self.config = config
        self._shared = (target.get_input_embeddings(), target.get_output_embeddings())  # a tuple hides them from nn
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        hidden, width, kv_width = config.hidden_size, self.heads * self.head_dim, self.kv_heads * self.head_dim
        place = {"device": target.device, "dtype": target.dtype}
        qkv_bias = getattr(config, "qkv_bias", config.attention_bias)
        self.fc = nn.Linear(2 * hidden, hidden, bias=getattr(config, "fc_bias", False), **place)
        self.qkv = nn.Linear(hidden, width + 2 * kv_width, bias=qkv_bias, **place)
        self.out = nn.Linear(width, hidden, bias=config.attention_bias, **place)
        self.norm = nn.Parameter(torch.ones(hidden, **place))
        self.gate_up = nn.Linear(hidden, 2 * config.intermediate_size, bias=False, **place)
        self.down = nn.Linear(config.intermediate_size, hidden, bias=False, **place)

    def new_cache(self, rows: int, capacity: int) -> HeadCache:
        """An empty cache for `rows` sequences of at most `capacity` tokens each."""
        weight = self.fc.weight
        shape = rows, self.kv_heads, capacity, self.head_dim
        return HeadCache(
            weight.new_zeros(shape), weight.new_zeros(shape), *self.rotary(torch.arange(capacity, device=weight.device))
        )

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and signed sine [*, 1, head_dim] of the rotary angles at integer positions [*] (Su et al. 2021)."""
        turns = LlamaRotaryEmbedding(self.config).to(positions.device)
        angles = positions[..., None, None].float() * turns.inv_freq
        sine = angles.sin() * turns.attention_scaling
        cosine = angles.cos() * turns.attention_scaling
        dtype = self.fc.weight.dtype
        return torch.cat([cosine, cosine], -1).to(dtype), torch.cat([-sine, sine], -1).to(dtype)

    def embed(self, ids: Tensor) -> Tensor:
        """The target's embeddings [..., h] of token ids [...]."""
        return self._shared[0](ids)

    def logits(self, features: Tensor) -> Tensor:
        """The target's logits [..., V] of features or guesses of features [..., h]."""
        return self._shared[1](features)

    def forward(
        self, ids: Tensor, features: Tensor, positions: Tensor, cache: HeadCache, slots: Tensor, mask: Tensor | None
    ) -> Tensor:
        """One pass over new rows, which are stored in the cache; for drafting, so without gradients.

        Args:
            ids: [B, q] int64, the token that follows each feature.
            features: [B, q, h], the target's features, or the head's own guesses of them.
            positions: [B, q] int64, of the features in their text (those of `ids`, less one).
            cache: from `new_cache`, with at least B rows, of which the first B are used.
            slots: [B, q] int64, where in the cache each row's keys and values go.
            mask: [B, 1, q, L] bool, the slots below L that each row sees (True = visible, its own included). None, for
                B = 1 only: `slots` is a run without gaps and each row sees all slots up to its own; this is cheaper.

        Returns:
            The guesses g [B, q, h] of the features that follow.
        """
        x = self.fuse(ids, features)
        query, keys, values = self.project(x, cache.cosine[positions], cache.sine[positions])
        if mask is None:
            seen = cache.append(keys, values, int(slots[0, 0]))
            mask = _causal(slots[0], seen) if slots.shape[1] > 1 else None
        else:
            cache.write(keys, values, slots)
            seen = mask.shape[-1]
        rows = len(ids)
        return self.finish(x, self._attend(query, cache.keys[:rows, :, :seen], cache.values[:rows, :, :seen], mask))

    def fuse(self, ids: Tensor, features: Tensor) -> Tensor:
        """What the layer reads [B, q, h]: fc of each token's embedding and the feature before it, in this order."""
        return self.fc(torch.cat([self.embed(ids), features], -1))

    def project(self, x: Tensor, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Turned queries [B, heads, q, d] and keys, and values [B, kv_heads, q, d], of x [B, q, h]."""
        all_heads = self.qkv(x).unflatten(-1, (-1, self.head_dim))
        turning = all_heads[:, :, : self.heads + self.kv_heads]
        turned = torch.addcmul(turning * cosine, turning.roll(self.head_dim // 2, -1), sine).transpose(1, 2)
        values = all_heads[:, :, self.heads + self.kv_heads :].transpose(1, 2)
        return turned[:, : self.heads], turned[:, self.heads :], values

    def _attend(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Attention output [B, heads, q, d]; heads that share keys are more queries of one, so none is copied."""
        rows, _, length, _ = query.shape
        group = self.heads // self.kv_heads
        grouped = query.reshape(rows, self.kv_heads, group * length, self.head_dim)
        if mask is not None:
            mask = mask.repeat(1, 1, group, 1)
        return F.scaled_dot_product_attention(grouped, keys, values, mask).reshape(query.shape)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """The rest of the layer: x [B, q, h] and attention output [B, heads, q, d] to the guesses [B, q, h]."""
        x = x + self.out(attended.transpose(1, 2).flatten(2))
        normed = F.rms_norm(x.type_as(self.norm), self.norm.shape, self.norm, self.config.rms_norm_eps)
        gate, up = self.gate_up(normed).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


def _causal(slots: Tensor, seen: int) -> Tensor:
    """Mask [1, 1, q, seen]: each of the slots [q] sees those up to its own."""
    return (torch.arange(seen, device=slots.device) <= slots[:, None])[None, None]


if __name__ == "__main__":
    from lib.models.eagle_cli import main

    main()
