"""What the rows of a run of 4a say, as tables to read."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.io.formats.style import Styler

from lib.bridge.arms import CONTROLS, TEXT_ARMS
from lib.bridge.pair import Pair
from lib.bridge.tasks import TASKS
from lib.bridge.worker import Job, untrained
from lib.metrics import proportions
from lib.params.bridge import Bridge

ORDER = [*TEXT_ARMS[:2], "prefix_text", *TEXT_ARMS[2:], "constant", "bridged", *CONTROLS, "leaked"]
DIGITS = 3


def example(params: Bridge, pair: Pair) -> Styler:
    """One test item of the task: what it says, how the two models cut it into tokens, and the bridge between them."""
    item = TASKS[params.task].load("test", 1, params.data)[0]
    made = untrained(pair, Job.of(params))
    lm = {"source": pair.source, "target": pair.target}
    cut = {f"{name}'s tokens": " | ".join(m.tokenizer.tokenize(item.question)[:24]) for name, m in lm.items()}
    sizes = {f"{name}": f"{m.parameters:,} parameters, width {m.model.config.hidden_size}" for name, m in lm.items()}
    sent = f"{params.soft_tokens} x {params.wire_dim} numbers, made by {made.parameters_count:,} trained parameters"
    facts = {"question": item.question, "answer": item.answer} | cut | sizes | {"message": sent}
    return pd.DataFrame({"": facts}).style.set_properties(**{"text-align": "left", "white-space": "pre-wrap"})


def arms(table: pd.DataFrame) -> pd.DataFrame:
    """Every arm, under the weights that the configuration keeps: accuracy in both decodings (means over seeds), the
    spread over seeds, and the 95 % Wilson interval of the configuration's own decoding (over test items)."""
    part = table[(table.protocol == "arm") & table.checkpoint.isin(["", _kept(table)])]
    by = part.groupby(["arm", "decode_hygiene"]).accuracy.mean().unstack()
    own = part[part.decode_hygiene == part.hygiene].groupby("arm")
    means = own[["flexible", "f1", "ce", "invalid", "distinct", "context_tokens"]].mean()
    n, accuracy = own.n.first(), own.accuracy.mean()
    bounds = [proportions.wilson(round(accuracy[arm] * n[arm]), int(n[arm])) for arm in means.index]
    found = by.rename(columns={False: "plain", True: "with hygiene"}).assign(seeds=own.seed.nunique())
    found = found.assign(low=dict(zip(means.index, [low for low, _ in bounds], strict=True)))
    found = found.assign(high=dict(zip(means.index, [high for _, high in bounds], strict=True)))
    found = found.assign(spread=own.accuracy.std()).join(means)
    return found.reindex([arm for arm in ORDER if arm in found.index]).dropna(axis=1, how="all").round(DIGITS)


def against_text(table: pd.DataFrame) -> pd.DataFrame:
    """The bridge minus each text arm on the same items, with McNemar's exact p per seed."""
    part = table[_own(table)]
    own = part[part.arm == "bridged"]
    rows = []
    for arm in ("target_alone", "prefix_text", "truncated", "source_alone", "relay", "constant"):
        for text in part[part.arm == arm].correct[:1]:
            gap = proportions.paired_difference(list(own.correct), text)
            pvalues = [proportions.mcnemar(correct, text) for correct in own.correct]
            rows.append({"bridged minus": arm, **gap._asdict(), "McNemar p, largest of seeds": max(pvalues)})
    return pd.DataFrame(rows).set_index("bridged minus").round(DIGITS)


def stability(table: pd.DataFrame) -> pd.DataFrame:
    """Peak, end and collapse with and without early stopping and hygiene, means over seeds."""
    part = table[table.protocol == "stability"]
    by = part.groupby(["early_stopping", "decode_hygiene"])
    means = by[["peak", "final", "degradation", "test_accuracy"]].mean().round(DIGITS)
    return means.join(by.collapsed.sum().astype(int)).join(by.seed.nunique().rename("seeds"))


def shifts(table: pd.DataFrame) -> pd.DataFrame:
    """Accuracy on items of other kinds than were trained on, beside the target that reads the text."""
    part = table[(table.protocol == "shift") & (table.decode_hygiene == table.hygiene)]
    if part.empty:
        return pd.DataFrame()
    return part.pivot_table(index="split", columns="arm", values="accuracy", sort=False).round(DIGITS)


def costs(table: pd.DataFrame) -> pd.DataFrame:
    """What a question costs as text and as a message, means over seeds."""
    part = table[table.protocol == "cost"]
    text = part[["text_tokens", "kv_bytes_text", "text_bytes"]].mean().tolist()
    soft = part[["soft_tokens", "kv_bytes_bridged", "message_bytes_fp16"]].astype(float).mean().tolist()
    names = ["target's tokens", "KV cache, bytes (with BOS and anchor)", "bytes to send (UTF-8; float16)"]
    found = pd.DataFrame({"text": text, "message": soft}, index=names)
    return found.assign(ratio=found.text / found.message).round(2)


def reading(table: pd.DataFrame) -> str:
    """What came out, in two sentences."""
    mean = table[_own(table)].groupby("arm").accuracy.mean()
    worst = max(CONTROLS, key=lambda arm: mean[arm])
    stable = table[table.protocol == "stability"]
    stable = stable[~(stable.early_stopping | stable.decode_hygiene).astype(bool)]
    return (
        f"From the message alone the target solves {mean.bridged:.1%} (from the text {mean.target_alone:.1%}, from a "
        f"destroyed message {mean[worst]:.1%} at most, {worst}; from a tuned prompt alone {mean.constant:.1%})."
        f"\nBy the end of training {int(stable.collapsed.sum())} of {len(stable)} bridges had collapsed."
    )


def summary(table: pd.DataFrame) -> dict[str, Any]:
    """What metrics.json keeps of the run."""
    kept = ["seed", "early_stopping", "decode_hygiene", "peak", "final", "test_accuracy", "collapsed", "why"]
    part = table[table.protocol == "stability"]
    return {
        "arms": table[_own(table)].groupby("arm").accuracy.mean().to_dict(),
        "stability": part[kept].to_dict("records"),
    }


def _own(table: pd.DataFrame) -> pd.Series:
    """Which rows are of an arm as the configuration keeps and decodes it."""
    kept = table.checkpoint.isin(["", _kept(table)]) & (table.decode_hygiene == table.hygiene)
    return (table.protocol == "arm") & kept


def _kept(table: pd.DataFrame) -> str:
    return "best" if table.patience.iloc[0] else "final"
