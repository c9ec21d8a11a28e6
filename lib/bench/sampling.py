"""How fast each way of drawing N samples from one prompt is, at every rung of the ladder, and what it gives for it.

Three parts, one run folder per model: arms one prompt at a time, with the forwards timed inside every pass and alone in
between (`bound`); several prompts decoded together (`throughput`); and, for one model, the error of the answers'
entropy at equal token-forwards (`lib.fidelity`). Rows carry their part as `protocol`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Annotated, Any

import pandas as pd
import torch
import typer

from lib import fidelity, presets, runs
from lib.bench import bound, throughput
from lib.bench.report import by_arm_and_model, end
from lib.data.prompts import natural_prompts
from lib.generators import comparison
from lib.generators.common import SamplingParams
from lib.metrics import stats
from lib.models import hub
from lib.params import Scaling

BASELINES = ("naive", "batched", "hf", "eab_sequential")
JUDGED = "ladder-160k"  # one rung answers what an answer is worth, and this one is cheap
# 40 replicates give an RMSE to about 11 % per question, 6 % over four. Most of the time goes to finding equal costs.
STUDY = {"questions": 4, "replicates": 40, "reference": 1000}


def command(
    models: Annotated[list[str] | None, typer.Option("--model", help="repeatable; default: the quick rungs")] = None,
    prompts: Annotated[int, typer.Option(help="prompts per model")] = 6,
    repeats: Annotated[int, typer.Option(help="timed passes of each fast arm")] = 5,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """All arms of 1a3 at a fixed number of samples, with the settings of the `quick` preset.

    Keys of the JSON object: speedup_vs_naive, speedup_vs_batched, speedup_vs_hf, speedup_vs_eab_sequential (each
    arm -> model -> ratio of wall times), token_forwards, kv_bytes_vs_naive (share of naive's KV bytes for the same
    samples), fraction_of_bound (seconds of the prefill and of the decode forwards alone over wall time),
    overhead_per_step_us and overhead_share (of what is no forward), throughput_vs_batched (8 prompts together), and
    cluster_entropy_rmse_vs_batched (arm -> ratio at equal token-forwards, on one model).
    """
    cells = presets.cells("1a3_scaling", "quick")
    by_model = {cell.resolved().model: cell.params for cell in cells}
    base, names = next(iter(by_model.values())), models or list(by_model)
    judged = JUDGED if JUDGED in names else names[0]
    rows = []
    for name in names:
        own = {"model": name, "prompts": prompts, "repeats": repeats, "dtype": dtype, "preset": "", "label": ""}
        own |= STUDY if name == judged else {"questions": 0}
        rows += measure(runs.open_run("bench/sampling", base | own))
    report = summary(pd.DataFrame(rows))
    print(pd.DataFrame(report["speedup_vs_naive"]).T.round(2).to_string())
    end(report, as_json)


def measure(run: runs.Run) -> list[dict[str, Any]]:
    """Every part on one model, finishing the run; its measurement rows."""
    p, rows = run.params, []
    torch.set_num_threads(p.threads)
    with hub.loaded(p.model, dtype=p.dtype, device=p.device, load_format=p.load_format) as lm:
        law = SamplingParams(**p.model_dump(include=set(SamplingParams.__annotations__)), stop_ids=lm.stop_ids)
        for row in _parts(lm, law, p):
            rows.append(row | {"model": lm.name, "parameters": lm.parameters, "dummy": lm.dummy})
            run.measure(**rows[-1])
    run.finish(summary(pd.DataFrame(rows)))
    return rows


def _parts(lm: hub.LoadedModel, law: SamplingParams, p: Scaling) -> Iterator[dict[str, Any]]:
    made = natural_prompts(lm.tokenizer, max(p.prompts, throughput.PROMPTS), p.prompt_tokens)
    ids = [torch.tensor(prompt.ids, device=lm.device) for prompt in made]
    yield from alone(lm.model, ids[: p.prompts], law, p)
    yield from throughput.passes(lm.model, ids[: throughput.PROMPTS], p.arms, law, p.seed)
    if p.questions:
        study = fidelity.Study(p.questions, p.replicates, p.reference, p.answer_tokens)
        yield from fidelity.judge(lm, [arm for arm in p.arms if "@" not in arm], law, study, p.seed)


def alone(
    model: torch.nn.Module, ids: list[torch.LongTensor], law: SamplingParams, p: Scaling
) -> Iterator[dict[str, Any]]:
    """Every arm on one prompt at a time (`comparison.trials`), with a round of probes in between the passes of each
    prompt, in random order.
    """
    kinds, shuffle = bound.probes(p.arms, p.num_samples), random.Random(p.seed)
    waiting: list[bound.Probe] = []

    def probed(probe: bound.Probe, prompt: int) -> dict[str, Any]:
        seconds = bound.seconds_alone(model, ids[prompt], probe, law.max_new_tokens)
        return {"protocol": bound.PROTOCOL, "prompt": prompt, "seconds": seconds} | vars(probe)

    with bound.Forwards(model) as seen:
        for trial in comparison.trials(model, ids, p.arms, law, repeats=p.repeats, seed=p.seed, protocols=("fixed",)):
            forwards = seen.last(trial.output.cost.forward_calls)
            yield from (row | forwards for row in trial.rows())
            waiting += shuffle.sample(kinds, len(kinds)) if trial.order == 0 else []
            if waiting:
                yield probed(waiting.pop(), trial.prompt)
        yield from (probed(probe, 0) for probe in waiting)  # where there are more probes than passes


def summary(rows: pd.DataFrame) -> dict[str, Any]:
    """The JSON object: medians over prompts, arm -> model -> number, and the entropy ratios, arm -> number."""
    parts = dict(list(rows.groupby("protocol")))
    report = ratios(parts["fixed"]) | bound.report(parts["fixed"], parts[bound.PROTOCOL])
    report |= throughput.report(parts[throughput.PROTOCOL])
    judged = parts.get(fidelity.PROTOCOL)
    return report | {"cluster_entropy_rmse_vs_batched": {} if judged is None else entropy_errors(judged)}


def entropy_errors(rows: pd.DataFrame) -> dict[str, float]:
    """arm -> the root of the summed squared errors of all questions' entropies, over that of `batched`."""
    pooled = rows.groupby("arm", sort=False).entropy_rmse.agg(lambda errors: (errors**2).sum() ** 0.5)
    return (pooled / pooled[fidelity.BASELINE]).to_dict()


def ratios(rows: pd.DataFrame) -> dict[str, dict[str, dict[str, float]]]:
    """The JSON object: medians over prompts, arm -> model -> number."""
    report = {f"speedup_vs_{base}": by_arm_and_model(stats.against(rows, base), "ratio") for base in BASELINES}
    report["token_forwards"] = by_arm_and_model(stats.per_prompt(rows, "token_forwards"), "token_forwards")
    kv = stats.against(rows, "naive", "kv_bytes")
    report["kv_bytes_vs_naive"] = by_arm_and_model(kv.assign(share=1 / kv.ratio), "share")
    return report
