"""Whether a run folder holds what its metrics.json says, byte counts, configuration and all.

Any folder may turn up among the runs: cut off by a full disk, edited, copied from elsewhere, of another version.
Nothing in it is trusted before it is compared; what is wrong is said in words that fit what to do about it. Paths are
plain strings here, because ten thousand runs are checked before the first figure is drawn.
"""

import hashlib
import json
import math
import os
import stat
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from lib import plain_yaml
from lib.params import NOT_HASHED, stored_hash
from lib.runs.folder import HASH_DIGITS, RECORDS, SCHEMA, named_hash

LARGEST = 64 * 2**20  # bytes of a metrics.json or config.yaml; real ones have thousands
TYPES = {
    "experiment": str,
    "run": str,
    "config": dict,
    "config_hash": str,
    "source_hash": str,
    "finished": str,
    "seconds": (int, float),
    "bytes": dict,
    "summary": dict,
}
LONGEST = 10**10  # seconds that a run may have taken: three centuries
AGAIN = "delete the folder and run the sweep again"


class Damaged(ValueError):
    """A run that cannot be used: what is wrong with it and, as `advice`, what to do."""

    def __init__(self, what: str, advice: str = AGAIN) -> None:
        super().__init__(what)
        self.advice = advice


def check(folder: Path, experiment: str = "") -> dict[str, Any]:
    """The metrics.json of a complete run, of this experiment if one is named, after a look at all it vouches for.

    Raises FileNotFoundError (or NotADirectoryError) where there is none, so that the folder is no complete run, another
    OSError where it cannot be read, and Damaged where it or a file beside it is not as the run left it.
    """
    metrics = _described(_content(os.path.join(folder, "metrics.json")))
    if experiment and metrics["experiment"] != experiment:
        raise Damaged(f"it is a run of {metrics['experiment']!r}", "move it to the runs of that experiment")
    if named_hash(folder.name) not in (None, metrics["config_hash"][:HASH_DIGITS]):
        raise Damaged("its name has the hash of another configuration than its metrics.json")
    for name in ("env.json", *RECORDS):
        _check_file(os.path.join(folder, name), metrics["bytes"].get(name))
    _check_config(os.path.join(folder, "config.yaml"), metrics)
    return metrics


def rows(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's measurements.jsonl, null as NaN; Damaged where it is not lines of JSON objects."""
    try:
        text = (folder / "measurements.jsonl").read_bytes().decode()
        found = [parsed(line) for line in text.removesuffix("\n").split("\n")] if text else []
        if not all(isinstance(row, dict) for row in found):
            raise ValueError("a line is not a row")
    except (OSError, ValueError) as error:
        raise Damaged(f"measurements.jsonl cannot be read ({error})") from None
    return [{k: math.nan if v is None else v for k, v in row.items()} for row in found]


def _described(content: bytes) -> dict[str, Any]:
    """The parsed content of a metrics.json, if it is whole, of this version, and true to itself."""
    try:
        metrics = parsed(content.decode())
    except ValueError:
        raise Damaged("metrics.json is not JSON") from None
    _check_version(metrics)
    if wrong := [key for key, kind in TYPES.items() if not isinstance(metrics.get(key), kind)]:
        raise Damaged(f"metrics.json lacks {', '.join(wrong)}")
    if set(metrics["bytes"]) != set(RECORDS) or any(type(size) is not int for size in metrics["bytes"].values()):
        raise Damaged("metrics.json does not vouch for both record files")
    if not metrics["config"].keys() >= NOT_HASHED or _hash(metrics["config"]) != metrics["config_hash"]:
        raise Damaged("metrics.json holds another configuration than the one its hash is of")
    if not _is_time(metrics["finished"]):
        raise Damaged("metrics.json has no time at 'finished'")
    if type(metrics["seconds"]) is bool or not 0 <= metrics["seconds"] < LONGEST:
        raise Damaged("metrics.json has no time that a run can take at 'seconds'")
    return metrics


def _check_version(metrics: Any) -> None:
    version = metrics.get("schema") if isinstance(metrics, dict) else None
    if type(version) is not int:
        raise Damaged("metrics.json was not written by Recount", "move the folder elsewhere")
    if version > SCHEMA:
        raise Damaged(f"it was written by a newer version of Recount (schema {version})", "update Recount to read it")
    if version < SCHEMA:
        advice = "read it with the version that wrote it, or delete the folder and run the sweep again"
        raise Damaged(f"it was written by an older version of Recount (schema {version})", advice)


def _check_file(path: str, size: int | None) -> None:
    """Damaged unless the file is there, a plain file, and of `size` bytes where the run vouched for that."""
    name = os.path.basename(path)
    try:
        found = os.stat(path)
    except FileNotFoundError:
        raise Damaged(f"{name} is missing") from None
    if not stat.S_ISREG(found.st_mode):
        raise Damaged(f"{name} is not a file")
    if size is not None and found.st_size != size:
        raise Damaged(f"{name} is not the file of {size} bytes that the run wrote")


def _check_config(path: str, metrics: Mapping[str, Any]) -> None:
    """Damaged unless config.yaml means the configuration that metrics.json repeats; how it is written may differ."""
    try:
        content = _content(path)
    except FileNotFoundError:
        raise Damaged("config.yaml is missing") from None
    if hashlib.sha256(content).hexdigest() == metrics.get("config_sha256"):
        return
    try:
        there = plain_yaml.parse(content.decode())
    except ValueError as error:  # of which YamlError is one
        raise Damaged(f"config.yaml cannot be read ({error})") from None
    if not isinstance(there, dict) or _hashed(there) != _hashed(metrics["config"]):
        raise Damaged("config.yaml holds other parameters than metrics.json")


def _content(path: str) -> bytes:
    """The bytes of a plain file of sensible size, so that a pipe never blocks, nor a giant fills the memory."""
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
        raise Damaged(f"{os.path.basename(path)} is not a file that a run wrote")
    with open(path, "rb") as file:
        return file.read()


def _hashed(config: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in NOT_HASHED}


def _hash(config: Mapping[str, Any]) -> str | None:
    try:
        return stored_hash(config)
    except (ValueError, RecursionError):  # NaN, infinity, or deeper than any configuration
        return None


def _is_time(text: str) -> bool:
    """Whether it is a moment; one still to come is kept, since a clock may have been set back."""
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")  # though Python reads and writes it


DECODER = json.JSONDecoder(parse_constant=_refuse)


def parsed(text: str) -> Any:
    """The parsed text; ValueError also for what is nested too deep, and for NaN and infinity."""
    try:
        return DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None
