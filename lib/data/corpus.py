"""The training mixture of the ladder: stories, arithmetic, two-hop questions, copy and edit tasks, plain or as chat.

A document is one sample of the mixture. Its kind and its wrapping are choices like all others, so its surprisal is its
exact negative log-probability and `entropy_per_document` is what no model can beat on average:

* plain: the text, closed by `<|endoftext|>`;
* chat (ChatML): the request in the user's turn, the continuation or answer in the assistant's, closed by `<|im_end|>`.

Train and validation streams are disjoint by content: a hash of a document's text decides which stream it may appear
in, whatever the seed. A model cannot tell, so its loss is still compared with the entropy of the whole generator.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Literal

from lib.data import arithmetic, copyedit, multihop, stories
from lib.data.choices import Choices, Draw, Weighted, expected_entropy

END_OF_TEXT, PAD, IM_START, IM_END = "<|endoftext|>", "<|pad|>", "<|im_start|>", "<|im_end|>"
Kind = Literal["story", "arithmetic", "multihop", "copyedit"]
Stream = Literal["train", "validation"]
MIXTURE: Weighted[Kind] = Weighted(["story", "arithmetic", "multihop", "copyedit"], [42, 16, 16, 26])
WRAPPINGS = Weighted(["chat", "plain"], [2, 1])  # experiments prompt through the chat template, so it gets more
CONTINUE = ["Continue this story.", "Go on with the story.", "How does this story go on?"]
VALIDATION_SHARE = 16  # one document in this many


@dataclass(frozen=True)
class Document:
    """One document; `surprisal` is its exact -ln p in nats, `text` holds the special tokens that close or frame it."""

    text: str
    kind: Kind
    chat: bool
    surprisal: float


def chat(request: str, reply: str) -> str:
    """A finished exchange in ChatML, as the tokenizer's chat template writes it."""
    return f"{IM_START}user\n{request}{IM_END}\n{IM_START}assistant\n{reply}{IM_END}"


def plain(request: str, reply: str) -> str:
    """The same exchange as running text."""
    return f"Question: {request}\nAnswer: {reply}{END_OF_TEXT}"


def _story(choices: Choices, wrapping: str) -> str:
    told = stories.sentences(choices)
    if wrapping == "plain":
        return " ".join(told) + END_OF_TEXT
    cut = choices.pick(range(3, len(told) - 2))
    return chat(f"{choices.pick(CONTINUE)}\n\n{' '.join(told[:cut])}", " ".join(told[cut:]))


def _arithmetic(choices: Choices, wrapping: str) -> str:
    made = arithmetic.problem(choices, choices.branch(arithmetic.KINDS), "train")
    return WRAP[wrapping](made.question, made.answer)


def _multihop(choices: Choices, wrapping: str) -> str:
    made = multihop.question(choices, choices.branch(multihop.KINDS))
    return WRAP[wrapping](f"{made.context}\n\n{made.question}", made.answer)


def _copyedit(choices: Choices, wrapping: str) -> str:
    made = copyedit.task(choices, choices.branch(copyedit.KINDS))
    return WRAP[wrapping](f"{made.instruction}\n\n{made.passage}", made.answer)


WRAP = {"chat": chat, "plain": plain}
WRITERS: dict[Kind, Callable[[Choices, str], str]] = {
    "story": _story,
    "arithmetic": _arithmetic,
    "multihop": _multihop,
    "copyedit": _copyedit,
}


def write(choices: Choices, kind: Kind | None = None) -> tuple[str, Kind, bool]:
    """One document of the mixture (or of one kind): its text, its kind, whether it is a chat."""
    chosen = kind or choices.branch(MIXTURE)
    wrapping = choices.branch(WRAPPINGS)
    return WRITERS[chosen](choices, wrapping), chosen, wrapping == "chat"


def stream_of(text: str) -> Stream:
    """The stream a document belongs to, by the hash of its text."""
    digest = hashlib.sha256(text.encode()).digest()
    return "validation" if int.from_bytes(digest[:4], "big") % VALIDATION_SHARE == 0 else "train"


def generate(seed: int | str, stream: Stream = "train", kind: Kind | None = None) -> Iterator[Document]:
    """An endless stream of documents, the same for the same seed."""
    draw = Draw(seed)
    while True:
        draw.surprisal = 0.0
        text, chosen, is_chat = write(draw, kind)
        if stream_of(text) == stream:
            yield Document(text, chosen, is_chat, draw.surprisal)


def documents(seed: int | str, count: int, stream: Stream = "train", kind: Kind | None = None) -> list[Document]:
    """The first `count` documents of a stream."""
    return list(islice(generate(seed, stream, kind), count))


@cache
def entropy_per_document(kind: Kind | None = None) -> float:
    """Exact entropy of a document in nats: of the mixture, or of one kind (then without the choice of the kind)."""
    return expected_entropy(lambda choices: write(choices, kind))
