"""The plan's own messages, weighed: 32, 48 and 64 soft tokens of 4096 numbers in every codec, beside the prompts of
GSM8K that they stand for, and beside shipping the key-value cache of such a prompt instead.

Nothing has to be trained or loaded for that: the length of a frame follows from its shape (`lib.models.wire.sizes`),
that of a cache from the published configuration of a model, and the length of prompts is measured, on a file that is
given or, without one, beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lib.bridge.tasks import MATHS
from lib.data import gsm8k
from lib.models import wire

TOKENS = (32, 48, 64)  # of the plan's ablation of lengths
WIDTH = 4096  # the hidden size of both models of the plan; it sends soft tokens at full width
PROMPT_TOKENS = 150  # per prompt: the plan's assumption, which it never measured
ASSUMED = f"a prompt of {PROMPT_TOKENS} tokens, as the plan assumes; not counted with the model's tokenizer"


@dataclass(frozen=True)
class Prompts:
    """Mean UTF-8 bytes of questions, and of whole prompts: what the target reads, instruction to anchor."""

    source: str
    question_bytes: float
    prompt_bytes: float


MEASURED = Prompts("700 questions of GSM8K's test set", 164_871 / 700, 218_071 / 700)


@dataclass(frozen=True)
class Cache:
    """The key-value cache of a model, in numbers of 2 bytes, by its published configuration."""

    model: str
    layers: int
    kv_heads: int
    head_dim: int

    @property
    def token_bytes(self) -> int:
        """Keys and values of one token in all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * 2


CACHES = (
    Cache("Mistral-7B-v0.3", 32, 8, 128),  # the plan's source
    Cache("Llama-3.1-8B", 32, 8, 128),  # the plan's target
    Cache("Llama-2-7B", 32, 32, 128),  # without grouped heads: where the plan's 0.5 MB per token come from
)


def rows(path: str = "") -> Iterator[dict[str, Any]]:
    """A row per message size, codec and format of the scales, then one per cache; protocol `geometry`.

    path: a local file of GSM8K whose prompts are measured; MEASURED without one. DataError as `lib.data.gsm8k.load`.
    """
    read = prompts(path)
    for row in (*_messages(), *_caches()):
        yield {
            "protocol": "geometry",
            **row,
            "question_bytes": read.question_bytes,
            "prompt_bytes": read.prompt_bytes,
            "prompt_source": read.source,
            "times_prompt": row["frame_bytes"] / read.prompt_bytes,
        }


def prompts(path: str = "") -> Prompts:
    """The prompts of a local file, in the plan's words and without a chat template; MEASURED without a file."""
    if not path:
        return MEASURED
    questions = [row.question for row in gsm8k.load(path)]
    whole = [f"{MATHS}\n\n{question}\n{wire.ANCHOR}" for question in questions]
    return Prompts(f"{len(questions)} questions of the file given", _mean_bytes(questions), _mean_bytes(whole))


def _messages() -> Iterator[dict[str, Any]]:
    for tokens in TOKENS:
        for codec in wire.CODECS:
            for scales in [""] if codec in wire.FLOATS else wire.SCALES:
                frame = wire.sizes(tokens, WIDTH, codec, scales=scales or "fp32").total
                shape = {"geometry": f"{tokens} x {WIDTH}", "tokens": tokens, "width": WIDTH, "assumption": ""}
                yield {**shape, "codec": codec, "scales": scales, "frame_bytes": frame}


def _caches() -> Iterator[dict[str, Any]]:
    for cache in CACHES:
        yield {
            "geometry": f"KV cache, {cache.model}",
            "tokens": PROMPT_TOKENS,
            "width": cache.token_bytes // 2,
            "assumption": ASSUMED,
            "codec": "kv_cache",
            "scales": "",
            "frame_bytes": PROMPT_TOKENS * cache.token_bytes,
        }


def _mean_bytes(texts: list[str]) -> float:
    return sum(len(text.encode()) for text in texts) / len(texts)
