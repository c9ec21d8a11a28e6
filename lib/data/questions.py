"""Questions whose answers form exact clusters: two answers mean the same where the label behind `####` is the same.

Arithmetic and two-hop questions by turns, all kinds of both in order, put to the model as it was taught them. The
arithmetic is held out by `lib.data.arithmetic`'s rule; a two-hop context is drawn anew, from some 10^15 of them. The
same for every model that shares a tokenizer, and the first ones stay the same when more are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from transformers import PreTrainedTokenizerBase

from lib.data import arithmetic, multihop
from lib.data.prompts import encode

SPECIAL = re.compile(r"<\|[^|]*\|>")  # <|im_end|>, <|endoftext|>, <|eot_id|>: the text ends at the first of these
MARKED = re.compile(r"####(.*)")


@dataclass(frozen=True)
class Question:
    """What the user asks, the token ids [P] the model reads, and a kind of `arithmetic` or `multihop`."""

    text: str
    ids: list[int]
    kind: str


def questions(tokenizer: PreTrainedTokenizerBase, count: int, seed: int = 0) -> list[Question]:
    """The first `count` questions of a seed, all different."""
    return [Question(text, encode(tokenizer, text), kind) for text, kind in islice(_texts(count, seed), count)]


def _texts(count: int, seed: int) -> Iterator[tuple[str, str]]:
    """Text and kind: arithmetic and two-hop by turns."""
    pools = {kind: iter(_of_kind(kind, count, seed)) for kind in (*arithmetic.KINDS, *multihop.KINDS)}
    for turn in range(count):
        kinds = multihop.KINDS if turn % 2 else arithmetic.KINDS
        kind = kinds[turn // 2 % len(kinds)]
        yield next(pools[kind]), kind


def _of_kind(kind: str, count: int, seed: int) -> list[str]:
    name = f"questions {seed} {kind}"
    if kind in arithmetic.KINDS:
        return [made.question for made in arithmetic.problems(name, count, kind, "heldout")]
    made = multihop.questions(name, 2 * count, kind)  # twice as many: two equal ones are next to impossible
    return list(dict.fromkeys(f"{one.context}\n\n{one.question}" for one in made))


def answer(text: str) -> str:
    """The label of a generation: what follows its first `####` on that line, up to a special token, normalised.

    Normalised: case, spacing, a closing full stop and thousands commas do not matter. A text without `####` gives no
    answer, and its label is its whole text, normalised alike: such texts say different things or were cut short at
    different points, and one cluster "no answer" would make a wandering model look sure of something.
    """
    ended = SPECIAL.split(text, maxsplit=1)[0]
    marked = MARKED.search(ended)
    return _normalised(marked.group(1)) if marked and marked.group(1).strip() else _normalised(ended)


def _normalised(text: str) -> str:
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return " ".join(text.casefold().split()).removesuffix(".")
