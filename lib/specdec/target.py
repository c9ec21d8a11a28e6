"""The model that is drafted for: its tokenizer and limits before any weights are loaded, its weights when needed.

vLLM loads the weights in a process of its own, so a run on it reads only the outline here until the engine is gone.
"""

from __future__ import annotations

import sys
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from lib.generators.speculative.common import Decoding, Speculation
from lib.models import groups, hub, locate, registry
from lib.models.hub import LoadedModel
from lib.models.registry import ModelError
from lib.params import SpecDec

if TYPE_CHECKING:
    from lib.models.eagle import EagleHead


class Target:
    """What every part of a run of 2a asks about its model, its drafters and its parameters.

    Raises ModelError, one sentence, where the model cannot be had or is too short for the answers asked for.
    """

    def __init__(self, params: SpecDec) -> None:
        self.params = params
        if params.backend == "vllm":
            self.outline = hub.outline(params.model, params.trust_remote_code)
        else:
            self.outline = hub.outline_of(self.lm)
        self.tokenizer = self.outline.tokenizer
        self.tokenizer.model_max_length = sys.maxsize  # longer prompts are cut here, and it need not warn of them
        self.group = groups.group(params.group)
        self._check_lengths()

    def _check_lengths(self) -> None:
        if self.context > self.outline.context:
            raise ModelError(
                f"{self.params.model} has {self.outline.context} positions, fewer than max_model_len {self.context}: "
                "lower it, or leave it at 0."
            )
        if self.params.max_new_tokens >= self.context:
            raise ModelError(
                f"max_new_tokens {self.params.max_new_tokens} leaves no room for a prompt in the {self.context} tokens "
                f"that {self.params.model} reads here: lower it."
            )

    @cached_property
    def lm(self) -> LoadedModel:
        """The weights, loaded when first asked for."""
        names = {"dtype", "device", "load_format", "trust_remote_code"}
        return hub.load(self.params.model, **self.params.model_dump(include=names))

    @cached_property
    def draft_model(self) -> nn.Module:
        """The draft model, on the target's device and in its dtype; ModelError where it reads other token ids."""
        names = {"device", "load_format", "trust_remote_code"}
        dtype = str(self.lm.dtype).removeprefix("torch.")
        small = hub.load(self.drafter_name("draft"), dtype=dtype, **self.params.model_dump(include=names))
        theirs, ours = small.model.config.vocab_size, self.lm.model.config.vocab_size
        if theirs != ours:
            raise ModelError(
                f"{small.name} has {theirs} token ids and {self.lm.name} {ours}: give a draft model of one vocabulary."
            )
        return small.model

    @cached_property
    def head(self) -> EagleHead:
        """The EAGLE head, ready to draft for the target, loaded when first asked for."""
        from lib.models import eagle_files

        return eagle_files.load(self.drafter_folder("eagle"), self.lm.model)

    @property
    def context(self) -> int:
        """Positions of a prompt and its answer at most."""
        return self.params.max_model_len or self.outline.context

    @property
    def decoding(self) -> Decoding:
        """What every arm generates."""
        names = {"max_new_tokens", "temperature", "top_k", "top_p"}
        return Decoding(**self.params.model_dump(include=names), stop_ids=self.outline.stop_ids)

    def speculation(self, method: str, **changes: Any) -> Speculation:
        """How `method` drafts in this run."""
        names = set(Speculation.__annotations__) - {"method"}
        return Speculation(method=method, **self.params.model_dump(include=names) | changes)

    @property
    def about(self) -> dict[str, Any]:
        """What every measurement row says of its run."""
        params = self.params
        return {
            "group": params.group,
            "model": params.model,
            "parameters": self.outline.parameters,
            "dummy": params.load_format == "dummy",
            "backend": params.backend,
            "temperature": params.temperature,
        }

    def drafter_name(self, method: str) -> str:
        """Canonical name of the draft model, or of the EAGLE head (a ladder model's own name: it is trained here)."""
        if method == "draft":
            return self.params.draft_model or registry.resolve_name(self.group.draft)
        return self.params.eagle_model or registry.resolve_name(self.group.eagle)

    def drafter_folder(self, method: str) -> Path:
        """The folder of the draft model or of the EAGLE head, trained or downloaded if need be."""
        name = self.drafter_name(method)
        if method == "draft":
            locate.check(name)
            return locate.folder(name, self.params.trust_remote_code)
        if not registry.is_ladder(name):
            return locate.head_folder(name)
        from lib.models import eagle_training

        return eagle_training.path(name)
