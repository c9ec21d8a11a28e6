"""Every notebook runs from top to bottom at its `micro` preset, as a sweep would run it, on a model trained here, and
gives the same again when it is run again: what is listed in `VARIES` is all that may differ.
"""

import json
import os
import re
from pathlib import Path

import pytest

from lib import notebooks, paths, presets, runs
from lib.metrics.lossless import Audit
from lib.params import EXPERIMENTS

NOTEBOOKS = [name for name in EXPERIMENTS if not name.startswith("bench/")]
SPEEDUPS = {"speedups.estimate", "speedups.low", "speedups.high"}
FRESH = {"mazes", "bridges", "bridge-states", "bridge-text"}  # of the cache: what a run itself trains or computes
# What may differ, by experiment: columns of measurements, then fields of the summary. Times, what derives from them,
# and peaks of the process's memory.
VARIES: dict[str, tuple[set[str], set[str]]] = {
    "1a3_scaling": (
        {"prefill_s", "decode_s", "wall_s", "tokens_per_s", "peak_memory_bytes"},
        {"cost.prefill_s", "cost.decode_s", "cost.wall_s", *SPEEDUPS},
    ),
    "2a_specdec": (
        {"prefill_s", "decode_s", "wall_s", "tokens_per_s", "draft_s", "verify_s", "s_per_token", "seconds", "speedup"},
        SPEEDUPS,
    ),
    "3a_poh_scaling": ({"train_s", "peak_memory_bytes"}, {"models.train_s"}),
    "4a_bridge": ({"train_s", "peak_memory_bytes"}, set()),
    "4b_wire": (set(), set()),
    "4c_inference": (
        {
            "decode_s",
            "encode_s",
            "receiver_s",
            "sender_s",
            "source_prefill_s",
            "source_tokenize_s",
            "target_prefill_s",
            "target_tokenize_s",
            "unpack_s",
        },
        SPEEDUPS,
    ),
}
# Columns that docs/columns.md has and a `micro` run has not: those of a sampled audit, and of what vLLM served.
ELSEWHERE = {
    "2a_specdec": {*Audit.__annotations__},
    "4c_inference": {
        *("prompt_tokens", "samples", "seconds", "samples_per_s"),
        *("vllm", "torch", "dtype", "block_tokens"),
    },
}
# Fields of metrics.json that tell one run from another, and whether somebody committed between the two.
OF_A_RUN = {
    *("run", "finished", "seconds", "bytes.measurements.jsonl", "config.runs_dir", "config_sha256"),
    *("commit", "dirty"),
}


def execute(experiment: str, place: Path) -> Path:
    """Run the `micro` cell; its folder."""
    (cell,) = presets.cells(experiment, "micro")
    params = cell.resolved().model_copy(update={"runs_dir": str(place)})
    folder = runs.prepare(experiment, params)
    notebook = paths.NOTEBOOKS / f"{experiment}.ipynb"
    notebooks.execute(notebook, params, params.model_dump(mode="json"), folder, progress_bar=False)
    return folder


@pytest.fixture(scope="module", params=NOTEBOOKS)
def first(request, tmp_path_factory):
    """The experiment and the folder of its first run."""
    return request.param, execute(request.param, tmp_path_factory.mktemp("first"))


def test_runs_to_its_end(first):
    experiment, folder = first
    (run,) = runs.finished(experiment, folder.parent.parent)
    assert run.dir == folder
    assert not run.stale
    assert run.metrics["summary"]
    assert run.rows()
    assert all(json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines())
    outputs = [
        out for c in json.loads((folder / "executed.ipynb").read_text())["cells"] for out in c.get("outputs", [])
    ]
    assert any("image/png" in out.get("data", {}) for out in outputs), "the notebook shows no figure"


def documented() -> dict[str, set[str]]:
    """The columns that docs/columns.md explains, by heading."""
    sections = (paths.ROOT / "docs" / "columns.md").read_text(encoding="utf-8").split("\n## ")[1:]
    cells = {text.splitlines()[0]: re.findall(r"^\| (`.*?) \|", text, re.M) for text in sections}
    return {name: set(re.findall(r"`([^`]+)`", " ".join(found))) for name, found in cells.items()}


def test_every_column_is_explained_and_no_other(first):
    experiment, folder = first
    measured = {column for line in (folder / "measurements.jsonl").open() for column in json.loads(line)}
    pages = documented()
    common, own = pages["In several experiments"], pages[experiment]
    assert measured <= common | own
    assert own <= measured | ELSEWHERE.get(experiment, set())


def differing(one: object, other: object, place: str = "") -> set[str]:
    """The places, such as `cost.wall_s`, at which two pieces of JSON differ; items of a list share its place."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return set().union(*(differing(one[key], other[key], f"{place}.{key}".lstrip(".")) for key in one))
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return set().union(*(differing(a, b, place) for a, b in zip(one, other, strict=True)))
    return set() if one == other else {place}


def test_gives_the_same_again(first, tmp_path, monkeypatch):
    experiment, folder = first
    (tmp_path / "cache").mkdir()
    for kept in (path for path in paths.CACHE.iterdir() if path.name not in FRESH):
        (tmp_path / "cache" / kept.name).symlink_to(kept)
    monkeypatch.setitem(os.environ, "RECOUNT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # the first run has told what it covers
    again = execute(experiment, tmp_path / "again")

    assert (again / "responses.jsonl").read_bytes() == (folder / "responses.jsonl").read_bytes()
    rows = [[json.loads(line) for line in (d / "measurements.jsonl").read_text().splitlines()] for d in (folder, again)]
    columns, fields = VARIES[experiment]
    assert differing(*rows) <= columns
    one, other = (json.loads((place / "metrics.json").read_text()) for place in (folder, again))
    assert differing(one.pop("summary"), other.pop("summary")) <= fields
    assert differing(one, other) <= OF_A_RUN
