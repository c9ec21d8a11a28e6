"""The one transformer block that every arm of the maze study is built from, and the positions it sees by.

Pre-norm, attention with a learned relative bias in two dimensions, a squared-ReLU feed-forward (two matrices, so `d_ff`
means what it meant in the published plan; Primer, So et al. 2021). Matrices that write to the residual stream start at
zero, so a new block passes its input through.

Positions are nothing but the bias: how much a cell looks at another depends on their offset, so a model reads mazes of
any side. It starts at -1.5 times the Manhattan distance, because a maze is solved by talking to neighbours; each head
may learn to look further (`slope`) or somewhere in particular (`table`).

Norms are bias-free LayerNorms: RMSNorm is not fused on CPUs, where it made a step an eighth longer.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.maze_sizes import REACH

SLOPE = 1.5  # nats per cell; from 0 a loop solved 40 % of its mazes where it solves 92 % from here


class RelativeBias(nn.Module):
    """What is added to attention scores by the offset between two cells of a square lattice."""

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.full((n_heads,), SLOPE))
        self.table = nn.Parameter(torch.zeros((2 * REACH + 1) ** 2, n_heads))

    def forward(self, offsets: Tensor, distances: Tensor) -> Tensor:
        """Bias [n_heads, N, N] from `offsets` int64 [N, N] and `distances` float [N, N], both of `geometry`."""
        return F.embedding(offsets, self.table).permute(2, 0, 1) - self.slope[:, None, None] * distances


def geometry(side: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Entries of the bias table, int64 [N, N], and Manhattan distances, float32 [N, N], of all pairs of N = side^2
    cells.
    """
    place = torch.arange(side, device=device)
    step = place[None, :] - place[:, None]  # [from, to]
    near = step.clamp(-REACH, REACH) + REACH
    offsets = near[:, None, :, None] * (2 * REACH + 1) + near[None, :, None, :]
    distances = step.abs()[:, None, :, None] + step.abs()[None, :, None, :]
    cells = side * side
    return offsets.reshape(cells, cells), distances.reshape(cells, cells).float()


class Block(nn.Module):
    """Attention and feed-forward on a residual stream [B, N, d_model]."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.norm_attention = nn.Parameter(torch.ones(d_model))
        self.norm_feed_forward = nn.Parameter(torch.ones(d_model))
        self.qkv = nn.Parameter(torch.randn(3, d_model, d_model) / math.sqrt(d_model))  # three matrices for Muon
        self.out = nn.Parameter(torch.zeros(d_model, d_model))
        self.up = nn.Parameter(torch.randn(d_ff, d_model) / math.sqrt(d_model))
        self.down = nn.Parameter(torch.zeros(d_model, d_ff))
        self.bias = RelativeBias(n_heads)

    def forward(self, x: Tensor, bias: Tensor, route: Tensor | None = None) -> Tensor:
        """x [B, N, d_model] with `bias` [n_heads, N, N]; `route` [B, N, n_heads] weighs each head's output."""
        batch, cells, width = x.shape
        projected = F.linear(norm(x, self.norm_attention), self.qkv.flatten(0, 1))
        q, k, v = projected.view(batch, cells, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        heads = attend(q, k, v, bias).transpose(1, 2)  # [B, N, heads, d_head]
        if route is not None:
            heads = heads * route.unsqueeze(-1)
        x = x + F.linear(heads.reshape(batch, cells, width), self.out)
        return x + F.linear(F.relu(F.linear(norm(x, self.norm_feed_forward), self.up)).square(), self.down)


def norm(x: Tensor, weight: Tensor) -> Tensor:
    """LayerNorm over the last dimension, without a bias."""
    return F.layer_norm(x, weight.shape, weight)


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """softmax(q k' / sqrt(d_head) + bias) v for q, k, v [B, heads, N, d_head]."""
    if q.is_cuda:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=bias.to(q.dtype))
    # on CPUs torch's own took a third longer here, in training as without gradients
    return torch.softmax((q / math.sqrt(q.shape[-1])) @ k.transpose(-1, -2) + bias, dim=-1) @ v
