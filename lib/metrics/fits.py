"""Power laws of loss against size, and what a repetition of a block is worth beside fresh parameters.

    y = E + A x^-alpha                                          (Kaplan et al. 2020; Hoffmann et al. 2022)
    L = E + A (N_once + r^phi N_recurrent)^-alpha               (2604.21106, without its data term: the data are fixed)

phi says how much running a block r times makes up for parameters: 1, as much as r different blocks; 0, nothing.

Fitted as Hoffmann et al. 2022 (approach 3) do: Huber loss of 1e-3 on logarithms, E and A as exponentials so that they
stay positive and the sum is a log-sum-exp, L-BFGS from the best of a grid of starts. Residuals of trained models are
far above 1e-3, so this is in effect a fit of absolute errors, which one bad seed does not bend.

Intervals are over seeds, which are resampled whole: every size on the same ones. The percentile interval is too narrow
for few seeds; its levels are moved as far out as makes it right for a mean (Hesterberg 2015, "expanded percentile").
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import optimize
from scipy import stats as distributions
from threadpoolctl import threadpool_limits

from lib.metrics.stats import Interval

HUBER = 1e-3
RESAMPLES = 200
SEED = 30_000
STARTS = 6  # of the grid, the best are followed to the end
SIZES, REPETITIONS = 4, 3  # the smallest grid that tells phi from alpha and E

# theta: log A at the (geometric) middle of x, alpha, log E, phi
ALPHAS = (0.05, 0.15, 0.3, 0.6, 1.0, 2.0)
REDUCIBLE = (0.02, 0.1, 0.3, 0.6, 0.9, 1.0)  # shares of the smallest y that are not E; 1: none of it is
PHIS = (-0.5, 0.0, 0.5, 1.0)


class FitError(ValueError):
    """There is not enough to fit; one sentence for the user."""


@dataclass(frozen=True)
class PowerLaw:
    """y = irreducible + coefficient x^-exponent, each with its 95 % interval over `n` seeds; y's unit.

    `phi` is None where no block is repeated. With one seed intervals are infinite. n in each interval counts seeds.
    """

    coefficient: Interval
    exponent: Interval
    irreducible: Interval
    phi: Interval | None
    error: float  # root mean square of residuals of log y: about the relative error
    draws: np.ndarray  # float64 [resamples, 4]: log coefficient, exponent, irreducible, phi; none for one seed

    @property
    def n(self) -> int:
        return self.exponent.n

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The curve at x; of a recurrence, x is N_once + r^phi N_recurrent."""
        reducible = self.coefficient.estimate * np.asarray(x, dtype=float) ** -self.exponent.estimate
        return self.irreducible.estimate + reducible

    def band(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Ends of the pointwise 95 % interval of the curve at x, each of x's shape [k]; infinite for one seed."""
        x = np.asarray(x, dtype=float)
        if not len(self.draws):
            return np.full_like(x, -np.inf), np.full_like(x, np.inf)
        log_a, alpha, irreducible = self.draws[:, :3].T[:, :, None]
        low, high = np.quantile(irreducible + np.exp(log_a - alpha * np.log(x)), _levels(self.n), axis=0)
        return low, high


def power_law(x: np.ndarray, y: np.ndarray, irreducible: bool = True) -> PowerLaw:
    """Fit y = E + A x^-alpha.

    Args:
        x: positive [m], parameters or FLOPs of m sizes.
        y: positive [m] or [m, n], the loss of every size on the same n seeds.
        irreducible: False fixes E at 0, which needs one size less.

    Raises:
        FitError: for fewer than 4 different x (3 where E is 0), or values that are not positive numbers.
    """
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    y = y[:, None] if y.ndim == 1 else y
    found, least = len(set(x.tolist())), 4 if irreducible else 3
    if found < 3:
        raise FitError(f"A power law needs at least 3 sizes, got {found}: train others.")
    if found < least:
        raise FitError(
            "A power law with an irreducible loss needs at least 4 sizes, got 3: fix it at 0 or train another."
        )
    _check(x, y)
    free = [True, True, irreducible, False]
    return _fit(_Problem(x, np.zeros_like(x), np.ones_like(x), np.log(y), np.array(free)))


def recurrence(rows: pd.DataFrame) -> PowerLaw:
    """Joint fit of loss over sizes and numbers of refinements of one recurrent arm, with phi.

    Args:
        rows: of protocol "result" and one arm: size, R, seed, loss (nats per cell), parameters, and
            recurrent_parameters, those inside the blocks that are repeated. Seeds that lack a model are left out.

    Raises:
        FitError: for fewer than 4 sizes with 3 values of R, several arms, one that repeats nothing, or no seed that has
            them all.
    """
    arms = sorted(set(rows.arch))
    if len(arms) > 1:
        raise FitError(f"A recurrence is fitted to one arm, got {', '.join(arms)}: choose one.")
    held = rows.groupby("size").R.nunique()
    if (held >= REPETITIONS).sum() < SIZES:
        found = ", ".join(f"{count} at {size}" for size, count in held.items()) or "none"
        raise FitError(
            f"The fit of a recurrence needs {SIZES} sizes with {REPETITIONS} values of R each, and there are {found}; "
            "train more."
        )
    keys = ["parameters", "recurrent_parameters", "R"]
    losses = rows.pivot_table(index=keys, columns="seed", values="loss", aggfunc="last").dropna(axis=1)
    if losses.empty:
        raise FitError("No seed has all sizes and values of R that a recurrence is fitted to; train those that lack.")
    total, recurrent, r = (losses.index.get_level_values(key).to_numpy(dtype=float) for key in keys)
    _check(recurrent, losses.to_numpy())
    return _fit(_Problem(total - recurrent, recurrent, r, np.log(losses.to_numpy()), np.ones(4, dtype=bool)))


@dataclass(frozen=True)
class _Problem:
    """What is fitted: points [m] and their log y [m, n seeds]; which of theta is free."""

    once: np.ndarray
    recurrent: np.ndarray
    r: np.ndarray
    log_y: np.ndarray
    free: np.ndarray  # bool [4]

    @cached_property
    def middle(self) -> float:
        """log x that log A is taken at, so that A and alpha do not pull at each other."""
        return float(np.log(self.once + self.recurrent).mean())

    def predicted(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log y [m], and its derivatives [m, 4], at theta [4]."""
        a, alpha, e, phi = theta
        repeated = self.r**phi * self.recurrent
        effective = self.once + repeated
        z = np.log(effective) - self.middle
        log_y = np.logaddexp(a - alpha * z, e)
        reducible = np.exp(a - alpha * z - log_y)
        by_phi = -alpha * repeated / effective * np.log(self.r)
        ones = np.ones_like(z)
        return log_y, np.stack([reducible, -reducible * z, ones - reducible, reducible * by_phi], axis=1)

    def cost(self, theta: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """Huber loss in units of HUBER^2 (so that L-BFGS sees its end) and its gradient; weights [n] of the seeds."""
        predicted, slopes = self.predicted(theta)
        residual = (predicted[:, None] - self.log_y) / HUBER
        pull = np.clip(residual, -1, 1)
        cost = float(((residual - pull / 2) * pull @ weights).sum())
        return cost, (pull @ weights) @ slopes / HUBER

    def solve(self, start: np.ndarray, weights: np.ndarray) -> tuple[float, np.ndarray]:
        """The cost and theta at the end of L-BFGS from `start`."""

        def partial(values: np.ndarray) -> tuple[float, np.ndarray]:
            theta = start.copy()
            theta[self.free] = values
            cost, gradient = self.cost(theta, weights)
            return cost, gradient[self.free]

        options = {"maxiter": 2000, "ftol": 1e-9, "gtol": 1e-9}
        done = optimize.minimize(partial, start[self.free], jac=True, method="L-BFGS-B", options=options)
        theta = start.copy()
        theta[self.free] = done.x
        return float(done.fun), theta

    def starts(self) -> list[np.ndarray]:
        """The best of the grid; A follows from the others as the median over points."""
        middle = np.median(self.log_y, axis=1)
        lowest, found = float(np.exp(middle.min())), []
        for alpha in ALPHAS:
            for share in REDUCIBLE if self.free[2] else REDUCIBLE[-1:]:
                for phi in PHIS if self.free[3] else (0.0,):
                    z = np.log(self.once + self.r**phi * self.recurrent) - self.middle
                    e = np.log(lowest * (1 - share)) if share < 1 else -np.inf
                    e = max(e, np.log(lowest) - 12) if self.free[2] else -np.inf
                    a = float(np.median(np.log(np.exp(middle) - np.exp(e)) + alpha * z))
                    found.append(np.array([a, alpha, e, phi]))
        even = np.full(self.log_y.shape[1], 1 / self.log_y.shape[1])
        return sorted(found, key=lambda theta: self.cost(theta, even)[0])[:STARTS]


@threadpool_limits.wrap(limits=1)  # the BLAS calls of L-BFGS are tiny: two threads took nine times as long as one
def _fit(problem: _Problem) -> PowerLaw:
    """The best fit from all starts, then of resampled seeds, each from there and from the next other end, if any."""
    n = problem.log_y.shape[1]
    even = np.full(n, 1 / n)
    ends = sorted((problem.solve(start, even) for start in problem.starts()), key=lambda end: end[0])
    best = ends[0][1]
    warm = [best, *[theta for _, theta in ends if not np.allclose(theta, best, rtol=1e-3, atol=1e-3)][:1]]
    rng = np.random.default_rng(SEED)
    counts = rng.multinomial(n, even, size=RESAMPLES) if n > 1 else np.empty((0, 1))
    different, of = np.unique(counts, axis=0, return_inverse=True)  # of few seeds, many resamples are alike
    thetas = [min((problem.solve(start, w / n) for start in warm), key=lambda end: end[0])[1] for w in different]
    draws = np.array([_natural(problem, theta) for theta in thetas]).reshape(-1, 4)[of.ravel()]
    residual = problem.predicted(best)[0][:, None] - problem.log_y
    log_a, alpha, irreducible, phi = (
        _interval(value, draws[:, i], n) for i, value in enumerate(_natural(problem, best))
    )
    coefficient = Interval(*(float(np.exp(end)) for end in (log_a.estimate, log_a.low, log_a.high)), n)
    error = float(np.sqrt((residual**2).mean()))
    return PowerLaw(coefficient, alpha, irreducible, phi if problem.free[3] else None, error, draws)


def _natural(problem: _Problem, theta: np.ndarray) -> np.ndarray:
    """log A, alpha, E, phi."""
    a, alpha, e, phi = theta
    return np.array([a + alpha * problem.middle, alpha, np.exp(e), phi])


def _interval(estimate: float, draws: np.ndarray, n: int) -> Interval:
    if n < 2:
        return Interval(float(estimate), -np.inf, np.inf, n)
    low, high = np.quantile(draws, _levels(n))
    return Interval(float(estimate), float(low), float(high), n)


def _levels(n: int) -> tuple[float, float]:
    """Levels of the expanded percentile interval at 95 %."""
    tail = float(distributions.norm.cdf(np.sqrt(n / (n - 1)) * distributions.t.ppf(0.025, n - 1)))
    return tail, 1 - tail


def _check(x: np.ndarray, y: np.ndarray) -> None:
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (x > 0).all() and (y > 0).all()):
        raise FitError(
            "A power law is fitted to logarithms, and some size or loss is not a positive number; leave it out."
        )
