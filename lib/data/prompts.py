"""Natural prompts of an exact length: unfinished stories in the user's turn of a chat, the same for every model
that shares a tokenizer.

The length counts everything the model reads, chat template included. Nothing is padded, repeated or cut inside a
sentence: stories are drawn until the sentences of one end exactly at the wanted token.
"""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.data import corpus, stories
from lib.data.choices import Draw

ATTEMPTS = 3000  # stories tried per prompt; about one in fifteen ends on the wanted token


@dataclass(frozen=True)
class Prompt:
    """What the user says, and the token ids [P] the model reads."""

    text: str
    ids: list[int]


def natural_prompts(tokenizer: PreTrainedTokenizerBase, count: int, tokens: int, seed: int = 0) -> list[Prompt]:
    """`count` different prompts of exactly `tokens` tokens; ValueError where the tokenizer has no such prompt."""
    found: dict[str, Prompt] = {}
    for attempt in range(ATTEMPTS * count):
        prompt = _attempt(tokenizer, tokens, Draw(f"prompt {seed} {attempt}"))
        if prompt is not None:
            found.setdefault(prompt.text, prompt)
        if len(found) == count:
            return list(found.values())
    shortest = len(encode(tokenizer, corpus.CONTINUE[0]))
    raise ValueError(
        f"Only {len(found)} of {count} prompts of exactly {tokens} tokens could be made with this tokenizer; "
        f"its chat template alone takes {shortest}, so try prompt_tokens of {shortest + 40} or more."
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of one user turn, ready for the assistant's; plain text for a tokenizer without a chat template."""
    if tokenizer.chat_template is None:
        return tokenizer(text)["input_ids"]
    turn = [{"role": "user", "content": text}]
    return tokenizer.apply_chat_template(turn, add_generation_prompt=True, return_dict=False)


def _attempt(tokenizer: PreTrainedTokenizerBase, tokens: int, draw: Draw) -> Prompt | None:
    """Whole stories while they fit, then sentence by sentence; None if no sentence ends at the wanted length."""
    text = draw.pick(corpus.CONTINUE) + "\n\n"
    while True:
        told = stories.sentences(draw)
        whole = text + " ".join(told)
        if len(encode(tokenizer, whole)) < tokens:
            text = whole + "\n\n"
            continue
        for cut in range(1, len(told) - 2):  # something must be left to tell
            candidate = text + " ".join(told[:cut])
            ids = encode(tokenizer, candidate)
            if len(ids) >= tokens:
                return Prompt(candidate, ids) if len(ids) == tokens else None
        return None
