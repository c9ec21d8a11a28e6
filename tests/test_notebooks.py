"""Every notebook runs from top to bottom at its `micro` preset, as a sweep would run it, on a model trained here."""

import json

import pytest

from lib import notebooks, paths, presets, runs
from lib.params import EXPERIMENTS


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if not name.startswith("bench/")])
def test_runs_to_its_end(experiment, tmp_path):
    (cell,) = presets.cells(experiment, "micro")
    params = cell.resolved().model_copy(update={"runs_dir": str(tmp_path)})
    folder = runs.prepare(experiment, params)
    notebook = paths.NOTEBOOKS / f"{experiment}.ipynb"
    notebooks.execute(notebook, params, params.model_dump(mode="json"), folder, progress_bar=False)

    (run,) = runs.finished(experiment, tmp_path)
    assert run.dir == folder
    assert not run.stale
    assert run.metrics["summary"]
    assert run.rows()
    assert all(json.loads(line) for line in (folder / "responses.jsonl").read_text().splitlines())
    outputs = [
        out for c in json.loads((folder / "executed.ipynb").read_text())["cells"] for out in c.get("outputs", [])
    ]
    assert any("image/png" in out.get("data", {}) for out in outputs), "the notebook shows no figure"
