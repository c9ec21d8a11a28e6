"""Readers of grids, requests, rows and runs refuse nonsense in one sentence; `tests/extended` has many more cases."""

import random

import pytest
from fuzzing import GRIDS, LINES, check_file, check_grid, check_rows, check_runs, damaged, make_run, real_files
from hypothesis import HealthCheck, given, settings

CASES = 200
some = settings(max_examples=CASES, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzzing")


@some
@given(document=GRIDS)
def test_grids(document):
    check_grid(document)


@some
@given(text=LINES)
def test_requests_and_rows(folder, text):
    check_rows(folder / "rows.jsonl", text.encode(errors="surrogatepass"))


def test_damaged_files_of_params(folder):
    chance = random.Random(0)
    for _ in range(CASES):
        source = chance.choice(real_files())
        check_file(folder / source.name, damaged(source.read_bytes(), chance))


def test_damaged_runs(folder):
    run, chance = make_run(folder / "runs", rows=4), random.Random(0)
    for _ in range(CASES):
        name = chance.choice(["metrics.json", "measurements.jsonl", "responses.jsonl"])
        check_runs(run, name, damaged((run / name).read_bytes(), chance), rows=4)
