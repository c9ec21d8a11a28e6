"""The source hash follows imports as Python would, and nothing but code that can change a result changes it."""

import json
import subprocess
from importlib import metadata

import pytest

from lib import provenance

TOP = '''"""Doc."""
from . import near


def f():
    """Doc."""
    from lib.part.lazy import g
    return g(near.X)
'''
FILES = {
    "lib/__init__.py": "",
    "lib/part/__init__.py": "",
    "lib/part/top.py": TOP,
    "lib/part/near.py": "from .deep import X\n",
    "lib/part/deep.py": "from lib.part import top\n\nX = 1\n",  # a cycle
    "lib/part/lazy.py": "def g(x):\n    return x\n",
    "lib/part/by_name.py": "Y = 1\n",
    "lib/part/unused.py": "Z = 1\n",
    "lib/runs.py": "from lib.part import unused\n",
    "lib/figures/__init__.py": "",
    "lib/figures/draw.py": "from lib.part import unused\n",
}
CELLS = ["%matplotlib inline\nfrom lib import runs\nfrom lib.figures import draw", "import lib.part.top as top\n!ls"]


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    cells = [{"cell_type": "code", "source": source.splitlines(keepends=True)} for source in CELLS]
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "a.ipynb").write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr(provenance.paths, "ROOT", tmp_path)
    monkeypatch.setattr(provenance.paths, "NOTEBOOKS", tmp_path / "notebooks")
    return tmp_path


def source_hash(*modules: str) -> str:
    provenance._source_hash.cache_clear()
    return provenance.source_hash("a", modules)


@pytest.mark.parametrize("name", ["top", "near", "deep", "lazy", "__init__"])
def test_a_change_in_imported_code_changes_the_hash(tree, name):
    before = source_hash()
    path = tree / "lib" / "part" / f"{name}.py"
    path.write_text(path.read_text() + "\nNEW = 1\n")
    assert source_hash() != before


@pytest.mark.parametrize("name", ["part/unused", "part/by_name", "runs", "figures/draw"])
def test_a_change_elsewhere_does_not(tree, name):
    before = source_hash()
    (tree / "lib" / f"{name}.py").write_text("CHANGED = 1\n")
    assert source_hash() == before


def test_modules_loaded_by_name_count_when_named(tree):
    before = source_hash("lib.part.by_name")
    assert before != source_hash()
    (tree / "lib/part/by_name.py").write_text("Y = 2\n")
    assert source_hash("lib.part.by_name") != before


def test_comments_layout_and_docstrings_do_not_count(tree):
    before = source_hash()
    path = tree / "lib" / "part" / "top.py"
    path.write_text("# a remark\n" + path.read_text().replace("Doc.", "Other words.").replace("\n\n\n", "\n\n\n\n"))
    assert source_hash() == before


def test_moving_code_between_modules_counts(tree):
    before = source_hash()
    (tree / "lib/part/deep.py").write_text("from lib.part import top\n")
    (tree / "lib/part/lazy.py").write_text("X = 1\n" + FILES["lib/part/lazy.py"])
    assert source_hash() != before


def test_environment_is_plain_json_and_names_the_machine():
    found = json.loads(json.dumps(provenance.environment(threads=1, dtype="float32")))
    assert (found["threads"], found["dtype"]) == (1, "float32")
    assert {"torch", "transformers", "numpy"} <= found["packages"].keys()
    assert found["cpu"]["name"]
    assert found["cpu"]["cores"] >= 1


def test_environment_outside_a_repository(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.paths, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_state() == {"commit": None, "dirty": None}


def test_a_repository_names_its_commit_and_whether_anything_in_it_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance.paths, "ROOT", tmp_path)

    def git(*command: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid", "-c", "commit.gpgsign=false"]
        return subprocess.run(["git", *who, *command], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    git("init", "--quiet")
    assert provenance.git_state() == {"commit": None, "dirty": None}
    (tmp_path / "# file").write_text("")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD").strip()
    assert provenance.git_state() == {"commit": commit, "dirty": False}
    (tmp_path / "# file").write_text("changed")
    assert provenance.git_state() == {"commit": commit, "dirty": True}


def test_versions_are_those_the_packages_give():
    packages = provenance.environment()["packages"]
    assert packages == {name: metadata.version(name) for name in packages}
