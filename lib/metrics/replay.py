"""What other ways of drafting would have done, from one recording: no model is run again.

Greedy output is the same whatever is drafted, so it suffices to know, at every place of it, how many tokens a drafter
would propose there and how many of them are right. A trace holds both for places i = 1..new_tokens - 1 (the token at
place 0 is the prefill's): entry i - 1 is for a step that begins at place i. A step that drafts d tokens of which a are
right makes a + 1 and the next begins at i + a + 1; following these jumps is the engine's own walk, step for step.
It holds for drafters that see nothing but the text: a shorter draft is the beginning of a longer one, and a drafter
draws up the same at a place however the engine got there.

**Drafters** are those recorded, and where n-gram lookup (`ngram`) and another X were, two made of both: `ngram, else X`
takes the lookup where it has a match; `better of ngram, X` knows at each place whose draft gets farther, the lookup's
where it makes no difference. The first can be built, the second bounds what any choice between them can give.
An X that is not asked at a place is taken to lose nothing by it, neither time nor quality.

**Strategies**: every fixed k, and the oracle, which knows at every place how many tokens are right and drafts as many
of them as makes the whole output cheapest. It is the shortest path through the jumps, which is why no fixed k can beat
it; where costs are equal for all steps, it takes the fewest steps possible. Drafting exactly as many as are right comes
close, but is no bound: a shorter jump may land where more is right.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.metrics import acceptance
from lib.metrics.speculation import Curve

LOOKUP = "ngram"  # the drafter that has nothing to say where it finds no match, so that another may speak
LONGEST = 10  # tokens that a trace looks ahead


@dataclass(frozen=True)
class Costs:
    """What the parts of a step take, in seconds; see `speculation.predicted`."""

    verify_s: Curve  # a forward of the target, by tokens
    draft_s: Mapping[str, Curve]  # drafting, by drafter and tokens; of 0 tokens: it was asked and found nothing
    overhead_s: float = 0.0

    def step(self, drafter: str) -> np.ndarray:
        """float64 [LONGEST + 1]: a step in which the drafter proposes 0.. tokens."""
        draft_s = self.draft_s[drafter]
        return np.array([draft_s(d) + self.verify_s(d + 1) + self.overhead_s for d in range(LONGEST + 1)])


@dataclass(frozen=True)
class Drafters:
    """One drafter or several that share the places of one output among them; arrays [drafters, places]."""

    name: str
    drafted: np.ndarray  # int64, tokens proposed
    correct: np.ndarray  # int64, of these, right ones up to the first wrong one
    asked: np.ndarray  # bool, whether the drafter is one of those that the draft is chosen from
    seconds: np.ndarray  # float64 [drafters, LONGEST + 1], of a step with each number of tokens


def replay(rows: pd.DataFrame, costs: Costs) -> pd.DataFrame:
    """Every drafter with every strategy, on every recorded output.

    Args:
        rows: of protocol "trace" and one model: one per prompt and drafter (arm), with new_tokens, drafted_trace and
            correct_trace.
        costs: of that model.

    Returns:
        One row per prompt, drafter (arm) and strategy ("fixed" with its k, or "oracle" with k NaN): the other columns
        of the trace; what `acceptance.describe` gives, so that its tables can be made; seconds of all steps, and
        baseline_s, of decoding the same tokens one by one. The prefill is in neither.

    Raises:
        ValueError: for a trace that has another length than its output, or two of one prompt and drafter.
    """
    if rows.duplicated(["prompt", "arm"]).any():
        raise ValueError("A prompt has two traces of one drafter; give the traces of one model at a time.")
    table = []
    for _, traces in rows.groupby("prompt", sort=False):
        common = traces.iloc[0].drop(["arm", "drafted_trace", "correct_trace"]).to_dict()
        common["baseline_s"] = (common["new_tokens"] - 1) * costs.verify_s(1)
        for drafters in _casts(traces, costs):
            columns = common | {"arm": drafters.name}
            table += [columns | row for row in _strategies(drafters, common["new_tokens"], costs)]
    return pd.DataFrame(table)


def speedups(replayed: pd.DataFrame, by: Sequence[str] = ("arm", "strategy", "k")) -> pd.DataFrame:
    """Projected speedup of decoding per group: `by`, speedup, speedup_low, speedup_high (95 % bootstrap interval over
    requests), requests. Pooled: seconds of all outputs one by one over seconds of all outputs drafted.
    """
    table = []
    for key, part in replayed.groupby(list(by), sort=False, dropna=False):
        seconds = part.groupby("prompt")[["baseline_s", "seconds"]].sum()
        interval = acceptance.pooled(seconds.to_numpy().T)
        found = {"speedup": interval.estimate, "speedup_low": interval.low, "speedup_high": interval.high}
        table.append(dict(zip(by, key, strict=True)) | found | {"requests": interval.n})
    return pd.DataFrame(table)


def _casts(traces: pd.DataFrame, costs: Costs) -> Iterator[Drafters]:
    """The drafters recorded for one output, and those made of the lookup and another."""
    arms = list(traces.arm)
    drafted, correct = (np.array([_trace(row, name) for row in traces.itertuples()]) for name in ("drafted", "correct"))
    seconds = np.array([costs.step(arm) for arm in arms])

    def cast(name: str, indices: list[int], asked: np.ndarray) -> Drafters:
        return Drafters(name, drafted[indices], correct[indices], asked, seconds[indices])

    always = np.ones((1, drafted.shape[1]), dtype=bool)
    yield from (cast(arm, [i], always) for i, arm in enumerate(arms))
    if LOOKUP in arms:
        first = arms.index(LOOKUP)
        match = drafted[first] > 0
        for i, arm in enumerate(arms):
            if i != first:
                yield cast(f"{LOOKUP}, else {arm}", [first, i], np.stack([match, ~match]))
                yield cast(f"better of {LOOKUP}, {arm}", [first, i], np.repeat(always, 2, axis=0))


def _trace(row: tuple, name: str) -> np.ndarray:
    trace = np.asarray(getattr(row, f"{name}_trace"), dtype=np.int64)
    if len(trace) != row.new_tokens - 1:
        raise ValueError(
            f"A {name}_trace of prompt {row.prompt} has {len(trace)} places and its output {row.new_tokens} tokens; a "
            "trace has a place for every token but the first."
        )
    return trace


def _strategies(drafters: Drafters, new_tokens: int, costs: Costs) -> Iterator[dict]:
    for k in range(1, LONGEST + 1):
        drafted, accepted, seconds = fixed(drafters, k)
        yield {"strategy": "fixed", "k": k} | _steps(drafted, accepted, seconds, new_tokens)
    right, seconds = oracle(drafters, costs.verify_s(1) + costs.overhead_s)
    yield {"strategy": "oracle", "k": None} | _steps(right, right, seconds, new_tokens)


def fixed(drafters: Drafters, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Tokens drafted, tokens accepted (int64) and seconds of a step with at most k drafts that begins at each place.

    Where several drafters may be asked, the one that gets farthest, the first of equals.
    """
    farthest = np.where(drafters.asked, np.minimum(drafters.correct, k), -1)
    source, places = farthest.argmax(0), np.arange(farthest.shape[1])
    drafted = np.minimum(drafters.drafted[source, places], k)
    return drafted, farthest.max(0), drafters.seconds[source, drafted]


def oracle(drafters: Drafters, plain_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Right tokens to draft (int64) and seconds of the step that does, at each place: see the module's docstring.

    Not to draft costs plain_s: nobody is asked. The shortest path is found backwards, by dynamic programming.
    """
    offered = np.where(drafters.asked, drafters.correct, 0)[..., None] >= np.arange(LONGEST + 1)
    price = np.where(offered, drafters.seconds[:, None], np.inf).min(0)
    price[:, 0] = plain_s
    n, price_at = len(price), price.tolist()
    rest, choice = [0.0] * (n + 1), [0] * n  # seconds from each place to the end
    for i in range(n - 1, -1, -1):
        totals = [s + after for s, after in zip(price_at[i], rest[i + 1 : i + LONGEST + 2], strict=False)]
        rest[i] = min(totals)
        choice[i] = totals.index(rest[i])
    chosen = np.array(choice, dtype=np.int64)
    return chosen, price[np.arange(n), chosen]


def _steps(drafted: np.ndarray, accepted: np.ndarray, seconds: np.ndarray, new_tokens: int) -> dict:
    """The columns of an output that is walked through with these steps on offer at its places."""
    begins = walk(accepted + 1)
    counts = acceptance.crop(drafted[begins], accepted[begins], new_tokens)
    return acceptance.describe(*counts, LONGEST) | {"seconds": float(seconds[begins].sum())}


def walk(jumps: np.ndarray) -> np.ndarray:
    """int64: the places at which steps begin, where one that begins at i makes jumps[i] >= 1 tokens."""
    ahead, place, begins = jumps.tolist(), 0, []
    while place < len(ahead):
        begins.append(place)
        place += ahead[place]
    return np.array(begins, dtype=np.int64)
