"""Texts as a model reads them: conversations as token ids, and natural prompts of an exact length.

Those are unfinished stories in the user's turn of a chat, the same for every model that shares a tokenizer. The length
counts everything the model reads, chat template included. Nothing is padded, repeated or cut inside a
sentence: stories are drawn until the sentences of one end exactly at the wanted token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from lib.data import corpus, stories
from lib.data.choices import Draw

ATTEMPTS = 1000  # stories tried per prompt; about one in fifteen of those long enough ends on the wanted token
LOOKS = 50  # stories tried before a prompt is held to need one more whole story in front
ROLES = ("user", "assistant")
LEFT = 3  # sentences still untold: enough for 30 new tokens, so that a model has no reason to stop at once


@dataclass(frozen=True)
class Prompt:
    """What the user says, and the token ids [P] the model reads."""

    text: str
    ids: list[int]


def natural_prompts(tokenizer: PreTrainedTokenizerBase, count: int, tokens: int, seed: int = 0) -> list[Prompt]:
    """`count` different prompts of exactly `tokens` tokens, with as few stories as such a length takes.

    Raises ValueError where the tokenizer has no such prompts.
    """
    found: dict[str, Prompt] = {}
    lengths: set[int] = set()
    whole = 0
    for attempt in range(ATTEMPTS * count):
        told = _told(tokenizer, tokens, whole, Draw(f"prompt {seed} {attempt}"))
        if told is not None:
            lengths.add(len(told.ids))
            found |= {told.text: told} if len(told.ids) == tokens else {}
        elif not lengths and attempt % LOOKS == LOOKS - 1:
            whole += 1
        if len(found) == count:
            return list(found.values())
    others = lengths - {tokens}
    advice = f"try prompt_tokens of {min(others)}" if others else "lower prompt_tokens, or ask for fewer prompts"
    raise ValueError(
        f"Only {len(found)} of {count} prompts of exactly {tokens} tokens could be made with this tokenizer, whose "
        f"sentences end elsewhere: {advice}."
    )


def encode(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Token ids of one user turn, ready for the assistant's; plain text for a tokenizer without a chat template."""
    return encode_chat(tokenizer, [text])


def encode_chat(tokenizer: PreTrainedTokenizerBase, turns: Sequence[str]) -> list[int]:
    """Token ids of a conversation, ready for the assistant's next turn.

    Args:
        tokenizer: without a chat template, the turns are joined by line breaks.
        turns: what the user and the assistant said by turns; the user begins and ends.

    Raises:
        ValueError: where the last turn is not the user's.
    """
    if len(turns) % 2 == 0:
        raise ValueError(
            f"A conversation begins and ends with the user, so it has an odd number of turns, not {len(turns)}."
        )
    if tokenizer.chat_template is None:
        return tokenizer("\n".join(turns))["input_ids"]
    messages = [{"role": ROLES[index % 2], "content": turn} for index, turn in enumerate(turns)]
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)


def fit(ids: list[int], room: int) -> tuple[list[int], int]:
    """A prompt in at most `room` tokens, and how many were cut: out of its middle, for instructions stand at the ends.

    Raises ValueError where there is no room for a prompt at all.
    """
    cut = len(ids) - room
    if room < 1:
        raise ValueError(f"A prompt needs room for at least 1 token, not {room}: ask for fewer new tokens.")
    if cut <= 0:
        return ids, 0
    head = room // 2
    return ids[:head] + ids[head + cut :], cut


def _told(tokenizer: PreTrainedTokenizerBase, tokens: int, whole: int, draw: Draw) -> Prompt | None:
    """`whole` stories and the beginning of another, up to the first sentence that ends at or behind the wanted length.

    None where even all of the last story that may be told is too short.
    """
    text = draw.pick(corpus.CONTINUE) + "\n\n"
    text += "".join(" ".join(stories.sentences(draw)) + "\n\n" for _ in range(whole))
    told = stories.sentences(draw)[:-LEFT]
    if len(encode(tokenizer, text + " ".join(told))) < tokens:
        return None
    for cut in range(1, len(told) + 1):
        candidate = text + " ".join(told[:cut])
        ids = encode(tokenizer, candidate)
        if len(ids) >= tokens:
            return Prompt(candidate, ids)
    return None
