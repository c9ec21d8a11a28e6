"""One notebook, one run: executed by papermill into the run's folder, with everything it prints in log.txt.

The papermill command and the sweep both come through `execute`, so a run is the same however it was started. A
notebook that is no experiment (`lib.pages`) has no run folder and goes through `execute_page`.
"""

import ast
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lib.console import ESCAPES, Log
from lib.params import ParameterError, Params, Typed

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
START = 300  # seconds a kernel may take to start: the first one after a night reads its packages from a cold disk


class NotebookError(RuntimeError):
    """A run that failed; the message is one sentence with the place to look."""


class KernelDied(NotebookError):
    """A run whose kernel went without a word: killed, or out of memory. Another try may succeed."""


def code_cells(notebook: Path, tag: str | None = None) -> list[str]:
    """The sources of a notebook's code cells, of those with `tag` where one is given."""
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    chosen = [c for c in cells if c["cell_type"] == "code" and (tag is None or tag in c["metadata"].get("tags", []))]
    return ["".join(c["source"]) for c in chosen]


def defaults(notebook: Path) -> dict[str, Any]:
    """The names and literal values of a notebook's parameters cell, read without running it."""
    found = {}
    for node in ast.walk(ast.parse("\n".join(code_cells(notebook, "parameters")))):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None:
            found[node.target.id] = ast.literal_eval(node.value)
    return found


def execute(
    notebook: Path,
    params: Params,
    parameters: Mapping[str, Any],
    folder: Path,
    output: str | None = None,
    show: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Execute `notebook` with `parameters` into the run folder `folder`, prepared for `params`.

    `output` is where the executed notebook goes, papermill's way (executed.ipynb of the run folder when None); `show`
    is called with each new line the notebook prints; `options` go to papermill.execute_notebook.
    Raises NotebookError when a cell fails or the kernel dies.
    """
    _threads(params)
    target = output or unformatted(folder / "executed.ipynb")
    log = {s: Log(folder / "log.txt", options.pop(s, None), show) for s in ("stdout_file", "stderr_file")}
    with _reported(target, folder / "log.txt", log["stderr_file"]):
        _execute(notebook, target, {**parameters, "run_dir": str(folder)}, **log, **options)


def execute_page(
    notebook: Path,
    params: Typed,
    parameters: Mapping[str, Any],
    output: str,
    show: Callable[[str], None] | None = None,
    **options: Any,
) -> None:
    """Execute a notebook that is no experiment; arguments as `execute`'s. What it prints is in the notebook alone.

    Raises ParameterError where a cell does, over a value that only the notebook can judge, and NotebookError else.
    """
    _threads(params)
    log = {s: Log(Path(os.devnull), options.pop(s, None), show) for s in ("stdout_file", "stderr_file")}
    with _reported(output, output):
        _execute(notebook, output, parameters, **log, **options)


def unformatted(path: Path) -> str:
    """A path for papermill, which formats paths with the parameters: braces in a folder's name are doubled."""
    return str(path).replace("{", "{{").replace("}", "}}")


def _threads(params: Typed) -> None:
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(getattr(params, "threads", 1))))


def _execute(notebook: Path, target: str, given: Mapping[str, Any], **options: Any) -> None:
    import papermill  # all of Jupyter; nobody who only reads a notebook should wait for it

    from lib import kernel

    options = {"start_timeout": START, **options, **kernel.options(options.pop("kernel_name", None))}
    with kernel.connection() as config:
        papermill.execute_notebook(str(notebook), target, given, config=config, coalesce_streams=True, **options)


@contextmanager
def _reported(target: str, log: Path | str, stderr: Log | None = None) -> Iterator[None]:
    """Turn what papermill raises into one sentence that says where to look: the executed notebook, or the log."""
    from nbclient.exceptions import DeadKernelError
    from papermill.exceptions import PapermillExecutionError

    try:
        yield
    except PapermillExecutionError as error:
        if stderr is not None:
            stderr.write(ESCAPES.sub("", "\n".join(error.traceback)) + "\n")
            stderr.flush()
        elif error.ename == ParameterError.__name__:
            raise ParameterError(error.evalue) from None
        reason = f"{error.ename}: {error.evalue}".strip().splitlines()[0][:300].rstrip(".")
        raise NotebookError(f"The run failed in cell [{error.exec_count}] with {reason}; see {target}") from None
    except DeadKernelError:
        raise KernelDied(f"The run's kernel died, perhaps out of memory; see {log}") from None
    except RuntimeError as error:  # what nbclient says of one that ends, or is silent, before the first cell
        raise KernelDied(f"The run's kernel could not be started ({error}); see {log}") from None
