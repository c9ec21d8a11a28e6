"""Tokens per second against the number of requests decoded together: where drafting stops paying."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from tqdm import tqdm

from lib.data import benchmark
from lib.generators.speculative.common import Arm, Response
from lib.specdec.latency import cropped, encode
from lib.specdec.target import Target

PROTOCOL = "throughput"


def run(target: Target, arms: Sequence[Arm], asked: Sequence[benchmark.Request]) -> Iterator[dict[str, Any]]:
    """One row per batch and arm, on the first turns of the requests, taken again from the start where they run out.

    At every batch size as many batches as `batch_requests` fill, at least one.
    """
    params, order = target.params, random.Random(target.params.seed)
    plan = [(size, batch) for size in sizes(target) for batch in range(max(1, params.batch_requests // size))]
    for size, batch in tqdm(plan, desc=f"batches to {params.group}", unit="batch", disable=not plan):
        chosen = [asked[(batch * size + i) % len(asked)] for i in range(size)]
        prompts = [encode(target, request.turns[:1])[0] for request in chosen]
        for place, arm in enumerate(order.sample(list(arms), len(arms))):
            responses = arm.run(prompts, [params.seed * 1_000_000 + batch * size + i for i in range(size)])
            yield target.about | {"prompt": batch, "batch_size": size, "order": place} | _row(arm.name, responses)


def sizes(target: Target) -> list[int]:
    """The batch sizes that can be done: transformers drafts for one request at a time, and so do trees."""
    alone = target.params.backend == "transformers" or target.params.tree_width > 1
    return [size for size in target.params.batch_sizes if size == 1 or not alone]


def _row(arm: str, responses: list[Response]) -> dict[str, Any]:
    new, wall = sum(len(r.tokens) for r in responses), max(r.wall_s for r in responses)
    steps = [cropped(response) for response in responses]
    return {
        "protocol": PROTOCOL,
        "arm": arm,
        "repeat": 0,
        "new_tokens": new,
        "wall_s": wall,
        "s_per_token": wall / new,
        "tokens_per_s": new / wall,
        "steps": sum(len(drafted) for drafted, _ in steps),
        "drafted": sum(sum(drafted) for drafted, _ in steps),
        "accepted": sum(sum(accepted) for _, accepted in steps),
    }
