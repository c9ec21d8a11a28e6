"""Figures and tables as files: what they hold, where they come from, the same bytes again; and the paper notebook."""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import bridge_rows
import inference_rows
import matplotlib.pyplot as plt
import maze_rows
import nbformat
import numpy as np
import pandas as pd
import pytest
import specdec_rows
import wire_rows

from lib import figures, notebooks, pages, paper, paper_page, paths
from lib.figures import Drawn, style
from lib.params import ParameterError

SPECS = {name: spec for name, spec in figures.specs().items() if not spec.experiment.startswith(paper.BENCH)}
TABLES = [name for name in SPECS if name.endswith("_table")]
REPEATED = ["3a_scaling", "4a_stressors", "4c_memory"]  # drawn in two processes, with all tables
NOTEBOOK = paths.NOTEBOOKS / "paper_figures.ipynb"
LACKING = "a-cell-without-a-run"
SPEED = {"naive": 1.0, "hf": 4.0, "batched": 8.0, "bifurcated": 10.0, "eab_sequential": 1.25, "eab": 9.0, "tree": 12.0}


@pytest.fixture(autouse=True)
def _closed():
    yield
    plt.close("all")


def scaling_rows() -> pd.DataFrame:
    """Two models on eight prompts in both protocols: `SPEED` times as fast as naive, without any scatter."""
    about = {"prompt_tokens": 200, "max_new_tokens": 30, "temperature": 0.8, "threshold": 0.1, "threads": 1}
    costs = {"token_forwards": 780, "forward_calls": 30, "flops": 1e8, "kv_bytes": 1000, "dummy": False}
    quality = dict.fromkeys(("distinct_2", "self_bleu", "unique_ratio", "coverage", "nll"), 0.5)
    return pd.DataFrame(
        about
        | costs
        | quality
        | {"run": f"run of {model}", "model": model, "parameters": size, "protocol": protocol, "num_samples": 20}
        | {"arm": arm, "prompt": prompt, "repeat": 0, "wall_s": (1 + prompt) / speed, "prefill_s": 0.5 / speed}
        for model, size in {"ladder-160k": 164_416, "ladder-1m": 919_680}.items()
        for protocol in ("fixed", "matched")
        for prompt in range(8)
        for arm, speed in SPEED.items()
    )


def specdec_all() -> pd.DataFrame:
    made = (specdec_rows.latency_rows, specdec_rows.throughput_rows, specdec_rows.cost_rows, specdec_rows.trace_rows)
    return pd.concat([rows() for rows in made], ignore_index=True).assign(token_equal=True)


ROWS: dict[str, Callable[[], pd.DataFrame]] = {
    "1a3_scaling": scaling_rows,
    "2a_specdec": specdec_all,
    "3a_poh_scaling": maze_rows.rows,
    "4a_bridge": bridge_rows.rows,
    "4b_wire": wire_rows.rows,
    "4c_inference": inference_rows.rows,
}


@cache
def rows_of(experiment: str) -> pd.DataFrame:
    return ROWS[experiment]()


def tabled(name: str) -> pd.DataFrame:
    return SPECS[name].draw(rows_of(SPECS[name].experiment), []).data


@pytest.mark.parametrize("name", SPECS)
def test_every_figure_and_table_names_the_cells_that_have_no_run(name):
    made = SPECS[name].draw(rows_of(SPECS[name].experiment), [LACKING])
    assert LACKING in made.caption
    if isinstance(made, Drawn):
        assert LACKING in made.figure.get_suptitle()


def test_every_experiment_has_one_table():
    assert sorted(SPECS[name].experiment for name in TABLES) == sorted(ROWS)


class TestTables:
    def test_1a3_has_speedups_paired_by_prompt(self):
        data = tabled("1a3_table").set_index(["model", "arm"])
        for arm, speed in SPEED.items():
            row = data.loc["ladder-1m", arm]
            assert (row.speedup, row.low, row.high, row.n) == pytest.approx((speed, speed, speed, 8))
        assert data.xs("ladder-1m").index[0] == "tree"
        assert "1m: fastest is tree, 12.0 (12.0 to 12.0) times" in SPECS["1a3_table"].draw(scaling_rows(), []).reading

    def test_2a_has_what_was_planted(self):
        data = tabled("2a_table").set_index(["model", "arm"])
        for arm, speed in specdec_rows.SPEEDUPS.items():
            assert data.speedup["ladder-3m", arm] == pytest.approx(speed, rel=0.1)
        assert set(data.equal) == {1.0}

    def test_3a_has_differences_paired_by_seed(self):
        rows = rows_of("3a_poh_scaling").query("protocol == 'result'")
        wide = rows.pivot(index="seed", columns=["size", "arch"], values="accuracy")
        for row in tabled("3a_table").itertuples():
            own = wide[row.size, row.arch]
            assert row.accuracy == pytest.approx(100 * own.mean())
            ahead = 100 * (wide[row.size, "poh"] - own).mean()
            assert np.isnan(row.ahead) if row.arch == "poh" else row.ahead == pytest.approx(ahead)

    def test_4a_has_the_accuracies_of_the_reference(self):
        rows, data = rows_of("4a_bridge").query("protocol == 'arm'"), tabled("4a_table")
        for row in data[data.arm == "bridged"].query("kind == ''").itertuples():
            own = rows[(rows.label == row.label) & (rows.arm == "bridged") & (rows.decode_hygiene == row.hygiene)]
            own = own[own.checkpoint == np.where(own.patience > 0, "best", "final")]
            assert row.accuracy == pytest.approx(100 * own.accuracy.mean())

    def test_4b_compares_frames_with_utf8(self):
        data = tabled("4b_table")
        np.testing.assert_allclose(data.bytes * data.shorter, wire_rows.TEXT_BYTES)
        assert set(data[data.sent == "text"]["as"]) >= {"UTF-8", "coded under the LM"}

    def test_4c_has_what_was_planted(self):
        data = tabled("4c_table").set_index(["arm", "batch_size"])
        kv = inference_rows.KV
        for (arm, _), row in data.iterrows():
            assert row.saved_kv == pytest.approx(100 * (1 - kv[arm] / kv["text"]))

    def test_markdown_has_numbers_to_the_right_and_nothing_where_nothing_is_known(self):
        data = pd.DataFrame({"a": ["x", "y"], "b": [1.23456, np.nan], "c": [12345.6, 2.0], "d": [3, 4]})
        assert style.markdown(data).splitlines() == [
            "| a | b | c | d |",
            "| --- | ---: | ---: | ---: |",
            "| x | 1.235 | 12,346 | 3 |",
            "| y |  | 2 | 4 |",
        ]


def made_in(out: Path, names: Sequence[str] = (*REPEATED, *TABLES)) -> list[paper.Made]:
    """Figures and tables of synthetic rows, drawn into `out`."""
    experiments = {SPECS[name].experiment for name in names}
    found = {e: paper.Source(rows_of(e).assign(stale=False), [LACKING], "preset quick") for e in experiments}
    return paper.make(names, found, out)


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_rows_give_the_same_bytes_in_another_process_on_another_day(tmp_path, monkeypatch):
    code = "import sys; from pathlib import Path; import test_paper; test_paper.made_in(Path(sys.argv[1]))"
    other = {
        "PYTHONHASHSEED": "7",
        "SOURCE_DATE_EPOCH": "86400",
        "TZ": "Asia/Tokyo",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    command = [sys.executable, "-c", code, str(tmp_path / "there")]
    there = subprocess.Popen(command, cwd=paths.ROOT, env=os.environ | other)
    monkeypatch.setattr(paper, "PER_PROCESS", 100)  # here one after another, there in two processes
    made_in(tmp_path / "here")
    assert there.wait() == 0
    names = {path.name for path in (tmp_path / "here").iterdir()}
    assert names == {path.name for path in (tmp_path / "there").iterdir()}
    assert {f"{name}.pdf" for name in REPEATED} | {f"{name}.md" for name in TABLES} <= names
    assert {n for n in names if digest(tmp_path / "here" / n) != digest(tmp_path / "there" / n)} == set()


def test_every_file_tells_its_commit_and_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(paper.provenance, "git_state", lambda: {"commit": "c0ffee", "dirty": True})
    rows = scaling_rows()
    rows["stale"] = rows.run == "run of ladder-1m"
    found = {"1a3_scaling": paper.Source(rows, [LACKING], "preset quick")}
    for one in paper.make(["1a3_time_saved", "1a3_table"], found, tmp_path):
        about = json.loads((tmp_path / f"{one.name}.json").read_text())
        assert about["sha256"] == {path.name: digest(path) for path in one.files[:-1]}
        assert (about["commit"], about["dirty"], about["missing"]) == ("c0ffee", True, [LACKING])
        assert about["runs"] == ["run of ladder-160k", "run of ladder-1m"]
        assert about["stale"] == ["run of ladder-1m"]
        for path in one.files:
            if path.suffix != ".csv":  # which stays what pandas.read_csv reads: its digest above finds it
                assert b"c0ffee" in path.read_bytes(), path
                assert b"run of ladder-160k" in path.read_bytes(), path
    assert len(pd.read_csv(tmp_path / "1a3_table.csv")) == 2 * len(SPEED)


def test_an_experiment_is_read_once_however_many_figures_it_has(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr(paper.results, "grid_rows", lambda e, *_: read.append(e) or (rows_of(e).assign(preset="x"), []))
    found = paper.sources([spec.experiment for spec in SPECS.values()])
    assert sorted(read) == sorted(ROWS)
    assert {source.origin for source in found.values()} == {"preset x"}
    assert next(iter(paper.sources(["1a3_scaling"], "quick").values())).origin == "preset quick"


class TestNotebook:
    def test_shows_every_figure_and_table_once(self):
        source = "\n".join(notebooks.code_cells(NOTEBOOK))
        shown = re.findall(r'"(\d\w+?_\w+)"', source)
        assert sorted(shown) == sorted(figures.specs())

    def test_with_no_runs_it_says_what_to_run_and_ends_well(self, tmp_path, monkeypatch):
        monkeypatch.setitem(os.environ, "RECOUNT_FIGURES", str(tmp_path / "figures"))
        given = {"runs_dir": str(tmp_path / "none")}
        target = tmp_path / "executed.ipynb"
        notebooks.execute_page(NOTEBOOK, pages.resolve(NOTEBOOK, given), given, str(target), progress_bar=False)
        outputs = [out for c in nbformat.read(target, 4).cells for out in c.get("outputs", [])]
        said = "".join(out.get("data", {}).get("text/markdown", "") for out in outputs)
        assert not [out for out in outputs if out.output_type == "error"]
        assert all(f"python -m lib.sweep {experiment}" in said for experiment in ROWS)
        assert not (tmp_path / "figures").exists()

    def test_a_preset_that_nothing_has_is_a_mistake_in_one_sentence(self, tmp_path, monkeypatch):
        monkeypatch.setattr(paths, "FIGURES", tmp_path)
        with pytest.raises(ParameterError, match="no preset 'quik'; did you mean 'quick'"):
            paper_page.Paper("quik", str(tmp_path))


def test_drawing_needs_no_model_stack_and_no_notebook():
    code = "import sys, lib.paper, lib.figures.__main__; lib.figures.specs(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "vllm", "ray", "papermill"} & set(done.stdout.split())
