"""Does the output follow the target's law? Every emitted token scored by the target itself, in one forward per answer.

Greedy: is each token the likeliest after those before it, up to what rounding can do, and where an answer leaves the
baseline's, how near a tie was that? Sampled: the audit of `lib.metrics.lossless`. The scores come from transformers'
plain forward, so they check any engine; a model that this process cannot load is not audited, which is said.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.generators.sampling import probabilities
from lib.metrics import lossless
from lib.models import hub
from lib.models.registry import ModelError
from lib.specdec.latency import Asked, Timed
from lib.specdec.target import Target

PROTOCOL = "audit"
ROUNDINGS = 8  # of the largest logit: how far two engines' logits of one text may lie apart


def audit(target: Target, timed: Iterable[Timed]) -> Iterator[dict[str, Any]]:
    """One row per arm over its first answer to everything asked; the engine may be gone by now."""
    try:
        _ = target.lm
    except ModelError as error:
        print(f"Not audited, since the model cannot be loaded beside its engine: {error}", file=sys.stderr)
        return
    asked = list(dict.fromkeys(answer.asked for answer in timed))
    judge = _greedy if target.decoding.greedy else _sampled
    for arm in asked[0].answers:
        with hub.explain_oom("max_new_tokens"):
            found = judge(target, arm, asked)
        yield target.about | {"protocol": PROTOCOL, "arm": arm, "requests": len(asked)} | found


def _scores(target: Target, ids: list[int], tokens: list[int]) -> Tensor:
    """float32 logits [new tokens, V] that the target gives where each token was chosen."""
    text = torch.tensor([ids + tokens[:-1]], device=target.lm.device)
    with torch.inference_mode():
        return target.lm.model(text, use_cache=False, logits_to_keep=len(tokens)).logits[0].float()


def _greedy(target: Target, arm: str, asked: Sequence[Asked]) -> dict[str, Any]:
    """tokens, of these likeliest; margin (the largest gap of logits where one is not) and tolerance (what rounding
    explains); diverged (answers that leave the baseline's) and tie (the largest gap of the two best logits there).
    """
    gaps, largest, diverged, ties = [], 0.0, 0, []
    for one in asked:
        tokens = one.answers[arm].tokens
        scores = _scores(target, one.ids, tokens)
        chosen = scores.gather(-1, torch.tensor(tokens, device=scores.device)[:, None])[:, 0]
        gaps.append((scores.max(-1).values - chosen).cpu())
        largest = max(largest, float(scores.abs().max()))
        split = _split(one, arm)
        diverged += split is not None
        if split is not None and split < len(tokens):
            first, second = scores[split].topk(2).values.tolist()
            ties.append(first - second)
    gap = torch.cat(gaps)
    tolerance = ROUNDINGS * torch.finfo(target.lm.dtype).eps * largest
    return {
        "tokens": len(gap),
        "likeliest": int((gap == 0).sum()),
        "margin": float(gap.max()),
        "tolerance": tolerance,
        "diverged": diverged,
        "tie": max(ties, default=None),
        "passed": float(gap.max()) <= tolerance,
    }


def _split(one: Asked, arm: str) -> int | None:
    """Where the arm's answer leaves the baseline's; None where it does not, or there is none beside it."""
    baseline = one.answers.get("baseline")
    return lossless.divergence(baseline.tokens, one.answers[arm].tokens) if baseline else None


def _sampled(target: Target, arm: str, asked: Sequence[Asked]) -> dict[str, Any]:
    """The columns of `lossless.Audit`."""
    parts = []
    for one in asked:  # one by one: all laws together would not fit into memory
        tokens = one.answers[arm].tokens
        law = probabilities(_scores(target, one.ids, tokens), target.decoding)
        parts.append(lossless.surprise(law.log().cpu().numpy(), np.array(tokens)))
    return lossless.audit(*(np.concatenate(values) for values in zip(*parts, strict=True))).row()
