"""Loading a model by any name, one at a time, with one sentence for everything that can go wrong.

Every name ends as a folder on this machine (`lib.models.locate`), which is then loaded without the network.
`with loaded(name) as lm:` frees the model at the end, so that a grid of models needs the memory of its largest only.

Only safetensors are read, never pickles. With dtype "auto" the weights are float32 on a CPU, where half precision is
slow and small differences between arms would be rounding; on a GPU they are float16 as the experiments ask, except of
models trained here, which are float32 everywhere. Ask for bfloat16 where a model overflows float16, or to halve memory
on a CPU.
"""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig, PreTrainedTokenizerFast

from lib.models import bars, devices, locate
from lib.models import dummy as dummies
from lib.models.memory import capacity, explain_oom, is_oom
from lib.models.registry import (
    ENTRIES,
    Entry,
    ModelError,
    bytes_per_parameter,
    gigabytes,
    is_trained_here,
    lookup,
    resolve_name,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

HALVE = "dtype to float16 or bfloat16"
SMALL = 0.1  # GB: less than that is loaded without a word or a bar, as nobody waits for it
LOADING_ERRORS = (OSError, ValueError, RuntimeError, KeyError, ImportError, SafetensorError)


@dataclass
class LoadedModel:
    """A model ready to run: `model` in eval mode with sdpa attention on `device`, in `dtype`.

    `stop_ids` is the union of the end-of-text ids of the tokenizer and of the generation config, sorted: generation
    ends at any of them, in every arm. `dummy` marks random weights, good for cost only. `parameters` counts tied
    embeddings once; `non_embedding_parameters` leaves out the input embedding and the LM head.
    """

    name: str
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    entry: Entry | None
    dtype: torch.dtype
    device: torch.device
    parameters: int
    non_embedding_parameters: int
    stop_ids: tuple[int, ...]
    dummy: bool

    def free(self) -> None:
        """Give the weights' memory back; `model` can no longer be used."""
        del self.model
        gc.collect()
        torch.cuda.empty_cache()


@dataclass(frozen=True)
class Outline:
    """What can be said of a model without its weights.

    `folder` is None for a model made of random weights; `dtype` is what "auto" would load it in; `context` is its
    number of positions.
    """

    name: str
    folder: Path | None
    tokenizer: "PreTrainedTokenizerBase"
    stop_ids: tuple[int, ...]
    parameters: int
    context: int
    dtype: str


def outline(name: str, trust_remote_code: bool = False) -> Outline:
    """The outline of a model by any name, for an engine that loads the weights itself; ModelError as for `load`."""
    name = resolve_name(name)
    entry = lookup(name)
    locate.check(name)
    folder = locate.folder(name, trust_remote_code)
    try:
        tokenizer = _tokenizer(folder, trust_remote_code)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        generation = GenerationConfig.from_pretrained(folder) if (folder / "generation_config.json").exists() else None
        parameters = entry.parameters if entry else _size(folder, trust_remote_code)
    except LOADING_ERRORS as error:
        raise ModelError(_why_not(folder, error)) from error
    stops, dtype = _stop_ids(generation, tokenizer), _dtype("auto", name, devices.choose("auto"))
    return Outline(name, folder, tokenizer, stops, parameters, config.max_position_embeddings, dtype)


def outline_of(lm: LoadedModel) -> Outline:
    """The outline of a model that is loaded."""
    folder = None if lm.dummy else locate.folder(lm.name)
    dtype, context = str(lm.dtype).removeprefix("torch."), lm.model.config.max_position_embeddings
    return Outline(lm.name, folder, lm.tokenizer, lm.stop_ids, lm.parameters, context, dtype)


@contextmanager
def loaded(name: str, **options: Any) -> Iterator[LoadedModel]:
    """`load(name, **options)` for the length of a with block; afterwards the model is freed."""
    lm = load(name, **options)
    try:
        yield lm
    finally:
        lm.free()


def load(
    name: str,
    dtype: str = "auto",
    device: str = "auto",
    load_format: str = "auto",
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a model trained here, a registered model, a hub id or a folder; say on stderr how many GB it needs before.

    `dtype`: auto, float32, float16 or bfloat16; `device`: auto, cpu, cuda, cuda:1, ...; `load_format`: auto, or dummy
    for random weights of a registered architecture. Raises ModelError, one sentence, when the model cannot be had.
    """
    name = resolve_name(name)
    entry, place = lookup(name), devices.choose(device)
    dtype = _dtype(dtype, name, place)
    if load_format not in ("auto", "dummy"):
        raise ModelError(f"load_format is {load_format!r}: use 'auto', or 'dummy' for random weights.")
    with explain_oom(HALVE if dtype == "float32" else "what else runs on that device"):
        if load_format == "dummy":
            model, tokenizer = _random(name, entry, dtype, place)
        else:
            model, tokenizer = _trained(name, entry, dtype, place, trust_remote_code)
    total, non_embedding = count_parameters(model)
    return LoadedModel(
        name=name,
        model=model,
        tokenizer=tokenizer,
        entry=entry,
        dtype=model.dtype,
        device=place,
        parameters=total,
        non_embedding_parameters=non_embedding,
        stop_ids=_stop_ids(model.generation_config, tokenizer),
        dummy=load_format == "dummy",
    )


def count_parameters(model: "PreTrainedModel") -> tuple[int, int]:
    """All parameters, and those outside the input embedding and the LM head; tied ones count once."""
    total = sum(p.numel() for p in model.parameters())
    tables = {m.weight for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m is not None}
    return total, total - sum(table.numel() for table in tables)


def _dtype(dtype: str, name: str, device: torch.device) -> str:
    if dtype == "auto":
        return "float16" if device.type == "cuda" and not is_trained_here(name) else "float32"
    bytes_per_parameter(dtype)
    return dtype


def _announce(name: str, parameters: int, dtype: str, device: torch.device) -> None:
    """Say how large the weights are, where they are large, and refuse those that exceed the device's whole memory."""
    needed, there = gigabytes(parameters, dtype), capacity(device) / 1e9
    size = f"{needed:.3g} GB" if needed >= 0.1 else f"{1000 * needed:.2g} MB"
    if needed >= SMALL:
        print(f"Loading {name}: {size} of weights in {dtype} on {device}", file=sys.stderr, flush=True)
    if needed > there:
        advice = f"lower {HALVE}, or take" if dtype == "float32" else "take"
        raise ModelError(f"{name} needs {size} and {device} has {there:.3g} GB: {advice} a smaller model.")


def _random(
    name: str, entry: Entry | None, dtype: str, device: torch.device
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    if entry is None:
        names = ", ".join(e.name for e in ENTRIES)
        raise ModelError(f"load_format=dummy needs a registered architecture and '{name}' is none: use one of {names}.")
    _announce(f"{name} with random weights", entry.parameters, dtype, device)
    model = dummies.model(entry, getattr(torch, dtype), device)
    return model, dummies.tokenizer(entry.vocab)


def _trained(
    name: str, entry: Entry | None, dtype: str, device: torch.device, trust_remote_code: bool
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The model and tokenizer of a canonical name. A registered model's size is announced before the download."""
    locate.check(name)
    if entry:
        _announce(name, entry.parameters, dtype, device)
    folder = locate.folder(name, trust_remote_code)
    try:
        if not entry:
            _announce(name, _size(folder, trust_remote_code), dtype, device)
        tokenizer = _tokenizer(folder, trust_remote_code)
        return _weights(folder, dtype, device, trust_remote_code), tokenizer
    except ModelError:
        raise
    except LOADING_ERRORS as error:
        if is_oom(error):
            raise
        raise ModelError(_why_not(folder, error)) from error


def _size(folder: Path, trust_remote_code: bool) -> int:
    """Parameters of the architecture in a folder's config.json, which must be a causal language model."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return count_parameters(AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code))[0]


def _tokenizer(folder: Path, trust_remote_code: bool) -> "PreTrainedTokenizerBase":
    """The folder's tokenizer, exactly as its tokenizer.json says.

    AutoTokenizer puts Qwen2's own pre-tokenizer in place of the one saved beside any Qwen2 model (and, where the files
    are missing, makes up a tokenizer without words), so it is only for folders without a tokenizer.json.
    """
    kind = PreTrainedTokenizerFast if (folder / "tokenizer.json").exists() else AutoTokenizer
    tokenizer = kind.from_pretrained(folder, trust_remote_code=trust_remote_code, local_files_only=True)
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"'{folder}' holds no tokenizer: save one beside the model with tokenizer.save_pretrained.")
    return tokenizer


def _weights(folder: Path, dtype: str, device: torch.device, trust_remote_code: bool) -> "PreTrainedModel":
    """The model with its trained weights; transformers only warns when some are missing and leaves those random."""
    if not any(folder.glob("*.safetensors")):
        raise ModelError(f"'{folder}' holds no .safetensors weights (pickled ones are not read): save it again.")
    large = sum(file.stat().st_size for file in folder.glob("*.safetensors")) >= SMALL * 1e9
    with nullcontext() if large else bars.hidden():
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            device_map=device,
            attn_implementation="sdpa",
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    if missing := sorted(report["missing_keys"]):
        raise ModelError(f"'{folder}' lacks {len(missing)} of its weights, {missing[0]} first: copy it again whole.")
    return model.eval()


def _why_not(folder: Path, error: BaseException) -> str:
    reason = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, SafetensorError):
        return f"The weights in '{folder}' are damaged ({reason}): delete that folder and get the model again."
    if "configuration class" in reason:
        return f"'{folder}' is not a causal language model that transformers knows: give one with a causal LM head."
    if "trust_remote_code" in str(error):
        return f"'{folder}' brings its own code: read it, then set trust_remote_code=True to run it."
    if "does not support an attention implementation" in reason:
        return f"'{folder}' is of an architecture without SDPA attention: give a newer one, such as Qwen2 or Llama."
    first = reason.split(". ")[0]
    return f"The model in '{folder}' cannot be loaded ({first}): check the folder, or get the model again."


def _stop_ids(generation: GenerationConfig | None, tokenizer: "PreTrainedTokenizerBase") -> tuple[int, ...]:
    declared = [tokenizer.eos_token_id]
    if generation is not None:
        ids = generation.eos_token_id
        declared += ids if isinstance(ids, list) else [ids]
    return tuple(sorted({int(i) for i in declared if i is not None}))
