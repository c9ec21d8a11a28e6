"""What the maze study is measured against: the published models, training loop and evaluation, built anew from reading.

Kept, with what it costs: `nn.TransformerEncoder` with its post-norm layers; pointer-over-heads blocks that ask
`nn.MultiheadAttention` for its weights, scale slices of what leaves the output projection, and compute two entropies at
every call; a controller per block whose state starts anew at every call, so that its period T does nothing and is left
out here, and whose slow module is never trained; learned positions added again at every refinement; an output as wide
as the maze has cells; a loss that walks along the path one cell at a time, and at each copies the logits of all mazes
still on their way; AdamW at a constant rate, clipped gradients, dropout; an evaluation of one forward per step.

Mended, because nothing could be learned otherwise: cells are given their four open sides instead of one number that was
always 0, walks obey the walls, and the gain of a refinement starts at 0.1 instead of 0, at which no block had a
gradient. Left out in its favour: the loading of batches, item by item.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.data.mazes import Mazes
from lib.metrics.mazes import bfs_policy
from lib.models.maze_sizes import DIRECTIONS, Size

DROPOUT = 0.1
LEARNING_RATE = 1e-3
CLIP = 1.0
TEMPERATURE = 2.0  # of the routing; was meant to fall and never did
POSITIONS = 512  # entries of the second table of positions
GAIN = 0.1  # of a refinement at the start


class Controller(nn.Module):
    """One weight per head and maze, from the mean over its cells; both recurrent modules start from nothing."""

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        width = d_model // 2
        self.read = nn.Linear(d_model, width)
        self.slow, self.fast = nn.GRUCell(width, width), nn.GRUCell(2 * width, width)
        self.norm_slow, self.norm_fast = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Linear(width, width, bias=False)
        self.route = nn.Linear(width, n_heads)

    def forward(self, x: Tensor) -> Tensor:
        """Weights [B, 1, n_heads], which sum to 1, for x [B, N, d_model]."""
        seen = self.read(x.mean(dim=1))
        nothing = torch.zeros_like(seen)
        with torch.no_grad():
            slow = self.norm_slow(self.slow(seen, nothing))
        fast = self.norm_fast(self.fast(torch.cat([seen, slow], dim=-1), nothing))
        return F.softmax(self.route(fast + self.mix(slow)) / TEMPERATURE, dim=-1).unsqueeze(1)


class RoutedBlock(nn.Module):
    """A pre-norm layer whose attention output is scaled slice by slice."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(size.d_model, size.n_heads, dropout=DROPOUT, batch_first=True)
        self.up = nn.Linear(size.d_model, size.d_ff, bias=False)
        self.down = nn.Linear(size.d_ff, size.d_model, bias=False)
        self.norm_attention, self.norm_feed_forward = nn.LayerNorm(size.d_model), nn.LayerNorm(size.d_model)
        self.dropout = nn.Dropout(DROPOUT)
        self.controller = Controller(size.d_model, size.n_heads)
        self.gain = nn.Parameter(torch.ones(size.n_heads))
        self.entropies = 0.0, 0.0  # of the routing and of the attention, nats, at the last call

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm_attention(x)
        out, weights = self.attention(y, y, y, need_weights=True, average_attn_weights=False)
        route = self.controller(y).expand(-1, x.shape[1], -1)
        slices = out.unflatten(-1, (len(self.gain), -1)) * self.gain.unsqueeze(-1) * route.unsqueeze(-1)
        x = x + self.dropout(slices.flatten(-2))
        self.entropies = entropy(route), entropy(weights)
        hidden = self.dropout(F.relu(self.up(self.norm_feed_forward(x))))
        return x + self.dropout(self.down(hidden))


@torch.no_grad()
def entropy(shares: Tensor) -> float:
    """Mean entropy of the last dimension in nats."""
    shares = shares.clamp_min(1e-12)
    return float(-(shares * shares.log()).sum(dim=-1).mean())


class Refiner(nn.Module):
    """The blocks applied R times, each time with positions added and a part of the change kept."""

    def __init__(self, size: Size, R: int) -> None:
        super().__init__()
        self.R = R
        self.blocks = nn.ModuleList(RoutedBlock(size) for _ in range(size.depth))
        self.positions = nn.Embedding(POSITIONS, size.d_model)
        self.alpha = nn.Parameter(torch.tensor([GAIN]))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.R):
            state = x + self.positions.weight[: x.shape[1]]
            for block in self.blocks:
                state = block(state)
            x = x + self.alpha * (state - x)
        return x


class Original(nn.Module):
    """`stack` or `poh` as published, for mazes of one side."""

    def __init__(self, arch: str, size: Size, side: int, R: int) -> None:
        super().__init__()
        cells, d = side * side, size.d_model
        self.walls, self.positions = nn.Linear(DIRECTIONS, d), nn.Embedding(cells, d)
        self.start, self.goal = nn.Embedding(2, d), nn.Embedding(2, d)
        self.body = Refiner(size, R) if arch == "poh" else _encoder(size)
        self.decoder = nn.Linear(d, cells)

    def forward(self, walls: Tensor, start: Tensor, goal: Tensor) -> Tensor:
        """Logits [B, N, N], which cell comes after which, for open bits uint8 [B, N] and cells int64 [B]."""
        sides = (walls.unsqueeze(-1) >> torch.arange(DIRECTIONS, dtype=walls.dtype)) & 1
        x = self.walls(sides.float()) + self.positions(torch.arange(walls.shape[1]))
        x = x + self.start(F.one_hot(start, walls.shape[1])) + self.goal(F.one_hot(goal, walls.shape[1]))
        return self.decoder(self.body(x))


def _encoder(size: Size) -> nn.TransformerEncoder:
    layer = nn.TransformerEncoderLayer(size.d_model, size.n_heads, size.d_ff, DROPOUT, batch_first=True)
    return nn.TransformerEncoder(layer, size.depth)


def paths(mazes: Mazes) -> Tensor:
    """int64 [M, cells of the longest path]: the cells from start to goal, then -1."""
    policy, offsets = bfs_policy(mazes.next_steps), np.array([-mazes.side, 1, mazes.side, -1])
    found = np.full((len(mazes), mazes.shortest.max() + 1), -1)
    cell, rows = mazes.start.astype(int), np.arange(len(mazes))
    for step in range(found.shape[1]):
        going = step <= mazes.shortest
        found[going, step] = cell[going]
        cell = np.where(cell == mazes.goal, cell, cell + offsets[policy[rows, cell]])
    return torch.from_numpy(found)


def path_loss(logits: Tensor, path: Tensor) -> Tensor:
    """Mean over places on the path of the mean cross-entropy (nats) of the next cell, over mazes that have one there.

    logits [B, N, N]; path int64 [B, L], padded with -1.
    """
    losses = []
    for here, there in zip(path.T, path.T[1:], strict=False):
        going = there >= 0
        if going.any():
            at = here[going].view(-1, 1, 1).expand(-1, 1, logits.shape[-1])
            losses.append(F.cross_entropy(logits[going].gather(1, at).squeeze(1), there[going]))
    return torch.stack(losses).mean()


class Training:
    """The published loop over mazes in memory."""

    def __init__(self, model: Original, mazes: Mazes) -> None:
        self.model, self.optimizer = model, torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE)
        self.walls = torch.from_numpy(mazes.open)
        self.start, self.goal = (torch.from_numpy(cells).long() for cells in (mazes.start, mazes.goal))
        self.path = paths(mazes)

    def step(self, index: Tensor) -> float:
        """One step on the mazes `index` (int64 [B]); returns its loss."""
        self.model.train()
        self.optimizer.zero_grad()
        logits = self.model(self.walls[index], self.start[index], self.goal[index])
        loss = path_loss(logits, self.path[index])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        return loss.item()


@torch.no_grad()
def policy(model: Original, mazes: Mazes) -> np.ndarray:
    """uint8 [M, N]: of each cell's open directions, the one to the neighbour with the largest logit; one forward."""
    start, goal = (torch.from_numpy(cells).long() for cells in (mazes.start, mazes.goal))
    logits = model.eval()(torch.from_numpy(mazes.open), start, goal).numpy()
    ways = mazes.open[..., None] >> np.arange(DIRECTIONS) & 1
    neighbours = np.arange(mazes.open.shape[1])[:, None] + np.array([-mazes.side, 1, mazes.side, -1])
    said = np.take_along_axis(logits, np.where(ways, neighbours, 0), axis=-1)
    return np.where(ways, said, -np.inf).argmax(-1).astype(np.uint8)


@torch.no_grad()
def walk(model: Original, mazes: Mazes, i: int) -> int:
    """Steps to the goal of maze i, or -1: one forward per step, from where the walk is, for at most N steps.

    Goes to the likeliest open neighbour that was not visited, or to the likeliest one where all were.
    """
    model.eval()
    walls, goal = torch.from_numpy(mazes.open[i : i + 1]), torch.tensor([int(mazes.goal[i])])
    cell, visited = int(mazes.start[i]), set()
    for step in range(mazes.open.shape[1]):
        if cell == goal.item():
            return step
        visited.add(cell)
        shares = F.softmax(model(walls, torch.tensor([cell]), goal)[0, cell], dim=-1).numpy()
        offsets = enumerate((-mazes.side, 1, mazes.side, -1))
        near = [cell + offset for d, offset in offsets if mazes.open[i, cell] >> d & 1]
        cell = max([n for n in near if n not in visited] or near, key=lambda n: shares[n])
    return mazes.open.shape[1] if cell == goal.item() else -1
