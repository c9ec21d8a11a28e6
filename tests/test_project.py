"""The project keeps the shape it promises: notebooks in step, imports one way, one list of dependencies."""

import ast
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import yaml

from lib import notebooks, pages, paths
from lib.params import EXPERIMENTS

NOTEBOOKS = sorted(paths.NOTEBOOKS.glob("*.ipynb"))
MODULES = sorted((paths.ROOT / "lib").rglob("*.py"))
LONGEST_CELL = 15  # lines, parameters aside
MOST_CELLS = 20

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def parameters_cell(path: Path) -> ast.Module:
    (source,) = notebooks.code_cells(path, "parameters")
    return ast.parse(source)


def test_every_experiment_has_its_notebook():
    assert {name for name in EXPERIMENTS if not name.startswith("bench/")} <= {path.stem for path in NOTEBOOKS}


@each_notebook
class TestNotebooks:
    def test_is_in_step_with_its_text(self, path):
        text = jupytext.read(paths.NOTEBOOKS / "src" / f"{path.stem}.py")
        stored = nbformat.read(path, as_version=4)
        assert [(c.cell_type, c.source) for c in stored.cells] == [(c.cell_type, c.source) for c in text.cells]
        tags = [[c.metadata.get("tags", []) for c in book.cells] for book in (stored, text)]
        assert tags[0] == tags[1]

    def test_holds_no_outputs(self, path):
        assert not any(cell.outputs or cell.execution_count for cell in cells(path))

    def test_runs_in_the_interpreter_that_opened_it(self, path):
        kernel = nbformat.read(path, as_version=4).metadata.kernelspec
        assert kernel.name == "python3"
        assert kernel.display_name == "Python 3 (ipykernel)"  # as JupyterLab writes it, or each save is a change

    def test_is_short_enough_to_read(self, path):
        work = [cell for cell in cells(path) if "parameters" not in cell.metadata.get("tags", [])]
        assert max(len(cell.source.splitlines()) for cell in work) <= LONGEST_CELL
        assert len(cells(path) + cells(path, "markdown")) <= MOST_CELLS

    def test_begins_with_its_question(self, path):
        first = nbformat.read(path, as_version=4).cells[0]
        assert first.cell_type == "markdown"
        assert first.source.startswith("# ")

    def test_names_no_place_on_a_disk(self, path):
        assert not any(text in cell.source for cell in cells(path) for text in ('"/', "'/", '"../', "'../", "~/"))

    def test_annotates_and_explains_every_parameter(self, path):
        tree = parameters_cell(path)
        assert all(isinstance(node, ast.AnnAssign) for node in tree.body)
        (source,) = notebooks.code_cells(path, "parameters")
        lines = source.splitlines()
        assert all("  # " in lines[node.end_lineno - 1] for node in tree.body)

    def test_parameters_and_defaults_are_those_of_the_model(self, path):
        if path.stem not in EXPERIMENTS:  # a page, which declares them itself
            assert pages.resolve(path, {}).model_dump() == notebooks.defaults(path)
            return
        fields = EXPERIMENTS[path.stem].model_fields
        assert notebooks.defaults(path) == {name: field.get_default() for name, field in fields.items()}
        typed = {node.target.id: ast.unparse(node.annotation) for node in parameters_cell(path).body}
        assert typed == {name: type(field.get_default()).__name__ for name, field in fields.items()}


def test_a_notebook_is_parametrised_over():
    assert NOTEBOOKS, "there is no notebook to check"


def imports(path: Path) -> set[str]:
    """Dotted names of everything a module imports, lazily or not."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} uses a relative import, which this test does not follow"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def room(dotted: str) -> str:
    """`lib.metrics.stats` -> "metrics"; "" for `lib` itself and for anything outside it."""
    parts = dotted.split(".")
    return parts[1] if parts[0] == "lib" and len(parts) > 1 else ""


# What each room may import of lib, besides itself. `paths` is for everybody.
ALLOWED = {
    "data": set(),
    "metrics": set(),
    "models": {"data", "range_coder"},
    "generators": {"data", "models", "metrics.cost"},
}
COMMANDS = {"console"}  # of a room's own command lines
DRAWN = (
    "stats",
    "predictions",
    "acceptance",
    "speculation",
    "replay",
    "lossless",
    "mazes",
    "fits",
    "paired",
    "messages",
    "proportions",
    "breakeven",
)  # no torch
TOP = {"bench", "claims", "plan", "sweep"}  # import what they like; only each other and notebooks import them
PROTOCOLS = {n: {"bench", "claims", "params", "tour"} for n in ("specdec", "mazes", "bridge")}  # params is lazy
IMPORTERS = dict.fromkeys(TOP, TOP) | PROTOCOLS


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(paths.ROOT)))
def test_imports_run_one_way(path):
    inside = path.relative_to(paths.ROOT / "lib").with_suffix("").parts[0]
    names = imports(path)
    for name in names:
        target = room(name)
        if target in ("", "paths", inside):
            continue
        assert inside in IMPORTERS.get(target, {inside}), name
        if inside in ALLOWED and target not in COMMANDS:
            assert any(f"{name}.".startswith(f"lib.{a}.") or f"lib.{a}" == name for a in ALLOWED[inside]), name
        if inside == "figures" and path.name != "__main__.py":  # the command line may read runs, the drawing may not
            assert name == "lib.metrics" or any(f"{name}.".startswith(f"lib.metrics.{pure}.") for pure in DRAWN), name
    if inside in ("data", "metrics", "models", "generators", "figures"):
        assert not {"papermill", "ray", "jupytext"} & {name.split(".")[0] for name in names}


def test_checking_and_drawing_need_no_model_stack():
    code = """
import sys, lib.runs, lib.papermill_io, lib.sweep, lib.figures
from lib import params, presets
params.resolve("1a3_scaling", {"model": "Qwen2.5-7B"})
for experiment in ("1a3_scaling", "2a_specdec", "3a_poh_scaling", "4a_bridge", "4b_wire", "4c_inference"):
    for cell in presets.cells(experiment, "full"):
        cell.gpus, cell.resolved().unavailable()
lib.figures.specs()
sys.exit(", ".join({"torch", "transformers", "vllm", "ray"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_conda_environment_is_python_pip_and_this_package():
    text = (paths.ROOT / "environment.yml").read_text()
    conda = yaml.safe_load(text)
    assert conda["dependencies"] == ["python=3.11", "pip", {"pip": ["-e .[dev]"]}]
    assert "# - -e .[dev,vllm]" in text


def test_git_ignores_results_and_environments_but_no_source():
    def ignored(*names: str) -> set[str]:
        command = ["git", "check-ignore", "--no-index", *names]
        return set(subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False).stdout.split())

    source = [str(path.relative_to(paths.ROOT)) for path in MODULES]
    kept = ["lib/new/module.py", "params/new.yaml", "notebooks/src/new.py", "figures/gpu/a.png", "docs/img/a.png"]
    results = ["runs/1a3_scaling/x/metrics.json", "figures/a.pdf", ".venv/bin/python", "lib/__pycache__/a.pyc"]
    assert ignored(*source, *kept, *results) == set(results)


def test_every_module_says_what_it_is_for():
    assert [path for path in MODULES if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))] == []
