"""Rows of a published data set, from a local file, from a folder saved by `datasets`, or from the hub's set.

A file is JSON Lines or one JSON list, told apart by its first character; it holds one split. A folder is what
`Dataset.save_to_disk` or `DatasetDict.save_to_disk` writes, and one `Dataset` too holds one split. Every row comes
with its place ("line 3 of 'test.jsonl'"), so that whoever reads its fields can say which row is wrong.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class DataError(ValueError):
    """A data set that cannot be had or used; the message is one sentence for the user."""


@dataclass(frozen=True)
class HubSet:
    """A data set on the hub: its id, its configuration there, and its splits with gold answers."""

    id: str
    config: str
    splits: tuple[str, ...]


Placed = tuple[str, dict[str, Any]]  # where a row stands, and its fields


def read(path: str | Path | None, split: str, hub: HubSet) -> Iterator[Placed]:
    """The rows of a split, each with its place; `split` is not looked at where `path` holds one split only.

    `path` None means the hub's set: from the local cache, or downloaded.

    Raises:
        DataError: in one sentence, where the split is unknown, or the rows cannot be read.
    """
    if split not in hub.splits:
        raise DataError(f"{hub.id} has no split {split!r} with answers: choose one of {', '.join(hub.splits)}.")
    if path is None:
        return _placed(_from_hub(hub, split), f"{hub.id} ({split})")
    place = Path(path)
    if not place.exists():
        raise DataError(f"There is no data set {str(path)!r}: {_how_to_get(hub)}.")
    return _placed(_from_folder(place, split), f"{str(path)!r}") if place.is_dir() else _from_file(place)


def text(row: dict[str, Any], field: str) -> str:
    """A field that must hold a text; DataError with the reason, as the end of a sentence."""
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        found = json.dumps(value, default=str)[:40] if field in row else "missing"
        raise DataError(f"its `{field}` is {found}: give a text that says something")
    return value


def unusable(place: str, reason: DataError) -> DataError:
    """The whole sentence about a row that cannot be used, from the end that says why."""
    return DataError(f"{place[0].upper()}{place[1:]} cannot be used, because {reason}.")


def is_one_split(path: str | Path) -> bool:
    """Whether a local place holds one split only, so that every split asked of it has the same rows."""
    return Path(path).is_file() or (Path(path).is_dir() and not (Path(path) / "dataset_dict.json").is_file())


def _placed(rows: Any, name: str) -> Iterator[Placed]:
    """Rows of a `datasets.Dataset`, numbered from 1."""
    for number, row in enumerate(rows, 1):
        yield f"row {number} of {name}", row


def _from_hub(hub: HubSet, split: str) -> Any:
    import datasets

    try:
        return datasets.load_dataset(hub.id, hub.config, split=split)
    except Exception as error:  # the classes of several libraries, which have nothing more in common
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise DataError(
            f"{hub.id} is neither in the local cache nor to be had from the hub ({reason}): {_how_to_get(hub)}."
        ) from error


def _how_to_get(hub: HubSet) -> str:
    code = f'datasets.load_dataset("{hub.id}", "{hub.config}").save_to_disk(FOLDER)'
    return f"run {code} on a machine with a network, and give that folder, or a JSON file of its rows, as the path"


def _from_folder(folder: Path, split: str) -> Any:
    import datasets

    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise DataError(
            f"{str(folder)!r} is not a folder saved by `datasets`: give one that save_to_disk wrote, or a JSON file."
        ) from error
    if not isinstance(saved, datasets.DatasetDict):
        return saved  # one split, whatever it is called
    if split not in saved:
        raise DataError(f"{str(folder)!r} has no split {split!r} but {', '.join(saved)}: save that split too.")
    return saved[split]


def _from_file(path: Path) -> Iterator[Placed]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read ({error.strerror}): give a file you can read.") from None
    except UnicodeDecodeError:
        raise DataError(f"{str(path)!r} is not UTF-8: save it as UTF-8.") from None
    if not content.strip():
        raise DataError(f"{str(path)!r} is empty: give it one JSON object per row.")
    return _list(content, path) if content.lstrip().startswith("[") else _lines(content, path)


def _lines(content: str, path: Path) -> Iterator[Placed]:
    # Not splitlines(): it also splits at U+2028 and the like, which may stand inside a JSON string.
    for number, line in enumerate(content.split("\n"), 1):
        if line.strip():
            place = f"line {number} of {str(path)!r}"
            yield place, _object(_parsed(line, place), place)


def _list(content: str, path: Path) -> Iterator[Placed]:
    parsed = _parsed(content, f"{str(path)!r}")
    if not parsed:
        raise DataError(f"{str(path)!r} is an empty list: give it one JSON object per row.")
    for number, row in enumerate(parsed, 1):
        place = f"row {number} of {str(path)!r}"
        yield place, _object(row, place)


def _parsed(content: str, place: str) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise unusable(place, DataError(f"it is not JSON ({error}): write one JSON object per row")) from None


def _object(row: Any, place: str) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise unusable(place, DataError("it is not a JSON object: write one object per row"))
    return row
