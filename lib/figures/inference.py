"""What the figures and tables of 4c share: which rows, the two accountings, links, names.

A batch of questions is the replicate; its repeated passes are reduced to their median first. Arms are compared within a
batch. Two accountings of a message: the source has to read the question for its sake, or has read it anyway. A link
is not waited for when passes are timed: it takes the bytes that were sent, over its bandwidth.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.figures import Undrawable
from lib.metrics import stats

EXPERIMENT = "4c_inference"
TEXT = "text"
SOURCE = {"source_tokenize_s": "source: tokenize", "source_prefill_s": "source: read"}
SENDING = {"sender_s": "bridge: send", "encode_s": "encode"}
LINK = {"link_s": "link"}
RECEIVING = {"unpack_s": "decode the message", "receiver_s": "bridge: receive"}
READING = {"target_tokenize_s": "target: tokenize", "target_prefill_s": "target: read"}
WRITING = {"decode_s": "target: write"}
STAGES = SOURCE | SENDING | LINK | RECEIVING | READING | WRITING
RAN, RUNS = "source has read the question", "source must read the question"
ACCOUNTINGS = {RAN: False, RUNS: True}
HOLDS = {
    "latency": "timed stages",
    "memory": "bytes held",
    "breakeven": "FLOPs of reading a question",
    "quality": "answers judged",
    "serving": "what vLLM serves",
}
CELL = ["arm", "batch_size", "batch"]


def protocol(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one protocol, of the newest run that has some; Undrawable without any."""
    part = rows[rows.protocol == name]
    if part.empty:
        raise Undrawable(
            f"The runs hold no rows of protocol {name!r} ({HOLDS[name]}), which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset quick' and draw that preset."
        )
    return part[part.run == part.run.iloc[-1]]


def latency(rows: pd.DataFrame, bandwidth: float = 0.0) -> pd.DataFrame:
    """One row per arm, batch size and batch: seconds of each stage, medians over repeats, with a link of `bandwidth`
    Mbit/s (0: none)."""
    part = _ordered(protocol(rows, "latency")).astype({"batch": int})
    bits = 8 * part.sent_bytes * part.batch_size
    part = part.assign(link_s=bits / (1e6 * bandwidth) if bandwidth else 0.0)
    columns = [*STAGES, "sent_bytes", "context_tokens", "tokens"]
    return part.groupby(CELL, sort=False)[columns].median().reset_index()


def _ordered(part: pd.DataFrame) -> pd.DataFrame:
    """Rows by batch size, and by arm within it."""
    place = {arm: i for i, arm in enumerate(arms(part))}
    return (
        part.astype({"batch_size": int})
        .assign(place=part.arm.map(place))
        .sort_values(["batch_size", "place"], kind="stable")
    )


def seconds(batches: pd.DataFrame, source_runs: bool, stages: dict[str, str] = STAGES) -> pd.Series:
    """Seconds of each batch, with or without what the source does before it sends."""
    return batches[[stage for stage in stages if source_runs or stage not in SOURCE]].sum(axis=1)


def summarise(batches: pd.DataFrame, value: pd.Series | np.ndarray) -> pd.DataFrame:
    """Columns arm, batch_size, estimate (median of `value` over batches), low, high (95 % bootstrap; none where there
    are too few), q25, q75 and n."""
    groups = batches.assign(value=value).groupby(["arm", "batch_size"], sort=False).value
    found = [{"arm": arm, "batch_size": size} | _interval(values.to_numpy(float)) for (arm, size), values in groups]
    return pd.DataFrame(found)


def _interval(values: np.ndarray) -> dict[str, float]:
    found = stats.bootstrap(values)
    few = len(values) < stats.ENOUGH
    low, high = (np.nan, np.nan) if few else (found.low, found.high)
    q25, q75 = np.quantile(values, [0.25, 0.75])
    return {"estimate": found.estimate, "low": low, "high": high, "q25": q25, "q75": q75, "n": len(values)}


def times(rows: pd.DataFrame, bandwidth: float = 0.0) -> pd.DataFrame:
    """Seconds per batch in both accountings (column `accounting`), by arm and batch size."""
    batches = latency(rows, bandwidth)
    parts = [
        summarise(batches, seconds(batches, runs)).assign(accounting=accounting, bandwidth=bandwidth)
        for accounting, runs in ACCOUNTINGS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def throughput(rows: pd.DataFrame) -> pd.DataFrame:
    """Questions answered per second in both accountings, by arm and batch size, without a link."""
    batches = latency(rows)
    parts = [
        summarise(batches, batches.batch_size / seconds(batches, runs)).assign(accounting=accounting)
        for accounting, runs in ACCOUNTINGS.items()
    ]
    return pd.concat(parts, ignore_index=True)


def speedups(rows: pd.DataFrame, bandwidth: float = 0.0) -> pd.DataFrame:
    """Seconds of the text over those of each message on the same questions, in both accountings, by batch size."""
    parts = []
    for accounting, runs in ACCOUNTINGS.items():
        text, messages = compared(latency(rows, bandwidth))
        ratio = seconds(text, runs).to_numpy() / seconds(messages, runs).to_numpy()
        parts.append(summarise(messages, ratio).assign(accounting=accounting, bandwidth=bandwidth))
    return pd.concat(parts, ignore_index=True)


def compared(batches: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Batches of messages, and for each of them the same batch as text."""
    messages = batches[batches.arm != TEXT].reset_index(drop=True)
    text = batches[batches.arm == TEXT].set_index(CELL[1:]).loc[pd.MultiIndex.from_frame(messages[CELL[1:]])]
    return text.reset_index(), messages


def breakeven(rows: pd.DataFrame) -> pd.DataFrame:
    """What a source may cost, by measured seconds, for each message and batch size.

    `measure` "affordable": the time that a message saves but for the source's, and "ratio": the time of the source,
    both over the time in which the target reads the same questions as text. Writing the answer and links are left out.
    """
    text, messages = compared(latency(rows))
    target = text[[*READING]].sum(axis=1)
    rest = messages[[*SENDING, *RECEIVING, *READING]].sum(axis=1)
    values = {"affordable": (target - rest) / target, "ratio": messages[[*SOURCE]].sum(axis=1) / target}
    found = [summarise(messages, value).assign(measure=measure) for measure, value in values.items()]
    return pd.concat(found, ignore_index=True)


def memory(rows: pd.DataFrame) -> pd.DataFrame:
    """Bytes per question by arm and batch size (means over the batches measured), with shares that a message saves.

    `saved_*`: percent of the text's bytes, of the cache at its end and of the peak beside the weights; `_with_source`:
    with what the source holds counted as well.
    """
    part = _ordered(protocol(rows, "memory"))
    held = [name for name in part if name.endswith("_bytes") and name not in ("sent_bytes", "weight_bytes")]
    per_question = part.assign(**{name: part[name].astype(float) / part.batch_size for name in held})
    found = per_question.groupby(["arm", "batch_size"], sort=False)[[*held, "weight_bytes"]].mean().reset_index()
    text = found[found.arm == TEXT].set_index("batch_size").loc[found.batch_size].reset_index()

    def saved(own: pd.Series, of: pd.Series) -> pd.Series:
        return 100 * (1 - own / of)

    return found.assign(
        saved_kv=saved(found.kv_bytes, text.kv_bytes),
        saved_kv_with_source=saved(found.kv_bytes + found.source_kv_bytes, text.kv_bytes),
        saved_peak=saved(found.peak_bytes, text.peak_bytes),
        saved_peak_with_source=saved(found.peak_bytes + found.source_peak_bytes, text.peak_bytes),
    )


def masked(part: pd.DataFrame) -> tuple[int, int]:
    """Of the text's batches of several questions in latency rows, how many were padded and so had a mask; and all."""
    several = part[(part.arm == TEXT) & (part.batch_size > 1)].drop_duplicates(CELL)
    return int((several.padded_tokens > several.context_tokens).sum()), len(several)


def masks_sentence(part: pd.DataFrame) -> str:
    """What a caption or remark says of padding masks in latency rows; nothing where all questions are alone."""
    padded, count = masked(part)
    if not count:
        return ""
    return (
        f"{padded} of the text's {count} batches of several questions ({padded / count:.0%}) had a padding mask, which "
        "costs time; messages, all equally long, never need one. "
    )


def arms(part: pd.DataFrame) -> list[str]:
    """The text, then messages from the longest to the shortest."""
    tokens = part.groupby("arm", sort=False).tokens.first()
    return sorted(tokens.index, key=lambda arm: (arm != TEXT, -np.nan_to_num(tokens[arm])))


def names(part: pd.DataFrame) -> dict[str, str]:
    """What to call each arm: by its soft tokens, and by its bridge too where that is not enough."""
    tokens = part.groupby("arm", sort=False).tokens.first()
    called = {arm: TEXT if arm == TEXT else f"message, {tokens[arm]:g} tokens" for arm in arms(part)}
    double = {name for name in called.values() if list(called.values()).count(name) > 1}
    return {arm: f"{name} ({arm})" if name in double else name for arm, name in called.items()}


def setting(part: pd.DataFrame) -> str:
    """What a caption says of the machine, the answers and the questions."""
    devices = ", ".join(sorted(set(part.device)))
    return (
        f"{part.samples.iloc[0]} questions, answers of {part.new_tokens.iloc[0]:g} tokens in every arm, "
        f"{part.repeats.iloc[0]} timed pass{'es' if part.repeats.iloc[0] > 1 else ''}; {devices}. "
    )
