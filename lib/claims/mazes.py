"""Claims of 3.A: what the plan asks and expects of PoH-HRM against the baseline transformer on mazes, as both grow.

The plan's questions and hypotheses are about two arms that differ in more than the idea: PoH-HRM has more parameters
than its baseline and R times its FLOPs. So its first question is followed by what remains of it where one of these is
made equal. `lib.claims.advantage` has the tests.
"""

from __future__ import annotations

from functools import partial

from lib.claims import Claim, advantage
from lib.claims.advantage import MARGIN
from lib.metrics.paired import Chosen, counted, named

EXPERIMENT = "3a_poh_scaling"
FIGURE = "3a_scaling"  # shows every arm's accuracy and PoH-HRM's advantages at every size

SMALL, MEDIUM, LARGE = ("tiny", "small"), ("medium",), ("large", "xl")
# Parameters of the baseline. The plan speaks of 1-3M, 10M and 30-100M; its own tiny (below 0.5M) is not among them.
MILLIONS = {"small": (1, 3), "medium": (5, 20), "large": (30, 110)}

Where = tuple[Chosen, str]  # sizes, and how to say which


def claims() -> list[Claim]:
    """The plan's four questions, with what remains of the first where arms are equal, and its three hypotheses."""
    first, *others = _questions()
    return [_recurrence(), first, *_what_remains(), *others, *_hypotheses()]


def _recurrence() -> Claim:
    text = "Recurrence beats a stack of no fewer parameters: the same blocks, run through R times."
    return _ahead("recurrence", text, "loop", "stack_params")


def _what_remains() -> list[Claim]:
    same = "PoH-HRM solves more mazes than"
    return [
        _ahead("q1-equal-parameters", f"{same} a stack of as many parameters.", "poh", "stack_params"),
        _ahead("q1-equal-flops", f"{same} a stack of as many FLOPs (within 4 %).", "poh", "stack_flops"),
        _ahead("q1-routing", f"{same} the same recurrence without its routing and controller.", "poh", "loop"),
    ]


def _ahead(name: str, text: str, arm: str, other: str) -> Claim:
    expected = f"above zero; less than +{MARGIN:g} points counts as none"
    test = partial(advantage.mean_advantage, arm=arm, other=other)
    return Claim(f"3a/{name}", text, expected, test, _both(arm, other), figure=FIGURE)


def _both(arm: str, other: str, where: str = "") -> str:
    return f"models of the arms {arm} and {other}{where}, trained on the same seeds"


def _questions() -> list[Claim]:
    baseline = _both("poh", "stack", " at two sizes or more")
    none = f"less than {MARGIN:g} points"
    return [
        Claim(
            "3a/q1-advantage",
            "PoH-HRM solves more mazes than the baseline transformer at every size.",
            f"above zero at the size where it is smallest; {none} at any size refutes it",
            advantage.at_every_size,
            baseline,
            figure=FIGURE,
        ),
        Claim(
            "3a/q2-scale",
            "PoH-HRM's advantage over the baseline grows with size.",
            f"above zero; {none} from the smallest size to the largest counts as none",
            advantage.growth,
            baseline,
            figure=FIGURE,
        ),
        Claim(
            "3a/q3-improves",
            "PoH-HRM does not saturate: it still improves from the second largest size to the largest.",
            f"above zero; {none} counts as saturated",
            advantage.improves,
            "models of the arm poh at two sizes or more, trained on the same seeds",
            figure=FIGURE,
        ),
        Claim(
            "3a/q4-accuracy-or-optimality",
            "PoH-HRM's advantage over the baseline is larger in accuracy than in optimality.",
            f"above zero; {none} counts as none",
            advantage.accuracy_or_optimality,
            _both("poh", "stack", " with test mazes that have loops"),
            figure=FIGURE,
        ),
    ]


def _hypotheses() -> list[Claim]:
    """Each by the sizes that the plan names, and by the parameters that its baseline would really have."""
    names = dict(zip(MILLIONS, (SMALL, MEDIUM, LARGE), strict=True))
    by_name = {size: (named(*which), f"at {' and '.join(which)}") for size, which in names.items()}
    by_count = {
        size: (
            counted(1e6 * low, 1e6 * high),
            f"against a baseline of {low}M to {high}M parameters (the plan names {' and '.join(names[size])})",
        )
        for size, (low, high) in MILLIONS.items()
    }
    pairs = zip(_three("name", **by_name), _three("count", **by_count), strict=True)
    return [claim for pair in pairs for claim in pair]


def _three(by: str, small: Where, medium: Where, large: Where) -> list[Claim]:
    """The three hypotheses about these groups of sizes."""
    (at_small, said_small), (at_medium, said_medium), (at_large, said_large) = small, medium, large
    return [
        Claim(
            f"3a/h1-small-by-{by}",
            f"Small models, {said_small}: PoH-HRM has no advantage over the baseline.",
            f"below +{MARGIN:g} points",
            partial(advantage.no_advantage, chosen=at_small),
            _both("poh", "stack", f" {said_small}"),
            figure=FIGURE,
        ),
        Claim(
            f"3a/h2-medium-by-{by}",
            f"Medium models, {said_medium}: PoH-HRM has a clear advantage over the baseline.",
            f"above zero; less than +{MARGIN:g} points counts as none",
            partial(advantage.mean_advantage, arm="poh", other="stack", chosen=at_medium),
            _both("poh", "stack", f" {said_medium}"),
            figure=FIGURE,
        ),
        Claim(
            f"3a/h3-large-by-{by}",
            f"Large models, {said_large}: PoH-HRM keeps or increases the advantage that it has over medium ones.",
            f"an advantage above zero that is at most {MARGIN:g} points below that at medium",
            partial(advantage.kept, large=at_large, medium=at_medium),
            _both("poh", "stack", f" {said_medium} and {said_large}"),
            figure=FIGURE,
        ),
    ]
