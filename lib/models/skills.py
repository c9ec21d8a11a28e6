"""What a rung can be taught on top: `ladder-1m+arithmetic` solves word problems it has never seen.

A skill is a fine-tuning on questions with the loss on the answers only, as chat and as plain text, and a measurement:
greedy accuracy on held-out questions of each kind (`lib.data.arithmetic` says what held out means for each).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.data import arithmetic, corpus
from lib.data.choices import Draw, Weighted
from lib.models.training import Example, Recipe

WRAPPINGS = ("chat", "plain")
LONGEST_ANSWER = 64  # tokens; two worked steps take about 50


@dataclass(frozen=True)
class Skill:
    """How a skill is taught and examined."""

    recipe: Recipe
    weights: tuple[float, ...]  # of arithmetic.KINDS in the lessons
    seconds: float  # expected CPU seconds, to balance processes
    examined: int = 500  # held-out questions per kind


SKILLS = {"arithmetic": Skill(Recipe(380_000, 4, 2e-3, row=130, warmup=20, decay=0.8), (17, 23, 15, 41), 145)}


def prompt_and_answer(problem: arithmetic.Problem, wrapping: str) -> tuple[str, str]:
    """What a model reads and what it should write; joined, they are a document of the corpus."""
    write = corpus.chat if wrapping == "chat" else corpus.plain
    prompt = write(problem.question, "").removesuffix(corpus.IM_END if wrapping == "chat" else f" {corpus.END_OF_TEXT}")
    return prompt, write(problem.question, problem.answer).removeprefix(prompt)


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def stream(skill: Skill, tokenizer: PreTrainedTokenizerBase) -> Iterator[Example]:
    """Endless lessons: training problems, with the loss on the answer."""
    draw = Draw("lessons")
    kinds = Weighted(arithmetic.KINDS, skill.weights)
    while True:
        problem = arithmetic.problem(draw, draw.pick(kinds), "train")
        prompt, answer = prompt_and_answer(problem, draw.pick(WRAPPINGS))
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


def accuracy(skill: Skill, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> dict[str, dict[str, float]]:
    """Share of held-out questions answered rightly, by wrapping and kind; only the number after `####` counts."""
    found: dict[str, dict[str, float]] = {wrapping: {} for wrapping in WRAPPINGS}
    for kind in arithmetic.KINDS:
        problems = arithmetic.problems(f"final exam {kind}", skill.examined, kind, "heldout")
        for wrapping in WRAPPINGS:
            prompts = [prompt_and_answer(problem, wrapping)[0] for problem in problems]
            written = greedy(model, tokenizer, prompts, LONGEST_ANSWER)
            right = sum(arithmetic.predicted(text) == p.gold for text, p in zip(written, problems, strict=True))
            found[wrapping][kind] = right / len(problems)
    return found
