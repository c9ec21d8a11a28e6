"""Word problems in the format of GSM8K: a question, worked steps `<<a+b=c>>c`, and the gold answer after `####`.

Kinds: `add` and `sub` (a number of two digits and one of 2 to 9, result of two digits), `mul` (times tables of 2 to
9), `two_step` (two of these in a row). Training and held-out problems are disjoint by operands:

* `add`, `sub`: by the pair of operands (for `add` the unordered pair), so a held-out sum was never seen in training, in
  no template and in neither order, not even as a step of a two-step problem;
* `two_step`: every addition and subtraction in it belongs to its split by the same rule;
* `mul`: times tables have few entries and can only be learned by heart, so all products occur in training. Held-out
  questions are disjoint by text only: a product is asked about a thing that it is never asked about in training.
"""

import operator
import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from lib.data.choices import Choices, Draw
from lib.data.world import PEOPLE

Kind = Literal["add", "sub", "mul", "two_step"]
Split = Literal["train", "heldout"]
KINDS: tuple[Kind, ...] = ("add", "sub", "mul", "two_step")
ITEMS = ["apples", "books", "coins", "eggs", "flowers", "nuts", "pens", "shells", "stamps", "stones", "tickets", "toys"]
LARGE, SMALL, TABLE = range(10, 100), range(2, 10), range(2, 10)
CALCULATE = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclass(frozen=True)
class Problem:
    """One problem; `answer` holds the worked steps and ends in `#### gold`."""

    question: str
    answer: str
    gold: str
    kind: Kind
    operands: tuple[int, ...]


def _heldout(*numbers: int) -> bool:
    """One in eight tuples, scattered by a fixed integer hash (a polynomial and a multiplicative mix)."""
    state = 17
    for number in numbers:
        state = ((state * 1000003) ^ (number * 2654435761)) & 0xFFFFFFFF
    return (state * 2246822519 & 0xFFFFFFFF) >> 29 == 0


def _step_split(symbol: str, x: int, y: int) -> Split:
    """The split that a single addition or subtraction belongs to."""
    pair = sorted((x, y)) if symbol == "+" else (x, y)
    return "heldout" if _heldout(ord(symbol), *pair) else "train"


@cache
def pairs(symbol: str, split: Split) -> list[tuple[int, int]]:
    """All operand pairs of `+`, `-` (right operand in SMALL, left operand and result in LARGE) or `*` in a split."""
    if symbol == "*":
        return [(x, y) for x in TABLE for y in TABLE]
    every = [(x, y) for x in LARGE for y in SMALL if CALCULATE[symbol](x, y) in LARGE]
    return [(x, y) for x, y in every if _step_split(symbol, x, y) == split]


@cache
def triples(symbols: str, split: Split) -> list[tuple[int, int, int]]:
    """Operands (x, y, z) of `(x s y) t z` for `symbols` "st", both calculations being among the split's `pairs`."""
    seconds = set(pairs(symbols[1], split))
    firsts = [(x, y, CALCULATE[symbols[0]](x, y)) for x, y in pairs(symbols[0], split)]
    return [(x, y, z) for x, y, middle in firsts for z in SMALL if (middle, z) in seconds]


@cache
def products(split: Split) -> list[tuple[int, int, str]]:
    """Operands and things of the one-step products in a split."""
    options = [(x, y, index) for x, y in pairs("*", split) for index in range(len(ITEMS))]
    return [(x, y, ITEMS[index]) for x, y, index in options if _heldout(x, y, index) == (split == "heldout")]


# Every template of a kind names the person {n}, the thing {i} and the operands, so the template is a plain slot.
TEMPLATES = {
    "+": [
        "{n} has {x} {i} and buys {y} more. How many {i} does {n} have now?",
        "{n} found {x} {i} on Monday and {y} {i} on Friday. How many {i} did {n} find?",
        "There are {x} {i} in a box. {n} puts {y} more into it. How many {i} are in the box?",
    ],
    "-": [
        "{n} has {x} {i} and sells {y} of them. How many {i} are left?",
        "There were {x} {i} on the table. {n} took {y} of them away. How many {i} are on the table?",
        "{n} needs {x} {i} and has {y}. How many more {i} does {n} need?",
    ],
    "*": [
        "{n} has {x} bags with {y} {i} in each. How many {i} does {n} have?",
        "{n} collects {y} {i} a day for {x} days. How many {i} does {n} collect?",
        "There are {x} rows of {y} {i}. {n} counts them all. How many {i} are there?",
    ],
    "++": ["{n} has {x} {i}, buys {y} more and then finds {z}. How many {i} does {n} have now?"],
    "+-": ["{n} has {x} {i}, buys {y} more and then loses {z}. How many {i} does {n} have now?"],
    "-+": ["{n} has {x} {i}, sells {y} of them and then buys {z}. How many {i} does {n} have now?"],
    "*+": ["{n} has {x} bags with {y} {i} in each and finds {z} more. How many {i} does {n} have now?"],
    "*-": ["{n} has {x} bags with {y} {i} in each and gives {z} away. How many {i} does {n} have now?"],
}


def problem(choices: Choices, kind: Kind, split: Split = "train") -> Problem:
    """One problem of a kind, with every random choice through `choices` (a `Draw(seed)` for a random one).

    Raises:
        KeyError: for an unknown kind.
    """
    name = choices.pick(PEOPLE).name
    if kind == "mul":
        x, y, item = choices.pick(products(split))
        return _write(choices, "*", name, item, (x, y), kind)
    symbols = {"add": "+", "sub": "-"}.get(kind) or choices.branch(["++", "+-", "-+", "*+", "*-"])
    operands = choices.pick(pairs(symbols, split) if kind != "two_step" else triples(symbols, split))
    return _write(choices, symbols, name, choices.pick(ITEMS), operands, kind)


def problems(seed: int | str, count: int, kind: Kind, split: Split = "train") -> list[Problem]:
    """`count` problems of a kind with different questions, the same for the same seed."""
    draw, found = Draw(seed), {}
    while len(found) < count:
        made = problem(draw, kind, split)
        found.setdefault(made.question, made)
    return list(found.values())


def _write(choices: Choices, symbols: str, name: str, item: str, operands: tuple[int, ...], kind: Kind) -> Problem:
    numbers = dict(zip("xyz", operands, strict=False))
    question = choices.pick(TEMPLATES[symbols]).format(n=name, i=item, **numbers)
    total, steps = operands[0], []
    for symbol, right in zip(symbols, operands[1:], strict=True):
        result = CALCULATE[symbol](total, right)
        steps.append(f"{total} {symbol} {right} = <<{total}{symbol}{right}={result}>>{result} {item}.")
        total = result
    return Problem(question, "\n".join([*steps, f"#### {total}"]), str(total), kind, operands)


def predicted(text: str) -> str | None:
    """The number a model's text gives after its first `####`, without thousands commas; None when there is none."""
    found = re.search(r"####\s*(-?[\d,]+)", text)
    return found.group(1).replace(",", "") if found else None
