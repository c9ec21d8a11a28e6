"""Intervals by bootstrap over prompts, and slopes on log-log axes. numpy and pandas only; nothing here loads a
model.

Prompts are the replicates: arms are compared on the same prompts, so a speedup is a ratio within a prompt, and
prompts are resampled whole. Repeated passes of one prompt are reduced to their median first; they are not
independent observations. Percentile intervals (Efron & Tibshirani 1993, ch. 13) at 95 % unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

ENOUGH = (
    6  # prompts: of fewer, even the range of all values holds their median less than 95 % of the time (1 - 2^(1-n))
)
RESAMPLES = 4000
SEED = 20_000


@dataclass(frozen=True)
class Interval:
    """A point estimate with its bootstrap interval and the number of prompts behind it."""

    estimate: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        prompts = f"{self.n} prompt{'s' if self.n > 1 else ''}"
        if self.n < ENOUGH:
            return f"{self.estimate:.1f} ({prompts}: too few for an interval)"
        return f"{self.estimate:.1f} (95 % interval {self.low:.1f} to {self.high:.1f}, {prompts})"


def bootstrap(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray] | None = None, level: float = 0.95
) -> Interval:
    """Percentile interval of `statistic` over the last axis of `values` [..., n prompts], resampling that axis
    jointly.

    `statistic` maps [..., n] to one number per leading batch, reducing all other axes; default: the median of a
    vector. It is called once with all resamples stacked in front: [resamples, ..., n]. One prompt gives a
    zero-width interval, which says n = 1.
    """
    values = np.asarray(values, dtype=float)
    n = values.shape[-1]
    if n == 0:
        raise ValueError("There is nothing to take an interval of: no prompt has a value.")
    statistic = statistic or (lambda x: np.median(x, axis=-1))
    index = np.random.default_rng(SEED).integers(n, size=(RESAMPLES, n))
    resampled = np.moveaxis(values[..., index], -2, 0)
    low, high = np.quantile(statistic(resampled), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(statistic(values[None])[0]), float(low), float(high), n)


def loglog_slope(x: np.ndarray, y: np.ndarray) -> Interval:
    """Exponent b of y ~ x^b with its interval: least squares on (ln x, ln median over prompts of y).

    x positive [m] (models), y positive [m, n] (models x prompts); prompts are resampled jointly over all models,
    because every model saw the same ones. The interval is over prompts: how well few models lie on a line is not in
    it. Needs two models or more.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(x) < 2:
        raise ValueError(f"A slope needs at least two models, got {len(x)}.")
    centred = np.log(x) - np.log(x).mean()

    def slope(sample: np.ndarray) -> np.ndarray:
        return np.log(np.median(sample, axis=-1)) @ centred / (centred @ centred)

    return bootstrap(y, slope)


def per_prompt(rows: pd.DataFrame, value: str = "wall_s") -> pd.DataFrame:
    """Median over repeats of `value`: columns model, parameters, protocol, arm, prompt, `value`."""
    keys = ["model", "parameters", "protocol", "arm", "prompt"]
    return rows.groupby(keys, as_index=False, sort=False)[value].median()


def against(rows: pd.DataFrame, baseline: str = "naive", value: str = "wall_s") -> pd.DataFrame:
    """Every arm beside the baseline arm on the same prompt.

    Adds to `per_prompt`'s columns `baseline` (the baseline's value), `ratio` = baseline / value, and `saved` =
    baseline - value.
    """
    table = per_prompt(rows, value)
    keys = ["model", "protocol", "prompt"]
    base = table[table.arm == baseline].rename(columns={value: "baseline"})[[*keys, "baseline"]]
    joined = table.merge(base, on=keys, validate="many_to_one")
    return joined.assign(ratio=joined.baseline / joined[value], saved=joined.baseline - joined[value])


def summarise(pairs: pd.DataFrame, column: str = "ratio") -> pd.DataFrame:
    """Median over prompts with its interval, one row per model, protocol and arm: estimate, low, high, n."""
    keys = ["model", "parameters", "protocol", "arm"]
    rows = []
    for group, part in pairs.groupby(keys, sort=False):
        interval = bootstrap(part[column].to_numpy())
        rows.append(dict(zip(keys, group, strict=True)) | vars(interval))
    return pd.DataFrame(rows)
