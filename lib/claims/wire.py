"""Claims of 4b: the plan's fifth, "2-5× compression with quantisation, maintains quality", and what noise in training
adds.

The plan speaks of its own pair of models (`plan-`, decided from all runs there are). There the half about sizes is
arithmetic, and decided by it alone whatever the accuracy; the half about quality waits for a run. On the small pair
trained here both halves are measured, against the question as it is and against the question after a dictionary,
which is what compression without any bridge gives. `lib.claims.wire_findings` turns rows into findings.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from lib.claims import Claim, Finding
from lib.claims import wire_findings as findings
from lib.claims.bridge_select import HERE, PLAN, Scale
from lib.claims.bridge_tests import MARGIN
from lib.figures.wire import DICTIONARIES

EXPERIMENT = "4b_wire"

Test = Callable[..., Finding | None]

QUANTISED = ("int8", "int6", "int4")  # the plan's, of which it expects quality to be maintained
COARSE = ("int4", "int3", "int2")
AGAINST = {"utf8": (("utf8",), "in UTF-8"), "dictionary": (DICTIONARIES, "after a dictionary")}
LOSS = f"a loss of {MARGIN:g} points"


def claims() -> list[Claim]:
    """The plan's claim about the small pair, what noise adds, and the plan's claim about its own pair."""
    return [*_compression(), *_quality(HERE), *_noise(), *_beats(), _plan_size(), *_quality(PLAN)]


def _claim(scale: Scale, name: str, text: str, expected: str, test: Test, needs: str, **given: object) -> Claim:
    """A claim about one scale; the plan's own pair is looked for in every run."""
    return Claim(
        f"4b/{scale.prefix}{name}",
        f"{text.removesuffix('.')}, on {scale.about}.",
        expected,
        partial(test, scale=scale, **given),
        f"{needs} on {scale.about}",
        every_run=scale is PLAN,
        figure="4b_frontier" if name.startswith(("beats", "noise")) else "4b_bytes",
    )


def _compression() -> list[Claim]:
    return [
        _claim(
            HERE,
            f"compression-{name}",
            f"Messages in one of the plan's codecs are 2 to 5 times smaller than the question {said} and keep quality",
            f"{findings.SMALLER:g}× or more, and less than {LOSS} against fp32",
            findings.compression,
            f"a run about a bridge labelled 1a_ of {HERE.maths} with the question {said},",
            coders=coders,
        )
        for name, (coders, said) in AGAINST.items()
    ]


def _quality(scale: Scale) -> list[Claim]:
    return [
        _claim(
            scale,
            f"{codec}-keeps",
            f"Messages in {codec} maintain the quality that those in fp32 have",
            f"less than {LOSS}",
            findings.codec_kept,
            f"a run about a bridge labelled 1a_ of {scale.maths} with messages in fp32 and {codec},",
            codec=codec,
        )
        for codec in QUANTISED
    ]


def _noise() -> list[Claim]:
    both = f"runs about bridges of {HERE.maths}, trained with and without noise at the same tokens × width,"
    helps = [
        _claim(
            HERE,
            f"noise-helps-{codec}",
            f"Quantisation noise in training raises the accuracy of messages in {codec}",
            f"above zero; less than {MARGIN:g} points counts as none",
            findings.noise_helps,
            both,
            codec=codec,
        )
        for codec in COARSE
    ]
    keeps = _claim(
        HERE,
        "noise-int4-keeps-95",
        "Trained with quantisation noise, messages in int4 keep 95 % of the accuracy that fp32 has without",
        f"above {findings.SHARE:g} times fp32's accuracy",
        findings.noise_keeps,
        both,
        codec="int4",
    )
    return [keeps, *helps]


def _beats() -> list[Claim]:
    return [
        _claim(
            HERE,
            f"beats-{name}",
            f"Some bridge solves 95 % with a frame that is smaller than the question {said}",
            f"{100 * findings.SHARE:g} % or more, in fewer bytes",
            findings.beats,
            f"runs about bridges of {HERE.maths} with the question {said},",
            coders=coders,
        )
        for name, (coders, said) in AGAINST.items()
    ]


def _plan_size() -> Claim:
    return Claim(
        "4b/plan-size",
        "At the plan's own size, 32 to 64 tokens of 4096 numbers, quantised messages are 2 to 5 times smaller than the "
        "prompt; sizes alone, no accuracy enters.",
        f"{findings.SMALLER:g}× or more in one of the plan's codecs",
        findings.plan_size,
        "a run with the exact sizes of the plan's own messages",
        every_run=True,
        figure="4b_geometry",
    )
