"""A maze at one refinement, or at all of them, with the share of right cells beside it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from lib.figures import maze_picture, style
from lib.tour.maze import Refined

SIZE = (8.0, 3.6)  # inches
THIS, ALL, SOLVED = "#0173b2", "#029e73", "#cc78bc"


def picture(refined: Refined, refinement: int) -> Figure:
    """The maze at a refinement (from 1) on the left, all refinements as curves on the right."""
    figure, (left, right) = style.new(*SIZE, columns=2, gridspec_kw={"width_ratios": [1, 1.25]})
    beyond = ", beyond training" if refinement > refined.trained else ""
    left.set_title(f"refinement {refinement}{beyond}: {_panel(left, refined, refinement)}")
    _curves(right, refined)
    right.axvline(refinement, color="0.3", lw=0.9, ls="--")
    return figure


def strip(refined: Refined) -> Figure:
    """The maze at every refinement, two lines of them, and the curves."""
    count = len(refined.policies)
    columns = -(-count // 2)
    figure = style.new(1.55 * columns + 3.4, 3.9)[0]
    figure.clear()
    grid = figure.add_gridspec(2, columns + 1, width_ratios=[1] * columns + [2.0])
    for number in range(1, count + 1):
        ax = figure.add_subplot(grid[divmod(number - 1, columns)])
        ax.set_title(f"{number}: {_panel(ax, refined, number)}")
    _curves(figure.add_subplot(grid[:, -1]), refined)
    return figure


def _panel(ax: Axes, refined: Refined, refinement: int) -> str:
    """Draw the maze at a refinement; what to say of it."""
    maze = refined.maze
    policy = refined.policies[refinement - 1]
    solved = maze_picture.panel(ax, maze.open[0], maze.goal[0], maze.start[0], maze.next_steps[0], policy)
    return f"{refined.right[refinement - 1]:.0%} right, {'solved' if solved else 'lost'}"


def _curves(ax: Axes, refined: Refined) -> None:
    x = np.arange(1, len(refined.policies) + 1)
    ax.axvspan(refined.trained + 0.5, x[-1] + 0.5, color="0.94", zorder=0)
    ax.plot(x, refined.right, "o-", color=THIS, label="right cells of this maze")
    ax.plot(x, refined.all_right, "s-", color=ALL, label=f"right cells of {refined.tested} test mazes")
    ax.plot(x, refined.solved, "D-", color=SOLVED, label=f"solved of {refined.tested} test mazes")
    ax.set(xlim=(0.5, x[-1] + 0.5), ylim=(0, 1.04), xlabel="refinement (grey: beyond training)")
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.legend(frameon=False, loc="lower right")
    ax.set_title(refined.name, loc="left")
