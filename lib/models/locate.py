"""From a canonical model name to a folder on this machine, and one sentence when there is none.

A model of ours is trained on first use, a folder is itself, and a hub id is looked up in the local Hugging Face cache
first, so that a model downloaded once needs no network; only then is the hub asked. `check` asks it one short question,
because huggingface_hub's download retries for about 25 s before it says that there is no network.
"""

import json
from pathlib import Path

from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from lib.models.registry import PAIR, ModelError, is_trained_here, lookup, nearest

HUB_SECONDS = 5.0  # an answer takes well under a second where there is a network
FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja"]  # no pickles
PICKLE = "pytorch_model.bin"  # of heads alone, and read with weights_only
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt")
INSTEAD = "use 'ladder-1m', which needs no hub"


def check(name: str) -> None:
    """Raise ModelError unless `folder` can be expected to find or get the model; downloads and trains nothing."""
    if is_trained_here(name) or Path(name).is_absolute() or cached(name):
        return
    try:
        get_hf_file_metadata(hf_hub_url(name, "config.json"), timeout=HUB_SECONDS)
    except Exception as error:  # the HTTP library's own classes change between releases of huggingface_hub
        raise ModelError(_why_not(name, error)) from error


def folder(name: str, trust_remote_code: bool = False) -> Path:
    """The folder that holds the model of a canonical name, downloaded or trained if need be.

    With `trust_remote_code` the Python files of a hub model are downloaded too. Raises ModelError, in one sentence
    that says where it was looked for and what to type instead.
    """
    if is_trained_here(name):
        from lib.models import bridge_pair, ladder

        return (bridge_pair if name in PAIR else ladder).path(name)
    if Path(name).is_absolute():
        return Path(name)
    if place := cached(name):
        return place
    patterns = [*FILES, "*.py"] if trust_remote_code else FILES
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, ignore_patterns=["original/*"]))
    except Exception as error:  # as in check
        raise ModelError(_why_not(name, error)) from error


def head_folder(name: str) -> Path:
    """The folder of a checkpoint without a tokenizer of its own, such as an EAGLE head, downloaded if need be.

    Published heads are often pickles only: where the hub has no safetensors, the pickle is downloaded, for
    `python -m lib.models.eagle convert` to read. Raises ModelError, in one sentence, when it cannot be had.
    """
    if Path(name).is_absolute():
        return Path(name)
    config = try_to_load_from_cache(name, "config.json", cache_dir=constants.HF_HUB_CACHE)
    if isinstance(config, str) and _has_tensors(Path(config).parent):
        return Path(config).parent
    check(name)
    try:
        place = Path(snapshot_download(name, allow_patterns=FILES))
        return place if _has_tensors(place) else Path(snapshot_download(name, allow_patterns=[*FILES, PICKLE]))
    except Exception as error:  # as in check
        raise ModelError(_why_not(name, error)) from error


def cached(hub_id: str) -> Path | None:
    """The snapshot of a hub model in the local cache when it is complete, else None; asks no network."""
    config = try_to_load_from_cache(hub_id, "config.json", cache_dir=constants.HF_HUB_CACHE)
    if not isinstance(config, str):
        return None
    snapshot = Path(config).parent
    has_tokenizer = any((snapshot / name).exists() for name in TOKENIZERS)
    return snapshot if has_tokenizer and _has_weights(snapshot) else None


def _has_tensors(snapshot: Path) -> bool:
    """Whether all safetensors of a head are there, or its pickle."""
    return _has_weights(snapshot) or (snapshot / PICKLE).exists()


def _has_weights(snapshot: Path) -> bool:
    """Whether the safetensors are there: one file, or every file that the index names."""
    if (snapshot / "model.safetensors").exists():
        return True
    index = snapshot / "model.safetensors.index.json"
    if not index.exists():
        return False
    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((snapshot / shard).exists() for shard in shards)


def _why_not(hub_id: str, error: Exception) -> str:
    """The sentence for a hub id that cannot be had; the order matters, the classes inherit from one another."""
    cache = f"the cache ({constants.HF_HUB_CACHE})"
    if isinstance(error, GatedRepoError):
        page = entry.licence if (entry := lookup(hub_id)) else f"https://huggingface.co/{hub_id}"
        return (
            f"{hub_id} is gated and not in {cache}: accept its licence at {page} and log in with 'hf auth login', "
            f"or {INSTEAD}."
        )
    if isinstance(error, RepositoryNotFoundError):
        return (
            f"{hub_id} is neither a folder here, nor in {cache}, nor a public model on the hub: "
            f"the nearest known name is '{nearest(hub_id)}'."
        )
    if isinstance(error, EntryNotFoundError) and not isinstance(error, LocalEntryNotFoundError):
        return f"{hub_id} is on the hub but has no config.json, so transformers cannot load it: {INSTEAD}."
    return (
        f"{hub_id} is neither a folder here nor in {cache}, and the hub could not be asked ({_reason(error)}): "
        f"download it on a machine with a network and pass its folder, or {INSTEAD}."
    )


def _reason(error: Exception) -> str:
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return first.rstrip(".")
