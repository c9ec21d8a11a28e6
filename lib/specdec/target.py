"""The model that is drafted for: its tokenizer and limits before any weights are loaded, its weights when needed.

vLLM loads the weights in a process of its own, so a run on it reads only the outline here until the engine is gone.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from lib.generators.speculative.common import Decoding, Speculation
from lib.models import hub, registry
from lib.models.hub import LoadedModel
from lib.params import SpecDec


class Target:
    """What every part of a run of 2a asks about its model and its parameters."""

    def __init__(self, params: SpecDec) -> None:
        self.params = params
        if params.backend == "vllm":
            self.outline = hub.outline(params.model, params.trust_remote_code)
        else:
            self.outline = hub.outline_of(self.lm)
        self.tokenizer = self.outline.tokenizer
        self.group = registry.group(params.group)

    @cached_property
    def lm(self) -> LoadedModel:
        """The weights, loaded when first asked for."""
        names = {"dtype", "device", "load_format", "trust_remote_code"}
        return hub.load(self.params.model, **self.params.model_dump(include=names))

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
        from lib.models import eagle_training, locate

        name = self.drafter_name(method)
        if method == "draft":
            return locate.folder(name, self.params.trust_remote_code)
        return eagle_training.path(name) if registry.is_ladder(name) else locate.head_folder(name)
