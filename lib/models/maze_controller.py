"""PoH-HRM's controller: a small recurrent network that decides how much each attention head counts.

It ticks once for every application of a block. A fast module (GRU) moves at every tick; a slow one at every T-th, and
the fast one reads it: the two time scales of the Hierarchical Reasoning Model (arXiv 2506.21734). Both read the mean
over a maze's cells. Each tick gives one logit per head and maze; blocks add logits of their own for each cell.

The published code ran the slow module without gradients and lost the state at every call, so that T changed nothing.
Here both are trained through, and the state lives for one forward: it starts at zero with every batch of mazes.
"""

import torch
from torch import Tensor, nn

from lib.models.maze_sizes import Size

FAINT = 0.02  # standard deviation of what routes at first: heads start out almost equal


class Controller(nn.Module):
    """Two gated recurrent modules and a read-out of one logit per head."""

    def __init__(self, size: Size, T: int) -> None:
        super().__init__()
        width = size.controller
        self.T = T
        self.read = nn.Linear(size.d_model, width)
        self.slow = nn.GRUCell(width, width)
        self.fast = nn.GRUCell(2 * width, width)
        self.route = nn.Linear(width, size.n_heads, bias=False)
        nn.init.normal_(self.route.weight, std=FAINT)

    def start(self, x: Tensor) -> "State":
        """The state before the first tick, for x [B, N, d_model]."""
        zeros = x.new_zeros(x.shape[0], self.slow.hidden_size)
        return State(zeros, zeros, 0)

    def tick(self, x: Tensor, state: "State") -> tuple[Tensor, "State"]:
        """Logits [B, 1, n_heads] for this application of a block to x [B, N, d_model], and the state after it."""
        seen = self.read(x.mean(dim=1))
        slow = self.slow(seen, state.slow) if state.ticks % self.T == 0 else state.slow
        fast = self.fast(torch.cat([seen, slow], dim=-1), state.fast)
        return self.route(fast).unsqueeze(1), State(slow, fast, state.ticks + 1)


class State:
    """What a controller remembers between ticks: both modules' states [B, width], and how often it has ticked."""

    def __init__(self, slow: Tensor, fast: Tensor, ticks: int) -> None:
        self.slow, self.fast, self.ticks = slow, fast, ticks
