"""Serving text and messages on vLLM, as far as that needs no vLLM: what is asked of the engine and made of its answers.

A made-up engine stands in for the real one and reads the real file of prompts. What it calls seconds is the number of
the question, so that rows tell when they were measured.
"""

import itertools
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lib.bridge import serving
from lib.generators.speculative import vllm_process
from lib.models.registry import ModelError

WIDTH = 8
ECHO = """
import sys, types
from pathlib import Path
from lib.bridge import serving
from lib.generators.speculative import vllm_worker

class Engine:
    def __init__(self, options):
        self.prompts = serving.read(Path(options["prompts"]))
    def facts(self):
        return {"vllm": "9.9"}
    def answer(self, kind, batch, groups):
        if kind == "bad":
            raise RuntimeError("It is bad. Very bad")
        return {"seconds": 0.5, "tokens": [prompt.tolist() for prompt in self.prompts[kind]]}
    def close(self):
        print("the engine closes", flush=True)

module = types.ModuleType("lib.bridge.serving_worker")
module.Engine = Engine
sys.modules[module.__name__] = module
vllm_worker.serve(int(sys.argv[1]), sys.argv[2])
"""
Serve = Callable[..., list[dict]]


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder that says how wide the model's embeddings are."""
    folder = tmp_path / "target"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "hidden_size": WIDTH}))
    (folder / "tokenizer.json").touch()
    return str(folder)


@pytest.fixture
def serve(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """`serving.serve` with an engine that tells what it was asked."""
    monkeypatch.setattr(vllm_process, "installed", lambda: True)
    monkeypatch.setattr(serving, "Worker", Asked)
    return partial(serving.serve, model, log=tmp_path / "log.txt")


class Asked:
    """A worker in this process: for each prompt its length, its axes and its first number."""

    def __init__(self, *_: object) -> None:
        self.options: dict = {}
        self.questions = itertools.count(1)

    def ask(self, question: dict) -> dict:
        if not self.options:
            self.options, self.prompts = question, serving.read(Path(question["prompts"]))
            return {"options": question}
        served = self.prompts[question["kind"]][: question["batch"] * question["groups"]]
        tokens = [[len(prompt), prompt.ndim, int(prompt.flatten()[0])] for prompt in served]
        counts = {"prompt_tokens": sum(len(prompt) for prompt in served), "kv_bytes": 0}
        return {"responses": {"seconds": next(self.questions), "tokens": tokens, **counts}}

    def close(self) -> None:
        """Nothing to end."""

    def kill(self) -> None:
        """Nothing to end."""


def text(count: int) -> list[list[int]]:
    """Prompts of 3, 4, ... token ids; the first of each says which one it is."""
    return [[i, *range(i + 2)] for i in range(count)]


def messages(count: int, width: int = WIDTH, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Prompts of 2 embeddings; the first number of each says which one it is."""
    return list(torch.arange(count, dtype=dtype)[:, None, None].expand(-1, 2, width))


class TestRows:
    def test_every_kind_is_served_at_every_batch_size_as_often_as_asked(self, serve):
        rows = serve({"text": text(5), "latent": messages(5)}, 7, [1, 2], 3)
        cells = Counter((row["kind"], row["batch"], row["repeat"]) for row in rows)
        assert cells == Counter((kind, b, r) for kind in ("text", "latent") for b in (1, 2) for r in range(3))

    def test_whole_batches_of_the_right_prompts_in_their_order(self, serve):
        rows = serve({"text": text(12), "latent": messages(12)}, 7, [5], 1)
        found = {row["kind"]: row for row in rows}
        assert found["text"]["tokens"] == [[i + 3, 1, i] for i in range(10)]
        assert found["latent"]["tokens"] == [[2, 2, i] for i in range(10)]
        assert [found[kind]["samples"] for kind in found] == [10, 10]
        assert found["latent"]["prompt_tokens"] == 20
        assert all(row["samples_per_s"] == 10 / row["seconds"] for row in rows)
        assert all(row["new_tokens"] == 7 for row in rows)

    def test_the_warm_up_is_no_row_and_repeats_take_turns(self, serve):
        rows = serve({"text": text(2), "latent": messages(2)}, 7, [1, 2], 6)
        assert [row["seconds"] for row in rows] == list(range(5, 29)), "four cells are warmed up"
        turns = [[(row["kind"], row["batch"]) for row in rows[start : start + 4]] for start in range(0, 24, 4)]
        assert all(len(set(turn)) == 4 for turn in turns), "each repeat has every cell once"
        assert len({tuple(turn) for turn in turns}) > 1, "in an order of its own"

    def test_the_seed_draws_the_order(self, serve):
        def order(seed: int) -> list[str]:
            return [row["kind"] for row in serve({"text": text(1), "latent": messages(1)}, 7, [1], 8, seed=seed)]

        assert order(1) == order(1) != order(2)

    def test_the_engine_is_as_long_and_as_broad_as_needed(self, serve, model):
        rows = serve({"text": text(4), "latent": messages(4)}, 7, [1, 4], 1, threads=2, enforce_eager=True)
        options = rows[0]["options"]
        expected = {"model": model, "max_model_len": 6 + 7, "max_num_seqs": 4, "new_tokens": 7, "threads": 2}
        assert expected.items() <= options.items()
        assert options["enforce_eager"]

    @pytest.mark.parametrize(("asked", "found"), [("auto", "bfloat16"), ("float32", "float32")])
    def test_auto_is_the_type_of_the_embeddings(self, serve, asked, found):
        rows = serve({"text": text(2), "latent": messages(2, dtype=torch.bfloat16)}, 7, [1], 1, dtype=asked)
        assert rows[0]["options"]["dtype"] == found


class TestRefusals:
    @pytest.fixture
    def refused(self, serve, monkeypatch) -> Serve:
        """`serve` where an engine must not be started."""
        monkeypatch.setattr(serving, "Worker", lambda *_: pytest.fail("something was started"))
        return serve

    def test_too_few_prompts_for_a_batch(self, refused):
        with pytest.raises(ModelError, match=r"^3 prompts fill no batch of 4: give more, or serve smaller batches\.$"):
            refused({"text": text(5), "latent": messages(3)}, 7, [1, 4], 1)

    def test_messages_for_another_target(self, refused):
        with pytest.raises(ModelError, match="'latent_4' prompts are 9 wide and the model's embeddings 8") as caught:
            refused({"text": text(2), "latent_4": messages(2, width=9)}, 7, [1], 1)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("latent", [{}, {"a": messages(2), "b": messages(2, dtype=torch.bfloat16)}])
    def test_auto_without_one_type(self, refused, latent):
        with pytest.raises(ModelError, match="name float32"):
            refused({"text": text(2)} | latent, 7, [1], 1)

    def test_without_vllm_the_sentence_says_what_to_type(self, serve, tmp_path, monkeypatch):
        monkeypatch.setattr(vllm_process, "installed", lambda: False)
        monkeypatch.setattr(vllm_process, "INTERPRETER", tmp_path / "python")
        with pytest.raises(ModelError, match="'make vllm'"):
            serve({"text": text(2), "latent": messages(2)}, 7, [1], 1)


class TestProcess:
    """The worker's own process, with an engine in it that echoes."""

    @pytest.fixture
    def groups(self, serve, tmp_path, monkeypatch) -> list[int]:
        """Process groups that were started."""
        started = []

        class Watched(vllm_process.Worker):
            def __init__(self, *args: object) -> None:
                super().__init__(*args)
                started.append(self.pid)

        monkeypatch.setattr(serving, "Worker", Watched)
        monkeypatch.setattr(vllm_process, "WORKER", ("-c", ECHO))
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        return started

    def test_prompts_arrive_and_nothing_stays_behind(self, serve, groups, tmp_path):
        before = {path.name for path in tmp_path.iterdir()}
        (row,) = serve({"text": text(2)}, 7, [1], 1, dtype="float32")
        assert row["tokens"] == text(2)
        assert row["vllm"] == "9.9"
        assert {path.name for path in tmp_path.iterdir()} - before == {"log.txt"}
        assert "the engine closes" in (tmp_path / "log.txt").read_text()
        with pytest.raises(ProcessLookupError):
            os.killpg(groups[0], 0)

    def test_an_error_in_the_engine_is_one_sentence_and_its_end(self, serve, groups):
        with pytest.raises(ModelError, match=r"^vLLM refused: It is bad \(its output is in '.*log.txt'\)\.$"):
            serve({"bad": text(2)}, 7, [1], 1, dtype="float32")
        with pytest.raises(ProcessLookupError):
            os.killpg(groups[0], 0)


@given(
    st.dictionaries(
        st.sampled_from(["text", "latent_4", "a/b"]),
        st.lists(
            st.tuples(st.integers(1, 6), st.sampled_from([None, torch.float32, torch.bfloat16])),
            min_size=1,
            max_size=13,
        ),
        min_size=1,
    )
)
def test_stored_prompts_come_back_as_they_were(tmp_path_factory, described):
    chance = torch.Generator().manual_seed(0)
    prompts = {
        kind: [
            torch.randint(99, (length,), generator=chance)
            if dtype is None
            else torch.randn(WIDTH, length, generator=chance).T.to(dtype)
            for length, dtype in rows
        ]
        for kind, rows in described.items()
    }
    file = tmp_path_factory.mktemp("prompts") / "prompts.safetensors"
    serving.write(prompts, file)
    found = serving.read(file)
    assert found.keys() == prompts.keys()
    for kind, rows in prompts.items():
        assert len(found[kind]) == len(rows)
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(found[kind], rows, strict=True))
