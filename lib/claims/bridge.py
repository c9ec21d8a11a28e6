"""Claims of 4.A: what the plan expects of a soft-token bridge in its ablations 1 to 3.

The plan's numbers are about one pair of models and two public data sets (`plan-`, decided from all runs there are); the
same sentences are asked of the small pair trained here, on tasks of its own, where the plan's absolute numbers need not
hold but its orderings might. Two things are added to the plan: latent against a tuned prompt, without which "latent
beats text" may only mean that the target profits from any tuned vectors, and every fix by itself, on the small pair.
`lib.claims.bridge_findings` and `lib.claims.bridge_tokens` turn rows into findings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lib.claims import Claim, Finding
from lib.claims import bridge_findings as findings
from lib.claims import bridge_tokens as tokens
from lib.claims.bridge_select import HERE, PLAN, Scale
from lib.claims.bridge_tests import MARGIN
from lib.claims.exact import TOLERANCE

EXPERIMENT = "4a_bridge"

Test = Callable[..., Finding | None]

NONE = f"less than {MARGIN:g} points counts as none"
ABOVE = f"above zero; {NONE}"
HIGH = 70.0  # percent: what the plan wants of the end of a training with all fixes
NEAR = 5.0  # points around an accuracy that the plan gives as "about"
LOW_QUALITY, HIGH_QUALITY = 55.0, 81.0  # percent, at the fewest and at the most soft tokens
PEAK, END = 81.5, 36.0  # percent: the plan's baseline at its best and at the end of training
RATIOS = (4.7, 3.1, 2.3)  # tokens of the text over soft tokens, at 32, 48 and 64
FIGURES = {  # and the beginnings of the names of the claims that each shows
    "4a_controls": ("enrichment",),
    "4a_curves": ("stable", "baseline"),
    "4a_factors": ("fix",),
    "4a_tokens": ("token", "quality", "fewest"),
    "4a_tasks": ("generalises",),
}


def claims() -> list[Claim]:
    """The plan's claims about the small pair, every fix by itself, and the same claims about the plan's own pair."""
    return [*_seed(HERE), *_each_fix(), _slope(), *_seed(PLAN)]


def _seed(scale: Scale) -> list[Claim]:
    return [*_enrichment(scale), *_stability(scale), *_course(scale), *_tokens(scale), _generalises(scale)]


def _claim(
    scale: Scale,
    name: str,
    text: str,
    expected: str,
    test: Test,
    needs: str,
    effect: float | None = None,
    **given: object,
) -> Claim:
    """A claim about one scale; the plan's own pair is looked for in every run. `effect`: points, if it names any."""
    return Claim(
        f"4a/{scale.prefix}{name}",
        f"{text.removesuffix('.')}, on {scale.about}.",
        expected,
        partial(test, scale=scale, **given),
        f"{needs} on {scale.about}",
        every_run=scale is PLAN,
        effect=effect,
        figure=next(figure for figure, beginnings in FIGURES.items() if name.startswith(beginnings)),
    )


def _enrichment(scale: Scale) -> list[Claim]:
    needs = f"a run labelled 1a_ of {scale.maths} with the arms bridged and "
    return [
        _claim(
            scale,
            "enrichment",
            "Latent beats text: bridged solves more maths problems than the target that reads the question.",
            f"+8.5 points (81.5 % over 73 %); {NONE}",
            findings.over,
            f"{needs}target_alone",
            effect=8.5,
            other="target_alone",
        ),
        _claim(
            scale,
            "enrichment-tuned-prompt",
            "Latent beats a tuned prompt: bridged solves more maths problems than the target that reads the question "
            "after a tuned soft prompt, which needs no source.",
            ABOVE,
            findings.over,
            f"{needs}prefix_text",
            other="prefix_text",
        ),
    ]


def _stability(scale: Scale) -> list[Claim]:
    both = f"runs labelled 1a_ and 1b_ of {scale.maths}, on the same seeds,"
    return [
        _claim(
            scale,
            "stable-above-70",
            f"With all fixes the bridge that is kept solves more than {HIGH:g} % of the maths problems.",
            f"above {HIGH:g} %",
            findings.ends_above,
            f"a run labelled 1a_ of {scale.maths}",
            percent=HIGH,
        ),
        _claim(
            scale,
            "baseline-collapses",
            "Without any fix the bridge collapses by the end of training.",
            "81.5 % falling to 36 %, which is 21 points below 0.7 of the peak; below it counts as collapse",
            findings.collapses,
            f"a run labelled 1b_ of {scale.maths}",
            effect=21.0,
        ),
        _claim(
            scale,
            "fixes-keep-more",
            "All fixes together keep more accuracy than none.",
            f"+34 points or more (above 70 % over 36 %); {NONE}",
            findings.keeps_more,
            both,
            effect=34.0,
        ),
    ]


def _course(scale: Scale) -> list[Claim]:
    """How the baseline's training goes, by the plan."""
    return [
        _claim(
            scale,
            f"baseline-{place}",
            f"Without any fix validation accuracy is about {percent:g} % at the {place} of training.",
            f"{percent - NEAR:g} % to {percent + NEAR:g} %",
            findings.course,
            f"a run labelled 1b_ of {scale.maths}",
            place={"peak": "peak", "end": "final"}[place],
            low=percent - NEAR,
            high=percent + NEAR,
        )
        for place, percent in (("peak", PEAK), ("end", END))
    ]


def _each_fix() -> list[Claim]:
    cells = f"runs of {HERE.maths} that differ from the one labelled 1a_ in"
    return [
        _claim(
            HERE,
            f"fix-{name.replace('_', '-')}",
            f"{text} raises the accuracy of a training that runs to its end.",
            ABOVE,
            findings.loss_effect,
            f"{cells} {name} being on and off",
            loss=name,
        )
        for name, text in (("info_nce", "InfoNCE"), ("distill", "Distillation from the target that reads the text"))
    ] + [
        _claim(
            HERE,
            "fix-early-stopping",
            "Early stopping keeps more accuracy than the end of the same training has.",
            ABOVE,
            findings.stopping_effect,
            f"a run labelled 1a_ of {HERE.maths} with both checkpoints",
        ),
        _claim(
            HERE,
            "fix-hygiene",
            "A repetition penalty and no repeated 3-grams raise the accuracy of the same weights.",
            ABOVE,
            findings.hygiene_effect,
            f"a run labelled 1a_ of {HERE.maths} decoded both ways",
        ),
    ]


def _tokens(scale: Scale) -> list[Claim]:
    series = f"runs labelled 2a_, 2b_ and 1a_ of {scale.maths}"
    steps = {"tokens-2b-over-2a": (0, 1, "48 over 32"), "tokens-2c-over-2b": (1, 2, "64 over 48")}
    better = [
        _claim(
            scale,
            name,
            f"More soft tokens solve more: {said} in the plan's series, where the bridge grows with them.",
            ABOVE,
            tokens.more_tokens,
            f"{series}, on the same seeds,",
            fewer=fewer,
            more=more,
        )
        for name, (fewer, more, said) in steps.items()
    ]
    ends = (("fewest", 0, LOW_QUALITY, 32), ("most", -1, HIGH_QUALITY, 64))
    quality = [
        _claim(
            scale,
            f"quality-{which}-tokens",
            f"With the {which} soft tokens of the plan's series ({count} there) accuracy is about {percent:g} %.",
            f"{percent - NEAR:g} % to {percent + NEAR:g} %",
            tokens.quality,
            series,
            place=place,
            low=percent - NEAR,
            high=percent + NEAR,
        )
        for which, place, percent, count in ends
    ]
    return [*better, *quality, *_compression(scale, series)]


def _compression(scale: Scale, series: str) -> list[Claim]:
    said = ", ".join(f"{ratio:g}×" for ratio in RATIOS)
    return [
        _claim(
            scale,
            "fewest-tokens-most-stable",
            "The fewest soft tokens lose the least accuracy from peak to end.",
            "less than each of the others; more than one of them refutes it",
            tokens.fewest_most_stable,
            f"{series}, on the same seeds,",
        ),
        _claim(
            scale,
            "token-ratio",
            f"A question has {said} as many tokens as the three messages of the plan's series.",
            f"{said}, each within {100 * TOLERANCE:g} %",
            tokens.token_ratios,
            f"{series} with their costs",
            plan=RATIOS,
        ),
    ]


def _slope() -> Claim:
    return _claim(
        HERE,
        "tokens-slope",
        "More soft tokens solve more where nothing else of the bridge changes.",
        "above zero per doubling; below zero refutes it",
        tokens.per_doubling,
        f"runs of {HERE.maths} that differ from the one labelled 1a_ in the number of soft tokens alone",
    )


def _generalises(scale: Scale) -> Claim:
    return _claim(
        scale,
        "generalises",
        "Beyond maths: bridged beats the target that reads the text on multi-hop questions at one checkpoint at least.",
        f"above zero at the best or at the final checkpoint; {NONE}",
        findings.at_one_checkpoint,
        f"a run labelled 3a_ of {scale.hops} with both checkpoints",
    )
