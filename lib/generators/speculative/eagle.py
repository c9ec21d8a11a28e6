"""EAGLE-1: a one-layer head guesses the target's next hidden state from its last one and the token that followed.

Row t of the head reads the embedding of token t + 1 beside the target's feature (last hidden state, after the final
norm) of token t, and returns a guess of feature t + 1, from which the target's own LM head names token t + 2 (Li et al.
2024, arXiv 2401.15077). After a verification the head reads the kept tokens again with their true features; drafting
goes on from its own guesses.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, Tensor

from lib.generators.speculative.chain import ChainDrafter
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Parts, Rows
from lib.generators.speculative.ragged_cache import keep_rows, seen
from lib.models.eagle import EagleHead

NEEDS = "head"


class Eagle(ChainDrafter):
    """Drafts with a head trained for the target."""

    name = "eagle"
    wants_features = True

    def __init__(self, head: EagleHead, speculation: Speculation, decoding: Decoding) -> None:
        super().__init__(speculation, decoding)
        self._head = head
        self._device = next(head.parameters()).device

    def start(self, rows: Rows, features: Tensor | None) -> None:
        """The prompt's features wait to be read together with the first new token."""
        shape = (*rows.history.shape, features.shape[-1])
        self._cache = self._head.new_cache(*rows.history.shape)
        self._features = features.new_empty(shape)  # of every position; what is not known yet is not read
        self._read = np.zeros(len(rows), dtype=np.int64)  # features of each row that the head has read
        self._features[:, : features.shape[1]] = features

    def observe(self, rows: Rows, features: Tensor | None, counts: np.ndarray) -> None:
        """Keep the true features of the newest tokens until the next draft needs them."""
        first = rows.length - counts - 1
        if len(rows) == 1:
            self._features[:, first[0] : first[0] + features.shape[1]] = features
        else:
            places = self._tensor(first[:, None] + np.arange(features.shape[1]))
            self._features[torch.arange(len(rows), device=self._device)[:, None], places] = features

    def select(self, rows: np.ndarray) -> None:
        self._cache.keys, self._cache.values = keep_rows(self._cache.keys, rows), keep_rows(self._cache.values, rows)
        self._features, self._read = keep_rows(self._features, rows), self._read[rows]

    def _catch_up(self, rows: Rows) -> Tensor:
        """Read the waiting features, each with the token chosen from it: logits [B, V] of the token after the last.

        A row that waits with fewer than others reads its last one again, at the same place.
        """
        waiting = rows.length - 1 - self._read
        places = np.minimum(self._read[:, None] + np.arange(waiting.max()), rows.length[:, None] - 2)
        ids = np.take_along_axis(rows.history, places + 1, 1)
        row, where = torch.arange(len(ids), device=self._device), self._tensor(places)
        self._guess = self._forward(self._tensor(ids), self._features[row[:, None], where], where)[:, -1:]
        self._read = rows.length - 1
        self._place = self._tensor(rows.length[:, None] - 1)
        return self._head.logits(self._guess)[:, 0]

    def _extend(self, tokens: LongTensor) -> Tensor:
        self._guess = self._forward(tokens[:, None], self._guess, self._place)
        self._place = self._place + 1
        return self._head.logits(self._guess)[:, 0]

    def _forward(self, ids: LongTensor, features: Tensor, places: LongTensor) -> Tensor:
        """The head's guesses [B, q, h] at places int64 [B, q], which are positions and slots alike."""
        mask = None if len(ids) == 1 else seen(places, int(places.max()) + 1)
        return self._head(ids, features, places, self._cache, places, mask)

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)


def drafter(speculation: Speculation, decoding: Decoding, parts: Parts) -> Eagle:
    """A chain, or a tree where `tree_width` asks for one."""
    from lib.generators.speculative.eagle_tree import EagleTree  # which is an Eagle

    kind = EagleTree if speculation.tree_width > 1 else Eagle
    return kind(parts.head, speculation, decoding)
