"""`python -m lib.figures [NAME ...]`: make figures and tables from finished runs. No model is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lib import console, figures, paper, paths
from lib.params import ParameterError, nearest

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def draw(
    names: Annotated[list[str] | None, typer.Argument(help="figures and tables to make; default: all of them")] = None,
    preset: Annotated[str, typer.Option(help="draw this preset's runs; default: the preset of the newest run")] = "",
    set_: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE that the sweep was given")] = None,
    runs_dir: Annotated[Path | None, typer.Option(help="where the runs are; default: runs/")] = None,
    out: Annotated[Path | None, typer.Option(help="where the figures go; default: figures/")] = None,
) -> None:
    """Make figures and tables from the finished runs of a preset. A figure is a PDF and a PNG, the plotted numbers as
    CSV, and a caption; a table is CSV and Markdown. Beside each, a JSON says which commit and runs it comes from.

    \b
    python -m lib.figures                            every figure and table, newest preset
    python -m lib.figures 1a3_speedup --preset quick
    """
    known = figures.specs()
    for name in names or known:
        if name not in known:
            raise ParameterError(f"There is no figure {name!r}; {nearest(name, known)}")
    chosen = list(dict.fromkeys(names or known))
    found = paper.sources([known[name].experiment for name in chosen], preset, set_ or [], runs_dir)
    made = paper.make(chosen, found, out or paths.FIGURES)
    left_out: dict[str, list[str]] = {}  # reason: figures
    for one in made:
        if one.reason:
            left_out.setdefault(one.reason, []).append(one.name)
        else:
            print(f"{one.files[0]} (+ {_others(one)}), {one.origin}")
    if (names and left_out) or sum(map(len, left_out.values())) == len(known):
        raise ParameterError(next(iter(left_out)))
    for reason, without in left_out.items():
        print(f"Left out: {', '.join(without)}. {reason}")


def _others(one: paper.Made) -> str:
    """The files beside the first: those of its name by their endings, then the others."""
    own = [path.suffix for path in one.files[1:] if path.stem == one.name]
    return ", ".join([" ".join(own), *(path.name for path in one.files[1:] if path.stem != one.name)])


def main() -> None:
    console.command(app)


if __name__ == "__main__":
    main()
