"""What the plan of 1.A.3 estimates or asks to be reported beside the speedup: operations, memory, seconds saved.

Of the plan's models the operations and the size of the weights follow from their dimensions. Of models that have run,
operations were counted in their forwards, caches read off their tensors, and seconds timed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd

from lib.claims import Claim, Finding, dimensions, evidence
from lib.claims.exact import TOLERANCE, counted, near
from lib.claims.ratios import EXPECTED, above_one
from lib.claims.scaling import EXPERIMENT, PUBLISHED, QWEN
from lib.metrics import stats
from lib.models import registry

__all__ = ["EXPERIMENT", "claims"]

ARMS = ("naive", "eab_sequential")
WEIGHTS_GB = 14.0  # of the 7B model in float16, by the plan
LARGEST = QWEN[-1]
ABOUT = f"within {100 * TOLERANCE:g} %"
FLOPS = "A forward takes 2 × parameters × tokens floating-point operations"
LITTLE = 0.05  # of the mean time of separate generations: a change per doubling of less is called none


def claims() -> list[Claim]:
    """Operations of both scales, the largest model's weights, memory per sample, and seconds saved."""
    tokens = PUBLISHED["prompt_tokens"]
    own = "with trained weights and the arms naive and eab_sequential under the matched protocol"
    return [
        Claim(
            "1a3/time-saved",
            "The larger the model, the more seconds EAB as published saves on a prompt.",
            f"above zero per doubling of parameters; less than {100 * LITTLE:g} % of the mean time counts as none",
            _time_saved,
            f"two models or more {own}",
            figure="1a3_time_saved",
        ),
        Claim(
            "1a3/memory-per-sample",
            "A sample of EAB takes less key-value cache than one that is generated separately.",
            EXPECTED,
            _memory,
            f"models {own}",
        ),
        Claim(
            "1a3/flops",
            f"{FLOPS}, on the models that have run.",
            f"as many as counted in all forwards of the arm naive, {ABOUT}",
            _flops_counted,
            "models with the arm naive under the matched protocol",
        ),
        Claim(
            "1a3/flops-Qwen2.5",
            f"{FLOPS}, on the plan's four Qwen2.5 and its prompts of {tokens} tokens.",
            f"as many as their dimensions give, {ABOUT}",
            lambda rows: _flops_by_dimensions(tokens),
        ),
        Claim(
            "1a3/memory-7B",
            f"{LARGEST} takes {WEIGHTS_GB:g} GB in float16.",
            f"about {WEIGHTS_GB:g} GB, {ABOUT}",
            lambda rows: _weights(tokens),
        ),
    ]


def _pairs(rows: pd.DataFrame, value: str) -> pd.DataFrame:
    """EAB as published beside naive on every prompt: columns model, parameters, prompt, `value`, baseline, saved."""
    part = _source(rows) if len(rows) and value in rows else rows[:0]
    if part.empty or set(part.arm) != set(ARMS):
        return rows[:0]
    found = stats.against(part, value=value)
    return found[found.arm == ARMS[1]]


def _time_saved(rows: pd.DataFrame) -> Finding | None:
    """On the prompts that all models have."""
    pairs = _pairs(rows, "wall_s")
    if pairs.empty:
        return None
    saved, took = (pairs.pivot(index="parameters", columns="prompt", values=v) for v in ("saved", "baseline"))
    saved = saved.dropna(axis=1)
    if len(saved) < 2 or saved.empty:
        return None
    said = ", ".join(f"{seconds:.2g} s at {size:,}" for size, seconds in saved.mean(axis=1).items())
    found = more_saved(saved.index.to_numpy(), saved.to_numpy(), LITTLE * float(took.to_numpy().mean()), _source(rows))
    return replace(found, remark=f"Saved by parameters: {said}. Seconds are of the machine of the runs.")


def more_saved(parameters: np.ndarray, saved: np.ndarray, margin: float, source: pd.DataFrame) -> Finding:
    """Paired slope of seconds saved [models, prompts] against log2 parameters [models]; `source`: rows it rests on.

    For: it is above zero, by the two-sided t test that its interval shows. Against: below `margin`, by a one-sided one.
    """
    slope = stats.doubling_slope(parameters, saved)
    rises = stats.difference(slope.slopes) if slope.estimate > 0 else 1.0
    return Finding(
        statistic="change of the seconds saved on a prompt per doubling of parameters",
        unit="s per doubling",
        estimate=slope.estimate,
        low=slope.low,
        high=slope.high,
        matters=margin,
        scale="s per doubling",
        **evidence(source, slope.slopes, rises, stats.inside(slope.slopes, -np.inf, margin)),
    )


def _memory(rows: pd.DataFrame) -> Finding | None:
    """Bytes of cache per sample, naive over EAB, mean of the logarithms over models within a prompt."""
    pairs = _pairs(rows, "kv_bytes_per_sample")
    if pairs.empty:
        return None
    logs = np.log2(pairs.pivot(index="prompt", columns="model", values="ratio").dropna()).mean(axis=1).to_numpy()
    if not logs.size:
        return None
    each = pairs.groupby("model", sort=False)[["baseline", "kv_bytes_per_sample"]].mean()
    said = ", ".join(f"{ours:,.0f} at {model}, naive {naive:,.0f}" for model, naive, ours in each.itertuples())
    remark = f"Bytes of all caches, at their final size, over samples: {said}."
    return above_one(logs, _source(rows), "cache per sample, naive over EAB", remark)


def _source(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows.protocol == "matched") & rows.arm.isin(ARMS) & ~rows.dummy.astype(bool)]


def _flops_counted(rows: pd.DataFrame) -> Finding | None:
    """2 × parameters × tokens over the operations counted, at the model where they are furthest apart."""
    part = rows[(rows.protocol == "matched") & (rows.arm == "naive")] if "flops" in rows else rows[:0]
    if part.empty:
        return None
    sums = part.sort_values("parameters").groupby("model", sort=False)[["flops_2nd", "flops"]].sum()
    return _furthest(sums.flops_2nd / sums.flops, part)


def _flops_by_dimensions(tokens: int) -> Finding:
    entries = [registry.lookup(name) for name in QWEN]
    rule = {entry.name: 2 * entry.parameters * tokens / dimensions.forward_flops(entry, tokens) for entry in entries}
    return _furthest(pd.Series(rule))


def _furthest(ratios: pd.Series, source: pd.DataFrame | None = None) -> Finding:
    said = ", ".join(f"{model} {ratio:.2f}×" for model, ratio in ratios.items())
    worst = float(ratios[(np.log(ratios).abs()).idxmax()])
    about = "2 × parameters × tokens over the operations, furthest from 1"
    return counted(worst, all(near(ratio, 1) for ratio in ratios), about, "×", f"{said}.", source)


def _weights(tokens: int) -> Finding:
    entry = registry.lookup(LARGEST)
    size = registry.gigabytes(entry.parameters, "float16")
    longest = tokens + PUBLISHED["max_new_tokens"]
    cache = PUBLISHED["max_paths"] * longest * dimensions.kv_bytes_per_token(entry) / 1e9
    said = (
        f"{size * 1e9 / dimensions.GIB:.1f} GiB. The caches of {PUBLISHED['max_paths']} paths of {longest} tokens take "
        f"another {cache:.1f} GB, and activations come on top, so a card needs more than that."
    )
    return counted(size, near(size, WEIGHTS_GB), "weights of the parameters in float16", "GB", said)
