"""The arms and sizes of the maze study by name, and what an arm costs: arithmetic alone, nothing loads a model."""

import math
from dataclasses import dataclass, replace

ARCHS = ("stack", "stack_params", "loop", "poh", "stack_flops")
RECURRENT = ("loop", "poh")
FEATURES = 5  # per cell: four open sides and the goal
DIRECTIONS = 4  # north, east, south, west
REACH = 7  # cells: offsets further away share one entry of a block's table of positions
WIDEST_CONTROLLER = 64  # keeps PoH-HRM's controller below 1 % of the parameters from `medium` on


@dataclass(frozen=True)
class Size:
    """The shape that an arm is made from."""

    d_model: int
    n_heads: int
    d_ff: int
    depth: int  # blocks
    target: float | None = None  # parameters, by the published plan

    @property
    def controller(self) -> int:
        """Width of the controller's modules."""
        return min(self.d_model // 2, WIDEST_CONTROLLER)


SIZES = {
    "pico": Size(16, 4, 48, 2),  # for CPUs
    "nano": Size(32, 4, 96, 2),
    "micro": Size(48, 4, 144, 2),
    "mini": Size(64, 4, 192, 2),
    "tiny": Size(128, 4, 512, 2, 1e6),  # those of the published plan
    "small": Size(256, 4, 1024, 3, 3e6),
    "medium": Size(512, 8, 2048, 4, 10e6),
    "large": Size(768, 12, 3072, 6, 30e6),
    "xl": Size(1024, 16, 4096, 8, 100e6),
}


def resolve(arch: str, size: Size, R: int) -> tuple[str, Size]:
    """What an arm is made as: `stack`, `loop` or `poh`, and of which size; only the matched stacks change theirs."""
    if arch == "stack_flops":
        return "stack", replace(size, depth=size.depth * R)
    if arch == "stack_params":
        missing = parameters("poh", size) - parameters("stack", replace(size, d_ff=0))
        return "stack", replace(size, d_ff=round(missing / (2 * size.d_model * size.depth)))
    return arch, size


def parameters(kind: str, size: Size) -> int:
    """Trainable numbers of a `stack`, `loop` or `poh`."""
    d, h, c = size.d_model, size.n_heads, size.controller
    total = size.depth * block_parameters(size) + (FEATURES + 1) * d + d + (d + 1) * DIRECTIONS
    if kind in RECURRENT:
        total += d * d  # the injection
    if kind == "poh":
        total += d * c + c + (6 * c * c + 6 * c) + (9 * c * c + 6 * c) + c * h + size.depth * h * d
    return total


def block_parameters(size: Size) -> int:
    """Trainable numbers of one block."""
    d, h = size.d_model, size.n_heads
    return 4 * d * d + 2 * d * size.d_ff + 2 * d + h * ((2 * REACH + 1) ** 2 + 1)


def recurrent_parameters(kind: str, size: Size) -> int:
    """Those of `parameters` that are applied R times: the blocks of a loop, and of PoH-HRM also what routes them."""
    if kind not in RECURRENT:
        return 0
    once = (FEATURES + 1) * size.d_model + size.d_model + (size.d_model + 1) * DIRECTIONS + size.d_model**2
    return parameters(kind, size) - once


def read_outs(arch: str, size: Size, R: int) -> list[int]:
    """After how many applications of a block the arm `stack`, `loop` or `poh` of this size is read out.

    Recurrent arms once per refinement; stacks R times, evenly over their depth, or after each block if they have fewer.
    """
    if arch in RECURRENT:
        return [size.depth * r for r in range(1, R + 1)]
    return sorted({round(size.depth * r / R) for r in range(1, R + 1)} - {0})


def forward_flops(arch: str, size: Size, R: int, T: int, side: int) -> int:
    """Floating-point operations of the matrix products in one forward over one maze, 2 per multiply-add.

    `arch` is `stack`, `loop` or `poh` (the matched stacks are stacks of another size). Elementwise work is not counted,
    as usual (Kaplan et al. 2020, table 1, with attention's products kept); so counts torch.utils.flop_counter.
    """
    cells, d, c = side * side, size.d_model, size.controller
    block = cells * (8 * d * d + 4 * d * size.d_ff) + 4 * cells * cells * d
    applied = size.depth * (R if arch in RECURRENT else 1)
    total = applied * block + 2 * cells * d * FEATURES + len(read_outs(arch, size, R)) * 2 * cells * d * DIRECTIONS
    if arch in RECURRENT:
        total += 2 * cells * d * d  # the injection
    if arch == "poh":
        per_tick = 2 * d * c + 18 * c * c + 2 * c * size.n_heads  # read, the fast module, the route
        total += applied * (2 * cells * d * size.n_heads + per_tick) + math.ceil(applied / T) * 12 * c * c
    return total


def train_flops(forward: int, mazes: int) -> int:
    """Operations of training on so many mazes: the backward pass costs twice the forward."""
    return 3 * forward * mazes
