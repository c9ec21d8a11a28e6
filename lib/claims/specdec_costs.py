"""How many cards the plan of 2.A asks for, by what the weights of its models take in float16.

The plan names no card; 80 GB is what models of 70 billion parameters are served on. Weights may fill
`lib.claims.dimensions.USABLE` of it, and a model is split over 1, 2, 4 or 8 cards.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd

from lib.claims import Claim, Finding, dimensions
from lib.claims.exact import counted
from lib.claims.specdec import EXPERIMENT
from lib.models import groups, registry

__all__ = ["EXPERIMENT", "claims"]

CARD_GB = 80.0
CARDS = {  # models by the plan's words: groups, and the cards it recommends or requires at least and at most
    "7B-8B": (("qwen2_7b", "llama3_8b"), 1, 1),
    "32B": (("qwen3_32b",), 2, 4),
    "70B-72B": (("llama3_70b", "qwen2_72b"), 4, np.inf),
}


def claims() -> list[Claim]:
    """One per size class of the plan."""
    return [
        Claim(
            f"2a/cards-{name}",
            f"Models of {name} need {_words(low, high)}.",
            f"{_words(low, high)}, here of {CARD_GB:g} GB, at most {100 * dimensions.USABLE:g} % full of weights",
            partial(_cards, models=models, low=low, high=high),
        )
        for name, (models, low, high) in CARDS.items()
    ]


def _words(low: float, high: float) -> str:
    if np.isinf(high):
        return f"{low} graphics cards or more"
    return f"{low} graphics card{'s' * (high > 1)}" if low == high else f"{low} to {high} graphics cards"


def _cards(rows: pd.DataFrame, models: tuple[str, ...], low: float, high: float) -> Finding:
    """The fewest cards that hold each model's weights."""
    entries = [registry.lookup(groups.group(name).model) for name in models]
    found = {entry.name: dimensions.cards(entry, CARD_GB) for entry in entries}
    said = ", ".join(
        f"{entry.name} {registry.gigabytes(entry.parameters, 'float16'):.1f} GB on {found[entry.name]}"
        for entry in entries
    )
    fits = all(low <= count <= high for count in found.values())
    most = max(found.values())
    return counted(most, fits, "cards that the weights in float16 need", f"card{'s' * (most > 1)}", f"{said}.")
