"""What the bridge's plan estimates of ablation 5: the hours of its benchmarks."""

from __future__ import annotations

import pandas as pd

from lib.claims import Claim, Finding, hours
from lib.claims.bridge_select import PLAN
from lib.claims.inference import EXPERIMENT, between

__all__ = ["EXPERIMENT", "claims"]

HOURS = 2
LOW, HIGH = (1 - hours.SLACK) * HOURS, (1 + hours.SLACK) * HOURS


def claims() -> list[Claim]:
    """One: the whole ablation."""
    return [
        Claim(
            "4c/plan-hours",
            f"Ablation 5 takes {HOURS} hours on {hours.CARDS} {hours.CARD}; here it is given one.",
            f"{LOW:g} to {HIGH:g} hours",
            _hours,
            f"a run of preset full on one {hours.CARD}",
            every_run=True,
        )
    ]


def _hours(rows: pd.DataFrame) -> Finding | None:
    part = hours.on_cards(rows, cards=1)
    return hours.within(between(part, PLAN), LOW, HIGH, "hours per run") if len(part) else None
