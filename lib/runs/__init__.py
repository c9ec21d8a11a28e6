"""The life of a run folder, and how finished ones are read.

`runs/<experiment>/<label>_<YYYYmmdd_HHMMSS>_<hash6>/` is created with its configuration in it, filled line by line
while the run works, and closed by `metrics.json`, written last and in one step: a folder that has it is a complete run,
and nothing else says so. A folder is never reused, so a crash costs one run and never an older result. Readers take the
newest complete run of each configuration; a damaged folder is named in a warning and left out.
"""

import json
import math
import os
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from lib import paths, provenance
from lib.params import ParameterError, Params, check_names, config_hash, resolve, schema
from lib.records import plain, write_in_one_step

if TYPE_CHECKING:  # pandas takes half a second to import; opening a run does not need it
    import pandas as pd

SCHEMA = 1  # version of metrics.json; a reader refuses what it does not know
RECORDS = ("responses.jsonl", "measurements.jsonl")
NOT_PARAMETERS = {"In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}  # put there by IPython and papermill
LITERALS = (bool, int, float, str, list, tuple, dict, type(None))


class RunWarning(UserWarning):
    """A run folder that cannot be used; the message names it and says what to do."""


class Run:
    """A run being written: its parameters, its folder, and the three ways to add to it."""

    def __init__(self, experiment: str, params: Params, folder: Path) -> None:
        self.experiment, self.params, self.dir = experiment, params, folder
        self._started = time.perf_counter()
        self._source_hash = provenance.source_hash(experiment, params.modules())  # now: source may be edited meanwhile
        self._files = {name: (folder / name).open("a", encoding="utf-8") for name in RECORDS}

    def __repr__(self) -> str:
        return f"Run({self.experiment!r}, {str(self.dir)!r})"

    def response(self, **record: Any) -> None:
        """Append what was generated for one sample or request to responses.jsonl."""
        self._append("responses.jsonl", record)

    def measure(self, **row: Any) -> None:
        """Append one tidy row (a prompt x arm, an epoch, a step) to measurements.jsonl."""
        self._append("measurements.jsonl", row)

    def finish(self, summary: Mapping[str, Any]) -> Path:
        """Write metrics.json, which makes the run complete; returns its path. A run is finished once."""
        self._check_open()
        summary = plain(summary)  # may raise, and then the run is still open
        for file in self._files.values():
            file.flush()
            os.fsync(file.fileno())
            file.close()
        environment = json.loads((self.dir / "env.json").read_text(encoding="utf-8"))
        metrics = {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "run": self.dir.name,
            "config": _stored(self.params),
            "config_hash": config_hash(self.params),
            "source_hash": self._source_hash,
            **environment["git"],
            "finished": datetime.now(UTC).isoformat(),
            "seconds": time.perf_counter() - self._started,
            "bytes": {name: (self.dir / name).stat().st_size for name in RECORDS},
            "summary": summary,
        }
        return write_in_one_step(self.dir / "metrics.json", json.dumps(metrics, indent=1, allow_nan=False))

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        self._check_open()
        self._files[name].write(json.dumps(plain(record), allow_nan=False) + "\n")
        self._files[name].flush()

    def _check_open(self) -> None:
        if any(file.closed for file in self._files.values()):
            raise RuntimeError(f"Run {self.dir.name} is finished, so nothing can be added; open a new run.")


def open_run(experiment: str, namespace: Mapping[str, Any]) -> Run:
    """Open the run that a notebook's parameters describe: `run = runs.open_run("1a3_scaling", globals())`.

    `namespace` is the notebook's globals, or a plain mapping of parameters. The folder is `run_dir` where the shim or
    the sweep prepared one, else a new one. Raises ParameterError for an unknown name or a wrong value.
    """
    params = resolve(experiment, _parameters(experiment, namespace))
    folder = prepare(experiment, params)
    print(f"Results go to {folder}")
    environment = provenance.environment(getattr(params, "threads", None), getattr(params, "dtype", None))
    write_in_one_step(folder / "env.json", json.dumps(environment, indent=1))  # here, on the machine that does the work
    return Run(experiment, params, folder)


def prepare(experiment: str, params: Params) -> Path:
    """The folder of a run about to start, with config.yaml in it: `run_dir` where given, else a new one.

    Raises ParameterError when the run cannot be had, or `run_dir` already holds results or is for other parameters.
    """
    if reason := params.unavailable():
        raise ParameterError(reason)
    return _adopt(experiment, params) if params.run_dir else _create(experiment, params)


def _create(experiment: str, params: Params) -> Path:
    """A new run folder, never an existing one, even within the same second."""
    parent = experiment_folder(experiment, params.runs_dir)
    label = re.sub(r"[^A-Za-z0-9._@+-]+", "-", params.folder_label())[:60].strip("-.") or "run"
    name = f"{label}_{datetime.now():%Y%m%d_%H%M%S}_{config_hash(params)[:6]}"
    parent.mkdir(parents=True, exist_ok=True)
    for folder in (parent / (f"{name}-{n}" if n else name) for n in range(1000)):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return _describe(folder, params)
    raise ParameterError(f"{parent} already holds 1000 runs of this second; wait a second and start again.")


def experiment_folder(experiment: str, runs_dir: str | Path | None = None) -> Path:
    """The folder that holds an experiment's runs, absolute; `runs_dir` empty or None means paths.RUNS."""
    return Path(runs_dir or paths.RUNS).expanduser().resolve() / experiment


def _parameters(experiment: str, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters among a notebook's globals; ParameterError for a literal that is none, such as a misspelt one.

    When the cell is run a second time, the notebook's later cells have left variables of their own behind. From then on
    only annotated names, which is how the parameters cell is written, are held to be parameters.
    """
    fields = {*schema(experiment).model_fields, *schema(experiment).ALIASES}
    if "__name__" not in namespace:  # not a notebook's globals: every entry is meant
        names = list(namespace)
    elif any(isinstance(value, Run) for value in namespace.values()):
        names = [name for name in namespace if name in fields or name in namespace.get("__annotations__", {})]
    else:
        names = [n for n, v in namespace.items() if isinstance(v, LITERALS) and not n.startswith("_")]
    names = [name for name in names if name not in NOT_PARAMETERS]
    check_names(experiment, names)
    return {name: namespace[name] for name in names}


def _adopt(experiment: str, params: Params) -> Path:
    """Take over the folder in `run_dir`: prepared for this very configuration, or new; never one with results."""
    folder = Path(params.run_dir).expanduser().resolve()
    if any((folder / name).exists() for name in (*RECORDS, "metrics.json")):
        raise ParameterError(f"Run folder {folder} already holds results; leave run_dir empty to get a new folder.")
    if not (folder / "config.yaml").exists():
        folder.mkdir(parents=True, exist_ok=True)
        return _describe(folder, params)
    prepared = resolve(experiment, yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")))
    if config_hash(prepared) != config_hash(params):
        raise ParameterError(
            f"Run folder {folder} was made for other parameters; leave run_dir empty to get a new one."
        )
    return folder


def _describe(folder: Path, params: Params) -> Path:
    write_in_one_step(folder / "config.yaml", yaml.safe_dump(_stored(params), sort_keys=False, allow_unicode=True))
    return folder


def _stored(params: Params) -> dict[str, Any]:
    """Every parameter as resolved but run_dir, so that `papermill -f config.yaml` repeats a run in a new folder."""
    return {**params.model_dump(mode="json"), "run_dir": ""}


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

    def rows(self) -> list[dict[str, Any]]:
        """The rows of measurements.jsonl, null as NaN; ValueError for a line that is not a JSON object."""
        lines = (self.dir / "measurements.jsonl").read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines]
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("a line is not a row")
        return [{k: math.nan if v is None else v for k, v in row.items()} for row in rows]


def finished(experiment: str, runs_dir: str | Path | None = None) -> list[Finished]:
    """The newest complete run of each configuration, oldest first; damaged folders are warned about and left out."""
    newest: dict[str, Finished] = {}
    for run in sorted(_complete(experiment, runs_dir), key=lambda run: run.metrics["finished"]):
        newest.pop(run.metrics["config_hash"], None)
        newest[run.metrics["config_hash"]] = run
    return list(newest.values())


def load(experiment: str, runs_dir: str | Path | None = None) -> "pd.DataFrame":
    """Every measurement row of the finished runs, one configuration once.

    Columns: `run` (folder name), `stale`, the parameters, and what the row holds; a row's own value wins over the
    parameter of the same name (an arm with a threshold of its own, say).
    """
    table = []
    for run in finished(experiment, runs_dir):
        try:
            rows = run.rows()
        except ValueError as error:
            _warn(run.dir, f"measurements.jsonl cannot be read ({error})")
            continue
        table += [{"run": run.dir.name, "stale": run.stale, **run.config, **row} for row in rows]
    return _frame(experiment, table)


def summaries(experiment: str, runs_dir: str | Path | None = None) -> "pd.DataFrame":
    """One row per finished run, from metrics.json alone: `run`, `stale`, `commit`, the parameters, the summary."""
    table = [
        {"run": r.dir.name, "stale": r.stale, "commit": r.metrics["commit"], **r.config, **r.metrics["summary"]}
        for r in finished(experiment, runs_dir)
    ]
    return _frame(experiment, table)


def _frame(experiment: str, table: list[dict[str, Any]]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(table) if table else pd.DataFrame(columns=["run", "stale", *schema(experiment).model_fields])


def _complete(experiment: str, runs_dir: str | Path | None) -> Iterator[Finished]:
    """Every undamaged complete run of an experiment, in no particular order."""
    for path in experiment_folder(experiment, runs_dir).glob("*/metrics.json"):
        try:
            metrics = _checked(path)
        except (OSError, ValueError) as error:
            _warn(path.parent, str(error))
            continue
        yield Finished(path.parent, metrics, _is_stale(experiment, metrics))


def _checked(path: Path) -> dict[str, Any]:
    """The content of a metrics.json; ValueError says what is wrong with it or with the files it vouches for."""
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise ValueError("metrics.json is not JSON") from None
    needed = {"config": dict, "config_hash": str, "source_hash": str, "finished": str, "bytes": dict, "summary": dict}
    if not isinstance(metrics, dict) or metrics.get("schema") != SCHEMA:
        raise ValueError(f"metrics.json is not of schema {SCHEMA}")
    if wrong := [key for key, kind in needed.items() if not isinstance(metrics.get(key), kind)]:
        raise ValueError(f"metrics.json lacks {', '.join(wrong)}")
    if set(metrics["bytes"]) != set(RECORDS):
        raise ValueError("metrics.json does not vouch for both record files")
    if not (path.parent / "config.yaml").exists():
        raise ValueError("config.yaml is missing")
    for name, size in metrics["bytes"].items():
        file = path.parent / name
        if not file.exists() or file.stat().st_size != size:
            raise ValueError(f"{name} is not the file of {size} bytes that the run wrote")
    return metrics


def _is_stale(experiment: str, metrics: Mapping[str, Any]) -> bool:
    """Whether the source behind the run has changed; a configuration that can no longer be read counts as changed."""
    try:
        modules = schema(experiment).model_construct(**metrics["config"]).modules()
    except (ValueError, AttributeError, TypeError):
        return True
    return provenance.source_hash(experiment, modules) != metrics["source_hash"]


def _warn(folder: Path, what: str) -> None:
    message = f"Run folder {folder} is left out because {what}; delete the folder and run the sweep again."
    warnings.warn(message, RunWarning, stacklevel=1)  # always from here, so that each folder is named once
