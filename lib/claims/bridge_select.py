"""Which rows of 4a bear on a claim: two scales, the configurations of the plan, and their answers item by item.

The plan speaks of one pair of models and two public data sets; what runs on two cores is a pair trained here on tasks
of its own. A finding about one is none about the other, so a claim names its `Scale`. Trainings under a stressor are
never among those compared. Where a configuration was run twice, the newest counts.

Answers are tables [seeds, test items] of 0 and 1. All runs of a task are judged on the same items, so such tables can
be subtracted item by item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

STABLE, BASELINE = ("1a_", "2c_"), ("1b_",)  # beginnings of labels; the last of the series is the first ablation's
SERIES = (("2a_",), ("2b_",), STABLE)
LOSSES = ("info_nce", "distill")
SHAPE = ("kind", "wire_dim", "bottleneck", "depth", "heads", "ffn")
RECIPE = ("reconstruct", "optimizer", "learning_rate", "steps", "batch_size")


@dataclass(frozen=True)
class Scale:
    """A pair of models and the two tasks it is judged on."""

    prefix: str  # of the claims' names
    source: str  # part of the model's name
    target: str
    maths: str
    hops: str
    about: str  # what a run must be of, in words


HERE = Scale("", "bridge-source", "bridge-target", "arithmetic", "multihop", "the small pair trained here")
PLAN = Scale("plan-", "Mistral-7B-Instruct-v0.3", "Llama-3.1-8B-Instruct", "gsm8k", "hotpotqa", "the plan's own pair")


def trained(rows: pd.DataFrame, scale: Scale, task: str) -> pd.DataFrame:
    """Rows of one task on the scale's pair, of resamplers trained without a stressor."""
    if rows.empty:
        return rows
    pair = rows.source.str.contains(scale.source, regex=False) & rows.target.str.contains(scale.target, regex=False)
    return rows[pair & (rows.task == task) & (rows.kind == "resampler") & (rows.stressor == "")]


def labelled(part: pd.DataFrame, beginnings: Sequence[str]) -> pd.DataFrame:
    """Rows of the newest run with such a label, of those with the most soft tokens; empty where there is none."""
    if part.empty:
        return part
    found = part[part.label.str.startswith(tuple(beginnings))]
    found = found[found.soft_tokens == found.soft_tokens.max()]
    return found[found.run == found.run.iloc[-1]] if len(found) else found


def factorial(part: pd.DataFrame) -> dict[tuple[bool, bool], pd.DataFrame]:
    """Runs that differ from the plan's best in no more than two losses, by (InfoNCE on, distillation on).

    Early stopping and hygiene do not change a training, so runs that ask for them and runs that do not are both in it.
    """
    best = labelled(part, STABLE)
    if best.empty:
        return {}
    columns = ["soft_tokens", *SHAPE, *RECIPE]
    same = part[(part[columns] == best[columns].iloc[0]).all(axis=1) & part.info_nce.isin([0, best.info_nce.iloc[0]])]
    cells = same.groupby([(same[loss] > 0).rename(loss) for loss in LOSSES])
    return {cell: found[found.run == found.run.iloc[-1]] for cell, found in cells}


def equal_shape(part: pd.DataFrame) -> dict[int, pd.DataFrame]:
    """Runs with all fixes that differ from the plan's best in the number of soft tokens alone, by that number."""
    best = labelled(part, STABLE)
    if best.empty:
        return {}
    columns = [*SHAPE, *RECIPE, *LOSSES, "patience", "hygiene"]
    same = part[(part[columns] == best[columns].iloc[0]).all(axis=1)]
    return {int(k): found[found.run == found.run.iloc[-1]] for k, found in same.groupby("soft_tokens")}


def own(found: pd.DataFrame) -> tuple[str, bool]:
    """The checkpoint that a configuration keeps and whether it decodes with hygiene."""
    first = found.iloc[0]
    return ("best" if first.patience else "final"), bool(first.hygiene)


def answers(found: pd.DataFrame, arm: str, checkpoint: str, hygiene: bool) -> pd.DataFrame:
    """Which test items an arm got right [seeds, items], 0 or 1; one row where the arm has no seeds, none where it is
    missing.
    """
    wanted = (found.arm == arm) & (found.checkpoint == checkpoint) & (found.decode_hygiene == hygiene)
    rows = found[(found.protocol == "arm") & wanted].drop_duplicates("seed", keep="last")
    return marks(rows.correct, rows.seed.to_numpy())


def marks(correct: Sequence[str], seeds: np.ndarray) -> pd.DataFrame:
    """Strings of 0 and 1, one per seed, as a table [seeds, items] of integers."""
    found = [np.frombuffer(text.encode(), np.uint8) - ord("0") for text in correct]
    return pd.DataFrame(np.array(found, dtype=int) if found else None, index=seeds)


def kept(found: pd.DataFrame) -> pd.DataFrame:
    """`answers` of the bridge as its configuration keeps and decodes it; none where there is no run."""
    return answers(found, "bridged", *own(found)) if len(found) else pd.DataFrame()


def accuracy(found: pd.DataFrame) -> str:
    """What the mean of `kept` is."""
    return f"test accuracy of what {found.label.iloc[0]} keeps"


def stability(found: pd.DataFrame, early_stopping: bool, hygiene: bool) -> pd.DataFrame:
    """Stability rows, one per seed, which is their index."""
    wanted = (found.early_stopping == early_stopping) & (found.decode_hygiene == hygiene)
    rows = found[(found.protocol == "stability") & wanted].drop_duplicates("seed", keep="last")
    return rows.set_index("seed").sort_index()


def shared(tables: Sequence[pd.DataFrame]) -> list[pd.DataFrame] | None:
    """The tables on the seeds that all have; None where there is no such seed, or where they are of other items.

    An arm that depends on no seed has one row, whose index is not a number, and is repeated for every seed.
    """
    seeded = [table for table in tables if len(table) and not table.index.hasnans]
    if any(table.empty for table in tables) or len({table.shape[1] for table in tables}) > 1 or not seeded:
        return None
    seeds = sorted(set.intersection(*(set(table.index) for table in seeded)))
    if not seeds:
        return None
    return [
        table.iloc[[0] * len(seeds)].set_axis(seeds) if table.index.hasnans else table.loc[seeds] for table in tables
    ]
