"""What the trained pair is taught: the two generated tasks of the bridge study, and drills of their hard parts.

A document of a task is [BOS | question, line end | anchor | answer | EOS], each part tokenized on its own, because that
is how the bridge study puts them together; the loss is on the answer. The pair sees a third of a million of its tokens,
which is little, so:

* most tokens of an answer are copied, which the pair nearly can from the start (`lib.models.induction`). What has to be
  learned is a sum and whether two towns are one, a few tokens of each answer: `sum` and `same` are a step and a last
  line alone, three times as many of them in the same time. Without these drills the target solved 0.67 of arithmetic
  and 0.80 of multihop (all but the yes and no), with them 0.99 of both, in less time;
* the opening is multihop, until its loss says that hops are learned, which takes 100 to 250 steps. Arithmetic before
  that unlearns the copying (multihop then stays below 0.6);
* a `relay` is an answer to be repeated. Whoever is given another model's written answer has to know what to do with it.

All are made from training questions, fresh ones without end.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import NamedTuple

from transformers import PreTrainedTokenizerBase

from lib.data import two_hop, two_step
from lib.data.choices import Draw, Weighted
from lib.models.bridge_reader import ANCHOR
from lib.models.training import Example

AT_ONCE = 200  # documents tokenized together


@dataclass(frozen=True)
class Lessons:
    """How often each kind of document comes: `weights` in general, `opening` before, for `opened` documents at most."""

    weights: dict[str, float]
    opening: dict[str, float]
    opened: int
    whole: float = 0.0  # share of the documents after the opening with the loss on all tokens


class Lesson(NamedTuple):
    """A document in parts; a drill is a fragment of an answer and has neither question nor anchor."""

    given: list[str]
    answer: str
    ends: bool = True  # whether the answer ends here
    whole: bool = False  # whether the loss is on all tokens


def asked(question: str, answer: str) -> Lesson:
    """The document of a question of either task."""
    return Lesson([f"{question}\n", ANCHOR], answer)


def _arithmetic(draw: Draw) -> two_step.Problem:
    return two_step.problem(draw, "train")


def _multihop(draw: Draw) -> two_hop.Question:
    while two_hop.split_of(made := two_hop.question(draw)) != "train":
        pass
    return made


def _relay(draw: Draw) -> Lesson:
    made = draw.branch([_arithmetic, _multihop])(draw)
    return asked(made.answer, made.answer)


def _sum(draw: Draw) -> Lesson:
    *steps, _ = _arithmetic(draw).answer.splitlines()
    left, result = draw.pick(steps).split("=")
    return Lesson([f"{left}="], f"{result}\n", ends=False)


def _same(draw: Draw) -> Lesson:
    while (made := _multihop(draw)).kind != "compare":
        pass
    return Lesson([made.answer.removesuffix(f" {made.gold}")], f" {made.gold}")


KINDS: dict[str, Callable[[Draw], Lesson]] = {
    "arithmetic": lambda draw: asked((made := _arithmetic(draw)).question, made.answer),
    "multihop": lambda draw: asked((made := _multihop(draw)).question, made.answer),
    "relay": _relay,
    "sum": _sum,
    "same": _same,
}


def lessons(plan: Lessons, seed: int | str, learned: Callable[[], bool]) -> Iterator[Lesson]:
    """Endless lessons; the opening ends when `learned` says so, or after `plan.opened` documents."""
    draw = Draw(f"pair {seed}")
    opening = Weighted(list(plan.opening), list(plan.opening.values()))
    for _ in takewhile(lambda _: not learned(), range(plan.opened)):
        yield KINDS[draw.branch(opening)](draw)
    general = Weighted(list(plan.weights), list(plan.weights.values()))
    while True:
        lesson = KINDS[draw.branch(general)](draw)
        yield lesson._replace(whole=draw.random.random() < plan.whole)


def stream(
    plan: Lessons, tokenizer: PreTrainedTokenizerBase, seed: int | str, learned: Callable[[], bool]
) -> Iterator[Example]:
    """Endless training examples of `lessons`; `learned` takes effect AT_ONCE documents late at most."""
    made = lessons(plan, seed, learned)
    while True:
        yield from examples(tokenizer, list(islice(made, AT_ONCE)))


def examples(tokenizer: PreTrainedTokenizerBase, made: list[Lesson]) -> list[Example]:
    """Token ids of lessons, with the loss on the answer or on all tokens."""
    texts = [text for lesson in made for text in (*lesson.given, lesson.answer)]
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    found = []
    for lesson in made:
        given = [tokenizer.bos_token_id, *(token for _ in lesson.given for token in next(ids))]
        end = [tokenizer.eos_token_id] if lesson.ends else []
        found.append(Example(given + next(ids) + end, 1 if lesson.whole else len(given)))
    return found
