"""From logits to tokens: filters, uniform random numbers addressed by counter, and draws by inverse CDF.

Randomness is a function of (seed, stream, position) through Philox, numpy's counter-based generator. Nothing is
drawn from a shared state, so a sample does not change when samples are batched, reordered or decoded one after
another, and two generators that give sample i the same uniforms (naive and batched do) must return the same tokens:
the tests use that.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import LongTensor, Tensor
from transformers import TopKLogitsWarper, TopPLogitsWarper

from lib.generators.common import SamplingParams


def uniforms(seed: int, stream: int, n: int) -> np.ndarray:
    """float64 [n] in [0, 1): the first n numbers of stream `stream` of `seed`.

    A longer request has a shorter one as its prefix.
    """
    return np.random.Generator(np.random.Philox(key=np.array([seed, stream], dtype=np.uint64))).random(n)


def probabilities(logits: Tensor, params: SamplingParams) -> Tensor:
    """float32 law from logits [R, V]: temperature, then top-k, then top-p, by transformers' own filters.

    More axes in front work too, but not with top-p, whose filter takes rows.
    """
    scores = logits.float() / params.temperature
    if params.top_k > 0:
        scores = TopKLogitsWarper(top_k=params.top_k)(None, scores)
    if params.top_p < 1:
        scores = TopPLogitsWarper(top_p=params.top_p)(None, scores)
    return scores.softmax(-1)


def entropy(probs: Tensor) -> Tensor:
    """Shannon entropy in nats over the last axis, float32."""
    return -(probs * probs.clamp(min=torch.finfo(torch.float32).tiny).log()).sum(-1)


def draw(probs: Tensor, u: Tensor) -> LongTensor:
    """k tokens per row by inverse CDF, with replacement: probs [R, V], u float64 [R, k] in [0, 1) -> int64 [R, k].

    Never a token of probability 0. Summed in float64, because a float32 CDF over 152k terms is wrong in the fourth
    digit.
    """
    cdf = probs.cumsum(-1, dtype=torch.float64)
    return torch.searchsorted(cdf, u * cdf[:, -1:], right=True)


def draw_distinct(probs: Tensor, u: Tensor) -> LongTensor:
    """k different tokens per row, one after another from what is left: `torch.multinomial` without replacement.

    probs [R, V], u float64 [R, k] -> int64 [R, k]. Once a row has no mass left the remaining entries are -1.
    """
    left, columns = probs.clone(), []
    for j in range(u.shape[1]):
        token = draw(left, u[:, j : j + 1])  # V where no mass is left
        columns.append(token)
        left.scatter_(-1, token.clamp(max=left.shape[-1] - 1), 0.0)
    tokens = torch.cat(columns, -1)
    return tokens.masked_fill(tokens == left.shape[-1], -1)
