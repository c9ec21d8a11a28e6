"""Every position of a greedy answer drafted far ahead: what a replay needs to try other lengths and other drafters.

The verify loop creeps: it keeps one token per step whatever was right, so each step drafts from the next position of
the answer, on the same code path as always.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tqdm import tqdm

from lib.data import benchmark
from lib.generators.speculative.decode import TorchArm
from lib.specdec.arms import drafter
from lib.specdec.latency import encode
from lib.specdec.target import Target

PROTOCOL = "trace"
AHEAD = 10  # tokens drafted from every position
PARTS = {"hybrid": ("ngram", "eagle")}  # what a combination is made of


def run(target: Target, asked: Sequence[benchmark.Request]) -> Iterator[dict[str, Any]]:
    """One row per request and drafter that the run's method asks; the other drafters are traced by their own runs.

    Nothing for engines that cannot creep, and for the baseline.
    """
    method = target.params.method
    if target.params.backend != "torch" or method == "baseline":
        return
    decoding = replace(target.decoding, temperature=0.0)
    for name in PARTS.get(method, (method,)):
        speculation = target.speculation(name, num_speculative_tokens=AHEAD, tree_width=1)
        arm = TorchArm(target.lm.model, drafter(target, speculation, decoding), decoding, creep=True)
        for i, request in enumerate(tqdm(asked[: target.params.traces], desc=f"positions, {name}", unit="request")):
            response = arm.run([encode(target, request.turns[:1])[0]], [0])[0]
            yield target.about | {
                "protocol": PROTOCOL,
                "arm": name,
                "prompt": i,
                "category": request.category,
                "new_tokens": len(response.tokens),
                "drafted_trace": response.drafted,
                "correct_trace": response.accepted,
            }
