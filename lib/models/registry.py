"""What a model name means: models trained here, short names of published models, hub ids and folders.

A run is configured, listed and refused by names long before any model is loaded, so nothing here imports torch or
transformers at module level. `resolve_name` turns what a user typed into the one canonical name that goes into a
configuration (so that `Qwen2.5-7B` and `Qwen/Qwen2.5-7B-Instruct` are the same cell); `lookup` gives the dimensions of
the published models. Those were read from each model's config.json (the copy read is in `Entry.source`), and
`parameter_count` derives the totals from them: a test holds it against the published total and against the model that
transformers builds.
"""

import difflib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

Family = Literal["qwen2", "qwen3", "llama"]

BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}

# Names of lib.models.ladder and lib.models.bridge_pair, repeated here so that checking a name needs no torch; a test
# compares them.
LADDER = ("ladder-micro", "ladder-60k", "ladder-160k", "ladder-1m", "ladder-3m", "ladder-10m")
SKILLS = ("arithmetic", "copyedit")
PAIR = ("bridge-source", "bridge-target", "bridge-micro-source", "bridge-micro-target")

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


class ModelError(ValueError):
    """A model that cannot be had, or a name that means none; the message is one sentence for the user."""


@dataclass(frozen=True)
class Entry:
    """A published model: where it is, how large it is, what it needs.

    `gpus` is a number of cards of `gpu_gb` GB that hold the weights in `dtype` with a fifth to spare for
    caches and activations (the seeds ask 1 for 7-8B, 2-4 for 32B, 4 for 70-72B). A `gated` model is downloaded only
    after its licence was accepted. `rope_factor` is the long-context factor of Llama 3.1 and 3.2.
    """

    name: str
    hub_id: str
    family: Family
    parameters: int  # published total (safetensors metadata of the hub), embeddings counted once when tied
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    tied: bool
    positions: int
    source: str
    rope_factor: float | None = None
    dtype: str = "float16"  # what the experiments ask for on GPUs
    gpus: int = 1
    gpu_gb: int = 80
    gated: bool = False

    @property
    def licence(self) -> str:
        """The page that shows the licence and, for a gated model, on which access is asked for."""
        return f"https://huggingface.co/{self.hub_id}"

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the input embedding and, unless tied to it, of the LM head."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def non_embedding_parameters(self) -> int:
        """Parameters of the decoder layers and the last norm: the count that FLOPs per token scale with."""
        return self.parameters - self.embedding_parameters

    def config(self) -> "PreTrainedConfig":
        """The transformers configuration of this model: same shapes, rotary frequencies and norms, no weights."""
        from transformers import AutoConfig

        fields = {
            "vocab_size": self.vocab,
            "hidden_size": self.hidden,
            "intermediate_size": self.intermediate,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "max_position_embeddings": self.positions,
            "tie_word_embeddings": self.tied,
            "rms_norm_eps": 1e-5 if self.family == "llama" else 1e-6,
            "rope_parameters": self._rope(),
        }
        if self.family != "qwen2":  # Qwen2 has no such field: there the size is always hidden / heads
            fields["head_dim"] = self.head_dim
        return AutoConfig.for_model(self.family, **fields)

    def _rope(self) -> dict[str, float | str]:
        theta = 500_000.0 if self.family == "llama" else 1_000_000.0
        if self.rope_factor is None:
            return {"rope_type": "default", "rope_theta": theta}
        return {
            "rope_type": "llama3",
            "rope_theta": theta,
            "factor": self.rope_factor,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        }


def parameter_count(entry: Entry) -> int:
    """Total parameters from the dimensions alone, for the Qwen2, Qwen3 and Llama architectures.

    Grouped-query attention with a bias on Q, K and V in Qwen2 only and an RMSNorm per head size on Q and K in Qwen3
    only; a gated MLP of three matrices; two RMSNorms per layer and one at the end.
    """
    q_width, kv_width = entry.heads * entry.head_dim, entry.kv_heads * entry.head_dim
    attention = 2 * entry.hidden * q_width + 2 * entry.hidden * kv_width
    qkv_bias = q_width + 2 * kv_width if entry.family == "qwen2" else 0
    qk_norm = 2 * entry.head_dim if entry.family == "qwen3" else 0
    mlp = 3 * entry.hidden * entry.intermediate
    layer = attention + qkv_bias + qk_norm + mlp + 2 * entry.hidden
    return entry.embedding_parameters + entry.layers * layer + entry.hidden


def gigabytes(parameters: int, dtype: str) -> float:
    """Size of the weights in GB (1e9 bytes) in `dtype`: float32, float16 or bfloat16; ModelError for another dtype."""
    return parameters * bytes_per_parameter(dtype) / 1e9


def bytes_per_parameter(dtype: str) -> int:
    """Bytes of one weight; ModelError for a dtype that is not float32, float16 or bfloat16."""
    if dtype not in BYTES:
        raise ModelError(f"{dtype!r} is not a dtype that models are loaded in: use {', '.join(BYTES)}.")
    return BYTES[dtype]


# Columns as in Entry: name, hub id, family, parameters / layers, hidden, intermediate, heads, kv_heads, head_dim,
# vocab, tied, positions / source. A source names the copy of config.json that was read: owner/repository on the model
# hub unless said otherwise; the totals are the ones the hub lists for each id.
ENTRIES = (
    Entry("Qwen2.5-0.5B", "Qwen/Qwen2.5-0.5B-Instruct", "qwen2", 494_032_768,
          24, 896, 4864, 14, 2, 64, 151_936, True, 32_768,
          "unsloth/Qwen2.5-0.5B-Instruct", gpu_gb=16),
    Entry("Qwen2.5-1.5B", "Qwen/Qwen2.5-1.5B-Instruct", "qwen2", 1_543_714_304,
          28, 1536, 8960, 12, 2, 128, 151_936, True, 32_768,
          "onnx-community/Qwen2.5-1.5B-Instruct", gpu_gb=16),
    Entry("Qwen2.5-3B", "Qwen/Qwen2.5-3B-Instruct", "qwen2", 3_085_938_688,
          36, 2048, 11_008, 16, 2, 128, 151_936, True, 32_768,
          "unsloth/Qwen2.5-3B-Instruct", gpu_gb=16),
    Entry("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct", "qwen2", 7_615_616_512,
          28, 3584, 18_944, 28, 4, 128, 152_064, False, 32_768,
          "osllmai-community/Qwen2.5-7B-Instruct", gpu_gb=24),
    Entry("Llama-3.2-1B", "meta-llama/Llama-3.2-1B-Instruct", "llama", 1_235_814_400,
          16, 2048, 8192, 32, 8, 64, 128_256, True, 131_072,
          "nbagent/llama-3.2-1B-Instruct-sciworld-sft", rope_factor=32.0, gpu_gb=16, gated=True),
    Entry("Llama-3.2-3B", "meta-llama/Llama-3.2-3B-Instruct", "llama", 3_212_749_824,
          28, 3072, 8192, 24, 8, 128, 128_256, True, 131_072,
          "lunahr/thea-c-3b-25r", rope_factor=32.0, gpu_gb=16, gated=True),
    Entry("Llama-3.1-8B", "meta-llama/Llama-3.1-8B-Instruct", "llama", 8_030_261_248,
          32, 4096, 14_336, 32, 8, 128, 128_256, False, 131_072,
          "PrimeIntellect/Meta-Llama-3.1-8B-Instruct-FP8", rope_factor=8.0, gpu_gb=24, gated=True),
    Entry("Qwen2-7B", "Qwen/Qwen2-7B-Instruct", "qwen2", 7_615_616_512,
          28, 3584, 18_944, 28, 4, 128, 152_064, False, 32_768,
          "github.com/Retruth/deontic nlp_models/qwen2/README.md", gpu_gb=24),
    Entry("Qwen2-72B", "Qwen/Qwen2-72B-Instruct", "qwen2", 72_706_203_648,
          80, 8192, 29_568, 64, 8, 128, 152_064, False, 32_768,
          "Qwen/Qwen2-72B-Instruct", gpus=4),
    Entry("Qwen3-32B", "Qwen/Qwen3-32B", "qwen3", 32_762_123_264,
          64, 5120, 25_600, 64, 8, 128, 151_936, False, 40_960,
          "ronnywebdevs1/d-m-1; gitcode.com/Ascend/MindSpeed-RL configs/model/qwen3_32b.yaml", gpus=2),
    Entry("Llama-3-8B", "meta-llama/Meta-Llama-3-8B-Instruct", "llama", 8_030_261_248,
          32, 4096, 14_336, 32, 8, 128, 128_256, False, 8192,
          "FriendliAI/Meta-Llama-3-8B-Instruct-fp8", gpu_gb=24, gated=True),
    Entry("Llama-3-70B", "meta-llama/Meta-Llama-3-70B-Instruct", "llama", 70_553_706_496,
          80, 8192, 28_672, 64, 8, 128, 128_256, False, 8192,
          "failspy/llama-3-70B-Instruct-abliterated", gpus=4, gated=True),
)  # fmt: skip


def lookup(name: str) -> Entry | None:
    """The registered model of this short name, hub id or hub id without its owner (case ignored); else None.

    None also for models trained here, whose shapes stand where they are trained, and for folders.
    """
    key = name.strip().casefold()
    for entry in ENTRIES:
        hub_id = entry.hub_id.casefold()
        if key in (entry.name.casefold(), hub_id, hub_id.split("/")[1]):
            return entry
    return None


def is_ladder(name: str) -> bool:
    """Whether a canonical name is one of the ladder's, with or without a skill."""
    return name.split("+")[0] in LADDER


def is_trained_here(name: str) -> bool:
    """Whether a canonical name is of a model that is trained on first use: one of the ladder's or of the pair."""
    return is_ladder(name) or name in PAIR


def resolve_name(name: str) -> str:
    """The canonical name of a model: one trained here, a hub id, or the absolute path of a folder.

    Registered models and those trained here go first, then an existing folder, then anything of the form owner/name.
    Raises ModelError, in one sentence with the nearest right name, for everything else; touches no network.
    """
    name = name.strip()
    if name.casefold().startswith("ladder"):
        return _ladder_name(name.casefold())
    if name.casefold() in PAIR:
        return name.casefold()
    if entry := lookup(name):
        return entry.hub_id
    path = os.path.expanduser(name)
    if os.path.exists(path):  # os.path, because pathlib raises for a name too long or with a null in it
        return _folder(Path(path))
    if HUB_ID.fullmatch(name):
        return name
    guess = "" if len(Path(name).parts) > 1 else f"the nearest name is '{nearest(name)}'; "
    expected = guess + "a short name, a hub id (owner/name) or a folder with a model works"
    raise ModelError(f"No model is called {name!r} and no such folder exists: {expected}.")


def nearest(name: str) -> str:
    """The known name most like `name`: what the user probably meant."""
    skilled = [f"{rung}+{skill}" for rung in LADDER for skill in SKILLS]
    known = [*LADDER, *skilled, *PAIR, *(e.name for e in ENTRIES), *(e.hub_id for e in ENTRIES)]
    by_key = {candidate.casefold(): candidate for candidate in known}
    return by_key[difflib.get_close_matches(name.casefold(), by_key, n=1, cutoff=0.0)[0]]


def _ladder_name(key: str) -> str:
    rung, *skills = key.split("+")
    if rung not in LADDER:
        raise ModelError(f"{key!r} is not on the ladder: try '{nearest(key)}' (sizes: {', '.join(LADDER)}).")
    if len(skills) > 1 or any(skill not in SKILLS for skill in skills):
        raise ModelError(f"{key!r} names a skill the ladder is not taught: try '{nearest(key)}'.")
    return key


def _folder(path: Path) -> str:
    if not (path / "config.json").is_file():
        expected = "give the folder that save_pretrained wrote"
        raise ModelError(f"'{path}' is not a folder with a config.json, so it holds no model: {expected}.")
    return str(path.resolve())
