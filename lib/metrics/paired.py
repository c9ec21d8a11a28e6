"""Differences between two arms of trained models, on the same seeds: what claims about arms are decided by.

A seed has its own mazes and initial weights, the same mazes for all arms, so arms are compared within a seed and seeds
are the replicates. Mazes are not: models differ by more than their test mazes do, and resampling mazes alone leaves the
seed out.

Tables are [sizes, seeds], small sizes first, with NaN where a model is missing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

Chosen = Callable[[pd.Series], list[str]]  # sizes, of the second arm's parameters by size


PROTOCOLS = ("epoch", "result", "refinement", "larger", "loops", "length")  # kinds of rows about a trained model


class Setting(NamedTuple):
    """What models that are compared have in common."""

    maze_size: int
    R: int
    T: int

    def __str__(self) -> str:
        return f"{self.maze_size} x {self.maze_size} mazes, R = {self.R}, T = {self.T}"


@dataclass(frozen=True)
class Pairs:
    """Two arms at the sizes and on the seeds that both have."""

    names: tuple[str, str]
    ours: pd.DataFrame  # percent
    theirs: pd.DataFrame  # percent
    parameters: pd.Series  # of the second arm, by size
    source: pd.DataFrame  # the rows that this was made of

    @property
    def points(self) -> pd.DataFrame:
        """The first arm's advantage in percentage points."""
        return self.ours - self.theirs


def named(*names: str) -> Chosen:
    """Sizes of these names."""
    return lambda parameters: [size for size in parameters.index if size in names]


def counted(low: float, high: float) -> Chosen:
    """Sizes with `low` to `high` parameters, both included."""
    return lambda parameters: list(parameters.index[parameters.between(low, high)])


def comparable(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """Rows of the protocol in the setting that most of them share."""
    return of_setting(rows[rows.protocol == protocol]) if len(rows) else rows


def settings(rows: pd.DataFrame) -> pd.Series:
    """How many trained models there are of each setting."""
    return (
        _trained(rows).drop_duplicates([*Setting._fields, "size", "arch", "seed"]).groupby(list(Setting._fields)).size()
    )


def setting(rows: pd.DataFrame) -> Setting:
    """The setting of the most models; of as many, that of the larger mazes."""
    counts = settings(rows)
    return Setting(*map(int, max(counts.index, key=lambda found: (counts[found], found))))


def of_setting(rows: pd.DataFrame) -> pd.DataFrame:
    """The trained models' rows of `setting`, with an index of their own."""
    rows = _trained(rows)
    if rows.empty:
        return rows
    same = [rows[name] == value for name, value in setting(rows)._asdict().items()]
    return rows[np.logical_and.reduce(same)].reset_index(drop=True)


def _trained(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows about a model that was trained."""
    return rows[rows.protocol.isin(PROTOCOLS)]


def shares(part: pd.DataFrame, arm: str, value: str = "accuracy") -> pd.DataFrame:
    """The arm's `value` in percent; of a model that was trained twice, the newest. `part`: of one protocol."""
    if part.empty:
        return pd.DataFrame()
    own = part[part.arch == arm].drop_duplicates(["size", "seed"], keep="last").sort_values("parameters", kind="stable")
    wide = 100 * own.pivot(index="size", columns="seed", values=value)
    return wide.loc[own["size"].unique()]


def pairs(
    rows: pd.DataFrame,
    arm: str,
    other: str,
    protocol: str = "result",
    value: str = "accuracy",
    chosen: Chosen | None = None,
) -> Pairs | None:
    """The two arms at the chosen sizes (default: all) that have both on some seed; None where there are none."""
    part = comparable(rows, protocol)
    ours, theirs = shares(part, arm, value), shares(part, other, value)
    both = (ours - theirs).dropna(how="all").dropna(how="all", axis=1)  # sorted by name where arms differ in sizes
    parameters = part[part.arch == other].groupby("size").parameters.first() if len(both) else pd.Series(dtype=float)
    parameters = parameters.loc[both.index].sort_values(kind="stable")
    sizes = chosen(parameters) if chosen else list(parameters.index)
    if not sizes:
        return None
    source = part[part.arch.isin((arm, other)) & part["size"].isin(sizes) & part.seed.isin(both.columns)]
    paired = both.loc[sizes].notna()
    ours, theirs = (table.reindex_like(paired).where(paired) for table in (ours, theirs))
    return Pairs((arm, other), ours, theirs, parameters.loc[sizes], source)


def balanced(points: pd.DataFrame) -> pd.DataFrame:
    """The sizes that have most seeds, on the seeds that all of these have: a mean over sizes is as noisy as its
    noisiest part, so one of few seeds is left out of it.
    """
    seeds = points.notna().sum(axis=1)
    return points[seeds == seeds.max()].dropna(axis=1)
