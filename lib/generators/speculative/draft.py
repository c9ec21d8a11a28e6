"""A draft model: a smaller model of the same vocabulary guesses for the larger one (Leviathan et al. 2023)."""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.speculative.chain import ChainDrafter
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Draft, Parts, Rows
from lib.generators.speculative.ragged_cache import RaggedCache, own_attention, seen

NEEDS = "draft_model"


class DraftModel(ChainDrafter):
    """Drafts with `model` (a causal LM in eval mode, of the target's vocabulary), with a KV cache of its own."""

    name = "draft"
    wants_features = False

    def __init__(self, model: nn.Module, speculation: Speculation, decoding: Decoding) -> None:
        super().__init__(speculation, decoding)
        self._model = model
        self._device = next(model.parameters()).device

    def start(self, rows: Rows, features: Tensor | None) -> None:
        """Begin with an empty cache: the prompt is read when the first draft is asked for."""
        self._cache = RaggedCache(self._model.config, rows.history.shape[1])
        self._read = np.zeros(len(rows), dtype=np.int64)  # tokens of each row in the cache and still true

    def propose(self, rows: Rows, room: int) -> Draft:
        """As `ChainDrafter`, and no farther than this model's own window: the last draft token is never read."""
        window = self._model.config.max_position_embeddings
        with own_attention(self._model):
            return super().propose(rows, min(room, window - int(rows.length.max()) + 1))

    def observe(self, rows: Rows, features: Tensor | None, counts: np.ndarray) -> None:
        """What was read of the draft stays as far as it was kept; the last draft token was never read."""
        self._read = np.minimum(self._read, rows.length - 1)

    def select(self, rows: np.ndarray) -> None:
        self._cache.select(rows)
        self._read = self._read[rows]

    def _catch_up(self, rows: Rows) -> Tensor:
        """Read what is new in every row; one with less of it reads its last token again, at the same place."""
        behind = rows.length - self._read
        places = np.minimum(self._read[:, None] + np.arange(behind.max()), rows.length[:, None] - 1)
        ids = np.take_along_axis(rows.history, places, 1)
        self._read = rows.length.copy()
        return self._forward(torch.from_numpy(ids).to(self._device), places)

    def _extend(self, tokens: LongTensor) -> Tensor:
        places = self._read[:, None]
        self._read = self._read + 1
        return self._forward(tokens[:, None], places)

    def _forward(self, ids: LongTensor, places: np.ndarray) -> Tensor:
        """Logits [B, V] behind the last of ids int64 [B, q] at places int64 [B, q], positions and slots alike."""
        where, filled = torch.from_numpy(places).to(self._device), int(places.max()) + 1
        level = bool((places == places[0]).all())
        self._cache.place(int(places[0, 0]) if level else None, None if level else where, filled)
        out = self._model(
            input_ids=ids,
            position_ids=where,
            attention_mask=None if level and ids.shape[1] in (1, filled) else seen(where, filled),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]


def drafter(speculation: Speculation, decoding: Decoding, parts: Parts) -> DraftModel:
    return DraftModel(parts.draft_model, speculation, decoding)
