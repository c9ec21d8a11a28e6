"""Reading an archive of runs: everything is checked in a hidden folder before anything is seen among the runs.

The files are written below `runs/<experiment>/.import/`, hashed as they come, and each run is then checked like one
that is read. Only when the whole archive has passed are the folders renamed into place, one run at a time; so an import
that is killed leaves whole runs and a hidden folder, which the next import removes before it does the rest.
"""

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout
from tqdm import tqdm

from lib import paths
from lib.params import EXPERIMENTS
from lib.runs import archive
from lib.runs.archive import ArchiveError, Entry
from lib.runs.folder import absolute, storing
from lib.runs.reading import is_of_this_version

HIDDEN = ".import"
LOCK = ".import.lock"
DELAY = 2.0  # seconds before a progress bar is shown


def unpack(stream: BinaryIO, runs_dir: str | Path | None = None) -> tuple[list[Path], list[Path]]:
    """Add the runs of an archive; returns the folders of those that are new, and of those that were already here.

    ArchiveError, one sentence, where anything is not as `pack` wrote it or a run of that name has other content; the
    runs are then as they were. StorageError where the disk does not take it; no run is then there in part.
    """
    entries = archive.read_manifest(stream)
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry.run, []).append(entry)
    root = absolute(runs_dir or paths.RUNS)
    with storing(root), _alone(root, runs):
        present = {run for run in runs if _is_here(root / run, runs[run])}
        new = [run for run in runs if run not in present]
        _extract(stream, entries, root, skipped=present)
        for run in new:
            _check(_hidden(root, run), run.rpartition("/")[0])
        for run in new:
            os.rename(_hidden(root, run), root / run)
    return [root / run for run in new], sorted(root / run for run in present)


@contextmanager
def _alone(root: Path, runs: Iterable[str]) -> Iterator[None]:
    """The only import into `root`, without hidden folders of others; at the end its own go, and what stayed empty."""
    experiments = {root / run.rpartition("/")[0] for run in runs}
    made = [folder for folder in sorted({root, *experiments, *(e.parent for e in experiments)}) if not folder.exists()]
    root.mkdir(parents=True, exist_ok=True)
    try:
        with _locked(root / LOCK), _cleaned([root / experiment / HIDDEN for experiment in EXPERIMENTS]):
            yield
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # it holds runs now
                folder.rmdir()


@contextmanager
def _cleaned(places: list[Path]) -> Iterator[None]:
    """Without these folders, which a killed import may have left; afterwards they are gone again."""
    for place in places:
        shutil.rmtree(place, ignore_errors=True)
    try:
        yield
    finally:
        for place in places:
            shutil.rmtree(place, ignore_errors=True)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0.1)
    except Timeout:
        print(f"Waiting for another import into {path.parent}.", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()  # whoever waits for the lock sees that its file is gone, and makes a new one
        lock.release()


def _is_here(target: Path, entries: list[Entry]) -> bool:
    """Whether a run of that name lies there already; ArchiveError unless it is the same, byte for byte."""
    if not os.path.lexists(target):
        return False
    wanted = {archive.split(entry.path)[2]: (entry.size, entry.sha256) for entry in entries}
    try:
        there = archive.plain_files(target)
        same = there.keys() == wanted.keys() and all(
            archive.fingerprint(file) == wanted[name] for name, file in there.items()
        )
    except ArchiveError:
        same = False
    if not same:
        raise ArchiveError(f"A run {target} is already here with other content: move it away to import the other.")
    return True


def _extract(stream: BinaryIO, entries: list[Entry], root: Path, skipped: set[str]) -> None:
    """Write every file into the hidden folders, but those of the `skipped` runs, which are only compared."""
    with tqdm(total=sum(e.size for e in entries), unit="B", unit_scale=True, desc="import", delay=DELAY) as bar:
        for entry in entries:
            member = archive.next_member(stream.read(archive.BLOCK))
            if member is None or (member.name, member.size) != (entry.path, entry.size):
                raise ArchiveError(f"The archive's files are not those of its manifest, from {entry.path} on.")
            place = None if entry.run in skipped else _hidden(root, entry.run) / archive.split(entry.path)[2]
            if _receive(stream, entry.size, place) != entry.sha256:
                raise ArchiveError(f"{entry.path} in the archive is not the file that was exported: fetch it again.")
            archive.exactly(stream, archive.padding(entry.size))
            bar.update(entry.size)
    if archive.next_member(stream.read(archive.BLOCK)) is not None:
        raise ArchiveError("The archive holds more files than its manifest lists.")
    archive.only_zeros(stream)


def _receive(stream: BinaryIO, size: int, place: Path | None) -> str:
    """The sha256 of the next content, written to a new file where there is a place for it."""
    if place is None:
        return archive.copy(stream, size)
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("xb") as file:
        digest = archive.copy(stream, size, file.write)
        file.flush()
        os.fsync(file.fileno())
    return digest


def _hidden(root: Path, run: str) -> Path:
    """Where a run lies until everything has been checked."""
    experiment, _, name = run.rpartition("/")
    return root / experiment / HIDDEN / name


def _check(folder: Path, experiment: str) -> None:
    """ArchiveError unless the folder is a whole run of the past; one of a version with other parameters is told of."""
    metrics = archive.whole(folder, experiment)
    if datetime.fromisoformat(metrics["finished"]) > datetime.now(UTC) + timedelta(days=1):
        raise ArchiveError(
            f"Run {folder.name} says it was finished at {metrics['finished']}, which is still to come and would put it "
            "before every later run: leave it out, or set this machine's clock."
        )
    if not is_of_this_version(experiment, metrics["config"]):
        print(
            f"Note: {folder.name} was made by a version with other parameters, that of commit {metrics.get('commit')}; "
            "it is read, and counts as stale.",
            file=sys.stderr,
        )
