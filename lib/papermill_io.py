"""Makes `papermill nb/1a3_scaling.ipynb -p model ladder-1m` work as typed, inside this repository and nowhere else.

papermill loads this module whenever it is imported, through its official `papermill.io` entry point. Two things follow:
- `NotebookAlias` reads `nb/...` from notebooks/, on every system and from any folder of the repository, without a link.
- When papermill's own command is being started on one of our notebooks, it goes through `main`. papermill has no hook
  for what we need there: it refuses to run without an output path on a terminal, dumps the notebook on a redirected
  stdout, and takes the notebook for the *output* when stdin is a pipe (its issues 405 and 446). `main` lets papermill
  parse its own command line, checks the parameters, opens the run folder, and names the output there. A notebook that
  is no experiment is a page (`lib.pages`): it has no run folder, and its output goes to figures/.
A call from outside the repository, or on anything but our notebooks, is left alone, and a real `nb/` folder wins.
"""

import base64
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from lib import paths

PLACEHOLDER = "recount-output.ipynb"  # stands for the output path until it is known


def our_notebook(path: str) -> Path | None:
    """The file in notebooks/ (there or not) that a path typed in the current folder means; None for anything else."""
    here = Path.cwd()
    if not path.endswith(".ipynb") or not (here == paths.ROOT or paths.ROOT in here.parents):
        return None
    typed = Path(path.replace("\\", "/"))
    if typed.parts[0] == "nb" and not (here / "nb").exists():
        return paths.NOTEBOOKS.joinpath(*typed.parts[1:])
    full = (here / typed).resolve()
    return full if full.parent == paths.NOTEBOOKS else None


class NotebookAlias:
    """papermill's reader and writer of paths that begin with `nb/`."""

    @staticmethod
    def read(path: str) -> str:
        return _local().read(_real(path))

    @staticmethod
    def write(text: str, path: str) -> None:
        _local().write(text, _real(path))

    @staticmethod
    def listdir(path: str) -> list[str]:
        return _local().listdir(_real(path))

    @staticmethod
    def pretty_path(path: str) -> str:
        return _real(path)


def _real(path: str) -> str:
    return str(our_notebook(path) or path)


def _local() -> Any:
    """papermill's own handler of local files."""
    from papermill.iorw import papermill_io

    return papermill_io.get_handler("local")


def started_on_our_notebook(argv: list[str], original: list[str]) -> bool:
    """Whether a process with this sys.argv and sys.orig_argv is papermill's command given one of our notebooks."""
    as_module = argv[0] == "-m" and "papermill" in original[: len(original) - len(argv) + 1]
    if not as_module and Path(argv[0]).name.split(".")[0] not in ("papermill", "papermill-script"):
        return False
    return "--help-notebook" not in argv and any(our_notebook(argument) for argument in argv[1:])


def divert() -> None:
    """Send the command through `main` when papermill, by then fully imported, calls it.

    Every way of starting papermill's command ends in click's `Command.main`, once per process.
    """
    ordinary = click.Command.main

    def diverted(_command: click.Command, *_args: Any, **_options: Any) -> None:
        click.Command.main = ordinary
        main(sys.argv[1:])

    click.Command.main = diverted


def main(arguments: list[str]) -> None:
    """papermill's command with two changes: parameters are checked first, and the run folder is the default output."""
    from papermill import cli

    from lib import console
    from lib.notebooks import NotebookError
    from lib.params import ParameterError, nearest

    typed = cli.papermill.make_context("papermill", list(arguments), resilient_parsing=True).params
    notebook = our_notebook(typed.get("notebook_path") or "")
    try:
        if notebook is not None and not notebook.is_file():
            present = sorted(path.name for path in paths.NOTEBOOKS.glob("*.ipynb"))
            raise ParameterError(f"There is no notebook {notebook.name!r}; {nearest(notebook.name, present)}")
        if notebook is not None and not typed.get("prepare_only"):
            _check_given(typed)
            cli.execute_notebook = _execute_ours
            arguments = arguments if typed.get("output_path") else [*arguments, PLACEHOLDER]
        cli.papermill.main(arguments, prog_name="papermill")
    except ParameterError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(console.MISTAKEN)
    except OSError as error:
        print(f"Error: {console.refused(error)}", file=sys.stderr)
        sys.exit(console.exit_code(error))
    except NotebookError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(console.FAILED)


def _check_given(typed: Mapping[str, Any]) -> None:
    """ParameterError where -y, -b or -f does not give names and values, over which papermill ends in a traceback."""
    from lib import plain_yaml
    from lib.params import ParameterError

    def decoded(text: str) -> Any:
        return plain_yaml.parse(base64.b64decode(text, validate=True).decode())

    def filed(path: str) -> Any:
        return {} if "://" in path else plain_yaml.read(Path(path))

    readers = {"parameters_yaml": plain_yaml.parse, "parameters_base64": decoded, "parameters_file": filed}
    for name, read in readers.items():
        for text in typed.get(name) or ():
            try:
                reason = "" if isinstance(read(text) or {}, dict) else "it is no mapping"
            except ValueError as error:  # YamlError, or what is no base64 or no UTF-8
                reason = str(error).rstrip(".")
            if reason:
                raise ParameterError(f"{text!r} holds no parameters ({reason}); write {{name: value}} in YAML.")


def _execute_ours(input_path: str, output_path: str, parameters: dict[str, Any], **options: Any) -> None:
    """Stands in for papermill.execute_notebook: check the parameters, say where the output is, execute."""
    from lib.console import Status
    from lib.params import EXPERIMENTS

    notebook = our_notebook(input_path)
    output = None if output_path == PLACEHOLDER else output_path
    prepare = _run if notebook.stem in EXPERIMENTS else _page
    place, execute = prepare(notebook, output, parameters)
    status = Status()
    try:
        execute(show=status.show, **options)
    except KeyboardInterrupt:
        status.close()
        print(f"Stopped; {place} is incomplete, and nothing will count it.", file=sys.stderr)
        sys.exit(130)
    finally:
        status.close()
    print(f"Complete: {place}", file=sys.stderr)


def _run(notebook: Path, output: str | None, parameters: dict[str, Any]) -> tuple[Path, Callable[..., None]]:
    """An experiment: the run folder, made for it, and what executes the notebook there."""
    from lib import notebooks, runs
    from lib.params import own_names, resolve

    experiment = notebook.stem
    parameters = own_names(experiment, parameters)  # the notebook's defaults stand under these
    raw = {**notebooks.defaults(notebook), **parameters}
    params = resolve(experiment, {k: v for k, v in raw.items() if k not in runs.NOT_PARAMETERS})
    folder = runs.prepare(experiment, params)
    return folder, partial(notebooks.execute, notebook, params, parameters, folder, output)


def _page(notebook: Path, output: str | None, parameters: dict[str, Any]) -> tuple[str, Callable[..., None]]:
    """A notebook that is no experiment: where its executed copy goes, and what executes it."""
    from lib import notebooks, pages, runs

    params = pages.resolve(notebook, {k: v for k, v in parameters.items() if k not in runs.NOT_PARAMETERS})
    output = output or notebooks.unformatted(pages.output(notebook))
    given = parameters | params.model_dump(include=set(parameters))
    return output, partial(notebooks.execute_page, notebook, params, given, output)


if started_on_our_notebook(sys.argv, sys.orig_argv):
    divert()
