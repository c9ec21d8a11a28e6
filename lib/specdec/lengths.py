"""Against the number of drafted tokens: measured speedups, what drafting k takes, and what verifying q tokens takes."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from tqdm import tqdm

from lib.data import benchmark
from lib.generators.speculative.common import Response
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.ragged_cache import RaggedCache, own_attention, seen
from lib.specdec.arms import drafter
from lib.specdec.latency import cropped, encode
from lib.specdec.target import Target

PROTOCOL = "cost"
DRAFTED = (1, 2, 3, 5, 7, 10)  # tokens; the longest is what traces draft
VERIFIED = (1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 13, 16)  # tokens of a forward
PASSES = 15  # forwards per length, shuffled; the median counts


def run(target: Target, asked: Sequence[benchmark.Request]) -> Iterator[dict[str, Any]]:
    """Rows of the verify-cost curve (arm "verify") and of the method at several lengths; torch engine only."""
    if target.params.backend != "torch":
        return
    prompts = [encode(target, request.turns[:1])[0] for request in asked[: target.params.traces]]
    if not prompts:
        return
    about = target.about | {"protocol": PROTOCOL}
    middle = round(statistics.mean(map(len, prompts))) + target.params.max_new_tokens // 2
    context = min(middle, target.outline.context - max(VERIFIED))
    for tokens, seconds in verify_curve(target, context).items():
        yield about | {"arm": "verify", "tokens": tokens, "seconds": seconds, "context": context}
    if target.params.method != "baseline":
        yield from (about | row for row in _by_length(target, prompts))


def verify_curve(target: Target, context: int) -> dict[int, float]:
    """Median seconds of one forward of q tokens of one row, behind `context` tokens, for every q of VERIFIED."""
    model, device = target.lm.model, target.lm.device
    seconds: dict[int, list[float]] = {q: [] for q in VERIFIED}
    plan = [q for q in VERIFIED for _ in range(PASSES)]
    random.Random(0).shuffle(plan)
    cache = RaggedCache(model.config, context + max(VERIFIED))
    ids = torch.randint(model.config.vocab_size, (1, context + max(VERIFIED)), device=device)
    with torch.inference_mode(), own_attention(model):
        cache.place(0, None, context)
        model(input_ids=ids[:, :context], past_key_values=cache, use_cache=True, logits_to_keep=1)
        for q in tqdm([*VERIFIED, *plan], desc="verify cost", unit="forward"):
            where = torch.arange(context, context + q, device=device)[None]
            begin = _now(device)
            cache.place(context, None, context + q)
            mask = None if q == 1 else seen(where, context + q)
            model(
                input_ids=ids[:, :q],
                position_ids=where,
                attention_mask=mask,
                past_key_values=cache,
                use_cache=True,
            ).logits.argmax(-1).cpu()
            seconds[q].append(_now(device) - begin)
    return {q: statistics.median(times[1:]) for q, times in seconds.items()}


def _by_length(target: Target, prompts: list[list[int]]) -> Iterator[dict[str, Any]]:
    """The method at each number of drafted tokens: seconds to draft them, and the measured speedup.

    Every prompt is answered once by the baseline and once at every length, in random order.
    """
    base = _arm(target, "baseline")
    arms = {k: _arm(target, target.params.method, num_speculative_tokens=k) for k in DRAFTED}
    for arm in arms.values():
        arm.run(prompts[:1], [0])
    order, answers = random.Random(target.params.seed), []
    for i, prompt in enumerate(tqdm(prompts, desc="drafted tokens", unit="prompt")):
        sides = order.sample([0, *DRAFTED], len(DRAFTED) + 1)
        answers.append({k: (arms[k] if k else base).run([prompt], [i])[0] for k in sides})
    for k in DRAFTED:
        yield {"arm": target.params.method, "tokens": k} | _of_length([(found[0], found[k]) for found in answers])


def _arm(target: Target, method: str, **options: int) -> TorchArm:
    speculation = target.speculation(method, **options)
    return TorchArm(target.lm.model, drafter(target, speculation, target.decoding), target.decoding)


def _of_length(pairs: Sequence[tuple[Response, Response]]) -> dict[str, float]:
    """What the answers (baseline, method) to every prompt come to, at one number of drafted tokens."""
    ratios, draft_s, steps, kept = [], 0.0, 0, 0
    for plain, fast in pairs:
        drafted, accepted = cropped(fast)
        ratios.append(plain.wall_s / len(plain.tokens) / (fast.wall_s / len(fast.tokens)))
        draft_s, steps, kept = draft_s + fast.draft_s, steps + len(drafted), kept + sum(accepted)
    return {
        "seconds": draft_s / max(1, steps),
        "speedup": statistics.median(ratios),
        "mean_acceptance_length": 1 + kept / max(1, steps),
    }


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
