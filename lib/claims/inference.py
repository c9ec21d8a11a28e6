"""Claims of 4.C: the plan's "real-world speedup and memory savings" of a message over the text.

The plan names no numbers, so what is asked is whether there is a saving at all, each time with and without what the
source does: in the time per question at the smallest batch and in questions per second at the largest, without a link,
and in the cache at the end of the answer. The message is the largest one of a run; of several such, that of the bridge
named first, since more would count each question as often. Batches are the replicates, which of the smallest are single
questions.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from lib.claims import Claim, Finding
from lib.claims.bridge_select import HERE, PLAN, Scale
from lib.claims.ratios import EXPECTED, above_one
from lib.figures import inference as drawn

EXPERIMENT = "4c_inference"

FIGURES = {"latency": "4c_stages", "throughput": "4c_throughput", "memory": "4c_memory"}


def claims() -> list[Claim]:
    """Latency, throughput and memory, with and without the source, of the pair trained here and of the plan's."""
    return [claim for scale in (HERE, PLAN) for claim in _of(scale)]


def _of(scale: Scale) -> list[Claim]:
    sooner = "A question is answered sooner from a message than from the text"
    smaller = "A message leaves the target a smaller cache at the end of the answer than the text does"
    more = "More questions per second are answered from messages than from the text, at the largest batch"
    latency, throughput = partial(_faster, smallest=True), partial(_faster, smallest=False)
    cases = (
        ("latency-source-has-read", f"{sooner}, if the source has read it anyway", latency, False),
        ("latency", f"{sooner}, though the source must read it first", latency, True),
        ("throughput-source-has-read", f"{more}, if the source has read them anyway", throughput, False),
        ("throughput", f"{more}, though the source must read them first", throughput, True),
        ("memory", smaller, _smaller, False),
        ("memory-with-source", f"{smaller}, even with the source's own cache counted", _smaller, True),
    )
    return [
        Claim(
            f"4c/{scale.prefix}{name}",
            f"{text}, on {scale.about}.",
            EXPECTED,
            partial(test, scale=scale, with_source=with_source),
            f"a run with timed stages on {scale.about}",
            every_run=scale is PLAN,
            figure=FIGURES[name.split("-")[0]],
        )
        for name, text, test, with_source in cases
    ]


def between(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """Rows of runs between the scale's models."""
    pair = rows.source.str.contains(scale.source, regex=False) & rows.target.str.contains(scale.target, regex=False)
    return rows[pair]


def _faster(rows: pd.DataFrame, scale: Scale, with_source: bool, smallest: bool) -> Finding | None:
    """Seconds of the text over seconds of the message, batch by batch."""
    part = _chosen(rows, scale, "latency", smallest)
    if part.empty:
        return None
    text, message = drawn.compared(drawn.latency(part))
    ratio = drawn.seconds(text, with_source).to_numpy() / drawn.seconds(message, with_source).to_numpy()
    return _finding(np.log2(ratio), part, "mean speedup over the text", drawn.masks_sentence(part))


def _smaller(rows: pd.DataFrame, scale: Scale, with_source: bool) -> Finding | None:
    """Cache bytes of the text over those of the message, batch by batch of the smallest."""
    part = _chosen(rows, scale, "memory", smallest=True)
    if part.empty:
        return None
    text, message = drawn.compared(part)
    held = message.kv_bytes + (message.source_kv_bytes if with_source else 0)
    return _finding(
        np.log2((text.kv_bytes / held).to_numpy(float)), part, "mean ratio of cache bytes, text over message"
    )


def _chosen(rows: pd.DataFrame, scale: Scale, protocol: str, smallest: bool) -> pd.DataFrame:
    """Rows of the newest run on the pair: the text and one largest message, at the smallest or largest batch."""
    if rows.empty:
        return rows
    part = between(rows[rows.protocol == protocol], scale)
    if part.empty:
        return part
    part = part[part.run == part.run.iloc[-1]]
    part = part[part.batch_size == (part.batch_size.min() if smallest else part.batch_size.max())]
    largest = set(part[part.tokens == part.tokens.max()].arm)
    first = next(name for name in part.bridges.iloc[0] if name in largest)
    return part[part.arm.isin([drawn.TEXT, first])]


def _finding(logs: np.ndarray, source: pd.DataFrame, statistic: str, remark: str = "") -> Finding:
    size = source.batch_size.min()
    said = f"Message of {source.tokens.max():g} tokens, batches of {size:g}. {remark}".strip()
    return above_one(logs, source, statistic, said, "question" if size == 1 else "batch")
