"""How fast each way of drawing N samples from one prompt is, at every rung of the ladder."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from lib import presets, runs
from lib.data.prompts import natural_prompts
from lib.generators import comparison
from lib.generators.common import SamplingParams
from lib.metrics import stats
from lib.models import hub

BASELINES = ("naive", "batched", "hf", "eab_sequential")


def command(
    models: Annotated[list[str] | None, typer.Option("--model", help="repeatable; default: the quick rungs")] = None,
    prompts: Annotated[int, typer.Option(help="prompts per model")] = 6,
    repeats: Annotated[int, typer.Option(help="timed passes of each fast arm")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """All arms of 1a3 at a fixed number of samples, with the settings of the `quick` preset.

    Keys of the JSON object: speedup_vs_naive, speedup_vs_batched, speedup_vs_hf, speedup_vs_eab_sequential (each
    arm -> model -> ratio of wall times), token_forwards, and kv_bytes_vs_naive (share of naive's KV bytes for the
    same samples).
    """
    cells = presets.cells("1a3_scaling", "quick")
    by_model = {cell.resolved().model: cell.params for cell in cells}
    base = next(iter(by_model.values()))
    rows = []
    for name in models or by_model:
        raw = {**base, "model": name, "prompts": prompts, "repeats": repeats, "preset": "", "label": ""}
        rows += measure(runs.open_run("bench/sampling", raw))
    table = pd.DataFrame(rows)
    report = ratios(table)
    print(pd.DataFrame(report["speedup_vs_naive"]).T.round(2).to_string())
    if as_json:
        print(json.dumps(report))


def measure(run: runs.Run) -> list[dict[str, Any]]:
    """Time every arm on one model and finish the run; its measurement rows."""
    p, rows = run.params, []
    torch.set_num_threads(p.threads)
    with hub.loaded(p.model, dtype=p.dtype, device=p.device, load_format=p.load_format) as lm:
        ids = [torch.tensor(x.ids, device=lm.device) for x in natural_prompts(lm.tokenizer, p.prompts, p.prompt_tokens)]
        law = SamplingParams(**p.model_dump(include=set(SamplingParams.__annotations__)), stop_ids=lm.stop_ids)
        options = {"repeats": p.repeats, "seed": p.seed, "protocols": ("fixed",)}
        for trial in comparison.trials(lm.model, ids, p.arms, law, **options):
            for row in trial.rows():
                rows.append(row | {"model": lm.name, "parameters": lm.parameters, "dummy": lm.dummy})
                run.measure(**rows[-1])
    run.finish(ratios(pd.DataFrame(rows)))
    return rows


def ratios(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """The JSON object: medians over prompts, arm -> model -> number."""
    report = {f"speedup_vs_{base}": _medians(stats.against(rows, base), "ratio") for base in BASELINES}
    report["token_forwards"] = _medians(stats.per_prompt(rows, "token_forwards"), "token_forwards")
    kv = stats.against(rows, "naive", "kv_bytes")
    report["kv_bytes_vs_naive"] = _medians(kv.assign(share=1 / kv.ratio), "share")
    return report


def _medians(table: pd.DataFrame, column: str) -> dict[str, dict[str, float]]:
    medians = table.groupby(["arm", "model"], sort=False)[column].median()
    return {arm: medians[arm].to_dict() for arm in medians.index.unique("arm")}
