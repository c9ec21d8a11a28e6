"""What reading a question costs in floating-point operations, as text and as a message.

Language models are counted by `lib.metrics.cost.ModelShape`. A bridge is counted by torch's FLOP counter on the meta
device, where nothing is multiplied: so the plan's own bridge can be counted without its models. Decoding is left out:
both arms write equally many tokens, and differ only in how many keys each of these looks at.

A message saves where

    source(N) + sender(N) + receiver + target(K + a)  <  target(N + a)

with N tokens of text, K soft tokens and a tokens around them (BOS and anchor). `affordable` is the largest source(N)
for which that holds, as a share of the target's own prefill; without a bridge and with a cost per token that does not
depend on length it would be (N - K) / (N + a). Where the source has read the text anyway, source(N) is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from lib.metrics.cost import ModelShape
from lib.models import bridge
from lib.models.bridge import Shape

LENGTHS = tuple(16 * 2**i for i in range(9))  # tokens of text along a curve, 16 to 4096
PLAN_TEXT = 150  # tokens of a question, as the plan assumes
PLANNED = {64: (1024, 8, 16), 32: (768, 4, 12)}  # soft tokens: width, depth and heads of the plan's bridge


@dataclass(frozen=True)
class Costs:
    """FLOPs of reading one question."""

    text: int  # the target reads the text
    message: int  # the target reads the message
    source: int  # the source reads the text, as far as the layer whose states are taken
    sender: int
    receiver: int

    @property
    def affordable(self) -> float:
        """The largest cost of the source at which the message saves, in prefills of the text by the target."""
        return (self.text - self.message - self.sender - self.receiver) / self.text

    @property
    def ratio(self) -> float:
        """What the source costs, in prefills of the text by the target."""
        return self.source / self.text


@dataclass(frozen=True)
class Sizes:
    """The three models that take part, and how many tokens stand around a message (or a text) in the target's prompt.

    `source` ends at the layer whose states are taken.
    """

    source: ModelShape
    target: ModelShape
    shape: Shape
    around: int

    def costs(self, tokens: int) -> Costs:
        """Of a text of `tokens` tokens, as many for the source as for the target."""
        fixed, per_token, receiver = bridge_flops(self.shape)
        return Costs(
            text=prefill(self.target, tokens + self.around, logit_rows=1),
            message=prefill(self.target, self.shape.soft_tokens + self.around, logit_rows=1),
            source=prefill(self.source, tokens),
            sender=fixed + tokens * per_token,
            receiver=receiver,
        )


def prefill(model: ModelShape, tokens: int, logit_rows: int = 0) -> int:
    """FLOPs of reading `tokens` tokens at once; attention counts all pairs, as the kernels multiply them."""
    return model.flops(tokens, tokens**2, logit_rows)


def front(model: ModelShape, layers: int) -> ModelShape:
    """The first `layers` layers of a model alone."""
    return replace(model, linear=model.linear * layers // model.layers, layers=layers)


def decoder(
    parameters: int, layers: int, hidden: int, intermediate: int, heads: int, kv_heads: int, head_dim: int, vocab: int
) -> ModelShape:
    """A decoder with gated feed-forward layers (Llama, Mistral, Qwen) from the numbers in its published config."""
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    linear = layers * (attention + 3 * hidden * intermediate)
    return ModelShape(parameters, linear, hidden * vocab, layers, heads * head_dim)


# Read from the config.json of mistralai/Mistral-7B-Instruct-v0.3 and meta-llama/Llama-3.1-8B-Instruct.
MISTRAL_7B = decoder(7_248_023_552, 32, 4096, 14_336, 32, 8, 128, 32_768)
LLAMA_8B = decoder(8_030_261_248, 32, 4096, 14_336, 32, 8, 128, 128_256)


@cache
def bridge_flops(shape: Shape) -> tuple[int, int, int]:
    """FLOPs of a bridge: of the sender whatever it reads, of the sender for each token it reads, and of the receiver.

    A sender's work grows with the text in a straight line, since its own tokens are so many whatever they look at.
    """
    with torch.device("meta"):
        made = bridge.Bridge(shape, 1.0).requires_grad_(False)
        one, two = (_counted(made.message, torch.empty(1, n, shape.source_dim), torch.ones(1, n) > 0) for n in (1, 2))
        receiver = _counted(made.receive, torch.empty(1, shape.soft_tokens, shape.wire_dim))
    return 2 * one - two, two - one, receiver


def _counted(work: Callable[..., object], *given: Tensor) -> int:
    with FlopCounterMode(display=False) as counter:
        work(*given)
    return counter.get_total_flops()


def curve(sizes: Sizes, at: int) -> Iterator[dict[str, Any]]:
    """Rows along the length of the text, of which that with `at` tokens is marked `measured`."""
    for tokens in sorted({at, *LENGTHS}):
        costs = sizes.costs(tokens)
        yield {
            "text_tokens": tokens,
            "measured": tokens == at,
            "text_flops": costs.text,
            "message_flops": costs.message,
            "source_flops": costs.source,
            "bridge_flops": costs.sender + costs.receiver,
            "affordable": costs.affordable,
            "ratio": costs.ratio,
        }


def plan(soft_tokens: int) -> Sizes:
    """The plan's own pair, which reads the states of the source's last layer, with its bridge of 64 or 32 tokens."""
    width, depth, heads = PLANNED[soft_tokens]
    shape = Shape("resampler", 4096, 4096, soft_tokens, 4096, width, depth, heads)
    return Sizes(MISTRAL_7B, LLAMA_8B, shape, around=4)
