"""What an arm's answers are worth: the error of their entropy against `batched`'s, at equal token-forwards.

Questions whose answers are the same where the text behind `####` is (`lib.data.questions`). `batched` draws
`num_samples` per replicate; each other arm draws as many as its own counters say that the same token-forwards buy. The
reference is a large set of independent draws. An answer takes more tokens than the settings of 1a3 give: see `LENGTH`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from lib.data.questions import answer, questions
from lib.generators.common import Sample, SamplingParams
from lib.generators.replicates import draws, equal_cost, pilot_cost, reference, token_forwards
from lib.metrics.law import judge, masses
from lib.models.hub import LoadedModel

PROTOCOL = "law"
MODEL = "ladder-160k"  # one rung answers the question, and this one is cheap
BASELINE = "batched"
ARMS = ("eab", "tree", "tree_multinomial", "arithmetic")  # what others draw is what `batched` draws, for no less
LENGTH = 48  # new tokens: a two-hop answer with its reasoning is 20 to 40
QUESTIONS = 6
REPLICATES = 40  # an RMSE to about 11 % per question, 5 % over all
REFERENCE = 1500
TOGETHER = 20  # replicates per forward


def rows(lm: LoadedModel, arms: Sequence[str], law: SamplingParams, seed: int) -> Iterator[dict[str, Any]]:
    """One row per question and arm: N, measured token-forwards, and what `lib.metrics.law.judge` finds."""
    law = replace(law, max_new_tokens=LENGTH, prompts_together=TOGETHER)
    others = [arm for arm in arms if arm in ARMS]
    asked = questions(lm.tokenizer, QUESTIONS, seed)
    for i, question in enumerate(tqdm(asked, desc=f"answers of {lm.name}", unit="question")):
        prompt = torch.tensor(question.ids, device=lm.device)
        truth = masses(_labels(lm, reference(lm.model, prompt, law, REFERENCE, seed)))
        budget = pilot_cost(BASELINE, lm.model, prompt, law, seed)
        for arm in [BASELINE, *others]:
            n = law.num_samples if arm == BASELINE else equal_cost(arm, lm.model, prompt, law, budget, seed)
            outputs = draws(arm, lm.model, prompt, replace(law, num_samples=n), REPLICATES, seed)
            found = judge([_labels(lm, output.samples) for output in outputs], truth, REFERENCE)
            sizes = {"num_samples": n, "replicates": REPLICATES, "reference": REFERENCE, "budget": budget}
            about = {"protocol": PROTOCOL, "prompt": i, "kind": question.kind, "arm": arm}
            yield about | sizes | {"token_forwards": token_forwards(outputs)} | found


def report(rows: pd.DataFrame | None) -> dict[str, dict[str, float]]:
    """cluster_entropy_rmse_vs_batched: arm -> pooled ratio, the root of the summed squared errors of all questions over
    that of `batched`. Empty where no model was judged.
    """
    if rows is None:
        return {"cluster_entropy_rmse_vs_batched": {}}
    pooled = rows.groupby("arm", sort=False).entropy_rmse.agg(lambda errors: np.sqrt((errors**2).sum()))
    return {"cluster_entropy_rmse_vs_batched": (pooled / pooled[BASELINE]).to_dict()}


def _labels(lm: LoadedModel, samples: list[Sample]) -> list[str]:
    return [answer(lm.tokenizer.decode(sample.tokens)) for sample in samples]
