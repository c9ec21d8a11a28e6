"""What the rows of a run of 4b say, as tables to read."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from lib.bridge import evaluation
from lib.bridge.chosen import Chosen
from lib.bridge.pair import Pair, encode
from lib.figures.wire import PARTS as COLUMNS
from lib.figures.wire_payback import BYTES_PER_PARAMETER
from lib.metrics import breakeven, proportions
from lib.models import wire
from lib.params.wire import Wire

DIGITS = 3
PARTS = ["header", "scales", "codes", "anchor", "checksum"]  # of a frame, in the order of its bytes


def example(subject: Chosen, pair: Pair, params: Wire) -> Styler:
    """One test question, its message in four bits per number, and the frame in the order of its bytes."""
    encoded = encode(pair, subject.task(), subject.items("test", 1))
    bridge = subject.bridge(pair)
    message = evaluation.sent(bridge, encoded)[0].cpu().numpy()
    frame = wire.encode(message, "int4", group=params.group, scales=params.scales[-1], bridge=bridge.fingerprint)
    sizes = wire.sizes(*message.shape, "int4", group=params.group, scales=params.scales[-1])
    shown, begin = {}, 0
    for part, size in zip(PARTS, (getattr(sizes, part) for part in PARTS), strict=True):
        shown[f"{part}, {size} B"] = frame[begin : begin + size].hex(" ")
        begin += size
    asked = encoded.items[0].question
    about = {f"question, {len(asked.encode())} B": asked, "message": f"{message.shape[0]} x {message.shape[1]} numbers"}
    made = pd.DataFrame({"": about | shown | {f"frame, {len(frame)} B": ""}})
    return made.style.set_properties(**{"text-align": "left", "white-space": "pre-wrap", "font-family": "monospace"})


def codecs(table: pd.DataFrame) -> pd.DataFrame:
    """Per codec and format of the scales: bytes and their parts, how many times shorter than UTF-8 (below 1: longer),
    after how many messages the bridge's weights in float32 have paid for themselves against UTF-8, accuracy, and the
    drop against fp32 on the same items with its 95 % interval."""
    part = table[table.protocol == "message"]
    utf8 = _utf8(table)
    whole = part[part.codec == "fp32"] if (part.codec == "fp32").any() else part[part.codec == part.codec.iloc[0]]
    rows = []
    for (codec, scales), found in part.groupby(["codec", "scales"], sort=False):
        drop = proportions.paired_difference(list(whole.correct), list(found.correct))
        means = found[[*COLUMNS, "frame_bytes", "coded_bytes", "sqnr_db", "accuracy"]].astype(float).mean()
        side = BYTES_PER_PARAMETER * found.bridge_parameters.iloc[0]
        repaid = breakeven.messages(side, means.frame_bytes, utf8)
        ratio = {"text / frame": utf8 / means.frame_bytes, "repaid_after": repaid} if utf8 else {}
        lost = {"drop": drop.estimate, "drop, low": drop.low, "drop, high": drop.high}
        rows.append({"codec": codec, "scales": scales, **means, **ratio, **lost})
    return pd.DataFrame(rows).set_index(["codec", "scales"]).round(DIGITS)


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """Per text coder: bytes of a question, whether every question came back, what both sides must hold, and after how
    many messages that has paid for itself against plain UTF-8; last the entropy, which no code can undercut."""
    part = table[table.protocol == "text"]
    if part.empty:
        return pd.DataFrame()
    part = part.set_index("coder")
    found = part[["bytes", "lossless", "side_bytes"]].assign(
        repaid_after=[
            breakeven.messages(side, size, part.bytes["utf8"])
            for side, size in zip(part.side_bytes, part.bytes, strict=True)
        ]
    )
    floor = table[table.protocol == "floor"].entropy_bytes
    return pd.concat([found, pd.DataFrame({"bytes": floor.to_list()}, index=["entropy"] * len(floor))]).round(DIGITS)


def room(table: pd.DataFrame, group: int) -> pd.DataFrame:
    """How many numbers a message may have until its frame is longer than the mean text, by codec and text coder.

    What stands around scales and codes is as long as it is here.
    """
    texts = table[table.protocol == "text"]
    coders = texts.set_index("coder").bytes if len(texts) else {}
    part = table[table.protocol == "message"].drop_duplicates(["codec", "scales"])
    rows = {}
    for row in part.itertuples():
        around = int(row.header_bytes + row.anchor_bytes + row.checksum_bytes)
        bits = wire.BITS.get(row.codec) or 8 * wire.FLOATS[row.codec]
        grouped = (group, wire.SCALES[row.scales]) if row.scales else ()
        fit = {coder: breakeven.values(int(size), bits, around, *grouped) for coder, size in coders.items()}
        rows[row.codec, row.scales] = fit
    return pd.DataFrame(rows).T


def geometry(table: pd.DataFrame) -> pd.DataFrame:
    """The plan's own messages, and the caches of a prompt: exact bytes, in brackets how many times those of a prompt
    of GSM8K."""
    part = table[table.protocol == "geometry"]
    said = [f"{row.frame_bytes:,.0f} ({row.times_prompt:,.0f}×)" for row in part.itertuples()]
    named = [f"{row.codec} {row.scales}".strip() for row in part.itertuples()]
    return (
        part.assign(said=said, sent_as=named)
        .pivot(index="sent_as", columns="geometry", values="said")
        .loc[list(dict.fromkeys(named)), list(dict.fromkeys(part.geometry))]
        .fillna("")
    )


def reading(table: pd.DataFrame) -> str:
    """What came out, in two sentences."""
    part = table[table.protocol == "message"]
    by = part.groupby(["codec", "scales"])[["accuracy", "frame_bytes"]].mean()
    best = by.accuracy.max()
    small = by[by.accuracy >= 0.95 * best].frame_bytes.idxmin()
    kept = by.loc[small]
    said = (
        f"The shortest frame that keeps 95 % of the best accuracy ({best:.1%}) is {small[0]}"
        f"{f' with {small[1]} scales' if small[1] else ''}: {kept.frame_bytes:.0f} bytes, {kept.accuracy:.1%}."
    )
    coded = table[table.protocol == "text"]
    if coded.empty:
        return said
    coder = coded.loc[coded.bytes.idxmin()]
    return f"{said}\nAs text the question takes {_utf8(table):.0f} bytes, and {coder.bytes:.1f} by {coder.coder}."


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json keeps of the run."""
    part = table[table.protocol == "message"]
    means = part.groupby(["codec", "scales"])[["frame_bytes", "coded_bytes", "accuracy"]].mean()
    coded = table[table.protocol == "text"]
    return {
        "messages": means.reset_index().to_dict("records"),
        "texts": coded.set_index("coder").bytes.to_dict() if len(coded) else {},
    }


def _utf8(table: pd.DataFrame) -> float:
    """Mean UTF-8 bytes of a question; 0 where texts were not coded."""
    part = table[table.protocol == "text"]
    return float(part[part.coder == "utf8"].bytes.sum()) if len(part) else 0.0
