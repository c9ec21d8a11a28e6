"""The claims' tests and data of known truth to try them on: `CASES`, for `lib.claims.calibration`.

A case names the claims that use its test, and draws data (by `lib.claims.synthetic`, with the spreads of real runs) at
the size of the preset that decides them. Two truths belong to it: one at which the claim is just not true, and the one
that the claim expects. Where a claim names no size, that is the smallest that matters, so that it is also the truth at
which the claim is just not to be refuted.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd

from lib import claims
from lib.claims import Claim, Finding, advantage, bridge_tests, inference, ratios, scaling_costs, specdec, wire_findings
from lib.claims import synthetic as made
from lib.claims.scaling import PUBLISHED
from lib.metrics import stats
from lib.metrics.contrasts import contrast
from lib.models import registry

FAMILIES = {"1": 8, "2": 7, "3": 8, "4": 32}  # claims of each plan that samples decide and one preset can test
SOURCE = pd.DataFrame([made.SOURCE | {"tokens": 16, "batch_size": 1}])
GROWTH = 0.13  # log2 speedup per doubling: the middle of the plan's ranges, which the claim derives
RANGE = np.log2(2.0), np.log2(2.5)  # of Qwen2.5-1.5B
DOUBLINGS = float(np.log2(made.MAZE_SIZES["mini"] / made.MAZE_SIZES["pico"]))
ONE, MOST = (0.0, 1.0, 0.0, 0.0), (6, 30, 6, 6)
NANO = "30 seeds at one size, 6 at 3"

Draw = Callable[[np.random.Generator, float], Finding]


@dataclass(frozen=True)
class Case:
    """A test, the claims that use it, and data to try it on."""

    ids: str  # patterns of the claims' ids, separated by blanks
    n: str  # replicates, in words
    draw: Draw  # a generator and a truth -> what the test says
    null: float  # truth at which the claim is just not true
    expected: float  # truth that it expects, or, where it names none, the smallest that matters

    @property
    def effect(self) -> float:
        """What is expected beyond the bound of the test."""
        return abs(self.expected - self.null)

    @property
    def family(self) -> int:
        """How many claims its p-values are adjusted over."""
        return FAMILIES[self.ids[0]]

    def claims(self) -> list[str]:
        """Ids of the claims that use this test."""
        return [id_ for id_ in known() if any(fnmatch.fnmatchcase(id_, pattern) for pattern in self.ids.split())]


@cache
def known() -> dict[str, Claim]:
    """All claims, by id."""
    return {claim.id: claim for of in claims.experiments().values() for claim in of}


@dataclass(frozen=True)
class ByRows:
    """The claim's own test on rows: slower than the test of the values that rows are reduced to."""

    id: str
    rows: Callable[[np.random.Generator, float], pd.DataFrame]

    def __call__(self, rng: np.random.Generator, truth: float) -> Finding | None:
        """What the claim's test finds in rows with this truth."""
        return known()[self.id].test(self.rows(rng, truth))


def _range(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    return made.of_one_model(rng, truth, 10, model=registry.lookup("Qwen2.5-1.5B").hub_id, parameters=1, **PUBLISHED)


def _saved(rng: np.random.Generator, truth: float) -> Finding:
    """Seconds saved by models that take 1 s on the mean (1a3: 0.02 to 1.2 s saved, spread by 0.2 to 0.5 of that)."""
    doublings = np.log2(made.LADDER) - np.log2(made.LADDER).mean()
    shape = len(made.LADDER), made.PROMPTS
    saved = 0.6 + truth * doublings[:, None] + made.skewed(rng, shape[1:], 0.15) + made.skewed(rng, shape, 0.25)
    return scaling_costs.more_saved(np.array(made.LADDER), saved, scaling_costs.LITTLE, SOURCE)


def _cached(rng: np.random.Generator, truth: float) -> Finding:
    """Bytes per sample, a mean of four models' log2 ratios (1a3: these spread by 0.2 over prompts)."""
    return ratios.above_one(truth + made.skewed(rng, made.PROMPTS, 0.2), SOURCE, "", "")


def _requests(rng: np.random.Generator, truth: float) -> Finding:
    """Of two kinds, of which one gains and one does not (quick runs: log2 speedups spread by 0.6 to 0.8)."""
    logs = truth + 0.6 * rng.choice([-1.0, 1.0], 70) + made.skewed(rng, 70, 0.3)
    return specdec.speedup(2**logs, SOURCE, "")


def _mean(
    rng: np.random.Generator,
    truth: float,
    weights: Sequence[float] = (0.25, 0.25, 0.25, 0.25),
    fails: tuple[bool, bool] = (True, False),
    seeds: Sequence[int] = (6, 6, 6, 6),
) -> Finding:
    """A mean over sizes at which the advantage is the same; by `fails`, one arm or both have trainings that fail."""
    table = made.points(rng, [truth] * len(weights), fails, seeds)
    return advantage.ahead(contrast(table, np.array(weights)), SOURCE)


def _optimal(rng: np.random.Generator, truth: float) -> Finding:
    """Accuracy minus optimality (3a: from 4.3 to 7.6 points)."""
    table = truth + made.skewed(rng, (4, 6), 2.4)
    return advantage.ahead(contrast(table, np.full(4, 0.25)), SOURCE)


def _one_size(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """At one size no more than `truth` of an advantage, 70 points at the others."""
    return made.mazes(rng, dict.fromkeys(made.MAZE_SIZES, 70.0) | {"nano": truth})


def _growing(rng: np.random.Generator, truth: float) -> Finding:
    doublings = np.log2(list(made.MAZE_SIZES.values()))
    centred = doublings - doublings.mean()
    table = made.points(rng, truth * centred, (True, False), [6] * 4)
    return advantage.ahead(contrast(table, centred / (centred @ centred)), SOURCE, margin=5 / DOUBLINGS)


def _improving(rng: np.random.Generator, truth: float) -> Finding:
    table = made.points(rng, [0.0, truth], (True, False), [6, 6])
    return advantage.ahead(contrast(table, np.array([-1.0, 1.0])), SOURCE)


def _kept(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    return made.mazes(rng, {"medium": 45.0, "large": 45.0 + truth})


def _ahead(rng: np.random.Generator, truth: float, percent: float = 80.0) -> Finding | None:
    """Two bridges on the same seeds and items."""
    easy = made.items(rng)
    tables = [pd.DataFrame(made.answers(rng, easy, made.bridges(rng, percent + more))) for more in (truth, 0.0)]
    return bridge_tests.minus(tables, ("ours", "theirs"), SOURCE, "")


def _slope(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """Of messages of 4 tokens, one training in four fails, as in two of the three studies with such messages."""
    easy, rows = made.items(rng), []
    for doublings, tokens in enumerate((4, 8, 16, 32)):
        percent = made.bridges(rng, 80 + truth * (doublings - 1.5), fails=0.25 * (tokens == 4))
        table = {("bridged", "best", True): made.answers(rng, easy, percent)}
        rows += made.bridge_run("1a_16" if tokens == 16 else f"2_{tokens}", table, soft_tokens=tokens)
    return made.study(rows)


def _over(rng: np.random.Generator, truth: float) -> Finding | None:
    """A bridge against the target with the text, which is judged once."""
    easy = made.items(rng)
    text = pd.DataFrame(made.answers(rng, easy, [73.0]), index=[np.nan])
    ours = pd.DataFrame(made.answers(rng, easy, made.bridges(rng, 73 + truth)))
    return bridge_tests.minus([ours, text], ("bridged", "target_alone"), SOURCE, "")


def _either(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """The same at two checkpoints."""
    easy = made.items(rng)
    tables = {("bridged", at, True): made.answers(rng, easy, made.bridges(rng, 73 + truth)) for at in ("best", "final")}
    tables[("target_alone", "", True)] = made.answers(rng, easy, [73.0])
    return made.study(made.bridge_run("3a_", tables, task="multihop"))


def _alone(rng: np.random.Generator, truth: float) -> Finding:
    values = 100 * made.answers(rng, made.items(rng), made.bridges(rng, truth))
    return bridge_tests.ahead(values, SOURCE, at=70.0, margin=0.0, statistic="")


def _near(rng: np.random.Generator, truth: float) -> Finding:
    values = 100 * made.answers(rng, made.items(rng), made.bridges(rng, truth))
    return bridge_tests.within(values, SOURCE, 76.0, 86.0, statistic="")


def _codec(rng: np.random.Generator, truth: float) -> Finding:
    """Items that a codec loses, half of them at all seeds, and as many that seeds gain as int4 gains (0.4 %)."""
    luck = np.where(rng.random(made.ITEMS) < 0.5, rng.random(made.ITEMS), rng.random((made.SEEDS, made.ITEMS)))
    values = 100.0 * (luck > 1 - 0.004) - 100.0 * (luck < 0.004 - truth / 100)
    return wire_findings.no_lower(values, -bridge_tests.MARGIN, bridge_tests.MARGIN / 100, SOURCE, "", "", "")


def _accurate(rng: np.random.Generator, truth: float) -> Finding:
    values = 100.0 * made.answers(rng, made.items(rng), made.bridges(rng, truth))
    return wire_findings.no_lower(values, 95.0, 0.05, SOURCE, "", "", "")


def _times(rng: np.random.Generator, truth: float, n: int, spread: float, each: int = 1) -> Finding:
    """Log2 speedups that spread so (4c: 0.17 and 0.15) of batches of `each` questions, their noise a mean of theirs."""
    noise = made.skewed(rng, (n, each), spread).sum(axis=1) / np.sqrt(each)
    return inference._finding(truth + noise, SOURCE, "")


def _sizes(rng: np.random.Generator, truth: float) -> Finding:
    """Caches of six questions, whose lengths differ (4c: log2 ratios from 0.19 to 0.31)."""
    return inference._finding(truth + rng.uniform(-0.07, 0.07, 6), SOURCE, "")


def _small(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    return made.mazes(rng, {"tiny": truth, "small": truth})


def _fallen(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """Trainings that end at 80 % or, collapsed, at 5 %, as many as make the mean loss below 0.7 of the peak this."""
    collapsed = (80 - (0.7 * 80 - truth)) / 75
    final = np.where(rng.random(made.SEEDS) < collapsed, 5.0, 80.0) + rng.normal(0, 1.0, made.SEEDS)
    return made.study(made.stability("1b_", np.full(made.SEEDS, 80.0), np.minimum(final, 80.0), patience=0))


def _losing(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """Three in ten trainings lose something from peak to end; with more soft tokens so much more on average."""
    rows: list[dict] = []
    for label, tokens, more in (("2a_", 8, 0.0), ("2b_", 12, truth), ("1a_", 16, truth)):
        lost = (rng.random(made.SEEDS) < 0.3) * rng.uniform(0.5, 1.5, made.SEEDS) * (1 + more / 0.3)
        rows += made.stability(label, np.full(made.SEEDS, 90.0), 90 - lost, soft_tokens=tokens)
    return made.study(rows)


def _course(rng: np.random.Generator, truth: float) -> Finding:
    """Points from the middle of the range; validation accuracies spread by 1.3 over seeds (4a)."""
    return bridge_tests.within(truth + rng.normal(0, 1.3, (made.SEEDS, 1)), SOURCE, -5.0, 5.0, statistic="")


def _any_codec(rng: np.random.Generator, truth: float) -> Finding | None:
    return wire_findings._any([_codec(rng, truth) for _ in range(3)])


def _law(rng: np.random.Generator, truth: float) -> pd.DataFrame:
    """Answers of four methods, 2500 tokens each, whose surprise spreads by 0.51 nats (2a): one is so far off."""
    arms, tokens = ["ngram", "draft", "eagle", "hybrid"], 2500
    error = 0.51 / np.sqrt(tokens)
    away = np.array([truth, 0.0, 0.0, 0.0]) + rng.normal(0, error, len(arms))
    rows = pd.DataFrame({"arm": arms, "difference": away, "tokens": tokens})
    rows = rows.assign(low=away - 1.96 * error, high=away + 1.96 * error, outside_support=False, protocol="audit")
    about = {"group": "ladder_1m+copyedit", "dummy": False, "temperature": 0.8, "batch_size": 1, **made.DRAFTING}
    return rows.assign(**made.SOURCE, **about)


MARGIN = bridge_tests.MARGIN
SIZES, SEEDS, BRIDGES = "6 seeds × 4 sizes", "6 seeds", f"{made.SEEDS} seeds × {made.ITEMS} items"
CASES = (
    Case("1a3/growth-*", "20 prompts × 4 models", ByRows("1a3/growth-as-published", made.ladder), 0.0, GROWTH),
    Case("1a3/time-saved", "20 prompts × 4 models", _saved, 0.0, scaling_costs.LITTLE),
    Case("1a3/memory-per-sample", "20 prompts", _cached, 0.0, stats.FLAT),
    Case("1a3/range-*", "10 prompts", ByRows("1a3/range-Qwen2.5-1.5B", _range), RANGE[1], sum(RANGE) / 2),
    Case("2a/ngram-* 2a/eagle-* 2a/draft-* 2a/hybrid-*", "70 requests", _requests, 0.0, stats.FLAT),
    Case("2a/law-*", "4 methods × 2500 tokens", ByRows("2a/law-ladder_1m+copyedit", _law), 0.05, 0.0),
    Case("3a/recurrence 3a/q1-equal-parameters 3a/h2-*", SIZES, _mean, 0.0, 5.0),
    Case("3a/q1-equal-flops", NANO, partial(_mean, weights=ONE, seeds=MOST), 0.0, 5.0),
    Case("3a/q1-routing", NANO, partial(_mean, weights=ONE, seeds=MOST, fails=(True, True)), 0.0, 5.0),
    Case("3a/q1-advantage", SIZES, ByRows("3a/q1-advantage", _one_size), 0.0, 5.0),
    Case("3a/q2-scale", SIZES, _growing, 0.0, 5 / DOUBLINGS),
    Case("3a/q3-improves", SEEDS, _improving, 0.0, 5.0),
    Case("3a/q4-*", SIZES, _optimal, 0.0, 5.0),
    Case("3a/h1-*", "6 seeds × 2 sizes", ByRows("3a/h1-small-by-name", _small), 5.0, 0.0),
    Case("3a/h3-*", SEEDS, ByRows("3a/h3-large-by-name", _kept), -5.0, 0.0),
    Case("4a/*enrichment", BRIDGES, _over, 0.0, 8.5),
    Case("4a/*fixes-keep-more", BRIDGES, partial(_ahead, percent=46.0), 0.0, 34.0),
    Case("4a/*tokens-2?-over-2? 4a/fix-* 4a/*tuned-prompt 4b/noise-helps-*", BRIDGES, _ahead, 0.0, MARGIN),
    Case("4a/tokens-slope", BRIDGES, ByRows("4a/tokens-slope", _slope), 0.0, MARGIN),
    Case("4a/*generalises", BRIDGES, ByRows("4a/generalises", _either), 0.0, MARGIN),
    Case("4a/*stable-above-70", BRIDGES, _alone, 70.0, 70.0 + MARGIN),
    Case("4a/*quality-*", BRIDGES, _near, 86.0, 81.0),
    Case("4a/*baseline-peak 4a/*baseline-end", "4 seeds", _course, 5.0, 0.0),
    Case("4a/*baseline-collapses", "4 seeds", ByRows("4a/baseline-collapses", _fallen), 0.0, 21.0),
    Case("4a/*fewest-tokens-most-stable", "4 seeds", ByRows("4a/fewest-tokens-most-stable", _losing), 0.0, MARGIN),
    Case("4b/*int?-keeps", BRIDGES, _codec, -MARGIN, 0.0),
    Case("4b/compression-*", f"3 codecs, {BRIDGES}", _any_codec, -MARGIN, 0.0),
    Case("4b/noise-int4-keeps-95 4b/beats-*", BRIDGES, _accurate, 95.0, 95.0 + MARGIN),
    Case("4c/*latency*", "104 questions", partial(_times, n=104, spread=0.17), 0.0, stats.FLAT),
    Case("4c/*throughput*", "13 batches", partial(_times, n=13, spread=0.15, each=8), 0.0, stats.FLAT),
    Case("4c/*memory*", "6 questions", _sizes, 0.0, stats.FLAT),
)
