"""The EAGLE-1 head: its layout and cache against transformers' own layers, its files, its training, conversion."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from toys import tiny_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2ForCausalLM
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from lib.models import (
    eagle_cli,
    eagle_convert,
    eagle_files,
    eagle_lessons,
    eagle_training,
    eagle_wiring,
    ladder,
    training,
)
from lib.models.eagle import EagleHead
from lib.models.registry import ModelError
from lib.models.training import Example

TENSORS = {
    "fc.weight": [32, 64],
    "layers.0.self_attn.q_proj.weight": [32, 32],
    "layers.0.self_attn.q_proj.bias": [32],
    "layers.0.self_attn.k_proj.weight": [16, 32],
    "layers.0.self_attn.k_proj.bias": [16],
    "layers.0.self_attn.v_proj.weight": [16, 32],
    "layers.0.self_attn.v_proj.bias": [16],
    "layers.0.self_attn.o_proj.weight": [32, 32],
    "layers.0.mlp.gate_proj.weight": [48, 32],
    "layers.0.mlp.up_proj.weight": [48, 32],
    "layers.0.mlp.down_proj.weight": [32, 48],
    "layers.0.post_attention_layernorm.weight": [32],
}
VLLM_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 24,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "hidden_act": "silu",
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
    "attention_bias": False,
    "qkv_bias": True,
    "mlp_bias": False,
    "tie_word_embeddings": True,
    "dtype": "float32",
}


def toy(architecture: str = "qwen2") -> PreTrainedModel:
    return tiny_model(architecture).requires_grad_(False)


def random_head(target: PreTrainedModel, seed: int = 0, **flags: bool) -> EagleHead:
    """A head with every weight, norm and bias at random, so that none can be lost unnoticed."""
    torch.manual_seed(seed)
    head = eagle_training.new_head(target)
    if flags:
        fields = head.config.to_dict() | {"qkv_bias": True} | flags
        head = EagleHead(LlamaConfig(**fields), target)
    for weight in head.parameters():
        nn.init.normal_(weight, 0.5 if weight.ndim == 1 else 0.0, 0.2)
    return head.eval().requires_grad_(False)


def published(head: EagleHead) -> dict[str, Tensor]:
    """The tensors of a head as they are published, each on its own."""
    return {name: tensor.detach().clone() for name, tensor in eagle_files.named_tensors(head).items()}


def oracle(head: EagleHead, ids: Tensor, features: Tensor, positions: Tensor, mask: Tensor) -> Tensor:
    """A full pass [B, q, h] by transformers' Llama layer, whose input norm is taken out; mask [B, 1, q, q] bool."""
    tensors = published(head)
    config = LlamaConfig(**head.config.to_dict())
    config.attention_bias, config._attn_implementation = True, "eager"
    layer = LlamaDecoderLayer(config, 0)
    layer.input_layernorm = nn.Identity()
    own = {name.removeprefix("layers.0."): tensor for name, tensor in tensors.items() if name.startswith("layers.0.")}
    for name, weight in layer.state_dict().items():
        if name.endswith("bias"):
            own.setdefault(name, torch.zeros_like(weight))
    layer.load_state_dict(own)
    pair = torch.cat([head.embed(ids), features], -1)
    x = pair @ tensors["fc.weight"].T + tensors.get("fc.bias", 0.0)
    additive = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)
    rotary = LlamaRotaryEmbedding(config)(x, positions)
    with torch.no_grad():
        out = layer(x, attention_mask=additive, position_ids=positions, position_embeddings=rotary)
    return out[0] if isinstance(out, tuple) else out


def inputs(length: int, rows: int = 1, hidden: int = 32, seed: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Random ids [rows, length], features and positions."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(24, (rows, length), generator=generator)
    return ids, torch.randn(rows, length, hidden, generator=generator), torch.arange(length).expand(rows, -1)


def causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


@pytest.fixture(scope="module")
def target() -> PreTrainedModel:
    return toy()


@pytest.mark.parametrize("architecture", ["qwen2", "llama"])
@pytest.mark.parametrize("flags", [{}, {"qkv_bias": False}, {"fc_bias": True, "attention_bias": True}])
def test_a_cached_pass_in_pieces_is_a_full_pass_of_transformers_layer(architecture, flags):
    head = random_head(toy(architecture), **flags)
    ids, features, positions = inputs(11)
    cache = head.new_cache(1, 16)
    pieces = [
        head(ids[:, a:b], features[:, a:b], positions[:, a:b], cache, positions[:, a:b], None)
        for a, b in [(0, 5), (5, 6), (6, 9), (9, 10), (10, 11)]
    ]
    expected = oracle(head, ids, features, positions, causal(11))
    torch.testing.assert_close(torch.cat(pieces, 1), expected, rtol=1e-4, atol=1e-4)


def test_rotary_scaling_of_llama_3_is_transformers(target):
    scaling = {
        "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }  # fmt: skip
    plain = random_head(target)
    scaled = random_head(target)
    scaled.config.rope_parameters = scaling
    ids, features, _ = inputs(6)
    positions = torch.tensor([[0, 20, 40, 60, 80, 100]])
    caches = [head.new_cache(1, 128) for head in (plain, scaled)]
    slots = torch.arange(6)[None]
    got = [
        head(ids, features, positions, cache, slots, None) for head, cache in zip((plain, scaled), caches, strict=True)
    ]
    torch.testing.assert_close(got[1], oracle(scaled, ids, features, positions, causal(6)), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(got[0], got[1], atol=1e-2)


def test_rejected_drafts_are_overwritten(target):
    """After a draft is taken back, drafting goes on as if it had never been."""
    head = random_head(target)
    ids, features, positions = inputs(8)
    cache = head.new_cache(1, 8)
    head(ids[:, :4], features[:, :4], positions[:, :4], cache, positions[:, :4], None)
    head(ids[:, :3] + 1 % 24, -features[:, :3], positions[:, 4:7], cache, positions[:, 4:7], None)  # rejected
    got = head(ids[:, 4:], features[:, 4:], positions[:, 4:], cache, positions[:, 4:], None)
    expected = oracle(head, ids, features, positions, causal(8))[:, 4:]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_ragged_rows_of_a_batch_are_rows_alone(target):
    """Two rows of 7 and 4 tokens, then two more for each: what is behind a row's end never counts."""
    head = random_head(target)
    ids, features, _ = inputs(9, rows=2)
    lengths = torch.tensor([7, 4])
    cache = head.new_cache(3, 12)  # one row more than is used
    cache.keys.fill_(9.0)
    cache.values.fill_(9.0)
    first = torch.arange(7).expand(2, -1)
    mask = (torch.arange(7) <= first[..., None])[:, None]
    head(ids[:, :7], features[:, :7], first, cache, first, mask)
    slots = lengths[:, None] + torch.arange(2)
    new_ids, new_features = ids.gather(1, slots), features.gather(1, slots[..., None].expand(-1, -1, 32))
    mask = (torch.arange(9) <= slots[..., None])[:, None]
    got = head(new_ids, new_features, slots, cache, slots, mask)
    for row, length in enumerate(lengths.tolist()):
        alone = oracle(
            head,
            ids[row : row + 1, : length + 2],
            features[row : row + 1, : length + 2],
            torch.arange(length + 2)[None],
            causal(length + 2),
        )
        torch.testing.assert_close(got[row], alone[0, length:], rtol=1e-4, atol=1e-4)


def test_a_tree_packed_in_one_pass_is_its_branches_one_by_one(target):
    """Two children of the same place stand at one position in different slots and do not see each other."""
    head = random_head(target)
    ids, features, positions = inputs(5)
    branches = torch.tensor([[3, 17]])
    cache = head.new_cache(1, 8)
    head(ids, features, positions, cache, positions, None)
    mask = torch.ones(1, 1, 2, 7, dtype=torch.bool)
    mask[0, 0, 0, 6] = mask[0, 0, 1, 5] = False
    guess = features[:, :1].expand(1, 2, -1)
    got = head(branches, guess, torch.tensor([[5, 5]]), cache, torch.tensor([[5, 6]]), mask)
    for index in range(2):
        chain = torch.cat([ids, branches[:, index : index + 1]], 1), torch.cat([features, guess[:, :1]], 1)
        alone = oracle(head, *chain, torch.arange(6)[None], causal(6))[:, -1]
        torch.testing.assert_close(got[:, index], alone, rtol=1e-4, atol=1e-4)


def test_the_embedding_comes_first_and_its_order_matters(target):
    head = random_head(target)
    ids, features, positions = inputs(3)
    before = head(ids, features, positions, head.new_cache(1, 3), positions, None)
    with torch.no_grad():
        head.fc.weight.copy_(head.fc.weight.roll(32, 1))
    after = head(ids, features, positions, head.new_cache(1, 3), positions, None)
    assert not torch.allclose(before, after, atol=0.1)
    with torch.no_grad():
        head.fc.weight[:, 32:] = 0
    blind = [head(ids, noise, positions, head.new_cache(1, 3), positions, None) for noise in (features, -features)]
    torch.testing.assert_close(*blind)


def test_the_tables_are_the_targets_own(target):
    head = random_head(target)
    assert not any(weight is table for weight in head.parameters() for table in target.parameters())
    ids, features, _ = inputs(2)
    torch.testing.assert_close(head.logits(features), features @ target.lm_head.weight.T)
    torch.testing.assert_close(head.embed(ids), target.get_input_embeddings().weight[ids])


def test_the_folder_is_what_vllm_loads_and_comes_back_bit_for_bit(target, tmp_path):
    head = random_head(target)
    eagle_files.save(head, tmp_path, target)
    tensors = load_file(tmp_path / "model.safetensors")
    assert {name: list(tensor.shape) for name, tensor in tensors.items()} == TENSORS
    config = json.loads((tmp_path / "config.json").read_text())
    assert VLLM_CONFIG.items() <= config.items()
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 1e4
    again = eagle_files.load(tmp_path, target)
    assert not again.training
    for name, weight in head.named_parameters():
        assert torch.equal(weight, again.get_parameter(name)), name
    ids, features, positions = inputs(4)
    runs = [one(ids, features, positions, one.new_cache(1, 4), positions, None) for one in (head, again)]
    assert torch.equal(*runs)


def test_a_head_loads_into_the_dtype_of_its_target(target, tmp_path):
    eagle_files.save(random_head(target), tmp_path, target)
    half = toy().to(torch.bfloat16)
    head = eagle_files.load(tmp_path, half)
    assert {weight.dtype for weight in head.parameters()} == {torch.bfloat16}
    ids, features, positions = inputs(4)
    guess = head(ids, features.to(torch.bfloat16), positions, head.new_cache(1, 4), positions, None)
    assert guess.dtype == torch.bfloat16


def _edit(folder: Path, drop: tuple[str, ...] = (), tensors: dict[str, Tensor] | None = None, **values: object) -> None:
    """Change a saved head: config values (None removes one), tensors added or dropped."""
    config = json.loads((folder / "config.json").read_text()) | values
    kept = {name: value for name, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))
    old = load_file(folder / "model.safetensors")
    new = {name: tensor for name, tensor in old.items() if name not in drop} | (tensors or {})
    save_file(new, folder / "model.safetensors")


BAD_HEADS = {
    "biases that the config hides": ({"qkv_bias": False}, r"k_proj\.bias, which its config\.json does not announce"),
    "biases that are not there": ({"drop": ("layers.0.self_attn.v_proj.bias",)}, r"lacks layers\.0.*v_proj\.bias"),
    "an output bias hidden": (
        {"tensors": {"layers.0.self_attn.o_proj.bias": torch.zeros(32)}}, r"o_proj\.bias.*attention_bias",
    ),
    "an input norm": ({"tensors": {"layers.0.input_layernorm.weight": torch.ones(32)}}, "which no EAGLE-1 head has"),
    "another width": ({"hidden_size": 64}, "hidden_size 64 and the target 32"),
    "another vocabulary": ({"vocab_size": 25}, "vocab_size 25 and the target 24"),
    "a wrong shape": ({"intermediate_size": 40}, r"down_proj\.weight has shape \[32, 48\]|gate_proj\.weight has shape"),
    "two layers": ({"num_hidden_layers": 2}, "holds no EAGLE-1 head"),
    "no fc": ({"drop": ("fc.weight",)}, "holds no EAGLE-1 head"),
    "no size": ({"hidden_size": None}, "lacks hidden_size"),
    "another activation": ({"hidden_act": "gelu"}, "uses gelu"),
    "other embeddings": ({"tensors": {"embed_tokens.weight": torch.ones(24, 32)}}, "another embed_tokens.weight"),
    "another target's mark": ({"target_norm": [1.5] * 16}, "trained for another target"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_HEADS)
def test_a_head_that_does_not_fit_is_one_sentence(case, target, tmp_path):
    change, expected = BAD_HEADS[case]
    eagle_files.save(random_head(target), tmp_path, target)
    _edit(tmp_path, **change)
    with pytest.raises(ModelError, match=expected) as error:
        eagle_files.load(tmp_path, target)
    assert str(error.value).count(". ") == 0
    assert str(tmp_path) in str(error.value)


def test_folders_without_a_head_are_one_sentence(target, tmp_path):
    with pytest.raises(ModelError, match=r"has no config\.json"):
        eagle_files.load(tmp_path, target)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match="is not JSON"):
        eagle_files.load(tmp_path, target)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ModelError, match=r"has no model\.safetensors: convert the pickle"):
        eagle_files.load(tmp_path, target)
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="is damaged"):
        eagle_files.load(tmp_path, target)


def test_a_fine_tuned_target_is_told_from_its_base(target, tmp_path):
    eagle_files.save(random_head(target), tmp_path, target)
    other = toy()
    with torch.no_grad():
        other.model.norm.weight[3] += 0.05
    with pytest.raises(ModelError, match="another target"):
        eagle_files.load(tmp_path, other)


def _publish(folder: Path, head: EagleHead, target: PreTrainedModel, container: str, **values: object) -> None:
    """A head as its authors publish it: old config keys, copies of the tables, safetensors or a pickle."""
    config = {
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "bias": True, "hidden_act": "silu",
        "hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 1,
        "num_key_value_heads": 2, "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "vocab_size": 24,
        "max_position_embeddings": 128, "torch_dtype": "float32",
    } | values  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    tensors = published(head) | {"embed_tokens.weight": target.get_input_embeddings().weight.detach().clone()}
    if container == "safetensors":
        save_file(tensors, folder / "model.safetensors")
    else:
        torch.save(tensors, folder / "pytorch_model.bin")


@pytest.mark.parametrize("container", ["safetensors", "bin"])
def test_a_qwen2_head_with_a_bias_in_fc_converts_to_the_same_function(target, tmp_path, container):
    head = random_head(target, fc_bias=True)
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    _publish(source, head, target, container)
    said = eagle_convert.convert(str(source), out)
    assert "LlamaForCausalLM instead of Qwen2ForCausalLM" in said
    assert "bias of fc" in said
    config, tensors = json.loads((out / "config.json").read_text()), load_file(out / "model.safetensors")
    assert (config["architectures"], config["model_type"]) == (["LlamaForCausalLM"], "llama")
    assert config["qkv_bias"] is config["attention_bias"] is True
    assert "bias" not in config  # vLLM would read it as attention's
    assert config["rope_theta"] == 10000.0
    assert tensors.keys() == TENSORS.keys() | {"layers.0.self_attn.o_proj.bias"}
    converted = eagle_files.load(out, target)
    ids, features, positions = inputs(7)
    head.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
    expected = oracle(head, ids, features, positions, causal(7))
    got = converted(ids, features, positions, converted.new_cache(1, 7), positions, None)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("container", ["safetensors", "bin"])
def test_a_llama_head_needs_no_conversion_and_is_told_so(tmp_path, container):
    llama = toy("llama")
    head = random_head(llama, qkv_bias=False)
    _publish(tmp_path, head, llama, container, architectures=["LlamaForCausalLM"], model_type="llama", bias=False)
    said = eagle_convert.convert(str(tmp_path), tmp_path / "out")
    assert "no conversion was needed" in said
    assert ("pickle" in said) == (container == "bin")
    converted = eagle_files.load(tmp_path / "out", llama)
    for name, weight in head.named_parameters():
        assert torch.equal(weight, converted.get_parameter(name))


def test_a_head_wrapped_by_the_old_converter_is_unwrapped(target, tmp_path):
    _publish(tmp_path, random_head(target), target, "safetensors")
    inner = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "eagle", "model": inner}))
    eagle_convert.convert(str(tmp_path), tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"
    assert eagle_files.load(tmp_path, target).config.hidden_size == 32  # and our own loop needs no conversion


def test_conversion_for_a_target_compares_the_tables_and_marks_the_head(target, tmp_path):
    target.save_pretrained(tmp_path / "target")
    source, empty = tmp_path / "source", tmp_path / "empty"
    source.mkdir()
    empty.mkdir()
    (empty / "config.json").write_text("{}")
    _publish(source, random_head(target), target, "safetensors")
    eagle_convert.convert(str(source), tmp_path / "out", str(tmp_path / "target"))
    marked = json.loads((tmp_path / "out" / "config.json").read_text())["target_norm"]
    assert marked == target.model.norm.weight[:16].tolist()
    _edit(source, tensors={"embed_tokens.weight": torch.zeros(24, 32)})
    with pytest.raises(ModelError, match=r"embed_tokens\.weight in .* is not that of"):
        eagle_convert.convert(str(source), tmp_path / "other", str(tmp_path / "target"))
    assert not (tmp_path / "other").exists()
    with pytest.raises(ModelError, match=r"has no model\.embed_tokens\.weight in safetensors"):
        eagle_convert.convert(str(source), tmp_path / "other", str(empty))


class _Code:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.place),)


def test_a_pickle_with_code_is_refused_and_not_run(target, tmp_path):
    _publish(tmp_path, random_head(target), target, "bin")
    torch.save({"fc.weight": _Code(tmp_path / "owned")}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="holds more than tensors"):
        eagle_convert.convert(str(tmp_path), tmp_path / "out")
    assert not (tmp_path / "owned").exists()
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_converted_is_one_sentence(target, tmp_path):
    source, taken = tmp_path / "source", tmp_path / "taken"
    source.mkdir()
    taken.mkdir()
    _publish(source, random_head(target), target, "bin")
    (taken / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not empty and is not overwritten"):
        eagle_convert.convert(str(source), taken)
    assert [file.name for file in taken.iterdir()] == ["mine.txt"]
    with pytest.raises(ModelError, match="neither a folder nor a hub id"):
        eagle_convert.convert("no such/head/here", tmp_path / "out")
    torch.save([torch.zeros(2)], source / "pytorch_model.bin")
    with pytest.raises(ModelError, match="not a table of tensors"):
        eagle_convert.convert(str(source), tmp_path / "out")
    (source / "pytorch_model.bin").write_bytes(b"damaged")
    with pytest.raises(ModelError, match="is damaged"):
        eagle_convert.convert(str(source), tmp_path / "out")


def test_the_command_line_says_mistakes_in_one_sentence(tmp_path, monkeypatch, capsys):
    arguments = ["eagle", "convert", "--input-model", str(tmp_path), "--output-model", str(tmp_path / "out")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit, match="2"):
        eagle_cli.main()
    assert "has no config.json" in (said := capsys.readouterr().err)
    assert said.startswith("Error: ")
    monkeypatch.setattr("sys.argv", ["eagle", "train", "--model", "ladder-1mm"])
    with pytest.raises(SystemExit, match="2"):
        eagle_cli.main()
    assert "did you mean 'ladder-1m'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def micro(micro_path):
    from transformers import AutoTokenizer

    model = Qwen2ForCausalLM.from_pretrained(micro_path, attn_implementation="eager").eval()
    return model.requires_grad_(False), AutoTokenizer.from_pretrained(micro_path)


def _lesson(model: PreTrainedModel, lengths: list[list[int]]) -> eagle_lessons.Lesson:
    generator = torch.Generator().manual_seed(5)
    vocabulary = model.config.vocab_size
    rows = [
        [Example(torch.randint(4, vocabulary, (length,), generator=generator).tolist()) for length in row]
        for row in lengths
    ]
    return eagle_lessons.lesson(model, rows)


def test_training_drafts_are_those_of_the_cached_head(micro):
    """Unrolling from all places at once, in packed rows, gives what drafting with the cache gives from each place."""
    model, _ = micro
    head = random_head(model)
    read = _lesson(model, [[9, 6], [11]])
    guesses = list(eagle_lessons.drafts(head, read, read.features, 3))
    begin, length = 9, 6  # the second document of the first row
    ids, features = read.ids[0, begin : begin + length], read.features[0, begin : begin + length]
    for place in range(length - 3):
        cache = head.new_cache(1, length + 3)
        prefix = torch.arange(place + 1)[None]
        guess = head(ids[None, 1 : place + 2], features[None, : place + 1], prefix, cache, prefix, None)[:, -1:]
        for depth in range(3):
            torch.testing.assert_close(guesses[depth][0, begin + place], guess[0, 0], rtol=1e-3, atol=1e-3)
            where = torch.tensor([[place + 1 + depth]])
            if depth < 2:
                guess = head(ids[None, place + depth + 2, None], guess, where, cache, where, None)


def test_the_loss_looks_at_true_successors_of_the_same_document_only(micro):
    """A head whose guesses are exactly the features that follow has the target's entropy as its loss, no more."""
    model, _ = micro
    read = _lesson(model, [[7, 5], [12]])
    head = random_head(model)
    documents = [(0, 0, 7), (0, 7, 5), (1, 0, 12)]  # row, begin, length
    guesses, entropies = [], []
    for depth in range(2):
        guess, laws = torch.full_like(read.features, 1e3), []  # absurd wherever the loss must not look
        for row, begin, length in documents:
            behind = slice(begin + depth + 1, begin + length)
            guess[row, begin : begin + length - depth - 1] = read.features[row, behind]
            laws.append(read.law[row, behind])
        guesses.append(guess)
        law = torch.cat(laws)
        entropies.append(-(law * law.clamp(min=1e-30).log()).sum(-1).mean())
    loss, agreement = _loss_with_guesses(head, read, guesses)
    assert loss.item() == pytest.approx(torch.stack(entropies).mean().item(), rel=2e-2)  # the law is bfloat16's
    assert min(agreement) > 0.9


def _loss_with_guesses(
    head: EagleHead, read: eagle_lessons.Lesson, guesses: list[Tensor]
) -> tuple[Tensor, list[float]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eagle_lessons, "drafts", lambda *_: iter(guesses))
        return eagle_lessons.loss_of(head, read, read.features, len(guesses), 1.0)


def test_every_weight_of_the_head_learns_and_none_of_the_target(micro):
    model, _ = micro
    head = random_head(model).requires_grad_(True)
    read = _lesson(model, [[12, 8]])
    loss, _ = eagle_lessons.loss_of(head, read, read.features, 2, 0.5)
    loss.backward()
    assert all(weight.grad is not None and weight.grad.abs().max() > 0 for weight in head.parameters())
    assert all(weight.grad is None for weight in model.parameters())


SHORT = replace(eagle_training.RECIPE, tokens=25_000, rows=2)


def _train(micro, inputs: str, recipe: eagle_training.Recipe) -> tuple[EagleHead, list[dict[str, float]]]:
    model, tokenizer = micro
    torch.manual_seed(0)
    head, steps = eagle_training.new_head(model), []
    with training.one_thread():
        eagle_training.start(head, model, tokenizer, recipe)
        stream = ladder.corpus_stream(tokenizer, 7)
        eagle_training.train(head, model, stream, recipe, steps.append, inputs)
    return head.eval().requires_grad_(False), steps


def test_a_short_training_lowers_the_loss_and_raises_agreement(micro):
    _, steps = _train(micro, "both", SHORT)
    early, late = steps[:5], steps[-5:]
    assert sum(step["loss"] for step in late) < 0.7 * sum(step["loss"] for step in early)
    assert sum(step["top1"] for step in late) > 5 * 0.25 > sum(step["top1"] for step in early)
    assert steps[-1]["tokens"] >= SHORT.tokens > steps[-2]["tokens"]


def test_the_learning_rate_warms_up_falls_and_is_lower_for_wider_targets():
    recipe = eagle_training.RECIPE
    narrow = [recipe.rate(128, step, done) for step, done in [(0, 0.0), (100, 0.2), (500, 0.9), (600, 1.0)]]
    assert narrow == pytest.approx([8e-3 / 20, 8e-3, 8e-3 * 0.2, 8e-3 * 0.03])
    assert recipe.rate(32, 100, 0.2) == pytest.approx(8e-3)
    assert recipe.rate(256, 100, 0.2) == pytest.approx(4e-3)


@pytest.mark.parametrize("inputs_read", ["feature", "token"])
def test_an_ablated_head_ignores_the_other_input(micro, inputs_read, monkeypatch):
    monkeypatch.setattr(eagle_training, "COPY_TASKS", 6)
    head, _ = _train(micro, inputs_read, replace(SHORT, tokens=2_000))
    ids, features, positions = inputs(5, hidden=32)
    other = (ids + 1, features) if inputs_read == "feature" else (ids, -features)
    same = (ids, -features) if inputs_read == "feature" else (ids + 1, features)

    def guess(ids: Tensor, features: Tensor) -> Tensor:
        return head(ids, features, positions, head.new_cache(1, 5), positions, None)

    torch.testing.assert_close(guess(*other), guess(ids, features))
    assert not torch.allclose(guess(*same), guess(ids, features), atol=1e-2)


def test_the_wired_head_finds_what_followed_before():
    """Untrained, on text that repeats: the wired attention head looks at the row of the token's last occurrence, and
    writes what followed, for a target whose features show the token."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=200, hidden_size=128, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64,
        tie_word_embeddings=True, rope_parameters={"rope_type": "default", "rope_theta": 1e6},
    )  # fmt: skip
    target = LlamaForCausalLM(config).requires_grad_(False)
    head = eagle_training.new_head(target)
    table, mix = target.get_input_embeddings().weight.detach(), torch.linalg.qr(torch.randn(128, 128))[0]
    every = torch.randint(200, (4000,))
    eagle_wiring.wire(head, 40 * table[every] @ mix, every)
    words = torch.randperm(200)[:20]
    ids = torch.cat([words, words])
    features = 40 * table[ids] @ mix  # f_j shows token j
    with torch.no_grad():
        x = head.fuse(ids[None, 1:], features[None, :-1])
        query, keys, values = head.project(x, *head.rotary(torch.arange(39)[None]))
        scores = query[0, 0] @ keys[0, 0].T * head.head_dim**-0.5
        shares = scores.masked_fill(~causal(39)[0, 0], -torch.inf).softmax(-1)
        written = head.logits(values[0, 0] @ head.out.weight[:, : head.head_dim].T)
    # Row t holds token t + 1; the row that holds what followed it is the one whose feature is of its last occurrence.
    wanted = shares[torch.arange(20, 39), torch.arange(20, 39) - 19]
    assert (shares[20:].argmax(-1) == torch.arange(20, 39) - 19).float().mean() > 0.8
    assert wanted.mean() > 0.3
    assert (written.argmax(-1) == ids[1:]).float().mean() > 0.9
