"""A small copy of the checkout for tests that start real processes: this `lib` and a notebook that runs at once."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_notebook

from lib import paths
from lib.params import Scaling

WORK = """\
import os, sys
from tqdm import tqdm
print("kernel", sys.executable)
for arm in tqdm(run.params.arms, desc="arms"):
    run.measure(arm=arm, threads=int(os.environ["OMP_NUM_THREADS"]))
if run.params.seed == 13:
    raise ZeroDivisionError("unlucky")
if run.params.seed == 9:
    os.kill(os.getpid(), 9)"""


def notebook() -> nbformat.NotebookNode:
    """Opens a run with every parameter of 1a3_scaling, measures nothing real, finishes; seeds 13 and 9 make it fail."""
    lines = [f"{name}: {field.annotation} = {field.default!r}" for name, field in Scaling.model_fields.items()]
    parameters = new_code_cell("from typing import Literal\n" + "\n".join(lines).replace("typing.Literal", "Literal"))
    parameters.source = "\n".join(
        f"{name}: {'list' if isinstance(field.default, list) else type(field.default).__name__} = {field.default!r}"
        for name, field in Scaling.model_fields.items()
    )
    parameters.metadata["tags"] = ["parameters"]
    opening = new_code_cell('from lib import runs\n\nrun = runs.open_run("1a3_scaling", globals())')
    cells = [parameters, opening, new_code_cell(WORK), new_code_cell('run.finish({"arms": len(run.params.arms)})')]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def make(root: Path) -> Path:
    """Copy `lib` and `params` to `root` and write the notebook to root/notebooks/1a3_scaling.ipynb; returns `root`."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(paths.ROOT / "lib", root / "lib", ignore=skip)
    shutil.copytree(paths.PARAMS, root / "params")
    (root / "notebooks").mkdir()
    nbformat.write(notebook(), root / "notebooks" / "1a3_scaling.ipynb")
    return root


def environment(root: Path) -> dict[str, str]:
    """The environment in which `lib` means the copy in `root`, whose results stay in `root` too."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("RECOUNT_")}
    return {**kept, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}


def command(name: str) -> str:
    """The console script of this interpreter's environment."""
    return str(Path(sys.executable).parent / name)


def start(arguments: list[str], root: Path, cwd: Path | None = None, **options) -> subprocess.CompletedProcess:
    """Run a command to its end in the copy, output captured as text."""
    streams = {"capture_output": True, "stdin": subprocess.DEVNULL, **options}
    where = cwd or root
    return subprocess.run(arguments, cwd=where, env=environment(root), text=True, timeout=120, check=False, **streams)
