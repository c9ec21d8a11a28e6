"""The live table of a sweep on a terminal, and lines now and then anywhere else."""

import sys
import time
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lib.console import PRINT_EVERY
from lib.sweep.planning import spell

MOST_LINES = 20  # cells shown at once; a cluster may run more


@dataclass(frozen=True)
class Line:
    """A cell at work: its label, where and for how long, and the newest line it printed."""

    label: str
    place: str
    newest: str


class Board:
    """Shows cells at work and how far the sweep is; `say` puts a line above that stays."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if sys.stderr.isatty() else None
        self._printed = time.monotonic()
        if self._live is not None:
            self._live.start()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text))

    def show(self, lines: list[Line], ended: int, total: int, failed: int, left: float | None) -> None:
        """Bring the table up to date; `left` is the seconds still to go, where known."""
        if self._live is not None:
            self._live.update(picture(lines, ended, total, failed, left), refresh=True)
        elif lines and time.monotonic() - self._printed >= PRINT_EVERY:
            self._printed = time.monotonic()
            for line in lines:
                self.say(f"{line.label}: {line.newest}" if line.newest else f"{line.label}: {line.place}")

    def close(self) -> None:
        """Take the table off the terminal."""
        if self._live is not None:
            self._live.stop()


def picture(lines: list[Line], ended: int, total: int, failed: int, left: float | None) -> RenderableType:
    """The table of cells at work over the bar of all cells."""
    table = Table.grid(padding=(0, 2))
    for style in ("bold", "dim", ""):
        table.add_column(style=style, no_wrap=True, overflow="ellipsis")
    for line in lines[:MOST_LINES]:
        table.add_row(line.label, line.place, line.newest)
    if len(lines) > MOST_LINES:
        table.add_row(f"and {len(lines) - MOST_LINES} more", "", "")
    bar = Table.grid(padding=(0, 2))
    for _ in range(2):
        bar.add_column(no_wrap=True)
    waiting = total - ended - len(lines)
    words = f"{ended} of {total} ended, {failed} of them failed, {waiting} waiting"
    words += "" if left is None else f", about {spell(left)} left"
    bar.add_row(ProgressBar(total=max(total, 1), completed=ended, width=30), words)
    return Group(table, bar)
