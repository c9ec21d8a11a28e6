"""The claims ledger: what the experiments set out to show, each sentence decided from finished runs.

A `Claim` is a sentence with a test: a function from measurement rows to a `Finding`, which holds an estimate with its
interval and two p-values, of evidence for the claim and of evidence against it. `decide` turns the findings of one
experiment into verdicts, with Holm's adjustment over them: *supported* or *not supported* where the evidence for or
against passes 5 %, *inconclusive* where neither does (and then it says how many prompts, or seeds, would do), *not
run* where no rows bear on the claim. Nothing is typed in: change the runs and the verdicts change.

A module of this package with an `EXPERIMENT` and a function `claims()` adds that experiment's claims.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from lib.metrics import stats
from lib.records import plain


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
    enough: int = stats.ENOUGH  # replicates; of fewer nothing is concluded


@dataclass(frozen=True)
class Claim:
    """A sentence that runs can decide."""

    id: str
    text: str
    expected: str
    test: Callable[[pd.DataFrame], Finding | None]  # rows -> what they say; None: nothing in them bears on the claim
    needs: str  # what rows must hold for the test to find something: a clause for a claim that is not run
    every_run: bool = False  # decided from all finished runs, where no preset was asked for


@dataclass(frozen=True)
class Verdict:
    """A claim and what became of it; the finding's p-values are adjusted."""

    claim: Claim
    verdict: str
    finding: Finding | None = None

    def row(self) -> dict[str, Any]:
        """Flat JSON record; JSON has no infinity, so an interval without an upper end has null there."""
        about = {"id": self.claim.id, "text": self.claim.text, "expected": self.claim.expected}
        about |= {"needs": self.claim.needs}
        return plain(about | {"verdict": self.verdict} | (asdict(self.finding) if self.finding else {}))


def experiments() -> dict[str, list[Claim]]:
    """The claims of every experiment that has some."""
    modules = [
        importlib.import_module(f"{__name__}.{m.name}") for m in pkgutil.iter_modules(__path__) if m.name != "__main__"
    ]
    made = {module.EXPERIMENT: module.claims() for module in modules if hasattr(module, "EXPERIMENT")}
    return dict(sorted(made.items()))


def decide(claims: Sequence[Claim], rows: pd.DataFrame, every: pd.DataFrame) -> list[Verdict]:
    """Verdicts on the claims of one experiment from `rows` of the chosen preset and `every` row there is.

    Evidence for and evidence against are each adjusted over the claims that could be tested (Holm 1979).
    """
    tested = {claim.id: claim.test(every if claim.every_run else rows) for claim in claims}
    found = {name: finding for name, finding in tested.items() if finding}
    p_supports = stats.holm([finding.p_supports for finding in found.values()])
    p_refutes = stats.holm([finding.p_refutes for finding in found.values()])
    adjusted = {
        name: replace(finding, p_supports=float(p_supports[i]), p_refutes=float(p_refutes[i]))
        for i, (name, finding) in enumerate(found.items())
    }
    return [_verdict(claim, adjusted.get(claim.id), len(adjusted)) for claim in claims]


def _verdict(claim: Claim, found: Finding | None, family: int) -> Verdict:
    if found is None:
        return Verdict(claim, "not run")
    if found.p_refutes < stats.ALPHA:  # asked first: something may be there and yet be less than was claimed
        return Verdict(claim, "not supported", found)
    if found.p_supports < stats.ALPHA:
        return Verdict(claim, "supported", found)
    return Verdict(claim, "inconclusive", replace(found, remark=f"{found.remark} {_power(found, family)}".strip()))


def _power(found: Finding, family: int) -> str:
    """What these replicates could have found, and how many it takes to find what matters; with 80 % power.

    Where several tests must pass at once, each may miss its share of the 20 % (Bonferroni).
    """
    if found.n < 2:
        return f"One {found.replicate} decides nothing."
    alpha = stats.ALPHA / family  # Holm's first step; its others ask less
    power = 1 - (1 - stats.POWER) / found.together
    needed = max(stats.needed(found.spread, found.matters, alpha, power), found.enough)
    takes, counted = f"to find {_difference(found, found.matters)} takes {needed}.", several(found.n, found.replicate)
    if found.n < found.enough:
        return f"{counted} decide nothing; {takes}"
    visible = _difference(found, stats.detectable(found.spread, found.n, alpha, power))
    return f"{counted} find a difference of {visible} in 4 of 5 cases; {takes}"


def several(n: int, replicate: str) -> str:
    """13, "batch" -> "13 batches"."""
    return f"{n} {replicate}{'' if n == 1 else 'es' if replicate.endswith('ch') else 's'}"


def _difference(found: Finding, value: float) -> str:
    """A difference of tested values in words: "5 %" of logarithms, else with its unit."""
    return f"{percent(value):.0f} %" if found.scale == "log2" else f"{value:.3g} {found.scale}"


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


def percent(log2: float) -> float:
    """A log2 ratio as a change in percent."""
    return 100 * (2**log2 - 1)
