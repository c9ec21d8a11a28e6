"""`python -m lib.bench NAME [--json]`: run a speed comparison."""

from __future__ import annotations

import sys

import typer

from lib.bench import growth, sampling, threshold
from lib.models.registry import ModelError
from lib.params import ParameterError

app = typer.Typer(add_completion=False, rich_markup_mode=None, no_args_is_help=True)
app.command("sampling")(sampling.command)
app.command("growth")(growth.command)
app.command("threshold")(threshold.command)


@app.callback()
def explain() -> None:
    """Speed comparisons: arms interleaved in one process on one thread, medians over prompts and repeats."""


def main() -> None:
    try:
        app()
    except (ParameterError, ModelError) as error:
        sys.exit(f"Error: {error}")


if __name__ == "__main__":
    main()
