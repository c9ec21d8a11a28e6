"""`python -m lib.claims`: the ledger of all claims, decided from finished runs. No model is loaded."""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lib import claims, console, results, runs
from lib.claims import Verdict
from lib.params import ParameterError

CHANGES = ("%", "points", "points per doubling")  # units of what has a sign

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def ledger(
    preset: Annotated[str, typer.Option(help="decide from this preset's runs; default: the newest sweep's")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE that the sweep was given")] = None,
    runs_dir: Annotated[Path | None, typer.Option(help="where the runs are; default: runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list instead of the table")] = False,
) -> None:
    """Decide every claim from the finished runs of a preset; a claim about a single model looks at all runs, unless
    --preset is given. An experiment without that preset, or without a run of it, has claims that are not run.
    """
    verdicts, notes = decided(preset, set_, runs_dir)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    print(json.dumps([v.row() for v in verdicts], allow_nan=False) if as_json else table(verdicts))


def decided(
    preset: str = "", set_: list[str] | None = None, runs_dir: Path | None = None
) -> tuple[list[Verdict], list[str]]:
    """The verdict on every claim, and why experiments have no rows of a preset; arguments as the command's.

    ParameterError where a preset was asked for that no experiment has a run of.
    """
    verdicts, notes, made = [], [], claims.experiments()
    for experiment in made:
        rows = every = pd.DataFrame()
        try:
            every = every if preset else runs.load(experiment, runs_dir)
            rows, _ = results.grid_rows(experiment, preset, set_, runs_dir)
        except ParameterError as error:
            notes.append(str(error))
            rows = every.iloc[:0]
        verdicts += claims.decide(made[experiment], rows, rows if preset else every)
    if preset and len(notes) == len(made):
        raise ParameterError(notes[0])
    return verdicts, notes


def table(verdicts: Sequence[Verdict]) -> str:
    """The ledger as text: a line per claim, then what each says and rests on."""
    width = max(len(v.claim.id) for v in verdicts)
    lines = [f"{v.claim.id:<{width}}  {v.verdict:<13}  {_found(v)}".rstrip() for v in verdicts]
    for v in verdicts:
        about = " ".join(_about(v))
        lines += ["", textwrap.fill(f"{v.claim.id}: {about}", 110, subsequent_indent="  ", break_on_hyphens=False)]
    return "\n".join(lines)


def _found(verdict: Verdict) -> str:
    found = verdict.finding
    if found is None:
        return ""
    sign = "+" if found.unit in CHANGES else ""
    interval = f"95 % interval {found.low:{sign}.3g} to {found.high:{sign}.3g}" if found.n > 1 else "no interval"
    return f"{found.estimate:{sign}.3g} {found.unit} ({interval}), n = {claims.several(found.n, found.replicate)}"


def _about(verdict: Verdict) -> Iterator[str]:
    yield f"{verdict.claim.text} Expected: {verdict.claim.expected}."
    if verdict.finding is None:
        yield f"Not run: needs {verdict.claim.needs}."
    if found := verdict.finding:
        p = f"p = {found.p_supports:.2g} for it, {found.p_refutes:.2g} against it (Holm)"
        yield f"Measured: {found.statistic}; {p}. {found.remark}".rstrip()
        yield f"Runs{' (some of earlier source)' if found.stale else ''}: {', '.join(found.runs)}."


def main() -> None:
    console.command(app)


if __name__ == "__main__":
    main()
