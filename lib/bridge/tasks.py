"""The tasks that a bridge is trained and judged on: what is asked, how an answer is read, and when it counts.

`arithmetic` and `multihop` are generated, so that their entropy is known and nothing has to be downloaded; `gsm8k` and
`hotpotqa` are the real sets, from the hub or from a local file. Validation items are taken from the training set, never
from the test set.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from lib.data import gsm8k, hotpotqa, rows, two_hop, two_step
from lib.data.rows import DataError
from lib.metrics import answers

FEWEST = 20  # rows of a file that is cut into three
CARVED = 500  # items of a real training set, from its end, that are kept for validation


@dataclass(frozen=True)
class Item:
    """One question with its worked answer, which ends in `#### gold`, and the gold alone."""

    question: str
    answer: str
    gold: str


@dataclass(frozen=True)
class Task:
    """A task by name.

    load: (split, count, path) -> items of "train", "validation", "test" or one of `shifts`; path: a local file or
    folder, for the real sets only. read: text -> the answer it gives or None; right: whether that is the gold;
    flexible: `read`, more forgiving.
    instruction: what an untrained model has to be told before the question. entropy_bits: of a question, where known.
    """

    name: str
    load: Callable[[str, int, str], list[Item]]
    read: Callable[[str], str | None]
    right: Callable[[str | None, str], bool]
    flexible: Callable[[str], str | None]
    max_new_tokens: int
    instruction: str = ""
    shifts: tuple[str, ...] = ()
    entropy_bits: Callable[[], float] | None = None
    overlap: bool = False  # answers are words, so EM and F1 are told as well


@cache
def _arithmetic(split: str, count: int, path: str) -> list[Item]:
    return [_item(made) for made in two_step.problems(0, count, split)]


@cache
def _multihop(split: str, count: int, path: str) -> list[Item]:
    return [_item(made) for made in two_hop.questions(0, count, split)]


def _item(made: Any) -> Item:
    return Item(made.question, made.answer, made.gold)


def _rows(load: Callable[[str], list[Any]], split: str, count: int, held: str, path: str) -> list[Any]:
    """Rows of a real set: its own `held` split for testing, the end of its training split for validation.

    A local file is one split, as is a saved `Dataset`, so it is cut: the first two fifths for testing, a tenth for
    validation, the rest for training.
    """
    if path and rows.is_one_split(path):
        every = load(held)
        if len(every) < FEWEST:
            raise DataError(f"'{path}' has {len(every)} rows, too few to test, validate and train: give {FEWEST}.")
        tested, validated = len(every) * 2 // 5, len(every) // 2
        parts = {"test": every[:tested], "validation": every[tested:validated], "train": every[validated:]}
        return parts[split][:count]
    if split == "test":
        return load(held)[:count]
    every = load("train")
    return every[-CARVED:][:count] if split == "validation" else every[:-CARVED][:count]


def _exact(prediction: str | None, gold: str) -> bool:
    return answers.hotpotqa_em_f1(prediction, gold)[0] == 1.0


def _gsm8k(split: str, count: int, path: str) -> list[Item]:
    return [_item(row) for row in _rows(lambda name: gsm8k.load(path or None, name), split, count, "test", path)]


def _hotpotqa(split: str, count: int, path: str) -> list[Item]:
    found = _rows(lambda name: hotpotqa.load(path or None, name), split, count, "validation", path)
    return [Item(f"{row.context}\n{row.question}", f"#### {row.answer}", row.answer) for row in found]


MATHS = "Solve the problem step by step and end with a line '#### NUMBER'."
READING = "Answer the question from the text in a few words, on a line '#### ANSWER'."
TASKS = {
    task.name: task
    for task in (
        Task(
            "arithmetic",
            _arithmetic,
            answers.extract_gsm8k,
            answers.same_number,
            answers.extract_flexible,
            max_new_tokens=32,  # three steps, which `harder` asks for, take 26
            shifts=("numbers", "harder", "wording"),
            entropy_bits=two_step.entropy_bits,
        ),
        Task(
            "multihop",
            _multihop,
            answers.extract_entity,
            _exact,
            answers.extract_entity,
            max_new_tokens=28,  # two hops take 20
            entropy_bits=two_hop.entropy_bits,
            overlap=True,
        ),
        Task("gsm8k", _gsm8k, answers.extract_gsm8k, answers.same_number, answers.extract_flexible, 256, MATHS),
        Task(
            "hotpotqa",
            _hotpotqa,
            answers.extract_entity,
            _exact,
            answers.extract_entity,
            max_new_tokens=48,
            instruction=READING,
            overlap=True,
        ),
    )
}
