"""What rows of 4b say about quality and size: functions from rows and a scale to a finding, or to None where nothing in
the rows bears on the claim.

Sizes are counted, not sampled: a frame that is too large decides a claim about size outright. Quality is asked as a
bound (no lower than so much), over other seeds and other items, by 4a's crossed test with one addition.
A codec that loses nothing leaves no spread to judge by, yet a loss at the bound need not show on the items at hand; so
the standard error is never taken to be smaller than what a loss of just that share of items would have, which is the
score test's (Tango 1998, for paired shares).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from lib.claims import Finding
from lib.claims.bridge_select import STABLE, Scale, marks, shared
from lib.claims.bridge_tests import MARGIN, crossed, finding, minus
from lib.claims.exact import counted
from lib.figures import wire

PLANNED = ("fp16", "int8", "int6", "int4")  # the codecs of the plan
SMALLER = 2.0  # times: the lower end of the plan's 2 to 5
SHARE = 0.95  # of the accuracy, and of the items, that is called kept
ALIKE = [column for column in wire.BRIDGE if column != "noise"]


def no_lower(
    values: np.ndarray, bound: float, rare: float, source: pd.DataFrame, statistic: str, unit: str, remark: str
) -> Finding:
    """Whether the mean of values [seeds, items], in points, is above `bound`; `source`: the rows they were made of.

    For: it is, by the two-sided test that its interval shows. Against: it is below, by a one-sided one. `rare`: the
    share of items that are lost where the mean is at the bound.
    """
    mean = crossed(values)
    least = float(100 * np.sqrt(rare * (1 - rare) / values.shape[1]))
    mean = replace(mean, tests=(*mean.tests, (least, np.inf)))
    more = min(1.0, 2 * mean.above(bound)) if mean.value > bound else 1.0
    low, high = mean.interval()
    about: dict[str, Any] = {"statistic": statistic, "unit": unit, "remark": remark}
    found = finding(values, source, more, mean.below(bound), **about)
    spread = max(found.spread, least * np.sqrt(len(values)))
    return replace(found, low=low, high=high, spread=spread, errors=(*found.errors, (least, np.inf, 0.0)))


def bridges(rows: pd.DataFrame, scale: Scale) -> pd.DataFrame:
    """`lib.figures.wire.messages` of the scale's maths task and pair; empty where there are none."""
    part = rows[rows.protocol == "message"] if "protocol" in rows else rows[:0]
    if part.empty:
        return part
    pair = part.source.str.contains(scale.source, regex=False) & part.target.str.contains(scale.target, regex=False)
    part = part[pair & (part.task == scale.maths)]
    return wire.messages(part) if len(part) else part


def reference(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of the plan's best configuration without noise in training; empty where there is none."""
    if part.empty:
        return part
    return part[part.reference & part.label_of.str.startswith(STABLE) & (part.noise == 0)]


def answers(part: pd.DataFrame, codec: str, scales: str | None = None) -> pd.DataFrame:
    """Which test items the target got right [seeds, items], 0 or 1, from one bridge's messages in a codec.

    `scales`: their number format; by default the finest that there is.
    """
    same = part[part.codec == codec]
    same = wire.finest(same) if scales is None else same[same.scales == scales]
    same = same.drop_duplicates("seed", keep="last")
    return marks(same.correct, same.seed.to_numpy())


def codec_kept(rows: pd.DataFrame, scale: Scale, codec: str) -> Finding | None:
    """Accuracy of the reference in a codec minus that in fp32."""
    part = reference(bridges(rows, scale))
    same = wire.finest(part[part.codec == codec]) if len(part) else part
    return _kept(part, codec, same.scales.iloc[0]) if len(same) else None


def _kept(part: pd.DataFrame, codec: str, scales: str, remark: str = "") -> Finding | None:
    tables = shared([answers(part, codec, scales), answers(part, "fp32")])
    if tables is None:
        return None
    ours, theirs = (100 * table.to_numpy(float) for table in tables)
    said = f"{codec} {ours.mean():.1f} %, fp32 {theirs.mean():.1f} %; {ours.shape[1]} test items. {remark}".strip()
    about = {"statistic": f"accuracy of {part.label_of.iloc[0]} in {_codec(codec, scales)} minus that in fp32"}
    return no_lower(ours - theirs, -MARGIN, MARGIN / 100, part, **about, unit="points", remark=said)


def compression(rows: pd.DataFrame, scale: Scale, coders: Sequence[str]) -> Finding | None:
    """Whether a codec of the plan makes the reference SMALLER times smaller than the text and keeps its accuracy.

    Where no codec is small enough, that decides. Else for: one of the small enough keeps it (the smallest p-value,
    times their number). Against: none of them does (the largest).
    """
    part = bridges(rows, scale)
    own, text = reference(part), _text(rows, part, coders)
    frames = own[own.codec.isin(PLANNED)].drop_duplicates(wire.FRAME) if len(own) else own
    if frames.empty or text is None:
        return None
    ratios = {(row.codec, row.scales): text / row.frame_bytes for row in frames.itertuples()}
    said = ", ".join(f"{_codec(*frame)} {ratio:.2f}×" for frame, ratio in ratios.items())
    remark = f"A question has {text:.1f} bytes, which over the frame's are: {said}."
    small = [frame for frame, ratio in ratios.items() if ratio >= SMALLER]
    if not small:
        about = ("bytes of the text over those of the smallest frame", "×", f"{remark} No accuracy enters.")
        return counted(max(ratios.values()), False, *about, source=own)
    return _any([_kept(own, *frame, remark=remark) for frame in small])


def beats(rows: pd.DataFrame, scale: Scale, coders: Sequence[str]) -> Finding | None:
    """Whether some bridge keeps SHARE of the items right in frames that are smaller than the text.

    Each bridge is asked in its finest codec whose frame is smaller, entropy coding allowed: accuracy grows with bits.
    """
    part = bridges(rows, scale)
    text = _text(rows, part, coders)
    if part.empty or text is None:
        return None
    table = wire.points(part)
    least = float(table.coded_bytes.min())
    remark = f"A question has {text:.1f} bytes, the smallest frame {least:.1f}."
    smaller = table[table.coded_bytes < text].drop_duplicates(wire.BRIDGE)
    if smaller.empty:
        about = ("bytes of the text over those of the smallest frame", "×", f"{remark} No accuracy enters.")
        return counted(text / least, False, *about, source=part)
    return _any([_accurate(part, frame, remark) for _, frame in smaller.iterrows()])


def _accurate(part: pd.DataFrame, frame: pd.Series, remark: str) -> Finding:
    """Accuracy of one bridge in one codec; `frame`: a row of `lib.figures.wire.points`."""
    own = part[(part[wire.BRIDGE] == frame[wire.BRIDGE]).all(axis=1)]
    values = 100 * answers(own, frame.codec, frame.scales).to_numpy(float)
    about = f"test accuracy of {frame['name']} in {_codec(frame.codec, frame.scales)}, {frame.coded_bytes:.1f} bytes"
    return no_lower(values, 100 * SHARE, 1 - SHARE, own, about, "% correct", remark)


def _any(tests: Sequence[Finding | None]) -> Finding | None:
    """Of tests of which one must pass: the most certain, its p-value times their number; against it, the largest.

    A test of too few replicates can support nothing, so it is not among that number, but keeps the question open.
    """
    known = [test for test in tests if test]
    if not known:
        return None
    able = [test for test in known if test.n >= test.enough]
    best = min(able or known, key=lambda test: (test.p_supports, -test.estimate))
    looks = max(1, len(able))
    against = max(test.p_refutes for test in known)
    return replace(best, p_supports=min(1.0, looks * best.p_supports), p_refutes=against, looks=looks)


def _text(rows: pd.DataFrame, part: pd.DataFrame, coders: Sequence[str]) -> float | None:
    """Mean bytes of the messages' questions in the best of the lossless coders named; None where there is none."""
    texts = wire.texts(rows, part) if len(part) else pd.DataFrame(columns=["coder", "lossless", "bytes"])
    found = texts[texts.coder.isin(coders) & texts.lossless.eq(True)]
    return float(found.bytes.min()) if len(found) else None


def noise_helps(rows: pd.DataFrame, scale: Scale, codec: str) -> Finding | None:
    """Accuracy in a codec of bridges trained with noise minus that of the same trained without, mean over sizes."""
    twins = _twins(rows, scale, codec, codec)
    if twins is None:
        return None
    ours, theirs, source, said = twins
    about = f"accuracy in {codec} trained with noise minus without, mean over {len(said)} size{'s' * (len(said) > 1)}"
    found = minus([ours, theirs], ("with noise", "without"), source, about)
    return replace(found, remark=f"{found.remark} {'; '.join(said)}.")


def noise_keeps(rows: pd.DataFrame, scale: Scale, codec: str) -> Finding | None:
    """Accuracy in a codec of bridges trained with noise, less SHARE of what the same without noise have in fp32."""
    twins = _twins(rows, scale, codec, "fp32")
    if twins is None:
        return None
    ours, theirs, source, said = twins
    values = 100 * (ours.to_numpy(float) - SHARE * theirs.to_numpy(float))
    about = f"accuracy in {codec} trained with noise, less {SHARE:g} of that in fp32 trained without"
    return no_lower(values, 0.0, 1 - SHARE, source, statistic=about, unit="points", remark=f"{'; '.join(said)}.")


def _twins(
    rows: pd.DataFrame, scale: Scale, ours: str, theirs: str
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, list[str]] | None:
    """Bridges trained with noise in one codec, the same trained without in another; None where nothing was both.

    Both as means over sizes [seeds, items], then the rows they were made of, and what to say of each size. Of several
    noises of one size that of the most seeds, then that nearest to the bits of the first codec.
    """
    part, bits, pairs = bridges(rows, scale), int(ours.removeprefix("int")), []
    for _, own in part.groupby(ALIKE, dropna=False) if len(part) else ():
        plain, noisy = own[own.noise == 0], own[own.noise > 0].groupby("noise")
        found = {noise: _pair(one, plain, ours, theirs) for noise, one in noisy}
        nearest = sorted((abs(noise - bits), noise) for noise in found)
        pairs += _most_seeds([found[noise] for _, noise in nearest])[:1]
    pairs = _most_seeds(pairs)
    tables = [answers(noisy, ours) for noisy, _ in pairs] + [answers(plain, theirs) for _, plain in pairs]
    together = shared(tables) if tables else None
    if together is None:
        return None
    halves = together[: len(pairs)], together[len(pairs) :]
    said = [
        f"{wire.name(noisy.iloc[0])} {100 * a.to_numpy().mean():.1f} % in {_frame(noisy)}, without noise "
        f"{100 * b.to_numpy().mean():.1f} % in {_frame(plain)}"
        for (noisy, plain), a, b in zip(pairs, *halves, strict=True)
    ]
    means = [sum(half) / len(pairs) for half in halves]
    return *means, pd.concat([table for pair in pairs for table in pair]), said


def _pair(noisy: pd.DataFrame, plain: pd.DataFrame, ours: str, theirs: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of two bridges, each in its codec with the finest scales it has; if it is the same codec, that both have."""
    noisy, plain = noisy[noisy.codec == ours], plain[plain.codec == theirs]
    if ours == theirs:
        noisy, plain = noisy[noisy.scales.isin(plain.scales)], plain[plain.scales.isin(noisy.scales)]
    return wire.finest(noisy), wire.finest(plain)


def _seeds(pair: tuple[pd.DataFrame, pd.DataFrame]) -> int:
    """How many seeds two bridges have in common."""
    return len(set.intersection(*(set(one.seed) for one in pair)))


def _most_seeds(pairs: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> list[tuple[pd.DataFrame, pd.DataFrame]]:
    """The pairs with as many seeds in common as any: others would leave the mean over all fewer of them."""
    return [pair for pair in pairs if _seeds(pair) == max(map(_seeds, pairs))]


def plan_size(rows: pd.DataFrame) -> Finding | None:
    """Bytes of the mean prompt over those of the smallest frame among the plan's own sizes and codecs."""
    part = rows[rows.protocol == "geometry"] if "protocol" in rows else rows[:0]
    part = part[part.codec.isin(PLANNED)] if len(part) else part
    if part.empty:
        return None
    part = part[part.run == part.run.iloc[-1]]
    ratios = part.prompt_bytes / part.frame_bytes
    least, most = part.loc[ratios.idxmax()], part.loc[ratios.idxmin()]
    said = ", ".join(
        f"{row.geometry} in {_codec(row.codec, row.scales)} {row.frame_bytes:,.0f} bytes, {row.times_prompt:,.0f}× the "
        "prompt's"
        for row in (least, most)
    )
    remark = f"A prompt has {least.prompt_bytes:,.0f} bytes ({least.prompt_source}). Smallest and largest: {said}."
    about = "bytes of the mean prompt over those of the smallest of the plan's frames"
    return counted(float(ratios.max()), bool(ratios.max() >= SMALLER), about, "×", remark, source=part)


def _frame(part: pd.DataFrame) -> str:
    """The codec and scales of rows that have one of each."""
    return _codec(part.codec.iloc[0], part.scales.iloc[0])


def _codec(codec: str, scales: str) -> str:
    return codec + (f" with {scales} scales" if scales else "")
