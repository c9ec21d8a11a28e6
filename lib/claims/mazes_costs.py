"""What the plan of 3.A estimates: parameters per size, minutes per model, hours in all, memory of the largest.

The parameters are counted. Times and memory are the plan's own only where its preset has run on a graphics card, on
both of the plan's arms and all of its sizes.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from lib.claims import Claim, Finding, hours
from lib.claims.exact import TOLERANCE, counted, near
from lib.claims.mazes import EXPERIMENT
from lib.models import maze_sizes

__all__ = ["EXPERIMENT", "claims"]

ARMS = ("stack", "poh")  # the plan's baseline, and what it is compared with
SIZES = tuple(name for name, size in maze_sizes.SIZES.items() if size.target)
SETTING = {"maze_size": 16, "train": 1000, "epochs": 50, "R": 4, "T": 4}  # the plan's defaults
MINUTES, HOURS, MEMORY_GB = (5, 30), (2, 4), 8.0
NEEDS = f"runs of preset full on a graphics card: the arms {' and '.join(ARMS)} at {', '.join(SIZES)}"


def claims() -> list[Claim]:
    """Parameters of five sizes, then minutes, hours and memory of their trainings."""
    measured = partial(Claim, needs=NEEDS, every_run=True)
    return [
        *(_target(name) for name in SIZES),
        measured(
            "3a/minutes-per-model",
            "A model trains in 5 to 30 minutes, whatever its size.",
            f"{MINUTES[0]} to {MINUTES[1]} minutes at every size",
            _minutes,
        ),
        measured(
            "3a/hours-in-all",
            f"The {len(SIZES) * len(ARMS)} trainings take 2 to 4 hours on a graphics card.",
            f"{HOURS[0]} to {HOURS[1]} hours",
            _hours,
        ),
        measured(
            "3a/memory-largest",
            f"The largest model trains in {MEMORY_GB:g} GB of a graphics card's memory.",
            f"about {MEMORY_GB:g} GB, within {100 * TOLERANCE:g} %",
            _memory,
        ),
    ]


def _target(name: str) -> Claim:
    target = maze_sizes.SIZES[name].target
    text = f"At size {name}, the baseline and PoH-HRM have about {target / 1e6:g}M parameters each."
    expected = f"about {target / 1e6:g}M, within {100 * TOLERANCE:g} %"
    return Claim(f"3a/parameters-{name}", text, expected, lambda rows: _parameters(name, target))


def _parameters(name: str, target: float) -> Finding:
    found = {arm: maze_sizes.parameters(arm, maze_sizes.SIZES[name]) for arm in ARMS}
    said = ", ".join(f"{arm} {count:,}" for arm, count in found.items())
    fits = all(near(count, target) for count in found.values())
    return counted(found["stack"] / 1e6, fits, "parameters of the baseline", "million", f"{said}.")


def _trained(rows: pd.DataFrame) -> pd.DataFrame:
    """The plan's trainings on one card: size, arch, minutes (median over seeds), peak_memory_bytes; none where a model
    is missing.
    """
    part = hours.on_cards(rows, card="", cards=1)
    if part.empty:
        return part
    part = part[(part.protocol == "result") & part.arch.isin(ARMS) & part["size"].isin(SIZES)]
    part = part[(part[list(SETTING)] == list(SETTING.values())).all(axis=1)]
    complete = len(part.groupby(["size", "arch"])) == len(SIZES) * len(ARMS)
    return part.assign(minutes=part.train_s / 60) if complete else part[:0]


def _minutes(rows: pd.DataFrame) -> Finding | None:
    """At the model whose training is furthest outside, or nearest to an end of the range."""
    part = _trained(rows)
    if part.empty:
        return None
    each = part.groupby(["size", "arch"]).minutes.median()
    low, high = MINUTES
    said = f"{each.min():.2g} minutes for {' '.join(each.idxmin())}, {each.max():.2g} for {' '.join(each.idxmax())}."
    fits = bool(each.between(low, high).all())
    about = "minutes of training, median over models"
    return counted(float(each.median()), fits, about, "minutes", f"{said} {_card(part)}", part)


def _hours(rows: pd.DataFrame) -> Finding | None:
    part = _trained(rows)
    if part.empty:
        return None
    total = float(part.groupby(["size", "arch"]).minutes.median().sum() / 60)
    fits = HOURS[0] <= total <= HOURS[1]
    return counted(total, fits, "hours of all trainings on one seed, one after another", "hours", _card(part), part)


def _memory(rows: pd.DataFrame) -> Finding | None:
    part = _trained(rows)
    part = part[part["size"] == SIZES[-1]] if len(part) else part
    if part.empty or part.peak_memory_bytes.isna().all():
        return None
    peak = float(part.peak_memory_bytes.max()) / 1e9
    return counted(peak, near(peak, MEMORY_GB), "peak memory of the largest size's trainings", "GB", _card(part), part)


def _card(part: pd.DataFrame) -> str:
    return f"On {part.run_gpus.iloc[-1][0]}."
