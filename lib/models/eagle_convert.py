"""Published EAGLE-1 heads into folders that current vLLM and our own loop load.

vLLM reads a published head of a Llama target as it is since 0.7. Three things still stand between it and others, and
each is put right without changing what the head computes:

* heads of Qwen2 targets name an architecture that vLLM has no EAGLE class for: the head is a Llama layer with biases on
  q, k, v, so it is announced as that (`LlamaForCausalLM`, `qkv_bias`);
* many heads have a bias b in fc, which vLLM drops without a word. It is moved into the layer, where fc's output x + b
  is read twice: by q, k, v, whose biases gain W b, and by the residual, which gains b as the bias of o_proj;
* some heads are pickles. They are read with `weights_only`, which runs no code, and written as safetensors.

The copies of the target's embedding and LM head that published heads carry are left out: they were not trained, and
engines use the target's own.
"""

import pickle
from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor
from transformers import LlamaForCausalLM

from lib.models import eagle_files, locate
from lib.models.eagle import EagleHead
from lib.models.eagle_files import CONFIG, SHARED, WEIGHTS
from lib.models.registry import HUB_ID, ModelError, resolve_name

PICKLE = "pytorch_model.bin"
ATTENTION = "layers.0.self_attn"


def convert(source: str, destination: Path, target: str | None = None) -> str:
    """Convert the head in a folder or hub repository into `destination`, which must be empty or new.

    Args:
        source: a folder with config.json and model.safetensors or pytorch_model.bin, or the hub id of one.
        target: the model the head drafts for; with it the head's copies of its tables are compared before they are
            dropped, and the result is marked as this target's.

    Returns:
        What was done, and whether vLLM needed it, in sentences.

    Raises:
        ModelError: one sentence, for everything that cannot be converted; nothing is written then.
    """
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ModelError(f"'{destination}' is not empty and is not overwritten: name a new folder.")
    folder = _folder(source)
    values, tensors = eagle_files.read_config(folder), _read(folder)
    config = eagle_files.head_config(values, tensors, folder)
    with torch.device("meta"):  # shapes only
        eagle_files.check(eagle_files.named_tensors(EagleHead(config, LlamaForCausalLM(config))), tensors, folder)
    marks = _check_target(tensors, Path(locate.folder(resolve_name(target))), folder) if target else {}
    own = {name: tensor for name, tensor in tensors.items() if name not in SHARED}
    if moved := "fc.bias" in own:
        own = move_bias(own)
        config.fc_bias, config.attention_bias, config.qkv_bias = False, True, True
    config.dtype = own["fc.weight"].dtype
    destination.mkdir(parents=True, exist_ok=True)
    eagle_files.write(destination, eagle_files.config_values(config) | marks, own)
    return _summary(values, moved, folder, destination)


def move_bias(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same head without a bias in fc: it goes to q, k, v and o_proj (see above), in float64 until the last step."""
    moved = dict(tensors)
    bias = moved.pop("fc.bias")
    for part in "qkv":
        gain = tensors[f"{ATTENTION}.{part}_proj.weight"].double() @ bias.double()
        old = tensors.get(f"{ATTENTION}.{part}_proj.bias", torch.zeros_like(gain))
        moved[f"{ATTENTION}.{part}_proj.bias"] = (old + gain).to(bias.dtype)
    old = tensors.get(f"{ATTENTION}.o_proj.bias", torch.zeros_like(bias))
    moved[f"{ATTENTION}.o_proj.bias"] = (old.double() + bias.double()).to(bias.dtype)
    return moved


def _summary(values: dict[str, object], moved: bool, folder: Path, destination: Path) -> str:
    """What was put right, or that nothing had to be."""
    done = []
    if (architectures := values.get("architectures")) != ["LlamaForCausalLM"]:
        done.append(f"it is announced as LlamaForCausalLM instead of {', '.join(architectures or ['nothing'])}")
    if moved:
        done.append("the bias of fc, which vLLM would drop, moved to q, k, v and o_proj")
    written = f"Wrote '{destination}'"
    if done:
        return f"{written}: {' and '.join(done)}."
    pickled = "" if (folder / WEIGHTS).exists() else ", and our own loop does once it is no pickle"
    return f"{written}, but for vLLM no conversion was needed: since 0.7 it loads this head as it is{pickled}."


def _folder(source: str) -> Path:
    """The folder of a head, from the hub if need be; a pickle is fetched only where there is nothing else."""
    if (folder := Path(source).expanduser()).is_dir():
        return folder
    if not HUB_ID.fullmatch(source):
        raise ModelError(f"'{source}' is neither a folder nor a hub id (owner/name): give the head to convert.")
    locate.check(source)
    try:
        folder = Path(snapshot_download(source, allow_patterns=[CONFIG, WEIGHTS]))
        return (
            folder if (folder / WEIGHTS).exists() else Path(snapshot_download(source, allow_patterns=[CONFIG, PICKLE]))
        )
    except Exception as error:  # the HTTP library's own classes change between releases of huggingface_hub
        raise ModelError(f"{source} could not be downloaded ({_first(error)}): give a folder.") from error


def _read(folder: Path) -> dict[str, Tensor]:
    """The tensors of a head, from safetensors where there are any."""
    if (folder / WEIGHTS).exists() or not (folder / PICKLE).exists():
        return eagle_files.read_weights(folder)
    try:
        tensors = torch.load(folder / PICKLE, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise ModelError(
            f"'{folder / PICKLE}' holds more than tensors, or is damaged, and is not read ({_first(error)}): "
            f"get a head in safetensors."
        ) from None
    if not isinstance(tensors, dict) or not all(isinstance(tensor, Tensor) for tensor in tensors.values()):
        raise ModelError(f"'{folder / PICKLE}' is not a table of tensors: get the head again.")
    return tensors


def _check_target(tensors: dict[str, Tensor], target: Path, folder: Path) -> dict[str, object]:
    """Compare the head's copies with the tables of a target's folder; what marks a head as this target's."""
    embedding = _tensor(target, "model.embed_tokens.weight")
    tables = {"embed_tokens.weight": embedding, "lm_head.weight": _tensor(target, "lm_head.weight", embedding)}
    for name in SHARED:
        if name in tensors and not eagle_files.same(tensors[name], tables[name]):
            raise ModelError(f"The {name} in '{folder}' is not that of '{target}': give the target it was trained for.")
    return eagle_files.mark(_tensor(target, "model.norm.weight"))


def _tensor(target: Path, name: str, otherwise: Tensor | None = None) -> Tensor:
    """One tensor of a target's folder, or `otherwise` where it has none of that name (an LM head that is tied)."""
    for file in sorted(target.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            if name in tensors.keys():  # noqa: SIM118 (a file, not a dictionary)
                return tensors.get_tensor(name)
    if otherwise is None:
        raise ModelError(f"'{target}' has no {name} in safetensors: give the folder of the target.")
    return otherwise


def _first(error: Exception) -> str:
    """The first line of what an error says."""
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__
