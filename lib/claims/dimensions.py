"""What a published model costs by its dimensions alone, which `lib.models.registry` has: operations, cache, cards.

Exact for the architectures named there. Nothing is loaded and nothing is measured, so no time is said anywhere.
"""

from __future__ import annotations

from lib.models import registry
from lib.models.registry import Entry

GIB = 2**30
USABLE = 0.8  # of a card's memory that weights may fill, as `Entry.gpus` has it: the rest is for caches and activations
SHARDS = (1, 2, 4, 8)  # ways to split a model's heads over cards


def kv_bytes_per_token(entry: Entry, dtype: str = "float16") -> int:
    """Keys and values of one token in all layers."""
    return 2 * entry.layers * entry.kv_heads * entry.head_dim * registry.bytes_per_parameter(dtype)


def forward_flops(entry: Entry, tokens: int) -> int:
    """Of one forward over so many tokens, logits of all of them: 2 per multiply-add of every matrix product.

    Softmax, norms, biases and rotary angles are left out, as `lib.metrics.cost.ModelShape.flops` does.
    """
    width, kv_width = entry.heads * entry.head_dim, entry.kv_heads * entry.head_dim
    layer = 2 * entry.hidden * (width + kv_width) + 3 * entry.hidden * entry.intermediate
    attention = 2 * entry.layers * width * tokens**2
    return 2 * ((entry.layers * layer + entry.hidden * entry.vocab) * tokens + attention)


def cards(entry: Entry, gigabytes: float) -> int:
    """The fewest cards of so many GB that hold the weights in float16 in `USABLE` of their memory."""
    needed = registry.gigabytes(entry.parameters, "float16") / (USABLE * gigabytes)
    return next(count for count in SHARDS if count >= needed)
