"""What drafting achieved, counted per verification step: the glossary and the figures made from it.

Every word has one meaning here, whatever the engine calls it.

- **Step**: one forward of the target that verifies a draft of d >= 0 tokens, accepts the first a <= d of them and adds
  one token of its own, the *bonus* token: a + 1 tokens. A request's first token comes out of the prefill, which
  verifies nothing and costs what it costs without drafting, so it is no step:
  new_tokens = 1 + sum over steps of (a + 1) - what lies behind the end of the output. An engine that verifies its
  first draft together with the prompt, as transformers does, has more than one *first* token and these are no step's.
- **Draftless step**: d = 0; the drafter had nothing to offer, as n-gram lookup without a match. It makes one token.
- **Cropped**: an engine goes on counting in its last step after the last token that is kept (max_new_tokens, or a stop
  id in the middle of the draft). A step cut short so keeps the drafts that have their place in it, as drafted
  and as accepted; a step that was not keeps all. `crop` does it, and nothing else here sees uncropped counts.
- **Drafted, accepted**: sums of d and a. The bonus token is neither.
- **Acceptance rate** = accepted / drafted. Tokens behind the first wrong one count as drafted, so it falls with k even
  where every position is equally hard; it is not the alpha of Leviathan et al. 2023, which is a conditional rate.
- **Mean acceptance length** = 1 + accepted / steps: tokens a step makes, the bonus counted. All steps are in it.
- **Mean acceptance length of drafted steps** = 1 + accepted / (steps - draftless steps). This is what vLLM reports. A
  drafter that rarely dares looks excellent by it: one draft of 9 right tokens in 100 steps makes it 10, and 1.09 of
  the one above.
- **Tokens per forward** = (new_tokens - first) / steps: what the output got out of each step. It is below the mean
  acceptance length by the bonus tokens that were cropped.
- **Per position** i = 1..k: *unconditional*, the share of drafted steps that accepted i tokens or more; their sum over
  i is the mean acceptance length of drafted steps less 1. *Conditional*, of the steps that put token i to the test
  (i tokens drafted or more, all before it accepted), the share that accepted it. Dividing accepted at i by accepted at
  i - 1 gives the same only where no draft is shorter than i.
- **Pooled** divides sums over requests, so long answers weigh more; it is what decides throughput. **Of requests** is
  the mean of each request's own ratio, what a user sees. Neither is wrong; they differ where length and acceptance
  go together.

Positions are those of a chain. Where a tree is verified, `drafted` counts its nodes and only the counts of accepted
tokens can be read per position.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd

from lib.metrics import stats

RATIOS = {  # metric: numerator, denominator; columns of `_counts`
    "acceptance_rate": ("accepted", "drafted"),
    "mean_acceptance_length": ("made", "steps"),
    "mean_acceptance_length_drafted": ("made_by_drafted", "drafted_steps"),
    "tokens_per_forward": ("decoded", "steps"),
}


def crop(
    drafted: Sequence[int], accepted: Sequence[int], new_tokens: int, first: int = 1
) -> tuple[list[int], list[int]]:
    """The steps of one request without what lies behind the end of its output.

    Args:
        drafted, accepted: per step, as the engine counted them; steps without a draft are among them.
        new_tokens: tokens of the output, the prefill's own included.
        first: of these, how many the prefill made.

    Returns:
        drafted, accepted: per step that made a token of the output.

    Raises:
        ValueError: where the steps cannot have made that output.
    """
    d, a = _steps(drafted, accepted)
    made = first + int((a + 1).sum())
    if not 1 <= new_tokens <= made:
        raise ValueError(
            f"{len(a)} steps and the prefill made {made} tokens, and the output has {new_tokens}; give every step, "
            "those without a draft included."
        )
    room = new_tokens - first - (np.cumsum(a + 1) - (a + 1))  # places of the output left when the step began
    kept = room > 0
    return np.where(a < room, d, room)[kept].tolist(), np.minimum(a, room)[kept].tolist()


def describe(drafted: Sequence[int], accepted: Sequence[int], k: int) -> dict[str, int | list[int]]:
    """The columns of a measurement row that say what the steps of one request did.

    Args:
        drafted, accepted: per step, cropped.
        k: most tokens that a step may draft.

    Returns:
        steps, draftless_steps, drafted, accepted; and of length k: drafted_at (steps that drafted i + 1 tokens or
        more), tested_at (of these, the steps that accepted the i before), accepted_at (steps that accepted i + 1 or
        more); and acceptance_histogram, of length k + 1: steps that accepted exactly j, so that it sums to steps.

    Raises:
        ValueError: for a step that drafted more than k or accepted more than it drafted.
    """
    d, a = _steps(drafted, accepted)
    if d.max(initial=0) > k:
        raise ValueError(f"A step drafted {d.max()} tokens where k is {k}; give the k that the drafter ran with.")
    offered, position = d[:, None] > np.arange(k), np.arange(k)
    return {
        "steps": len(d),
        "draftless_steps": int((d == 0).sum()),
        "drafted": int(d.sum()),
        "accepted": int(a.sum()),
        "drafted_at": offered.sum(0).tolist(),
        "tested_at": (offered & (a[:, None] >= position)).sum(0).tolist(),
        "accepted_at": (a[:, None] > position).sum(0).tolist(),
        "acceptance_histogram": np.bincount(a, minlength=k + 1).tolist(),
    }


def _steps(drafted: Sequence[int], accepted: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Both as int64 [steps], checked against each other."""
    d, a = np.asarray(drafted, dtype=np.int64), np.asarray(accepted, dtype=np.int64)
    if d.shape != a.shape or ((a < 0) | (a > d)).any():
        raise ValueError(
            f"{len(d)} steps of drafted and {len(a)} of accepted tokens do not fit; give one of each per step, "
            "accepted between 0 and drafted."
        )
    return d, a


def prompt_overlap(prompt: Sequence[int], output: Sequence[int], n: int = 4) -> float | None:
    """Share of the output's n-grams, repeated ones counted each time, that occur in the prompt; None if it has none."""
    if len(output) < n:
        return None
    known = set(_ngrams(prompt, n))
    return float(np.mean([gram in known for gram in _ngrams(output, n)]))


def _ngrams(tokens: Sequence[int], n: int) -> Iterator[tuple[int, ...]]:
    return zip(*(tokens[i:] for i in range(n)), strict=False)


def summarise(rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Acceptance per group of requests, say per arm or per arm and category.

    Args:
        rows: of protocol "latency": one per request, arm and repeat, with prompt, new_tokens, what `describe` gives,
            and `first` where an engine's prefill makes more than one token.
        by: columns that make a group.

    Returns:
        One row per group: `by`, requests; for every metric of `RATIOS` the pooled ratio (`acceptance_rate`, ...) and
        the mean of requests (`acceptance_rate_of_requests`, ...), each with `_low` and `_high`, the 95 % bootstrap
        interval over requests. All rows of one prompt, repeats and turns, are one request, resampled whole. A request
        whose denominator is 0 has no say in that metric; without any that has, it is NaN.
    """
    table = []
    for key, part in rows.groupby(list(by), sort=False, dropna=False):
        counts = _counts(part)
        row = dict(zip(by, key, strict=True)) | {"requests": len(counts)}
        for metric, (numerator, denominator) in RATIOS.items():
            pair = counts[[numerator, denominator]].to_numpy(dtype=float).T
            row |= _columns(metric, pooled(pair)) | _columns(f"{metric}_of_requests", _of_requests(pair))
        table.append(row)
    return pd.DataFrame(table)


def _counts(rows: pd.DataFrame) -> pd.DataFrame:
    """Sums per prompt of what `RATIOS` divides."""
    drafted_steps = rows.steps - rows.draftless_steps
    first = rows["first"].fillna(1) if "first" in rows else 1
    return (
        rows[["steps", "drafted", "accepted"]]
        .assign(
            drafted_steps=drafted_steps,
            made=rows.steps + rows.accepted,
            made_by_drafted=drafted_steps + rows.accepted,
            decoded=rows.new_tokens - first,
        )
        .groupby(rows.prompt, sort=False)
        .sum()
    )


def by_position(rows: pd.DataFrame, by: Sequence[str] = ("arm",)) -> pd.DataFrame:
    """Acceptance at each place of the draft, pooled over the requests of a group.

    Args:
        rows: as for `summarise`; requests of different k may be mixed.
        by: columns that make a group.

    Returns:
        One row per group and position, which counts from 1: `by`, position, `conditional` and `unconditional` rate,
        each with `_low` and `_high`, the 95 % bootstrap interval over requests, n (steps that put the position to the
        test) and requests. A group that never drafted has no rows.
    """
    table = []
    for key, part in rows.groupby(list(by), sort=False, dropna=False):
        tested, accepted = (_per_prompt(part, column) for column in ("tested_at", "accepted_at"))
        for i in range(tested.shape[1] if tested.any() else 0):
            table.append(
                dict(zip(by, key, strict=True))
                | {"position": i + 1, "n": int(tested[:, i].sum()), "requests": len(tested)}
                | _columns("conditional", pooled(np.stack([accepted[:, i], tested[:, i]])))
                | _columns("unconditional", pooled(np.stack([accepted[:, i], tested[:, 0]])))
            )
    return pd.DataFrame(table)


def _per_prompt(rows: pd.DataFrame, column: str) -> np.ndarray:
    """float64 [prompts, largest k]: a column of lists, zeros behind the shorter ones, summed per prompt."""
    lists = pd.DataFrame(rows[column].tolist(), index=rows.index).fillna(0)
    return lists.groupby(rows.prompt, sort=False).sum().to_numpy(dtype=float)


def pooled(pair: np.ndarray) -> stats.Interval:
    """Sum over sum of pair float64 [2, requests] with its 95 % bootstrap interval; requests over 0 are left out."""
    return _interval(pair, lambda x: x[..., 0, :].sum(-1) / x[..., 1, :].sum(-1))


def _of_requests(pair: np.ndarray) -> stats.Interval:
    """Mean over requests of the ratio of pair [2, requests] with its interval."""
    return _interval(pair, lambda x: (x[..., 0, :] / x[..., 1, :]).mean(-1))


def _interval(pair: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]) -> stats.Interval:
    pair = pair[:, pair[1] > 0]
    return stats.bootstrap(pair, statistic) if pair.size else stats.Interval(np.nan, np.nan, np.nan, 0)


def _columns(name: str, interval: stats.Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}
