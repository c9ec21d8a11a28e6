"""`papermill nb/...` works as typed inside the repository, however it is called, and changes nothing anywhere else."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import checkout
import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell
from papermill import cli

from lib import kernel, notebooks, papermill_io, paths

NOTEBOOK = "nb/1a3_scaling.ipynb"
FILES = {
    "config.yaml",
    "env.json",
    "responses.jsonl",
    "measurements.jsonl",
    "executed.ipynb",
    "metrics.json",
    "log.txt",
}


@pytest.fixture
def root(tmp_path):
    return checkout.make(tmp_path / "repository")


def in_terminal(arguments: list[str], cwd: Path, environment: dict[str, str]) -> tuple[int, str]:
    """Run a command on a pseudo-terminal of 100 columns; exit code and everything it showed."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(cwd)
        os.execve(arguments[0], arguments, environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    shown = b""
    while True:
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # how Linux reports the end
            break
        if not chunk:
            break
        shown += chunk
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), shown.decode()


def the_run(root: Path) -> Path:
    """The one run folder, checked to be complete and whole."""
    (folder,) = checkout.folders(root)
    assert {path.name for path in folder.iterdir()} == FILES
    (row,) = (json.loads(line) for line in (folder / "measurements.jsonl").read_text().splitlines())
    assert (Path(row["python"]).parent, row["threads"]) == (Path(sys.executable).parent, "1")
    assert "to stdout" in (folder / "log.txt").read_text()
    assert "whole bar" in (folder / "log.txt").read_text()
    assert {path.name for path in root.iterdir()} == {"lib", "notebooks", "params", "kernels", "runs"}  # and no sockets
    return folder


class TestAsTyped:
    def test_in_a_terminal(self, root):
        command = [checkout.papermill(), NOTEBOOK, "-p", "model", "ladder-60k"]
        code, shown = in_terminal(command, root, checkout.environment(root))
        assert code == 0, shown
        folder = the_run(root)
        assert folder.name.startswith("ladder-60k_")
        assert "Executing" in shown  # papermill's own bar
        assert "whole bar" in shown  # the notebook's progress, below it
        assert str(folder) in shown.replace("\r\n", "")
        cells = nbformat.read(folder / "executed.ipynb", as_version=4).cells
        assert all(cell.execution_count for cell in cells)

    def test_redirected_from_a_subfolder(self, root):
        done = checkout.run(
            [checkout.papermill(), NOTEBOOK, "-p", "temperature", "1"], root, cwd=root / "lib" / "models"
        )
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        assert json.loads((the_run(root) / "metrics.json").read_text())["config"]["temperature"] == 1.0

    def test_with_a_pipe_on_stdin(self, root):
        before = (root / "notebooks" / "1a3_scaling.ipynb").read_bytes()
        done = checkout.run([checkout.papermill(), NOTEBOOK], root, stdin=None, input=json.dumps({"cells": []}))
        assert done.returncode == 0, done.stderr
        assert the_run(root)
        assert (root / "notebooks" / "1a3_scaling.ipynb").read_bytes() == before
        assert not (root / "nb").exists()

    def test_a_failing_cell_is_one_sentence_and_an_explicit_output_is_honoured(self, root):
        command = [sys.executable, "-m", "papermill", NOTEBOOK, "out.ipynb", "-y", "{model: ladder-60k, seed: 13}"]
        done = checkout.run(command, root)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1].startswith(
            "Error: The run failed in cell [4] with ZeroDivisionError: unlucky"
        )
        assert "out.ipynb" in done.stderr.splitlines()[-1]
        assert (root / "out.ipynb").exists()
        (folder,) = checkout.folders(root)
        assert {"metrics.json", "executed.ipynb"}.isdisjoint(path.name for path in folder.iterdir())
        assert "ZeroDivisionError: unlucky" in (folder / "log.txt").read_text()

    def test_an_unknown_parameter_ends_at_once(self, root):
        done = checkout.run([checkout.papermill(), NOTEBOOK, "-p", "modle", "ladder-60k"], root)
        assert done.returncode == 2
        assert done.stderr == "Error: 1a3_scaling has no parameter 'modle'; did you mean 'model'?\n"
        assert checkout.folders(root) == []


class TestElsewhere:
    """papermill of this environment, called in a folder that is not ours: everything is as upstream."""

    def test_another_projects_nb_folder_is_its_own(self, root, tmp_path):
        other = tmp_path / "other"
        (other / "nb").mkdir(parents=True)
        nbformat.write(checkout.notebook(), other / "nb" / "1a3_scaling.ipynb")
        command = [checkout.papermill(), NOTEBOOK, "-p", "modle", "x", "--prepare-only"]
        done = checkout.run(command, root, cwd=other)
        assert done.returncode == 0, done.stderr
        assert 'modle = "x"' in json.loads(done.stdout)["cells"][1]["source"][1]  # upstream: the notebook, on stdout
        assert checkout.folders(root) == []

    def test_another_projects_missing_notebook_is_not_looked_for_here(self, root, tmp_path):
        done = checkout.run([checkout.papermill(), NOTEBOOK, "--prepare-only"], root, cwd=tmp_path)
        assert done.returncode == 1
        assert "No such file" in done.stderr


PAGE = """\
preset: str = ""  # which runs are shown
most: int = 3  # how many
share: float = 0.5  # of what
names: list = ["a"]  # of whom"""
PAGE_WORK = """\
from lib.params import ParameterError

if most > 10:
    raise ParameterError(f"There are {most} and should be 10 at most.")
print(preset, most, share, names, 1 / most)"""


def add_page(root: Path) -> Path:
    """A notebook that is no experiment, `page`, in the copy."""
    book = checkout.notebook()
    book.cells = [new_code_cell(PAGE, metadata={"tags": ["parameters"]}), new_code_cell(PAGE_WORK)]
    nbformat.write(book, root / "notebooks" / "page.ipynb")
    return root / "notebooks" / "page.ipynb"


class TestPages:
    """A notebook that is no experiment declares itself by its parameters cell alone."""

    def test_goes_to_the_figures_and_leaves_no_run(self, root):
        add_page(root)
        typed = ["-p", "preset", "quick", "-p", "share", "1", "-p", "names", "[b, c]", "--inject-paths"]
        done = checkout.run([checkout.papermill(), "nb/page.ipynb", *typed], root, cwd=root / "lib")
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        executed = root / "figures" / "page.ipynb"
        assert done.stderr.splitlines()[-1] == f"Complete: {executed}"
        cells = nbformat.read(executed, as_version=4).cells
        assert cells[-1].outputs[0].text == f"quick 3 1.0 ['b', 'c'] {1 / 3}\n"
        assert not (root / "runs").exists()

    def test_a_cell_that_fails_is_one_sentence_and_an_explicit_output_is_honoured(self, root):
        add_page(root)
        done = checkout.run([checkout.papermill(), "nb/page.ipynb", "out.ipynb", "-p", "most", "0"], root)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        expected = "Error: The run failed in cell [3] with ZeroDivisionError: division by zero; see out.ipynb"
        assert done.stderr.splitlines()[-1] == expected
        assert (root / "out.ipynb").exists()
        assert not (root / "figures").exists()

    def test_a_value_that_the_page_refuses_is_a_mistake(self, root):
        add_page(root)
        done = checkout.run([checkout.papermill(), "nb/page.ipynb", "-p", "most", "11"], root)
        assert done.returncode == 2
        assert "Traceback" not in done.stderr
        assert done.stderr.splitlines()[-1] == "Error: There are 11 and should be 10 at most."

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (["-p", "prest", "quick"], "page has no parameter 'prest'; did you mean 'preset'?"),
            (["-p", "most", "many"], "'most' is 'many' but should be a whole number (how many)."),
            (["-p", "preset", "7"], "-r preset 7"),
            (["-p", "seed", "1"], "page has no parameter 'seed'"),
            (["-p", "run_dir", "x"], "page has no parameter 'run_dir'"),
        ],
    )
    def test_mistakes_are_one_sentence_before_a_kernel_starts(self, here, capsys, monkeypatch, arguments, expected):
        add_page(here)
        monkeypatch.setattr(notebooks, "execute_page", lambda *_args, **_options: None)
        with pytest.raises(SystemExit) as stopped:
            papermill_io.main(["nb/page.ipynb", *arguments])
        shown = capsys.readouterr().err
        assert stopped.value.code == 2
        assert shown.startswith("Error: ")
        assert shown.count("\n") == 1
        assert expected in shown

    def test_papermills_help_shows_its_parameters(self, here, capsys):
        add_page(here)
        with pytest.raises(SystemExit):
            cli.papermill.main(["nb/page.ipynb", "--help-notebook"])
        shown = capsys.readouterr().out
        assert "most: int (default 3)" in shown
        assert "how many" in shown


@pytest.fixture
def here(root, monkeypatch):
    """The copy as the current folder of this very process."""
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(paths, "NOTEBOOKS", root / "notebooks")
    monkeypatch.setattr(paths, "RUNS", root / "runs")
    monkeypatch.setattr(paths, "FIGURES", root / "figures")
    monkeypatch.setattr(cli, "execute_notebook", cli.execute_notebook)  # main replaces it; this puts it back
    monkeypatch.chdir(root)
    return root


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ([NOTEBOOK, "-p", "prompts", "many"], "'prompts' is 'many' but should be a whole number"),
            ([NOTEBOOK, "-p", "model", "7"], "-r model 7"),
            ([NOTEBOOK, "-y", "{arms: [naive]}"], "both 'naive' and 'eab'"),
            ([NOTEBOOK, "-r", "seed", "1"], "'seed' is '1' but should be a whole number"),
            ([NOTEBOOK, "out.ipynb", "-b", "e3RvcF9rOiAtMX0="], "'top_k' is -1"),  # {top_k: -1}
            (["-p", "top_p", "2", NOTEBOOK], "'top_p' is 2"),
            (["nb/1a3_scalling.ipynb"], "did you mean '1a3_scaling.ipynb'?"),
            (["notebooks/1a3.ipynb"], "did you mean '1a3_scaling.ipynb'?"),
        ],
    )
    def test_are_one_sentence_and_leave_nothing_behind(self, here, capsys, arguments, expected):
        with pytest.raises(SystemExit) as stopped:
            papermill_io.main(arguments)
        assert stopped.value.code == 2
        shown = capsys.readouterr().err
        assert shown.startswith("Error: ")
        assert shown.count("\n") == 1
        assert expected in shown
        assert checkout.folders(here) == []

    def test_parameters_come_from_the_notebook_where_none_are_given(self, here, monkeypatch):
        path = here / "notebooks" / "1a3_scaling.ipynb"
        path.write_text(path.read_text().replace("prompts: int = 2", "prompts: int = 5"))
        seen = []
        monkeypatch.setattr(notebooks, "execute", lambda notebook, params, *_args, **_options: seen.append(params))
        with pytest.raises(SystemExit):
            papermill_io.main([NOTEBOOK, "-p", "seed", "3", "--inject-paths"])
        assert (seen[0].prompts, seen[0].seed) == (5, 3)


class TestWhatIsOurs:
    @pytest.mark.parametrize(
        "typed", [NOTEBOOK, "nb\\1a3_scaling.ipynb", "notebooks/1a3_scaling.ipynb", "./notebooks/1a3_scaling.ipynb"]
    )
    def test_every_spelling(self, here, typed):
        assert papermill_io.our_notebook(typed) == here / "notebooks" / "1a3_scaling.ipynb"

    @pytest.mark.parametrize("typed", ["", "-", "x.ipynb", "runs/x/executed.ipynb", "nb/readme.md", "s3://nb/x.ipynb"])
    def test_nothing_else(self, here, typed):
        assert papermill_io.our_notebook(typed) is None

    def test_a_real_nb_folder_wins(self, here):
        (here / "nb").mkdir()
        assert papermill_io.our_notebook(NOTEBOOK) is None

    def test_only_papermills_command_is_diverted(self, here):
        diverted = papermill_io.started_on_our_notebook
        assert diverted(["/bin/papermill", NOTEBOOK], [])
        assert diverted(["C:\\papermill.exe".replace("\\", "/"), NOTEBOOK], [])
        assert diverted(["-m", NOTEBOOK], ["python", "-m", "papermill", NOTEBOOK])
        assert not diverted(["-m", NOTEBOOK], ["python", "-m", "pytest", NOTEBOOK])
        assert not diverted(["/bin/pytest", NOTEBOOK], [])
        assert not diverted(["/bin/papermill", "x.ipynb", "out.ipynb"], [])
        assert not diverted(["/bin/papermill", NOTEBOOK, "--help-notebook"], [])

    def test_the_alias_serves_papermills_help_and_its_python_interface(self, here, capsys):
        assert papermill.inspect_notebook(NOTEBOOK)["model"]["default"] == "'ladder-1m'"
        with pytest.raises(SystemExit) as stopped:
            cli.papermill.main([NOTEBOOK, "--help-notebook"])
        assert stopped.value.code == 0
        assert "temperature: float (default 0.8)" in capsys.readouterr().out


def test_a_path_too_long_for_a_socket_falls_back_to_tcp(tmp_path, monkeypatch):
    with kernel.connection() as config:
        assert config.KernelManager.transport == "ipc"
    (tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / ("x" * 100)))
    with kernel.connection() as config:
        assert "transport" not in config.KernelManager


def test_two_kernels_never_share_a_socket():
    with kernel.connection() as one, kernel.connection() as two:
        assert one.KernelManager.ip != two.KernelManager.ip


@pytest.mark.skipif(kernel.LIBC is None, reason="only Linux tells a process that its parent is gone")
def test_a_kernel_ends_where_its_parent_was_gone_before_the_system_was_told():
    def code(parent: str) -> int:
        told = f"import os; from lib import kernel; kernel.end_with_parent({parent}); print('lives')"
        done = subprocess.run([sys.executable, "-c", told], cwd=paths.ROOT, capture_output=True, check=False)
        assert done.stdout == (b"" if done.returncode else b"lives\n")
        return done.returncode

    assert (code("os.getppid()"), code("os.getppid() + 1")) == (0, 1)
