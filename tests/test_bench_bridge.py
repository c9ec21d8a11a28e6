"""The benchmark of bridges: simple loops do the same work in another way, and ratios and limits are what they say."""

import io
import json
from contextlib import redirect_stdout
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from lib import paths, runs
from lib.bench import bridge as bench
from lib.bench import bridge_limits as limits
from lib.bench import bridge_simple as simple
from lib.bridge import evaluation
from lib.models import bridge_losses, bridge_training
from lib.models.bridge_losses import Recipe
from tests import bridge_toys

RECIPE = Recipe(steps=3, batch_size=8, learning_rate=1e-3, warmup=0, optimizer="adamw", evaluations=1, info_nce=0.05)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def examples(world):
    return world.encoded("train", 40)


def our_loss(world, examples, recipe, seed):
    """The mean loss that `bridge_training.train` logs of a training from the toy's initial weights."""
    rows = []
    bridge_training.train(
        world.bridge(),
        world.pair.reader,
        examples,
        replace(recipe, seed=seed),
        bridge_losses.message,
        lambda _: {"val_accuracy": 0.0},
        lambda _: (0, None),
        rows.append,
    )
    return rows[-1]["loss"]


def test_states_read_anew_are_those_that_were_stored(world, examples):
    index = np.array([7, 0, 33, 12])
    stored, mask = examples.states.rows(index)
    read, own = simple.rereading(world.pair, examples).states.rows(index)
    assert torch.equal(mask, own)
    assert len(set(mask.sum(1).tolist())) > 1, "of several lengths, or padding is not tested"
    torch.testing.assert_close(read[mask], stored[mask], rtol=1e-4, atol=1e-5)
    bridge = world.bridge()
    torch.testing.assert_close(bridge.message(read, own), bridge.message(stored, mask), rtol=1e-4, atol=1e-5)


def test_with_all_ingredients_a_step_has_our_loss(world, examples):
    one = replace(RECIPE, steps=1)
    for seed in (0, 1):
        loop = simple.Training(world.pair, world.bridge(), examples, one, simple.INGREDIENTS)
        assert loop.run(seed) == [pytest.approx(our_loss(world, examples, one, seed), rel=1e-5)]


@pytest.mark.parametrize("left_out", ["cached_states", "attention_kernel", "bfloat16"])
def test_no_ingredient_but_the_order_changes_a_loss_beyond_rounding(world, examples, left_out):
    one = replace(RECIPE, steps=1)
    put = [name for name in simple.INGREDIENTS if name != left_out]
    found = simple.Training(world.pair, world.bridge(), examples, one, put).run(0)
    assert found == [pytest.approx(our_loss(world, examples, one, 0), rel=0.02)]


class Watched:
    """What is seen inside the models' forwards: reads of the source, and how the target runs."""

    def __init__(self, pair):
        self.reads, self.fused, self.autocast = 0, set(), set()
        self.hooks = [
            pair.source.model.register_forward_pre_hook(self.source),
            pair.target.model.register_forward_pre_hook(self.target),
        ]

    def source(self, *_):
        self.reads += 1

    def target(self, *_):
        self.fused.add(torch.backends.cuda.flash_sdp_enabled())  # a CPU's fused kernel goes by the same switch
        self.autocast.add(torch.is_autocast_enabled("cpu"))


@pytest.mark.parametrize("put", [(), *((name,) for name in simple.INGREDIENTS), simple.INGREDIENTS], ids="+".join)
def test_an_ingredient_does_what_it_says_and_nothing_else(world, examples, put):
    seen = Watched(world.pair)
    loop = simple.Training(world.pair, world.bridge(), examples, RECIPE, put)
    try:
        loop.run(0)
    finally:
        for hook in seen.hooks:
            hook.remove()
    assert seen.reads == (0 if "cached_states" in put else RECIPE.steps)
    assert seen.fused == {"attention_kernel" not in put}
    assert seen.autocast == {"bfloat16" in put}


@pytest.mark.parametrize("put", ["length_buckets", "bfloat16"])
def test_a_pass_takes_every_example_once_and_buckets_those_of_one_length_together(world, examples, put):
    taken = []

    class Spy:
        items = examples.items

        def batch(self, index):
            taken.append(index)

    loop = simple.Training(world.pair, world.bridge(), examples, RECIPE, [put])
    loop.encoded = Spy()
    batches = loop._batches(np.random.default_rng(3))
    for _ in range(5):
        next(batches)
    assert sorted(np.concatenate(taken)) == list(range(40))
    spread = np.mean([np.ptp(examples.lengths[index]) for index in taken])
    assert (spread < np.ptp(examples.lengths) / 3) == (put == "length_buckets")


def test_the_simple_loop_learns(world, examples):
    few = replace(examples, items=examples.items[:8])
    recipe = replace(RECIPE, steps=40, learning_rate=1e-2)
    losses = simple.Training(world.pair, world.bridge(), few, recipe).run(0)
    assert np.mean(losses[-5:]) < losses[0] - 0.3


def test_a_step_starts_without_the_gradient_of_the_one_before(world, examples):
    few = replace(examples, items=examples.items[:8])  # so that every batch is the same
    gradients = []
    for steps in (1, 3):
        still = replace(RECIPE, steps=steps, learning_rate=0.0, clip=1e9)
        loop = simple.Training(world.pair, world.bridge(), few, still)
        loop.run(0)
        gradients.append(torch.cat([p.grad.flatten() for p in loop.bridge.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)


def test_frozen_models_stay_as_they_are(world, examples):
    before = [p.clone() for lm in (world.pair.source, world.pair.target) for p in lm.model.parameters()]
    simple.Training(world.pair, world.bridge(), examples, RECIPE).run(0)
    after = [p for lm in (world.pair.source, world.pair.target) for p in lm.model.parameters()]
    assert all(torch.equal(a, b) and b.grad is None for a, b in zip(before, after, strict=True))


def test_one_by_one_and_together_the_answers_are_the_same(world):
    tested, bridge = world.encoded("test", 6), world.bridge()
    together = evaluation.answer_messages(
        world.pair, bridge, tested.task, evaluation.sent(bridge, tested), hygiene=False
    )
    again = simple.rereading(world.pair, tested)
    for encoded in (tested, again):
        assert [simple.answer(world.pair, bridge, encoded, i) for i in range(6)] == together.texts
    assert len(set(together.texts)) > 1, "a bridge that is told nothing proves nothing"


def test_answers_that_differ_are_refused(world):
    answers = bench.Answers(world.pair, world.bridge(), world.encoded("test", 4))
    answers.together, answers.singly = ["1", "2", "3", "4"], {0: "1", 3: "4"}
    assert answers.equal() == 1
    answers.singly[1] = "other"
    with pytest.raises(RuntimeError, match="33% of the items were answered otherwise"):
        answers.equal()


def test_singly_goes_on_where_the_repeat_before_ended(world, monkeypatch):
    monkeypatch.setattr(bench, "SINGLY", 3)
    asked = []
    monkeypatch.setattr(simple, "answer", lambda pair, bridge, encoded, i: asked.append(i) or "")
    side = bench.Answers(world.pair, world.bridge(), world.encoded("test", 4)).sides()["simple"]
    side(0), side(1)
    assert asked == [0, 1, 2, 3, 0, 1]


def test_sides_go_by_turns_and_the_first_time_does_not_count():
    called = []
    sides = {name: lambda repeat, name=name: called.append((name, repeat)) or float(repeat) for name in ("a", "b")}
    rows = list(bench.by_turns("train", sides, 2))
    assert called == [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    assert [(row["arm"], row["repeat"], row["ms"]) for row in rows] == [
        *(("b", 0, 1.0), ("a", 0, 1.0)),
        *(("a", 1, 2.0), ("b", 1, 2.0)),
    ]


def planted(ms):
    """Rows of every arm: `ms` (part, arm) -> milliseconds in three repeats; 1 where nothing is said."""
    arms = {(part, arm) for part, _, *both in bench.COMPARED for arm in both} | {("states", "reading")}
    return pd.DataFrame(
        {"protocol": "timed", "part": part, "arm": arm, "repeat": repeat, "ms": value}
        for part, arm in arms
        for repeat, value in enumerate(ms.get((part, arm), [1.0, 1.0, 1.0]))
    )


def test_a_ratio_is_the_median_of_ratios_within_a_repeat():
    table = planted(
        {
            ("train", "ours"): [1.0, 10.0, 100.0],  # the machine slows down, for both
            ("train", "simple"): [3.0, 20.0, 200.0],
            ("train", "without_bfloat16"): [1.5, 1.5, 9.0],
            ("train", "muon"): [2.0, 20.0, 200.0],
        }
    )
    found = {(row["part"], row["ingredient"]): row for row in bench.ratios(table)}
    assert found["train", ""]["ratio"] == 2.0
    assert (found["train", ""]["ours_ms"], found["train", ""]["simple_ms"]) == (10.0, 20.0)
    assert found["train", "bfloat16"]["ratio"] == 1.5
    assert found["train", "muon"]["ratio"] == 0.5, "below 1: it costs"
    assert found["eval", ""]["ratio"] == 1.0


def test_a_whole_training_counts_evaluations_and_our_reading(world):
    table = planted(
        {
            ("train", "ours"): [1.0] * 3,
            ("train", "simple"): [2.0] * 3,
            ("eval", "ours"): [0.5] * 3,
            ("eval", "simple"): [50.0] * 3,
            ("states", "reading"): [0.25] * 3,
        }
    )
    params = world.params(steps=100, evaluations=4, validation=10, train=392)
    answered = 2 * 5 * 10
    assert bench.whole_training(table, params) == pytest.approx((200 + 50 * answered) / (100 + 0.5 * answered + 100.5))


def test_work_counts_products_bytes_and_calls():
    layer, x = nn.Linear(64, 48, bias=False), torch.randn(10, 64, requires_grad=True)
    with limits.Work() as work:
        layer(x).sum().backward()
    assert work.flops == 3 * 2 * 10 * 64 * 48, "forwards, and backwards to the input and to the weight"
    a = torch.randn(7, 9)
    with limits.Work() as work:
        b = a + a
        b.view(9, 7).t()
    assert work.bytes == 3 * 4 * 63, "views move nothing"
    assert (work.flops, work.calls) == (0, 3)
    with limits.Work() as work:
        a @ a.t()
    assert work.bytes == 0, "of products, arithmetic is what counts"


def test_a_training_step_does_the_flops_of_its_products(world, examples):
    """Those of the target's linear layers, at least: forwards, and backwards to their inputs alone."""
    one = replace(RECIPE, steps=1)
    loop = simple.Training(world.pair, world.bridge(), examples, one, simple.INGREDIENTS)
    seen = []
    linear = [m for m in world.pair.target.model.model.modules() if isinstance(m, nn.Linear)]
    hooks = [m.register_forward_hook(lambda m, args, out: seen.append(2 * out.numel() * m.in_features)) for m in linear]
    with limits.Work() as work:
        loop.run(0)
    for hook in hooks:
        hook.remove()
    assert 2 * sum(seen) < work.flops < 6 * sum(seen)


def test_the_limit_is_what_takes_longest():
    rates = {"matmul_float32_gflop_per_s": 1.0, "matmul_bfloat16_gflop_per_s": 100.0}
    rates |= {"elementwise_gb_per_s": 10.0, "call_us": 2.0}
    work = limits.Work()
    work._products.get_total_flops = lambda: 4 * 10**9
    work.bytes, work.calls = 2 * 10**8, 2000
    row = limits.limit(work, 2, 50.0, rates)
    assert (row["arithmetic_ms"], row["memory_ms"], row["calls_ms"]) == (20.0, 10.0, 2.0)
    assert (row["limit"], row["explained"], row["gflop_per_s"]) == ("arithmetic", 0.64, 40.0)
    assert limits.limit(work, 2, 50.0, rates | {"call_us": 30.0})["limit"] == "calls"


@pytest.fixture(scope="module")
def report(world, tmp_path_factory):
    """The JSON object and the stored rows of a short run of the whole command on toys."""
    out, folder = io.StringIO(), tmp_path_factory.mktemp("runs")
    few = {"train": 24, "validation": 4, "batch_size": 8, "soft_tokens": 4, "wire_dim": 6}
    shape = {"bottleneck": 16, "depth": 1, "ffn": 24}
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out):
        patch.setattr(paths, "RUNS", folder)
        patch.setattr(bench, "STUDY", bench.STUDY | few | shape)
        patch.setattr(bench, "STEPS", 2)
        patch.setattr(bench, "SINGLY", 2)
        bench.command("arithmetic", world.source, world.target, repeats=2, items=6, as_json=True)
    return json.loads(out.getvalue().splitlines()[-1]), runs.load("bench/bridge", folder)


def test_the_bench_prints_json_last_and_keeps_a_run(report):
    found, rows = report
    assert set(found) == {
        *("train_vs_simple_loop", "step_vs_simple_loop", "eval_vs_simple_loop"),
        *("train_ingredients", "eval_ingredients", "equal_answers", "limit"),
    }
    assert set(found["train_ingredients"]) == {*simple.INGREDIENTS, "rest", "muon"}
    assert set(found["eval_ingredients"]) == {"cached_states", "batched_generation"}
    assert found["equal_answers"] == 1.0
    assert found["limit"]["limit"] in ("arithmetic", "memory", "calls")
    assert found["limit"]["calls"] > 100
    assert found["limit"]["explained"] > 0
    assert set(rows.protocol) == {"timed", "equal", "ratio", "limit"}


def test_reported_ratios_follow_from_the_stored_rows(report):
    found, rows = report
    timed = rows[rows.protocol == "timed"]
    assert (timed.groupby(["part", "arm"]).size() == 2).all()
    assert (timed.ms > 0).all()
    for part, key in (("train", "step"), ("eval", "eval")):
        own = timed[timed.part == part].pivot(index="repeat", columns="arm", values="ms")
        assert found[f"{key}_vs_simple_loop"] == pytest.approx((own.simple / own.ours).median())
    ratio = rows[(rows.protocol == "ratio") & (rows.part == "train")].set_index("ingredient").ratio
    assert {name: ratio[name] for name in found["train_ingredients"]} == pytest.approx(found["train_ingredients"])
    assert found["limit"]["step_ms"] == timed[(timed.part == "train") & (timed.arm == "ours")].ms.min()
