"""`python -m lib.claims.calibration`: every kind of claim test, tried on data whose truth is known.

A test is calibrated where data without the effect support the claim in at most 5 of 100 cases, data with exactly the
effect that the claim expects refute it in at most 5, and support it as often as the ledger's power says. `CASES` has a
row per test: which claims use it, how data for it are drawn (`lib.claims.synthetic`, with the spreads of real runs, at
the size of the preset that decides it), and both truths. Data go through the claim's own test: from rows where these
can be made in a few lines, else from the values that rows are reduced to.

Rates of wrong support and refutation are those of a claim decided alone, the worst case; power is at the level that the
family leaves (Holm's first step). Wrong support of any claim of a family, with Holm over all of them, has a table of
its own. The power that the ledger prints takes the spread from the data at hand: of few replicates it varies much from
one data set to the next, and the table has the mean.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import typer
from tqdm import tqdm

from lib import console
from lib.claims.power import power
from lib.claims.trials import CASES, ByRows, Case
from lib.metrics import stats

TOLERANCE = 0.15  # between power printed and simulated: the spread is estimated, and skewness corrected for roughly
ROWS = 4  # times fewer draws where data go through rows, which takes some ten times as long


@dataclass(frozen=True)
class Rates:
    """What became of a case's draws."""

    case: Case
    supported: np.ndarray  # p-values for the claim [draws], without the effect
    refuted: float  # share refuted with the expected effect
    found: float  # share supported with it, in the family
    printed: float  # power that the ledger prints for these very draws, on average

    @property
    def wrong(self) -> float:
        """Share supported without the effect, decided alone, be it refuted too (which the ledger would say)."""
        return float(np.mean(self.supported < stats.ALPHA))


def run(case: Case, draws: int, seed: int = 0) -> Rates:
    """Both rates and both powers of a case, from so many data sets per truth (through rows, fewer)."""
    draws = draws // ROWS if isinstance(case.draw, ByRows) else draws
    rng = np.random.default_rng([seed, *case.ids.encode()])
    without = [case.draw(rng, case.null) for _ in range(draws)]
    with_it = [case.draw(rng, case.expected) for _ in range(draws)]
    refuted = np.array([found.p_refutes for found in with_it])
    supported = np.array([found.p_supports for found in with_it])
    level = stats.ALPHA / case.family
    return Rates(
        case,
        np.array([found.p_supports for found in without]),
        float(np.mean(refuted < stats.ALPHA)),
        float(np.mean((supported < level) & (refuted >= level))),
        float(np.nanmean([power(found, case.family, case.effect) for found in with_it])),
    )


def familywise(plan: str, families: int, seed: int = 0) -> float:
    """Share of families of a plan, in which nothing is true, of which any claim is supported (Holm over all).

    Every claim has data of its own; claims of one plan really share theirs, for which Holm's bound holds too.
    """
    rng, wrong = np.random.default_rng([seed, int(plan)]), 0
    own = [case for case in CASES if case.ids[0] == plan for _ in case.claims()]
    for _ in range(families):
        p = [case.draw(rng, case.null).p_supports for case in own]
        wrong += bool((stats.holm(p) < stats.ALPHA).any())
    return wrong / families


def table(rates: Sequence[Rates]) -> str:
    """Markdown, one row per case."""
    lines = ["| Claims | n | wrong support | wrong refutation | power, printed | power, simulated |"]
    lines += ["|---|---|---:|---:|---:|---:|"]
    for rate in rates:
        shares = (rate.wrong, rate.refuted, rate.printed, rate.found)
        said = " | ".join(f"{100 * share:.1f} %" for share in shares)
        lines.append(f"| {', '.join(f'`{pattern}`' for pattern in rate.case.ids.split())} | {rate.case.n} | {said} |")
    return "\n".join(lines)


def families_table(plans: Sequence[str], families: int) -> str:
    """Markdown, one row per plan."""
    lines = ["| Plan | claims tried together | any wrong support (Holm) |", "|---|---:|---:|"]
    for plan in plans:
        count = sum(len(case.claims()) for case in CASES if case.ids[0] == plan)
        lines.append(f"| {plan} | {count} | {100 * familywise(plan, families):.1f} % |")
    return "\n".join(lines)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def calibrate(
    draws: Annotated[int, typer.Option(help="data sets per case and truth")] = 400,
    only: Annotated[str, typer.Option(help="pattern of claims' ids")] = "*",
) -> None:
    """Print how often each test is wrong, and how often it finds what is there."""
    cases = [case for case in CASES if any(fnmatch.fnmatchcase(id_, only) for id_ in case.claims())]
    print(table([run(case, draws) for case in tqdm(cases, unit="test")]))
    plans = sorted({case.ids[0] for case in cases})
    print(f"\n{families_table(tqdm(plans, unit='plan'), draws // ROWS)}")


def main() -> None:
    console.command(app)


if __name__ == "__main__":
    main()
