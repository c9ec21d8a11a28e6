"""A small copy of the checkout for tests that start real processes: this `lib` and a notebook that runs at once."""

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from lib import paths
from lib.params import Scaling

# What the notebook does depends on its seed, so that one notebook serves every test.
WORK = """\
import os, sys, threading

devices = os.environ.get("CUDA_VISIBLE_DEVICES")
run.measure(model=run.params.model, python=sys.executable, threads=os.environ["OMP_NUM_THREADS"], devices=devices)
print("to stdout")
print("half a bar\\rwhole bar", file=sys.stderr)
if run.params.seed == 13 and run.params.model == "ladder-60k":
    raise ZeroDivisionError("unlucky")
if run.params.seed == 14:  # tell the test, then never end
    channel = open(os.environ["CHANNEL"], "w")
    print("here", file=channel, flush=True)
    threading.Event().wait()
if run.params.seed == 15:  # each end of a pipe opens only when the other does: both runs, or neither
    open(os.environ["CHANNEL"], "w" if run.params.model == "ladder-60k" else "r")"""

# The kernel that a user registered under the usual name, which must not be used.
FOREIGN_KERNEL = {"argv": ["false"], "display_name": "Python 3", "language": "python"}

PRESETS = """
exclusive: true
base: {arms: [naive, eab]}
presets:
  alone: {grid: {model: [ladder-60k, ladder-1m]}}
  beside: {exclusive: false, grid: {model: [ladder-60k, ladder-1m]}}
"""


# Half of what starting papermill costs is in packages that nothing here uses and that it can do without.
LIGHTER = "import sys\nsys.modules |= dict.fromkeys(['rfc3987_syntax', 'pyarrow'])\n"


def notebook(work: str = WORK) -> nbformat.NotebookNode:
    """Opens a run with every parameter of 1a3_scaling, measures nothing real, finishes."""
    defaults = {name: field.get_default() for name, field in Scaling.model_fields.items()}
    lines = [f"{name}: {type(value).__name__} = {value!r}" for name, value in defaults.items()]
    parameters = new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})
    opening = new_code_cell('from lib import runs\n\nrun = runs.open_run("1a3_scaling", globals())')
    cells = [parameters, opening, new_code_cell(work), new_code_cell('run.finish({"answer": 42})')]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def make(root: Path, work: str = WORK, presets: str = PRESETS) -> Path:
    """Fill `root` with this `lib`, the notebook, its presets, and a user's foreign kernel; returns `root`."""
    shutil.copytree(paths.ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    for folder in ("notebooks", "params", "kernels/kernels/python3"):
        (root / folder).mkdir(parents=True)
    nbformat.write(notebook(work), root / "notebooks" / "1a3_scaling.ipynb")
    (root / "params" / "1a3_scaling.yaml").write_text(presets)
    (root / "kernels/kernels/python3/kernel.json").write_text(json.dumps(FOREIGN_KERNEL))
    return root


def environment(root: Path, **extra: str) -> dict[str, str]:
    """The environment in which `lib` means the copy in `root`, and whose results stay there.

    Its temporary files, the machine's lock among them, lie in a folder of its own: no other sweep is waited for.
    """
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RECOUNT_")}
    folder = temporary(root).name
    kept["TMPDIR"] = kept["RECOUNT_LOCKS"] = os.path.join(folder, "t")
    jupyter = {"JUPYTER_PATH": str(root / "kernels"), "JUPYTER_PREFER_ENV_PATH": "0"}
    return {**kept, **jupyter, "PYTHONPATH": os.pathsep.join([str(root), folder]), **extra}


@functools.cache
def temporary(root: Path) -> tempfile.TemporaryDirectory:
    """A folder for commands in the copy: `t` for temporary files, its path short because kernels' sockets lie there."""
    folder = tempfile.TemporaryDirectory(prefix="r-", ignore_cleanup_errors=True)
    Path(folder.name, "t").mkdir(mode=0o777)
    Path(folder.name, "sitecustomize.py").write_text(LIGHTER)
    return folder


def papermill() -> str:
    """papermill's console script in this interpreter's environment."""
    return str(Path(sys.executable).parent / "papermill")


def run(arguments: list[str], root: Path, cwd: Path | None = None, **options) -> subprocess.CompletedProcess:
    """Run a command to its end in the copy; what it prints is captured as text."""
    options = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.run(
        arguments, cwd=cwd or root, env=environment(root), capture_output=True, text=True, check=False, **options
    )


def folders(root: Path) -> list[Path]:
    """The run folders in the copy."""
    return sorted((root / "runs" / "1a3_scaling").glob("[!.]*"))
