"""EAGLE-1 heads on disk: the published layout, which vLLM loads as it is, with the checks that vLLM does not make.

A head is a folder with `config.json`, a Llama configuration of one layer, and `model.safetensors`, whose tensors are
named as in the published heads: `fc.weight`, `layers.0.self_attn.q_proj.weight`, ... without embedding and LM head,
which are the target's. vLLM takes biases that config.json does not announce for rubbish and drops them without a word,
and never asks whose head it is; a wrong head is lossless, only slow. So here config and tensors must agree, and a head
of ours carries a part of its target's final norm, by which another target is told.
"""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import LlamaConfig, PreTrainedModel

from lib.models.eagle import EagleHead
from lib.models.registry import ModelError

CONFIG, WEIGHTS = "config.json", "model.safetensors"
SHARED = ("embed_tokens.weight", "lm_head.weight")  # published heads may carry copies of the target's
FIELDS = (
    "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads", "head_dim",
    "max_position_embeddings", "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "attention_bias",
    "qkv_bias",
)  # fmt: skip
NEEDED = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")
MARK = "target_norm"  # in config.json; vLLM does not mind
FINGERPRINT = 16  # weights of the target's final norm: fine-tuning moves each of them
SAME = 1e-2  # relative; half precision rounds to 4e-3, a minute of fine-tuning moves some weight by more


def save(head: EagleHead, folder: Path, target: PreTrainedModel) -> None:
    """Write a head, and what tells its target, into an existing folder, in the layout that vLLM loads.

    Raises ValueError for a head with a bias in fc, which vLLM does not have (`lib.models.eagle_convert` moves it).
    """
    if head.fc.bias is not None:
        raise ValueError("vLLM's EAGLE head has no bias in fc: convert the head, which moves the bias elsewhere.")
    tensors = {name: tensor.detach() for name, tensor in named_tensors(head).items()}
    head.config.dtype = head.fc.weight.dtype
    write(folder, config_values(head.config) | mark(target.base_model.norm.weight), tensors)


def write(folder: Path, values: dict[str, object], tensors: dict[str, Tensor]) -> None:
    """The two files of a head, into an existing folder."""
    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(whole, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(values, indent=1), encoding="utf-8")


def config_values(config: LlamaConfig) -> dict[str, object]:
    """The config.json of a head: everything that vLLM reads of one."""
    return {
        "architectures": ["LlamaForCausalLM"],  # vLLM has no EagleQwen2ForCausalLM; this one runs both
        "model_type": "llama",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": 1,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": config.rope_parameters,
        "rope_theta": config.rope_parameters["rope_theta"],
        "attention_bias": config.attention_bias,
        "qkv_bias": getattr(config, "qkv_bias", config.attention_bias),
        "mlp_bias": False,
        "tie_word_embeddings": config.tie_word_embeddings,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.pad_token_id,
        "dtype": str(config.dtype).removeprefix("torch."),
    }


def named_tensors(head: EagleHead) -> dict[str, Tensor]:
    """A head's weights by their published names: views, so that writing into them writes into the head."""
    attention, mlp = "layers.0.self_attn", "layers.0.mlp"
    width, kv_width = head.heads * head.head_dim, head.kv_heads * head.head_dim
    joined = [
        (head.fc, ["fc"], [head.config.hidden_size]),
        (head.qkv, [f"{attention}.{part}_proj" for part in "qkv"], [width, kv_width, kv_width]),
        (head.out, [f"{attention}.o_proj"], [head.config.hidden_size]),
        (head.gate_up, [f"{mlp}.gate_proj", f"{mlp}.up_proj"], [head.config.intermediate_size] * 2),
        (head.down, [f"{mlp}.down_proj"], [head.config.hidden_size]),
    ]
    found = {"layers.0.post_attention_layernorm.weight": head.norm}
    for linear, names, widths in joined:
        for kind, tensor in linear.named_parameters():
            parts = tensor.split(widths)
            found |= {f"{name}.{kind}": part for name, part in zip(names, parts, strict=True)}
    return found


def load(folder: Path | str, target: PreTrainedModel) -> EagleHead:
    """The head in a folder, ready to draft for `target`: in eval mode, in its dtype and on its device.

    Raises ModelError, one sentence, where the folder holds no head, where config.json and the tensors disagree, and for
    the head of another target.
    """
    folder = Path(folder)
    values, tensors = read_config(folder), read_weights(folder)
    marked, needed = values.get(MARK), mark(target.base_model.norm.weight)[MARK]
    if marked and not same(torch.tensor(marked), torch.tensor(needed)):
        raise ModelError(f"The EAGLE head in '{folder}' was trained for another target: {ADVICE}.")
    return build(values, tensors, target, folder)


ADVICE = "give an EAGLE-1 head of the target, or train one of a ladder model (python -m lib.models.eagle train)"


def build(values: dict[str, object], tensors: dict[str, Tensor], target: PreTrainedModel, folder: Path) -> EagleHead:
    """A head from a published config and tensors, which must fit each other and the target; ModelError otherwise.

    `tensors` may hold copies of the target's embedding and LM head: equal ones are dropped.
    """
    config = head_config(values, tensors, folder)
    for field in ("hidden_size", "vocab_size"):
        has, needs = getattr(config, field), getattr(target.config, field)
        if has != needs:
            raise ModelError(f"The EAGLE head in '{folder}' has {field} {has} and the target {needs}: {ADVICE}.")
    tables = (target.get_input_embeddings(), target.get_output_embeddings())
    for name, table in zip(SHARED, tables, strict=True):
        if name in tensors and not same(tensors[name], table.weight.detach()):
            raise ModelError(f"The EAGLE head in '{folder}' has another {name} than the target: {ADVICE}.")
    head = EagleHead(config, target)
    places = named_tensors(head)
    check(places, tensors, folder)
    with torch.no_grad():
        for name, place in places.items():
            place.copy_(tensors[name])
    return head.eval().requires_grad_(False)


def head_config(values: dict[str, object], tensors: dict[str, Tensor], folder: Path) -> LlamaConfig:
    """The configuration of a head from what its config.json says; ModelError where it is not that of an EAGLE-1 head.

    A Qwen2 head has biases on q, k and v without saying so. A bias in fc is announced nowhere: it is where it is.
    """
    if missing := [field for field in NEEDED if field not in values]:
        raise ModelError(f"'{folder / CONFIG}' lacks {missing[0]}, so it describes no EAGLE head: {ADVICE}.")
    if values.get("num_hidden_layers", 1) != 1 or "fc.weight" not in tensors:
        raise ModelError(f"'{folder}' holds no EAGLE-1 head, which is one layer and fc.weight: {ADVICE}.")
    if values.get("hidden_act", "silu") != "silu":
        raise ModelError(f"The head in '{folder}' uses {values['hidden_act']}, not SiLU: this format is not supported.")
    known = {field: values[field] for field in FIELDS if values.get(field) is not None}
    if values.get("model_type") == "qwen2" or "Qwen2ForCausalLM" in values.get("architectures", ()):
        known.setdefault("qkv_bias", True)
    return LlamaConfig(**known, num_hidden_layers=1, fc_bias="fc.bias" in tensors)


def read_config(folder: Path) -> dict[str, object]:
    """What config.json of a head says; the wrapper that old converters put around it is taken off."""
    try:
        values = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"'{folder}' has no {CONFIG}, so it holds no EAGLE head: {ADVICE}.") from None
    except ValueError:
        raise ModelError(f"'{folder / CONFIG}' is not JSON: get the head again.") from None
    return values.get("model", values) if values.get("model_type") == "eagle" else values


def read_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of a head in safetensors, on the CPU."""
    try:
        return load_file(folder / WEIGHTS)
    except FileNotFoundError:
        hint = "convert the pickle in it with python -m lib.models.eagle convert" if _pickled(folder) else ADVICE
        raise ModelError(f"'{folder}' has no {WEIGHTS}: {hint}.") from None
    except SafetensorError as error:
        raise ModelError(f"'{folder / WEIGHTS}' is damaged ({error}): get the head again.") from None


def _pickled(folder: Path) -> bool:
    return any(folder.glob("*.bin"))


def check(places: dict[str, Tensor], tensors: dict[str, Tensor], folder: Path) -> None:
    """ModelError unless all tensors that the config announces are there, in their shapes, and no others but SHARED."""
    extra, missing = sorted(tensors.keys() - places.keys() - set(SHARED)), sorted(places.keys() - tensors.keys())
    if extra and extra[0].endswith(".bias"):
        raise ModelError(
            f"The head in '{folder}' has {extra[0]}, which its {CONFIG} does not announce and engines would drop: "
            f"set qkv_bias (for q, k, v) or attention_bias (for o_proj as well) to true."
        )
    if extra:
        raise ModelError(f"The head in '{folder}' has {extra[0]}, which no EAGLE-1 head has: {ADVICE}.")
    if missing:
        raise ModelError(f"The head in '{folder}' lacks {missing[0]}, which its {CONFIG} announces: get it again.")
    for name, place in places.items():
        has, needs = list(tensors[name].shape), list(place.shape)
        if has != needs:
            raise ModelError(f"In '{folder}' {name} has shape {has} where {CONFIG} makes it {needs}: get it again.")


def mark(norm: Tensor) -> dict[str, object]:
    """What tells a target by the weights of its final norm."""
    return {MARK: norm.detach()[:FINGERPRINT].float().tolist()}


def same(first: Tensor, second: Tensor) -> bool:
    """Whether two tensors are equal up to the rounding of half precision."""
    return first.shape == second.shape and torch.allclose(first.float(), second.float().cpu(), rtol=SAME, atol=1e-4)
