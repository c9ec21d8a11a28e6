"""What each way of drawing N samples from one prompt has to compute, from the shape of the job alone.

P is the prompt's length, L the new tokens of every sample (no early stop), N the samples, D_t the distinct prefixes of
t new tokens among the samples, t = 1 .. L-1 (the last token is drawn and never read). A position is pushed through the
model once for every row that holds it. Token-forwards:

    naive, hf   N (P + L - 1)          every sample reads the prompt and its own tokens
    batched     P + N (L - 1)          the prompt is read once
    tree        P + sum of D_t         and so is every shared prefix

Logits are computed at the end of each prefill and at each decoded position; a position attends to itself and what comes
before it on its own path. These are the least operations of each method: `lib.metrics.cost` counts what kernels really
do, which includes masked products. A ratio of two predictions is the speedup of a machine whose time follows that
count: token-forwards, or FLOPs. `predicted` is not `measured`: batching gains more than this where a forward of one
row leaves the machine idle, and less where bookkeeping costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Work:
    """Counts of one job: positions through the model, query-key pairs of one head and layer, positions with logits."""

    tokens: float
    pairs: float
    logits: float

    def times(self, n: float) -> Work:
        """n such jobs."""
        return Work(n * self.tokens, n * self.pairs, n * self.logits)


@dataclass(frozen=True)
class Dimensions:
    """What a decoder's FLOPs depend on."""

    linear: int  # weights of the blocks: parameters without embedding and LM head
    head: int  # weights of the LM head: hidden size x vocabulary
    layers: int
    attention_width: int  # query heads x head size

    def flops(self, work: Work) -> float:
        """A multiplication and an addition per weight and token, and per channel and pair for scores and for values."""
        attention = 4 * self.layers * self.attention_width * work.pairs
        return 2 * self.linear * work.tokens + attention + 2 * self.head * work.logits


def naive(prompt: int, new: int, n: int) -> Work:
    """N samples that each read the prompt: separate generations, or transformers' `num_return_sequences`."""
    return tree(prompt, [1] * (new - 1)).times(n)


def batched(prompt: int, new: int, n: int) -> Work:
    """The prompt once, then N rows."""
    return tree(prompt, [n] * (new - 1))


def tree(prompt: int, live: Sequence[float]) -> Work:
    """The prompt once, then D_t = live[t-1] rows at step t; `live` [L-1] may hold measured or expected numbers."""
    rows, steps = np.asarray(live, dtype=float), np.arange(1, len(live) + 1)
    pairs = prompt * (prompt + 1) / 2 + float(rows @ (prompt + steps))
    return Work(prompt + rows.sum(), pairs, 1 + rows.sum())


def bookkeeping_speedup(prompt: int, naive_lengths: Sequence[int], eab_lengths: Sequence[int]) -> float:
    """The "token-step speedup" as the published experiment computed it, from numbers of generated tokens per sample.

    It books prompt + generated tokens for every naive sample, but generated tokens alone for every sample of EAB.
    Where all samples have length L and both draw N, this is (P + L) / L, whatever the model, the sampler or its
    thresholds do: an identity, kept to show that the published numbers are no measurement.
    """
    return sum(prompt + length for length in naive_lengths) / sum(eab_lengths)
