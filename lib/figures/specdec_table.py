"""The table of 2a: what each way of drafting buys each model, how much is accepted, and whether the output stayed."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, specdec, style
from lib.metrics import acceptance

EXPERIMENT = specdec.EXPERIMENT
KEYS = ["model", "backend", "arm"]
RATIOS = ["tokens_per_forward", "mean_acceptance_length", "acceptance_rate"]


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per model, backend and method, over all kinds of requests."""
    latency = specdec.protocol(rows, "latency", "single requests")
    pairs = specdec.speedups(latency)
    speed = specdec.summarise(pairs).rename(columns={"estimate": "speedup"})
    drafted = latency[(latency.arm != specdec.BASELINE) & latency.steps.notna()]
    accepted = acceptance.summarise(drafted, KEYS)[[*KEYS, *RATIOS]]
    equal = drafted.astype({"token_equal": float}).groupby(KEYS).token_equal.mean().rename("equal").reset_index()
    data = speed.merge(accepted, on=KEYS, how="left").merge(equal, on=KEYS, how="left")
    columns = ["model", "parameters", "backend", "arm", "speedup", "low", "high", "n", *RATIOS, "equal"]
    caption = (
        "Speedup over decoding without drafts (baseline's seconds per token over the method's, median over n requests, "
        "95 % bootstrap interval), acceptance pooled over requests, and the share of answers that are the baseline's, "
        f"token by token. {specdec.setting(latency, pairs)}{style.missing_sentence(missing)}"
    )
    return Tabled(data[columns], caption, _reading(data))


TABLES = {"2a_table": table}


def _reading(data: pd.DataFrame) -> str:
    return " ".join(
        f"{specdec.name(model)} ({backend}): {'; '.join(map(_said, own.itertuples()))} times the baseline's speed."
        for (model, backend), own in data.groupby(["model", "backend"], sort=False)
    )


def _said(row: tuple) -> str:
    return f"{row.arm} {style.said(row.speedup, row.low, row.high, '.2f')}"
