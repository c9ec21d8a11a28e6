"""What the figures of 4b share: which bridges and codecs are compared, values with intervals, names and looks.

A run is about the messages of one bridge. Runs that agree in `BRIDGE` are about the same one, and the newest counts.
Seeds of the bridge's training are the replicates, judged on the same test items; the intervals are those of 4a.

The reference is the plan's best configuration as 4a trained it, without noise in training: what a post-hoc analysis
of quantisation is about. All that is drawn is of its task and pair of models.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from lib.figures import Undrawable, bridge

EXPERIMENT = "4b_wire"
WORLD = ["task", "source", "target"]
BRIDGE = [*WORLD, "label_of", "tokens", "width", "noise", "train_steps", "group"]
FRAME = ["codec", "scales"]
SCALES = ("", "fp32", "fp16")  # number formats of the scales, finest first; codecs of floats have none
PARTS = ["header_bytes", "scale_bytes", "code_bytes", "anchor_bytes", "checksum_bytes"]
CODECS = ("fp32", "fp16", "bf16", "int8", "int6", "int4", "int3", "int2")
CODERS = {
    "utf8": "UTF-8",
    "deflate": "deflate",
    "deflate_dict": "deflate, dictionary",
    "zstd_dict": "zstd, dictionary",
    "packed_ids": "packed token ids",
    "lm": "coded under the LM",
}
DICTIONARIES = ("deflate_dict", "zstd_dict")
FLOOR = "entropy"
HOLDS = {
    "message": "messages in each codec",
    "text": "questions in each text coder",
    "geometry": "exact sizes of the plan's own messages",
}
ENOUGH = 95.0  # percent correct: what a frame must keep
TEXT_COLOUR, FLOOR_COLOUR = "0.25", "firebrick"


def protocol(rows: pd.DataFrame, which: str) -> pd.DataFrame:
    """Rows of one protocol; Undrawable without any."""
    part = rows[rows.protocol == which] if "protocol" in rows else rows[:0]
    if part.empty:
        raise Undrawable(
            f"The runs hold no rows of protocol {which!r} ({HOLDS[which]}), which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset standard' and draw that preset."
        )
    return part


def messages(rows: pd.DataFrame) -> pd.DataFrame:
    """Message rows of the newest run about each bridge of the reference's task and models, accuracy in percent.

    `rows` come oldest run first, as `runs.load` has them. Adds `seeds_of` (a bridge's number of seeds), `reference`
    (True for the rows of the reference bridge), `payload_bytes` (what is neither header, anchor nor checksum) and
    `coded_payload_bytes`. Undrawable without any message.
    """
    part = protocol(rows, "message")
    part = part[part.run == part.groupby(BRIDGE, dropna=False).run.transform("last")]
    overhead = part.header_bytes + part.anchor_bytes + part.checksum_bytes
    part = part.assign(
        accuracy=100 * part.accuracy.astype(float),
        seeds_of=part.groupby(BRIDGE, dropna=False).seed.transform("nunique"),
        payload_bytes=part.frame_bytes - overhead,
        coded_payload_bytes=part.coded_bytes - overhead,
    )
    first = max((own.iloc[0] for _, own in part.groupby(BRIDGE, dropna=False)), key=_rank)
    part = part[(part[WORLD] == first[WORLD]).all(axis=1)]
    return part.assign(reference=(part[BRIDGE] == first[BRIDGE]).all(axis=1))


def _rank(row: pd.Series) -> tuple[float, ...]:
    """What makes a bridge the reference: the plan's label, no noise, its own message size; then most seeds, numbers."""
    own_size = row.soft_tokens == 0 and row.wire_dim == 0
    return str(row.label_of).startswith(bridge.NAMED), row.noise == 0, own_size, row.seeds_of, row.tokens * row.width


def points(part: pd.DataFrame) -> pd.DataFrame:
    """A row per bridge, codec and scales of `messages`: where it stands, mean bytes, and accuracy with its interval.

    Columns: BRIDGE, FRAME, name, reference, bridge_parameters, frame_bytes, coded_bytes, payload_bytes,
    coded_payload_bytes, PARTS, estimate, low, high (percent), seeds, items. Finest codec first, fp32 scales first.
    """
    groups = part.groupby([*BRIDGE, *FRAME], dropna=False)
    means = groups[["frame_bytes", "coded_bytes", "payload_bytes", "coded_payload_bytes", *PARTS]].mean()
    table = groups[["reference", "bridge_parameters"]].first().join(means).reset_index()
    table = table.join(pd.DataFrame([bridge.estimate(group) for _, group in groups]))
    table = _tell_apart(table.assign(name=[name(row) for row in table.itertuples()]))
    table = table.assign(rank=table.codec.map(CODECS.index))
    order = ["reference", "tokens", "width", "noise", "train_steps", "label_of", "group", "rank", "scales"]
    ascending = [False, False, False, True, True, True, True, True, False]
    return table.sort_values(order, ascending=ascending, kind="stable", ignore_index=True).drop(columns="rank")


def finest(part: pd.DataFrame) -> pd.DataFrame:
    """Of rows of `messages` or `points`, those with the finest scales that a bridge has in a codec."""
    rank = part.scales.map(SCALES.index)
    return part[rank == rank.groupby([part[name] for name in [*BRIDGE, "codec"]], dropna=False).transform("min")]


def name(row: pd.Series | tuple) -> str:
    """16 x 6, 4-bit noise."""
    return f"{row.tokens:g} × {row.width:g}" + (f", {row.noise:g}-bit noise" if row.noise else "")


def _tell_apart(table: pd.DataFrame) -> pd.DataFrame:
    """The same points, with what differs added to the names of different bridges of one size and noise; and with the
    steps of those that were trained otherwise than the reference, whose accuracy owes to them too.
    """
    said, reference = pd.Series("", index=table.index), table[table.reference].iloc[0]
    for column, words in {"label_of": "{}", "train_steps": "{:g} steps", "group": "group {:g}"}.items():
        differs = table.groupby("name")[column].transform("nunique") > 1
        if column == "train_steps":
            differs |= table[column] != reference[column]
        said += (", " + table[column].map(words.format)).where(differs, "")
    return table.assign(name=table.name + said.map(lambda text: f" ({text.removeprefix(', ')})" if text else ""))


def texts(rows: pd.DataFrame, part: pd.DataFrame) -> pd.DataFrame:
    """A row per text coder in `CODERS`' order, of the newest run of the messages' task that has them; then the floor.

    Columns: coder, name, bytes, side_bytes, lossless, estimate, low, high (percent), seeds (0), items. The floor is
    coder `FLOOR` with bytes alone, where it is known. Empty where no run coded text.
    """
    columns = ["coder", "name", "bytes", "side_bytes", "lossless", *bridge.INTERVAL]
    same = rows[rows.run.isin(_runs_of(rows, part))]
    coded = _newest(same[same.protocol == "text"])
    found = [
        {"coder": row.coder, "name": CODERS.get(row.coder, row.coder), "bytes": float(row.bytes)}
        | {"side_bytes": float(row.side_bytes), "lossless": bool(row.lossless)}
        | bridge.estimate(pd.DataFrame([{"accuracy": 100 * row.accuracy, "n": row.n, "seed": np.nan}]))
        for row in coded.itertuples()
    ]
    floor = _newest(same[(same.protocol == "floor") & same.get("entropy_bytes", pd.Series(np.nan, same.index)).notna()])
    if len(floor):
        found.append({"coder": FLOOR, "name": "entropy", "bytes": float(floor.entropy_bytes.iloc[-1])})
    order = [*CODERS, *sorted({row["coder"] for row in found} - set(CODERS) - {FLOOR}), FLOOR]
    return pd.DataFrame(sorted(found, key=lambda row: order.index(row["coder"])), columns=columns)


def _runs_of(rows: pd.DataFrame, part: pd.DataFrame) -> set[str]:
    """Runs about any bridge of the messages' task and models."""
    every = rows[rows.protocol == "message"]
    return set(every[(every[WORLD] == part[WORLD].iloc[0]).all(axis=1)].run)


def _newest(part: pd.DataFrame) -> pd.DataFrame:
    """The rows of the last run."""
    return part[part.run == part.run.iloc[-1]] if len(part) else part


def smallest(table: pd.DataFrame, size: str = "frame_bytes") -> pd.Series | None:
    """The point of fewest bytes whose mean accuracy is at least ENOUGH; of as many, the most accurate."""
    kept = table[table.estimate >= ENOUGH].sort_values([size, "estimate"], ascending=[True, False], kind="stable")
    return kept.iloc[0] if len(kept) else None


def bytes_axis(ax: Axes, label: str) -> None:
    """A log axis of bytes with plain numbers."""
    ax.set(xscale="log", xlabel=label)
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())


def text_names(ax: Axes, table: pd.DataFrame, gap: float = 0.03) -> None:
    """Names and bytes of text coders and of the floor over the panel, at their bytes (log x); see `texts`.

    Call it last: it reads the limits. Names closer than `gap` (a share of the axis) are pushed apart, and leaders join
    them to their places.
    """
    table = table.sort_values("bytes", kind="stable")
    low, high = np.log10(ax.get_xlim())
    wanted = (np.log10(table.bytes.to_numpy()) - low) / (high - low)
    for row, at, true in zip(table.itertuples(), apart(wanted, gap), wanted, strict=True):
        colour = FLOOR_COLOUR if row.coder == FLOOR else TEXT_COLOUR
        text = f"{row.name}, {row.bytes:.3g} B"
        ax.text(at, 1.05, text, rotation=40, rotation_mode="anchor", fontsize=6, color=colour, transform=ax.transAxes)
        ax.plot(
            [true, at], [1.0, 1.04], color=colour, lw=0.5, label="_leader", transform=ax.transAxes, clip_on=False
        )  # fmt: skip


def apart(wanted: Sequence[float], gap: float) -> np.ndarray:
    """Places no closer than `gap`, in the same order and as near to the ascending ones wanted as least squares has it.

    Monotone regression of wanted[i] - i * gap, by pooling adjacent violators.
    """
    blocks: list[list[float]] = []
    for value in np.asarray(wanted, float) - gap * np.arange(len(wanted)):
        blocks.append([value])
        while len(blocks) > 1 and np.mean(blocks[-2]) > np.mean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    level = [np.mean(block) for block in blocks for _ in block]
    return np.array(level) + gap * np.arange(len(wanted))


def steps_sentence(table: pd.DataFrame) -> str:
    """How long which bridges were trained, where that differs; else nothing."""
    steps = {count: list(dict.fromkeys(same.name)) for count, same in table.groupby("train_steps")}
    if len(steps) < 2:
        return ""
    most = max(steps, key=lambda count: len(steps[count]))
    said = [f"{count:g} steps: {'all others' if count == most else '; '.join(steps[count])}" for count in steps]
    said.sort(key=lambda text: text.endswith("all others"))
    return f"Bridges were not trained equally long, which accuracy owes to as well. {'. '.join(said)}. "


def pair_sentence(table: pd.DataFrame) -> str:
    """Source, target and task of what is drawn."""
    task, source, target = table[WORLD].iloc[0]
    return f"Source -> target: {source} -> {target} ({task}). "
