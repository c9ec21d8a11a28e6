"""`python -m lib.figures [NAME ...]`: draw figures from finished runs. No model is loaded."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lib import console, figures, paths, presets, provenance, runs
from lib.figures import style
from lib.params import ParameterError, config_hash, nearest

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
def draw(
    names: Annotated[list[str] | None, typer.Argument(help="figures to draw; default: all of them")] = None,
    preset: Annotated[str, typer.Option(help="draw this preset's runs; default: the preset of the newest run")] = "",
    runs_dir: Annotated[Path | None, typer.Option(help="where the runs are; default: runs/")] = None,
    out: Annotated[Path | None, typer.Option(help="where the figures go; default: figures/")] = None,
) -> None:
    """Draw figures from the finished runs of a preset: PDF, PNG, the plotted numbers as CSV, and a caption.

    \b
    python -m lib.figures                            every figure, newest preset
    python -m lib.figures 1a3_speedup --preset quick
    """
    known = figures.specs()
    for name in names or known:
        if name not in known:
            raise ParameterError(f"There is no figure {name!r}; {nearest(name, known)}")
    drawn = [name for name in names or known if _draw(known[name], preset, runs_dir, out or paths.FIGURES)]
    if not drawn:
        raise ParameterError("No finished run was found, so there is nothing to draw; run 'make demo' first.")


def _draw(spec: figures.Spec, preset: str, runs_dir: Path | None, out: Path) -> bool:
    rows, missing = grid_rows(spec.experiment, preset, runs_dir)
    if rows.empty:
        print(f"{spec.name}: no finished run of {spec.experiment}; nothing drawn", file=sys.stderr)
        return False
    commit = provenance.git_state()["commit"]
    source = f"commit {commit}; runs {', '.join(sorted(set(rows.run)))}"
    saved = style.save(spec.draw(rows, missing), spec.name, out, source)
    print(f"{saved[0]} (+ .png .csv .txt)")
    return True


def grid_rows(experiment: str, preset: str, runs_dir: Path | None) -> tuple[pd.DataFrame, list[str]]:
    """Measurement rows of the finished cells of a preset, and the labels of its cells that have none.

    An empty `preset` means the one that the newest run was made with.
    """
    done = runs.finished(experiment, runs_dir)
    preset = preset or next((r.config["preset"] for r in reversed(done) if r.config["preset"]), "")
    if not preset:
        return pd.DataFrame(), []
    wanted = {config_hash(cell.resolved()): cell.label for cell in presets.cells(experiment, preset)}
    finished = {run.metrics["config_hash"]: run.dir.name for run in done}
    rows = runs.load(experiment, runs_dir)
    chosen = [finished[h] for h in wanted if h in finished]
    rows = rows[rows.run.isin(chosen)] if len(rows) else rows
    return rows, [label for h, label in wanted.items() if h not in finished]


def main() -> None:
    console.plain_warnings()
    try:
        app()
    except ParameterError as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
