"""What the bridge's plan estimates of ablation 4: what a frame adds to its numbers, and the hours of the analysis."""

from __future__ import annotations

import pandas as pd

from lib.claims import Claim, Finding, hours
from lib.claims.bridge_select import PLAN
from lib.claims.exact import TOLERANCE, counted, near
from lib.claims.wire import EXPERIMENT
from lib.claims.wire_findings import bridges
from lib.models.wire_header import CHECKSUM, Header

__all__ = ["EXPERIMENT", "claims"]

TOKENS, WIDTH, GROUP, ANCHOR = 64, 4096, 32, "Answer: "  # the plan's message; values per scale
METADATA = 16  # bytes that the plan allows for shape and type


def claims() -> list[Claim]:
    """Bytes of a header, hours of the analysis."""
    return [
        Claim(
            "4b/plan-metadata",
            f"What a message of {TOKENS} × {WIDTH} numbers says of its shape and type takes {METADATA} bytes.",
            f"about {METADATA} bytes, within {100 * TOLERANCE:g} %",
            _metadata,
            figure="4b_overhead",
        ),
        Claim(
            "4b/plan-hours",
            f"Ablation 4 takes less than an hour on {hours.CARDS} {hours.CARD}; here it is given one.",
            "less than 1 hour",
            _hours,
            f"a run of preset full on one {hours.CARD}",
            every_run=True,
        ),
    ]


def _metadata(_rows: pd.DataFrame) -> Finding:
    """Bytes of a frame around its scales, values and anchor."""
    header = Header("int8", TOKENS, WIDTH, GROUP, "fp32", bridge=0, anchor=len(ANCHOR))
    size = len(header.packed()) + CHECKSUM
    said = f"{CHECKSUM} of them are a checksum, which the plan has not."
    return counted(size, near(size, METADATA), "bytes of a frame's header and checksum", "bytes", said)


def _hours(rows: pd.DataFrame) -> Finding | None:
    return hours.within(hours.on_cards(bridges(rows, PLAN), cards=1), 0.0, 1.0, "hours per seed")
