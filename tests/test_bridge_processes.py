"""Several processes train the bridge that one process trains, fail with one sentence, and end with their parent."""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import bridge_toys
import numpy as np
import psutil
import pytest
import torch
from safetensors.torch import load_file

from lib import paths
from lib.bridge import processes, worker
from lib.bridge.pair import Encoded
from lib.bridge.worker import Job
from lib.params import ParameterError

LOSSES = {"info_nce": 0.05, "distill": 0.5, "reconstruct": 0.3}
STOPS = {"stop": True, "patience": 3, "steps": 9, "evaluations": 9}  # random models are never right: after 3 steps


@dataclass(frozen=True)
class Training:
    """What a training left, and the questions of every step, by process (lists of lists)."""

    weights: dict[str, torch.Tensor]
    record: dict[str, object]
    seen: list[list[list[str]]]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


def read(folder) -> Training:
    seen = [json.loads(file.read_text()) for file in sorted(folder.glob("seen-*.json"))]
    return Training(load_file(folder / "final.safetensors"), json.loads((folder / "training.json").read_text()), seen)


def steps(seen: list[list[str]], size: int) -> list[list[str]]:
    """The batches that were trained on, told by their size from those that were judged."""
    return [batch for batch in seen if len(batch) == size]


def instead(what: str):
    """`processes.run` with tests/bridge_process.py in the place of the module that it is asked for."""
    run = processes.run
    return lambda module, arguments, count, threads: run(
        "tests.bridge_process", [what, *map(str, arguments)], count, threads
    )


@pytest.fixture(scope="module")
def outcomes(world, tmp_path_factory):
    """One process; two of them, through the worker's launch; and, at the same time, two of which one fails."""
    one, two = (Job.of(world.params(processes=count, **LOSSES, **STOPS)) for count in (1, 2))
    batch, asked = Encoded.batch, []

    def noted(self, index):
        asked.append([self.items[i].question for i in index])
        return batch(self, index)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        failing = pool.submit(instead("fail"), "", [tmp_path_factory.mktemp("fail")], 2, 1)
        patch.setattr(worker.processes, "run", instead("train"))
        together = read(worker.folder(world.pair, two))
        patch.setattr(torch, "autocast", lambda *_: nullcontext())
        patch.setattr(Encoded, "batch", noted)
        single = read(worker.folder(world.pair, one))
    return Training(single.weights, single.record, [asked]), together, failing.exception()


def test_two_processes_train_the_bridge_that_one_trains(outcomes):
    one, two, _ = outcomes
    for name, tensor in one.weights.items():
        torch.testing.assert_close(two.weights[name], tensor, rtol=1e-3, atol=2e-4, msg=lambda m, n=name: f"{n}: {m}")


def test_their_record_is_the_same_with_sums_over_both(outcomes):
    """Muon and AdamW do not feel a gradient that is twice too large; its norm and the losses do."""
    one, two, _ = outcomes
    assert len(one.record["curve"]) == len(two.record["curve"]) == 4
    for ours, theirs in zip(one.record["curve"], two.record["curve"], strict=True):
        for name in ("step", "loss", *(f"loss_{name}" for name in LOSSES), "grad_norm", "rate", "val_ce", "delta_ce"):
            close = ours[name] and pytest.approx(ours[name], rel=2e-3, abs=1e-3)  # nothing before the first step
            assert theirs[name] == close, name


def test_both_stop_at_the_same_evaluation(outcomes):
    one, two, _ = outcomes
    assert two.record["stop_step"] == one.record["stop_step"] == 3
    assert [len(steps(seen, 4)) for seen in two.seen] == [3, 3]


def test_processes_share_every_batch(outcomes):
    one, two, _ = outcomes
    for batch, first, second in zip(steps(one.seen[0], 8), *(steps(seen, 4) for seen in two.seen), strict=True):
        assert not set(first) & set(second)
        assert sorted(first + second) == sorted(batch)


def test_one_that_fails_ends_all_with_one_sentence(outcomes):
    error = outcomes[2]
    assert isinstance(error, RuntimeError)
    assert "(Nothing to be had)" in str(error)
    assert "\n" not in str(error)


def test_an_interrupted_parent_leaves_no_process_behind(tmp_path, monkeypatch):
    class Impatient:
        def write(self, text):
            if all((tmp_path / f"pid-{rank}").exists() for rank in (0, 1)):
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", Impatient())
    with pytest.raises(KeyboardInterrupt):
        instead("wait")("", [tmp_path], 2, 1)
    for rank in (0, 1):
        with pytest.raises(ProcessLookupError):
            os.kill(int((tmp_path / f"pid-{rank}").read_text()), 0)


@pytest.mark.parametrize("killed", ["the parent", "torchrun"])
def test_processes_that_say_nothing_end_when_what_started_them_is_killed(tmp_path, killed):
    with open(os.devnull, "w") as nowhere:
        parent = psutil.Popen(
            [sys.executable, "-m", "tests.bridge_process", "launch", tmp_path], stderr=nowhere, cwd=paths.ROOT
        )
    everyone = [parent]
    try:
        deadline = time.monotonic() + 120
        while len(list(tmp_path.glob("pid-*"))) < 2:
            assert time.monotonic() < deadline and parent.poll() is None, "they do not start"
            time.sleep(0.05)
        torchrun = parent.children()[0]
        everyone += parent.children(recursive=True)
        assert len(everyone) == 4
        {"the parent": parent, "torchrun": torchrun}[killed].kill()
        assert psutil.wait_procs(everyone, 60)[1] == []
    finally:
        for process in everyone:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def test_a_batch_that_cannot_be_shared_is_refused(world):
    with pytest.raises(ParameterError, match="8 cannot be shared by 3 processes"):
        worker.folder(world.pair, Job.of(world.params(processes=3)))


def test_an_interrupted_training_leaves_nothing_that_could_be_taken_for_a_bridge(world, monkeypatch):
    job = Job.of(world.params(learning_rate=0.011))

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(worker.evaluation, "judge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            worker.folder(world.pair, job)
    left = [
        place.name for place in (world.folder / "cache" / worker.KIND).iterdir() if not place.name.endswith(".lock")
    ]
    assert not [name for name in left if "partial" in name]
    assert (worker.folder(world.pair, job) / "final.safetensors").is_file()


def test_a_damaged_bridge_is_trained_again(world, capsys):
    job = Job.of(world.params(learning_rate=0.012))
    place = worker.folder(world.pair, job)
    whole = (place / "best.safetensors").read_bytes()
    (place / "best.safetensors").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert worker.folder(world.pair, job) == place
    assert "is damaged" in capsys.readouterr().err
    assert (place / "best.safetensors").read_bytes() == whole


def test_a_bridge_is_trained_once(world, monkeypatch):
    job = Job.of(world.params(learning_rate=0.013))
    place = worker.folder(world.pair, job)
    monkeypatch.setattr(worker, "train", pytest.fail)
    assert worker.folder(world.pair, job) == place
    assert worker.folder(world.pair, Job.of(world.params(learning_rate=0.013, hygiene=False, test=4))) == place


def test_one_seed_gives_one_bridge_and_another_another(world, tmp_path):
    weights = []
    for number, seed in enumerate((0, 0, 1)):
        (folder := tmp_path / str(number)).mkdir()
        worker.train(world.pair, Job.of(world.params(seed=[seed])), folder)
        weights.append(load_file(folder / "final.safetensors"))
    same, other = (
        all(np.array_equal(weights[0][n], weights[i][n]) for n in weights[0] if "target_rms" not in n) for i in (1, 2)
    )
    assert same
    assert not other
