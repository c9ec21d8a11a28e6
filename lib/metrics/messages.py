"""What tells a message that carries something from one that has collapsed, and when a training should have stopped.

A bridge has collapsed when what it sends no longer depends on what it read. Accuracy alone sees that late, and the
share of unreadable answers does not see it at all: a collapsed bridge answers every question with the same, perfectly
readable number. So a collapse has three signs, and the thresholds were fixed before any training was run.

Messages are matrices [n items, values], one flattened message per row, of any float type; nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

KEPT = 0.7  # of the peak accuracy; a training that ends lower has lost what it had learned, far beyond noise
MATTERS = 0.05  # nats per answer token; a message that another item's can replace at less than this says nothing
VARIED = 0.2  # of the variety of the gold answers; relative to it, since 1000 items may have only 40 different answers


def mean_cosine(messages: np.ndarray) -> float:
    """Mean cosine between the messages [n, values] of different items; 1 where all point the same way.

    The n (n - 1) / 2 pairs are not formed: the squared norm of the sum of unit vectors holds them all. A message of
    zeros has no direction and counts as orthogonal to every other. ValueError for fewer than two messages.
    """
    unit = _matrix(messages)
    norms = np.linalg.norm(unit, axis=1, keepdims=True)
    unit = np.divide(unit, norms, out=np.zeros_like(unit), where=norms > 0)
    n, total = len(unit), unit.sum(axis=0)
    return float((total @ total - (unit * unit).sum()) / (n * (n - 1)))


def effective_rank(messages: np.ndarray) -> float:
    """In how many directions messages [n, values] differ: exp of the entropy of the normalised singular values.

    Roy & Vetterli (2007), "The effective rank", of the matrix with its mean row taken off, since a mean that all items
    share tells nothing about any. Between 1 and min(n - 1, values); 0 where all messages are the same, rounding
    errors of the mean aside. ValueError for fewer than two messages.
    """
    matrix = _matrix(messages)
    singular = np.linalg.svd(matrix - matrix.mean(axis=0), compute_uv=False)
    rounding = np.finfo(float).eps * max(matrix.shape) * np.linalg.norm(matrix)
    singular = singular[singular > rounding]
    if singular.size == 0:
        return 0.0
    shares = singular / singular.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def distinct(answers: Sequence[str | None]) -> float:
    """Different answers / items; those that could not be read (None) are one answer. ValueError for no answers."""
    if not answers:
        raise ValueError("There are no answers to tell apart: give one per item, None where it could not be read.")
    return len(set(answers)) / len(answers)


def early_stop(accuracies: Sequence[float], patience: int) -> tuple[int, int | None]:
    """Which evaluation early stopping keeps, and at which it stops: (best index, stop index or None).

    accuracies: on validation items, one per evaluation, in order. It stops at the `patience`-th evaluation in a row
    that is not above the best so far; 0 never stops. Of equals the earlier is kept, and nothing after the stop is seen.
    As a training goes on, the accuracies so far have their newest as the best exactly when its weights are to be kept.
    ValueError for no accuracies.
    """
    if not accuracies:
        raise ValueError("Early stopping chooses among evaluations and there is none: evaluate before the first step.")
    best = 0
    for index, accuracy in enumerate(accuracies):
        best = index if accuracy > accuracies[best] else best
        if patience and index - best >= patience:
            return best, index
    return best, None


def collapse(peak: float, final: float, delta_ce: float, distinct: float, distinct_gold: float) -> tuple[str, ...]:
    """Why a training has collapsed, of "accuracy", "delta_ce", "distinct"; empty for one that has not.

    peak, final: accuracy at its best and of the weights judged. delta_ce: nats per answer token that another item's
    message costs. distinct, distinct_gold: different answers / items, of the model and of the truth. What is not a
    number, as after a training that diverged, counts as collapsed: so each sign asks for what is healthy.
    """
    healthy = {
        "accuracy": final >= KEPT * peak,
        "delta_ce": delta_ce >= MATTERS,
        "distinct": distinct >= VARIED * distinct_gold,
    }
    return tuple(name for name, fine in healthy.items() if not fine)


def _matrix(messages: np.ndarray) -> np.ndarray:
    """As float64 [n, values], of at least two messages."""
    matrix = np.asarray(messages, dtype=float)
    if matrix.ndim != 2 or len(matrix) < 2:
        raise ValueError(
            f"Messages of shape {matrix.shape} cannot be compared: give [items, values] of at least two items."
        )
    return matrix
