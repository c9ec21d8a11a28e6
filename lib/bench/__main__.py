"""`python -m lib.bench NAME [--json]`: run a speed comparison."""

from __future__ import annotations

import typer

from lib import console
from lib.bench import bridge, growth, mazes, sampling, specdec, sweep, threshold, wire
from lib.models.registry import ModelError

app = typer.Typer(add_completion=False, rich_markup_mode=None)
app.command("sampling")(sampling.command)
app.command("bridge")(bridge.command)
app.command("growth")(growth.command)
app.command("mazes")(mazes.command)
app.command("specdec")(specdec.command)
app.command("sweep")(sweep.command)
app.command("threshold")(threshold.command)
app.command("wire")(wire.command)


@app.callback()
def explain() -> None:
    """Speed comparisons: arms interleaved in one process on one thread, medians over prompts and repeats."""


def main() -> None:
    console.command(app, ModelError)


if __name__ == "__main__":
    main()
