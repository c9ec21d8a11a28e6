"""Rows of finished runs, and medians of one of their columns over another.

Replicates are prompts, seeds or batches: all rows of one that share x and hue (repeats, models, sizes) are reduced to
their median first, because they are not independent. The median over replicates and its interval come after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Number
from pathlib import Path

import pandas as pd

from lib import results, runs
from lib.metrics import stats
from lib.params import EXPERIMENTS, ParameterError, nearest, schema

REPLICATES = ("prompt", "seed", "batch")  # the first of which a kind of rows has several, else the first it has
ALL = "none"  # the hue that keeps all rows together
WITHOUT = "–"  # the hue of rows that have none
MOST_PLACES = 16  # different values of a numeric x; of more, BINS groups of as many rows each are made
BINS = 8
PROTOCOL = "protocol"


@dataclass(frozen=True)
class Choice:
    """What to look at: `y` over `x`, a line per value of `hue`, of the rows of one protocol."""

    protocol: str
    x: str
    y: str
    hue: str


SUGGESTED = {  # the first kind of rows is what is shown when nothing is chosen
    "1a3_scaling": [
        Choice("fixed", "parameters", "wall_s", "arm"),
        Choice("matched", "parameters", "wall_s", "arm"),
        Choice("law", "arm", "entropy_rmse", "model"),
    ],
    "2a_specdec": [
        Choice("latency", "category", "tokens_per_s", "arm"),
        Choice("throughput", "batch_size", "tokens_per_s", "arm"),
        Choice("cost", "tokens", "seconds", "arm"),
    ],
    "3a_poh_scaling": [
        Choice("refinement", "refinement", "accuracy", "arch"),
        Choice("result", "parameters", "accuracy", "arch"),
        Choice("epoch", "epoch", "val_accuracy", "arch"),
        Choice("length", "high", "accuracy", "arch"),
        Choice("larger", "side", "accuracy", "arch"),
        Choice("loops", "parameters", "optimality", "arch"),
        Choice("reference", "arch", "accuracy", ALL),
    ],
    "4a_bridge": [
        Choice("arm", "arm", "accuracy", "checkpoint"),
        Choice("curve", "step", "val_accuracy", "label"),
        Choice("stability", "label", "degradation", "early_stopping"),
        Choice("shift", "split", "accuracy", "arm"),
        Choice("cost", "soft_tokens", "token_ratio", "task"),
    ],
    "4b_wire": [
        Choice("message", "frame_bytes", "accuracy", "codec"),
        Choice("text", "coder", "bytes", ALL),
        Choice("geometry", "geometry", "frame_bytes", "codec"),
    ],
    "4c_inference": [
        Choice("latency", "batch_size", "decode_s", "arm"),
        Choice("memory", "batch_size", "kv_bytes", "arm"),
        Choice("quality", "arm", "accuracy", ALL),
        Choice("breakeven", "text_tokens", "ratio", "arm"),
    ],
}


def experiments(runs_dir: str | Path | None = None) -> list[str]:
    """Experiments with a finished run, the one whose run is newest first; benchmarks behind the others."""
    newest = {name: done[-1].ended for name in EXPERIMENTS if (done := runs.finished(name, runs_dir))}
    return sorted(newest, key=lambda name: (name not in SUGGESTED, -newest[name].timestamp()))


def read(experiment: str, preset: str = "", runs_dir: str | Path | None = None) -> pd.DataFrame:
    """Measurement rows of an experiment's finished runs, or of those of a preset alone.

    ParameterError, one sentence, for an unknown experiment or preset, and where there is no row.
    """
    schema(experiment)
    if preset:
        return results.grid_rows(experiment, preset, runs_dir=runs_dir and Path(runs_dir))[0]
    rows = runs.load(experiment, runs_dir)
    if rows.empty:
        folder = runs.experiment_folder(experiment, runs_dir)
        raise ParameterError(
            f"There is no finished run of {experiment} in {folder}: run "
            f"'python -m lib.sweep {experiment} --preset quick' first."
        )
    return rows


def protocols(rows: pd.DataFrame) -> list[str]:
    """The kinds of rows; one without a name where they have none."""
    return list(rows[PROTOCOL].dropna().unique()) if PROTOCOL in rows else [""]


def of_protocol(rows: pd.DataFrame, protocol: str) -> pd.DataFrame:
    """The rows of a kind, with the columns that one of them has a plain value in."""
    part = rows[rows[PROTOCOL] == protocol] if protocol else rows
    return part[[name for name in part if _plain(part[name].dropna())]]


def _plain(values: pd.Series) -> bool:
    """Whether there are values, none of them a collection."""
    return len(values) > 0 and all(isinstance(value, str | Number) for value in values.head(50))


def numeric(rows: pd.DataFrame) -> list[str]:
    """Columns that a median can be taken of."""
    return [name for name in rows if all(isinstance(value, Number) for value in rows[name].dropna().head(50))]


def choose(experiment: str, rows: pd.DataFrame, protocol: str = "", x: str = "", y: str = "", hue: str = "") -> Choice:
    """A complete choice: what is empty is suggested. ParameterError for what the rows do not have."""
    found = protocols(rows)
    usual = {choice.protocol: choice for choice in SUGGESTED.get(experiment, [])}
    protocol = protocol or _first([*usual, *found], found)
    _check("protocol", protocol, found)
    part = of_protocol(rows, protocol)
    numbers = numeric(part)
    known = usual.get(protocol, Choice(protocol, "arm", "wall_s", ALL))
    choice = Choice(
        protocol,
        x or _first([known.x, "arm", *part], part),
        y or _first([known.y, *reversed(numbers)], numbers),  # what a run measured stands behind its parameters
        hue or _first([known.hue, ALL], [*part, ALL]),
    )
    _check("x", choice.x, part)
    _check("y", choice.y, numbers)
    _check("hue", choice.hue, [ALL, *part])
    return choice


def _first(names: Sequence[str], known: Iterable[str]) -> str:
    return next(name for name in names if name in list(known))


def _check(what: str, name: str, known: Iterable[str]) -> None:
    if name not in list(known):
        raise ParameterError(f"The rows have no {what} {name!r}; {nearest(name, known)}")


def replicates(rows: pd.DataFrame, choice: Choice) -> pd.DataFrame:
    """One y per replicate, x and hue: columns `x`, `hue`, `replicate`, `y`; a numeric x of many values is binned."""
    part = of_protocol(rows, choice.protocol)
    units = [name for name in REPLICATES if name in part and name not in (choice.x, choice.hue)]
    unit = next((name for name in units if part[name].nunique() > 1), units[0] if units else None)
    long = pd.DataFrame(
        {
            "x": part[choice.x],
            "hue": part[choice.hue].astype(object).fillna(WITHOUT).astype(str) if choice.hue != ALL else ALL,
            "replicate": part[unit] if unit else range(len(part)),
            "y": part[choice.y],
        }
    ).dropna()
    long["y"] = long.y.astype(float)
    if choice.x in numeric(part):
        long["x"] = _binned(long.x.astype(float))
    return long.groupby(["x", "hue", "replicate"], as_index=False, sort=False).y.median()


def _binned(x: pd.Series) -> pd.Series:
    """Values as they are, or the median of their bin where they are many."""
    if x.nunique() <= MOST_PLACES:
        return x
    place = (x.rank(method="min") - 1) * BINS // len(x)  # equal values stay together
    return x.groupby(place).transform("median")


def medians(values: pd.DataFrame) -> pd.DataFrame:
    """Median over replicates: columns hue, x, median, low, high (95 %, bootstrap; none below 6 replicates), n.

    Hues and names in the order of the rows, numbers in their own.
    """
    found = []
    for hue, line in values.groupby("hue", sort=False):
        for x, part in line.groupby("x", sort=pd.api.types.is_numeric_dtype(values.x)):
            about = stats.bootstrap(part.y.to_numpy())
            low, high = (about.low, about.high) if about.n >= stats.ENOUGH else (math.nan, math.nan)
            found.append({"hue": hue, "x": x, "median": about.estimate, "low": low, "high": high, "n": about.n})
    return pd.DataFrame(found, columns=["hue", "x", "median", "low", "high", "n"])
