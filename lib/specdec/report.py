"""What the rows of one run say, as tables to read: by kind of request, by batch size, and in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from lib import figures
from lib.figures import Drawn
from lib.metrics import acceptance, stats

BASELINE = "baseline"
AUDITED = ["requests", "tokens", "likeliest", "margin", "tolerance", "diverged", "tie"]  # greedy
AUDITED += ["nll", "entropy", "difference", "low", "high", "z", "detectable", "outside_support"]  # sampled
AUDITED += ["passed"]
RATIOS = ["tokens_per_forward", "mean_acceptance_length", "acceptance_rate"]


def speedups(latency: pd.DataFrame) -> pd.DataFrame:
    """Median over requests of the baseline's seconds per token over an arm's: arm, estimate, low, high, n.

    No rows for a run that timed no baseline, or nothing else.
    """
    pairs = stats.against(latency, BASELINE, "s_per_token")
    pairs = pairs[pairs.arm != BASELINE]
    columns = ["arm", "estimate", "low", "high", "n"]
    return stats.summarise(pairs)[columns] if len(pairs) else pd.DataFrame(columns=columns)


def by_category(latency: pd.DataFrame, arm: str) -> pd.DataFrame:
    """An arm's speed and acceptance per kind of request, from what the prompt holds least of to most, then `all`.

    Columns: requests, ms_per_token (median), speedup (median over requests; where the baseline was timed too), the
    pooled ratios of `acceptance`, and prompt_overlap (mean). Without those that nothing is known of.
    """
    pairs = stats.against(latency, BASELINE, "s_per_token")
    ratio = pairs[pairs.arm == arm].set_index("prompt").ratio if arm != BASELINE else pd.Series(dtype=float)
    own = latency[latency.arm == arm].astype({"prompt_overlap": float})
    own = own.assign(ms_per_token=1e3 * own.s_per_token, speedup=own.prompt.map(ratio))
    kinds = _by(own, "category").sort_values("prompt_overlap", kind="stable")
    whole = _by(own.assign(category="all"), "category")
    return pd.concat([kinds, whole]).dropna(axis=1, how="all")


def _by(own: pd.DataFrame, key: str) -> pd.DataFrame:
    groups = own.groupby(key)
    middle = groups[["ms_per_token", "speedup"]].median()
    counts = acceptance.summarise(own, [key]).set_index(key)[["requests", *RATIOS]]
    return counts[["requests"]].join(middle).join(counts[RATIOS]).join(groups.prompt_overlap.mean())


def by_batch(throughput: pd.DataFrame) -> pd.DataFrame | None:
    """Milliseconds per token of every arm at every batch size (medians over batches), and the speedup.

    None, which is said, where no batches were timed.
    """
    if throughput.empty:
        print("No batches were timed: batch_sizes holds none that this engine can do.")
        return None
    seconds = throughput.groupby(["batch_size", "arm"]).s_per_token.median().unstack()
    table = (1e3 * seconds).add_suffix(", ms per token")
    for arm in seconds.columns.drop(BASELINE, errors="ignore"):
        if BASELINE in seconds:
            table[f"speedup of {arm}"] = seconds[BASELINE] / seconds[arm]
    return table.round(3)


def audits(table: pd.DataFrame) -> pd.DataFrame:
    """What the audit found, an arm per row; `equal` is the share of answers that are the baseline's, token by token."""
    latency, found = (table[table.protocol == name] for name in ("latency", "audit"))
    equal = latency.astype({"token_equal": float}).groupby("arm").token_equal.mean().rename("equal")
    known = [name for name in AUDITED if name in found]
    return found.set_index("arm")[known].join(equal).dropna(axis=1, how="all").dropna(axis=0, how="all")


def draw(figure: Callable[[pd.DataFrame], Drawn], table: pd.DataFrame) -> Figure | None:
    """One of the project's figures of this run alone; says why where the run has nothing for it."""
    if not table.drafted.sum():
        print("No figure: this run drafted nothing.")
        return None
    return figures.show(figure, table)


def answer(table: pd.DataFrame, arm: str) -> str:
    """What came out, in a sentence."""
    latency, row = table[table.protocol == "latency"], table.iloc[0]
    what = f"{arm} on {row.group} ({row.backend})"
    dummy = "RANDOM WEIGHTS, cost only. " if row.dummy else ""
    for own in speedups(latency).query("arm == @arm").itertuples():
        interval = stats.Interval(own.estimate, own.low, own.high, own.n)
        return f"{dummy}{what}, times the baseline's speed: {interval}"
    rate = latency[latency.arm == arm].tokens_per_s.median()
    return f"{dummy}{what}: {rate:.0f} tokens/s (median over requests), with no baseline in this run to compare with"


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json keeps of the run."""
    latency, audit = (table[table.protocol == name] for name in ("latency", "audit"))
    tables = {
        "speedups": speedups(latency),
        "acceptance": acceptance.summarise(latency, ["arm"]),
        "by_position": acceptance.by_position(latency),
        "audit": audit[["arm", *(name for name in AUDITED if name in audit and audit[name].notna().any())]],
    }
    about = table.iloc[0][["parameters", "dummy"]].to_dict()
    return about | {n: t.to_dict("records") for n, t in tables.items()}
