"""The table of 4c: how many times as fast as the text a message is, and what it saves in memory."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, inference, style

EXPERIMENT = inference.EXPERIMENT
KEYS = ["arm", "batch_size"]
SAVED = ["saved_kv", "saved_kv_with_source", "saved_peak", "saved_peak_with_source"]
NAMES = {inference.RAN: "speedup", inference.RUNS: "speedup_with_source"}


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per batch size and message: speedups where the source has read the question and where it must; memory."""
    speed = inference.speedups(rows)
    data = inference.memory(rows)[[*KEYS, *SAVED]]
    for accounting, name in reversed(NAMES.items()):
        own = speed[speed.accounting == accounting].rename(columns={"low": f"{name}_low", "high": f"{name}_high"})
        data = own.rename(columns={"estimate": name})[[*KEYS, name, f"{name}_low", f"{name}_high", "n"]].merge(
            data.drop(columns="n", errors="ignore"), on=KEYS
        )
    timed = rows[rows.protocol == "latency"]
    caption = (
        "Time of the text over time of the message on the same questions (median over n batches, 95 % bootstrap "
        "interval), without the source's reading and with it; percent of the text's cache and of its peak of memory "
        f"that the message saves, without the source's own and with it. {inference.masks_sentence(timed)}"
        f"{inference.setting(timed)}{style.missing_sentence(missing)}"
    )
    return Tabled(data, caption, " ".join(map(_reading, data.itertuples())))


TABLES = {"4c_table": table}


def _reading(row: tuple) -> str:
    read = style.said(row.speedup, row.speedup_low, row.speedup_high, ".2f")
    must = style.said(row.speedup_with_source, row.speedup_with_source_low, row.speedup_with_source_high, ".2f")
    return (
        f"{row.arm}, batches of {row.batch_size}: {read} times as fast as the text where the source has read the "
        f"question, {must} where it must; {row.saved_kv:.0f} % of the target's cache saved, "
        f"{row.saved_kv_with_source:.0f} % with the source's own counted."
    )
