"""`python -m lib.figures [NAME ...]`: draw figures from finished runs. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from lib import console, figures, paths, provenance, results, runs
from lib.figures import style
from lib.params import ParameterError, nearest

BENCH = "bench/"  # experiments of this prefix are benchmarks: no preset, no grid

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def draw(
    names: Annotated[list[str] | None, typer.Argument(help="figures to draw; default: all of them")] = None,
    preset: Annotated[str, typer.Option(help="draw this preset's runs; default: the preset of the newest run")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE that the sweep was given")] = None,
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
    left_out: dict[str, list[str]] = {}  # reason: figures
    for name in names or known:
        try:
            _draw(known[name], preset, set_ or [], runs_dir, out or paths.FIGURES)
        except ParameterError as error:
            if names:
                raise
            left_out.setdefault(str(error), []).append(name)
    if sum(map(len, left_out.values())) == len(known):
        raise ParameterError(next(iter(left_out)))
    for reason, without in left_out.items():
        print(f"Left out: {', '.join(without)}. {reason}")


def _draw(spec: figures.Spec, preset: str, set_: list[str], runs_dir: Path | None, out: Path) -> None:
    if spec.experiment.startswith(BENCH):
        rows, missing, origin = benchmark_rows(spec.experiment, runs_dir), [], "newest run"
    else:
        rows, missing = results.grid_rows(spec.experiment, preset, set_, runs_dir)
        origin = f"preset {rows.preset.iloc[-1]}"
    commit = provenance.git_state()["commit"]
    source = f"commit {commit}; runs {', '.join(sorted(set(rows.run)))}"
    try:
        drawn = spec.draw(rows, missing)
    except figures.Undrawable as error:
        raise ParameterError(str(error)) from None
    saved = style.save(drawn, spec.name, out, source)
    further = "".join(f", {path.name}" for path in saved[4:])
    print(f"{saved[0]} (+ .png .csv .txt{further}), {origin}")


def benchmark_rows(experiment: str, runs_dir: Path | None) -> pd.DataFrame:
    """Measurement rows of the newest finished run of a benchmark, whatever its parameters; ParameterError without."""
    done = runs.finished(experiment, runs_dir)
    if not done:
        name = experiment.removeprefix(BENCH)
        raise ParameterError(f"There is no finished run of {experiment}: run 'python -m lib.bench {name}' first.")
    rows = runs.load(experiment, runs_dir)
    return rows[rows.run == done[-1].dir.name]


def main() -> None:
    console.command(app)


if __name__ == "__main__":
    main()
