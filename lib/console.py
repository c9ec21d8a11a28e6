"""What a run prints: kept in log.txt, and its newest line shown while it works.

A notebook's output reaches its caller as text with progress bars in it, redrawn by carriage returns. `Log` keeps all of
it; `newest_line` finds what a terminal would show last; `Status` shows that on a line of its own.
"""

import errno
import os
import re
import shutil
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import typer
from tqdm import tqdm

from lib.params import ParameterError

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor movements
FAILED, MISTAKEN = 1, 2  # exit codes
NAMED_WRONGLY = {  # what the system says of a place that the command named and that cannot be used
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EACCES, errno.EPERM, errno.EROFS),
}
PRINT_EVERY = 15.0  # seconds between lines where nothing can be redrawn, such as a CI log


def command(app: typer.Typer, *also: type[Exception]) -> None:
    """Run a command line as `run` does; one that cannot be parsed is a mistake too, with one sentence."""
    run(lambda: _parsed(app), *also)


def run(work: Callable[[], object], *also: type[Exception]) -> None:
    """Do the work of a command: a wrong parameter, what the system refuses or one of `also` ends it in one sentence.

    Its exit code is then `exit_code`'s: 2 where the command has to be changed, 1 where it may be typed again.
    Where nobody reads what is printed any more, as behind `| head`, it ends without a word.
    """
    plain_warnings()
    try:
        work()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        sys.exit(FAILED)
    except (ParameterError, OSError, *also) as error:
        print(f"Error: {refused(error) if isinstance(error, OSError) else error}", file=sys.stderr)
        sys.exit(exit_code(error))


def exit_code(error: Exception) -> int:
    """MISTAKEN for what was asked wrongly, a place that cannot be used included; FAILED for what went wrong at work."""
    asked = error.errno in NAMED_WRONGLY if isinstance(error, OSError) else isinstance(error, ValueError)
    return MISTAKEN if asked else FAILED


def refused(error: OSError) -> str:
    """One sentence about what the system does not allow; our own errors of that kind are one already."""
    if error.strerror is None:
        return str(error)
    return f"{error.filename or 'A file'} cannot be used ({error.strerror}); name another place, or change that one."


def _parsed(app: typer.Typer) -> None:
    try:
        code = app(standalone_mode=False)
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # typer keeps the class to itself
            print(error.format_message())
            sys.exit(MISTAKEN)
        reason = " ".join(error.format_message().split()).replace("Value error, ", "").removesuffix(".")
        advice = "" if reason.endswith("?") else "; type --help after the command to see what it takes."
        print(f"Error: {reason}{advice}", file=sys.stderr)
        code = MISTAKEN
    if code:
        sys.exit(code)


class Log:
    """A text stream that appends to log.txt, copies to another stream where one was asked for, and shows each line."""

    def __init__(self, path: Path, copy: TextIO | None = None, show: Callable[[str], None] | None = None) -> None:
        self._file = path.open("a", encoding="utf-8")
        self._copy, self._show = copy, show

    def write(self, text: str) -> int:
        self._file.write(text)
        if self._copy is not None:
            self._copy.write(text)
        if self._show is not None and (line := newest_line(text)):
            self._show(line)
        return len(text)

    def flush(self) -> None:
        self._file.flush()
        if self._copy is not None:
            self._copy.flush()


def newest_line(text: str) -> str:
    """The last line or state of a progress bar in `text` that is not blank, without terminal escapes."""
    lines = (line.strip() for line in re.split(r"[\r\n]", ESCAPES.sub("", text)))
    return next((line for line in reversed(list(lines)) if line), "")


def tail(path: Path, size: int = 4096) -> str:
    """The newest line of a log file, read from its last `size` bytes; "" while there is none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - size))
            return newest_line(file.read().decode("utf-8", errors="replace"))
    except FileNotFoundError:
        return ""


def plain_warnings() -> None:
    """Print warnings as one line each, as fits a command; their place in the source says nothing to its user."""
    warnings.formatwarning = lambda message, *_args, **_options: f"Warning: {message}\n"


class Status:
    """One line about a run: redrawn below the bar on a terminal, printed now and then anywhere else."""

    def __init__(self, name: str = "", position: int = 1) -> None:
        self._name, self._last, self._printed = name, "", time.monotonic()
        self._bar = tqdm(total=0, bar_format="{desc}", position=position, leave=False) if sys.stderr.isatty() else None

    def show(self, line: str) -> None:
        """Show the run's newest line; nothing happens while it stays the same."""
        if line == self._last:
            return
        text = f"{self._name}: {line}" if self._name else line
        if self._bar is not None:
            self._bar.set_description_str(text[: shutil.get_terminal_size().columns - 1])
        elif time.monotonic() - self._printed >= PRINT_EVERY:
            print(text, file=sys.stderr, flush=True)
            self._printed = time.monotonic()
        self._last = line

    def close(self) -> None:
        """Take the line off the terminal."""
        if self._bar is not None:
            self._bar.close()
