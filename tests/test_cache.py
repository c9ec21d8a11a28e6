"""The cache of trained models: built once, whole or not at all, noticed when damaged."""

import json
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from lib import paths
from lib.models import cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CACHE", tmp_path)


def write(place: Path) -> None:
    (place / "weights").write_bytes(b"abc")
    (place / "config.json").write_text("{}")


def never(place: Path) -> None:
    raise AssertionError("a complete model was built again")


def test_built_once_then_found():
    place = cache.get("kind", "name", "key", write)
    assert place == paths.CACHE / "kind" / "name-key"
    assert cache.is_complete(place)
    assert cache.get("kind", "name", "key", never) == place


@pytest.mark.parametrize("damage", ["cut", "changed", "lost", "no manifest", "empty manifest", "nonsense"])
def test_damage_is_noticed_said_and_repaired(damage, capsys):
    place = cache.get("kind", "name", "key", write)
    weights, manifest = place / "weights", place / cache.MANIFEST
    {
        "cut": lambda: weights.write_bytes(b"ab"),
        "changed": lambda: weights.write_bytes(b"abd"),
        "lost": weights.unlink,
        "no manifest": manifest.unlink,
        "empty manifest": lambda: manifest.write_text("{}"),
        "nonsense": lambda: manifest.write_text("[1, 2"),
    }[damage]()
    assert not cache.is_complete(place)
    assert cache.get("kind", "name", "key", write) == place
    assert cache.is_complete(place)
    assert "is damaged: name is trained again" in capsys.readouterr().err


def test_a_failed_build_leaves_nothing():
    def fail(place: Path) -> None:
        write(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.get("kind", "name", "key", fail)
    assert [entry.name for entry in (paths.CACHE / "kind").iterdir()] == [".name-key.lock"]
    assert cache.is_complete(cache.get("kind", "name", "key", write))


FORK = multiprocessing.get_context("fork")
PATIENCE = 60  # seconds before a test that hangs fails instead


def _ask(started: Event, proceed: Event) -> None:
    def build(place: Path) -> None:
        with open(paths.CACHE / "builds", "a") as builds:
            builds.write("x")
        started.set()
        assert proceed.wait(PATIENCE)
        write(place)

    cache.get("kind", "name", "key", build)


def test_two_processes_build_once():
    started, proceed = FORK.Event(), FORK.Event()
    processes = [FORK.Process(target=_ask, args=(started, proceed)) for _ in range(2)]
    processes[0].start()
    assert started.wait(PATIENCE)
    processes[1].start()
    proceed.set()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (paths.CACHE / "builds").read_text() == "x"


def test_a_killed_build_leaves_no_model_and_is_swept_away():
    started = FORK.Event()
    process = FORK.Process(target=_ask, args=(started, FORK.Event()))
    process.start()
    assert started.wait(PATIENCE)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    kind = paths.CACHE / "kind"
    assert list(kind.glob(".name-key.partial-*"))
    assert not cache.folder("kind", "name", "key").exists()
    cache.get("kind", "name", "key", write)
    assert not list(kind.glob(".name-key.partial-*"))


def test_the_key_sees_values_and_not_their_order():
    assert cache.key_of({"a": 1, "b": 2}) == cache.key_of({"b": 2, "a": 1})
    assert cache.key_of({"a": 1}) != cache.key_of({"a": 2})


def test_source_hash_sees_code_and_not_comments(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)

    def hashed(text: str) -> str:
        (tmp_path / "hashed_module.py").write_text(text)
        return cache.source_hash(["hashed_module"])

    plain = hashed('"""Doc."""\ndef f(x):\n    """Say."""\n    return x\n')
    assert plain == hashed('"""Other."""\n# why\ndef f(x):\n    """More."""\n\n    return x  # so\n')
    assert plain != hashed('"""Doc."""\ndef f(x):\n    """Say."""\n    return -x\n')


def test_the_manifest_lists_every_file():
    place = cache.get("kind", "name", "key", write)
    assert set(json.loads((place / cache.MANIFEST).read_text())) == {"weights", "config.json"}
