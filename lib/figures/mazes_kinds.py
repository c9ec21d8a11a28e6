"""Whether the mazes of the rows have loops (run parameter braid), and what follows from it, in words.

In mazes without loops there is one way to the goal, so accuracy and optimality are the same by construction; in mazes
with loops they may differ. Rows without the column are of mazes without loops.
"""

from __future__ import annotations

import pandas as pd


def braids(part: pd.DataFrame) -> list[float]:
    """The shares of dead ends that were opened, each once, ascending."""
    return sorted({float(share) for share in part.braid.fillna(0)}) if "braid" in part else [0.0]


def looped(part: pd.DataFrame) -> bool:
    """Whether any of the mazes may have loops."""
    return braids(part)[-1] > 0


def kind(part: pd.DataFrame) -> str:
    """The mazes by name, for titles."""
    found = braids(part)
    if not looped(part):
        return "mazes without loops"
    which = "with loops" if found[0] > 0 else "with and without loops"
    return f"mazes {which} (braid {', '.join(f'{share:g}' for share in found)})"
