"""Claims of 4.C: the plan's "real-world speedup and memory savings" of a message over the text.

The plan names no numbers, so what is asked is whether there is a saving at all: in the time per question at the
smallest batch, without a link, and in the cache at the end of the answer, each with and without what the source does.
The message is the largest one of a run. Questions (batches, where the smallest batch holds several) are the replicates.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from lib.claims import Claim, Finding, evidence, percent
from lib.claims.bridge_select import HERE, PLAN, Scale
from lib.figures import inference as drawn
from lib.metrics import stats

EXPERIMENT = "4c_inference"


def claims() -> list[Claim]:
    """Time and memory, with and without the source, of the pair trained here and of the plan's."""
    return [claim for scale in (HERE, PLAN) for claim in _of(scale)]


def _of(scale: Scale) -> list[Claim]:
    sooner = "A question is answered sooner from a message than from the text"
    smaller = "A message leaves the target a smaller cache at the end of the answer than the text does"
    cases = (
        ("faster-source-has-read", f"{sooner}, if the source has read it anyway", "latency", _faster, False),
        ("faster", f"{sooner}, though the source must read it first", "latency", _faster, True),
        ("memory", smaller, "memory", _smaller, False),
        ("memory-with-source", f"{smaller}, even with the source's own cache counted", "memory", _smaller, True),
    )
    return [
        Claim(
            f"4c/{scale.prefix}{name}",
            f"{text}, on {scale.about}.",
            f"above zero; less than {percent(stats.FLAT):.0f} % counts as none",
            partial(test, scale=scale, with_source=with_source),
            f"a run with rows of protocol {protocol} on {scale.about}",
            every_run=scale is PLAN,
        )
        for name, text, protocol, test, with_source in cases
    ]


def _faster(rows: pd.DataFrame, scale: Scale, with_source: bool) -> Finding | None:
    """Seconds of the text over seconds of the message, question by question."""
    part = _chosen(rows, scale, "latency")
    if part.empty:
        return None
    text, message = drawn.compared(drawn.latency(part))
    ratio = drawn.seconds(text, with_source).to_numpy() / drawn.seconds(message, with_source).to_numpy()
    return _finding(np.log2(ratio), part, "mean speedup over the text")


def _smaller(rows: pd.DataFrame, scale: Scale, with_source: bool) -> Finding | None:
    """Cache bytes of the text over those of the message, question by question."""
    part = _chosen(rows, scale, "memory")
    if part.empty:
        return None
    text, message = drawn.compared(part)
    held = message.kv_bytes + (message.source_kv_bytes if with_source else 0)
    return _finding(
        np.log2((text.kv_bytes / held).to_numpy(float)), part, "mean ratio of cache bytes, text over message"
    )


def _chosen(rows: pd.DataFrame, scale: Scale, protocol: str) -> pd.DataFrame:
    """Rows of the newest run on the scale's pair: the text and the largest message, at the smallest batch."""
    if rows.empty:
        return rows
    part = rows[rows.protocol == protocol]
    pair = part.source.str.contains(scale.source, regex=False) & part.target.str.contains(scale.target, regex=False)
    part = part[pair]
    if part.empty:
        return part
    part = part[(part.run == part.run.iloc[-1]) & (part.batch_size == part.batch_size.min())]
    return part[(part.arm == drawn.TEXT) | (part.tokens == part.tokens.max())]


def _finding(logs: np.ndarray, source: pd.DataFrame, statistic: str) -> Finding:
    """Whether log2 ratios [n] have a mean above zero, or one of less than what counts (one-sided t tests)."""
    mean, low, high = stats.t_interval(logs)
    tokens = source.tokens.max()
    return Finding(
        statistic=statistic,
        unit="×",
        estimate=float(2**mean),
        low=float(2**low),
        high=float(2**high),
        matters=stats.FLAT,
        remark=f"Message of {tokens:g} tokens, batches of {source.batch_size.min():g}.",
        replicate="question" if source.batch_size.min() == 1 else "batch",
        **evidence(source, logs, stats.inside(logs, 0.0, np.inf), stats.inside(logs, -np.inf, stats.FLAT)),
    )
