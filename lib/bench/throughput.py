"""Throughput: the time of several prompts decoded together against `batched`, for the arms that can do so.

Every other arm takes prompts one after another, so its speedup is that of one prompt. Passes are shuffled within a
repeat.
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
from lib.generators.comparison import run_arm

PROTOCOL = "together"
ARMS = ("batched", "bifurcated", "tree", "tree_multinomial", "arithmetic")  # understand `prompts_together`
PROMPTS = 8
REPEATS = 5


def passes(
    model: nn.Module, prompts: list[LongTensor], arms: Sequence[str], law: SamplingParams, seed: int
) -> Iterator[dict[str, Any]]:
    """One row per arm and repeat: seconds, token-forwards, KV bytes of all prompts, after an untimed pass of each."""
    jobs = [(arm, repeat) for repeat in range(-1, REPEATS) for arm in arms if arm in ARMS]  # -1: untimed
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
