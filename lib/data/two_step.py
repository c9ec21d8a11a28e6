"""Short word problems of two steps in GSM8K's format, of which it is known exactly how much they say.

A question is a start, two changes and what is asked ("Ada has 14 coins, finds 5 more and then sells 3. How many coins
does Ada have now?"); its answer works the steps and ends in `#### gold`. Every random choice goes through
`lib.data.choices`, so the entropy of a question is a number and not an estimate (`entropy_bits`): no message that lets
a receiver restate the question can be shorter on average, in bits. Part of it, the names, the answer does not need.

`train`, `validation` and `test` are disjoint by operands: no triple of numbers with its two operations occurs in two of
them, in whatever words. (Single sums do recur.) Three more splits are outside of what is trained on: `numbers` start
above every trained number, `harder` takes a third step, `wording` asks before it tells.

`lib.data.arithmetic` has longer problems for the ladder; these are short so that a bridge is trained in seconds.
"""

import math
import operator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, get_args

from lib.data.choices import Choices, Draw, expected_entropy

Split = Literal["train", "validation", "test", "numbers", "harder", "wording"]
SPLITS: tuple[Split, ...] = get_args(Split)
NAMES = ["Ada", "Bruno", "Clara", "David", "Elsa", "Felix", "Greta", "Hugo"]
ITEMS = ["books", "coins", "eggs", "pens", "shells", "toys"]
SMALL = range(2, 16)
LARGE = range(16, 31)  # where `numbers` starts
PHRASES = {"+": ["finds {} more", "buys {} more"], "-": ["sells {}", "loses {}"]}
APPLY = {"+": operator.add, "-": operator.sub}
TRAIN_SHARE = 0.75  # of the operand triples; validation and test share the rest


@dataclass(frozen=True)
class Problem:
    """One problem; `answer` holds the worked steps and ends in `#### gold`."""

    question: str
    answer: str
    gold: str
    symbols: str  # the operations in order, such as "+-"
    operands: tuple[int, ...]


def _bucket(symbols: str, operands: tuple[int, ...]) -> Split:
    """The split of an operand tuple, scattered by a fixed integer hash (a polynomial and a multiplicative mix)."""
    state = 17
    for number in (*symbols.encode(), *operands):
        state = ((state * 1000003) ^ (number * 2654435761)) & 0xFFFFFFFF
    share = (state * 2246822519 & 0xFFFFFFFF) / 2**32
    if share < TRAIN_SHARE:
        return "train"
    return "validation" if share < (1 + TRAIN_SHARE) / 2 else "test"


def _results(symbols: str, operands: tuple[int, ...]) -> list[int]:
    """The number after each step."""
    found = [operands[0]]
    for symbol, number in zip(symbols, operands[1:], strict=True):
        found.append(APPLY[symbol](found[-1], number))
    return found[1:]


@cache
def cases(split: Split) -> list[tuple[str, tuple[int, ...]]]:
    """Every (operations, operands) of a split whose results are all positive."""
    steps = 3 if split == "harder" else 2
    first = LARGE if split == "numbers" else SMALL
    wanted = {"wording": "test"}.get(split, split)
    found = []
    for symbols in map("".join, product("+-", repeat=steps)):
        for operands in product(first, *[SMALL] * steps):
            if split in ("train", "validation", "test", "wording") and _bucket(symbols, operands) != wanted:
                continue
            if min(_results(symbols, operands)) > 0:
                found.append((symbols, operands))
    return found


def problem(choices: Choices, split: Split = "train") -> Problem:
    """One problem of a split, with every random choice through `choices` (a `Draw(seed)` for a random one)."""
    name, item = choices.pick(NAMES), choices.pick(ITEMS)
    symbols, operands = choices.pick(cases(split))
    phrases = [choices.pick(PHRASES[s]).format(x) for s, x in zip(symbols, operands[1:], strict=True)]
    told = f"{name} has {operands[0]} {item}, {', '.join(phrases[:-1])} and then {phrases[-1]}."
    asked = f"How many {item} does {name} have now?"
    results = _results(symbols, operands)
    sums = zip([operands[0], *results], symbols, operands[1:], results, strict=False)
    steps = [f"{left}{symbol}{right}={result}" for left, symbol, right, result in sums]
    question = f"{asked} {told}" if split == "wording" else f"{told} {asked}"
    return Problem(question, "\n".join([*steps, f"#### {results[-1]}"]), str(results[-1]), symbols, operands)


def problems(seed: int | str, count: int, split: Split = "train") -> list[Problem]:
    """`count` problems of a split with different questions, the same for the same seed.

    Raises ValueError where the split has fewer.
    """
    if count > (most := distinct(split)):
        raise ValueError(f"There are {most} different problems in {split!r} and {count} are asked for; ask for fewer.")
    draw, found = Draw(f"{split} {seed}"), {}
    while len(found) < count:
        made = problem(draw, split)
        found.setdefault(made.question, made)
    return list(found.values())


def distinct(split: Split) -> int:
    """How many different questions a split has."""
    steps = 3 if split == "harder" else 2
    return len(NAMES) * len(ITEMS) * len(cases(split)) * len(PHRASES["+"]) ** steps


def entropy_bits(split: Split = "test") -> float:
    """Entropy of a question of a split, in bits: all its choices are uniform and none depends on another."""
    return expected_entropy(lambda choices: problem(choices, split)) / math.log(2)
