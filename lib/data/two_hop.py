"""Short two-hop questions whose evidence stands in front of them: who is whose mother, and who lives where.

Kinds, as in HotpotQA: `bridge` asks for a town ("Where does the mother of Adam live?": child -> mother -> town), and
`compare` whether two such chains end in the same town (yes or no). Who is whose mother is drawn anew for each
question, so nothing can be known, all of it must be read. The answer writes the hops and ends in `#### gold`.

Every random choice goes through `lib.data.choices`, so the entropy of a question is known exactly (`entropy_bits`).
`train`, `validation` and `test` are disjoint by content: a fixed hash of the families, whatever the order in which
they are told. `lib.data.multihop` has longer questions for the ladder; these are short so that a bridge is trained in
seconds.
"""

import hashlib
import math
from dataclasses import dataclass
from itertools import permutations
from typing import Literal

from lib.data.choices import Choices, Draw, Weighted, expected_entropy, several
from lib.data.world import HE, SHE, TOWNS

Kind = Literal["bridge", "compare"]
Split = Literal["train", "validation", "test"]
KINDS: tuple[Kind, ...] = ("bridge", "compare")
CHAINS = 3  # per question: two that a comparison needs and a distractor
# Orders of the sentences (mothers, then towns) that tell the mothers in order: no two derivations give the same text.
ARRANGEMENTS = [order for order in permutations(range(2 * CHAINS)) if [i for i in order if i < CHAINS] == [0, 1, 2]]
TRAIN_SHARE = 0.75  # of all families; validation and test share the rest


@dataclass(frozen=True)
class Question:
    """One question with its evidence in front; `answer` holds the hops and ends in `#### gold`."""

    question: str
    answer: str
    gold: str
    kind: Kind
    families: tuple[tuple[str, str, str], ...]  # child, mother, town


def question(choices: Choices) -> Question:
    """One question, with every random choice through `choices`."""
    children, mothers = several(choices, HE, CHAINS), several(choices, SHE, CHAINS)
    kind = choices.branch(KINDS)
    first, second = choices.pick([(0, 1), (1, 2), (2, 0)])
    towns = _towns(choices, kind, first, second)
    families = tuple(zip(children, mothers, towns, strict=True))
    told = [f"The mother of {child} is {mother}." for child, mother, _ in families]
    told += [f"{mother} lives in {town}." for _, mother, town in families]
    context = " ".join(told[index] for index in choices.pick(ARRANGEMENTS))
    hops = [f"from {child} to {mother} to {town}" for child, mother, town in families]
    if kind == "bridge":
        asked, gold, used = f"Where does the mother of {children[first]} live?", towns[first], [first]
    else:
        asked = f"Do the mothers of {children[first]} and {children[second]} live in the same town?"
        gold, used = ("yes" if towns[first] == towns[second] else "no"), [first, second]
    answer = "\n".join([*(hops[index] for index in used), f"#### {gold}"])
    return Question(f"{context} {asked}", answer, gold, kind, families)


def _towns(choices: Choices, kind: Kind, first: int, second: int) -> list[str]:
    """A town per chain. Half of the comparisons agree; otherwise all towns differ."""
    same = kind == "compare" and choices.branch(Weighted([True, False], [1, 1]))
    towns = several(choices, TOWNS, CHAINS - same)
    if not same:
        return towns
    return [towns[0] if chain in (first, second) else towns[1] for chain in range(CHAINS)]


def split_of(made: Question) -> Split:
    """The split that a question belongs to, by its families alone."""
    digest = hashlib.sha256(repr(sorted(made.families)).encode()).digest()
    share = int.from_bytes(digest[:4]) / 2**32
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < (1 + TRAIN_SHARE) / 2 else "test"


def questions(seed: int | str, count: int, split: Split = "train") -> list[Question]:
    """`count` different questions of a split, the same for the same seed."""
    draw, found = Draw(f"{split} {seed}"), {}
    while len(found) < count:
        made = question(draw)
        if split_of(made) == split:
            found.setdefault(made.question, made)
    return list(found.values())


def entropy_bits() -> float:
    """Entropy of a question in bits, before it is known in which split it falls."""
    return expected_entropy(question) / math.log(2)
