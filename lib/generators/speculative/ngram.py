"""N-gram lookup: what followed the last few tokens when they stood in the text before (prompt lookup decoding).

The longest suffix of at least `prompt_lookup_min` and at most `prompt_lookup_max` tokens that occurs earlier wins, and
of its occurrences the first, as in vLLM and in transformers. One pass over the history finds it: at every place, how
far the text before it agrees with the text's end.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Draft, Parts, Rows, Stateless


class Ngram(Stateless):
    """Drafts from the row's own history."""

    name = "ngram"

    def __init__(self, speculation: Speculation) -> None:
        self.ahead = speculation.num_speculative_tokens
        self._shortest, self._longest = speculation.prompt_lookup_min, speculation.prompt_lookup_max

    def propose(self, rows: Rows, room: int) -> Draft:
        tokens, lengths = lookup(rows.history, rows.length, self._shortest, self._longest, min(self.ahead, room))
        return Draft(tokens[:, : lengths.max()], lengths)


@njit(cache=True)
def lookup(
    history: np.ndarray, length: np.ndarray, shortest: int, longest: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What followed each row's ending when it stood earlier: tokens int64 [B, count] and how many int64 [B], 0 if none.

    history int64 [B, capacity], of which the first length[b] tokens of row b are looked at.
    """
    found, lengths = np.zeros((len(length), count), dtype=np.int64), np.zeros(len(length), dtype=np.int64)
    for b in range(len(length)):
        row, n = history[b], length[b]
        best, after = shortest - 1, 0
        for end in range(shortest, n):  # an earlier occurrence ends before `end`
            size = 0
            while size < longest and size < end and row[end - 1 - size] == row[n - 1 - size]:
                size += 1
            if size > best:
                best, after = size, end
                if best == longest:
                    break
        if after:
            lengths[b] = min(count, n - after)
            found[b, : lengths[b]] = row[after : after + lengths[b]]
    return found, lengths


def drafter(speculation: Speculation, decoding: Decoding, parts: Parts) -> Ngram:
    return Ngram(speculation)
