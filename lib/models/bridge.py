"""Bridges: from what a source model has read to soft tokens that a target model can read.

A bridge has two halves with the wire between them. The sender turns the source's hidden states [B, T, d_source] into a
message [B, soft_tokens, wire_dim]; the receiver expands each of its rows to a soft token [B, soft_tokens, d_target] and
scales it to the length that the target's own embeddings have. Only the message crosses, so what it costs to send is
known: soft_tokens * wire_dim numbers.

SENDERS, from the strongest to none:

* `resampler`: learned queries attend to the states (multi-head, padding masked), to each other, and pass a feed-forward
  layer, `depth` times; the layout of Flamingo's resampler (Alayrac et al. 2022, https://arxiv.org/abs/2204.14198);
* `linear`: the states cut into soft_tokens stretches, the mean of each through one matrix;
* `mean_pool`: the mean of all states through a two-layer perceptron;
* `constant`: a learned message that does not depend on the source: a tuned soft prompt, as a control.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Shape:
    """What a bridge is made of; `ffn` is the width of its feed-forward layers, 4 * bottleneck where 0."""

    kind: str
    source_dim: int
    target_dim: int
    soft_tokens: int
    wire_dim: int
    bottleneck: int
    depth: int
    heads: int
    ffn: int = 0


class Attention(nn.Module):
    """Multi-head attention of queries [B, K, b] to `seen` [B, T, b]; `mask` bool [B, T] is True where it may look."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width, bias=False)
        self.key_value = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, queries: Tensor, seen: Tensor, mask: Tensor | None = None) -> Tensor:
        q = self._split(self.query(queries))
        k, v = (self._split(part) for part in self.key_value(seen).chunk(2, dim=-1))
        found = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask[:, None, None, :])
        return self.out(found.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm: attention to the source, attention among the soft tokens, feed-forward."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.bottleneck
        self.norm_cross, self.norm_self, self.norm_ffn = (nn.LayerNorm(width) for _ in range(3))
        self.cross = Attention(width, shape.heads)
        self.among = Attention(width, shape.heads)
        inner = shape.ffn or 4 * width
        self.ffn = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, tokens: Tensor, seen: Tensor, mask: Tensor) -> Tensor:
        tokens = tokens + self.cross(self.norm_cross(tokens), seen, mask)
        normed = self.norm_self(tokens)
        tokens = tokens + self.among(normed, normed)
        return tokens + self.ffn(self.norm_ffn(tokens))


class Resampler(nn.Module):
    """Learned queries that read the states in `depth` blocks."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        width = shape.bottleneck
        self.norm_in = nn.LayerNorm(shape.source_dim)
        self.read = nn.Linear(shape.source_dim, width)
        self.queries = nn.Parameter(torch.empty(shape.soft_tokens, width))
        nn.init.orthogonal_(self.queries)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm_out = nn.LayerNorm(width)
        self.send = nn.Linear(width, shape.wire_dim)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        seen = self.read(self.norm_in(states))
        tokens = self.queries.expand(len(states), -1, -1).to(seen.dtype)
        for block in self.blocks:
            tokens = block(tokens, seen, mask)
        return self.send(self.norm_out(tokens))


class Linear(nn.Module):
    """The states cut into soft_tokens stretches of equal length; the mean of each through one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.soft_tokens = shape.soft_tokens
        self.norm_in = nn.LayerNorm(shape.source_dim)
        self.send = nn.Linear(shape.source_dim, shape.wire_dim)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.send(stretches(mask, self.soft_tokens).to(states.dtype) @ self.norm_in(states))


class MeanPool(nn.Module):
    """The mean of all states through a perceptron of `ffn` hidden units."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        inner = shape.ffn or 4 * shape.bottleneck
        self.norm_in = nn.LayerNorm(shape.source_dim)
        self.mlp = nn.Sequential(
            nn.Linear(shape.source_dim, inner), nn.GELU(), nn.Linear(inner, shape.soft_tokens * shape.wire_dim)
        )
        self.soft_tokens = shape.soft_tokens

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        mean = (stretches(mask, 1).to(states.dtype) @ self.norm_in(states)).squeeze(1)
        return self.mlp(mean).unflatten(-1, (self.soft_tokens, -1))


class Constant(nn.Module):
    """One learned message, whatever the source has read."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.learned = nn.Parameter(torch.randn(shape.soft_tokens, shape.wire_dim))

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        return self.learned.expand(len(states), -1, -1)


SENDERS: dict[str, Callable[[Shape], nn.Module]] = {
    "resampler": Resampler,
    "linear": Linear,
    "mean_pool": MeanPool,
    "constant": Constant,
}


class Receiver(nn.Module):
    """From message rows [B, K, wire_dim] to soft tokens [B, K, target_dim] of root mean square `target_rms`."""

    def __init__(self, shape: Shape, target_rms: float) -> None:
        super().__init__()
        self.expand = nn.Linear(shape.wire_dim, shape.target_dim)
        self.register_buffer("target_rms", torch.tensor(target_rms))

    def forward(self, message: Tensor) -> Tensor:
        return match_rms(self.expand(message), self.target_rms)


class Bridge(nn.Module):
    """A sender and a receiver; `forward` is the way through both, without a wire that rounds."""

    def __init__(self, shape: Shape, target_rms: float) -> None:
        super().__init__()
        self.shape = shape
        self.sender = SENDERS[shape.kind](shape)
        self.receiver = Receiver(shape, target_rms)

    def message(self, states: Tensor, mask: Tensor) -> Tensor:
        """What is sent, [B, soft_tokens, wire_dim], from states [B, T, d_source] of any float type and their mask
        (bool [B, T])."""
        return self.sender(states.to(next(self.parameters()).dtype), mask)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Soft tokens [B, soft_tokens, d_target]."""
        return self.receiver(self.message(states, mask))

    def receive(self, message: Tensor) -> Tensor:
        """Soft tokens [B, soft_tokens, d_target] of a message that crossed the wire as floats of any kind."""
        return self.receiver(message.to(next(self.parameters()).dtype))

    @property
    def parameters_count(self) -> int:
        """Trained parameters."""
        return sum(p.numel() for p in self.parameters() if p.requires_grad)

    @property
    def fingerprint(self) -> int:
        """Tells this bridge from others by its shape and weights: 32 bits, for the header of what it sends."""
        found = zlib.crc32(repr(self.shape).encode())
        for name, tensor in self.state_dict().items():
            found = zlib.crc32(name.encode() + tensor.detach().float().cpu().numpy().tobytes(), found)
        return found


def build(shape: Shape, target_rms: float, seed: int) -> Bridge:
    """A bridge with random weights that depend on the seed and the shape alone.

    Raises ValueError for an unknown kind and where `heads` do not divide `bottleneck`.
    """
    if shape.kind not in SENDERS:
        raise ValueError(f"There is no bridge {shape.kind!r}: use one of {', '.join(SENDERS)}.")
    if shape.bottleneck % shape.heads:
        raise ValueError(f"{shape.heads} heads do not divide a bottleneck of {shape.bottleneck}: choose a divisor.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Bridge(shape, target_rms)


def match_rms(soft: Tensor, rms: Tensor | float) -> Tensor:
    """Each vector of `soft` [..., d] scaled, without moving its mean, to the root mean square `rms`."""
    return soft * (rms * torch.rsqrt(soft.float().square().mean(-1, keepdim=True) + 1e-12)).to(soft.dtype)


def stretches(mask: Tensor, count: int) -> Tensor:
    """Weights [B, count, T] of the means over `count` equal stretches of each row's True positions (bool [B, T]).

    A row shorter than `count` gives some positions to several stretches, so that none is empty.
    """
    length = mask.sum(-1, keepdim=True)  # [B, 1]
    index = mask.cumsum(-1) - 1  # position among the True ones
    edges = torch.arange(count + 1, device=mask.device) * length / count  # [B, count + 1]
    low = edges[:, :-1].floor().unsqueeze(-1)
    high = edges[:, 1:].ceil().unsqueeze(-1)
    inside = (index.unsqueeze(1) >= low) & (index.unsqueeze(1) < high) & mask.unsqueeze(1)
    return inside / inside.sum(-1, keepdim=True).clamp(min=1)
