"""Faults that can be injected into a training, one at a time, to see what they do and what repairs it.

Most are of the published code; each is what this project does otherwise, undone:

| name | what is wrong |
|---|---|
| `hot` | 20 times the learning rate, no warm-up |
| `decay` | starts from a good bridge and goes on at 20 times the learning rate, no warm-up |
| `gate` | every cross-attention behind a gate tanh(-2): open at -0.96 where a comment said closed |
| `one_head` | cross-attention with a single head |
| `layernorm` | soft tokens through a layer norm, which takes their mean away, before they are scaled |
| `pads` | padding is attended to as if it were text, and counts in pooled questions |
| `misaligned` | labels padded on the right while inputs are padded on the left: all but the longest are off |
| `bfloat16` | weights and optimizer in bfloat16, without float32 masters |
| `leak` | the question stands beside the message in training, and the gold answer too when it is judged |

`hot` and `decay` leave clipping to the parameter `clip`, so that it can be tried as a fix.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.bridge import Bridge, Shape, match_rms
from lib.models.bridge_losses import Batch, Recipe
from lib.models.bridge_reader import IGNORED
from lib.models.bridge_training import Examples

HEAT = 20.0  # times the learning rate


class Gated(nn.Module):
    """A module behind tanh of a learned gate that starts at -2."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.gate = nn.Parameter(torch.tensor(-2.0))

    def forward(self, *args: Tensor) -> Tensor:
        return self.gate.tanh() * self.inner(*args)


class NormedReceiver(nn.Module):
    """A receiver with a layer norm in front of the scaling."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.norm = nn.LayerNorm(inner.expand.out_features)

    def forward(self, message: Tensor) -> Tensor:
        return match_rms(self.norm(self.inner.expand(message)), self.inner.target_rms)


@dataclass(frozen=True)
class Faulty:
    """Examples whose batches are changed by `spoil`."""

    examples: Examples
    spoil: Callable[[Batch], Batch]

    @property
    def lengths(self) -> np.ndarray:
        return self.examples.lengths

    def batch(self, index: np.ndarray) -> Batch:
        return self.spoil(self.examples.batch(index))


def shape(name: str, made: Shape) -> Shape:
    """The shape that a stressed bridge has."""
    return replace(made, heads=1) if name == "one_head" else made


def bridge(name: str, made: Bridge) -> Bridge:
    """The fault put into a bridge with its initial weights, in place."""
    if name == "gate" and made.shape.kind == "resampler":
        for block in made.sender.blocks:
            block.cross = Gated(block.cross)
    if name == "layernorm":
        made.receiver = NormedReceiver(made.receiver)
    return made.bfloat16() if name == "bfloat16" else made


def examples(name: str, given: Examples) -> Examples:
    """The fault put into the examples of a training."""
    spoil = {"pads": _attend_padding, "misaligned": _misalign}.get(name)
    return Faulty(given, spoil) if spoil else given


def recipe(name: str, given: Recipe) -> Recipe:
    """The fault put into a recipe."""
    if name not in ("hot", "decay"):
        return given
    return replace(given, learning_rate=HEAT * given.learning_rate, warmup=0)


def _attend_padding(batch: Batch) -> Batch:
    """As many padded positions as a batch of mixed lengths has, all of them seen: half as many again."""
    more = max(1, batch.states.shape[1] // 2)
    states = F.pad(batch.states, (0, 0, 0, more))
    seen = torch.ones(states.shape[:2], dtype=torch.bool, device=states.device)
    questions = batch.questions.masked_fill(batch.questions == IGNORED, 0)  # padding as token 0, pooled like text
    return replace(batch, states=states, mask=seen, questions=questions)


def _misalign(batch: Batch) -> Batch:
    """Inputs moved to the end of their row, labels left where they are."""
    inputs = torch.stack(
        [row.roll(int((labels == IGNORED).sum())) for row, labels in zip(batch.inputs, batch.labels, strict=True)]
    )
    return replace(batch, inputs=inputs)
