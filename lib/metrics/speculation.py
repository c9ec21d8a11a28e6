"""What drafting should buy: the speedup model of Leviathan et al. 2023, with measured costs in place of assumed ones.

A step drafts k tokens, verifies them in one forward of the target and makes tau tokens, the bonus included (glossary:
`lib.metrics.acceptance`). Decoding token by token, those would have cost tau forwards of one token each, so

    speedup = E[tau] * T(1) / (draft(k) + T(k + 1) + overhead).

The paper takes every position to be right with the same chance alpha, independently, T(k + 1) = T(1) and draft(k) = k
c T(1): `expected_tokens`, `speedup`. Measured, none of it holds. Here E[tau] is 1 + the unconditional rates per
position, whatever their dependence, and T is a curve: flat where reading the weights takes the time (memory-bound),
proportional to the tokens where arithmetic does (compute-bound). There, drafting cannot pay: T(k + 1) = (k + 1) T(1)
and tau <= k + 1. `roofline` says where the one turns into the other for given hardware, `fit` for given measurements,
and `predicted` with a batch size what is left of the speedup when the batch has already used up the free tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize
from scipy import stats as distributions

Curve = Callable[[float], float]  # seconds of a number of tokens

LONGEST = 64  # largest k that `optimal_k` looks at; alpha = 0.95 at c = 0.01 wants 40, alpha = 1 has no end


def expected_tokens(alpha: float, k: int) -> float:
    """E[tau] = (1 - alpha^(k+1)) / (1 - alpha), the bonus token included (Leviathan et al. 2023, eq. 1).

    alpha in [0, 1]: chance that a drafted token is accepted, given that all before it were.
    """
    return float(np.sum(float(alpha) ** np.arange(k + 1)))  # as a sum it holds at alpha = 1 too


def speedup(alpha: float, k: int, c: float) -> float:
    """(1 - alpha^(k+1)) / ((1 - alpha) (k c + 1)) (Leviathan et al. 2023, Theorem 3.8); c: drafting one token, in
    forwards of the target. Verifying is taken to cost one forward, whatever k.
    """
    return expected_tokens(alpha, k) / (k * c + 1)


def optimal_k(alpha: float, c: float) -> int:
    """k of the largest `speedup`, the smallest of equals; 0, do not draft, unless alpha > c (ibid., Corollary 3.9)."""
    return int(np.argmax([speedup(alpha, k, c) for k in range(LONGEST + 1)]))


@dataclass(frozen=True)
class Measured:
    """A cost curve through the median at each number of tokens that was measured, straight in between."""

    tokens: tuple[float, ...]
    seconds: tuple[float, ...]

    def __call__(self, tokens: float) -> float:
        """Seconds; below the first measured number as much as there (a search costs the same where it finds nothing).

        ValueError above the last one, of which nothing is known.
        """
        if tokens > self.tokens[-1]:
            raise ValueError(
                f"The cost of {tokens:g} tokens is asked for and was measured up to {self.tokens[-1]:g}; measure more, "
                "or give a fitted curve."
            )
        return float(np.interp(tokens, self.tokens, self.seconds))


def measured(tokens: Sequence[float], seconds: Sequence[float]) -> Measured:
    """The curve of measurements [n] with repeats in any order, as the rows of protocol "cost" have them."""
    q, t = np.asarray(tokens, dtype=float), np.asarray(seconds, dtype=float)
    different = np.unique(q)
    return Measured(tuple(different.tolist()), tuple(float(np.median(t[q == x])) for x in different))


@dataclass(frozen=True)
class Fitted:
    """Seconds of a forward of q tokens: the larger, or the sum, of a fixed cost and a cost per token.

    "max" is the roofline (Williams et al. 2009): reading weights and calculating overlap. "sum" is what batches on
    GPUs and dispatch-bound models on CPUs look like: every token adds something.
    """

    kind: Literal["max", "sum"]
    fixed_s: float
    per_token_s: float
    error: float = 0.0  # root mean squared residual, as a share of the mean measurement

    def __call__(self, tokens: float) -> float:
        parts = self.fixed_s, self.per_token_s * tokens
        return max(parts) if self.kind == "max" else sum(parts)

    @property
    def critical_tokens(self) -> float:
        """Tokens in one forward at which both costs are equal: memory-bound below, compute-bound above."""
        return self.fixed_s / self.per_token_s if self.per_token_s else np.inf


def roofline(peak_flops: float, bandwidth: float, bytes_per_parameter: float) -> Fitted:
    """The curve of a dense model on ideal hardware, in seconds per parameter of the model.

    Each parameter is read once per forward, bytes_per_parameter / bandwidth, and takes 2 operations per token,
    2 / peak_flops; the KV cache is left out. peak_flops in FLOP/s at the precision used, bandwidth in bytes/s.
    """
    return Fitted("max", bytes_per_parameter / bandwidth, 2 / peak_flops)


def fit(tokens: Sequence[float], seconds: Sequence[float]) -> Fitted:
    """The curve of either kind that is closest to measurements [n], by least squares; no coefficient is negative.

    Raises:
        ValueError: for fewer than two different numbers of tokens.
    """
    q, t = np.asarray(tokens, dtype=float), np.asarray(seconds, dtype=float)
    if len(np.unique(q)) < 2:
        raise ValueError("A fit needs the cost of two different numbers of tokens or more; measure another.")
    candidates = [("sum", *_nonnegative(np.stack([np.ones_like(q), q], 1), t))]
    for bend in np.unique(q).tolist():  # a curve with its bend between two measurements, or on one of them
        flat = q <= bend
        candidates.append(("max", *_nonnegative(np.stack([flat, q * ~flat], 1), t)))
        (scale,) = _nonnegative(np.maximum(q, bend)[:, None], t)
        candidates.append(("max", scale * bend, scale))
    fitted = [Fitted(*c, error=_residual(Fitted(*c), q, t)) for c in candidates]
    return min(fitted, key=lambda curve: curve.error)


def _nonnegative(columns: np.ndarray, seconds: np.ndarray) -> tuple[float, ...]:
    """Least-squares coefficients, in units of the mean, which spares the solver numbers near its tolerance."""
    return tuple((optimize.nnls(columns.astype(float), seconds / seconds.mean())[0] * seconds.mean()).tolist())


def _residual(curve: Fitted, tokens: np.ndarray, seconds: np.ndarray) -> float:
    gaps = np.array([curve(q) for q in tokens]) - seconds
    return float(np.sqrt((gaps**2).mean()) / seconds.mean())


def predicted(
    rates: Sequence[float],
    draft_s: Curve,
    verify_s: Curve,
    overhead_s: float = 0.0,
    draftless: float = 0.0,
    batch_size: int = 1,
) -> float:
    """Speedup over decoding token by token, from measured acceptance and measured costs.

    Args:
        rates: unconditional acceptance per position [k] of the steps that draft, as `acceptance.by_position` gives it.
        draft_s: seconds of drafting, for all requests of the batch together, by number of tokens per request.
        verify_s: seconds of a forward of the target, by tokens in it.
        overhead_s: seconds that a drafting engine's step takes beyond these and a plain step does not.
        draftless: share of steps without a draft, which verify nothing; requests of a batch are taken to be
            independent in this.
        batch_size: requests decoded together, their tokens in one forward without padding.

    Returns:
        The ratio of times per token; 1 for k = 0 without overhead.
    """
    k = len(rates)
    tokens = batch_size * (1 + (1 - draftless) * float(np.sum(rates)))
    drafting = np.arange(batch_size + 1 if k else 1)  # requests of the batch that have a draft
    chance = distributions.binom.pmf(drafting, batch_size, 1 - draftless) if k else np.ones(1)
    seconds = [(draft_s(k) if n else 0.0) + verify_s(batch_size + n * k) for n in drafting.tolist()]
    step = float(chance @ seconds) + overhead_s
    return tokens * verify_s(batch_size) / (batch_size * step)


def best_k(
    rates: Sequence[float],
    draft_s: Curve,
    verify_s: Curve,
    overhead_s: float = 0.0,
    draftless: float = 0.0,
    batch_size: int = 1,
) -> tuple[int, float]:
    """The k with the largest `predicted` speedup, and that speedup; (0, 1.0), do not draft, where nothing pays.

    Acceptance at a position of a chain does not depend on how long the chain is, so the rates measured with a long
    draft serve for every shorter one.
    """
    costs = draft_s, verify_s, overhead_s, draftless, batch_size
    speedups = [1.0, *(predicted(rates[:k], *costs) for k in range(1, len(rates) + 1))]
    best = int(np.argmax(speedups))
    return best, speedups[best]
