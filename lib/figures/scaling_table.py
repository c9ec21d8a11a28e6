"""The table of 1a3: what each way of sampling costs each model, and how many times as fast as `naive` it is."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, scaling, style
from lib.metrics import stats

EXPERIMENT = scaling.EXPERIMENT
COSTS = ["token_forwards", "forward_calls", "flops", "kv_bytes", "wall_s"]  # medians over prompts


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per model and arm at the same number of samples; speedups are paired by prompt."""
    fixed = rows[rows.protocol == "fixed"]
    speed = stats.summarise(stats.against(fixed)).drop(columns="protocol")
    speed = speed.rename(columns={"estimate": "speedup"})
    costs = fixed.groupby(["model", "arm"], as_index=False)[COSTS].median()
    data = speed.merge(costs, on=["model", "arm"]).sort_values(["parameters", "speedup"], ascending=[True, False])
    data.loc[data.n < stats.ENOUGH, ["low", "high"]] = float("nan")
    columns = ["model", "parameters", "arm", "speedup", "low", "high", "n", *COSTS]
    caption = (
        f"Wall-time speedup over {scaling.samples(rows)} separate generations (median over n prompts, 95 % bootstrap "
        f"interval) and what a prompt costs. {scaling.setting(fixed)}{style.missing_sentence(missing)}"
    )
    return Tabled(data[columns].reset_index(drop=True), caption, _reading(data))


TABLES = {"1a3_table": table}


def _reading(data: pd.DataFrame) -> str:
    return " ".join(
        f"{style.short_name(model)}: fastest is {own.arm.iloc[0]}, {_said(own.iloc[0])} times as fast as separate "
        f"generations{_also(own)}."
        for model, own in data.groupby("model", sort=False)
    )


def _also(own: pd.DataFrame) -> str:
    """Plain batching, and EAB in both ways, where they were run and are not the fastest."""
    others = own.iloc[1:].set_index("arm")
    known = [arm for arm in ("batched", "eab", "eab_sequential") if arm in others.index]
    return "".join(f"; {arm} {_said(others.loc[arm])}" for arm in known)


def _said(row: pd.Series) -> str:
    return style.said(row.speedup, row.low, row.high)
