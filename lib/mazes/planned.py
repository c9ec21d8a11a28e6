"""What the published plan says its five sizes hold, what its own models held, and what ours do, in parameters.

The published models are counted by formula, from the layers that `lib.bench.mazes_original` builds, but with their one
number per cell as input. Their decoder names one of N cells at every cell, so they grow with the side of the mazes;
ours answer with one of four directions and do not.
"""

from __future__ import annotations

import pandas as pd

from lib.models import maze_sizes
from lib.models.maze_sizes import Size

SIDE = 16  # the plan's mazes
POSITIONS = 512  # entries of the second table of positions in the published PoH-HRM


def planned() -> pd.DataFrame:
    """Trainable parameters by size: planned, of the published baseline and PoH-HRM on 16 x 16 mazes, and of ours."""
    rows = [
        {
            "size": name,
            "planned": int(size.target),
            "original baseline": original_baseline(size),
            "original PoH": original_poh(size),
            "stack": maze_sizes.parameters("stack", size),
            "poh": maze_sizes.parameters("poh", size),
        }
        for name, size in maze_sizes.SIZES.items()
        if size.target
    ]
    return pd.DataFrame(rows).set_index("size")


def original_baseline(size: Size) -> int:
    """The published baseline: post-norm layers with biases between embeddings and decoder."""
    d, ff = size.d_model, size.d_ff
    feed_forward = 2 * d * ff + ff + d
    return _ends(d) + size.depth * (_attention(d) + feed_forward + 4 * d)


def original_poh(size: Size) -> int:
    """The published PoH-HRM: in every block a controller and a gain per head, but no biases in the feed-forward."""
    d, ff, h = size.d_model, size.d_ff, size.n_heads
    block = _attention(d) + 2 * d * ff + 4 * d + h + _controller(d, h)
    return _ends(d) + POSITIONS * d + size.depth * block + 1  # the gain of a refinement


def _ends(d: int) -> int:
    """The wall's weight and bias, positions, two marks of two states each; and the decoder over cells."""
    cells = SIDE * SIDE
    return (cells + 6) * d + cells * (d + 1)


def _attention(d: int) -> int:
    """Four projections with biases."""
    return 4 * d * d + 4 * d


def _controller(d: int, h: int) -> int:
    """Of width c = d / 2: input, a fast GRU cell of 2c inputs, a slow one of c, two norms, the route, the mixing."""
    c = d // 2
    return (d * c + c) + (9 * c * c + 6 * c) + (6 * c * c + 6 * c) + 4 * c + (c * h + h) + c * c
