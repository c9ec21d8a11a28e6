"""The claims ledger: what the experiments set out to show, each sentence decided from finished runs.

A `Claim` is a sentence with a test: a function from measurement rows to a `Finding`, which holds an estimate with its
interval and two p-values, of evidence for the claim and of evidence against it. `judge` turns the findings of one plan
into verdicts, with Holm's adjustment over them: *supported* or *not supported* where the evidence for or against passes
5 %, *inconclusive* where neither does (and then it says how many prompts, or seeds, would do), *not run at this scale*
where no rows bear on the claim. Nothing is typed in: change the runs and the verdicts change.

A claim about something that is counted or calculated (parameters, bytes, a plan's own sums) is decided by the number
itself. Such a finding is `exact`: it has no p-value to adjust, so it takes no part in Holm's family.

A module of this package with an `EXPERIMENT` and a function `claims()` adds claims to that experiment.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lib.claims.power import explained
from lib.metrics import stats
from lib.records import plain

NOT_RUN = "not run at this scale"
VERDICTS = ("supported", "not supported", "inconclusive", NOT_RUN)


@dataclass(frozen=True)
class Finding:
    """What rows say about a claim, before any adjustment for testing several."""

    statistic: str  # what the estimate is
    unit: str
    estimate: float
    low: float  # ends of the 95 % interval
    high: float
    n: int  # independent replicates: prompts or seeds
    p_supports: float  # of the test that finds the claim true
    p_refutes: float  # of the test that finds it false
    spread: float  # standard deviation over replicates of the tested values, in `scale`
    matters: float  # the smallest difference that decides the claim, in `scale`
    runs: tuple[str, ...]  # the run folders it rests on
    stale: bool = False  # some of them were made by other source than today's
    remark: str = ""
    replicate: str = "prompt"  # what n counts
    scale: str = "log2"  # what was tested: logarithms of ratios, or differences in a unit ("points")
    together: int = 1  # how many tests must pass at once for the claim to be supported
    looks: int = 1  # of how many tests one has to pass; they share the level among them
    errors: tuple[tuple[float, float, float], ...] = ()  # error, degrees of freedom, skewness: per test of the mean
    enough: int = stats.ENOUGH  # replicates; of fewer nothing is concluded
    exact: bool = False  # counted or calculated, not sampled: the p-values are 0 and 1


@dataclass(frozen=True)
class Claim:
    """A sentence that runs can decide."""

    id: str
    text: str
    expected: str
    test: Callable[[pd.DataFrame], Finding | None]  # rows -> what they say; None: nothing in them bears on the claim
    needs: str = ""  # what rows must hold for the test to find something: a clause for a claim that is not run
    every_run: bool = False  # decided from all finished runs, where no preset was asked for
    effect: float | None = None  # it expects, beyond the bound it is tested against, in its scale; None: names none
    figure: str = ""  # of lib.figures, the one that shows it


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it; the finding's p-values are adjusted."""

    claim: Claim
    verdict: str
    finding: Finding | None = None
    family: int = 1  # claims of the plan that were tested, over which the p-values are adjusted

    def row(self) -> dict[str, Any]:
        """Flat JSON record; JSON has no infinity, so an interval without an upper end has null there."""
        about = {"id": self.claim.id, "text": self.claim.text, "expected": self.claim.expected}
        about |= {"needs": self.claim.needs, "figure": self.claim.figure}
        return plain(about | {"verdict": self.verdict} | (asdict(self.finding) if self.finding else {}))


Tested = list[tuple[Claim, Finding | None]]


def experiments() -> dict[str, list[Claim]]:
    """The claims of every experiment that has some."""
    made: dict[str, list[Claim]] = {}
    for module in pkgutil.iter_modules(__path__):
        found = importlib.import_module(f"{__name__}.{module.name}") if module.name != "__main__" else None
        if hasattr(found, "EXPERIMENT"):
            made.setdefault(found.EXPERIMENT, []).extend(found.claims())
    return dict(sorted(made.items()))


def decide(claims: Sequence[Claim], rows: pd.DataFrame, every: pd.DataFrame) -> list[Verdict]:
    """Verdicts on these claims as one family, from `rows` of the chosen preset and `every` row there is."""
    return judge(examine(claims, rows, every))


def examine(claims: Sequence[Claim], rows: pd.DataFrame, every: pd.DataFrame) -> Tested:
    """Each claim with what the rows of the chosen preset, or every row there is, say about it."""
    return [(claim, claim.test(every if claim.every_run else rows)) for claim in claims]


def judge(tested: Tested) -> list[Verdict]:
    """Verdicts on the claims of one family, in their order.

    Evidence for and evidence against are each adjusted over the claims that could be tested (Holm 1979).
    """
    sampled = {claim.id: found for claim, found in tested if found and not found.exact}
    p_supports = stats.holm([found.p_supports for found in sampled.values()])
    p_refutes = stats.holm([found.p_refutes for found in sampled.values()])
    adjusted = {
        name: replace(found, p_supports=float(p_supports[i]), p_refutes=float(p_refutes[i]))
        for i, (name, found) in enumerate(sampled.items())
    }
    return [_verdict(claim, adjusted.get(claim.id, found), len(adjusted)) for claim, found in tested]


def _verdict(claim: Claim, found: Finding | None, family: int) -> Verdict:
    if found is None:
        return Verdict(claim, NOT_RUN, family=family)
    if found.p_refutes < stats.ALPHA:  # asked first: something may be there and yet be less than was claimed
        return Verdict(claim, "not supported", found, family)
    if found.p_supports < stats.ALPHA:
        return Verdict(claim, "supported", found, family)
    why = replace(found, remark=f"{found.remark} {explained(found, family)}".strip())
    return Verdict(claim, "inconclusive", why, family)


def evidence(
    source: pd.DataFrame, values: np.ndarray, p_supports: float, p_refutes: float, enough: int = stats.ENOUGH
) -> dict[str, Any]:
    """The part of a finding that all tests share; of fewer than `enough` replicates nothing is concluded.

    source: the rows that `values` [n], one per replicate, were made of.
    """
    n = len(values)
    return {
        "n": n,
        "p_supports": p_supports if n >= enough else 1.0,
        "p_refutes": p_refutes if n >= enough else 1.0,
        "spread": float(np.std(values, ddof=1)) if n > 1 else np.inf,
        "runs": tuple(sorted(set(source.run))),
        "stale": bool(source.stale.any()),
        "enough": enough,
    }
