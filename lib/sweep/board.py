"""The live table of a sweep on a terminal, and lines now and then anywhere else."""

import sys
import time
from dataclasses import dataclass

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from lib.console import PRINT_EVERY
from lib.sweep.planning import spell

MOST_LINES = 20  # cells shown at once; a cluster may run more
OTHER_LINES = 4  # of a terminal: how many more cells there are, the total, its bar, and the cursor's own
BAR = 40  # columns
MOST_OF_A_LINE = 100  # characters of what a cell printed last, where no terminal cuts it


@dataclass(frozen=True)
class Line:
    """A cell at work: its label, where and for how long, and the newest line it printed."""

    label: str
    place: str
    newest: str


class Board:
    """Shows cells at work and how far the sweep is; `say` puts a line above that stays."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        redrawn = sys.stderr.isatty() and not self._console.is_dumb_terminal
        self._live = Live(console=self._console, auto_refresh=False, transient=True) if redrawn else None
        self._printed = time.monotonic()
        if self._live is not None:
            self._live.start()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(Text(text), soft_wrap=True)  # whole, so that a path can be copied

    def show(self, lines: list[Line], ended: int, total: int, failed: int, left: float | None) -> None:
        """Bring the table up to date; `left` is the seconds still to go, where known."""
        if self._live is not None:
            most = max(1, min(MOST_LINES, self._console.height - OTHER_LINES))
            self._live.update(picture(lines, ended, total, failed, left, most), refresh=True)
        elif lines and time.monotonic() - self._printed >= PRINT_EVERY:
            self._printed = time.monotonic()
            for line in lines:
                self.say(f"{line.label}: {line.newest[:MOST_OF_A_LINE] or line.place}")

    def close(self) -> None:
        """Take the table off the terminal."""
        if self._live is not None:
            self._live.stop()


def picture(
    lines: list[Line], ended: int, total: int, failed: int, left: float | None, most: int = MOST_LINES
) -> RenderableType:
    """A line for each cell at work, at most `most`, over the number of all cells and their bar; cut at the right."""
    shown = lines[:most]
    widths = [max((len(getattr(line, name)) for line in shown), default=0) for name in ("label", "place")]
    rows = [
        Text.assemble((f"{line.label:{widths[0]}}  ", "bold"), (f"{line.place:{widths[1]}}  ", "dim"), line.newest)
        for line in shown
    ]
    if len(lines) > most:
        rows.append(Text(f"and {len(lines) - most} more"))
    words = f"{ended} of {total} ended, {failed} of them failed, {total - ended - len(lines)} waiting"
    rows.append(Text(words if left is None else f"{words}, about {spell(left)} left"))
    for row in rows:
        row.no_wrap, row.overflow = True, "ellipsis"
    return Group(*rows, ProgressBar(total=max(total, 1), completed=ended, width=BAR))
