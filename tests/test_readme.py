"""What the pages say can be followed: links, pictures and commands exist, and the hooks do what they promise."""

import importlib
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import pytest
import typer
import yaml
from nbformat.v4 import new_output
from papermill.cli import papermill

from lib import bench, figures, paths, presets
from lib.params import EXPERIMENTS, ParameterError, resolve

PAGES = [paths.ROOT / "README.md", paths.ROOT / "CONTRIBUTING.md", *sorted((paths.ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^)\s]+)\)")
COMMAND = re.compile(r"^(?:\$ )?(python -m lib\.|papermill |make |sbatch )")
BINARIES = Path(sys.executable).parent
ADDED = re.compile(r"5_surprise|stratified|1a3_different")  # by docs/adding.md; tests/test_plugin.py runs these

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def commands(page: Path) -> list[str]:
    """The lines of shell blocks and the code in sentences that begin like a command of ours, continued lines joined."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|)\n(.*?)^```$", text, re.M | re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose(page))]
    parts = (part.strip() for line in lines for part in re.split(r" && | \| ", line))
    return [part.removeprefix("$ ") for part in parts if COMMAND.match(part)]


COMMANDS = sorted({c for page in PAGES for c in commands(page) if not ADDED.search(c)})


@each_page
def test_links_lead_somewhere(page):
    for target in LINK.findall(prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        assert file.is_relative_to(paths.ROOT), target
        assert not anchor or anchor in anchors(file), target


@each_page
def test_paths_that_are_named_exist(page):
    named = re.findall(r"`((?:lib|docs|tests|params|notebooks)/[\w./]+)`", prose(page))
    assert [name for name in named if not (paths.ROOT / name).exists() and not any(c.isupper() for c in name)] == []


@each_page
def test_nothing_is_left_to_be_written(page):
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", page.read_text(encoding="utf-8"))


def test_every_picture_is_shown_somewhere():
    shown = {(p.parent / t).resolve() for p in PAGES for t in LINK.findall(prose(p)) if t.endswith(".png")}
    assert set((paths.ROOT / "docs" / "img").glob("*.png")) <= shown


def test_there_are_commands_to_check():
    assert len(COMMANDS) > 50
    assert {command.split()[0] for command in COMMANDS} == {"make", "papermill", "python", "sbatch"}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_parse(command):
    words = shlex.split(re.split(r" > | < ", command)[0], comments=True)
    if words[0] == "make":
        check_make(words[1:])
    elif words[0] == "papermill":
        check_papermill(words[1:])
    elif words[0] == "sbatch":
        script, *rest = [word for word in words[1:] if not word.startswith("--gpus")]
        if (paths.ROOT / script).exists():
            check_module("plan" if rest[0] == "plan" else "sweep", rest[rest[0] == "plan" :])
    else:
        check_module(words[2].removeprefix("lib."), words[3:])


def check_make(targets: list[str]) -> None:
    known = re.search(r"^\.PHONY: (.+)$", (paths.ROOT / "Makefile").read_text(), re.M)[1].split()
    assert {target for target in targets if "=" not in target} <= set(known)


def check_papermill(words: list[str]) -> None:
    """The notebook exists, and its parameters are what the experiment takes."""
    context = papermill.make_context("papermill", words, resilient_parsing=True)
    notebook = Path(context.params["notebook_path"])
    assert notebook.parts[0] == "nb"
    assert (paths.NOTEBOOKS / notebook.name).is_file()
    given = dict(context.params["parameters"])
    if "modle" in given:  # the mistake that the README shows
        with pytest.raises(ParameterError, match="did you mean 'model'"):
            resolve(notebook.stem, given)
    elif notebook.stem in EXPERIMENTS:
        resolve(notebook.stem, {name: yaml.safe_load(value) for name, value in given.items() if real(value)})


def real(value: str) -> bool:
    """Whether a value is meant as it stands: not a file or folder of the reader's."""
    return not value.isupper() and "/" not in value and "." not in value


def check_module(name: str, words: list[str]) -> None:
    """The module exists and takes these options; experiment, preset, filters, figures and plans exist."""
    words = [word for word in words if word not in ("...", "--help")]
    if not words or words[0] == "EXPERIMENT":
        assert name.split(".")[0] in {path.stem for path in (paths.ROOT / "lib").iterdir()}
        return
    given = parsed(name, words)
    if name == "sweep":
        sets = [text for text in given["set_"] or [] if real(text.partition("=")[2])]
        cells = presets.cells(given["experiment"], given["preset"], given["only"] or (), given["skip"] or (), sets)
        assert cells
    elif name == "figures":
        assert set(given["names"] or []) <= {"NAME", *figures.specs()}
    elif name == "plan":
        assert words[0] in yaml.safe_load((paths.PARAMS / "plans.yaml").read_text()) or words[0] == "NAME"
    elif name == "bench":
        assert words[0] == "NAME" or (Path(bench.__file__).parent / f"{words[0]}.py").is_file()


def parsed(name: str, words: list[str]) -> dict[str, object]:
    """What `python -m lib.NAME WORDS` was given; a wrong option is a UsageError."""
    places = [f"lib.{name}.__main__", f"lib.{name}_cli", f"lib.{name}"]
    place = next(place for place in places if (paths.ROOT / f"{place.replace('.', '/')}.py").is_file())
    command = typer.main.get_command(importlib.import_module(place).app)
    if hasattr(command, "commands"):
        command, words = command.commands[words[0]], words[1:]
    return command.make_context(name, list(words), resilient_parsing=not words).params


def test_citation_has_what_the_format_asks_for():
    cited = yaml.safe_load((paths.ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert f'version = "{cited["version"]}"' in (paths.ROOT / "pyproject.toml").read_text()


def hooks() -> list[dict[str, str]]:
    config = yaml.safe_load((paths.ROOT / ".pre-commit-config.yaml").read_text())
    return [hook for repo in config["repos"] for hook in repo["hooks"]]


def commit(root: Path) -> list[str]:
    """Run every hook on the files it asks for, as pre-commit does; the names of those that changed any."""
    changed = []
    for hook in hooks():
        files = [str(p.relative_to(root)) for p in sorted(root.rglob("*")) if p.is_file()]
        files = [name for name in files if re.search(hook["files"], name)]
        before = {name: (root / name).read_bytes() for name in files}
        entry = shlex.split(hook["entry"].replace(".venv/bin", str(BINARIES)))
        done = subprocess.run([*entry, *files], cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{hook['id']}: {done.stdout}{done.stderr}"
        changed += [hook["id"]] * (before != {name: (root / name).read_bytes() for name in files})
    return changed


def test_hooks_strip_format_and_pair_a_dirty_notebook(tmp_path):
    for name in ("pyproject.toml", "jupytext.toml"):
        shutil.copy(paths.ROOT / name, tmp_path)
    (tmp_path / "notebooks" / "src").mkdir(parents=True)
    (tmp_path / "lib").symlink_to(paths.ROOT / "lib")  # or ruff would take its modules for a stranger's
    for name in ("4c_inference.ipynb", "src/4c_inference.py"):
        shutil.copy(paths.NOTEBOOKS / name, tmp_path / "notebooks" / name)
    place = tmp_path / "notebooks" / "4c_inference.ipynb"
    book = nbformat.read(place, as_version=4)
    cell = next(
        cell for cell in book.cells if cell.cell_type == "code" and "parameters" not in cell.metadata.get("tags", [])
    )
    cell.source += "\nwhat = {  'dirty':1 }"
    cell.execution_count, cell.outputs = 7, [new_output("stream", text="3.2 s")]
    nbformat.write(book, place)
    assert commit(tmp_path) == ["strip-outputs", "ruff-format", "jupytext"]
    cleaned = nbformat.read(place, as_version=4)
    assert not any(c.get("outputs") or c.get("execution_count") for c in cleaned.cells)
    text = jupytext.read(tmp_path / "notebooks" / "src" / "4c_inference.py")
    assert [c.source for c in text.cells] == [c.source for c in cleaned.cells]
    assert 'what = {"dirty": 1}' in (tmp_path / "notebooks" / "src" / "4c_inference.py").read_text()
    assert commit(tmp_path) == [], "what is clean stays as it is"
