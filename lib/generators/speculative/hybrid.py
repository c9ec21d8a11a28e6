"""N-gram lookup where the text repeats itself, the EAGLE head where it does not.

A lookup costs nothing and is nearly always right inside a copied passage, so it also drafts further; a head is right
more often elsewhere. A row whose ending of at least `SURE` tokens stood in its text before takes the lookup's draft.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Draft, Parts, Rows
from lib.generators.speculative.eagle import Eagle
from lib.generators.speculative.ngram import lookup

NEEDS = "head"
SURE = 3  # tokens
FURTHER = 2  # times num_speculative_tokens: what a lookup drafts, since a passage that began to be copied goes on


class Hybrid:
    """`ngram` over `eagle`."""

    name = "hybrid"
    wants_features = True

    def __init__(self, eagle: Eagle, speculation: Speculation) -> None:
        self._eagle = eagle
        self._longest = max(speculation.prompt_lookup_max, SURE)
        self.ahead = FURTHER * speculation.num_speculative_tokens

    def start(self, rows: Rows, features: Tensor | None) -> None:
        self._eagle.start(rows, features)

    def propose(self, rows: Rows, room: int) -> Draft:
        """The lookup's draft for rows that have one; the head is asked only where some row has none."""
        tokens, lengths = lookup(rows.history, rows.length, SURE, self._longest, min(self.ahead, room))
        if lengths.all():
            return Draft(tokens[:, : lengths.max()], lengths)
        guessed = self._eagle.propose(rows, room)
        copied, width = lengths > 0, guessed.tokens.shape[1]
        tokens[~copied, :width] = guessed.tokens[~copied]
        lengths = np.where(copied, lengths, guessed.lengths)
        return Draft(tokens[:, : lengths.max()], lengths, self._laws(guessed.probs, tokens[:, : lengths.max()], copied))

    def _laws(self, probs: Tensor | None, tokens: np.ndarray, copied: np.ndarray) -> Tensor | None:
        """The law of every drafted token [B, K, V]: the head's, or certainty for a looked-up one; None without laws."""
        if probs is None:
            return None
        laws = F.one_hot(torch.from_numpy(tokens), probs.shape[-1]).to(probs)
        rows = torch.from_numpy(np.flatnonzero(~copied)).to(probs.device)
        laws[rows, : probs.shape[1]] = probs[rows]
        return laws

    def observe(self, rows: Rows, features: Tensor | None, counts: np.ndarray) -> None:
        self._eagle.observe(rows, features, counts)

    def select(self, rows: np.ndarray) -> None:
        self._eagle.select(rows)


def drafter(speculation: Speculation, decoding: Decoding, parts: Parts) -> Hybrid:
    return Hybrid(Eagle(parts.head, speculation, decoding), speculation)
