"""Which EAB threshold suits a model: the pilot behind the ladder's presets.

0.055 of ln |V| was tuned for a vocabulary of 152 thousand. A model with another vocabulary needs another threshold, and
the pilot finds it on prompts of its own (another seed than the experiment's): the largest threshold at which the median
tree still returns `max_paths` samples, so that a tree gives what it is asked for and branches no earlier than it must.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import pandas as pd
import torch
import typer
from tqdm import tqdm

from lib import generators
from lib.data.prompts import natural_prompts
from lib.generators.common import SamplingParams
from lib.models import hub

PILOT_SEED = 1000  # the experiment's prompts come from seed 0 up
THRESHOLDS = (0.055, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4)


def command(
    model: Annotated[str, typer.Option(help="ladder name, short name, hub id or folder")] = "ladder-1m",
    prompts: Annotated[int, typer.Option(help="pilot prompts")] = 12,
) -> None:
    """Samples per tree, decoded tokens and branchings per prompt at a range of EAB thresholds."""
    torch.set_num_threads(1)
    with hub.loaded(model) as lm:
        ids = [torch.tensor(p.ids, device=lm.device) for p in natural_prompts(lm.tokenizer, prompts, 200, PILOT_SEED)]
        natural = SamplingParams(num_samples=None, stop_ids=lm.stop_ids)
        table = pd.DataFrame(_row(lm.model, ids, replace(natural, threshold=t)) for t in tqdm(THRESHOLDS, unit="row"))
    enough = table[table["samples (median)"] >= natural.max_paths].threshold
    print(table.to_string(index=False))
    print(f"Largest threshold at which the median tree returns {natural.max_paths} samples: {enough.max():g}")


def _row(model: torch.nn.Module, prompts: list[torch.LongTensor], params: SamplingParams) -> dict[str, float]:
    outputs = generators.get("eab")(model, prompts, params, list(range(len(prompts))))
    trees = pd.DataFrame(
        {
            "samples": len(out.samples),
            "decoded": out.cost.decode_tokens,
            "branchings": len(out.trace["branch_positions"]),
        }
        for out in outputs
    )
    medians = {f"{name} (median)": value for name, value in trees.median().items()}
    return {"threshold": params.threshold, "samples (min)": trees.samples.min()} | medians
