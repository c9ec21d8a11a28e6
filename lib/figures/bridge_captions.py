"""What titles and captions of 4a's figures say alike: how many seeds, what intervals are over, weights, models."""

from __future__ import annotations

import pandas as pd

from lib.figures import bridge


def spread(counts: pd.Series) -> str:
    """3, or 1 to 3 where they differ."""
    low, high = int(counts.min()), int(counts.max())
    return f"{low}" if low == high else f"{low} to {high}"


def seeds_title(counts: pd.Series) -> str:
    """How many seeds are behind the points, for titles."""
    return f"seeds: n = {spread(counts)}"


def seeds_sentence(table: pd.DataFrame, items: bool = True) -> str:
    """What the intervals are over, for captions; `items`: a single value has Wilson's interval over test items."""
    several = table[table.seeds > 1].seeds
    alone = "Wilson's 95 % interval over test items, which says nothing of another seed" if items else "no interval"
    if several.empty:
        return f"One seed, with {alone}. "
    single = f"; where there is one value, {alone}" if len(several) < len(table) else ""
    return (
        f"Means over {spread(several)} seeds with 95 % t intervals over seeds, not adjusted for the number of "
        f"comparisons{single}. "
    )


def weights_sentence(part: pd.DataFrame) -> str:
    """The weights of the losses beside the answer's, where they are on."""
    names = {"InfoNCE": part.info_nce.max(), "distillation": part.distill.max()}
    said = [f"{name} {weight:g}" for name, weight in names.items() if weight > 0]
    return f"Weight: {', '.join(said)}. " if said else ""


def pair_sentence(part: pd.DataFrame, rows: pd.DataFrame) -> str:
    """Source and target of what is drawn, and pairs that were left out."""
    said = {f"{source} -> {target} ({task})" for task, source, target in set(map(tuple, part[bridge.WORLD].to_numpy()))}
    everything = rows[rows.protocol.isin(bridge.HOLDS)]
    left = set(map(tuple, everything[bridge.WORLD].to_numpy())) - set(bridge.pairs(everything))
    others = f"Left out: {', '.join(' -> '.join(world[1:]) for world in sorted(left))}. " if left else ""
    return f"Source -> target: {', '.join(sorted(said))}. {others}"
