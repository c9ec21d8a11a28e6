"""What the rows of a run of 4c say, as tables to read.

A run has timed stages in torch or what vLLM served; a table of what it has not is empty.
"""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from lib.bridge.inference import Study
from lib.bridge.pair import contexts, prompts
from lib.figures import inference as drawn
from lib.figures.inference import RAN, RUNS, STAGES
from lib.figures.inference_throughput import served

DIGITS = 3


def setting(study: Study) -> Styler:
    """The two models, a question as they read it, and the messages that may take its place."""
    pair, task = study.setting.pair, study.setting.task
    questions = [item.question for item in study.items]
    source = sum(map(len, contexts(pair.source, task, questions))) / len(questions)
    target = sum(map(len, prompts(pair.target, task, questions))) / len(questions)
    about = {
        "first question": questions[0],
        "source": f"{pair.source.name}, {pair.source.parameters:,} parameters, read up to layer {pair.layer}",
        "target": f"{pair.target.name}, {pair.target.parameters:,} parameters",
        "tokens of a question, source and target": f"{source:.1f}, {target:.1f}",
    }
    for arm in study.arms[1:]:
        shape = arm.bridge.shape
        about[arm.name] = f"{shape.soft_tokens} x {shape.wire_dim} numbers, {study.setting.codec}"
    return pd.DataFrame({"": about}).style.set_properties(**{"text-align": "left", "white-space": "pre-wrap"})


def quality(table: pd.DataFrame) -> pd.DataFrame:
    """How many of the same forced answers are right."""
    part = table[table.protocol == "quality"]
    return part.set_index("arm")[["n", "accuracy"]].round(DIGITS) if len(part) else pd.DataFrame()


def stages(table: pd.DataFrame) -> pd.DataFrame:
    """Median milliseconds per batch of each stage, the time per written token, and totals for every link; then the
    share of batches whose padding needed a mask."""
    if not _timed(table):
        return pd.DataFrame()
    batches = drawn.latency(table)
    found = 1e3 * batches.groupby(["batch_size", "arm"], sort=False)[[s for s in STAGES if s != "link_s"]].median()
    found = found.rename(columns=STAGES)
    found["per written token"] = found[STAGES["decode_s"]] / (table.new_tokens.iloc[0] - 1)
    for bandwidth in table.bandwidths.iloc[0]:
        totals = drawn.times(table, bandwidth)
        for accounting, name in ((RAN, "all"), (RUNS, "all and the source")):
            link = f", {bandwidth:g} Mbit/s" if bandwidth else ""
            part = totals[totals.accounting == accounting].set_index(["batch_size", "arm"])
            found[name + link] = 1e3 * part.estimate
    timed = table[table.protocol == "latency"].astype({"masked": float})
    found["batches with a mask, %"] = 100 * timed.groupby(["batch_size", "arm"]).masked.mean()
    return found.T.round(2)


def speedups(table: pd.DataFrame) -> pd.DataFrame:
    """Time of the text over time of the message on the same questions: above 1 the message is faster."""
    if not _timed(table):
        return pd.DataFrame()
    found = pd.concat([drawn.speedups(table, bandwidth) for bandwidth in table.bandwidths.iloc[0]])
    columns = ["accounting", "bandwidth", "batch_size", "arm"]
    return found.set_index(columns)[["estimate", "low", "high", "n"]].sort_index(sort_remaining=False).round(DIGITS)


def memory(table: pd.DataFrame) -> pd.DataFrame:
    """Bytes per question, and percent of the text's that a message saves."""
    if not (table.protocol == "memory").any():
        return pd.DataFrame()
    return drawn.memory(table).set_index(["batch_size", "arm"]).T.round(1)


def breakeven(table: pd.DataFrame) -> pd.DataFrame:
    """What the source may cost and costs, in readings of the text by the target: by FLOPs and by the clock."""
    if not _timed(table):
        return pd.DataFrame()
    part = table[(table.protocol == "breakeven") & (table.measured == True)]  # noqa: E712  other rows hold NaN
    flops = part[["pair", "arm", "text_tokens", "affordable", "ratio"]].assign(by="FLOPs")
    clock = drawn.breakeven(table)
    clock = clock.pivot(index=["arm", "batch_size"], columns="measure", values="estimate").reset_index()
    clock = clock.assign(by=[f"seconds, batch of {size}" for size in clock.batch_size], pair="here")
    both = pd.concat([flops, clock.drop(columns="batch_size")])
    both["saves"] = both.affordable > both.ratio
    both["saves if the source has read it"] = both.affordable > 0
    return both.set_index(["pair", "arm", "by"]).drop(columns="text_tokens").round(DIGITS)


def throughput(table: pd.DataFrame) -> pd.DataFrame:
    """Questions per second, by batch size and arm."""
    found = drawn.throughput(table) if _timed(table) else served(table)
    return found.pivot(index="arm", columns=["accounting", "batch_size"], values="estimate").sort_index(axis=1).round(1)


def reading(table: pd.DataFrame) -> str:
    """What came out, in a few sentences."""
    if not _timed(table):
        rate = served(table).set_index(["arm", "batch_size"]).estimate
        size = rate.index.get_level_values("batch_size").max()
        said = [f"{arm} {rate[arm, size]:.1f}" for arm in dict.fromkeys(rate.index.get_level_values("arm"))]
        return f"Questions per second served by vLLM at batch size {size}: {', '.join(said)}."
    ratio, saved = drawn.speedups(table), drawn.memory(table)
    said = []
    for (arm, size), part in ratio.groupby(["arm", "batch_size"], sort=False):
        read, must = (_interval(part[part.accounting == accounting].iloc[0]) for accounting in (RAN, RUNS))
        held = saved[(saved.arm == arm) & (saved.batch_size == size)].iloc[0]
        said.append(
            f"{arm}, batches of {size}: {read} times as fast as the text where the source has read the question, "
            f"{must} where it must; {round(held.saved_kv)} % of the target's cache saved, "
            f"{round(held.saved_kv_with_source)} % with the source's own counted."
        )
    return "\n".join(said)


def _interval(row: pd.Series) -> str:
    few = f"n = {row.n}" if pd.isna(row.low) else f"{row.low:.2f} to {row.high:.2f}, n = {row.n}"
    return f"{row.estimate:.2f} ({few})"


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json keeps of the run."""
    if not _timed(table):
        return {"served": served(table)[["arm", "batch_size", "estimate"]].to_dict("records")}
    return {
        "speedups": drawn.speedups(table)[["arm", "batch_size", "accounting", "estimate"]].to_dict("records"),
        "memory": drawn.memory(table)[["arm", "batch_size", "saved_kv", "saved_kv_with_source"]].to_dict("records"),
        "accuracy": quality(table).accuracy.to_dict(),
    }


def _timed(table: pd.DataFrame) -> bool:
    return bool((table.protocol == "latency").any())
