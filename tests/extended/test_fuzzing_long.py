"""Ten thousand and more cases for the readers of grids, requests, rows and runs: minutes, where the ordinary tests take
seconds."""

import random

import pytest
from fuzzing import (
    GRIDS,
    LINES,
    check_file,
    check_grid,
    check_rows,
    check_runs,
    damaged,
    make_run,
    real_files,
)
from hypothesis import HealthCheck, given, settings

DOCUMENTS, TEXTS, FILES, ROWS, RUNS = 2000, 2000, 2500, 2500, 1500
REQUESTS = b"""{"prompt": "Say it.", "id": 1, "type": "bridge", "level": "easy"}
{"turns": ["a", "b"], "category": "qa", "question": "q", "answer": "#### 1"}
"""


def at_most(cases: int) -> settings:
    return settings(max_examples=cases, deadline=None, suppress_health_check=list(HealthCheck), database=None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzing")


def test_there_are_ten_thousand():
    assert DOCUMENTS + TEXTS + FILES + ROWS + RUNS >= 10_000


@at_most(DOCUMENTS)
@given(document=GRIDS)
def test_grids(document):
    check_grid(document)


@at_most(TEXTS)
@given(text=LINES)
def test_requests_and_rows(folder, text):
    check_rows(folder / "rows.jsonl", text.encode(errors="surrogatepass"))


def test_damaged_requests_and_rows(folder):
    chance = random.Random(1)
    for _ in range(ROWS):
        check_rows(folder / "rows.jsonl", damaged(REQUESTS, chance))


def test_damaged_files_of_params(folder):
    chance = random.Random(1)
    for _ in range(FILES):
        source = chance.choice(real_files())
        check_file(folder / source.name, damaged(source.read_bytes(), chance))


def test_damaged_runs(folder):
    run, chance = make_run(folder / "runs", rows=4), random.Random(1)
    for _ in range(RUNS):
        name = chance.choice(["metrics.json", "metrics.json", "measurements.jsonl", "config.yaml"])
        check_runs(run, name, damaged((run / name).read_bytes(), chance), rows=4)
