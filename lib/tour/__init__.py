"""What `notebooks/00_start.ipynb` shows: one small, real example of each experiment, and the pictures of it.

A module here lets trained models work and writes down what happened (`tree`, `draft`, `maze`, `message`), with a
sentence of its numbers (`reading`); the picture is drawn from that alone, in `..._picture`. Nothing here is measured:
measurements are the experiments'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def names(tokenizer: PreTrainedTokenizerBase) -> Callable[[int], str]:
    """What a token is called in a picture: its text without the space in front, with a sign for what cannot be seen."""

    def name(token: int) -> str:
        return tokenizer.decode([token]).replace("\n", "⏎").strip() or "␣"

    return name
