"""docs/adding.md keeps its word: its files, put into a fresh checkout, work without another edit."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from lib import paths
from tests import checkout

PAGE = (paths.ROOT / "docs" / "adding.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(python|yaml|diff)\n(.*?)^```$", PAGE, re.M | re.S)
FILES = {code.splitlines()[0].removeprefix("# "): code for kind, code in BLOCKS if kind != "diff"}
DIFFS = [code for kind, code in BLOCKS if kind == "diff"]
SOURCE = "notebooks/src/5_surprise.py"
ARMS = "arms=[naive, batched, eab, stratified]"
LEGEND = f"""
import json
from lib import figures, results

rows, missing = results.grid_rows("1a3_scaling", "micro", ["{ARMS}"])
legends = figures.specs()["1a3_speedup"].draw(rows, missing).figure.legends
print(json.dumps([text.get_text() for legend in legends for text in legend.get_texts()]))
"""
SHORT_NAME = """
from lib.models import registry

entry = registry.lookup("qwen2-0.5b")
assert registry.parameter_count(entry) == entry.parameters
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A checkout with the real notebooks and presets, and all that the page adds."""
    root = checkout.make(tmp_path_factory.mktemp("checkout"))
    for folder in ("notebooks", "params"):
        shutil.copytree(paths.ROOT / folder, root / folder, dirs_exist_ok=True)
    (root / "tests").mkdir()
    for name in ("jupytext.toml", "tests/toys.py"):
        shutil.copy(paths.ROOT / name, root / name)
    for name, code in FILES.items():
        assert not (root / name).exists(), f"{name} is there already"
        (root / name).write_text(code, encoding="utf-8")
    for diff in DIFFS:
        run(root, ["git", "apply", "-"], input=diff)
    return root


def run(root: Path, command: list[str], **options: str) -> str:
    """What a command prints in the checkout; it has to end well."""
    environment = checkout.environment(root, RECOUNT_CACHE=str(paths.CACHE), MPLBACKEND="agg")
    # not measured: coverage's report would look for the page's files in this lib
    environment = {k: v for k, v in environment.items() if not k.startswith(("COVERAGE_", "PYTEST_"))}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def module(root: Path, *arguments: str) -> str:
    """The same of `python -m ARGUMENTS`."""
    return run(root, [sys.executable, "-m", *arguments])


def finished(root: Path, experiment: str) -> list[Path]:
    """The folders of complete runs."""
    return [path.parent for path in sorted((root / "runs" / experiment).glob("*/metrics.json"))]


def tables(folder: Path) -> str:
    """HTML of the tables that a run's notebook shows."""
    cells = json.loads((folder / "executed.ipynb").read_text())["cells"]
    shown = [out.get("data", {}).get("text/html", "") for cell in cells for out in cell.get("outputs", [])]
    return "".join("".join(html) for html in shown)


def test_a_sampler_in_one_file_is_in_run_table_and_figures(root, micro_path):
    module(root, "lib.sweep", "1a3_scaling", "--preset", "micro", "--set", ARMS)
    (folder,) = finished(root, "1a3_scaling")
    summary = json.loads((folder / "metrics.json").read_text())["summary"]
    assert "stratified" in {row["arm"] for row in summary["cost"]}
    assert "stratified" in {row["arm"] for row in summary["speedups"]}
    assert "<th>stratified</th>" in tables(folder)
    rows = pd.read_json(folder / "measurements.jsonl", lines=True)
    assert rows[rows.arm == "stratified"].mean_length.between(1, 8).all(), "the metric of the samples is a column"

    names = ["1a3_speedup", "1a3_quality", "1a3_different"]
    module(root, "lib.figures", *names, "--preset", "micro", "--set", ARMS)
    for name in names:
        assert "stratified" in set(pd.read_csv(root / "figures" / f"{name}.csv").arm), name
        assert (root / "figures" / f"{name}.pdf").stat().st_size > 0
    legend = json.loads(run(root, [sys.executable, "-c", LEGEND]))
    assert any(text.startswith("stratified") for text in legend)


def test_the_samplers_own_test_passes(root):
    assert "1 passed" in module(root, "pytest", "-q", "-p", "no:cacheprovider", "tests/test_stratified.py")


def test_a_short_name_is_one_entry(root):
    run(root, [sys.executable, "-c", SHORT_NAME])


def test_an_experiment_is_three_files_and_a_line(root, micro_path):
    run(root, [str(Path(sys.executable).parent / "jupytext"), "--set-kernel", "python3", "--sync", SOURCE])
    module(root, "lib.sweep", "5_surprise", "--preset", "micro")
    folders = finished(root, "5_surprise")
    assert len(folders) == 2
    assert all("nats (median of 3 prompts)" in (folder / "log.txt").read_text() for folder in folders)


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".py") and name != SOURCE])
def test_the_pages_code_is_written_as_the_projects(name, tmp_path):
    place = tmp_path / Path(name).name
    place.write_text(FILES[name], encoding="utf-8")
    for command in (["check"], ["format", "--check", "--diff"]):
        line = [str(Path(sys.executable).parent / "ruff"), *command, "--no-cache", "--config"]
        line += [str(paths.ROOT / "pyproject.toml"), str(place)]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
