"""The ledger as it is read: a table for notebooks, text for the terminal, Markdown for docs/results.md and the README.

All of them are made of the rows of `frame`, one per claim, so they cannot disagree.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lib.claims import VERDICTS, Finding, Verdict, power
from lib.params import EXPERIMENTS

SIGNED = ("%", "points", "points per doubling", "nats per token", "s per doubling")  # units of what has a sign
BEGIN, END = "<!-- claims -->", "<!-- /claims -->"  # the README's table stands between them
MAIN = {  # what the plans turn on, in few words: the README's table
    "1a3/growth-as-published": "EAB as published saves more on larger models",
    "1a3/growth-batched": "EAB with batched paths saves more on larger models",
    "1a3/range-Qwen2.5-7B": "speedup of EAB as published on Qwen2.5-7B",
    "2a/ngram-ladder_3m": "n-gram drafts speed up the 3M model",
    "2a/eagle-ladder_3m": "EAGLE drafts speed up the 3M model",
    "2a/unchanged-ladder_3m": "drafting leaves the 3M model's greedy output as it is",
    "2a/ngram-qwen2_7b": "n-gram drafts speed up Qwen2-7B",
    "3a/q1-advantage": "PoH-HRM beats the plain transformer at every size",
    "3a/q1-equal-parameters": "PoH-HRM beats one of as many parameters",
    "3a/q1-routing": "PoH-HRM beats its own recurrence without routing",
    "3a/q2-scale": "PoH-HRM's advantage grows with size",
    "3a/h3-large-by-name": "PoH-HRM keeps its advantage at 30M to 100M",
    "4a/enrichment": "a message beats the text it was made of",
    "4a/enrichment-tuned-prompt": "a message beats the text after a tuned prompt",
    "4a/baseline-collapses": "without fixes the bridge collapses",
    "4a/fixes-keep-more": "all fixes together keep more accuracy than none",
    "4a/fewest-tokens-most-stable": "the fewest soft tokens are the most stable",
    "4a/tokens-slope": "more soft tokens solve more, all else equal",
    "4a/generalises": "beyond maths, a message beats the text",
    "4a/plan-enrichment": "a message beats the text from Mistral-7B to Llama-3.1-8B",
    "4a/plan-kv-bytes": "a token of Llama-3.1-8B's context takes 0.5 MB",
    "4b/compression-utf8": "a quantised message is smaller than its text, and as good",
    "4b/int4-keeps": "a message in 4 bits is as good as in 32",
    "4b/plan-size": "the plan's own messages are smaller than their prompts",
    "4c/latency": "a message is answered sooner than its text",
    "4c/throughput": "messages are answered at a higher rate than texts",
    "4c/memory": "a message takes less cache than its text",
    "4c/memory-with-source": "it does so with the source's cache counted",
}
FULL = ("id", "claim", "expected", "measured", "n", "verdict", "figure")
NOTES = """Written by `python -m lib.claims --markdown` from finished runs; nothing here is typed.

- **Verdict**: *supported* or *not supported* where the evidence for or against the claim passes 5 %, after Holm's
  adjustment over all claims of its plan that could be tested; *inconclusive* where neither does; *not run at this
  scale* where no run bears on it. *(exact)* marks what was counted or calculated and leaves nothing to test.
- **measured**: the estimate and its 95 % interval, which is not adjusted, over **n** replicates.
- Below each table: what exactly was measured, **p** of the evidence for and against the claim, both adjusted, the
  **power** (the chance of supporting the claim if what it expects is true, or, where it names no size, what counts as
  something), the **detectable** difference (found in 4 of 5 cases), and the runs.
- **figure**: `python -m lib.figures NAME` draws it."""

Row = Any  # a row of `frame`, as itertuples gives it


def frame(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """One row per claim, in the columns of `_row`.

    All are text but p and power, which are NaN where nothing was tested, and runs, a tuple of folder names.
    """
    return pd.DataFrame([_row(verdict) for verdict in verdicts])


def _row(verdict: Verdict) -> dict[str, object]:
    claim, found = verdict.claim, verdict.finding
    about = {"id": claim.id, "claim": claim.text, "expected": claim.expected}
    empty = {"measured": "", "interval": "", "n": "", "verdict": verdict.verdict, "p": np.nan, "detectable": ""}
    empty |= {"power": np.nan, "runs": (), "figure": claim.figure, "remark": f"Not run: needs {claim.needs}."}
    if found is None:
        return about | empty
    said = f"Measured: {found.statistic}. {found.remark}".rstrip()
    own = empty | {"measured": quantity(found), "runs": found.runs, "remark": said}
    if found.exact:
        return about | own | {"n": "exact"}
    tested = {
        "interval": _interval(found),
        "n": power.several(found.n, found.replicate),
        "p": found.p_refutes if verdict.verdict == "not supported" else found.p_supports,
        "power": power.power(found, verdict.family, claim.effect),
    }
    if verdict.verdict != "supported":
        tested["detectable"] = _detectable(found, verdict.family)
    return about | own | tested


def _detectable(found: Finding, family: int) -> str:
    least = power.detectable(found, family)
    return power.difference(found, least) if np.isfinite(least) else "none"


def quantity(found: Finding) -> str:
    """The estimate with its unit."""
    unit = found.unit if found.unit.startswith(("%", "×")) else f" {found.unit}"
    return f"{_number(found.estimate, found.unit)}{unit.replace('%', ' %')}"


def _interval(found: Finding) -> str:
    if not np.isfinite([found.low, found.high]).all():
        return "none"
    return f"{_number(found.low, found.unit)} to {_number(found.high, found.unit)}"


def _number(value: float, unit: str) -> str:
    sign = "+" if unit in SIGNED else ""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.3g}"


def counts(verdicts: Iterable[Verdict]) -> str:
    """How many claims came to which verdict, in words."""
    found = [verdict.verdict for verdict in verdicts]
    return ", ".join(f"{found.count(name)} {name}" for name in VERDICTS)


def text(verdicts: Sequence[Verdict]) -> str:
    """For a terminal: a line per claim, then what each says and rests on."""
    table = frame(verdicts)
    wide, verdict = table.id.str.len().max(), table.verdict.str.len().max()
    lines = [f"{row.id:<{wide}}  {row.verdict:<{verdict}}  {_found(row)}".rstrip() for row in table.itertuples()]
    for row, of in zip(table.itertuples(), verdicts, strict=True):
        said = f"{row.id}: {row.claim} Expected: {row.expected}. {' '.join(_rests(row, of))}"
        lines += ["", textwrap.fill(said, 110, subsequent_indent="  ", break_on_hyphens=False)]
    return "\n".join(lines)


def _found(row: Row) -> str:
    if row.n in ("", "exact"):
        return f"{row.measured} (exact)" if row.n else ""
    interval = "no interval" if row.interval == "none" else f"95 % interval {row.interval}"
    return f"{row.measured} ({interval}), n = {row.n}"


def markdown(verdicts: Sequence[Verdict]) -> str:
    """docs/results.md: a table per experiment, and under it what each row rests on."""
    parts = ["# Results: every claim of the four plans", NOTES, f"In all: {counts(verdicts)}."]
    for name in EXPERIMENTS:
        own = [verdict for verdict in verdicts if verdict.claim.id.split("/")[0] == name.split("_")[0]]
        if own:
            parts += [f"## {name}", f"{counts(own)}.", *_section(own)]
    return "\n\n".join(parts) + "\n"


def _section(verdicts: Sequence[Verdict]) -> Iterator[str]:
    table = frame(verdicts)
    yield _table(_displayed(table)[list(FULL)])
    yield "### What they rest on"
    pairs = zip(table.itertuples(), verdicts, strict=True)
    yield "\n".join(f"- `{row.id}`: {' '.join(_rests(row, verdict))}" for row, verdict in pairs)


def main_table(verdicts: Sequence[Verdict]) -> str:
    """The README's table: the claims of `MAIN` in short, without what is said of margins and tests."""
    full = _displayed(frame([v for v in verdicts if v.claim.id in MAIN])).set_index("id").loc[list(MAIN)]
    short = pd.DataFrame({"study": full.index.str.split("/").str[0], "claim": list(MAIN.values())})
    short["expected"] = full.expected.str.split("; ").str[0].str.split(" (", regex=False).str[0].to_numpy()
    short[["measured (95 % interval)", "verdict"]] = full[["measured", "verdict"]].to_numpy()
    rest = f"All {len(verdicts)} claims, with n, p, runs and figures: [docs/results.md](docs/results.md)."
    return f"{_table(short)}\n\n{rest}"


def within(readme: str, table: str) -> str:
    """The README with the table between its two marks; ValueError where it has not both, once each."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        raise ValueError(f"The README has to hold {BEGIN} and {END}, once each; put them where the table belongs.")
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table}\n{END}{rest.split(END)[1]}"


def _displayed(table: pd.DataFrame) -> pd.DataFrame:
    """`frame` for tables of Markdown: the interval stands beside its estimate, and an exact number says so."""
    interval = np.where(table.interval == "", "", " (" + table.interval + ")")
    exact = np.where(table.n == "exact", " (exact)", "")
    return table.assign(measured=table.measured + interval, verdict=table.verdict + exact)


def _rests(row: Row, verdict: Verdict) -> Iterator[str]:
    """What was measured and how sure it is, then the runs."""
    found = verdict.finding
    yield row.remark
    if found and not found.exact:
        yield f"p = {found.p_supports:.2g} for it, {found.p_refutes:.2g} against it (Holm); power {row.power:.2f}."
    if row.detectable:
        yield f"Detectable: {row.detectable}."
    if row.runs:
        yield f"Runs{' (some of earlier source)' if found.stale else ''}: {', '.join(row.runs)}."


def _table(table: pd.DataFrame) -> str:
    """A Markdown table of text."""
    rows = [list(table.columns), ["---"] * len(table.columns), *table.to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)
