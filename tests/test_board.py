"""What a sweep shows while it works: a table on a terminal that is left as it was found, lines anywhere else."""

import fcntl
import io
import os
import pty
import re
import select
import signal
import struct
import sys
import termios
import time
from pathlib import Path

import checkout
import pytest
from rich.console import Console

from lib.sweep import board
from lib.sweep.board import Board, Line, picture

SWEEP = [sys.executable, "-m", "lib.sweep", "1a3_scaling"]
CURSOR_OFF, CURSOR_ON = b"\x1b[?25l", b"\x1b[?25h"


def drawn(lines: list[Line], *numbers: float | None, width: int = 100, most: int = 20) -> list[str]:
    """The picture as lines of text on a terminal so wide."""
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    console.print(picture(lines, *numbers, most))
    return console.file.getvalue().splitlines()


def cells(number: int) -> list[Line]:
    return [Line(f"cell{n}", f"host (process {n}), 5 s", f"epoch {n}/9") for n in range(number)]


class TestPicture:
    def test_a_cell_is_its_label_its_place_and_what_it_printed_last(self):
        shown = drawn([Line("a", "host (process 7), 5 s", "epoch 1/9"), Line("longer", "h", "")], 1, 6, 1, 90.0)
        assert shown[0] == "a       host (process 7), 5 s  epoch 1/9"
        assert shown[1].rstrip() == "longer  h"
        assert shown[2] == "1 of 6 ended, 1 of them failed, 3 waiting, about 90 s left"
        assert len(shown) == 4  # and the bar

    def test_of_many_cells_some_are_shown_and_the_rest_counted(self):
        shown = drawn(cells(50), 10, 100, 0, None)
        assert [line.split()[0] for line in shown[:20]] == [f"cell{n}" for n in range(20)]
        assert shown[20] == "and 30 more"
        assert shown[21] == "10 of 100 ended, 0 of them failed, 40 waiting"
        assert len(drawn(cells(50), 10, 100, 0, None, most=3)) == 3 + 1 + 2

    @pytest.mark.parametrize("width", [10, 40, 79])
    def test_a_narrow_terminal_cuts_lines_and_never_wraps_them(self, width):
        shown = drawn(
            [Line("a-label", "a-host-with-a-name (process 12345), 5 s", "x" * 200)], 1, 2, 0, 5.0, width=width
        )
        assert len(shown) == 3
        assert max(map(len, shown)) <= width
        assert shown[0].startswith("a-label")
        assert shown[0].endswith("…")
        assert shown[1].startswith("1 of 2")

    @pytest.mark.parametrize(("ended", "parts"), [(0, [40]), (1, [10, 29]), (4, [40])])  # a joint takes a column
    def test_the_bar_is_as_full_as_the_sweep(self, ended, parts):
        console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
        console.print(picture([], ended, 4, 0, None))
        assert [len(part) for part in re.findall("━+", console.file.getvalue())] == parts

    def test_a_label_is_no_markup(self):
        assert drawn([Line("[bold]a", "[red]h", "[1/9]")], 0, 1, 0, None)[0] == "[bold]a  [red]h  [1/9]"


class TestAnywhereElse:
    def test_lines_come_now_and_then(self, monkeypatch):
        now = [100.0]
        monkeypatch.setattr(board.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        shown = Board()
        shown.show(cells(2), 0, 2, 0, None)
        assert sys.stderr.getvalue() == ""
        now[0] += board.PRINT_EVERY
        shown.show([*cells(1), Line("quiet", "host, 3 s", ""), Line("wordy", "host", "x" * 400)], 0, 2, 0, None)
        assert sys.stderr.getvalue() == f"cell0: epoch 0/9\nquiet: host, 3 s\nwordy: {'x' * 100}\n"
        shown.show(cells(2), 0, 2, 0, None)
        assert sys.stderr.getvalue().count("\n") == 3
        shown.close()

    def test_a_line_is_whole_however_long(self, monkeypatch):
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        Board().say("complete: " + "/folder" * 100 + " [bold]")
        assert sys.stderr.getvalue() == "complete: " + "/folder" * 100 + " [bold]\n"


class Terminal:
    """A sweep on a pseudo-terminal, and everything it has shown."""

    def __init__(self, root: Path, *options: str, size: tuple[int, int] = (24, 200), **environment: str) -> None:
        self.shown = b""
        environment = {"TERM": "xterm", **checkout.environment(root, **environment)}
        self._process, self._terminal = pty.fork()
        if self._process == 0:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(root)
            os.execve(SWEEP[0], [*SWEEP, *options], environment)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def until(self, wanted: bytes | None, seconds: float = 90) -> bytes:
        """Read until `wanted` was shown, or to the end; returns all that was shown."""
        deadline = time.monotonic() + seconds
        while wanted is None or wanted not in self.shown:
            assert select.select([self._terminal], [], [], max(0.0, deadline - time.monotonic()))[0], self.shown
            try:
                chunk = os.read(self._terminal, 65536)
            except OSError:  # how Linux reports the end
                chunk = b""
            if not chunk:
                assert wanted is None, self.shown
                break
            self.shown += chunk
        return self.shown

    def type(self, key: bytes) -> None:
        os.write(self._terminal, key)

    def end(self) -> int:
        """Read to the end; the exit code."""
        self.until(None)
        os.close(self._terminal)
        return os.waitstatus_to_exitcode(os.waitpid(self._process, 0)[1])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return checkout.make(tmp_path / "repository")


def test_a_terminal_shows_the_table_and_is_left_clean(root):
    terminal = Terminal(root, "--preset", "alone", "--only", "model=ladder-60k")
    assert terminal.end() == 0, terminal.shown
    assert b"ladder-60k" in terminal.shown
    assert b"0 of 1 ended, 0 of them failed, 0 waiting" in terminal.shown
    assert b"1 of 1: ladder-60k after" in terminal.shown
    assert terminal.shown.rindex(CURSOR_ON) > terminal.shown.rindex(CURSOR_OFF)


def test_ctrl_c_takes_the_table_off_and_tells_how_to_resume(root, tmp_path):
    os.mkfifo(tmp_path / "channel")
    terminal = Terminal(root, "--preset", "alone", "--set", "seed=14", CHANNEL=str(tmp_path / "channel"))
    channel = os.open(tmp_path / "channel", os.O_RDONLY | os.O_NONBLOCK)
    assert select.select([channel], [], [], 90)[0], "the kernel never started"
    terminal.until(b"(process ")
    terminal.type(b"\x03")
    assert terminal.end() == 130
    os.close(channel)
    after = terminal.shown[terminal.shown.rindex(CURSOR_ON) :].decode()
    resume = "python -m lib.sweep 1a3_scaling --preset alone --set seed=14"
    assert f"Stopped; complete runs are kept, and the same command resumes with the others: {resume}\r\n" in after
    assert b"Traceback" not in terminal.shown
    assert CURSOR_OFF in terminal.shown


def test_a_terminal_that_cannot_redraw_gets_lines(root):
    terminal = Terminal(root, "--preset", "alone", "--only", "model=ladder-60k", TERM="dumb")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.shown
    assert b"1 of 1: ladder-60k after" in terminal.shown
