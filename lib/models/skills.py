"""What a rung can be taught on top: `ladder-1m+arithmetic` solves word problems it has never seen.

A skill is a fine-tuning on tasks with the loss on the answers only, as chat and as plain text, and a measurement:
greedy accuracy on held-out tasks of each kind. The skills:

* `arithmetic`: the problems of `lib.data.arithmetic`, which says what held out means for each kind;
* `copyedit`: the tasks of `lib.data.copyedit`, held out where the training stream of `lib.data.corpus` is without them.
  Replacing a word takes a circuit that the tasks themselves do not teach in any reasonable time: two of fifty tokens of
  an answer need it. So lessons begin with `swap`, the same request over a line of words half of which are to be
  replaced, and documents of the corpus are mixed in, with the loss on all of them, so that nothing else is unlearned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.data import arithmetic, copyedit, corpus
from lib.data.choices import Draw, Weighted, several
from lib.data.world import THINGS
from lib.models.training import Example, Recipe

WRAPPINGS = ("chat", "plain")
LONGEST_ANSWER = 64  # tokens; two worked steps take about 50, a copied passage 55
SWAPPED_WORDS = 8  # of a line of `swap`
DOCUMENT = "document"  # among the weights of a skill: a document of the corpus instead of a task


class Task(NamedTuple):
    """What a model is asked and what it should write."""

    question: str
    answer: str


@dataclass(frozen=True)
class Skill:
    """How a skill is taught and examined."""

    subject: str  # of SUBJECTS
    recipe: Recipe
    weights: dict[str, float]  # of the kinds of tasks in the lessons, and of DOCUMENT
    seconds: float  # expected CPU seconds, to balance processes
    examined: int = 500  # held-out tasks per kind
    opening: tuple[int, dict[str, float]] = (0, {})  # how many lessons come first, and the weights of their kinds


def _arithmetic(draw: Draw, kind: str, split: arithmetic.Split) -> Task:
    made = arithmetic.problem(draw, kind, split)
    return Task(made.question, made.answer)


def _copyedit(draw: Draw, kind: str, split: arithmetic.Split) -> Task:
    stream = "validation" if split == "heldout" else "train"
    while True:
        task = _swap(draw) if kind == "swap" else _copied(draw, kind)
        if corpus.stream_of(corpus.chat(*task)) == stream:
            return task


def _copied(draw: Draw, kind: str) -> Task:
    made = copyedit.task(draw, kind)
    return Task(f"{made.instruction}\n\n{made.passage}", made.answer)


def _swap(draw: Draw) -> Task:
    """An edit of a line of words instead of sentences; half of them are to be replaced."""
    old, new, *others = several(draw, THINGS, 6)
    words = [draw.pick(draw.pick([[old], others])) for _ in range(SWAPPED_WORDS)]
    answer = " ".join(new if word == old else word for word in words)
    return Task(f'Write the text again with "{new}" for "{old}".\n\n{" ".join(words)}', answer)


class Subject(NamedTuple):
    """What a skill is about: the kinds examined, a task of a kind and split, and whether a text answers a task."""

    kinds: tuple[str, ...]
    task: Callable[[Draw, str, arithmetic.Split], Task]
    solved: Callable[[str, str], bool]  # by what was written and the answer


SUBJECTS = {
    # Of arithmetic only the number after `####` counts; a plain answer begins with a space.
    "arithmetic": Subject(
        arithmetic.KINDS, _arithmetic, lambda text, answer: arithmetic.predicted(text) == arithmetic.predicted(answer)
    ),
    "copyedit": Subject(copyedit.KINDS, _copyedit, lambda text, answer: text.strip() == answer),
}
SKILLS = {
    "arithmetic": Skill(
        "arithmetic",
        Recipe(380_000, 4, 2e-3, row=130, warmup=20, decay=0.8),
        {"add": 17, "sub": 23, "mul": 15, "two_step": 41},
        145,
    ),
    "copyedit": Skill(
        "copyedit",
        Recipe(200_000, 2, 2e-3, warmup=20, decay=0.7),
        {"list": 15, "repeat": 6, "edit": 24, "quote": 4, "swap": 15, DOCUMENT: 36},
        75,
        examined=100,
        opening=(3500, {"swap": 2, "list": 1}),
    ),
}


def prompt_and_answer(task: Task, wrapping: str) -> tuple[str, str]:
    """What a model reads and what it should write; joined, they are a document of the corpus."""
    write = corpus.chat if wrapping == "chat" else corpus.plain
    prompt = write(task.question, "").removesuffix(corpus.IM_END if wrapping == "chat" else f" {corpus.END_OF_TEXT}")
    return prompt, write(*task).removeprefix(prompt)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _kinds(skill: Skill, draw: Draw) -> Iterator[str]:
    lessons, weights = skill.opening
    for _ in range(lessons):
        yield draw.pick(Weighted(list(weights), list(weights.values())))
    rest = Weighted(list(skill.weights), list(skill.weights.values()))
    while True:
        yield draw.pick(rest)


def stream(skill: Skill, tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    """Endless lessons: training tasks, with the loss on the answer, and the documents that a skill mixes in."""
    draw, documents = Draw("lessons"), corpus.generate("lessons")
    task = SUBJECTS[skill.subject].task
    for kind in _kinds(skill, draw):
        if kind == DOCUMENT:
            yield Example(_ids(tokenizer, tokenizer.bos_token + next(documents).text))
            continue
        prompt, answer = prompt_and_answer(task(draw, kind, "train"), draw.pick(WRAPPINGS))
        read = _ids(tokenizer, tokenizer.bos_token + prompt)
        yield Example(read + _ids(tokenizer, answer), len(read))


@torch.no_grad()
def greedy(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_new_tokens: int
) -> list[str]:
    """Greedy continuations, decoded together; each prompt gets `<|endoftext|>` in front, each text ends at its stop."""
    batch = tokenizer(
        [tokenizer.bos_token + prompt for prompt in prompts],
        padding=True,
        padding_side="left",
        return_tensors="pt",
        add_special_tokens=False,
    )
    stops = [tokenizer.eos_token_id, tokenizer.bos_token_id]
    written = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=stops,
        pad_token_id=tokenizer.pad_token_id,
    )
    return tokenizer.batch_decode(written[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)


def exam(skill: Skill, kind: str) -> list[Task]:
    """The held-out tasks of a kind that the skill is examined on, all different."""
    draw, found = Draw(f"final exam {kind}"), {}
    while len(found) < skill.examined:
        task = SUBJECTS[skill.subject].task(draw, kind, "heldout")
        found.setdefault(task.question, task)
    return list(found.values())


def accuracy(skill: Skill, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, float]]:
    """Share of held-out tasks solved, by wrapping and kind."""
    subject = SUBJECTS[skill.subject]
    found: dict[str, dict[str, float]] = {wrapping: {} for wrapping in WRAPPINGS}
    for kind in subject.kinds:
        tasks = exam(skill, kind)
        for wrapping in WRAPPINGS:
            prompts = [prompt_and_answer(task, wrapping)[0] for task in tasks]
            written = greedy(model, tokenizer, prompts, LONGEST_ANSWER)
            solved = sum(subject.solved(text, task.answer) for text, task in zip(written, tasks, strict=True))
            found[wrapping][kind] = solved / len(tasks)
    return found
