"""transformers' own assisted generation: the outside reference for the torch backend.

`generate` tells nobody what it drafted, so two public places are read: a streamer is handed the tokens that each step
kept, and a hook on the target sees how many tokens each forward was given. transformers verifies its first draft in the
prefill; what was kept there counts as the prefill's, not as a step's. One prompt at a time, as `generate` asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor, nn
from transformers import GenerationConfig
from transformers.generation.streamers import BaseStreamer

from lib.generators.decode import until_stop
from lib.generators.hf import own_generation_config
from lib.generators.speculative.common import Decoding, Response, Speculation


class TransformersArm:
    """`baseline`, `ngram` (prompt lookup) or `draft` (an assistant model) through `model.generate`."""

    def __init__(
        self, model: nn.Module, speculation: Speculation, decoding: Decoding, assistant: nn.Module | None = None
    ) -> None:
        self.name = speculation.method
        self._model, self._decoding = model, decoding
        self._assistant = assistant if self.name == "draft" else None
        self._ahead, self._options = speculation.num_speculative_tokens, {}
        if self.name == "ngram":
            self._options = {
                "prompt_lookup_num_tokens": self._ahead,
                "max_matching_ngram_size": speculation.prompt_lookup_max,
            }
            if speculation.prompt_lookup_min != 1:
                raise ValueError("transformers looks up suffixes down to one token: set prompt_lookup_min to 1.")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, prompts: list[list[int]], seeds: list[int]) -> list[Response]:
        """Answer one prompt; ValueError for several."""
        if len(prompts) > 1:
            raise ValueError("transformers' assisted generation takes one prompt at a time: set batch_size to 1.")
        return [self._answer(prompts[0], seeds[0])]

    def _answer(self, prompt: list[int], seed: int) -> Response:
        torch.manual_seed(seed)
        ids = torch.tensor([prompt], device=self._model.device)
        steps = _Steps()
        hook = self._model.register_forward_pre_hook(steps.forward, with_kwargs=True)
        try:
            with torch.inference_mode(), own_generation_config(self._model), self._drafting():
                self._model.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    generation_config=self._config(),
                    streamer=steps,
                    assistant_model=self._assistant,
                )
        finally:
            hook.remove()
        return steps.response(self._decoding.stop_ids)

    @contextmanager
    def _drafting(self) -> Iterator[None]:
        """Have the assistant draft the same number of tokens every time, under the target's law and not its own."""
        if self._assistant is None:
            yield
            return
        with own_generation_config(self._assistant):
            self._assistant.generation_config.update(
                num_assistant_tokens=self._ahead,
                num_assistant_tokens_schedule="constant",
                assistant_confidence_threshold=0.0,  # else it stops where the assistant is unsure
            )
            yield

    def _config(self) -> GenerationConfig:
        law = self._decoding
        sampling = {} if law.greedy else {"temperature": law.temperature, "top_k": law.top_k, "top_p": law.top_p}
        return GenerationConfig(
            do_sample=not law.greedy,
            max_new_tokens=law.max_new_tokens,
            eos_token_id=list(law.stop_ids) or None,
            pad_token_id=law.stop_ids[0] if law.stop_ids else None,  # another would be hidden from the assistant
            **sampling,
            **self._options,
        )


class _Steps(BaseStreamer):
    """What `generate` kept per step, and when."""

    def __init__(self) -> None:
        self._kept: list[list[int]] = []
        self._drafted: list[int] = []
        self._start = self._first = self._last = time.perf_counter()

    def forward(self, _model: nn.Module, _args: tuple, kwargs: dict[str, Tensor]) -> None:
        """Before each forward of the target: all tokens it is given but the last known one are drafts."""
        self._drafted.append(kwargs["input_ids"].shape[1] - 1)

    def put(self, value: Tensor) -> None:
        """After each step, with the tokens it kept; first of all, with the prompt."""
        self._last = time.perf_counter()
        if not self._drafted:
            return
        self._kept.append(value.flatten().tolist())
        if len(self._kept) == 1:
            self._first = self._last

    def end(self) -> None: ...

    def response(self, stop_ids: tuple[int, ...]) -> Response:
        return Response(
            tokens=until_stop([token for step in self._kept for token in step], stop_ids),
            drafted=self._drafted[1:],
            accepted=[len(step) - 1 for step in self._kept[1:]],
            wall_s=self._last - self._start,
            prefill_s=self._first - self._start,
            decode_s=self._last - self._first,
            first=len(self._kept[0]),
        )
