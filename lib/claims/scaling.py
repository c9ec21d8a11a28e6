"""Claims of 1.A.3: EAB's speedup grows with the model, and lies in a given range for each Qwen2.5."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from lib.claims import Claim, Finding, evidence
from lib.claims.power import percent
from lib.figures import scaling
from lib.metrics import stats
from lib.models import registry

EXPERIMENT = "1a3_scaling"

QWEN = ("Qwen2.5-0.5B", "Qwen2.5-1.5B", "Qwen2.5-3B", "Qwen2.5-7B")  # one per row of scaling.EXPECTED
PUBLISHED = {  # what the plan fixes; a run with other settings says nothing about its ranges
    "prompt_tokens": 200,
    "max_new_tokens": 30,
    "temperature": 0.8,
    "threshold": 0.055,
    "branch_factor": 3,
    "max_paths": 20,
}


def claims() -> list[Claim]:
    """Growth on two engines, and four ranges."""
    expected = f"{percent(_expected_growth()):+.0f} % per doubling of parameters; less than +5 % counts as none"
    published = Claim(
        "1a3/growth-as-published",
        "The larger the model, the larger the speedup of EAB over separate generations: EAB as published, with one "
        "forward per path and as many samples as it chooses.",
        expected,
        partial(_growth, arm="eab_sequential", protocol="matched"),
        _models_with("eab_sequential", "matched"),
        effect=_expected_growth(),
        figure="1a3_speedup",
    )
    batched = Claim(
        "1a3/growth-batched",
        "The larger the model, the larger the speedup of EAB over separate generations: EAB with all paths of a step "
        "in one forward, at a fixed number of samples.",
        expected,
        partial(_growth, arm="eab", protocol="fixed"),
        _models_with("eab", "fixed"),
        effect=_expected_growth(),
        figure="1a3_size",
    )
    bands = zip(QWEN, scaling.EXPECTED.itertuples(), strict=True)
    return [published, batched, *(_range(name, band.low, band.high) for name, band in bands)]


def _range(name: str, low: float, high: float) -> Claim:
    text = f"On {name}, EAB as published is {low:g} to {high:g} times as fast as separate generations."
    test = partial(_in_range, model=registry.lookup(name).hub_id, low=low, high=high)
    needs = f"a run of {name} with trained weights and the plan's settings"
    return Claim(f"1a3/range-{name}", text, f"{low:g}× to {high:g}×", test, needs, every_run=True, figure="1a3_speedup")


def _models_with(arm: str, protocol: str) -> str:
    return f"two models or more with trained weights and the arms naive and {arm} under the {protocol} protocol"


def _expected_growth() -> float:
    """The plan's ranges as a slope: log2 of the (geometric) middle of each against log2 of parameters."""
    middle = np.sqrt(scaling.EXPECTED.low * scaling.EXPECTED.high)
    return stats.size_slope(scaling.EXPECTED.parameters, middle.to_numpy()[:, None]).estimate


def _growth(rows: pd.DataFrame, arm: str, protocol: str) -> Finding | None:
    """Growth over all models with trained weights, on the prompts that all of them have."""
    pairs = _speedups(rows, arm, protocol)
    wide = pairs.pivot_table(index="parameters", columns="prompt", values="ratio").dropna(axis=1)
    if len(wide) < 2 or wide.empty:
        return None
    source = rows[rows.run.isin(pairs.run)]
    found = growth(wide.index.to_numpy(), wide.to_numpy(), source)
    return replace(found, remark=f"{found.remark} {_threshold(source[source.arm == arm])}")


def _threshold(source: pd.DataFrame) -> str:
    """The threshold that EAB ran at; it decides what branches, and presets for small models have one of their own."""
    ran = ", ".join(f"{value:g}" for value in sorted(set(source.threshold)))
    return f"Run at threshold {ran}; the plan's is {PUBLISHED['threshold']:g}."


def growth(parameters: np.ndarray, speedups: np.ndarray, source: pd.DataFrame) -> Finding:
    """Paired slope of log speedup [models, prompts] against log parameters [models]; `source`: rows it rests on.

    For: the slope is above zero, by the two-sided t test that its interval shows. Against: it is below +5 % per
    doubling, by a one-sided one.
    """
    slope = stats.size_slope(parameters, speedups)
    rises = stats.difference(slope.slopes) if slope.estimate > 0 else 1.0
    little = stats.inside(slope.slopes, -np.inf, stats.FLAT)
    both = rises < stats.ALPHA and little < stats.ALPHA
    return Finding(
        statistic="change of speedup per doubling of parameters",
        unit="%",
        estimate=percent(slope.estimate),
        low=percent(slope.low),
        high=percent(slope.high),
        matters=stats.FLAT,
        remark=f"{len(parameters)} models.{' It grows, but by less than 5 %.' if both else ''}",
        **evidence(source, slope.slopes, rises, little),
    )


def _in_range(rows: pd.DataFrame, model: str, low: float, high: float) -> Finding | None:
    """Geometric mean speedup of the newest run of this very model with its trained weights and the plan's settings.

    For: the mean lies inside the range, as the interval does, by t tests on logarithms. Against: it lies outside.
    """
    if rows.empty:
        return None
    fit = rows[(rows.model == model) & np.logical_and.reduce([rows[k] == v for k, v in PUBLISHED.items()])]
    usable = fit[(fit.arm == "eab_sequential") & (fit.protocol == "matched") & ~fit.dummy.astype(bool)]
    pairs = _speedups(fit[fit.run.isin(usable.run.tail(1))], "eab_sequential", "matched")
    if pairs.empty:
        return None
    logs = np.log2(pairs.ratio.to_numpy())
    mean, below, above = 2 ** np.array(stats.t_interval(logs))
    within, beyond = (test(logs, np.log2(low), np.log2(high)) for test in (stats.inside, stats.outside))
    within = min(1.0, 2 * within)  # two-sided, like all that supports a claim
    return Finding(
        statistic="speedup over naive, geometric mean",
        unit="×",
        estimate=mean,
        low=below,
        high=above,
        matters=np.log2(high / low) / 2,
        together=2,
        **evidence(usable[usable.run.isin(pairs.run)], logs, within, beyond),
    )


def _speedups(rows: pd.DataFrame, arm: str, protocol: str) -> pd.DataFrame:
    """The arm's speedup over naive on every prompt (column ratio) and the run it comes from; trained weights only."""
    if rows.empty:
        return pd.DataFrame(columns=["model", "parameters", "prompt", "ratio", "run"])
    part = rows[(rows.protocol == protocol) & ~rows.dummy.astype(bool)]
    pairs = stats.against(part)
    return pairs[pairs.arm == arm].merge(part.drop_duplicates("model")[["model", "run"]], on="model")
