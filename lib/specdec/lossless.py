"""Does the output follow the target's law? Every emitted token scored by the target itself, in one forward per answer.

Greedy: is each token the likeliest after those before it, and by how much does it miss where it is not? Sampled: the
audit of `lib.metrics.lossless`. The scores come from transformers' plain forward, so they check any engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from lib.generators.sampling import probabilities
from lib.metrics import lossless
from lib.models import hub
from lib.specdec.latency import Asked
from lib.specdec.target import Target

PROTOCOL = "audit"


def audit(target: Target, asked: Sequence[Asked]) -> Iterator[dict[str, Any]]:
    """One row per arm over all its first answers."""
    if not asked:
        return
    for arm in asked[0].answers:
        with hub.explain_oom("max_new_tokens"):
            scored = [_scores(target, one.ids, one.answers[arm].tokens) for one in asked]
        judge = _greedy if target.decoding.greedy else _sampled
        yield (
            target.about
            | {"protocol": PROTOCOL, "arm": arm, "requests": len(asked)}
            | judge(target, scored, [one.answers[arm].tokens for one in asked])
        )


def _scores(target: Target, ids: list[int], tokens: list[int]) -> torch.Tensor:
    """float32 logits [new tokens, V] that the target gives where each token was chosen."""
    text = torch.tensor([ids + tokens[:-1]], device=target.lm.device)
    with torch.inference_mode():
        return target.lm.model(text, use_cache=False, logits_to_keep=len(tokens)).logits[0].float().cpu()


def _greedy(target: Target, scored: list[torch.Tensor], answers: list[list[int]]) -> dict[str, Any]:
    """Share of emitted tokens that are the likeliest, and the largest gap of logits where one is not."""
    best = torch.cat([logits.max(-1).values for logits in scored])
    chosen = torch.cat([s.gather(-1, torch.tensor(a)[:, None])[:, 0] for s, a in zip(scored, answers, strict=True)])
    gap = best - chosen
    wrong = int((gap > 0).sum())
    return {"tokens": len(gap), "likeliest": len(gap) - wrong, "margin": float(gap.max()), "passed": wrong == 0}


def _sampled(target: Target, scored: list[torch.Tensor], answers: list[list[int]]) -> dict[str, Any]:
    laws = torch.cat([probabilities(logits, target.decoding) for logits in scored]).log().numpy()
    return lossless.audit(*lossless.surprise(laws, np.concatenate(answers))).row()
