"""Claims of 2.A: is a method of drafting faster than plain decoding, and is the output still the model's?

The plan names no speedup that it expects, so what is asked is what its comparison implies.

The acceptance rate that the plan wants reported stands beside each speedup. Requests are the replicates, each paired
with its own baseline on the same engine. Greedy output is the model's where every token is the likeliest one, ties by
rounding aside, which is counted; sampled output follows the model's law where its tokens are as surprising as the
law says, which is tested. The plan's own groups of models are decided from all runs there are.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
from scipy import stats as distributions

from lib.claims import Claim, Finding, evidence
from lib.claims.exact import counted
from lib.claims.ratios import EXPECTED, above_one
from lib.figures import Undrawable
from lib.figures import specdec as drawn
from lib.metrics import acceptance, stats
from lib.models.groups import GROUPS

EXPERIMENT = "2a_specdec"

HERE = {"ladder_1m+copyedit": ("ngram", "hybrid"), "ladder_3m": ("ngram", "eagle", "draft", "hybrid")}
SAMPLED = "ladder_1m+copyedit"  # the group of preset sampled
HEADS = ("qwen2_7b", "qwen2_72b", "llama3_8b")  # groups that the plan names a published EAGLE head for
DRAFTS = {
    "ngram": "n-gram lookups",
    "eagle": "an EAGLE head",
    "draft": "a smaller model",
    "hybrid": "n-gram lookups backed by an EAGLE head",
}
PLANNED = {"num_speculative_tokens": 5, "prompt_lookup_max": 4}  # what the plan fixes
SURPRISE = 0.05  # nats per token: a mean surprise as far as that from the law's entropy is another law's


def claims() -> list[Claim]:
    """Speed and output of the small models' methods, then those of the plan's five groups."""
    planned = {group: ("ngram", "eagle") if group in HEADS else ("ngram",) for group in GROUPS}
    here, there = ([*_speeds(of, every), *_outputs(of, every)] for of, every in ((HERE, False), (planned, True)))
    return [*here, _law(), *there]


def _speeds(methods: dict[str, tuple[str, ...]], every_run: bool) -> list[Claim]:
    return [
        Claim(
            f"2a/{method}-{group}",
            f"{group} answers a request faster with drafts from {DRAFTS[method]} than without.",
            EXPECTED,
            partial(_faster, group=group, method=method),
            f"a run of {group} with {method} and its baseline at the plan's settings, decoded greedily",
            every_run,
            figure="2a_speedup",
        )
        for group, names in methods.items()
        for method in names
    ]


def _outputs(methods: dict[str, tuple[str, ...]], every_run: bool) -> list[Claim]:
    return [
        Claim(
            f"2a/unchanged-{group}",
            f"Drafting leaves the greedy output of {group} as the model alone would write it.",
            "every token the model's likeliest, but for ties that rounding decides",
            partial(_unchanged, group=group),
            f"a run of {group} decoded greedily, whose answers the model itself has scored",
            every_run,
        )
        for group in methods
    ]


def _law() -> Claim:
    return Claim(
        f"2a/law-{SAMPLED}",
        f"With drafts and answers sampled, the answers of {SAMPLED} keep to the model's law.",
        f"tokens as surprising as the law's entropy, within {SURPRISE:g} nats per token; any difference refutes it",
        partial(_lawful, group=SAMPLED),
        f"runs of preset sampled on {SAMPLED}",
        every_run=True,
    )


def _of(rows: pd.DataFrame, group: str, protocol: str, *arms: str, greedy: bool = True) -> pd.DataFrame:
    """Rows of one group with its trained weights, of these arms (all that draft, where none is named), one request
    at a time, at the plan's settings.
    """
    if rows.empty or "protocol" not in rows:
        return rows[:0]
    part = rows[(rows.group == group) & (rows.protocol == protocol) & ~rows.dummy.astype(bool)]
    part = part[part.arm.isin(arms) if arms else part.arm != drawn.BASELINE]
    alike = {**PLANNED, "batch_size": 1}
    part = part[(part[list(alike)] == list(alike.values())).all(axis=1)]
    return part[(part.temperature == 0) == greedy]


def _faster(rows: pd.DataFrame, group: str, method: str) -> Finding | None:
    """Baseline's seconds per token over the method's, request by request, of the newest run of the method.

    For: the mean logarithm is above zero. Against: it is below what counts, by a one-sided test.
    """
    part = _of(rows, group, "latency", method, drawn.BASELINE)
    own = part[part.arm == method] if len(part) else part
    if own.empty:
        return None
    own = own[own.run == own.run.iloc[-1]]
    baseline = part[(part.arm == drawn.BASELINE) & (part.backend == own.backend.iloc[0])]
    try:
        pairs = drawn.speedups(pd.concat([own, baseline]))
    except Undrawable:  # no baseline to compare with
        return None
    found = speedup(pairs.ratio.to_numpy(float), own, f"speedup of {method} over the baseline")
    return replace(found, remark=f"{found.remark} {_acceptance(own)}")


def speedup(ratios: np.ndarray, own: pd.DataFrame, statistic: str) -> Finding:
    """Whether ratios of times [requests] have a geometric mean above 1; `own`: the rows of the method."""
    said = f"Median {np.median(ratios):.2f}×."
    return above_one(np.log2(ratios), own, f"{statistic}, geometric mean over requests", said, "request")


def _acceptance(own: pd.DataFrame) -> str:
    """What was accepted of the drafts, over all requests."""
    found = acceptance.summarise(own, ["arm"]).iloc[0]
    if np.isnan(found.acceptance_rate):
        return "Nothing was drafted."
    low, high = 100 * found.acceptance_rate_low, 100 * found.acceptance_rate_high
    return (
        f"Acceptance rate {100 * found.acceptance_rate:.1f} % ({low:.1f} to {high:.1f}), "
        f"{found.mean_acceptance_length:.2f} tokens per step."
    )


def _unchanged(rows: pd.DataFrame, group: str) -> Finding | None:
    """Share of the emitted tokens that are the target's likeliest, over all drafting methods."""
    part = _of(rows, group, "audit")
    if part.empty:
        return None
    held = part.passed.astype(bool)
    left = ", ".join(f"{row.arm} {int(row.diverged)}" for row in part.itertuples())
    said = f"{int(part.tokens.sum()):,} tokens. Of {part.requests.max():g} answers differ from the baseline's: {left}."
    if not held.all():
        said += f" Beyond rounding: {', '.join(sorted(set(part.arm[~held])))}."
    share = 100 * float(part.likeliest.sum() / part.tokens.sum())
    return counted(share, bool(held.all()), "tokens that are the model's likeliest", "% of tokens", said, part)


def _lawful(rows: pd.DataFrame, group: str) -> Finding | None:
    """Mean surprise of the emitted tokens minus the entropy of their laws, of the method furthest from zero.

    For: all methods are within SURPRISE (two one-sided tests each, the largest p-value). Against: one of them is not at
    zero (the smallest, times their number), or emitted a token that the law rules out.
    """
    part = _of(rows, group, "audit", greedy=False)
    if part.empty:
        return None
    part = part.drop_duplicates("arm", keep="last")
    error = (part.high - part.low) / (2 * distributions.norm.ppf(1 - stats.ALPHA / 2))
    z = part.difference.abs() / error
    within = distributions.norm.sf((SURPRISE - part.difference.abs()) / error)
    differs = 0.0 if part.outside_support.any() else min(1.0, len(part) * 2 * float(distributions.norm.sf(z).min()))
    worst = part.loc[part.difference.abs().idxmax()]
    finding = Finding(
        statistic=f"mean surprise minus entropy per token of {worst.arm}, of {len(part)} methods the furthest from 0",
        unit="nats per token",
        estimate=float(worst.difference),
        low=float(worst.low),
        high=float(worst.high),
        matters=SURPRISE,
        remark=", ".join(f"{row.arm} {row.difference:+.3f}" for row in part.itertuples()) + ".",
        replicate="token",
        scale="nats per token",
        together=len(part),
        **evidence(part, np.zeros(int(worst.tokens)), float(within.max()), differs),
    )
    return replace(finding, spread=float(error[worst.name]) * np.sqrt(worst.tokens))
