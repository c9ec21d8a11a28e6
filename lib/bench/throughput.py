"""Throughput: the time of several prompts decoded together, by every fast arm, against `batched`.

An arm that cannot decode prompts together does them one after another, as it would have to. Passes are shuffled within
a repeat.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
from torch import LongTensor, nn
from tqdm import tqdm

from lib.generators.common import SamplingParams
from lib.generators.comparison import SLOW_ARMS, run_arm

PROTOCOL = "together"
PROMPTS = 8
REPEATS = 5


def passes(
    model: nn.Module, prompts: list[LongTensor], arms: Sequence[str], law: SamplingParams, seed: int
) -> Iterator[dict[str, Any]]:
    """One row per arm and repeat: seconds, token-forwards and KV bytes of all prompts, after one untimed pass of each.

    Arms that take one forward per sample and step are left out.
    """
    jobs = [(arm, repeat) for repeat in range(-1, REPEATS) for arm in arms if arm not in SLOW_ARMS]  # -1: untimed
    shuffle = random.Random(seed)
    jobs.sort(key=lambda job: (job[1], shuffle.random()))
    law, seeds = replace(law, prompts_together=len(prompts)), [seed + i for i in range(len(prompts))]
    for arm, repeat in tqdm(jobs, desc=f"{len(prompts)} prompts together", unit="pass"):
        outputs = run_arm(arm, model, prompts, law, seeds)
        if repeat >= 0:
            costs = ("wall_s", "token_forwards", "kv_bytes")
            cost = {name: sum(getattr(o.cost, name) / o.shared_by for o in outputs) for name in costs}
            yield {"protocol": PROTOCOL, "arm": arm, "repeat": repeat, "prompts_together": len(prompts)} | cost


def report(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """throughput_vs_batched: arm -> model -> median seconds of `batched` over the arm's."""
    seconds = rows.groupby(["arm", "model"], sort=False).wall_s.median()
    ratio = {arm: (seconds["batched"] / seconds[arm]).to_dict() for arm in seconds.index.unique("arm")}
    return {"throughput_vs_batched": ratio}
