"""Weighted means over sizes of what seeds measure, tested so that a seed that fails now and then does not deceive.

A training that fails at one seed of six fails at none of six in one case of three, and then these six agree about a
mean that is too high: the t test over them finds an effect where there is none in one case of four. So a mean is judged
by two tests, and is as certain as the less certain says. One is the t test over seeds. The other takes variance and
skewness from the seeds of all sizes, each around its size's mean, and corrects the t statistic for the skewness (Hall
1992, "On the removal of skewness by transformation"); without skewness it is the pooled t test. Of few seeds skewness
is not known well enough to correct for: there the mean of a training that fails rarely cannot be tested. A change from
size to size needs no such care, as failures skew both ends alike: it is judged by the t test alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

from lib.metrics import stats

# Degrees of freedom; with fewer, a correction costs power and leaves most of the error there (lib.claims.calibration).
KNOWN = 12


@dataclass(frozen=True)
class Contrast:
    """A weighted mean over sizes and what its two tests need."""

    values: np.ndarray  # float64 [seeds]: of the seeds that have all sizes with a weight
    error: float  # standard error of their mean, by the seeds of all sizes
    freedom: float  # of that error; 0: there is none, and the t test over `values` decides alone
    skewness: float  # of the mean

    def above(self, at: float) -> float:
        """One-sided p-value that the mean exceeds `at`, of the less certain test; 1 for a single seed."""
        return self._certain(at, 1.0)

    def below(self, at: float) -> float:
        """One-sided p-value that the mean is less than `at`, of the less certain test; 1 for a single seed."""
        return self._certain(at, -1.0)

    def interval(self, level: float = 0.95) -> tuple[float, float, float]:
        """Mean and the wider of the tests' intervals: (mean, low, high); infinite for a single seed."""
        mean, low, high = stats.t_interval(self.values, level)
        if not self.freedom:
            return mean, low, high
        bound = distributions.t.ppf((1 + level) / 2, self.freedom)
        below, above = max(bound, uncorrected(bound, self.skewness)), max(bound, -uncorrected(-bound, self.skewness))
        return mean, min(low, mean - below * self.error), max(high, mean + above * self.error)

    @property
    def errors(self) -> tuple[tuple[float, float, float], ...]:
        """(standard error, degrees of freedom, skewness of the mean that it corrects for) of both tests."""
        n = len(self.values)
        own = (float(self.values.std(ddof=1) / np.sqrt(n)), n - 1.0, 0.0) if n > 1 else (np.inf, 1.0, 0.0)
        return (own, (self.error, self.freedom, self.skewness)) if self.freedom else (own,)

    @property
    def spread(self) -> float:
        """Standard deviation over seeds that gives the larger error; infinite for a single seed."""
        return max(error for error, *_ in self.errors) * float(np.sqrt(len(self.values)))

    def _certain(self, at: float, sign: float) -> float:
        own = stats.inside(sign * self.values, sign * at, np.inf)
        if not self.freedom or self.error == 0:
            return own
        t = float(self.values.mean() - at) / self.error
        least = min(sign * t, sign * corrected(t, self.skewness))
        return max(own, float(distributions.t.sf(least, self.freedom)))


def corrected(t: float, skewness: float) -> float:
    """Hall's transformation: of the t statistic of a mean of this skewness, what is distributed as t; increasing."""
    return t + skewness * t**2 / 3 + skewness**2 * t**3 / 27 + skewness / 6


def uncorrected(t: float, skewness: float) -> float:
    """Its inverse."""
    return float(3 / skewness * (np.cbrt(1 + skewness * (t - skewness / 6)) - 1)) if abs(skewness) > 1e-9 else t


def contrast(table: np.ndarray, weights: np.ndarray) -> Contrast:
    """The mean over seeds of the weighted sum over sizes.

    table: [sizes, seeds], NaN where a model is missing; weights: [sizes], zero for sizes that lend nothing but their
    seeds' spread; of a change they sum to 0. ValueError where no seed has all sizes with a weight.
    """
    table, weights = np.asarray(table, dtype=float), np.asarray(weights, dtype=float)
    used = table[weights != 0]
    values = weights[weights != 0] @ used[:, ~np.isnan(used).any(axis=0)]
    if not len(values):
        raise ValueError("No seed has all sizes of the contrast.")
    if np.isclose(weights.sum(), 0):
        return Contrast(values, np.inf, 0.0, 0.0)
    sizes = [row[~np.isnan(row)] for row in table]
    freedom = sum(len(row) - 1 for row in sizes if len(row))
    squares = sum(((row - row.mean()) ** 2).sum() for row in sizes if len(row))
    variance = squares / freedom if freedom else np.inf
    n, third = len(values), _third_cumulant(sizes) if freedom >= KNOWN else 0.0
    error = float(np.sqrt(variance * (weights**2).sum() / n))
    skewness = third * (weights**3).sum() / n**2 / error**3 if error else 0.0
    return Contrast(values, error, float(freedom), float(skewness))


def _third_cumulant(sizes: list[np.ndarray]) -> float:
    """The mean over sizes of the unbiased estimate, weighted by what it is free to vary; 0 for fewer than 3 seeds."""
    usable = [row for row in sizes if len(row) > 2]
    if not usable:
        return 0.0
    of_size = [distributions.kstat(row, 3) for row in usable]
    return float(np.average(of_size, weights=[len(row) - 2 for row in usable]))
