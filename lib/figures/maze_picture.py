"""A maze as people draw one, with what a model says of it: for notebooks, not for the paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from lib.figures import style
from lib.metrics import mazes

ARROWS = np.array([(0, -0.3), (0.3, 0), (0, 0.3), (-0.3, 0)])  # north, east, south, west; y points down
RIGHT, WRONG = "#0173b2", "#d55e00"  # of the colour-blind palette; wrong cells have a cross besides
PANEL = 1.6  # inches


def refining(
    open: np.ndarray, goal: int, start: int, next_steps: np.ndarray, policies: np.ndarray, titles: Sequence[str]
) -> Figure:
    """One maze (open, next_steps: uint8 [N]) under policies [P, N]: arrows, wrong ones crossed, and the walk."""
    figure, axes = style.new(PANEL * len(policies), PANEL + 0.25, columns=len(policies))
    for ax, policy, title in zip(axes, policies, titles, strict=True):
        solved = panel(ax, open, goal, start, next_steps, policy)
        ax.set_title(f"{title}: {'solved' if solved else 'lost'}", fontsize=7)
    return figure


def panel(ax: Axes, open: np.ndarray, goal: int, start: int, next_steps: np.ndarray, policy: np.ndarray) -> bool:
    """Draw one maze under one policy, arguments as for `refining`; whether its walk arrives."""
    side = int(len(open) ** 0.5)
    _walls(ax, open, side)
    _arrows(ax, policy, next_steps, goal, side)
    path = np.array(mazes.path(policy, open, start, goal))
    ax.plot(path % side, path // side, color="0.6", lw=3, zorder=1, solid_capstyle="round")
    ax.plot(start % side, start // side, "o", color="0.2", ms=5, zorder=3)
    ax.plot(goal % side, goal // side, "*", color="#de8f05", ms=9, zorder=3)
    return bool(path[-1] == goal)


def _walls(ax: Axes, open: np.ndarray, side: int) -> None:
    """Black lines between cells that are not open to each other; equal scales and nothing else."""
    row, column = np.divmod(np.arange(side * side), side)
    corners = np.array(
        [[(-0.5, -0.5), (0.5, -0.5)], [(0.5, -0.5), (0.5, 0.5)], [(-0.5, 0.5), (0.5, 0.5)], [(-0.5, -0.5), (-0.5, 0.5)]]
    )
    lines = [corners[d] + (column[c], row[c]) for d in range(4) for c in np.flatnonzero(~open >> d & 1)]
    ax.add_collection(LineCollection(lines, colors="black", linewidths=1.2, capstyle="round"))
    ax.set(xlim=(-0.6, side - 0.4), ylim=(side - 0.4, -0.6), aspect="equal")
    ax.set_axis_off()


def _arrows(ax: Axes, policy: np.ndarray, next_steps: np.ndarray, goal: int, side: int) -> None:
    cells = np.flatnonzero(np.arange(side * side) != goal)
    right = (next_steps[cells] >> policy[cells] & 1).astype(bool)
    x, y = cells % side, cells // side
    dx, dy = ARROWS[policy[cells]].T
    colours = np.where(right, RIGHT, WRONG)
    ax.quiver(
        x - dx, y - dy, 2 * dx, 2 * dy, color=colours, angles="xy", scale_units="xy", scale=1, width=0.012, zorder=2
    )
    ax.plot(x[~right], y[~right], "x", color=WRONG, ms=4, zorder=3)
