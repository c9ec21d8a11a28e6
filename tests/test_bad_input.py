"""Whatever is asked for wrongly, anywhere, is one sentence with the right name; nothing is loaded or left behind."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import bad_input
import pytest
from bad_input import CASES, GRIDS, Case

from lib import notebooks, paths
from lib.models import hub

# Where runs cannot be read, each is named in a warning of its own before the sentence.
SENTENCE = re.compile(r"(Error|Warning|Note): .*[.?]")
LONGEST = 700  # characters


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file and folder below with its size and time of change."""
    found = ((path, path.lstat()) for path in folder.rglob("*"))
    return {str(path): (stat.st_size, stat.st_mtime_ns) for path, stat in found}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    bad_input.make_files(folder)
    return folder


@pytest.fixture
def nothing_runs(files, monkeypatch):
    """Results, figures and trained models would go below `files`, and whatever would load or run something fails."""

    def reached(*_args, **_options):
        raise AssertionError("a mistake got as far as the work")

    from papermill import cli

    for name in ("RUNS", "FIGURES", "CACHE"):
        monkeypatch.setattr(paths, name, files / name)
    monkeypatch.setattr(paths, "PARAMS", paths.PARAMS)  # a YAML case and the commands change these three
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    monkeypatch.setattr(notebooks, "execute", reached)
    monkeypatch.setattr(hub, "load", reached)
    monkeypatch.setattr(cli, "execute_notebook", cli.execute_notebook)  # papermill_io.main replaces it
    monkeypatch.setattr(sys, "argv", sys.argv)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(paths.ROOT)
    return files


@pytest.mark.parametrize("case", [*CASES, *GRIDS], ids=str)
def test_is_one_sentence_and_nothing_else(case, nothing_runs, capsys):
    words = bad_input.prepare(case, nothing_runs)
    before = snapshot(nothing_runs)
    with pytest.raises(SystemExit) as stopped:
        bad_input.run(case.entry, words)
    shown = capsys.readouterr()
    said = shown.err.rstrip("\n")
    assert stopped.value.code == 2, said
    *notes, sentence = said.split("\n")
    assert SENTENCE.fullmatch(sentence) and sentence.startswith("Error: ") and len(sentence) < LONGEST, said
    assert all(SENTENCE.fullmatch(note) and not note.startswith("Error") for note in notes), said
    assert case.says in sentence
    assert snapshot(nothing_runs) == before


def test_there_are_enough_of_every_kind():
    counted = {entry: sum(case.entry == entry for case in [*CASES, *GRIDS]) for entry in bad_input.COMMANDS}
    assert min(counted.values()) >= 2
    assert len(CASES) + len(GRIDS) >= 60
    assert {case.typed.split()[0] for case in CASES if case.entry == "papermill"} >= {
        f"nb/{path.name}" for path in paths.NOTEBOOKS.glob("*.ipynb")
    }


def test_no_model_stack_is_needed_to_say_what_is_wrong(tmp_path):
    code = """
import contextlib, io, os, sys
from pathlib import Path
import bad_input
from lib import paths
tmp = Path(sys.argv[1])
bad_input.make_files(tmp)
shipped = paths.PARAMS
for case in [*bad_input.CASES, *bad_input.GRIDS]:
    if case.entry in bad_input.LIGHT:
        paths.PARAMS = shipped
        with contextlib.suppress(SystemExit), contextlib.redirect_stderr(io.StringIO()):
            bad_input.run(case.entry, bad_input.prepare(case, tmp))
            raise AssertionError(f"{case} was accepted")
    if found := {"torch", "transformers", "vllm", "ray"} & set(sys.modules):
        sys.exit(f"{case} imported {found}")
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), str(paths.ROOT)]),
        "RECOUNT_RUNS": str(tmp_path / "RUNS"),
        "RECOUNT_FIGURES": str(tmp_path / "FIGURES"),
    }
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=paths.ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "case",
    [
        Case("papermill", "nb/4b_wire.ipynb -p bridge quik/x", "did you mean 'quick'?"),
        Case("papermill", "nb/2a_specdec.ipynb -p benchmark {tmp}/prompts/half.jsonl", "Line 2"),
        Case("lib.sweep", "1a3_scaling --jobs 0", "greater than or equal to 1"),
        Case("lib.sweep", "4c_inference --preset micro --set bridges=nobody", "No finished run"),
        Case("lib.figures", "1a3_sped", "did you mean '1a3_speedup'?"),
        Case("lib.runs", "import {tmp}/none.tar", "none.tar"),
        Case("lib.runs", "export 4a_bridge --runs-dir {tmp}/file", "make it a folder you may read"),
    ],
    ids=str,
)
def test_as_a_user_types_it(case, files):
    module = ["-m", case.entry]
    words = [word.replace("{tmp}", str(files)) for word in case.typed.split()]
    environment = os.environ | {f"RECOUNT_{name}": str(files / name) for name in ("RUNS", "FIGURES", "CACHE")}
    before = snapshot(files)
    done = subprocess.run(
        [sys.executable, *module, *words],
        cwd=paths.ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.fullmatch(r"Error: .*[.?]\n", done.stderr), done.stderr
    assert case.says in done.stderr
    assert done.stdout == ""
    assert snapshot(files) == before
