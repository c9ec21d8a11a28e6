"""The real vLLM engine against ours: the same tokens, and the same drafts accepted in every single step.

Two engines that were written apart check one another: what vLLM counts is what our loop does, and what our loop does is
what people deploy. Everything is float32, greedy unless said otherwise, on ladder-micro.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from arms import GREEDY, K, speculation, steps, tokens, torch_arm, vllm_arm
from safetensors.torch import load_file, save_file

from lib import paths
from lib.generators.speculative import support, vllm_process, vllm_says, vllm_worker
from lib.generators.speculative.common import Response
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.eagle import Eagle
from lib.models import eagle_convert, eagle_files
from lib.models.registry import ModelError

OLDER = """
import runpy
from lib.generators.speculative import vllm_engine
vllm_engine.PER_REQUEST = "not in this version"
runpy.run_module("lib.generators.speculative.vllm_worker", run_name="__main__")
"""


@pytest.mark.parametrize("method", ["baseline", "ngram", "draft", "eagle"], scope="class")
class TestAgainstTorch:
    @pytest.fixture(scope="class")
    def both(self, method, micro_path, target, prompts, drafters, tmp_path_factory) -> dict[str, list[Response]]:
        """The responses of both engines, one prompt at a time and all together."""
        log = tmp_path_factory.mktemp("engine") / "log.txt"
        seeds = [0] * len(prompts)
        arms = {"vllm": vllm_arm(method, micro_path, drafters, log), "torch": torch_arm(method, target, drafters)}
        found = {}
        for name, arm in arms.items():
            with arm:
                found[name, "single"] = [arm.run([prompt], [0])[0] for prompt in prompts]
                found[name, "batch"] = arm.run(prompts, seeds)
        with pytest.raises(ProcessLookupError):  # nothing of the engine is left behind
            os.killpg(arms["vllm"].pid, 0)
        return found

    @pytest.mark.parametrize("how", ["single", "batch"])
    def test_every_token_is_the_same(self, both, how):
        assert tokens(both["vllm", how]) == tokens(both["torch", how])

    @pytest.mark.parametrize("how", ["single", "batch"])
    def test_every_step_drafted_and_accepted_the_same_uncropped(self, both, how, method):
        assert steps(both["vllm", how]) == steps(both["torch", how])
        drafted = [k for response in both["vllm", how] for k in response.drafted]
        accepted = [a for response in both["vllm", how] for a in response.accepted]
        assert (0 < sum(accepted) < sum(drafted)) == (method != "baseline"), "nothing was compared"
        assert (0 in drafted) == (method in ("baseline", "ngram")), "steps without a draft are steps"

    def test_the_steps_account_for_every_token(self, both):
        for response in both["vllm", "batch"]:
            yielded = 1 + sum(a + 1 for a in response.accepted)
            assert 0 <= yielded - len(response.tokens) <= K
            assert len(response.tokens) == GREEDY.max_new_tokens

    def test_times_are_parts_of_the_whole(self, both):
        for response in both["vllm", "single"]:
            assert response.prefill_s > 0
            assert response.decode_s > 0
            assert response.prefill_s + response.decode_s < response.wall_s


def test_stop_ids_end_an_answer_and_nothing_else_does(micro_path, target, prompts, drafters, log):
    free = torch_arm("baseline", target, drafters).run(prompts[:4], [0] * 4)
    stop = free[0].tokens[9]
    law = replace(GREEDY, stop_ids=(stop,))
    with vllm_arm("eagle", micro_path, drafters, log, law) as arm:
        stopped = arm.run(prompts[:4], [0] * 4)
    expected = torch_arm("eagle", target, drafters, law).run(prompts[:4], [0] * 4)
    assert tokens(stopped) == tokens(expected)
    assert steps(stopped) == steps(expected)
    assert len(stopped[0].tokens) <= 10
    assert stopped[0].tokens[-1] == stop


class TestHeads:
    """What vLLM makes of heads that are not ours."""

    @pytest.fixture
    def published(self, drafters, target, tmp_path) -> Path:
        """A head as published for Qwen2: another architecture, biases unannounced, in fc too, embedding included."""
        folder = tmp_path / "published"
        shutil.copytree(drafters("eagle"), folder)
        config = json.loads((folder / "config.json").read_text())
        config |= {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2"}
        for name in ("qkv_bias", "attention_bias", "target_norm"):
            config.pop(name, None)
        (folder / "config.json").write_text(json.dumps(config))
        tensors = load_file(folder / "model.safetensors")
        torch.manual_seed(0)
        tensors["fc.bias"] = 0.3 * torch.randn(config["hidden_size"])
        tensors["embed_tokens.weight"] = target.get_input_embeddings().weight.detach().clone()
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def test_a_published_qwen2_head_is_refused_in_one_sentence(self, published, micro_path, drafters, log):
        tensors = load_file(published / "model.safetensors")
        config = json.loads((published / "config.json").read_text()) | {"qkv_bias": True}
        (published / "config.json").write_text(json.dumps(config))
        tensors.pop("fc.bias")
        save_file(tensors, published / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=r"has no EagleQwen2ForCausalLM.*eagle convert") as caught:
            vllm_arm("eagle", micro_path, lambda _: published, log).__enter__()
        assert "\n" not in str(caught.value)

    def test_converted_it_runs_and_accepts_what_the_published_one_does(
        self, published, micro_path, target, prompts, log, tmp_path
    ):
        eagle_convert.convert(str(published), tmp_path / "converted", str(micro_path))
        with vllm_arm("eagle", micro_path, lambda _: tmp_path / "converted", log) as arm:
            found = arm.run(prompts, [0] * len(prompts))
        values, tensors = eagle_files.read_config(published), eagle_files.read_weights(published)
        head = eagle_files.build(values, tensors, target, published)
        expected = TorchArm(target, Eagle(head, speculation("eagle"), GREEDY), GREEDY).run(prompts, [0] * len(prompts))
        assert steps(found) == steps(expected)
        assert sum(map(sum, (response.accepted for response in found))) > 0

    def test_the_table_says_what_vllm_says(self):
        says = vllm_says.ask()
        rows = {(row.group, row.method): row for row in support.table(says)}
        assert "EagleQwen2ForCausalLM" in rows["qwen2_7b", "eagle"].vllm
        assert "eagle convert" in rows["qwen2_7b", "eagle"].vllm
        assert {rows[group, "eagle"].vllm for group in ("llama3_8b", "llama3_70b", "qwen3_32b")} == {"yes"}
        assert {"ngram", "draft_model", "eagle", "eagle3"} <= set(says["methods"])


class TestErrors:
    def test_too_little_memory_is_one_sentence(self, micro_path, drafters, log, monkeypatch):
        monkeypatch.setenv("VLLM_CPU_KVCACHE_SPACE", "1000000")  # GiB
        with pytest.raises(ModelError, match="memory") as caught:
            vllm_arm("baseline", micro_path, drafters, log).__enter__()
        assert "\n" not in str(caught.value)

    def test_versions_without_lists_per_request_take_batches_of_one(
        self, micro_path, prompts, drafters, log, monkeypatch
    ):
        monkeypatch.setattr(vllm_process, "WORKER", ("-c", OLDER))
        for name, value in (vllm_worker.ENVIRONMENT | vllm_worker.CPU_ENVIRONMENT).items():
            monkeypatch.setenv(name, value)  # this worker imports vLLM before it is told what for
        with vllm_arm("ngram", micro_path, drafters, log) as arm:
            counted = [arm.run([prompt], [0])[0] for prompt in prompts]
            with pytest.raises(ModelError, match="batches of one"):
                arm.run(prompts[:2], [0, 0])
        monkeypatch.undo()
        with vllm_arm("ngram", micro_path, drafters, log) as arm:
            assert steps(counted) == steps([arm.run([prompt], [0])[0] for prompt in prompts])


class TestProcesses:
    def test_a_killed_engine_is_one_sentence(self, micro_path, prompts, drafters, log):
        with vllm_arm("baseline", micro_path, drafters, log) as arm:
            os.kill(arm.pid, signal.SIGKILL)
            with pytest.raises(ModelError, match="killed"):
                arm.run(prompts[:1], [0])

    def test_an_engine_does_not_outlive_a_killed_parent(self, micro_path, tmp_path):
        code = f"""
from pathlib import Path
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.vllm_backend import Engine, VllmArm
engine = Engine(Path({str(micro_path)!r}), enforce_eager=True)
with VllmArm(engine, Speculation("baseline"), Decoding(500), Path({str(tmp_path / "log.txt")!r})) as arm:
    print(arm.pid, flush=True)
    while True:
        arm.run([[1, 2, 3]] * 64, [0] * 64)
"""
        parent = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
        engine = os.pidfd_open(int(parent.stdout.readline()))
        parent.kill()
        parent.communicate()
        assert select.select([engine], [], [], 60)[0], "the engine is still there a minute later"
