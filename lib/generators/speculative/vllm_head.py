"""What vLLM would make of an EAGLE head's folder, found out before an engine is built for it.

vLLM never says what it leaves out: a bias in the file that config.json does not announce is dropped, and the head then
drafts worse without a word. Other mistakes come out as a traceback from the middle of a load. Only names and shapes are
looked at here, in the header of the safetensors, so that the check takes no time and needs no torch.
"""

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lib.models.registry import ModelError

CONVERT = "python -m lib.models.eagle convert writes the same weights in a form that it loads"


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a head, without the wrapper of old converters; ModelError where there is none."""
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise ModelError(f"'{folder}' has no config.json, so it holds no EAGLE head: give a head's folder.") from None
    except ValueError:
        raise ModelError(f"'{folder / 'config.json'}' is not JSON: get the head again.") from None
    return values.get("model", values) if values.get("model_type") == "eagle" else values


def eagle_method(values: dict[str, Any]) -> str:
    """vLLM's name for the kind of head that a config.json describes: "eagle" or "eagle3"."""
    architectures = values.get("architectures") or [""]
    third = "eagle3" in architectures[0].lower() or values.get("speculators_model_type") == "eagle3"
    return "eagle3" if third or "draft_vocab_size" in values else "eagle"


def architecture(values: dict[str, Any], method: str) -> str:
    """The name under which vLLM looks a head up in its registry: it puts Eagle or Eagle3 before the target's."""
    name = (values.get("architectures") or ["?"])[0]
    prefix = method.capitalize()
    return name if name.startswith(prefix) or (method == "eagle3" and name.endswith("Eagle3")) else prefix + name


def check_registered(values: dict[str, Any], method: str, registered: Collection[str], version: str) -> None:
    """ModelError unless vLLM has a class for a head; heads in the format of `speculators` are translated by vLLM."""
    name = architecture(values, method)
    if name not in registered and "speculators_model_type" not in values:
        raise ModelError(f"vLLM {version} has no {name}, so it cannot load this head: {CONVERT}.")


def check_head(folder: Path, target: dict[str, Any]) -> None:
    """ModelError where vLLM would load an EAGLE-1 head wrongly or not at all; a head of EAGLE-3 is left to vLLM.

    Args:
        folder: of the head.
        target: the target's config.json.
    """
    values = read_config(folder)
    if eagle_method(values) == "eagle3":
        return
    shapes = _shapes(folder)
    for kind, announced in (("qkv", _qkv_bias(values)), ("out", _attention_bias(values))):
        _check_bias(folder, shapes, kind, announced)
    if "fc.bias" in shapes:
        raise ModelError(f"The head in '{folder}' has fc.bias, for which vLLM has no place: {CONVERT}.")
    _check_fc(folder, shapes, target)


def _shapes(folder: Path) -> dict[str, list[int]]:
    """Shape of every tensor in a head's safetensors, by name."""
    try:
        with safe_open(folder / "model.safetensors", framework="np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.offset_keys()}
    except FileNotFoundError:
        raise ModelError(f"'{folder}' has no model.safetensors, and a pickle is not read: {CONVERT}.") from None
    except SafetensorError as error:
        raise ModelError(f"'{folder / 'model.safetensors'}' is damaged ({error}): get the head again.") from None


def _attention_bias(values: dict[str, Any]) -> bool:
    return bool(values.get("attention_bias") or values.get("bias"))


def _qkv_bias(values: dict[str, Any]) -> bool:
    """vLLM's Llama: qkv_bias where it is given, else what holds for o_proj too."""
    return bool(values.get("qkv_bias", _attention_bias(values)))


def _check_bias(folder: Path, shapes: dict[str, list[int]], kind: str, announced: bool) -> None:
    """Biases of q, k, v ("qkv") or of o_proj ("out") are in the file exactly if config.json announces them."""
    parts = "qkv" if kind == "qkv" else "o"
    found = [f"{part}_proj.bias" for part in parts if f"layers.0.self_attn.{part}_proj.bias" in shapes]
    field = "qkv_bias" if kind == "qkv" else "attention_bias"
    if found and not announced:
        raise ModelError(
            f"The head in '{folder}' has {found[0]}, which its config.json does not announce and vLLM would drop "
            f"without a word: set {field} to true."
        )
    if announced and len(found) < len(parts):
        raise ModelError(f"The config.json in '{folder}' announces {field}, but the file has none: set it to false.")


def _check_fc(folder: Path, shapes: dict[str, list[int]], target: dict[str, Any]) -> None:
    """fc joins an embedding and a feature of the target into one of the head's inputs."""
    hidden = target["hidden_size"]
    if shapes.get("fc.weight") != [hidden, 2 * hidden]:
        raise ModelError(
            f"The head in '{folder}' has fc.weight {shapes.get('fc.weight')} where this target needs "
            f"{[hidden, 2 * hidden]}: give the head of this target."
        )
