"""Where a number comes from: the commit, the packages, the machine, and the source that computed it.

`environment` goes into each run's env.json. `source_hash` digests exactly the modules of `lib` that a run's notebook
imports, directly or not, so that a change elsewhere does not make finished runs look stale. Both look from outside:
they import neither torch nor the modules they describe, so the shim and the sweep can ask before anything runs.
"""

import ast
import functools
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from lib import paths

# What can change a number or a time; few enough to compare two runs at a glance.
PACKAGES = "torch", "transformers", "tokenizers", "vllm", "accelerate", "numpy", "scipy", "pandas", "numba", "papermill"

# Modules whose change cannot change what a run computed. A run's parameters have a hash of their own, and drawing,
# judging, benchmarking and book-keeping happen around the computation.
NOT_SOURCE = {
    *("figures", "claims", "bench", "sweep", "presets", "params"),
    *("runs", "records", "paths", "provenance", "papermill_io", "console", "kernel", "notebooks"),
}


def environment(threads: int | None = None, dtype: str | None = None) -> dict[str, Any]:
    """What env.json holds: plain JSON types; `threads` and `dtype` as the run was asked for."""
    return {
        "git": git_state(),
        "python": platform.python_version(),
        "packages": {name: v for name in PACKAGES if (v := _version(name))},
        "platform": platform.platform(),
        "cpu": {"name": cpu_name(), "cores": os.cpu_count()},
        "gpus": gpu_names(),
        "threads": threads,
        "dtype": dtype,
    }


def git_state() -> dict[str, Any]:
    """{"commit": 40 hex digits or None, "dirty": bool or None}; None where there is no git or no repository."""
    lines = _output("git", "--no-optional-locks", "status", "--porcelain=v2", "--branch").splitlines()
    facts = dict(line.removeprefix("# ").split(" ", 1) for line in lines if line.startswith("# "))
    commit = facts.get("branch.oid", "(initial)")  # what git says before the first commit
    known = commit != "(initial)"
    return {"commit": commit if known else None, "dirty": len(lines) > len(facts) if known else None}


def cpu_name() -> str:
    """The processor's marketing name where the system tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    brand = _output("sysctl", "-n", "machdep.cpu.brand_string") if sys.platform == "darwin" else ""
    return brand or platform.processor() or platform.machine()


def gpu_names() -> list[str]:
    """Name, driver version and memory of each NVIDIA GPU, as its driver's own tool prints them; [] without one."""
    return _output("nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader").splitlines()


def _version(package: str) -> str | None:
    """Its line of the metadata alone: parsing all of it, as metadata.version does, takes five times as long."""
    try:
        lines = (metadata.distribution(package).read_text("METADATA") or "").splitlines()
    except metadata.PackageNotFoundError:
        return None
    return next((line.removeprefix("Version: ") for line in lines if line.startswith("Version: ")), None)


def _output(*command: str) -> str:
    """What a command run in the checkout prints; "" when it is missing, fails or hangs."""
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def source_hash(experiment: str, modules: Iterable[str] = ()) -> str:
    """sha256 (hex) of the code behind an experiment: the `lib` modules its notebook imports, and `modules` besides.

    Comments, layout and docstrings do not count, since they cannot change a result. The Python version may: syntax
    trees differ between minor versions, so another interpreter can make a run look stale, never fresh.
    """
    return _source_hash(experiment, tuple(modules))


@functools.lru_cache(maxsize=64)  # loading a folder of runs asks the same question once per run
def _source_hash(experiment: str, modules: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name, path in sorted(imported_modules(_entry_imports(experiment) | set(modules)).items()):
        digest.update(f"{name}\n{_read(path, name).digest}\n".encode())
    return digest.hexdigest()


def imported_modules(roots: Iterable[str]) -> dict[str, Path]:
    """The `lib` modules reached from `roots` through imports anywhere in their source: {dotted name: file}."""
    found: dict[str, Path] = {}
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        path = _file(name)
        if name in found or path is None or not NOT_SOURCE.isdisjoint(name.split(".")[1:2]):
            continue
        found[name] = path
        waiting += _read(path, name).imports
    return found


class Source(NamedTuple):
    """What a file means: the modules of `lib` it imports, and sha256 (hex) of its syntax tree without docstrings."""

    imports: tuple[str, ...]
    digest: str


def _read(path: Path, name: str) -> Source:
    """The file of module `name`, parsed once per process and version of the file: experiments share most of theirs."""
    return _parsed(path, name, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=1024)
def _parsed(path: Path, name: str, _changed: int) -> Source:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = tuple(_imports(tree, name if path.stem == "__init__" else name.rpartition(".")[0]))
    return Source(imports, hashlib.sha256(_normal_form(tree).encode()).hexdigest())


def _entry_imports(experiment: str) -> set[str]:
    """What the experiment's notebook imports of `lib`; for `bench/x`, which has no notebook, the module lib.bench.x."""
    notebook = paths.NOTEBOOKS / f"{experiment}.ipynb"
    if not notebook.exists():
        module = _file("lib." + experiment.replace("/", "."))
        return set(_imports(ast.parse(module.read_text(encoding="utf-8")), "lib")) if module else set()
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    python = "\n".join(line for s in sources for line in s.splitlines() if not line.lstrip().startswith(("%", "!")))
    return set(_imports(ast.parse(python), "lib"))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Dotted names under `lib` that a tree imports, with every parent package; `package` anchors relative imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            anchor = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join(anchor + ([node.module] if node.module else []))
            names = [base, *(f"{base}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] == "lib":
                yield from (".".join(parts[:n]) for n in range(1, len(parts) + 1))


def _file(name: str) -> Path | None:
    """The file of a module of `lib`, or None when the name is not a module."""
    stem = paths.ROOT.joinpath(*name.split("."))
    return next((p for p in (stem.with_suffix(".py"), stem / "__init__.py") if p.is_file()), None)


def _normal_form(tree: ast.Module) -> str:
    """A syntax tree without its docstrings, as text."""
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)
