"""Notebooks that are no experiment: the paper, the tour, the explorer. Measuring nothing, they have no run folder.

Every notebook in notebooks/ whose name is no experiment is such a page; its cell tagged `parameters` is all that it
declares. What stands there, annotated literals with their help behind `#`, are the names, types (str, int, float, bool
or list) and defaults that papermill's `-p` is checked against before a kernel starts. What a value must be besides
(`preset` a preset that exists) the page's own code says, by raising `ParameterError`: the sentence that its user reads.
The executed page is figures/<name>.ipynb, written anew each time, unless papermill is given an output path.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, create_model

from lib import notebooks, paths
from lib.params import Typed, checked
from lib.params.base import listed

TYPES = {"str": str, "int": int, "float": float, "bool": bool, "list": Annotated[list, BeforeValidator(listed)]}


def parameters(notebook: Path) -> type[Typed]:
    """The typed parameters of a page, read from its parameters cell without running it."""
    source = "\n".join(notebooks.code_cells(notebook, "parameters"))
    lines = source.splitlines()
    fields = {}
    for node in ast.parse(source).body:
        description = lines[node.end_lineno - 1].partition("  # ")[2]
        default = ast.literal_eval(node.value)
        fields[node.target.id] = (TYPES[ast.unparse(node.annotation)], Field(default, description=description))
    return create_model(notebook.stem, __base__=Typed, **fields)


def resolve(notebook: Path, given: Mapping[str, Any]) -> Typed:
    """The page's complete parameters; ParameterError, one sentence, for an unknown name or a wrong type in `given`."""
    return checked(notebook.stem, parameters(notebook), given)


def output(notebook: Path) -> Path:
    """Where the executed page goes, its folder made."""
    paths.FIGURES.mkdir(parents=True, exist_ok=True)
    return paths.FIGURES / notebook.name
