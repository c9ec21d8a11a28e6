"""The files that the experiment's plan promises, under its names and keys, with ours beside them.

`scaling_results_maze{n}.json` has the plan's `config` and `results` (percentages, means over seeds; null where an arm
is missing) and further keys for all arms, with intervals. `scaling_summary_maze{n}.txt` says the same to a reader.
Counts are those of the runs, not those asked for. Advantages are differences within a seed.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd

from lib.figures import Undrawable, mazes, mazes_kinds, mazes_summary
from lib.metrics import paired

OF_THE_SIZE = ("stack", "loop", "poh")  # arms whose shape is the size's; the matched stacks are wider or deeper
SHAPE = ("d_model", "n_heads", "d_ff", "depth")
MEASURES = ("accuracy", "optimality", "cell_accuracy", "loss")
COSTS = ("forward_flops", "train_flops", "train_s", "peak_memory_bytes")


def artefacts(rows: pd.DataFrame) -> dict[str, str]:
    """File name: text, of the JSON and of the summary. Undrawable where there are no results."""
    found = results(rows)
    side = found["config"]["maze_size"]
    return {
        f"scaling_results_maze{side}.json": json.dumps(found, indent=2, allow_nan=False) + "\n",
        f"scaling_summary_maze{side}.txt": mazes_summary.summary(found),
    }


def results(rows: pd.DataFrame) -> dict[str, object]:
    """The plan's results, with `references` (percent of test mazes) and, per size, `arms` and `advantages` of ours."""
    part = mazes.protocol(rows, "result")
    try:
        loops = mazes.protocol(rows, "loops")
    except Undrawable:
        loops = part[:0]
    return {
        "config": _config(rows, part),
        "results": [_size(part, loops, size) for size in mazes.sizes(part)],
        "averages": {arm: _average(part, arm) for arm in mazes.AGAINST},
        "references": references(rows),
    }


def references(rows: pd.DataFrame) -> dict[str, float]:
    """Accuracy in percent of the walkers that learn nothing, on the mazes drawn; empty where they were not run."""
    same = (rows.protocol == "reference") & (rows.maze_size == paired.setting(rows).maze_size)
    part = rows[same].drop_duplicates(["arch", "seed"]).sort_values(["arch", "seed"])
    return {arm: 100 * float(shares.astype(float).mean()) for arm, shares in part.groupby("arch").accuracy}


def references_sentence(rows: pd.DataFrame) -> str:
    """The same for a caption."""
    said = ", ".join(f"{arm} {share:.1f} %" for arm, share in references(rows).items())
    return f"Accuracy of walkers that learn nothing: {said}. " if said else ""


def _config(rows: pd.DataFrame, part: pd.DataFrame) -> dict[str, object]:
    """The plan's settings as the runs had them; `seed` is the first of `seeds`."""
    side, R, T = paired.setting(rows)
    seeds = sorted(int(seed) for seed in set(part.seed))
    return {
        "maze_size": side,
        "n_train": _count(part, "train_mazes"),
        "n_test": _count(part, "n_test"),
        "epochs": _epochs(rows),
        "R": R,
        "T": T,
        "seed": seeds[0],
        "seeds": seeds,
        "min_path": _count(part, "min_path"),
        "capped": _count(part, "capped"),
        "braid": _one_or_all(mazes_kinds.braids(part)),
    }


def _count(part: pd.DataFrame, name: str) -> int | list[int] | None:
    """A count that all models share; all its values where they do not."""
    return _one_or_all(sorted({int(value) for value in part[name].dropna()}) if name in part else [])


def _one_or_all(values: list[Any]) -> Any:
    """The value where there is one; all of them, or None, where not."""
    return (values[0] if len(values) == 1 else values) if values else None


def _epochs(rows: pd.DataFrame) -> int | None:
    epochs = paired.of_setting(rows).query("protocol == 'epoch'")
    return int(epochs.epoch.max()) if len(epochs) else None


def _size(part: pd.DataFrame, loops: pd.DataFrame, size: str) -> dict[str, object]:
    """One size: the plan's keys first."""
    own = part[part["size"] == size]
    arms = {arm: _arm(own, loops[loops["size"] == size], arm) for arm in mazes.arms(own)}
    ahead = {arm: _advantage(own, arm) for arm in mazes.AGAINST}
    shape = next(arms[arm] for arm in (*OF_THE_SIZE, *arms) if arm in arms)
    row = {"size": size} | {name: shape[name] for name in SHAPE}
    both = set(own.seed[own.arch == "stack"]) & set(own.seed[own.arch == "poh"])
    for key, arm in (("baseline", "stack"), ("poh", "poh")):
        rows = own[(own.arch == arm) & (own.seed.isin(both) | (not both))]  # so that the advantage is their difference
        row[f"{key}_params"] = int(rows.parameters.iloc[0]) if len(rows) else None
        row[f"{key}_acc"] = _interval(rows.accuracy)["estimate"] if len(rows) else None
        row[f"{key}_opt"] = _interval(rows.optimality)["estimate"] if len(rows) else None
    row["poh_advantage_acc"] = ahead["stack"] and ahead["stack"]["accuracy"]["estimate"]
    row["poh_advantage_opt"] = ahead["stack"] and ahead["stack"]["optimality"]["estimate"]
    return row | {"arms": arms, "advantages": ahead}


def _arm(own: pd.DataFrame, loops: pd.DataFrame, arm: str) -> dict[str, object]:
    """Shape, cost (medians over seeds) and measures of one arm at one size."""
    rows = own[own.arch == arm]
    found: dict[str, object] = {name: int(rows[name].iloc[0]) for name in (*SHAPE, "parameters")}
    found |= {name: _number(rows[name].astype(float).median()) for name in COSTS if name in rows}
    found |= {name: _interval(rows[name]) for name in MEASURES if name in rows}
    with_loops = loops[loops.arch == arm] if len(loops) else loops
    return found | {f"{name}_loops": _interval(with_loops[name]) for name in MEASURES[:2] if len(with_loops)}


def _advantage(own: pd.DataFrame, against: str) -> dict[str, object] | None:
    """poh minus an arm at one size, in points; None where one of the two is missing."""
    gaps = {name: mazes.differences(own, name, against) for name in MEASURES[:2]}
    return {name: _interval(table.iloc[:, 0]) for name, table in gaps.items()} if len(gaps["accuracy"]) else None


def _average(part: pd.DataFrame, against: str) -> dict[str, object] | None:
    """poh minus an arm, averaged over the sizes that have both; only seeds with all of them count."""
    gaps = {name: mazes.differences(part, name, against).dropna() for name in MEASURES[:2]}
    if gaps["accuracy"].empty:
        return None
    means = {name: _interval(table.mean(axis=1)) for name, table in gaps.items()}
    return {"sizes": list(gaps["accuracy"].columns), **means}


def _interval(values: pd.Series) -> dict[str, float | None]:
    found = mazes.interval(values)
    return {name: _number(found[name]) for name in ("estimate", "low", "high")} | {"n": found["n"]}


def _number(value: float) -> float | None:
    """Rounded to what is worth storing, and null where there is none: JSON has no NaN."""
    return float(f"{value:.6g}") if np.isfinite(value) else None
