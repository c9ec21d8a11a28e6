"""What every way of drafting buys, side by side in one process, and the torch engine against transformers' own.

Three parts, one run folder each: all methods on one model, interleaved request by request (`latency`); n-gram lookup,
the draft model and plain decoding on both engines, at every rung of the ladder; and the EAGLE head beside two that are
shown one half of its input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_args

import pandas as pd
import torch
import typer

from lib import runs
from lib.bench.report import end
from lib.data.benchmark import CATEGORIES
from lib.generators.speculative.common import Arm
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.eagle import Eagle
from lib.models import eagle_files, eagle_training
from lib.models.registry import ModelError, is_ladder
from lib.params import resolve
from lib.specdec import arms, latency
from lib.specdec.target import Target

METHODS = ("ngram", "draft", "eagle", "hybrid")
TREE = 2  # width of the EAGLE tree that is shown beside the chain
RUNGS = ("ladder-60k", "ladder-160k", "ladder-1m", "ladder-3m")
BOTH_ENGINES = ("baseline", "ngram", "draft")
COPIED = ("repeat", "edit", "list", "quote")  # categories whose answers stand in the prompt


def command(
    model: Annotated[str, typer.Option(help="the model that all methods draft for")] = "ladder-3m",
    rungs: Annotated[
        list[str] | None, typer.Option("--rung", help="both engines; repeatable; default: all four")
    ] = None,
    requests: Annotated[int, typer.Option(min=1, help="requests to the model; the rungs get half of them")] = 28,
    repeats: Annotated[int, typer.Option(min=1, help="timed passes of each arm")] = 5,
    dtype: Annotated[str, typer.Option(help="float32, where greedy tokens are equal, or bfloat16")] = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="end with one JSON object on the last line")] = False,
) -> None:
    """Speculative decoding: every method on one model, both engines on every rung, and what an EAGLE head reads.

    Keys of the JSON object: speedup_vs_baseline (arm -> category -> ratio of the seconds that all its requests take;
    "all", and "copied" for the four categories whose answers stand in the prompt), tokens_per_forward and
    mean_acceptance_length (arm -> category -> number, "all"), token_equal (arm -> share of greedy answers equal to the
    baseline's), vs_transformers (arm -> rung -> transformers' seconds over ours), and eagle_inputs (what the head reads
    -> category -> mean acceptance length).
    """
    base = {"requests": requests, "repeats": repeats, "dtype": dtype, "batch_sizes": [], "traces": 0}
    for name in (model, *(rungs or RUNGS)):  # all of them before the first minute is spent
        if not is_ladder(resolve("bench/specdec", base | {"model": name}).model):
            raise ModelError(f"{name} is not on the ladder, and this bench trains EAGLE heads: give a ladder model.")
    torch.set_num_threads(1)
    report = _methods(runs.open_run("bench/specdec", base | {"model": model, "method": "hybrid", "label": "methods"}))
    half = base | {"requests": max(len(CATEGORIES), requests // 2)}
    report["vs_transformers"] = {}
    for rung in rungs or RUNGS:
        found = _engines(runs.open_run("bench/specdec", half | {"model": rung, "label": f"{rung}_engines"}))
        for arm, ratio in found.items():
            report["vs_transformers"].setdefault(arm, {})[rung] = ratio
    inputs = runs.open_run("bench/specdec", half | {"model": model, "method": "eagle", "label": "inputs"})
    report["eagle_inputs"] = _inputs(inputs)
    end(report, as_json)


def _methods(run: runs.Run) -> dict[str, Any]:
    target = Target(run.params)
    chosen = [_arm(target, "baseline"), *(_arm(target, method) for method in METHODS)]
    chosen.append(_named("eagle_tree", _arm(target, "eagle", tree_width=TREE)))
    table = _measure(run, target, chosen)
    counted = {name: _by_category(table, counts) for name, counts in COUNTS.items()}
    report = {"speedup_vs_baseline": speedups(table), **counted, "token_equal": _equal(table)}
    print(pd.DataFrame(report["speedup_vs_baseline"]).T.round(2).to_string(), "\n")
    print(pd.DataFrame(counted["mean_acceptance_length"]).T.round(2).to_string(), "\n")
    run.finish(report)
    return report


def _engines(run: runs.Run) -> dict[str, float]:
    """Arm -> transformers' seconds over the torch engine's, for what both can do on this rung."""
    from lib.generators.speculative.hf_arm import TransformersArm

    target = Target(run.params)
    methods = [m for m in BOTH_ENGINES if m != "draft" or target.group.draft]
    sides: list[Arm] = []
    for method in methods:
        assistant = target.draft_model if method == "draft" else None
        theirs = TransformersArm(target.lm.model, target.speculation(method), target.decoding, assistant)
        sides += [_arm(target, method), _named(f"{method}_transformers", theirs)]
    table = _measure(run, target, sides)
    seconds = _seconds(table).groupby("arm").seconds.sum()
    found = {method: float(seconds[f"{method}_transformers"] / seconds[method]) for method in methods}
    print(f"{run.params.model}, transformers' seconds over ours: {found}")
    run.finish({"vs_transformers": found})
    return found


def _inputs(run: runs.Run) -> dict[str, dict[str, float]]:
    """What a head reads -> category -> mean acceptance length."""
    target = Target(run.params)
    heads = {name: eagle_files.load(eagle_training.path(run.params.model, name), target.lm.model) for name in INPUTS}
    drafting = target.speculation("eagle")
    sides: list[Arm] = [_arm(target, "baseline")]
    sides += [
        _named(name, TorchArm(target.lm.model, Eagle(head, drafting, target.decoding), target.decoding))
        for name, head in heads.items()
    ]
    table = _measure(run, target, sides)
    found = _by_category(table[table.arm != "baseline"], COUNTS["mean_acceptance_length"])
    print(pd.DataFrame(found).T.round(2).to_string())
    run.finish({"eagle_inputs": found})
    return found


def _arm(target: Target, method: str, **changes: Any) -> TorchArm:
    drafter = arms.drafter(target, target.speculation(method, **changes), target.decoding)
    return TorchArm(target.lm.model, drafter, target.decoding)


def _named(name: str, arm: Arm) -> Arm:
    """The arm under another name, so that several of one method stand side by side."""
    arm.name = name
    return arm


def _measure(run: runs.Run, target: Target, sides: Sequence[Arm]) -> pd.DataFrame:
    """Every arm on the run's requests, interleaved; the rows, which the run keeps."""
    rows = []
    for timed in latency.run(target, sides, latency.requests(target)):
        rows.append(timed.row(target))
        run.measure(**rows[-1])
        if not timed.repeat:
            run.response(**timed.record(target))
    return pd.DataFrame(rows)


def _seconds(table: pd.DataFrame) -> pd.DataFrame:
    """Median over repeats of each request's seconds: columns arm, category, prompt, seconds."""
    medians = table.groupby(["arm", "category", "prompt"], as_index=False, sort=False).wall_s.median()
    return medians.rename(columns={"wall_s": "seconds"})


def speedups(table: pd.DataFrame) -> dict[str, dict[str, float]]:
    """arm -> category, "copied" and "all" -> the baseline's seconds over the arm's, each summed over requests.

    Greedy answers are the same tokens in all arms, so these are ratios of the time that the same work takes.
    """
    spent = _by_category(_seconds(table), lambda rows: rows.seconds.sum())
    base = spent["baseline"]
    return {arm: {name: base[name] / seconds for name, seconds in found.items()} for arm, found in spent.items()}


def _by_category(table: pd.DataFrame, number: Callable[[pd.DataFrame], float]) -> dict[str, dict[str, float]]:
    """arm -> category, "copied" and "all" -> a number made of those rows."""
    parts = {name: [name] for name in table.category.unique()} | {"copied": COPIED, "all": table.category.unique()}
    return {
        arm: {name: float(number(rows[rows.category.isin(parts[name])])) for name in parts}
        for arm, rows in table.groupby("arm", sort=False)
    }


def _equal(table: pd.DataFrame) -> dict[str, float]:
    """arm -> share of requests whose greedy tokens are the baseline's."""
    return table.groupby("arm", sort=False).token_equal.mean().astype(float).to_dict()


def _tokens_per_forward(rows: pd.DataFrame) -> float:
    return (rows.new_tokens - 1).sum() / rows.steps.sum()


def _mean_acceptance_length(rows: pd.DataFrame) -> float:
    return 1 + rows.accepted.sum() / rows.steps.sum()


COUNTS = {"tokens_per_forward": _tokens_per_forward, "mean_acceptance_length": _mean_acceptance_length}
INPUTS = get_args(eagle_training.Inputs)
