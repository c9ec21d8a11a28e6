"""Figures and tables from rows. One idea per module; nothing here loads a model or looks for a run.

A module of this package with a `FIGURES` dictionary adds figures: name -> function, together with the `EXPERIMENT`
whose measurement rows the functions take. Each is pure: `draw(rows, missing) -> Drawn`, where `missing` names the
grid cells that have no finished run and is written on the figure. `TABLES` adds tables in the same way, of functions
`(rows, missing) -> Tabled`. `python -m lib.figures` finds runs, makes all of them and saves them (`lib.paper`).
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


class Undrawable(ValueError):
    """Rows that a figure cannot be drawn from; the message is one sentence that says what to do."""


@dataclass
class Drawn:
    """A figure, the numbers plotted in it, and one paragraph that says what it shows.

    `files` (name: text) are written beside it, `copies` are further names of its PNG: what others look for by name.
    """

    figure: Figure
    data: pd.DataFrame
    caption: str
    files: Mapping[str, str] = field(default_factory=dict)
    copies: Sequence[str] = ()


@dataclass
class Tabled:
    """A table as it is read, one paragraph that says what it shows, and what came out, in numbers of the rows."""

    data: pd.DataFrame
    caption: str
    reading: str


@dataclass(frozen=True)
class Spec:
    """A figure or table that can be made from an experiment's rows."""

    name: str
    experiment: str
    draw: Callable[[pd.DataFrame, Sequence[str]], Drawn | Tabled]


def show(draw: Callable[[pd.DataFrame], Drawn], table: pd.DataFrame) -> Figure | None:
    """A figure of the rows at hand, for a notebook; says why where they have nothing for it."""
    try:
        return draw(table).figure
    except Undrawable as reason:
        print(f"No figure: {reason}")
        return None


def specs() -> dict[str, Spec]:
    """Every figure and table of the package by name."""
    modules = [importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__)]
    return {
        name: Spec(name, module.EXPERIMENT, draw)
        for module in modules
        for name, draw in (getattr(module, "FIGURES", {}) | getattr(module, "TABLES", {})).items()
    }
