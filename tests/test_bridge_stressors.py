"""Each stressor injects the fault that it is named after, and a plain training is free of all of them."""

from dataclasses import astuple, fields, replace

import bridge_toys
import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from lib.bridge import evaluation, stressors, worker
from lib.bridge.worker import Job
from lib.models import bridge_losses, bridge_training
from lib.models.bridge import Attention
from lib.models.bridge_losses import Recipe
from lib.models.bridge_reader import IGNORED
from lib.params.bridge import STRESSORS

RECIPE = Recipe(steps=10, batch_size=4, learning_rate=0.01, warmup=3, clip=0.7, info_nce=0.1)
SHORT = {"steps": 2, "evaluations": 1, "warmup": 1, "validation": 2, "soft_tokens": 2}
INDEX = np.arange(6)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


def stressed(world, name, kind="resampler"):
    plain = world.bridge(kind)
    return stressors.bridge(name, world.bridge(kind, heads=stressors.shape(name, plain.shape).heads))


def batch(world, name):
    return stressors.examples(name, world.encoded("train", 24)).batch(INDEX)


def differing(one, other):
    """Names of the fields of two batches that differ."""
    pairs = ((f.name, getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return {n for n, a, b in pairs if not (torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b)}


@pytest.mark.parametrize("name", ["", *STRESSORS])
def test_a_stressor_touches_what_it_names_and_nothing_else(world, name):
    plain = world.bridge()
    made = stressed(world, name)
    soft, expected = (b.eval()(*world.encoded().states.rows(INDEX)) for b in (made.float(), plain))
    touched = {
        "recipe": stressors.recipe(name, RECIPE) != RECIPE,
        "shape": stressors.shape(name, plain.shape) != plain.shape,
        "batch": bool(differing(batch(world, name), batch(world, ""))),
        "bridge": not torch.allclose(soft, expected, atol=1e-5),
    }
    expected_touch = {
        "": set(),
        "hot": {"recipe"},
        "decay": {"recipe"},
        "gate": {"bridge"},
        "one_head": {"shape", "bridge"},
        "layernorm": {"bridge"},
        "pads": {"batch"},
        "misaligned": {"batch"},
        "bfloat16": {"bridge"},
        "leak": set(),  # in what the target is shown, see below
    }
    assert {part for part, is_touched in touched.items() if is_touched} == expected_touch[name]


@pytest.mark.parametrize("name", ["hot", "decay"])
def test_heat_is_twenty_times_the_rate_without_warm_up(name):
    hot = stressors.recipe(name, RECIPE)
    assert (hot.learning_rate, hot.warmup) == (pytest.approx(0.2), 0)
    assert replace(hot, learning_rate=RECIPE.learning_rate, warmup=RECIPE.warmup) == RECIPE
    assert hot.learning_rate * hot.scale(0) == pytest.approx(0.2)


def test_a_gate_is_open_with_its_sign_turned(world):
    """tanh(-2) = -0.96, where the published comment said closed."""
    made, plain = stressed(world, "gate"), world.bridge()
    (states, mask), queries = world.encoded().states.rows(INDEX), torch.randn(6, 4, 16)
    seen = plain.sender.read(plain.sender.norm_in(states))
    for gated, block in zip(made.sender.blocks, plain.sender.blocks, strict=True):
        through, direct = gated.cross(queries, seen, mask), block.cross(queries, seen, mask)
        torch.testing.assert_close(through, -0.9640 * direct, rtol=1e-3, atol=1e-6)
        assert gated.cross.gate.requires_grad
        assert isinstance(gated.among, Attention)
    assert made.parameters_count == plain.parameters_count + len(plain.sender.blocks)
    assert stressors.bridge("gate", world.bridge("linear")).parameters_count == world.bridge("linear").parameters_count


def test_one_head_is_one(world):
    found = {m.heads for m in stressed(world, "one_head").modules() if isinstance(m, Attention)}
    plain = {m.heads for m in world.bridge().modules() if isinstance(m, Attention)}
    assert (found, plain) == ({1}, {4})


def test_a_layer_norm_takes_the_mean_of_soft_tokens_away(world):
    states = world.encoded().states.rows(INDEX)
    normed, plain = stressed(world, "layernorm")(*states), world.bridge()(*states)
    assert normed.mean(-1).abs().max() < 1e-6
    assert plain.mean(-1).abs().max() > 1e-3
    for soft in (normed, plain):
        rms = torch.full(soft.shape[:2], world.pair.reader.rms)
        torch.testing.assert_close(soft.square().mean(-1).sqrt(), rms, rtol=1e-3, atol=0)


def test_pads_are_attended_to_and_pooled(world):
    padded, plain = batch(world, "pads"), batch(world, "")
    assert differing(padded, plain) == {"states", "mask", "questions"}
    length = plain.states.shape[1]
    assert padded.states.shape[1] == length + length // 2
    assert torch.equal(padded.states[:, :length], plain.states)
    assert padded.mask.all()
    assert not plain.mask.all()
    assert (padded.questions != IGNORED).all()
    shown = plain.questions != IGNORED
    assert torch.equal(padded.questions[shown], plain.questions[shown])
    sender = world.bridge()
    changed = (sender.message(padded.states, padded.mask) - sender.message(plain.states, plain.mask)).flatten(1)
    assert (changed.abs().amax(1) > 1e-4).all()
    keys = [bridge_losses.question_keys(world.pair.reader, b.questions) for b in (padded, plain)]
    assert not torch.allclose(*keys)


def test_stressed_batches_stay_on_their_device(world):
    plain = batch(world, "")
    away = replace(
        plain, **{n: getattr(plain, n).to("meta") for n in ("states", "mask", "inputs", "labels", "questions")}
    )
    spoiled = stressors._attend_padding(away)
    assert {getattr(spoiled, n).device.type for n in ("states", "mask", "questions")} == {"meta"}


def test_misaligned_moves_all_but_the_longest_answers(world):
    moved, plain = batch(world, "misaligned"), batch(world, "")
    assert differing(moved, plain) == {"inputs"}
    lengths = (plain.labels != IGNORED).sum(1)
    assert len(set(lengths.tolist())) > 1
    width = plain.labels.shape[1]
    for row, length in enumerate(lengths.tolist()):
        answer = plain.labels[row, :length]
        assert torch.equal(moved.inputs[row, width - length + 1 :], answer[:-1])  # padded on the left
        assert torch.equal(plain.inputs[row, 1:length], answer[:-1])
        assert torch.equal(moved.inputs[row], plain.inputs[row]) == (length == width)


def test_bfloat16_trains_without_float32_masters(world):
    made = stressed(world, "bfloat16")
    assert {p.dtype for p in made.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in world.bridge().parameters()} == {torch.float32}


@pytest.fixture(scope="module")
def runs(world):
    """A short training per stressor: (job, folder, what the target was shown, bridge before the first step)."""
    found, train = {}, bridge_training.train

    for name in ("", *STRESSORS):
        job = Job.of(world.params(stressor=name, **SHORT))
        with pytest.MonkeyPatch.context() as patch:
            calls = []

            def noted(made, *given, calls=calls):
                calls.append(({n: t.clone() for n, t in made.state_dict().items()}, given[3]))
                return train(made, *given)

            patch.setattr(worker.bridge_training, "train", noted)
            found[name] = (job, worker.folder(world.pair, job), *reversed(calls[-1]))
    return found


@pytest.mark.parametrize("name", STRESSORS)
def test_every_stressed_training_runs_and_is_another(world, runs, name):
    """Also with a bridge that is saved and loaded again."""
    job, folder, *_ = runs[name]
    weights, plain = (load_file(place / "final.safetensors") for place in (folder, runs[""][1]))
    made = worker.untrained(world.pair, job)
    made.load_state_dict(weights)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
    assert weights.keys() != plain.keys() or any(not torch.equal(weights[n], plain[n]) for n in plain)
    judged = evaluation.judge(world.pair, world.encoded(), made.eval())
    assert judged["val_ce"] > 0


def test_only_a_leak_shows_the_text_in_training(runs):
    shown = {name: see for name, (_, _, see, _) in runs.items()}
    assert shown.pop("leak") is bridge_losses.text
    assert set(shown.values()) == {bridge_losses.message}


def test_decay_goes_on_from_a_good_bridge(world, runs):
    """The best of a training without the fault, with all fixes; the others start from the same random weights."""
    job, _, _, start = runs["decay"]
    good = load_file(worker.folder(world.pair, job.good()) / "best.safetensors")
    assert all(torch.equal(start[name], good[name]) for name in good)
    assert (job.good().params.stressor, job.good().params.info_nce, job.good().params.patience) == ("", 0.05, 5)
    random = worker.untrained(world.pair, runs[""][0]).state_dict()
    for name in ("", "hot", "pads", "misaligned", "leak"):
        assert all(torch.equal(runs[name][3][n], random[n]) for n in random), name
    assert worker.Job.of(world.params(stressor="decay", steps=10)).recipe().steps == 5


def test_recipes_hold_every_parameter_of_training(world):
    params = world.params(steps=20, info_nce=0.2, distill=0.3, reconstruct=0.4, clip=0.5, stop=True, seed=[7])
    params = params.model_copy(update={"info_nce_start": "training", "noise_bits": 5})
    made = Job.of(params).recipe()
    assert astuple(made) == (20, 8, 0.03, 2, "muon", 0.5, 0.2, 10, 0.3, 0.4, 5, 3, True, 7)
