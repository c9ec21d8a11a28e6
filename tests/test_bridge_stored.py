"""A bridge that a run leaves is found again, loads to the bit, and is refused where it does not belong."""

import json

import bridge_toys
import pytest
import torch

from lib import runs
from lib.bridge import evaluation, named, stored, study
from lib.bridge.stored import BridgeError
from lib.bridge.worker import Job
from lib.params import ParameterError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


def leave(world, place, complete=True, **changed):
    """A run with a stored bridge under `place`, finished or not; its folder."""
    params = world.params(runs_dir=str(place), **changed)
    folder = runs.prepare("4a_bridge", params)
    subject = study.trained(world.pair, Job.of(params))
    checkpoint = study.kept(params)
    stored.save(folder, subject.at(checkpoint), params, world.pair, checkpoint, params.seed[0])
    if complete:
        runs.open_run("4a_bridge", {**params.model_dump(mode="json"), "run_dir": str(folder)}).finish({})
    return folder


@pytest.mark.parametrize("stressor", ["", "gate", "layernorm", "one_head", "bfloat16"])
def test_loads_to_the_bit(world, tmp_path, stressor):
    folder = leave(world, tmp_path, stressor=stressor, patience=0)
    found = stored.load(folder, world.pair)
    trained = study.trained(world.pair, Job.of(found.params)).at("final")
    encoded = world.encoded("test")
    assert torch.equal(evaluation.sent(found.bridge, encoded), evaluation.sent(trained, encoded))
    assert (found.checkpoint, found.params.stressor) == ("final", stressor)


def test_found_by_run_and_by_the_newest_of_a_label(world, tmp_path):
    old = leave(world, tmp_path, label="good")
    new = leave(world, tmp_path, label="good", wire_dim=5)
    other = leave(world, tmp_path, label="other", patience=0)
    leave(world, tmp_path, complete=False, label="good", seed=[1])
    assert named.run_folder("good", tmp_path) == new
    assert named.run_folder("other", tmp_path) == other
    assert named.run_folder(old.name, tmp_path) == old
    with pytest.raises(ParameterError, match="did you mean 'good'"):
        named.run_folder("goood", tmp_path)


def test_says_what_to_run_where_there_is_none(tmp_path):
    with pytest.raises(ParameterError, match=r"preset 'full' makes.*--preset full --only label=2b_stable_48tok"):
        named.run_folder("2b_stable_48tok", tmp_path)
    with pytest.raises(ParameterError, match="no preset makes it; did you mean '2b_stable_48tok'"):
        named.run_folder("2b_stable_47tok", tmp_path)


def test_refused_between_other_models(world, tmp_path):
    folder = leave(world, tmp_path)
    with bridge_toys.world(tmp_path / "others", bos=False) as others:
        others.pair.target.model.get_input_embeddings().weight.data[0, 0] += 1
        with pytest.raises(BridgeError, match="between other weights"):
            stored.load(folder, others.pair)


@pytest.mark.parametrize("name", [stored.WEIGHTS, stored.ABOUT])
@pytest.mark.parametrize("damage", ["cut", "missing", "garbage"])
def test_damage_is_one_sentence(world, tmp_path, name, damage):
    folder = leave(world, tmp_path)
    file = folder / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[: len(whole) // 2] if damage == "cut" else b"{}")
    with pytest.raises(BridgeError, match="again") as error:
        stored.load(folder, world.pair)
    assert "\n" not in str(error.value)


def test_weights_of_another_shape_are_refused(world, tmp_path):
    folder = leave(world, tmp_path)
    about = json.loads((folder / stored.ABOUT).read_text())
    about["shape"]["wire_dim"] += 1
    (folder / stored.ABOUT).write_text(json.dumps(about))
    with pytest.raises(BridgeError, match="cannot be read"):
        stored.load(folder, world.pair)
