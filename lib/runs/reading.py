"""Complete runs as they are read back: whole ones only, and of several with one configuration the one that counts.

A run is its folder with a metrics.json in it (`checking` says when it is whole); one that is damaged, foreign or of
another version is named in a warning and left out. Hidden folders are no runs: sweeps and imports keep their own files
in them. Of several runs of one configuration, one made by today's source counts before
a stale one, then the one that finished last: a clock set back between two runs cannot bring an old result back.
"""

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from lib import provenance
from lib.params import config_hash, schema, stored_hash
from lib.runs import checking
from lib.runs.checking import Damaged, check
from lib.runs.folder import HASH_DIGITS, RunWarning, StorageError, experiment_folder, named_hash

if TYPE_CHECKING:  # pandas takes half a second to import; opening a run does not need it
    import pandas as pd


@dataclass(frozen=True)
class Finished:
    """A complete run as read back: its folder, its metrics.json, and whether its source has changed since."""

    dir: Path
    metrics: dict[str, Any]
    stale: bool

    @property
    def config(self) -> dict[str, Any]:
        """The resolved parameters; lists as tuples, so that a column of them can be grouped by."""
        return {k: tuple(v) if isinstance(v, list) else v for k, v in self.metrics["config"].items()}

    @property
    def ended(self) -> datetime:
        """When the run was finished, by the clock of its machine."""
        return datetime.fromisoformat(self.metrics["finished"])

    def rows(self) -> list[dict[str, Any]]:
        """The rows of measurements.jsonl, null as NaN; ValueError where a line is not a JSON object."""
        return checking.rows(self.dir)


def finished(experiment: str, runs_dir: str | Path | None = None) -> list[Finished]:
    """The complete run of each configuration that counts, oldest first; damaged folders are warned about and left out.

    StorageError where the experiment's folder is there and cannot be listed.
    """
    counting: dict[str, Finished] = {}
    for run in sorted(_complete(experiment, _folders(experiment, runs_dir)), key=_weight):
        counting[run.metrics["config_hash"]] = run
    return sorted(counting.values(), key=lambda run: run.ended)


def complete_with(experiment: str, config_hash: str, runs_dir: str | Path | None = None) -> list[Finished]:
    """Every complete run of one configuration, the one that counts last.

    Only folders that can hold one are read: those whose name ends in the hash's first digits, and those whose name was
    chosen freely (by `run_dir`), since it says nothing. A folder named after another configuration is none of this one:
    no run is written into such a folder, and `finished` refuses it too.
    """
    names = None, config_hash[:HASH_DIGITS]
    folders = (folder for folder in _folders(experiment, runs_dir) if named_hash(folder.name) in names)
    found = (run for run in _complete(experiment, folders) if run.metrics["config_hash"] == config_hash)
    return sorted(found, key=_weight)


def load(experiment: str, runs_dir: str | Path | None = None) -> "pd.DataFrame":
    """Every measurement row of the finished runs, one configuration once; columns as in `rows`."""
    return rows(experiment, finished(experiment, runs_dir))


def rows(experiment: str, done: Iterable[Finished]) -> "pd.DataFrame":
    """Every measurement row of these runs.

    Columns: `run` (folder name), `stale`, the parameters, and what the row holds; a row's own value wins over the
    parameter of the same name (an arm with a threshold of its own, say).
    """
    table = []
    for run in done:
        try:
            own = run.rows()
        except Damaged as problem:
            _warn(run.dir, problem)
            continue
        about = {"run": run.dir.name, "stale": run.stale, **run.config}
        table += [about | row for row in own]
    return _frame(experiment, table)


def summaries(experiment: str, runs_dir: str | Path | None = None) -> "pd.DataFrame":
    """One row per finished run, from metrics.json alone: `run`, `stale`, `commit`, the parameters, the summary."""
    table = [
        {"run": r.dir.name, "stale": r.stale, "commit": r.metrics.get("commit"), **r.config, **r.metrics["summary"]}
        for r in finished(experiment, runs_dir)
    ]
    return _frame(experiment, table)


def _frame(experiment: str, table: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(table) if table else pd.DataFrame(columns=["run", "stale", *schema(experiment).model_fields])


def _weight(run: Finished) -> tuple[bool, datetime, str]:
    """Of the runs of one configuration, the one with the most weight counts."""
    return not run.stale, run.ended, run.dir.name


def _folders(experiment: str, runs_dir: str | Path | None) -> list[Path]:
    parent = experiment_folder(experiment, runs_dir)
    try:
        return [parent / name for name in os.listdir(parent) if not name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(
            f"The runs in {parent} cannot be listed ({error.strerror}): make it a folder you may read, or name another "
            "place with --runs-dir DIR.",
            error.errno,
        ) from error


def _complete(experiment: str, folders: Iterable[Path]) -> Iterator[Finished]:
    """The undamaged complete runs among the folders, in their order."""
    for folder in folders:
        try:
            metrics = check(folder, experiment)
        except (FileNotFoundError, NotADirectoryError):  # not complete, or not a run at all
            continue
        except Damaged as problem:
            _warn(folder, problem)
        except OSError as error:
            name = Path(error.filename or "metrics.json").name
            advice = "make it readable, or delete the folder and run the sweep again"
            _warn(folder, Damaged(f"{name} cannot be read ({error.strerror})", advice))
        else:
            yield Finished(folder, metrics, _is_stale(experiment, metrics))


def _is_stale(experiment: str, metrics: Mapping[str, Any]) -> bool:
    """Whether the source behind the run has changed, or it was made for other parameters than there are today."""
    if not is_of_this_version(experiment, metrics["config"]):
        return True
    modules = schema(experiment).model_construct(**metrics["config"]).modules()
    return provenance.source_hash(experiment, modules) != metrics["source_hash"]


def is_of_this_version(experiment: str, config: Mapping[str, Any]) -> bool:
    """Whether the parameters of a run are those of today, with values that could be given today.

    A file or folder of the machine that the run comes from need not be on this one: a name stands for it here, and no
    complaint about that name counts.
    """
    if config.keys() != schema(experiment).model_fields.keys():
        return False
    places = [value for value in config.values() if isinstance(value, str) and os.path.isabs(value)]
    named = {name: f"elsewhere/{places.index(value)}" for name, value in config.items() if value in places}
    try:
        params = schema(experiment).model_validate({**config, **named})
    except ValidationError as error:
        return all(e["type"] == "value_error" and e["input"] in named.values() for e in error.errors())
    except (ValueError, AttributeError, TypeError, LookupError):  # of a validator that met what it never expected
        return False
    return config_hash(params) == stored_hash({**config, **named})


def _warn(folder: Path, problem: Damaged) -> None:
    message = f"Run folder {folder} is left out because {problem}; {problem.advice}."
    warnings.warn(message, RunWarning, stacklevel=1)  # always from here, so that each folder is named once
