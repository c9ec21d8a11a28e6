"""`python -m lib.runs export RUN... > runs.tar` and `import < runs.tar`: run folders from one machine to another."""

import os
import sys
from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from lib import console, paths
from lib.runs.archive import ArchiveError, Entry
from lib.runs.folder import StorageError, absolute
from lib.runs.packing import find, pack
from lib.runs.unpacking import unpack

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, no_args_is_help=True)
RunsDir = Annotated[str, typer.Option(metavar="DIR", help="Where the runs are, instead of runs/.")]

EXPORT = """Write complete runs into an archive: every file of theirs, with checksums.

A RUN is an experiment or its folder (all its configurations, one run of each), the name of a run folder, or a path to
one. The same runs make the same bytes.

\b
Examples:
  python -m lib.runs export 1a3_scaling > runs.tar
      all there is of an experiment
  python -m lib.runs export 2a_specdec 4c_inference -o gpu.tar
      several, into a named file
  python -m lib.runs export ladder-1m_20260102_030405_abc123 | ssh lab 'cd recount && python -m lib.runs import'
      one run, straight to another machine
  python -m lib.runs export 3a_poh_scaling | gzip > runs.tar.gz
      smaller; unpack it with gunzip before importing
"""

IMPORT = """Add the runs of an archive to those that are here: all of them, or, where anything is wrong, none.

Each file is compared with its checksum and each run checked like one that was made here. A run that is already here is
counted and left alone; one of the same name with other content is refused. Figures, claims and sweeps then see the
runs; one made by other source than this checkout's is shown as stale.

\b
Examples:
  python -m lib.runs import < runs.tar
  python -m lib.runs import runs.tar
  gunzip < runs.tar.gz | python -m lib.runs import
  python -m lib.runs import runs.tar --runs-dir elsewhere
"""


@app.callback()
def explain() -> None:
    """Carry run folders from one machine to another."""


@app.command("export", help=EXPORT)
def export(
    names: Annotated[list[str], typer.Argument(metavar="RUN...", help="Experiments, run folders or their paths.")],
    output: Annotated[str, typer.Option("-o", "--output", metavar="FILE", help="Write here, not to stdout.")] = "",
    runs_dir: RunsDir = "",
) -> None:
    if not output and sys.stdout.isatty():
        raise ArchiveError("An archive is not for a terminal: add '> runs.tar' or '-o runs.tar'.")
    if output and not (place := absolute(output).parent).is_dir():
        raise ArchiveError(f"There is no folder {place} for the archive: make it first, or name another file with -o.")
    folders = [folder for name in names for folder in find(name, runs_dir)]
    try:
        entries = _into_file(folders, Path(output)) if output else pack(folders, sys.stdout.buffer)
        sys.stdout.flush()
    except OSError as error:
        if not output:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains again at its end
        reason = f"The archive cannot be written ({error.strerror}): write it elsewhere with -o FILE."
        raise StorageError(reason, error.errno) from None
    runs, size = {entry.run for entry in entries}, sum(entry.size for entry in entries)
    print(f"Exported {_counted(runs)}: {len(entries)} files, {size / 1e6:.1f} MB.", file=sys.stderr)


def _counted(runs: Collection[object]) -> str:
    return "1 run" if len(runs) == 1 else f"{len(runs)} runs"


def _into_file(folders: list[Path], path: Path) -> list[Entry]:
    """Write the archive into a file that appears when it is whole."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as out:
            entries = pack(folders, out)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return entries


@app.command("import", help=IMPORT)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The archive; without it, what comes in.")] = "",
    runs_dir: RunsDir = "",
) -> None:
    if not file and sys.stdin.isatty():
        raise ArchiveError("No archive comes in: name it, or add '< runs.tar'.")
    with _opened(file) if file else nullcontext(sys.stdin.buffer) as stream:
        new, present = unpack(stream, runs_dir)
    print(f"Imported {_counted(new)} into {absolute(runs_dir or paths.RUNS)}; {len(present)} already here.")


def _opened(file: str) -> BinaryIO:
    try:
        return open(file, "rb")
    except OSError as error:
        raise ArchiveError(f"{file} cannot be read ({error.strerror}): name an archive of runs.") from None


def main() -> None:
    console.command(app, ArchiveError)


if __name__ == "__main__":
    main()
