"""Two-step problems: gold by reading the question, entropy by writing out every question, splits that share nothing."""

import math
import re
from collections import Counter
from functools import cache
from itertools import combinations

import pytest

from lib.data import two_step
from lib.data.choices import Draw
from lib.data.two_step import ITEMS, NAMES, SMALL, SPLITS, Problem, cases, distinct, entropy_bits, problem, problems
from lib.metrics.answers import extract_gsm8k

GAINS, LOSSES = ("finds", "buys"), ("sells", "loses")
TRAINED = ("train", "validation", "test")
each_split = pytest.mark.parametrize("split", SPLITS)


@cache
def some(split: str) -> list[Problem]:
    return problems(5, 300, split)


def steps(question: str) -> list[int]:
    """The start and the signed changes, read off the words of a question."""
    (start,) = re.findall(r"has (\d+)", question)
    verbs = re.findall(rf"({'|'.join(GAINS + LOSSES)}) (\d+)", question)
    return [int(start), *(int(n) if verb in GAINS else -int(n) for verb, n in verbs)]


class Told:
    """Choices answered by a list of indices; records how many options there were each time."""

    def __init__(self, indices: list[int]) -> None:
        self.indices, self.counts = indices, []

    def pick(self, options):
        index = self.indices[len(self.counts)] if len(self.counts) < len(self.indices) else 0
        self.counts.append(len(options))
        return options[index]

    branch = pick


def every_question(split: str) -> dict[str, float]:
    """Each question that can be written with its probability, by trying all answers to all choices in turn."""
    found, indices = Counter(), []
    while True:
        told = Told(indices)
        found[problem(told, split).question] += 1 / math.prod(told.counts)
        indices = indices + [0] * (len(told.counts) - len(indices))
        while indices and indices[-1] + 1 == told.counts[len(indices) - 1]:
            indices.pop()
        if not indices:
            return found
        indices[-1] += 1


@each_split
def test_gold_is_what_the_question_says(split):
    for made in some(split):
        assert str(sum(steps(made.question))) == made.gold
        assert [abs(change) for change in steps(made.question)] == list(made.operands)
        assert ["+" if change > 0 else "-" for change in steps(made.question)[1:]] == list(made.symbols)


@each_split
def test_answers_work_the_steps_and_end_in_the_gold(split):
    for made in some(split):
        *worked, last = made.answer.split("\n")
        running = made.operands[0]
        for line, change in zip(worked, steps(made.question)[1:], strict=True):
            sign = "+" if change > 0 else "-"
            assert line.replace(" ", "") == f"{running}{sign}{abs(change)}={running + change}"
            running += change
            assert running > 0
        assert last == f"#### {made.gold}"
        assert extract_gsm8k(made.answer) == made.gold
        assert "####" not in made.question


@pytest.mark.parametrize("split", ["test", "wording"])
def test_entropy_is_that_of_all_questions_written_out(split, monkeypatch):
    monkeypatch.setattr(two_step, "NAMES", NAMES[:2])
    monkeypatch.setattr(two_step, "ITEMS", ITEMS[:1])
    every = every_question(split)
    assert len(every) == distinct(split)
    assert sum(every.values()) == pytest.approx(1)
    assert entropy_bits(split) == pytest.approx(-sum(p * math.log2(p) for p in every.values()))


@each_split
def test_entropy_is_the_mean_surprisal(split):
    draw = Draw(3)
    for _ in range(50):
        problem(draw, split)
    assert draw.surprisal / 50 / math.log(2) == pytest.approx(entropy_bits(split))
    assert entropy_bits(split) == pytest.approx(math.log2(distinct(split)))


def test_a_question_says_so_many_bits():
    """Names, things and wordings are 3 + 2.6 + 2 bits; the rest are numbers and operations."""
    assert entropy_bits("test") == pytest.approx(3 + math.log2(6) + 2 + math.log2(len(cases("test"))))
    assert entropy_bits("train") - entropy_bits("test") == pytest.approx(math.log2(6), abs=0.1)


def test_splits_share_no_operands():
    held = {split: set(cases(split)) for split in TRAINED}
    assert all(not held[one] & held[other] for one, other in combinations(TRAINED, 2))
    every = {(s, o) for s in ("++", "+-", "-+", "--") for o in _triples() if _positive(s, o)}
    assert set.union(*held.values()) == every
    sizes = {split: len(found) / len(every) for split, found in held.items()}
    assert sizes == pytest.approx({"train": 0.75, "validation": 0.125, "test": 0.125}, abs=0.015)


def _triples() -> list[tuple[int, int, int]]:
    return [(x, y, z) for x in SMALL for y in SMALL for z in SMALL]


def _positive(symbols: str, operands: tuple[int, int, int]) -> bool:
    first = operands[0] + int(f"{symbols[0]}{operands[1]}")
    return first > 0 and first + int(f"{symbols[1]}{operands[2]}") > 0


def test_what_is_drawn_comes_from_its_split():
    drawn = {split: {tuple(steps(p.question)) for p in some(split)} for split in TRAINED}
    assert all(not drawn[one] & drawn[other] for one, other in combinations(TRAINED, 2))
    for split in TRAINED:
        assert {(made.symbols, made.operands) for made in some(split)} <= set(cases(split))
        assert len({made.symbols for made in some(split)}) == 4


def test_other_splits_are_outside_of_what_is_trained_on():
    trained = {number for split in TRAINED for _, operands in cases(split) for number in operands}
    assert min(made.operands[0] for made in some("numbers")) > max(trained)
    assert {len(made.symbols) for made in some("harder")} == {3}
    assert {len(made.symbols) for made in some("train")} == {2}
    assert all(made.question.startswith("How many") for made in some("wording"))
    assert not any(made.question.startswith("How many") for split in TRAINED for made in some(split))
    assert set(cases("wording")) == set(cases("test"))


@each_split
def test_same_seed_same_problems_more_begin_alike_other_seed_others(split):
    assert problems(5, 300, split) == some(split)
    assert problems(5, 10, split) == some(split)[:10]
    assert problems(6, 10, split) != some(split)[:10]
    assert len({made.question for made in some(split)}) == 300


def test_every_name_thing_and_phrase_occurs_about_as_often():
    words = Counter(word for made in some("train") for word in re.findall(r"\w+", made.question.split(".")[0]))
    assert min(words[name] for name in NAMES) > 300 / 8 / 2
    assert min(words[item] for item in ITEMS) > 300 / 6 / 2
    assert all(abs(words[one] / (words[one] + words[two]) - 0.5) < 0.15 for one, two in (GAINS, LOSSES))


def test_more_than_there_are_is_refused(monkeypatch):
    monkeypatch.setattr(two_step, "NAMES", ["Ada"])
    monkeypatch.setattr(two_step, "ITEMS", ["pens"])
    monkeypatch.setattr(two_step, "cases", lambda split: [("+-", (5, 3, 2))])
    assert distinct("test") == 4
    assert len(problems(0, 4, "test")) == 4
    with pytest.raises(ValueError, match="There are 4 different problems in 'test' and 5 are asked for"):
        problems(0, 5, "test")
