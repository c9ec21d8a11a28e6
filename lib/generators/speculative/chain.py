"""Drafting one token after another with something that has a state of its own: a small model, or an EAGLE head."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import LongTensor, Tensor

from lib.generators.sampling import draw, probabilities
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import DRAFT, Draft, Rows


class ChainDrafter(ABC):
    """Catches up with what verification kept, then proposes `num_speculative_tokens` in a chain."""

    def __init__(self, speculation: Speculation, decoding: Decoding) -> None:
        self.ahead = speculation.num_speculative_tokens
        self._decoding = decoding
        self._samples = speculation.draft_sample_method == "probabilistic" and not decoding.greedy

    def propose(self, rows: Rows, room: int) -> Draft:
        """A chain of min(ahead, room) tokens for every row, each the likeliest or drawn under the target's filters."""
        count = min(self.ahead, room)
        if count < 1:
            return Draft.nothing(len(rows))
        logits = self._catch_up(rows)
        tokens, laws = [], []
        for place in range(count):
            token, law = self._pick(logits, rows, place)
            tokens.append(token)
            laws.append(law)
            if place < count - 1:
                logits = self._extend(token)
        drafted = torch.stack(tokens, 1).cpu().numpy()
        return Draft(drafted, np.full(len(rows), count), torch.stack(laws, 1) if self._samples else None)

    def _pick(self, logits: Tensor, rows: Rows, place: int) -> tuple[LongTensor, Tensor | None]:
        """One token per row int64 [B] from logits [B, V], and the law [B, V] it was drawn from, if it was."""
        if not self._samples:
            return logits.argmax(-1), None
        law = probabilities(logits, self._decoding)
        u = torch.from_numpy(rows.numbers(DRAFT, np.array([place]))).to(logits.device)
        return draw(law, u)[:, 0], law

    @abstractmethod
    def _catch_up(self, rows: Rows) -> Tensor:
        """Read every row up to its last token: logits [B, V] of the next."""

    @abstractmethod
    def _extend(self, tokens: LongTensor) -> Tensor:
        """Read one drafted token per row (int64 [B]): logits [B, V] of the next."""
