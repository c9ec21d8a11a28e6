"""How benchmarks report: tables of medians and the closing JSON line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pandas as pd


def by_arm_and_model(table: pd.DataFrame, column: str) -> dict[str, dict[str, float]]:
    """Medians of a column: arm -> model -> number, in the order of the rows."""
    medians = table.groupby(["arm", "model"], sort=False)[column].median()
    return {arm: medians[arm].to_dict() for arm in medians.index.unique("arm")}


def end(report: Mapping[str, Any], as_json: bool) -> None:
    """The JSON object on the last line, if it was asked for."""
    if as_json:
        print(json.dumps(report))
