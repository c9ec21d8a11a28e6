"""Every figure and table as files, from finished runs: what `python -m lib.figures` and the paper notebook share.

The rows of an experiment are read once, here; drawing is shared among as many processes as there are cores. Beside the
files of each figure lies `<name>.json`: the commit, the runs, the cells without a run, and the digest of every file, so
that a file met alone, such as a CSV that nothing was added to, still tells where it comes from.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from lib import figures, provenance, results, runs
from lib.figures import style
from lib.params import ParameterError
from lib.records import write_in_one_step

if TYPE_CHECKING:
    import pandas as pd

BENCH = "bench/"  # experiments of this prefix are benchmarks: no preset, no grid
PER_PROCESS = 8  # figures that are worth the seconds in which a process starts


@dataclass(frozen=True)
class Source:
    """The rows of an experiment that are drawn, the labels of cells that have none, and where both come from."""

    rows: pd.DataFrame
    missing: list[str]
    origin: str  # the preset, or which run


@dataclass(frozen=True)
class Made:
    """What became of a figure: its files, or one sentence that says why there are none."""

    name: str
    files: list[Path] = field(default_factory=list)
    origin: str = ""
    reason: str = ""


def sources(
    experiments: Iterable[str], preset: str = "", set_: Sequence[str] = (), runs_dir: Path | None = None
) -> dict[str, Source | str]:
    """What each experiment's figures are drawn from, or why there is nothing; arguments as `results.grid_rows` has."""
    found: dict[str, Source | str] = {}
    for experiment in dict.fromkeys(experiments):
        try:
            if experiment.startswith(BENCH):
                found[experiment] = Source(benchmark_rows(experiment, runs_dir), [], "newest run")
            else:
                rows, missing = results.grid_rows(experiment, preset, list(set_), runs_dir)
                found[experiment] = Source(rows, missing, f"preset {preset or rows.preset.iloc[-1]}")
        except ParameterError as error:
            found[experiment] = str(error)
    return found


def benchmark_rows(experiment: str, runs_dir: Path | None) -> pd.DataFrame:
    """Measurement rows of the newest finished run of a benchmark, whatever its parameters; ParameterError without."""
    done = runs.finished(experiment, runs_dir)
    if not done:
        name = experiment.removeprefix(BENCH)
        raise ParameterError(f"There is no finished run of {experiment}: run 'python -m lib.bench {name}' first.")
    rows = runs.load(experiment, runs_dir)
    return rows[rows.run == done[-1].dir.name]


def make(names: Sequence[str], found: dict[str, Source | str], out: Path) -> list[Made]:
    """Draw the figures and tables into `out` from what `sources` found; what became of each, in the order of names."""
    git, specs = provenance.git_state(), figures.specs()
    sources = {name: found[specs[name].experiment] for name in names}
    made = {name: Made(name, reason=source) for name, source in sources.items() if isinstance(source, str)}
    drawable = [name for name in names if name not in made]
    workers = min(os.cpu_count() or 1, -(-len(drawable) // PER_PROCESS))
    with tqdm(total=len(drawable), desc="figures", unit="figure", leave=False, disable=len(drawable) < 2) as bar:
        shared = (found, out, git)
        for one in _in_turn(drawable, *shared) if workers < 2 else _shared(drawable, *shared, workers):
            made[one.name] = one
            bar.update()
    return [made[name] for name in names]


def _in_turn(names: Sequence[str], *shared: Any) -> Iterator[Made]:
    return (_make(name, *shared) for name in names)


def _shared(
    names: Sequence[str], found: dict[str, Source | str], out: Path, git: dict[str, Any], workers: int
) -> Iterator[Made]:
    context = multiprocessing.get_context("spawn")  # a notebook's kernel has threads, which a fork would not survive
    with ProcessPoolExecutor(workers, context, initializer=_receive, initargs=(found, out, git)) as pool:
        yield from pool.map(_make_received, names)


def _receive(*shared: Any) -> None:
    """Keep, in a process that draws, what all its figures share: the rows are sent once."""
    global _received
    _received = shared


def _make_received(name: str) -> Made:
    return _make(name, *_received)


def _make(name: str, found: dict[str, Source], out: Path, git: dict[str, Any]) -> Made:
    """Draw one figure or table, which has a source, and save it."""
    spec = figures.specs()[name]
    source = found[spec.experiment]
    try:
        drawn = spec.draw(source.rows, source.missing)
    except figures.Undrawable as error:
        return Made(name, reason=str(error))
    folders = sorted(set(source.rows.run))
    changed = ", changed" if git["dirty"] else ""
    saved = style.save(drawn, name, out, f"commit {git['commit']}{changed}; runs {', '.join(folders)}")
    stale = sorted(set(source.rows[source.rows.stale.astype(bool)].run))
    about = {"name": name, "experiment": spec.experiment, "origin": source.origin, **git}
    about |= {"runs": folders, "stale": stale, "missing": list(source.missing)}
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in saved}
    write_in_one_step(out / f"{name}.json", json.dumps(about | {"sha256": digests}, indent=1) + "\n")
    return Made(name, [*saved, out / f"{name}.json"], source.origin)
