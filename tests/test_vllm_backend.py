"""How drafting is put to vLLM, which heads are refused before it starts, and the support table; needs no vLLM."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lib.generators.speculative import support, vllm_backend, vllm_head
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.vllm_backend import Engine, VllmArm, speculative_config
from lib.models.registry import ModelError

HIDDEN = 8


class TestMapping:
    def test_the_baseline_has_none(self):
        assert speculative_config(Speculation("baseline")) is None

    def test_the_shortest_ngram_is_never_left_to_vllm(self):
        """vLLM would set it to the longest, and match 4-grams only where 1 to 4 were meant."""
        config = speculative_config(Speculation("ngram", num_speculative_tokens=5, prompt_lookup_max=4))
        assert config == {
            "method": "ngram",
            "num_speculative_tokens": 5,
            "prompt_lookup_max": 4,
            "prompt_lookup_min": 1,
        }

    def test_a_draft_model_is_named_with_its_method(self, tmp_path):
        config = speculative_config(Speculation("draft", 3, draft_sample_method="probabilistic"), tmp_path)
        assert config == {
            "method": "draft_model",
            "model": str(tmp_path),
            "num_speculative_tokens": 3,
            "draft_sample_method": "probabilistic",
        }

    @pytest.mark.parametrize(
        ("config", "method"),
        [
            ({"architectures": ["LlamaForCausalLM"]}, "eagle"),
            ({"model_type": "eagle", "model": {"architectures": ["LlamaForCausalLM"]}}, "eagle"),
            ({"architectures": ["LlamaForCausalLMEagle3"]}, "eagle3"),
            ({"architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3"}, "eagle3"),
            ({"architectures": ["LlamaForCausalLM"], "draft_vocab_size": 32_000}, "eagle3"),
        ],
    )
    def test_the_kind_of_head_is_read_from_its_config(self, tmp_path, config, method):
        (tmp_path / "config.json").write_text(json.dumps(config))
        assert speculative_config(Speculation("eagle"), tmp_path)["method"] == method

    @pytest.mark.parametrize(
        ("speculation", "says"),
        [
            (Speculation("hybrid"), "use baseline, ngram, eagle or draft"),
            (Speculation("eagle", tree_width=2), "chains, not trees"),
            (Speculation("draft"), "needs a folder"),
        ],
    )
    def test_what_vllm_does_not_do_is_refused(self, speculation, says):
        with pytest.raises(ModelError, match=says):
            speculative_config(speculation)

    def test_a_dtype_that_vllm_would_halve_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match="name float32"):
            Engine(tmp_path, dtype="auto")


def write_head(folder: Path, biases: tuple[str, ...] = (), fc: int = 2 * HIDDEN, **config) -> Path:
    """A head's folder with tensors of the right names."""
    folder.mkdir(exist_ok=True)
    values = {"architectures": ["LlamaForCausalLM"], "hidden_size": HIDDEN} | config
    (folder / "config.json").write_text(json.dumps(values))
    tensors = {"fc.weight": np.zeros((HIDDEN, fc), np.float32)}
    tensors |= {name: np.zeros(HIDDEN, np.float32) for name in biases}
    save_file(tensors, folder / "model.safetensors")
    return folder


QKV = tuple(f"layers.0.self_attn.{part}_proj.bias" for part in "qkv")
OUT = ("layers.0.self_attn.o_proj.bias",)


TARGET = {"hidden_size": HIDDEN}


class TestHeads:
    @pytest.mark.parametrize(
        ("biases", "config"),
        [
            ((), {}),
            (QKV, {"qkv_bias": True}),
            (QKV + OUT, {"attention_bias": True}),
            (QKV + OUT, {"attention_bias": True, "qkv_bias": True}),
            (OUT, {"attention_bias": True, "qkv_bias": False}),
        ],
    )
    def test_biases_that_are_announced_pass(self, tmp_path, biases, config):
        vllm_head.check_head(write_head(tmp_path / "head", biases, **config), TARGET)

    @pytest.mark.parametrize(
        ("biases", "config", "says"),
        [
            (QKV, {}, "q_proj.bias, which its config.json does not announce .* set qkv_bias to true"),
            (QKV[1:2], {"qkv_bias": False, "attention_bias": True}, "k_proj.bias.* set qkv_bias to true"),
            (OUT, {"qkv_bias": False}, "o_proj.bias.* set attention_bias to true"),
            (QKV[:2], {"qkv_bias": True}, "announces qkv_bias"),
            (QKV, {"attention_bias": True}, "announces attention_bias"),
            (("fc.bias",), {}, "fc.bias, for which vLLM has no place.*eagle convert"),
        ],
    )
    def test_biases_that_vllm_would_drop_are_refused(self, tmp_path, biases, config, says):
        with pytest.raises(ModelError, match=says):
            vllm_head.check_head(write_head(tmp_path / "head", biases, **config), TARGET)

    def test_the_head_of_another_target_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match=r"\[8, 12\] where this target needs \[8, 16\]"):
            vllm_head.check_head(write_head(tmp_path / "head", fc=12), TARGET)

    def test_a_folder_without_a_head_is_refused(self, tmp_path):
        with pytest.raises(ModelError, match=r"no config\.json"):
            vllm_head.check_head(tmp_path / "nowhere", TARGET)
        head = write_head(tmp_path / "head")
        (head / "model.safetensors").write_bytes(b"rubbish")
        with pytest.raises(ModelError, match="damaged"):
            vllm_head.check_head(head, TARGET)
        (head / "model.safetensors").unlink()
        with pytest.raises(ModelError, match=r"no model\.safetensors"):
            vllm_head.check_head(head, TARGET)
        (head / "config.json").write_text("{")
        with pytest.raises(ModelError, match="not JSON"):
            vllm_head.check_head(head, TARGET)

    @pytest.mark.parametrize(
        ("name", "method", "looked_up"),
        [
            ("Qwen2ForCausalLM", "eagle", "EagleQwen2ForCausalLM"),
            ("EagleLlamaForCausalLM", "eagle", "EagleLlamaForCausalLM"),
            ("LlamaForCausalLM", "eagle3", "Eagle3LlamaForCausalLM"),
            ("LlamaForCausalLMEagle3", "eagle3", "LlamaForCausalLMEagle3"),
        ],
    )
    def test_an_architecture_is_looked_up_by_vllms_name_for_it(self, name, method, looked_up):
        values = {"architectures": [name]}
        vllm_head.check_registered(values, method, {looked_up}, "9.9")
        with pytest.raises(ModelError, match=rf"vLLM 9\.9 has no {looked_up}"):
            vllm_head.check_registered(values, method, {"Other"}, "9.9")

    def test_a_bad_head_is_refused_before_anything_is_started(self, tmp_path, monkeypatch):
        monkeypatch.setattr(vllm_backend, "Worker", lambda *_: pytest.fail("something was started"))
        (tmp_path / "target").mkdir()
        (tmp_path / "target" / "config.json").write_text(json.dumps(TARGET))
        head = write_head(tmp_path / "head", QKV)
        with pytest.raises(ModelError, match="qkv_bias"):
            VllmArm(Engine(tmp_path / "target"), Speculation("eagle"), Decoding(), tmp_path / "log", head)


SAYS = {"version": "9.9", "methods": ["ngram", "draft_model", "eagle"], "architectures": ["EagleLlamaForCausalLM"]}


class TestSupport:
    def rows(self, says) -> dict[tuple[str, str], support.Row]:
        return {(row.group, row.method): row for row in support.table(says)}

    def test_the_table_is_what_vllm_said(self):
        rows = self.rows(SAYS)
        assert rows["llama3_8b", "eagle"].vllm == "yes"
        assert rows["qwen2_7b", "ngram"].vllm == "yes"
        assert rows["qwen2_72b", "eagle"].vllm.startswith("9.9 has no EagleQwen2ForCausalLM: convert the head")
        assert rows["qwen3_32b", "eagle"].vllm == "9.9 has no method eagle3"
        assert rows["qwen3_32b", "eagle"].torch == "EAGLE-1 heads only"
        assert rows["llama3_8b", "hybrid"].vllm == "no such method"

    def test_another_vllm_gives_another_table(self):
        newer = SAYS | {"architectures": ["EagleLlamaForCausalLM", "EagleQwen2ForCausalLM"]}
        assert self.rows(newer)["qwen2_7b", "eagle"].vllm == "yes"

    def test_without_vllm_the_rest_still_stands(self):
        rows = self.rows(None)
        assert rows["qwen2_7b", "ngram"].vllm == "not installed: make vllm"
        assert rows["qwen2_7b", "ngram"].torch == "yes"
