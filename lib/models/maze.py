"""The arms of the maze study: transformers that read a maze and say, at every cell, which way the goal is.

| arm | what it is |
|---|---|
| `stack` | the baseline transformer: L blocks, one after another |
| `stack_params` | the same with a wider feed-forward: the parameters of `poh`, within 1 % |
| `loop` | the stack's L blocks applied R times, the maze injected anew each time |
| `poh` | PoH-HRM: the loop, with heads weighed cell by cell under a recurrent controller |
| `stack_flops` | L x R blocks: the loop's arithmetic per maze, with R times its parameters |

All see the same input (the open sides of each cell, and where the goal is) and answer with a direction for every cell,
so one forward serves every start: where a walk begins is nothing a model has to know. All are read out R times, evenly
over their depth (a stack of fewer blocks after each), and every read-out is trained; the last is the answer. The loops
can be read out more often than they were trained to.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lib.models.maze_blocks import Block, geometry, norm
from lib.models.maze_controller import FAINT, Controller
from lib.models.maze_sizes import DIRECTIONS, FEATURES, Size, read_outs, resolve


@dataclass(frozen=True)
class Trace:
    """How heads were weighed: one tensor [B, N, n_heads] per application of a block, in order; means are 1."""

    routes: list[Tensor]


class MazeModel(nn.Module):
    """What all arms share: how a maze is read and an answer given."""

    def __init__(self, size: Size, n_blocks: int) -> None:
        super().__init__()
        self.d_model = size.d_model
        self.embed = nn.Linear(FEATURES, size.d_model)
        self.blocks = nn.ModuleList(Block(size.d_model, size.n_heads, size.d_ff) for _ in range(n_blocks))
        self.norm = nn.Parameter(torch.ones(size.d_model))
        self.head = nn.Linear(size.d_model, DIRECTIONS)
        self._places: dict[tuple[int, torch.device], tuple[Tensor, Tensor]] = {}

    def forward(
        self, walls: Tensor, goal: Tensor, refinements: int | None = None, trace: Trace | None = None
    ) -> Tensor:
        """Logits [read-outs, B, N, 4] for mazes with open-side bits `walls` uint8 [B, N] and goals int64 [B].

        refinements: read-outs of a recurrent arm (default R; a stack has its own number). trace: filled with the
        weights of the heads, where the arm has some.
        """
        maze = self.embed(features(walls, goal))
        biases = [block.bias(*self._geometry(walls)) for block in self.blocks]
        states = torch.stack(self.read_outs(maze, biases, refinements, trace))
        return self.head(norm(states, self.norm)).float()

    def read_outs(
        self, maze: Tensor, biases: list[Tensor], refinements: int | None, trace: Trace | None
    ) -> list[Tensor]:
        """States [B, N, d_model] at every read-out."""
        raise NotImplementedError

    def _geometry(self, walls: Tensor) -> tuple[Tensor, Tensor]:
        key = (math.isqrt(walls.shape[1]), walls.device)
        if key not in self._places:
            self._places[key] = geometry(*key)
        return self._places[key]


class Stack(MazeModel):
    """Blocks one after another, read out `refinements` times: evenly over the depth, or after each block if fewer."""

    def __init__(self, size: Size, refinements: int) -> None:
        super().__init__(size, size.depth)
        self.exits = read_outs("stack", size, refinements)

    def read_outs(
        self, maze: Tensor, biases: list[Tensor], refinements: int | None, trace: Trace | None
    ) -> list[Tensor]:
        states = [maze]
        for block, bias in zip(self.blocks, biases, strict=True):
            states.append(block(states[-1], bias))
        return [states[depth] for depth in self.exits]


class Loop(MazeModel):
    """The same few blocks again and again, the maze added at the beginning of each refinement."""

    def __init__(self, size: Size, refinements: int) -> None:
        super().__init__(size, size.depth)
        self.refinements = refinements
        self.inject = nn.Parameter(torch.eye(size.d_model))

    def read_outs(
        self, maze: Tensor, biases: list[Tensor], refinements: int | None, trace: Trace | None
    ) -> list[Tensor]:
        injected = F.linear(maze, self.inject)
        state, states = torch.zeros_like(maze), []
        memory = self.start(maze)
        for _ in range(refinements or self.refinements):
            state = state + injected
            for number, bias in enumerate(biases):
                state, memory = self.apply_block(number, state, bias, memory, trace)
            states.append(state)
        return states

    def start(self, maze: Tensor) -> Any:
        """What is remembered between blocks besides the state: nothing here."""
        return None

    def apply_block(
        self, number: int, state: Tensor, bias: Tensor, memory: Any, trace: Trace | None
    ) -> tuple[Tensor, Any]:
        """One block on the state [B, N, d_model]; returns the new state and memory."""
        return self.blocks[number](state, bias), memory


class PointerOverHeads(Loop):
    """The loop with its heads weighed, before the output projection: by each cell, and by a controller for the maze.

    Weights are n_heads times a softmax, so that they average 1: a uniform route is plain attention.
    """

    def __init__(self, size: Size, refinements: int, T: int) -> None:
        super().__init__(size, refinements)
        self.controller = Controller(size, T)
        self.routers = nn.ParameterList(
            nn.Parameter(FAINT * torch.randn(size.n_heads, size.d_model)) for _ in self.blocks
        )

    def start(self, maze: Tensor) -> Any:
        return self.controller.start(maze)

    def apply_block(
        self, number: int, state: Tensor, bias: Tensor, memory: Any, trace: Trace | None
    ) -> tuple[Tensor, Any]:
        block = self.blocks[number]
        of_maze, memory = self.controller.tick(state, memory)
        of_cell = F.linear(norm(state, block.norm_attention), self.routers[number])
        route = block.n_heads * torch.softmax((of_cell + of_maze).float(), dim=-1)
        if trace is not None:
            trace.routes.append(route.detach())
        return block(state, bias, route.to(state.dtype)), memory


def features(walls: Tensor, goal: Tensor) -> Tensor:
    """Input [B, N, 5] float32: the four open sides of every cell and a mark on the goal."""
    sides = (walls.unsqueeze(-1) >> torch.arange(DIRECTIONS, device=walls.device, dtype=walls.dtype)) & 1
    mark = F.one_hot(goal, walls.shape[1]).unsqueeze(-1)
    return torch.cat([sides, mark], dim=-1).float()


def build(arch: str, size: Size, R: int, T: int, seed: int) -> MazeModel:
    """An untrained arm; equal seeds give equal weights. R: refinements; T: ticks of a turn of the slow module."""
    kind, size = resolve(arch, size, R)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "poh":
            return PointerOverHeads(size, R, T)
        return Loop(size, R) if kind == "loop" else Stack(size, R)
