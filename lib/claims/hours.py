"""What runs took: seconds and graphics cards, beside the rows that claims about resources are decided from.

A plan's hours are about its own cards. Runs on others say nothing of them, so they count only where the cards are the
plan's; nothing is scaled from one machine to another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import pandas as pd

from lib.claims import Finding
from lib.claims.exact import counted
from lib.runs import Finished

CARD, CARDS = "H100", 4  # those of the bridge's plan
HOUR = 3600.0  # seconds
SLACK = 0.25  # of a time that a plan gives as a number of hours


def timed(rows: pd.DataFrame, done: Sequence[Finished]) -> pd.DataFrame:
    """The rows beside `run_s`, seconds that the whole run took, and `run_gpus`, the names of its cards, a tuple."""
    seconds = {run.dir.name: run.metrics["seconds"] for run in done}
    cards = {run.dir.name: _cards(run) for run in done}
    return rows.assign(run_s=rows.run.map(seconds), run_gpus=rows.run.map(cards))


def _cards(run: Finished) -> tuple[str, ...]:
    """The names of its cards; none where the run does not say."""
    try:
        return tuple(json.loads((run.dir / "env.json").read_text(encoding="utf-8"))["gpus"])
    except (OSError, ValueError, KeyError, TypeError):
        return ()


def on_cards(rows: pd.DataFrame, card: str = CARD, cards: int = CARDS) -> pd.DataFrame:
    """Rows of runs on exactly so many cards, of this name; empty where nothing is known of the machine."""
    if rows.empty or "run_gpus" not in rows:
        return rows[:0]
    return rows[[len(names) == cards and all(card in name for name in names) for names in rows.run_gpus]]


def within(rows: pd.DataFrame, low: float, high: float, what: str) -> Finding | None:
    """Whether every run, or each seed's part of it, took between `low` and `high` hours; None without a run."""
    if rows.empty:
        return None
    runs = rows.groupby("run", sort=False).agg(seconds=("run_s", "first"), seeds=("seed", "nunique"))
    hours = runs.seconds / runs.seeds / HOUR
    said = f"Runs: {len(hours)}, of {hours.min():.2g} to {hours.max():.2g} hours per seed."
    return counted(float(hours.mean()), bool(hours.between(low, high).all()), what, "hours", said, source=rows)
