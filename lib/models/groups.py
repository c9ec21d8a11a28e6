"""The targets of the speculative-decoding study by name: a model, and who drafts for it.

A group is the plan's (`qwen2_7b`), a ladder model's (`ladder_1m`, which trains its own head), or any model by itself.
Nothing here imports torch: a group is named, listed and refused before any model is loaded.
"""

import difflib
import os
from dataclasses import dataclass

from lib.models.registry import LADDER, ModelError, is_ladder


@dataclass(frozen=True)
class Group:
    """A target of the speculative-decoding study and what drafts for it.

    `eagle` is a published head's hub id ("" where none is known), `eagle_method` vLLM's name of its kind,
    `eagle_architecture` the family its layer was made of; `draft` a smaller model of the same vocabulary.
    """

    model: str
    eagle: str = ""
    eagle_method: str = "eagle"
    eagle_architecture: str = "llama"
    draft: str = ""


# The plan's groups. It names the heads of the first, second and fourth; for Qwen3 it had none, but EAGLE-3 heads have
# been published since.
GROUPS: dict[str, Group] = {
    "qwen2_7b": Group("Qwen/Qwen2-7B-Instruct", "yuhuili/EAGLE-Qwen2-7B-Instruct", eagle_architecture="qwen2"),
    "qwen2_72b": Group("Qwen/Qwen2-72B-Instruct", "yuhuili/EAGLE-Qwen2-72B-Instruct", eagle_architecture="qwen2"),
    "qwen3_32b": Group("Qwen/Qwen3-32B", "RedHatAI/Qwen3-32B-speculator.eagle3", "eagle3", draft="Qwen/Qwen3-0.6B"),
    "llama3_8b": Group("meta-llama/Meta-Llama-3-8B-Instruct", "yuhuili/EAGLE-LLaMA3-Instruct-8B",
                       draft="meta-llama/Llama-3.2-1B-Instruct"),
    "llama3_70b": Group("meta-llama/Meta-Llama-3-70B-Instruct", "yuhuili/EAGLE-LLaMA3-Instruct-70B",
                        draft="meta-llama/Llama-3.2-1B-Instruct"),
}  # fmt: skip


def group(name: str) -> Group:
    """The group of this name: the plan's, a ladder model's (which trains its own head), or a model's by itself.

    ModelError names the nearest group for anything else.
    """
    if name in GROUPS:
        return GROUPS[name]
    rung = name.replace("_", "-")
    if is_ladder(rung):
        draft = LADDER[1] if LADDER.index(rung.split("+")[0]) > 1 else ""
        return Group(rung, eagle=rung, draft=draft)
    if "/" in name or os.path.exists(name):
        return Group(name)
    if name == "all":
        raise ModelError(f"One run is of one group: give one of {', '.join(GROUPS)}, or run the sweep, which has all.")
    known = [*GROUPS, *map(group_of, LADDER)]
    near = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.0)[0]
    raise ModelError(f"No group is called {name!r}: the nearest is '{near}'.")


def group_of(model: str) -> str:
    """The name of a canonical model's group: the plan's, `ladder_1m` for the ladder's, else the model itself."""
    named = {entry.model: name for name, entry in GROUPS.items()}
    return named.get(model) or (model.replace("-", "_") if is_ladder(model) else model)
