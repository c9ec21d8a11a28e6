"""What a wire of few bits does to a message, felt already in training.

A message is rounded as the integer codecs of `lib.models.wire` round it: groups of GROUP consecutive numbers share a
scale, the largest of them over the largest code. The gradient passes as if nothing had been rounded (the
straight-through estimator, Bengio et al. 2013, https://arxiv.org/abs/1308.3432), so both halves of a bridge learn to
live with what the wire takes away.
"""

import torch.nn.functional as F
from torch import Tensor

GROUP = 32  # the wire's default


def rounded(message: Tensor, bits: int) -> Tensor:
    """Messages [B, tokens, width] after `bits` per number (2 to 8), of the same dtype; as they are where bits is 0."""
    if not bits:
        return message
    largest = 2 ** (bits - 1) - 1
    flat = message.detach().float().flatten(1)
    groups = F.pad(flat, (0, -flat.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    scale = groups.abs().amax(-1, keepdim=True).clamp(min=1e-12) / largest
    codes = (groups / scale).round().clamp(-largest, largest)
    kept = (codes * scale).flatten(1)[:, : flat.shape[1]].view_as(message)
    return message + (kept - message.detach()).to(message.dtype)
