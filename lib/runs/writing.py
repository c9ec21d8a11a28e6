"""A run being written: its folder is made with the configuration in it, filled line by line, and closed at the end.

Whatever the disk refuses is a `StorageError` that names the folder; it never leaves a `metrics.json`, so the run stays
incomplete, and the folder is not used again.
"""

import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from lib import plain_yaml, provenance
from lib.params import ParameterError, Params, check_names, config_hash, resolve, schema
from lib.records import plain, write_in_one_step
from lib.runs.folder import HASH_DIGITS, RECORDS, SCHEMA, absolute, experiment_folder, named_hash, storing

NOT_PARAMETERS = {"In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"}  # put there by IPython and papermill
LITERALS = (bool, int, float, str, list, tuple, dict, type(None))
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # ten times as fast where PyYAML was built with libyaml
SAME_SECOND = 1000  # runs of one name that a second may hold


class Run:
    """A run being written: its parameters, its folder, and the three ways to add to it.

    Each of them raises StorageError when the disk does not take it; the run is then still open.
    """

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
        with storing(self.dir):
            for file in self._files.values():
                file.flush()
                os.fsync(file.fileno())
            text = json.dumps(self._metrics(summary), indent=1, allow_nan=False)
            path = write_in_one_step(self.dir / "metrics.json", text)
            for file in self._files.values():
                file.close()
        return path

    def _metrics(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        environment = json.loads((self.dir / "env.json").read_text(encoding="utf-8"))
        return {
            "schema": SCHEMA,
            "experiment": self.experiment,
            "run": self.dir.name,
            "config": _stored(self.params),
            "config_hash": config_hash(self.params),
            "config_sha256": hashlib.sha256(_as_yaml(self.params).encode()).hexdigest(),  # of the file config.yaml
            "source_hash": self._source_hash,
            **environment["git"],
            "finished": datetime.now(UTC).isoformat(),
            "seconds": time.perf_counter() - self._started,
            "bytes": {name: (self.dir / name).stat().st_size for name in RECORDS},
            "summary": summary,
        }

    def _append(self, name: str, record: Mapping[str, Any]) -> None:
        self._check_open()
        line = json.dumps(plain(record), allow_nan=False) + "\n"
        with storing(self.dir):
            self._files[name].write(line)
            self._files[name].flush()

    def _check_open(self) -> None:
        if any(file.closed for file in self._files.values()):
            raise RuntimeError(f"Run {self.dir.name} is finished, so nothing can be added; open a new run.")


def open_run(experiment: str, namespace: Mapping[str, Any]) -> Run:
    """Open the run that a notebook's parameters describe: `run = runs.open_run("1a3_scaling", globals())`.

    `namespace` is the notebook's globals, or a plain mapping of parameters. The folder is `run_dir` where the shim or
    the sweep prepared one, else a new one. Raises ParameterError for an unknown name or a wrong value, and StorageError
    when there is no place for the run.
    """
    params = resolve(experiment, _parameters(experiment, namespace))
    folder = prepare(experiment, params)
    print(f"Results go to {folder}")
    environment = provenance.environment(getattr(params, "threads", None), getattr(params, "dtype", None))
    with storing(folder):
        write_in_one_step(folder / "env.json", json.dumps(environment, indent=1))  # of the machine that does the work
        return Run(experiment, params, folder)


def prepare(experiment: str, params: Params) -> Path:
    """The folder of a run about to start, with config.yaml in it: `run_dir` where given, else a new one.

    Raises ParameterError when the run cannot be had, or `run_dir` already holds results or is for other parameters;
    StorageError when the folder cannot be made, and then nothing of it stays.
    """
    if reason := params.unavailable():
        raise ParameterError(reason)
    params.check_named()
    return _adopt(experiment, params) if params.run_dir else _create(experiment, params)


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


def _create(experiment: str, params: Params) -> Path:
    """A new run folder, never an existing one, even within the same second."""
    parent = experiment_folder(experiment, params.runs_dir)
    label = re.sub(r"[^A-Za-z0-9._@+-]+", "-", params.folder_label())[:60].strip("-.") or "run"
    name = f"{label}_{datetime.now():%Y%m%d_%H%M%S}_{config_hash(params)[:HASH_DIGITS]}"
    with storing(parent):
        folder = _new_folder(parent, name)
        try:
            return _describe(folder, params)
        except OSError:
            folder.rmdir()
            raise


def _new_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    for folder in (parent / (f"{name}-{n}" if n else name) for n in range(SAME_SECOND)):
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        return folder
    raise ParameterError(f"{parent} already holds {SAME_SECOND} runs of this second; wait a second and start again.")


def _adopt(experiment: str, params: Params) -> Path:
    """Take over the folder in `run_dir`: prepared for this very configuration, or new; never one with results.

    Its name is free, but for what readers rely on: a hidden folder is no run, and a hash in the name is the run's own.
    """
    folder = absolute(params.run_dir)
    if folder.name.startswith("."):
        raise ParameterError(f"Run folder {folder} is hidden, so its run would never be read; give it another name.")
    with storing(folder):
        if any((folder / name).exists() for name in (*RECORDS, "metrics.json")):
            raise ParameterError(f"Run folder {folder} already holds results; leave run_dir empty to get a new folder.")
        if named_hash(folder.name) not in (None, config_hash(params)[:HASH_DIGITS]) or _is_of_another(
            folder / "config.yaml", experiment, params
        ):
            raise ParameterError(
                f"Run folder {folder} was made for other parameters; leave run_dir empty to get a new one."
            )
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()) and not (folder / "config.yaml").exists():
            raise ParameterError(f"Run folder {folder} holds other files; leave run_dir empty to get a new folder.")
        return _describe(folder, params)


def _is_of_another(path: Path, experiment: str, params: Params) -> bool:
    """Whether a prepared config.yaml is there and means another configuration; ParameterError if it means nothing."""
    if not path.exists() or path.read_bytes() == _as_yaml(params).encode():
        return False
    try:
        prepared = plain_yaml.read(path)
        if not isinstance(prepared, dict):
            raise plain_yaml.YamlError("it holds no parameters")
    except plain_yaml.YamlError as error:
        raise ParameterError(f"{path} cannot be read ({error}); leave run_dir empty to get a new folder.") from None
    return config_hash(resolve(experiment, prepared)) != config_hash(params)


def _describe(folder: Path, params: Params) -> Path:
    """The folder, with the whole configuration as its config.yaml."""
    path, text = folder / "config.yaml", _as_yaml(params)
    if not path.exists() or path.read_bytes() != text.encode():
        write_in_one_step(path, text)
    return folder


def _stored(params: Params) -> dict[str, Any]:
    """Every parameter as resolved but run_dir, so that `papermill -f config.yaml` repeats a run in a new folder."""
    return {**params.model_dump(mode="json"), "run_dir": ""}


def _as_yaml(params: Params) -> str:
    return yaml.dump(_stored(params), Dumper=DUMPER, sort_keys=False, allow_unicode=True)
