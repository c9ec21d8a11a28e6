"""Writing an archive of runs: they are found by name, checked like runs that are read, and copied whole."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from lib.params import EXPERIMENTS, nearest
from lib.runs import archive
from lib.runs.archive import ArchiveError, Entry
from lib.runs.folder import absolute, experiment_folder
from lib.runs.reading import finished

DELAY = 2.0  # seconds before a progress bar is shown


def find(name: str, runs_dir: str | Path | None = None) -> list[Path]:
    """The run folders that a name means: of an experiment or its folder the finished runs, else one run's folder.

    ArchiveError, with the nearest name, where there is none.
    """
    if name in EXPERIMENTS:
        return _of_experiment(name, runs_dir)
    places = [experiment_folder(experiment, runs_dir) for experiment in EXPERIMENTS]
    named = [place / name for place in places] if archive.RUN_NAME.fullmatch(name) else []
    for folder in (*named, absolute(name)):
        if folder.is_dir():
            experiment, root = _as_experiment(folder)
            return _of_experiment(experiment, root) if experiment else [folder]
    known = [*EXPERIMENTS, *(folder.name for place in places for folder in place.glob("[!.]*"))]
    hint = nearest(name, known)
    if len(known) > len(EXPERIMENTS) and not hint.startswith("did you mean"):  # thousands of names help nobody
        hint = f"name a folder of runs/, or one of {', '.join(EXPERIMENTS)}."
    raise ArchiveError(f"There is no run and no experiment {name!r}; {hint}")


def _of_experiment(experiment: str, runs_dir: str | Path | None) -> list[Path]:
    found = [run.dir for run in finished(experiment, runs_dir)]
    if not found:
        place = experiment_folder(experiment, runs_dir)
        raise ArchiveError(f"{place} holds no complete run, so there is nothing to export.")
    return found


def _as_experiment(folder: Path) -> tuple[str, Path]:
    """The experiment whose runs this folder holds, and the runs folder it is in; "" where it is a run itself."""
    for parent in () if (folder / "config.yaml").exists() else folder.parents[:2]:
        if (experiment := folder.relative_to(parent).as_posix()) in EXPERIMENTS:
            return experiment, parent
    return "", folder


def pack(folders: Iterable[Path], out: BinaryIO) -> list[Entry]:
    """Write the archive of these run folders; returns what is in it.

    Every run is checked, and every file hashed, before the first byte is written. ArchiveError names the run that is
    not complete, not whole, or not made of plain files alone.
    """
    files = _files(folders)
    total = 2 * sum(file.stat().st_size for file in files.values())  # read once to hash, once to copy
    with tqdm(total=total, unit="B", unit_scale=True, desc="export", delay=DELAY) as bar:
        entries = [_entry(path, files[path], bar) for path in sorted(files)]
        manifest = archive.manifest(entries)
        out.write(archive.header(archive.MANIFEST, len(manifest)))
        out.write(manifest + bytes(archive.padding(len(manifest))))
        for entry in entries:
            _append(out, entry, files[entry.path], bar)
        out.write(bytes(2 * archive.BLOCK))
    return entries


def _files(folders: Iterable[Path]) -> dict[str, Path]:
    """Every file of the runs, by its path in the archive."""
    runs: dict[str, Path] = {}
    for folder in folders:
        run = f"{archive.whole(folder)['experiment']}/{folder.name}"
        if runs.setdefault(run, folder) != folder:
            raise ArchiveError(f"{folder} and {runs[run]} have one name: put them into two archives.")
    return {f"{run}/{name}": file for run, folder in runs.items() for name, file in archive.plain_files(folder).items()}


def _entry(path: str, file: Path, bar: tqdm) -> Entry:
    archive.split(path)
    entry = Entry(path, *archive.fingerprint(file))
    bar.update(entry.size)
    archive.header(path, entry.size)  # refused now, before anything is written, where it does not fit
    return entry


def _append(out: BinaryIO, entry: Entry, file: Path, bar: tqdm) -> None:
    out.write(archive.header(entry.path, entry.size))
    digest = ""
    with file.open("rb") as source, suppress(ArchiveError):  # where it became shorter
        digest = archive.copy(source, entry.size, out.write)
    bar.update(entry.size)
    if digest != entry.sha256:
        raise ArchiveError(f"{file} changed while it was exported: the archive is of no use, export again.")
    out.write(bytes(archive.padding(entry.size)))
