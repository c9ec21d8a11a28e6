"""How much the replicates of a finding could show: the chance that its test finds what the claim expects, the smallest
difference that it finds in 4 of 5 cases, and how many replicates it takes to find what matters.

All three are for the test as it decides: two-sided at 5 %, divided by the number of claims in the family (Holm's first
step; its others ask less) and by the number of looks. They are from the noncentral t distribution at the spread that
the replicates have, which is itself an estimate, and a rough one of few. `lib.claims.calibration` holds them against
simulated data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize
from scipy import stats as distributions

from lib.metrics import stats
from lib.metrics.contrasts import corrected, uncorrected

if TYPE_CHECKING:
    from lib.claims import Finding


def power(found: Finding, family: int, effect: float | None = None) -> float:
    """Chance that these replicates support the claim where the truth is `effect` beyond the bound it is tested against.

    effect: in the finding's scale; None: what matters. Tests of one mean are passed together as often as the least
    certain of them is; of several that must pass at once (`together`), each may fail, so that their chances of failing
    add up (Bonferroni), which makes it a lower bound. 0 where replicates are too few to conclude anything, NaN
    where they do not differ at all.
    """
    if found.n < max(2, found.enough):
        return 0.0
    effect = found.matters if effect is None else effect
    alpha = _level(found, family)
    if not found.spread:
        return np.nan
    passed = min(_chance(effect, *error, alpha) for error in _errors(found))
    return max(0.0, 1 - found.together * (1 - passed))


def detectable(found: Finding, family: int) -> float:
    """The smallest effect that is found with 80 % power, in the finding's scale; infinite for too few replicates.

    NaN where they do not differ at all.
    """
    if found.n < max(2, found.enough):
        return np.inf
    if not found.spread:
        return np.nan
    largest = max(error for error, *_ in _errors(found))
    while power(found, family, largest) < stats.POWER:
        largest *= 2
    return float(optimize.brentq(lambda effect: power(found, family, effect) - stats.POWER, 0, largest))


def explained(found: Finding, family: int) -> str:
    """What these replicates could have found, and how many it takes to find what matters; with 80 % power."""
    if found.n < 2:
        return f"One {found.replicate} decides nothing."
    if not found.spread:
        return f"{several(found.n, found.replicate)} that do not differ at all do not tell how much others would."
    each = 1 - (1 - stats.POWER) / found.together
    needed = max(stats.needed(found.spread, found.matters, _level(found, family), each), found.enough)
    takes, counted = f"to find {difference(found, found.matters)} takes {needed}.", several(found.n, found.replicate)
    if found.n < found.enough:
        return f"{counted} decide nothing; {takes}"
    visible = difference(found, detectable(found, family))
    return f"{counted} find a difference of {visible} in 4 of 5 cases; {takes}"


def several(n: int, replicate: str) -> str:
    """13, "batch" -> "13 batches"."""
    return f"{n} {replicate}{'' if n == 1 else 'es' if replicate.endswith('ch') else 's'}"


def difference(found: Finding, value: float) -> str:
    """A difference of tested values in words: "5 %" of logarithms, else with its unit."""
    return f"{percent(value):.0f} %" if found.scale == "log2" else f"{value:.3g} {found.scale}"


def percent(log2: float) -> float:
    """A log2 ratio as a change in percent."""
    return 100 * (2**log2 - 1)


def _level(found: Finding, family: int) -> float:
    return stats.ALPHA / (family * found.looks)


def _errors(found: Finding) -> tuple[tuple[float, float, float], ...]:
    """(standard error, degrees of freedom, skewness) of every test that the mean must pass."""
    return found.errors or ((found.spread / np.sqrt(found.n), found.n - 1.0, 0.0),)


def _chance(effect: float, error: float, freedom: float, skewness: float, alpha: float) -> float:
    """Chance that a two-sided t test finds a mean of `effect`, on the right side.

    Of a skewed mean, corrected t is what is distributed as t, and the less of t and corrected t must pass the bound.
    """
    if error == 0:
        return float(effect > 0)
    bound, shift = distributions.t.ppf(1 - alpha / 2, freedom), effect / error
    if np.isinf(freedom):
        return float(distributions.norm.sf(bound - shift))
    if skewness:
        bound = max(bound, uncorrected(bound, skewness))
        return float(distributions.t.sf(corrected(bound - shift, skewness), freedom))
    return float(distributions.nct.sf(bound, freedom, shift))
