"""Training is one recipe, learns, and goes on after a stop as if there had been none; rows keep their contract."""

import json
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch

from lib.data import mazes
from lib.mazes import evaluation, report, search, sets, study
from lib.metrics import mazes as walks
from lib.models import maze, maze_training
from lib.models.maze_sizes import ARCHS, RECURRENT, Size
from lib.models.maze_training import Recipe, Training, train
from lib.params import resolve
from tests import maze_rows

SIZE = Size(d_model=16, n_heads=4, d_ff=24, depth=1)
TINY = {"maze_size": 4, "train": 32, "test": 16, "validation": 8, "epochs": 2, "R": 2, "T": 2, "size": "pico"}
TINY |= {"larger": [1, 2], "batch_size": 16}


@pytest.fixture(scope="module")
def data() -> mazes.Mazes:
    return mazes.make(3, 40, seed=1)


@pytest.fixture
def cached(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.paths.CACHE", tmp_path)
    return tmp_path


def finished(
    arch: str, data: mazes.Mazes, checkpoint=None, stop: int = 0, **options
) -> tuple[maze.MazeModel, list[dict]]:
    """A model trained for four epochs, or until a judge that is asked for epoch `stop` fails."""
    model, rows = maze.build(arch, SIZE, 2, 2, seed=3), []

    def judge(_) -> dict[str, float]:
        if len(rows) + 1 == stop:
            raise KeyboardInterrupt
        return {}

    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.02, **options)
    train(model, data, recipe, judge, rows.append, checkpoint=checkpoint)
    return model, rows


@pytest.mark.parametrize("arch", ["poh", "stack_flops"])
def test_a_stopped_training_goes_on_bit_for_bit(arch, data, tmp_path, monkeypatch):
    monkeypatch.setattr(maze_training, "CHECKPOINT_EVERY", 0.0)
    whole, rows = finished(arch, data)
    checkpoint = tmp_path / "stopped.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        finished(arch, data, checkpoint, stop=3)
    resumed, continued = finished(arch, data, checkpoint)
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)
    without_time = [[{k: v for k, v in row.items() if k != "train_s"} for row in some] for some in (rows, continued)]
    assert without_time[0] == without_time[1]
    assert [row["epoch"] for row in continued] == [1, 2, 3, 4]
    assert continued[-1]["step"] == 4 * (40 // 16)


@pytest.mark.parametrize("damage", ["cut", "text", "other", "metadata"])
def test_a_checkpoint_that_cannot_be_used_is_said_and_left_behind(damage, data, tmp_path, capsys):
    checkpoint = tmp_path / "bad.checkpoint"
    recipe = Recipe(epochs=4, batch_size=16, learning_rate=0.02)
    wider = Size(d_model=32, n_heads=4, d_ff=24, depth=1)
    written = Training(maze.build("loop", wider if damage == "other" else SIZE, 2, 2, 3), data, recipe)
    written.run_epoch(lambda: None)
    written.save(checkpoint, [])
    whole = checkpoint.read_bytes()
    broken = {"cut": whole[: len(whole) // 2], "text": b"{}", "other": whole}
    broken["metadata"] = whole.replace(b'"training"', b'"tra1ning"')
    checkpoint.write_bytes(broken[damage])
    rows = finished("loop", data, checkpoint)[1]
    assert "training starts anew" in capsys.readouterr().err
    assert [row["loss"] for row in rows] == [row["loss"] for row in finished("loop", data)[1]]


def test_losses_fall_and_seeds_differ(data):
    _, rows = finished("loop", data)
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    other, same = (finished("loop", data, seed=seed)[1] for seed in (1, 0))
    assert other[-1]["loss"] != rows[-1]["loss"] == same[-1]["loss"]


def test_training_leaves_small_numbers_to_others(data):
    tiny = torch.tensor([1e-40])
    finished("stack", data)
    assert (tiny / 2).item() > 0
    with pytest.raises(KeyboardInterrupt):
        finished("stack", data, stop=2)
    assert (tiny / 2).item() > 0


def test_with_augmentation_mazes_are_shown_anew_and_without_as_they_are(data):
    model = maze.build("stack", SIZE, 2, 2, seed=0)
    training = Training(model, data, Recipe(2, 16, 0.01, augment=False))
    assert np.array_equal(training._shown().walls, data.open)
    assert np.array_equal(training._shown().right, data.next_steps)
    anew = Training(model, data, Recipe(2, 16, 0.01))
    first = anew._shown()
    anew.epoch = 1
    assert not torch.equal(first.walls, anew._shown().walls)
    labelled = mazes.label(first.walls.numpy(), first.goal.numpy())[1]
    assert np.array_equal(first.right, labelled)


def test_the_rate_warms_up_stays_and_falls_to_zero(data):
    training = Training(maze.build("stack", SIZE, 2, 2, 0), data, Recipe(epochs=60, batch_size=16, learning_rate=1.0))
    scales = [training._scale(step) for step in range(60 * training.steps)]
    assert scales[0] == pytest.approx(1 / (maze_training.WARMUP * 120))
    assert scales[30] == 1.0
    assert 0 < scales[-1] < 0.02


class TestSets:
    def test_no_maze_of_one_set_is_one_of_another_turned_or_mirrored(self):
        made = sets.make(resolve("3a_poh_scaling", TINY | {"maze_size": 4, "train": 300, "test": 100}), seed=5)
        groups = [made.train, made.validation, made.test]
        orbits = [set(mazes.hashes(mazes.orbit(group.open))) for group in groups]
        for i, orbit in enumerate(orbits):
            for group in groups[i + 1 :]:
                assert orbit.isdisjoint(mazes.hashes(group.open))
        assert [len(group) for group in groups] == [300, 8, 100]

    def test_mazes_follow_from_data_parameters_and_seed_alone(self):
        def digests(of: int = 1, **changes) -> list[str]:
            made = sets.make(resolve("3a_poh_scaling", TINY | changes), of)
            return [
                mazes.digest(m) for m in (made.train, made.validation, made.test, made.loops, *made.larger.values())
            ]

        base = digests()
        assert digests(arch=["poh"], size="micro", R=4, epochs=7, learning_rate=0.5, seed=2) == base
        assert set(digests(of=2)).isdisjoint(base)
        assert set(digests(algorithm="wilson")).isdisjoint(base)

    def test_too_few_mazes_in_the_world_is_one_sentence(self):
        with pytest.raises(mazes.MazeError, match="No maze of side 2"):
            sets.make(resolve("3a_poh_scaling", TINY | {"maze_size": 2}), seed=0)


@pytest.fixture
def rows(cached) -> list[dict]:
    params = resolve("3a_poh_scaling", TINY | {"seed": [0, 1]})
    said = []
    found = list(study.run(params, lambda **record: said.append(record)))
    assert [len(record["steps"]) for record in said] == [16] * 10
    return found


def test_rows_keep_the_contract_that_figures_and_claims_are_tested_with(rows):
    contract = maze_rows.rows(sizes=("nano",), seeds=1)
    added_by_runs = {"run", "preset", "stale", "R", "T", "maze_size", "solved"}
    for protocol, wanted in contract.groupby("protocol"):
        columns = set(wanted.dropna(axis=1, how="all").columns) - added_by_runs
        mine = [row for row in rows if row["protocol"] == protocol]
        assert mine, protocol
        assert columns <= set().union(*mine), protocol


def test_every_arm_of_a_seed_is_judged_on_the_same_mazes(rows):
    results = [row for row in rows if row["protocol"] == "result"]
    assert {(row["arch"], row["seed"]) for row in results} == {(arch, seed) for arch in ARCHS for seed in (0, 1)}
    hashes = {seed: {row["data_hash"] for row in results if row["seed"] == seed} for seed in (0, 1)}
    assert all(len(found) == 1 for found in hashes.values())
    assert hashes[0] != hashes[1]


def test_a_walker_that_sees_no_walls_fails_and_one_that_knows_the_way_does_not():
    made = sets.make(resolve("3a_poh_scaling", {"maze_size": 6, "train": 10, "test": 300, "validation": 10}), 3)
    found = {row["arch"]: row["accuracy"] for row in evaluation.references(made, 3)}
    assert found == {"random": pytest.approx(0, abs=0.01), "manhattan": 0.0, "bfs": 1.0}


def test_refinements_go_to_twice_R_for_loops_and_end_with_the_answer_for_stacks(rows):
    for arch in ARCHS:
        own = [row for row in rows if row.get("arch") == arch and row["seed"] == 0]
        of = {p: [row for row in own if row["protocol"] == p] for p in ("result", "refinement", "larger")}
        answer = of["refinement"][1 if arch in RECURRENT else -1]
        assert len(of["refinement"]) == (4 if arch in RECURRENT else 2)
        assert answer["accuracy"] == of["result"][0]["accuracy"] == of["larger"][0]["accuracy"]
        assert [row["side"] for row in of["larger"]] == [4, 5, 6]
        assert (of["larger"][0]["accuracy_2R"] is None) == (arch not in RECURRENT)
        assert (answer["routing_entropy"] is None) == (arch != "poh")


def test_bins_of_length_hold_every_test_maze_once(rows):
    bins = [row for row in rows if row["protocol"] == "length" and row["arch"] == "loop" and row["seed"] == 1]
    assert sum(row["n_test"] for row in bins) == 16
    assert all(a["high"] < b["low"] for a, b in pairwise(bins))


def test_a_model_is_trained_once_and_found_again(cached, monkeypatch):
    params = resolve("3a_poh_scaling", TINY | {"arch": "loop", "seed": 4})
    (subject,), made = study.subjects(params), sets.make(params, 4)
    first = study.trained(params, subject, made)
    monkeypatch.setattr(maze_training, "train", lambda *_, **__: pytest.fail("trained again"))
    again = study.trained(params, subject, made)
    for a, b in zip(first.model.parameters(), again.model.parameters(), strict=True):
        assert torch.equal(a, b)
    assert first.epochs == again.epochs


def test_a_killed_training_is_taken_up_where_it_was(cached, monkeypatch):
    monkeypatch.setattr(maze_training, "CHECKPOINT_EVERY", 0.0)
    params = resolve("3a_poh_scaling", TINY | {"arch": "loop", "seed": 4, "epochs": 4})
    (subject,), made = study.subjects(params), sets.make(params, 4)
    run_epoch, ran = Training.run_epoch, []

    def dying(self, progress):
        if self.epoch == 2 and not ran:
            raise KeyboardInterrupt
        return run_epoch(self, progress)

    monkeypatch.setattr(Training, "run_epoch", dying)
    with pytest.raises(KeyboardInterrupt):
        study.trained(params, subject, made)
    assert len(list(cached.rglob("*.checkpoint"))) == 1

    def counting(self, progress):
        ran.append(self.epoch)
        return run_epoch(self, progress)

    monkeypatch.setattr(Training, "run_epoch", counting)
    assert len(study.trained(params, subject, made).epochs) == 4
    assert ran == [2, 3]
    assert list(cached.rglob("*.checkpoint")) == []


def test_a_model_learns_to_solve_small_mazes(cached):
    params = resolve(
        "3a_poh_scaling",
        {"maze_size": 4, "train": 640, "epochs": 5, "test": 100, "validation": 20, "arch": ["loop"], "seed": 1},
    )
    (result,) = [row for row in study.run(params, lambda **_: None) if row["protocol"] == "result"]
    assert result["accuracy"] > 0.6  # who walks at random solves none
    assert result["accuracy"] == result["optimality"]  # no loops, no detours


def test_answers_do_not_depend_on_how_many_mazes_are_asked_at_once(data, monkeypatch):
    model = maze.build("poh", SIZE, 2, 2, seed=0)
    together = evaluation.answers(model, data, 4)
    monkeypatch.setattr(evaluation, "CELLS", 9 * 7)  # seven mazes per forward
    apart = evaluation.answers(model, data, 4)
    assert np.array_equal(together.policy, apart.policy)
    for name in ("loss", "entropy", "shares"):
        np.testing.assert_allclose(getattr(together, name), getattr(apart, name), rtol=1e-5)
    np.testing.assert_allclose(together.shares.sum(1), 1)
    assert walks.cell_accuracy(together.policy[0], data.next_steps) < 0.7  # untrained


def test_tables_say_what_the_rows_do(rows):
    table = pd.DataFrame(rows).assign(maze_size=4, R=2, T=2)
    found = report.scores(table)
    by_hand = 100 * np.mean([r["accuracy"] for r in rows if r["protocol"] == "result" and r["arch"] == "poh"])
    assert found.loc[("pico", "poh"), "accuracy"] == pytest.approx(by_hand, abs=0.05)
    assert found.loc[("", "bfs"), "accuracy"] == 100
    gaps = report.differences(table)
    assert gaps.loc[("pico", "poh - loop"), "n"] == 2
    assert json.dumps(report.summary(table), default=float)


def searched() -> pd.DataFrame:
    """Rows of a search over the rates 0.01 and 0.02, two seeds and two epochs each."""
    return pd.DataFrame(
        {"protocol": protocol, "run": f"r{rate}", "size": "pico", "arch": arch, "seed": seed, "epoch": epoch}
        | {"learning_rate": rate, "R": 4, "T": 4, "n_heads": 0, "val_loss": loss + 0.1 * seed - 0.05 * epoch}
        | {"val_accuracy": 0.5, "train_s": 2.0 * epoch}
        for protocol in ("epoch", "result")
        for arch, losses in {"loop": {0.01: 0.4, 0.02: 0.3}, "poh": {0.01: 0.2, 0.02: 0.6}}.items()
        for rate, loss in losses.items()
        for seed in (0, 1)
        for epoch in (1, 2)
    )


def test_a_search_ranks_settings_by_validation_alone():
    found = search.found(searched())
    assert [key[2] for key in found.index] == [0.02, 0.01, 0.01, 0.02]
    assert found.val_loss.tolist() == pytest.approx([0.25, 0.35, 0.15, 0.55])
    assert (found.seeds == 2).all()
    assert (found.train_s == 8).all()


def test_a_search_shows_the_best_first_what_it_cost_and_what_is_missing(monkeypatch, capsys):
    asked = []

    def grid_rows(*given):
        asked.append(given)
        return searched(), ["nano loop"]

    monkeypatch.setattr(search.results, "grid_rows", grid_rows)
    search.show("search_shape", None)
    out = capsys.readouterr().out
    losses = [line.split()[-4] for line in out.splitlines() if line.endswith(" 8.0")]
    assert losses == ["0.25", "0.35", "0.15", "0.55"]
    assert "It took 0.5 minutes of training." in out  # four settings of 8 s
    assert "No finished run: nano loop" in out
    assert asked == [("3a_poh_scaling", "search_shape", None, None)]
