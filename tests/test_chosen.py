"""A study of messages finds its bridge by cell, run or label, or a relative of it, or says what is wrong."""

import bridge_toys
import pytest
import torch

from lib import presets, runs
from lib.bridge import chosen, named, stored, study
from lib.bridge.chosen import Chosen
from lib.bridge.worker import Job
from lib.params import ParameterError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture
def run(world, tmp_path):
    """A finished run of 4a with its bridge in it."""
    params = world.params(runs_dir=str(tmp_path), label="good", seed=[3])
    folder = runs.prepare("4a_bridge", params)
    kept = study.kept(params)
    stored.save(folder, study.trained(world.pair, Job.of(params)).at(kept), params, world.pair, kept, 3)
    runs.open_run("4a_bridge", {**params.model_dump(mode="json"), "run_dir": str(folder)}).finish({})
    return folder


def weights(bridge):
    return torch.cat([tensor.flatten().float() for tensor in bridge.state_dict().values()])


def test_a_cell_needs_no_run(tmp_path):
    cell = next(c for c in presets.cells("4a_bridge", "quick") if c.label == "1a_stable_8tok")
    assert chosen.find("quick/1a_stable_8tok", tmp_path) == Chosen(cell.resolved(), None)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("quick/1a_stable_8tk", "did you mean '1a_stable_8tok'"),
        ("quik/1a_stable_8tok", "did you mean 'quick'"),
        ("1a_stable_8tok", "No finished run"),
        ("", "name of a bridge is empty"),
    ],
)
def test_an_unknown_name_is_one_sentence(name, says, tmp_path):
    with pytest.raises(ParameterError, match=says):
        chosen.find(name, tmp_path)


def test_a_run_is_found_by_id_and_by_label_and_its_weights_are_those_in_its_folder(world, run, tmp_path):
    for name in ("good", run.name):
        found = chosen.find(name, tmp_path)
        assert found.folder == run
    expected = stored.load(run, world.pair).bridge
    assert torch.equal(weights(found.bridge(world.pair)), weights(expected))
    assert torch.equal(weights(found.bridge(world.pair, 3)), weights(expected))


@pytest.mark.parametrize("name", [stored.WEIGHTS, stored.ABOUT])
def test_a_damaged_run_is_refused_before_any_model(run, tmp_path, name):
    (run / name).write_bytes((run / name).read_bytes()[:-9])
    with pytest.raises(stored.BridgeError, match="run that configuration again"):
        chosen.find("good", tmp_path)


def test_another_seed_of_a_run_is_trained(world, run, tmp_path):
    found = chosen.find("good", tmp_path)
    other = found.bridge(world.pair, 4)
    assert not torch.equal(weights(other), weights(found.bridge(world.pair)))
    trained = study.trained(world.pair, Job.of(found.params).of_seed(4)).at(study.kept(found.params))
    assert torch.equal(weights(other), weights(trained))


def test_what_is_changed_is_trained_and_what_stays_is_not(world, run, tmp_path):
    assert chosen.find("good", tmp_path, wire_dim=6).folder == run
    narrow = chosen.find("good", tmp_path, wire_dim=3, noise_bits=4)
    assert (narrow.folder, narrow.params.wire_dim, narrow.params.noise_bits) == (None, 3, 4)
    made = narrow.bridge(world.pair)
    assert made.shape.wire_dim == 3
    assert not made.training


def test_a_change_that_cannot_be_is_one_sentence(run, tmp_path):
    with pytest.raises(ParameterError, match="2 to 8"):
        chosen.find("good", tmp_path, noise_bits=1)


def test_bridges_of_other_tasks_or_models_are_not_compared(world):
    here = world.params()
    named.same_pair([here, world.params(soft_tokens=2)])
    with pytest.raises(ParameterError, match="differ in task"):
        named.same_pair([here, world.params(task="multihop")])


def test_a_fingerprint_tells_bridges_apart_by_any_weight(world):
    one, same, other = world.bridge(), world.bridge(), world.bridge(seed=1)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    assert 0 <= one.fingerprint < 2**32
    for tensor in same.state_dict().values():
        before = tensor.clone()
        tensor.view(-1)[-1] += 1
        assert one.fingerprint != same.fingerprint
        tensor.copy_(before)
