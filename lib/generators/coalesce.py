"""One step of a coalesced tree, between two forwards: invert CDFs at points, and merge the samples that agree.

Compiled, because between two forwards of a small model every microsecond shows: a dozen tensor operations and a Python
loop over samples take longer than the work itself.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numba import njit
from torch import Tensor

EPSILON = 2.0**-52
BLOCK = 64  # probabilities summed at a time, so that a search skips most of the vocabulary


class Draws(NamedTuple):
    """What the samples drew, float64 [M] but for tokens (int64); entropies [D], in nats, are the rows'."""

    tokens: np.ndarray
    probs: np.ndarray
    within: np.ndarray  # where inside the token's interval of the CDF the point fell, in [0, 1)
    entropies: np.ndarray


class Children(NamedTuple):
    """The live prefixes after a step: D' children that are no stop, with their samples together.

    All int64: parents [D'] (row in the step before), tokens [D'], samples [M'], starts [D' + 1], and split [D]: into
    how many children each row parted, stopped ones included.
    """

    parents: np.ndarray
    tokens: np.ndarray
    samples: np.ndarray
    starts: np.ndarray
    split: np.ndarray


def invert(logits: Tensor, probs: Tensor, temperature: float, starts: np.ndarray, points: np.ndarray) -> Draws:
    """A token for each point, by inverse CDF: the tokens of `sampling.draw`.

    logits and probs float32 [D, V]; points float64 [M]; starts int64 [D + 1]: row d's points are points[starts[d] :
    starts[d + 1]], at least one.
    """
    if logits.device.type == "cpu":
        return Draws(*_invert(logits.numpy(), probs.numpy(), temperature, starts, points))
    return invert_on_device(logits, probs, temperature, starts, points)


def invert_on_device(
    logits: Tensor, probs: Tensor, temperature: float, starts: np.ndarray, points: np.ndarray
) -> Draws:
    """`invert` in tensor operations, with one transfer at the end: probabilities stay where they are."""
    row = torch.from_numpy(np.repeat(np.arange(len(starts) - 1), np.diff(starts))).to(logits.device)
    first = torch.from_numpy(starts[:-1]).to(logits.device)
    cdf = probs.cumsum(-1, dtype=torch.float64)[row]
    targets = torch.from_numpy(points).to(logits.device) * cdf[:, -1]
    tokens = torch.searchsorted(cdf, targets.unsqueeze(-1), right=True)
    chosen = probs[row].gather(-1, tokens).squeeze(-1).double()
    within = 1 - (cdf.gather(-1, tokens).squeeze(-1) - targets) / chosen
    total = cdf[first, -1]
    mean_logit = torch.linalg.vecdot(probs, logits.masked_fill(probs == 0, 0.0)) / total
    above_mean = logits.gather(-1, tokens[first]).squeeze(-1) - mean_logit
    entropies = (above_mean / temperature - (chosen[first] / total).log()).clamp(min=0)
    numbers = torch.cat([tokens.squeeze(-1).double(), chosen, within.clamp(0, 1 - EPSILON), entropies]).cpu().numpy()
    tokens, chosen, within, entropies = np.split(numbers, np.cumsum([len(points)] * 3))
    return Draws(tokens.astype(np.int64), chosen, within, entropies)


@njit(cache=True, fastmath={"reassoc", "contract", "nsz"})
def _blocks(p: np.ndarray, x: np.ndarray, sums: np.ndarray) -> float:
    """Sum of each block of p into `sums`; returns sum p x. A constant number of terms is what vectorises well."""
    mean, whole = 0.0, len(p) // BLOCK
    for b in range(whole):
        s = 0.0
        for j in range(b * BLOCK, (b + 1) * BLOCK):
            s += p[j]
            mean += p[j] * x[j] if p[j] > 0 else 0.0  # a filtered or padded token may have a logit of -inf
        sums[b] = s
    rest = 0.0
    for j in range(whole * BLOCK, len(p)):
        rest += p[j]
        mean += p[j] * x[j] if p[j] > 0 else 0.0
    if whole < len(sums):
        sums[whole] = rest
    return mean


@njit(cache=True)
def _invert(
    logits: np.ndarray, probs: np.ndarray, temperature: float, starts: np.ndarray, points: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, vocabulary = probs.shape
    tokens = np.empty(len(points), np.int64)
    chosen, within, entropies = np.empty(len(points)), np.empty(len(points)), np.empty(rows)
    sums = np.empty((vocabulary + BLOCK - 1) // BLOCK)
    for d in range(rows):
        p, x = probs[d], logits[d]
        mean_logit = _blocks(p, x, sums)
        total = sums.sum()
        for i in range(starts[d], starts[d + 1]):
            target, below, b = points[i] * total, 0.0, 0
            while b < len(sums) - 1 and below + sums[b] <= target:
                below += sums[b]
                b += 1
            token, v = -1, b * BLOCK
            while v < vocabulary:
                if p[v] > 0:
                    token = v  # rounding may leave the target at the very end: then the last possible token
                    if below + p[v] > target:
                        break
                    below += p[v]
                v += 1
            if v == vocabulary:
                below -= p[token]
            tokens[i], chosen[i] = token, p[token]
            within[i] = min((target - below) / p[token], 1 - EPSILON)
        first = tokens[starts[d]]  # H = ln Z - E[logit] / T, and ln Z = logit / T - ln p of any token with p > 0
        entropies[d] = max(0.0, (x[first] - mean_logit / total) / temperature - np.log(p[first] / total))
    return tokens, chosen, within, entropies


@njit(cache=True)
def _merge(
    tokens: np.ndarray, samples: np.ndarray, starts: np.ndarray, stop_ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rows, m = len(starts) - 1, len(samples)
    parents, child_tokens = np.empty(m, np.int64), np.empty(m, np.int64)
    kept, child_starts = np.empty(m, np.int64), np.zeros(m + 1, np.int64)
    split = np.zeros(rows, np.int64)
    children = end = 0
    for d in range(rows):
        segment = tokens[starts[d] : starts[d + 1]]
        order = np.argsort(segment, kind="mergesort")  # stable: a child's samples keep their order
        previous = -1
        for place in order:
            token = segment[place]
            new = token != previous
            previous = token
            split[d] += new
            if (stop_ids == token).any():
                continue
            if new:
                parents[children], child_tokens[children] = d, token
                children += 1
            kept[end] = samples[starts[d] + place]
            end += 1
            child_starts[children] = end
    return parents[:children], child_tokens[:children], kept[:end], child_starts[: children + 1], split


def merge(tokens: np.ndarray, samples: np.ndarray, starts: np.ndarray, stop_ids: np.ndarray) -> Children:
    """Part every prefix by the tokens int64 [M] that its samples drew; those that drew one of `stop_ids` are done."""
    return Children(*_merge(tokens, samples, starts, stop_ids))
