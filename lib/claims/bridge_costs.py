"""What the bridge's plan estimates: hours, configurations, and memory per token of context.

Its sums are done again from its own tables, and its configurations counted in the preset that has them. The hours of a
training are its own to keep: they are known where the preset has run on the plan's cards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pandas as pd

from lib import presets
from lib.claims import Claim, Finding, dimensions, hours
from lib.claims import bridge_select as select
from lib.claims.bridge_select import BASELINE, PLAN
from lib.claims.exact import TOLERANCE, counted, near
from lib.models import registry

EXPERIMENT = "4a_bridge"


@dataclass(frozen=True)
class Ablation:
    """A row of the plan's summary: hours on four cards ("<1h" as 1) and configurations."""

    hours: int
    configurations: int


ABLATIONS = (Ablation(6, 2), Ablation(9, 3), Ablation(3, 1), Ablation(1, 5), Ablation(2, 3))
TRAINED = 3  # ablations that train; the fourth and fifth are about bridges that are there
TRAINING, ANALYSIS, BENCHMARKS = 3, 1, 2  # hours of one training, of ablation 4 at most, of ablation 5
STATED = {"total": 20, "required": 13, "optional": 15, "saved": 6, "runs": 4, "configurations": 14}
KV_BYTES = 2**19  # the plan's 0.5 MB per token of context
PROMPT, MESSAGE = 150, 64  # tokens, as the plan has them
ABOUT = f"within {100 * TOLERANCE:g} %"


def claims() -> list[Claim]:
    """The plan's sums, its memory per token, and the hours of one training."""
    return [*_sums(), _kv(), _training()]


def _sums() -> list[Claim]:
    about = {name: f"about {STATED[name]} hours" for name in ("total", "saved", "required", "optional")}
    listed = f"{STATED['configurations']}"
    runs = f"{STATED['runs']} of {TRAINING} hours, {STATED['runs'] * TRAINING} in all"
    five = "of the plan's five ablations"
    return [
        _sum("hours", f"The hours {five} add up to its total.", about["total"], _hours),
        _sum("gpu-hours", f"The hours {five} are GPU hours, as their column is called.", about["total"], _gpu_hours),
        _sum("configurations", f"The configurations {five} add up to its total.", listed, _configurations),
        _sum("distinct", f"The configurations {five} are all different.", listed, _distinct),
        _sum("saved", "Not training the baseline of ablation 1 again saves 6 hours.", about["saved"], _saved),
        _sum("required", "The hours of the plan's revised budget add up to its total.", about["required"], _required),
        _sum("optional", "With ablation 5 the revised budget adds up to its total.", about["optional"], _optional),
        _sum("runs", "The trainings left to run are as many as the plan says.", runs, _runs),
    ]


def _sum(name: str, text: str, expected: str, done: Callable[[], Finding]) -> Claim:
    """A claim that needs no rows."""
    return Claim(f"4a/budget-{name}", text, expected, lambda rows: done())


def _hours() -> Finding:
    most = sum(ablation.hours for ablation in ABLATIONS)
    return counted(most, near(most, STATED["total"]), "hours of the five ablations", "hours", '"<1h" counted as 1.')


def _gpu_hours() -> Finding:
    used = hours.CARDS * sum(ablation.hours for ablation in ABLATIONS)
    said = f"They are hours of a run on {hours.CARDS} cards."
    return counted(used, near(used, STATED["total"]), "hours times cards", "GPU hours", said)


def _configurations() -> Finding:
    found = sum(ablation.configurations for ablation in ABLATIONS)
    return counted(found, found == STATED["configurations"], "configurations of the five ablations", "configurations")


def _distinct() -> Finding:
    found = _trainings() + sum(ablation.configurations for ablation in ABLATIONS[TRAINED:])
    listed = sum(ablation.configurations for ablation in ABLATIONS[:TRAINED])
    said = f"Of {listed} trainings {_trainings()} differ: the one with 64 tokens and all fixes is in ablations 1 and 2."
    return counted(found, found == STATED["configurations"], "different configurations", "configurations", said)


def _saved() -> Finding:
    most = sum(ablation.hours for ablation in ABLATIONS) - _revised() - BENCHMARKS
    said = f"The revised budget is {most} hours lower: it also counts the training shared by ablations 1 and 2 once."
    return counted(TRAINING, near(TRAINING, STATED["saved"]), "hours of the baseline's training", "hours", said)


def _required() -> Finding:
    said = f"{_left()} trainings of {TRAINING} hours, and an analysis of less than one."
    return counted(_revised(), near(_revised(), STATED["required"]), "hours of the revised budget", "hours", said)


def _optional() -> Finding:
    total = _revised() + BENCHMARKS
    return counted(total, near(total, STATED["optional"]), "hours of the revised budget, with benchmarks", "hours")


def _runs() -> Finding:
    said = f"{_left()} × {TRAINING} hours are {_left() * TRAINING}; preset full has {_trainings()} with the baseline."
    return counted(_left(), _left() == STATED["runs"], "trainings without the baseline", "trainings", said)


def _trainings() -> int:
    """Trainings of the plan's preset; cells that are one training are one cell."""
    return len(presets.cells(EXPERIMENT, "full"))


def _left() -> int:
    """Those that the plan does not take over from earlier runs."""
    return sum(not cell.params["label"].startswith(BASELINE) for cell in presets.cells(EXPERIMENT, "full"))


def _revised() -> int:
    return _left() * TRAINING + ANALYSIS


def _kv() -> Claim:
    text = f"Every token of context costs the target 0.5 MB of key-value cache, on {PLAN.about}."
    expected = f"{KV_BYTES:,} bytes, {ABOUT}"
    return Claim("4a/plan-kv-bytes", text, expected, lambda rows: _kv_bytes(), figure="4b_geometry")


def _kv_bytes() -> Finding:
    """Keys and values of all layers in float16, from the target's dimensions."""
    target = registry.lookup(PLAN.target)
    value = dimensions.kv_bytes_per_token(target)
    saved = (PROMPT - MESSAGE) * value
    said = (
        f"{target.layers} layers, {target.kv_heads} key-value heads of {target.head_dim} numbers of 2 bytes. "
        f"{MESSAGE} tokens in place of {PROMPT} save {saved:,} bytes."
    )
    return counted(
        value, near(value, KV_BYTES), f"key-value cache of {target.name} per token of context", "bytes", said
    )


def _training() -> Claim:
    low, high = (1 - hours.SLACK) * TRAINING, (1 + hours.SLACK) * TRAINING
    return Claim(
        "4a/plan-hours-training",
        f"One training takes {TRAINING} hours on {hours.CARDS} {hours.CARD}.",
        f"{low:g} to {high:g} hours",
        partial(_training_hours, low=low, high=high),
        f"runs of preset full on {hours.CARDS} {hours.CARD}",
        every_run=True,
    )


def _training_hours(rows: pd.DataFrame, low: float, high: float) -> Finding | None:
    """The whole run of a configuration, evaluation included, over its seeds."""
    found = [select.trained(hours.on_cards(rows), PLAN, task) for task in (PLAN.maths, PLAN.hops)]
    return hours.within(pd.concat(found), low, high, "hours per training, evaluation included")
