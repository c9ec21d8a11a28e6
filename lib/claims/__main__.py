"""`python -m lib.claims`: the ledger of all claims, decided from finished runs. No model is loaded."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lib import claims, console, paths, results, runs
from lib.claims import Tested, Verdict, hours, report
from lib.params import ParameterError

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def ledger(
    preset: Annotated[str, typer.Option(help="decide from this preset's runs; default: the newest sweep's")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE that the sweep was given")] = None,
    runs_dir: Annotated[Path | None, typer.Option(help="where the runs are; default: runs/")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON list instead of the text")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="docs/results.md instead of the text")] = False,
    docs: Annotated[bool, typer.Option("--docs", help="write docs/results.md and the README's table")] = False,
) -> None:
    """Decide every claim from the finished runs of a preset; a claim about a single model looks at all runs, unless
    --preset is given. An experiment without that preset, or without a run of it, has claims that are not run.
    """
    verdicts, notes = decided(preset, set_, runs_dir)
    for note in notes:
        print(f"Note: {note}", file=sys.stderr)
    if docs:
        write(verdicts)
        return
    shown: Callable[[list[Verdict]], str] = report.markdown if as_markdown else _json if as_json else report.text
    print(shown(verdicts), end="" if as_markdown else "\n")


def decided(
    preset: str = "", set_: list[str] | None = None, runs_dir: Path | None = None
) -> tuple[list[Verdict], list[str]]:
    """The verdict on every claim, and why experiments have no rows of a preset; arguments as the command's.

    The experiments of one plan are one family. ParameterError where a preset was asked for that no experiment has a
    run of.
    """
    families: dict[str, Tested] = {}
    notes, made = [], claims.experiments()
    for experiment, own in made.items():
        rows, every, note = _rows(experiment, preset, set_, runs_dir)
        notes += [note] if note else []
        plan = experiment[0]  # 4a, 4b and 4c are one plan
        families.setdefault(plan, []).extend(claims.examine(own, rows, every))
    if preset and len(notes) == len(made):
        raise ParameterError(notes[0])
    return [verdict for family in families.values() for verdict in claims.judge(family)], notes


def _rows(
    experiment: str, preset: str, set_: list[str] | None, runs_dir: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Rows of the preset, every row (of the preset alone where one was asked for), and why there are none of it."""
    done = runs.finished(experiment, runs_dir)
    every = hours.timed(runs.rows(experiment, done), done)
    try:
        rows, note = results.of_preset(experiment, done, every, preset, set_)[0], ""
    except ParameterError as error:
        rows, note = every.iloc[:0], str(error)
    return rows, rows if preset else every, note


def write(verdicts: list[Verdict]) -> None:
    """docs/results.md and the README's table, from the same verdicts."""
    (paths.ROOT / "docs" / "results.md").write_text(report.markdown(verdicts), encoding="utf-8")
    readme = paths.ROOT / "README.md"
    table = report.main_table(verdicts)
    readme.write_text(report.within(readme.read_text(encoding="utf-8"), table), encoding="utf-8")


def _json(verdicts: list[Verdict]) -> str:
    return json.dumps([verdict.row() for verdict in verdicts], allow_nan=False)


def main() -> None:
    console.command(app)


if __name__ == "__main__":
    main()
