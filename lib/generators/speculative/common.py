"""What every way of speculative decoding takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self


@dataclass(frozen=True)
class Decoding:
    """What to generate: one sequence per prompt, under the same law and stopping rule in every arm."""

    max_new_tokens: int = 128
    temperature: float = 0.0  # 0: greedy
    top_k: int = 0  # 0: no filter
    top_p: float = 1.0  # 1: no filter
    stop_ids: tuple[int, ...] = ()  # a sequence ends with, and includes, the first of these

    @property
    def greedy(self) -> bool:
        return self.temperature == 0


@dataclass(frozen=True)
class Speculation:
    """How to draft; vLLM's names and meanings."""

    method: str = "ngram"  # baseline (draft nothing), ngram, draft, eagle, hybrid
    num_speculative_tokens: int = 5  # tokens drafted per step at most
    prompt_lookup_max: int = 4  # n-gram: longest suffix looked up
    prompt_lookup_min: int = 1  # n-gram: shortest suffix looked up
    draft_sample_method: str = "greedy"  # eagle, draft: take the drafter's likeliest token, or "probabilistic": sample
    tree_width: int = 1  # eagle: candidates followed per depth; 1 is a chain


@dataclass
class Response:
    """One request answered.

    `drafted` and `accepted` are as the engine counted them, step by step: drafts accepted behind the end of the output
    are among them, and `lib.metrics.acceptance.crop` takes them out, alike for all engines. The token that the prefill
    yields is no step, so an uncropped output has first + sum(accepted_i + 1) tokens.
    """

    tokens: list[int]  # new tokens, the stop id included where one came
    drafted: list[int]  # draft tokens verified in each step; 0 for a step without a draft
    accepted: list[int]  # of those, accepted; the token that the target itself adds is not counted
    wall_s: float  # seconds from the start of the call to this request's last token
    prefill_s: float  # of those, until its first token
    decode_s: float
    draft_s: float | None = None  # of decode_s, spent drafting; None where the engine does not tell
    verify_s: float | None = None  # of decode_s, spent in the target's forwards
    first: int = 1  # tokens that the prefill yielded; more than one where an engine verifies its first draft there


class Arm(Protocol):
    """One method on one engine, ready to run; a context manager, because engines hold processes and memory."""

    name: str

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def run(self, prompts: list[list[int]], seeds: list[int]) -> list[Response]:
        """Answer prompts (token ids), decoded together as one batch; seeds matter when sampling, one per prompt."""
