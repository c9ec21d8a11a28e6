"""The archive that carries runs from one machine to another: a plain tar whose first member vouches for the others.

`manifest.json` lists path, size and sha256 of every file, in order; the files follow in that order, and nothing else.
Owners, times and modes are fixed, so the same runs make the same bytes. Any tar can list and unpack it. Here it is read
block by block instead, by the few rules below: what is not a plain file with the very name and size that comes next is
refused, so that links, devices, climbing paths and whatever else a tar can hold have no code that could go wrong.
"""

import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from lib.params import EXPERIMENTS, nearest
from lib.runs.checking import Damaged, check, parsed, rows

KIND, SCHEMA = "runs of Recount", 1
MANIFEST = "manifest.json"
BLOCK = tarfile.BLOCKSIZE
CHUNK = 2**20  # bytes of a file in memory at a time
LARGEST_MANIFEST = 256 * 2**20  # bytes; ten thousand runs take 20 million
LARGEST_FILE = 8**11 - 1  # bytes, as a plain tar can say it: 8 GiB
RUN_NAME = re.compile(r"[A-Za-z0-9_@+][A-Za-z0-9._@+-]*")  # never hidden, nothing a shell or another system minds
SHA256 = re.compile(r"[0-9a-f]{64}")
COMPRESSED = {b"\x1f\x8b": "gunzip", b"\xfd7zXZ\0": "unxz", b"BZh": "bunzip2", b"\x28\xb5\x2f\xfd": "unzstd"}


class ArchiveError(ValueError):
    """An archive or a run that cannot be carried; the message is one sentence for the user."""


@dataclass(frozen=True, order=True)
class Entry:
    """A file of an archive: experiment/run/file, its size in bytes, and the sha256 of its content in hex."""

    path: str
    size: int
    sha256: str

    @property
    def run(self) -> str:
        """The run it is of, as experiment/run."""
        return "/".join(split(self.path)[:2])


def split(path: str) -> tuple[str, str, str]:
    """Experiment, run and file (with its folders) of a path; ArchiveError where it could lead anywhere else."""
    parts = path.split("/")
    depth = next((n for n in (1, 2) if "/".join(parts[:n]) in EXPERIMENTS), 0)
    if not depth:
        raise ArchiveError(f"There is no experiment for {path!r}; {nearest(parts[0], EXPERIMENTS)}")
    if len(parts) < depth + 2 or not RUN_NAME.fullmatch(parts[depth]):
        raise ArchiveError(f"{path!r} is no file of a run: a run's name has letters, digits and ._@+- alone.")
    if any(part in ("", ".", "..") or not part.isprintable() or set(part) & set("\\:") for part in parts):
        raise ArchiveError(f"{path!r} is no name for a file of a run: it would not mean the same everywhere.")
    return "/".join(parts[:depth]), parts[depth], "/".join(parts[depth + 1 :])


def plain_files(folder: Path) -> dict[str, Path]:
    """Every file of a run folder by its path in it; ArchiveError where one is a link, or no file at all."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_symlink() or not (file.is_file() or file.is_dir()):
            raise ArchiveError(f"Run {folder.name} is refused because {file.name} in it is a link, or no plain file.")
        if file.is_file():
            found[file.relative_to(folder).as_posix()] = file
    return found


def fingerprint(file: Path) -> tuple[int, str]:
    """Size and sha256 of a file."""
    size = file.stat().st_size
    with file.open("rb") as source:
        return size, copy(source, size)


def header(path: str, size: int) -> bytes:
    """The block before a file's content. ArchiveError where a plain tar has no room for the name or the size."""
    member = tarfile.TarInfo(path)
    member.size = size
    try:
        return member.tobuf(tarfile.USTAR_FORMAT, "utf-8", "strict")
    except ValueError as error:
        raise ArchiveError(
            f"{path} does not fit in an archive ({error}): make its names or its size smaller."
        ) from None


def padding(size: int) -> int:
    """Bytes between the end of a content and the next block."""
    return -size % BLOCK


def manifest(entries: Iterable[Entry]) -> bytes:
    """The content of the first member."""
    return json.dumps({"kind": KIND, "schema": SCHEMA, "files": [asdict(e) for e in entries]}, indent=1).encode()


def read_manifest(stream: BinaryIO) -> list[Entry]:
    """The entries of an archive, in order, all checked; `stream` is left at the first of them.

    ArchiveError, one sentence, for anything that `manifest` did not write.
    """
    block = stream.read(BLOCK)
    _refuse_other_kinds(block)
    member = next_member(block)
    if member is None or member.name != MANIFEST or not 0 < member.size <= LARGEST_MANIFEST:
        raise ArchiveError("This tar was not written by 'python -m lib.runs export': its first file is no manifest.")
    content = exactly(stream, member.size)
    exactly(stream, padding(member.size))
    try:
        return _entries(parsed(content.decode()))
    except ArchiveError:
        raise
    except (ValueError, TypeError, LookupError):
        raise ArchiveError("The archive's manifest cannot be read: it is damaged, or not of Recount.") from None


def _refuse_other_kinds(block: bytes) -> None:
    if not block:
        raise ArchiveError("There is no archive: what came in is empty.")
    for magic, tool in COMPRESSED.items():
        if block.startswith(magic):
            raise ArchiveError(
                f"The archive is compressed: unpack it first, as in '{tool} < FILE | python -m lib.runs import'."
            )


def _entries(content: Any) -> list[Entry]:
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ArchiveError("This is no archive of runs: its manifest is of another kind.")
    version = content["schema"]
    if type(version) is not int or version < SCHEMA:
        raise ArchiveError(f"The archive is of no version that Recount has had ({version!r}): export it again.")
    if version > SCHEMA:
        raise ArchiveError("The archive was written by a newer version of Recount: update this one to import it.")
    entries = [Entry(**item) for item in content["files"]]
    for entry in entries:
        split(str(entry.path))
        if type(entry.size) is not int or not 0 <= entry.size <= LARGEST_FILE or not SHA256.fullmatch(entry.sha256):
            raise ArchiveError(f"The archive's manifest is damaged at {entry.path!r}.")
    paths = {entry.path for entry in entries}
    if [entry.path for entry in entries] != sorted(paths):
        raise ArchiveError("The archive's manifest is damaged: its files are not in order, or one is there twice.")
    if any(str(parent) in paths for path in paths for parent in PurePosixPath(path).parents):
        raise ArchiveError("The archive's manifest is damaged: one of its files is also a folder.")
    return entries


def whole(folder: Path, experiment: str = "") -> dict[str, Any]:
    """The metrics.json of a run that may travel: complete and undamaged; ArchiveError names any other."""
    try:
        metrics = check(folder, experiment)
        rows(folder)
    except (FileNotFoundError, NotADirectoryError):
        raise ArchiveError(
            f"Run {folder.name} is refused because it is not complete: it has no metrics.json."
        ) from None
    except (Damaged, OSError) as problem:
        raise ArchiveError(f"Run {folder.name} is refused because {problem}.") from None
    return metrics


def next_member(block: bytes) -> tarfile.TarInfo | None:
    """The plain file that a header block announces; None for the block of zeros that ends a tar."""
    if len(block) == BLOCK and not block.strip(b"\0"):
        return None
    try:
        member = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
    except (tarfile.HeaderError, ValueError):
        raise ArchiveError("The archive is cut short, damaged, or no tar at all: fetch it again.") from None
    if member.type != tarfile.REGTYPE:
        raise ArchiveError(f"The archive holds {member.name!r}, which is not a plain file: it is not one of Recount's.")
    return member


def exactly(stream: BinaryIO, size: int) -> bytes:
    """The next `size` bytes; ArchiveError where the archive ends before."""
    content = stream.read(size)
    if len(content) < size:
        raise ArchiveError("The archive is cut short: fetch it again.")
    return content


def only_zeros(stream: BinaryIO) -> None:
    """Read the rest, with which a tar is filled up; ArchiveError where anything else follows."""
    while piece := stream.read(CHUNK):
        if piece.strip(b"\0"):
            raise ArchiveError("Something follows the end of the archive: import one at a time, as it was made.")


def copy(source: BinaryIO, size: int, *into: Callable[[bytes], object]) -> str:
    """Hand the next `size` bytes, a piece at a time, to each of `into`; returns their sha256 in hex."""
    digest = hashlib.sha256()
    for start in range(0, size, CHUNK):
        piece = exactly(source, min(CHUNK, size - start))
        digest.update(piece)
        for take in into:
            take(piece)
    return digest.hexdigest()
