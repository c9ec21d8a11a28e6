"""What a drafter sees and what it answers: the contract between the verify loop and those who guess for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor, nn

from lib.generators.sampling import uniforms
from lib.generators.speculative.common import Decoding
from lib.models.eagle import EagleHead

TARGET, ACCEPT, DRAFT = 0, 1, 2  # streams of a request's random numbers; the first is the one `naive` reads


class Rows:
    """The requests of a batch, as arrays on the host.

    `history` int64 [B, capacity] holds prompts and new tokens, `length` int64 [B] how many of them, `prompt` int64 [B]
    how many came with the prompt, and `index` int64 [B] which request each row is. All but the last token of a row are
    in the target's KV cache.
    """

    def __init__(self, prompts: list[list[int]], decoding: Decoding, ahead: int, seeds: list[int]) -> None:
        self.prompt = np.array([len(p) for p in prompts])
        self.length = self.prompt.copy()
        self.index = np.arange(len(prompts))
        self.history = np.zeros((len(prompts), self.prompt.max() + decoding.max_new_tokens + ahead + 1), dtype=np.int64)
        for row, prompt in zip(self.history, prompts, strict=True):
            row[: len(prompt)] = prompt
        self._numbers = None
        if not decoding.greedy:
            needed = decoding.max_new_tokens + 2 * ahead + 2
            self._numbers = np.stack(
                [[uniforms(s, stream, needed) for stream in (TARGET, ACCEPT, DRAFT)] for s in seeds]
            )

    def __len__(self) -> int:
        return len(self.length)

    @property
    def new(self) -> np.ndarray:
        """New tokens of each row so far, int64 [B]."""
        return self.length - self.prompt

    @property
    def last(self) -> np.ndarray:
        """The last token of each row, int64 [B]."""
        return self.history[np.arange(len(self)), self.length - 1]

    def numbers(self, stream: int, offsets: np.ndarray) -> np.ndarray:
        """float64 [B, n] uniform numbers of the output positions `offsets` (int64 [n]) behind each last token."""
        return self._numbers[np.arange(len(self))[:, None], stream, self.new[:, None] + offsets]

    def append(self, tokens: np.ndarray, counts: np.ndarray) -> None:
        """Add the first counts[b] of tokens[b] (int64 [B, n]) to each row."""
        for b, (start, count) in enumerate(zip(self.length, counts, strict=True)):
            self.history[b, start : start + count] = tokens[b, :count]
        self.length += counts

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows only."""
        self.prompt, self.length, self.index = self.prompt[rows], self.length[rows], self.index[rows]
        self.history = self.history[rows]
        self._numbers = None if self._numbers is None else self._numbers[rows]


@dataclass
class Draft:
    """Guesses for the next tokens of B rows.

    `tokens` int64 [B, K], of which row b has lengths[b] (the rest is padding). `probs` float [B, K, V]: the law that
    each was drawn from, None where each is one definite token. `parents` int64 [K]: for a tree (one row only), the
    place of each node's parent, counted from 0 = the row's last token; None for a chain.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    probs: Tensor | None = None
    parents: np.ndarray | None = None

    @classmethod
    def nothing(cls, rows: int) -> Draft:
        return cls(np.zeros((rows, 0), dtype=np.int64), np.zeros(rows, dtype=np.int64))


class Drafter(Protocol):
    """Guesses the next tokens of every row; state per row, if any, is its own.

    `ahead` is the most tokens it ever drafts; `wants_features` asks the loop for the target's last hidden states.
    """

    name: str
    ahead: int
    wants_features: bool

    def start(self, rows: Rows, features: Tensor | None) -> None:
        """After the prefill: rows hold their first new token; features [B, P, h] of the prompt's positions."""

    def propose(self, rows: Rows, room: int) -> Draft:
        """At most min(ahead, room) tokens for each row; a tree's depth counts. Asked once at most for each text."""

    def observe(self, rows: Rows, features: Tensor | None, counts: np.ndarray) -> None:
        """After a verification added counts[b] tokens to each row; features [B, n, h], n >= max(counts): of these,
        features[b, j] is what the token at length - counts[b] + j was chosen from; the rest is of drafts taken back.
        """

    def select(self, rows: np.ndarray) -> None:
        """Keep these rows only: the others are finished."""


class Parts(Protocol):
    """What a drafter may be made of; loaded when asked for."""

    @property
    def head(self) -> EagleHead:
        """The target's EAGLE head."""

    @property
    def draft_model(self) -> nn.Module:
        """A smaller causal LM of the target's vocabulary, in eval mode."""


class Stateless:
    """A drafter that needs nothing but the rows' tokens."""

    wants_features = False

    def start(self, rows: Rows, features: Tensor | None) -> None: ...

    def observe(self, rows: Rows, features: Tensor | None, counts: np.ndarray) -> None: ...

    def select(self, rows: np.ndarray) -> None: ...
