"""What a wire of few bits does to a message, felt already in training.

Rounding to b bits moves every number by up to half a step, and the step is the largest number of its group over the
largest code, as in the integer codecs of `lib.models.wire`. In training uniform noise of that width takes the place of
rounding, as in learned image compression (Balle et al. 2017, https://arxiv.org/abs/1611.01704): it has a gradient, and
both halves of a bridge learn to leave room for it.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

GROUP = 32  # numbers that share a step: the wire's default


def noisy(message: Tensor, bits: int, seed: int) -> Tensor:
    """Messages [B, tokens, width] with the noise of `bits` per number (2 to 8), of the same dtype.

    As they are where bits is 0. The noise is drawn on the CPU, so that a seed means the same noise everywhere.
    """
    if not bits:
        return message
    flat = message.detach().float().flatten(1)
    groups = F.pad(flat, (0, -flat.shape[1] % GROUP)).unflatten(1, (-1, GROUP))
    step = groups.abs().amax(-1, keepdim=True) / (2 ** (bits - 1) - 1)
    drawn = torch.rand(groups.shape, generator=torch.Generator().manual_seed(seed)) - 0.5
    noise = (drawn.to(groups.device) * step).flatten(1)[:, : flat.shape[1]].view_as(message)
    return message + noise.to(message.dtype)
