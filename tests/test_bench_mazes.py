"""The benchmark of the maze study: the published side is what it is said to be, and ratios are what they say."""

import io
import itertools
import json
import math
from contextlib import redirect_stdout

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F

from lib import paths, runs
from lib.bench import mazes as bench
from lib.bench import mazes_learning as learning
from lib.bench import mazes_original as original
from lib.data import mazes as data
from lib.metrics import mazes as metrics
from lib.models.maze_sizes import SIZES, Size

SMALLEST = Size(8, 2, 16, 2)


@pytest.fixture(scope="module")
def mazes():
    return data.make(5, 6, seed=3)


def published(arch, size=SMALLEST, side=5, R=2):
    torch.manual_seed(0)
    return original.Original(arch, size, side, R)


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_published_models_have_the_parameters_that_were_counted_in_them(size):
    """The formulas of research, with four inputs per cell instead of one."""
    s, cells = SIZES[size], 256
    d, L, H, c = s.d_model, s.depth, s.n_heads, s.d_model // 2
    ends = (cells + 6 + 3) * d + cells * (d + 1)
    stack = ends + L * (4 * d * d + 4 * d + 2 * d * s.d_ff + s.d_ff + d + 4 * d)
    controller = d * c + c + 9 * c * c + 6 * c + 6 * c * c + 6 * c + 4 * c + c * H + H + c * c
    poh = ends + 512 * d + L * (4 * d * d + 4 * d + 2 * d * s.d_ff + 4 * d + H + controller) + 1
    for arch, expected in (("stack", stack), ("poh", poh)):
        assert sum(p.numel() for p in original.Original(arch, s, 16, 4).parameters()) == expected


def test_paths_lead_from_start_to_goal_through_open_walls(mazes):
    found = original.paths(mazes).numpy()
    for i, path in enumerate(found):
        cells = path[path >= 0]
        assert (path[len(cells) :] == -1).all()
        assert (cells[0], cells[-1]) == (mazes.start[i], mazes.goal[i])
        assert len(set(cells)) == len(cells) == mazes.shortest[i] + 1
        steps = {-5: 0, 1: 1, 5: 2, -1: 3}
        assert all(mazes.open[i, a] >> steps[b - a] & 1 for a, b in itertools.pairwise(cells))


def test_the_published_loss_is_a_mean_over_places_of_means_over_mazes():
    logits = torch.randn(3, 25, 25, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    path = torch.tensor([[0, 1, 2, 3], [7, 6, -1, -1], [9, 4, 3, -1]])
    places = []
    for i in range(3):
        going = [row for row in range(3) if path[row, i + 1] >= 0]
        said = [-F.log_softmax(logits[row, path[row, i]], -1)[path[row, i + 1]] for row in going]
        places.append(sum(said) / len(said))
    torch.testing.assert_close(original.path_loss(logits, path), sum(places) / 3)


def test_slices_are_scaled_after_the_output_projection():
    """So that they are no heads: the published mistake, which has to be in what is measured."""
    block = original.RoutedBlock(SMALLEST).eval()
    x = torch.randn(2, 9, 8)
    y = block.norm_attention(x)
    out = block.attention(y, y, y)[0]
    route = block.controller(y)
    expected = x + torch.cat([out[..., :4] * route[..., :1], out[..., 4:] * route[..., 1:]], -1)
    expected = expected + block.down(F.relu(block.up(block.norm_feed_forward(expected))))
    torch.testing.assert_close(block(x), expected)
    torch.testing.assert_close(route.sum(-1), torch.ones(2, 1))
    assert 0 < block.entropies[0] <= math.log(2) + 1e-6
    assert 0 < block.entropies[1] <= math.log(9) + 1e-6


def test_the_slow_module_is_never_trained_and_everything_else_is(mazes):
    model = published("poh")
    training = original.Training(model, mazes)
    training.step(torch.arange(len(mazes)))
    untrained = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert all(name in untrained for name, _ in model.named_parameters() if "slow" in name)
    still = {name for name in untrained if "slow" not in name}
    assert all(name.endswith(("fast.weight_hh", "attention.in_proj_bias")) for name in still), still


@pytest.mark.parametrize("arch", ["stack", "poh"])
def test_the_published_models_learn_once_they_see_walls(arch, mazes):
    model = published(arch, Size(32, 2, 64, 2))
    training = original.Training(model, mazes)
    losses = [training.step(torch.arange(len(mazes))) for _ in range(80)]
    assert losses[-1] < losses[0] / 2
    assert learning.path_accuracy(original.policy(model, mazes), mazes) > learning.chance(mazes) + 0.2


def test_the_published_policy_takes_the_best_open_neighbour(mazes):
    model = published("stack").eval()
    start, goal = (torch.from_numpy(cells).long() for cells in (mazes.start, mazes.goal))
    logits = model(torch.from_numpy(mazes.open), start, goal)
    policy = original.policy(model, mazes)
    for i, cell in ((0, 0), (3, 12), (5, 24)):
        near = {d: cell + (-5, 1, 5, -1)[d] for d in range(4) if mazes.open[i, cell] >> d & 1}
        assert policy[i, cell] == max(near, key=lambda d, near=near, at=logits[i, cell]: at[near[d]])


class Oracle(torch.nn.Module):
    """Answers with the distance field of one maze, negated: the goal's neighbourhood is likeliest."""

    def __init__(self, distance, sign):
        super().__init__()
        self.logits, self.calls = sign * torch.from_numpy(distance).float(), 0

    def forward(self, walls, start, goal):
        self.calls += 1
        return self.logits.expand(1, len(self.logits), -1)


def test_the_published_walk_asks_once_per_step(mazes):
    for i in range(len(mazes)):
        right, wrong = Oracle(mazes.distance[i], -1), Oracle(mazes.distance[i], 1)
        assert original.walk(right, mazes, i) == right.calls == mazes.shortest[i]
        steps = original.walk(wrong, mazes, i)
        assert wrong.calls == (25 if steps < 0 else steps) >= mazes.shortest[i]


def test_the_published_walk_goes_back_only_out_of_dead_ends():
    corridor = np.array([[2, 12, 2, 9]], np.uint8)  # 0 - 1 - 3 - 2
    distance, next_steps = data.label(corridor, np.array([2]))
    mazes = data.Mazes(2, corridor, np.array([2]), np.array([1]), distance, next_steps, 0)
    assert original.walk(Oracle(distance[0], 1), mazes, 0) == 4, "to 0 and back, then on"


def test_accuracy_counts_the_cells_of_the_path_only(mazes):
    best = metrics.bfs_policy(mazes.next_steps)
    on_path = learning.on_path(mazes)
    assert on_path.sum() == mazes.shortest.sum()
    assert not on_path[np.arange(len(mazes)), mazes.goal].any()
    assert on_path[np.arange(len(mazes)), mazes.start].all()
    assert learning.path_accuracy(best, mazes) == 1
    assert learning.path_accuracy(np.where(on_path, best, best ^ 2).astype(np.uint8), mazes) == 1
    assert learning.path_accuracy(np.where(on_path, best ^ 2, best).astype(np.uint8), mazes) == 0
    drawn = [learning.path_accuracy(metrics.random_policy(mazes.open, seed), mazes) for seed in range(400)]
    assert learning.chance(mazes) == pytest.approx(np.mean(drawn), abs=0.02)


def test_looking_at_validation_mazes_is_not_counted():
    now = [0.0]

    def judge():
        now[0] += 100
        return 0.0

    curve = learning.Curve(judge, budget=5, clock=lambda: now[0])
    with pytest.raises(learning.Finished):
        for _ in range(1000):
            now[0] += 0.125
            curve()
    seconds = [at for at, _ in curve.points]
    assert (seconds[0], seconds[-1]) == (learning.FIRST, 5.0)
    assert np.all(np.diff(seconds) >= 0.125)
    assert len(seconds) < 20, "looks become rarer"


def test_a_curve_ends_at_its_goal():
    answers = iter([0.1, 0.2, 0.8])
    now = [0.0]
    curve = learning.Curve(lambda: next(answers), budget=1e9, goal=0.8, clock=lambda: now[0])
    with pytest.raises(learning.Finished):
        while True:
            now[0] += 1
            curve()
    assert [accuracy for _, accuracy in curve.points] == [0.1, 0.2, 0.8]


def test_the_goal_is_the_best_of_the_published_loop_or_else_more_than_noise():
    learned = learning.goal_of([(1.0, 0.5), (4.0, 0.7), (9.0, 0.7), (16.0, 0.6)], 0.5, 20.0)
    assert (learned["goal"], learned["theirs_s"], learned["at_least"]) == (0.7, 4.0, False)
    nothing = learning.goal_of([(1.0, 0.54), (4.0, 0.5)], 0.5, 20.0)
    assert (nothing["goal"], nothing["theirs_s"], nothing["at_least"]) == (0.55, 20.0, True)
    assert learning.first([(1.0, 0.5), (2.0, 0.7)], 0.8) is None


def test_ratios_are_geometric_means_over_arms_of_medians():
    values = {
        ("stack", "ours"): [1, 4, 9],
        ("stack", "theirs"): [1, 2, 9],
        ("poh", "ours"): [8],
        ("poh", "theirs"): [1],
    }
    rows = pd.DataFrame(
        {"size": "tiny", "arch": arch, "who": who, "x": x} for (arch, who), found in values.items() for x in found
    )
    assert bench.by_size(rows, "x", ours_over_theirs=True) == {"tiny": pytest.approx(4.0)}
    assert bench.by_size(rows, "x", ours_over_theirs=False) == {"tiny": pytest.approx(0.25)}
    missing = rows.assign(x=rows.x.where(rows.arch == "stack", 0))
    assert bench.by_size(missing, "x", ours_over_theirs=False) == {"tiny": None}
    assert bench.by_size(rows.drop(columns="x"), "x", ours_over_theirs=False) == {"tiny": None}


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The JSON object and the stored rows of a short run of the whole command, but for the fresh processes."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(paths, "RUNS", folder)
        patch.setattr(bench, "CARVED", 20)
        patch.setattr(bench, "WALKED", 4)
        patch.setattr(bench, "ProcessPoolExecutor", Here)
        bench.command(["nano"], side=5, batch=4, repeats=2, learn_side=4, budget=0.5, walks=2, as_json=True)
    return json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/mazes", folder)


class Here:
    """Stands in for a pool of fresh processes."""

    def __init__(self, *_args, **_options):
        self.result = None

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        pass

    def submit(self, work, *args):
        value = work(*args)
        self.result = lambda: value
        return self


def test_the_bench_prints_json_last_and_keeps_a_run(report):
    found, rows = report
    assert set(found) == {
        *("maze_us", "train_vs_original", "time_to_accuracy_vs_original", "time_to_accuracy_is_at_least"),
        *("peak_memory_vs_original", "eval_vs_original"),
    }
    assert list(found["maze_us"]) == ["8", "12", "16", "20", "30"]
    assert all(list(found[key]) == ["nano"] for key in found if key not in ("maze_us", "eval_vs_original"))
    assert set(rows.protocol) == {"carve", "train", "learn", "race", "eval", "memory"}
    timed = rows[rows.protocol == "train"]
    assert sorted(timed.groupby(["arch", "who"]).size()) == [2, 2, 2, 2]
    assert list(timed.who)[:4] == ["theirs", "ours", "ours", "theirs"], "by turns, each first as often"
    medians = timed.groupby(["arch", "who"]).mazes_per_s.median().unstack()
    expected = math.sqrt((medians.ours / medians.theirs).prod())
    assert found["train_vs_original"]["nano"] == pytest.approx(expected)
    walked = rows[rows.protocol == "eval"].iloc[0]
    assert found["eval_vs_original"] == pytest.approx(walked.theirs_s / walked.ours_s)


def test_learning_stays_inside_its_budget_and_its_ratio_follows_from_the_curves(report):
    found, rows = report
    (race,) = rows[rows.protocol == "race"].to_dict("records")
    curves = dict(list(rows[rows.protocol == "learn"].groupby("who")))
    assert race["theirs_best"] == curves["theirs"].accuracy.max()
    assert race["goal"] >= race["chance"] + learning.LEARNED - 1e-12
    reached = curves["ours"][curves["ours"].accuracy >= race["goal"]].train_s
    ratio = found["time_to_accuracy_vs_original"]["nano"]
    assert ratio == (pytest.approx(race["theirs_s"] / reached.iloc[0]) if len(reached) else None)
