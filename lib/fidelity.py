"""Are an arm's samples the model's, and what are they worth? Answers to questions, over many independent replicates.

`batched` draws `num_samples` per replicate, and every other arm as many as its own counters say that the same
token-forwards buy. What they find is compared with a large set of independent draws: the law of the answers (equal
where the text behind `####` is), of the first three tokens together, and the mean log-probability.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from tqdm import tqdm

from lib.data.questions import Question, answer, questions
from lib.generators import replicates
from lib.generators.common import Output, Sample, SamplingParams
from lib.metrics import law
from lib.models.hub import LoadedModel

PROTOCOL = "law"
BASELINE = "batched"
# `bifurcated` draws what `batched` draws, and drops rows that have ended: what trees save beyond that is the merging.
# EAB is judged at the run's own threshold.
JUDGED = ("bifurcated", "eab", "tree", "tree_multinomial", "arithmetic")
TOGETHER = 20  # replicates per forward
BEGINNING = 3  # tokens: the first alone is all but certain in answers to a question


@dataclass(frozen=True)
class Study:
    """How much to draw."""

    questions: int
    replicates: int  # per arm and question
    reference: int  # independent draws per question
    answer_tokens: int  # new tokens per answer at most


def judge(
    lm: LoadedModel, arms: Sequence[str], params: SamplingParams, study: Study, seed: int
) -> Iterator[dict[str, Any]]:
    """One flat row per question and arm, `batched` first, as they are finished; progress on stderr."""
    # Not compiled: the search for equal costs tries many N, each of which would be a graph of its own.
    params = replace(params, max_new_tokens=study.answer_tokens, prompts_together=TOGETHER, compile=False)
    asked = questions(lm.tokenizer, study.questions, seed)
    for i, question in enumerate(tqdm(asked, desc=f"answers of {lm.name}", unit="question")):
        for row in _question(lm, arms, params, study, question, seed * study.questions + i):
            yield {"protocol": PROTOCOL, "prompt": i, "kind": question.kind} | row


def table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """The rows to read, by kind of question and arm; empty where nothing was judged."""
    columns = ["num_samples", "token_forwards", "entropy_reference", "entropy_bias", "entropy_rmse"]
    columns += ["effective_samples", "tv_answers", "tv_answers_noise", "nll", "nll_reference"]
    return pd.DataFrame(rows, columns=["prompt", "kind", "arm", *columns]).set_index(["prompt", "kind", "arm"])


def _question(
    lm: LoadedModel, arms: Sequence[str], params: SamplingParams, study: Study, question: Question, seed: int
) -> Iterator[dict[str, Any]]:
    prompt = torch.tensor(question.ids, device=lm.device)
    truth = replicates.reference(lm.model, prompt, params, study.reference, seed)
    budget = replicates.pilot_cost(BASELINE, lm.model, prompt, params, seed)
    for arm in [BASELINE, *(arm for arm in arms if arm in JUDGED)]:
        n = params.num_samples
        if arm != BASELINE:
            n = replicates.equal_cost(arm, lm.model, prompt, params, budget, seed)
        outputs = replicates.draws(arm, lm.model, prompt, replace(params, num_samples=n), study.replicates, seed)
        # Rows of a plain batch wait for the last of all replicates decoded with them, so its cost is that of one alone.
        spent = budget if arm == BASELINE else replicates.token_forwards(outputs)
        sizes = {"num_samples": n, "replicates": study.replicates, "reference": study.reference}
        yield {"arm": arm, "token_forwards": spent} | sizes | _compare(lm, outputs, truth)


def _compare(lm: LoadedModel, outputs: list[Output], truth: list[Sample]) -> dict[str, Any]:
    """Entropy, masses and worth of the answers, total variation beside its noise, and mean -log p in nats."""
    pooled = [sample for output in outputs for sample in output.samples]
    answers = [_answers(lm, output.samples) for output in outputs]
    true_answers = _answers(lm, truth)
    of_answers = law.fidelity([label for labels in answers for label in labels], true_answers)
    of_first = law.fidelity(_beginnings(pooled), _beginnings(truth))
    return law.judge(answers, law.masses(true_answers), len(truth)) | {
        "tv_answers_noise": of_answers.noise_95,
        "tv_first": of_first.tv,
        "tv_first_noise": of_first.noise_95,
        "nll": _nll(pooled),
        "nll_reference": _nll(truth),
    }


def _answers(lm: LoadedModel, samples: list[Sample]) -> list[str]:
    return [answer(text) for text in lm.tokenizer.batch_decode([sample.tokens for sample in samples])]


def _beginnings(samples: list[Sample]) -> list[tuple[int, ...]]:
    return law.prefixes([sample.tokens for sample in samples], BEGINNING)


def _nll(samples: list[Sample]) -> float:
    return -sum(sample.logprob for sample in samples) / len(samples)
