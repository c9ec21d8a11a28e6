"""The commands of `python -m lib.models.eagle`: train a head for a ladder model, convert a published one."""

from pathlib import Path
from typing import Annotated

import typer

from lib import console
from lib.models.registry import ModelError

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="A ladder model, alone or with a skill: ladder-3m.")],
    inputs: Annotated[str, typer.Option(help="What the head reads: both, feature or token.")] = "both",
) -> None:
    """Train the EAGLE head of a ladder model, unless it is cached, and print its folder."""
    from lib.models import eagle_training

    place = eagle_training.path(model, inputs)
    print(eagle_training.summary(place))
    print(place)


@app.command()
def convert(
    input_model: Annotated[str, typer.Option(help="Folder or hub id of a published EAGLE-1 head.")],
    output_model: Annotated[Path, typer.Option(help="A new folder for the converted head.")],
    target: Annotated[
        str | None, typer.Option(help="The model it drafts for, to check that they belong together.")
    ] = None,
) -> None:
    """Convert a published EAGLE-1 head into a folder that current vLLM and our own loop load."""
    from lib.models import eagle_convert

    print(eagle_convert.convert(input_model, output_model, target))


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence."""
    console.command(app, ModelError, ValueError)
