"""Does the speedup model hold: what acceptance and costs measured apart predict, beside what was timed.

The model (`lib.metrics.speculation`) speaks of decoding steps, so the speedups here are of decoding alone, without the
prefill that every method pays alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, Undrawable, specdec, style
from lib.metrics import acceptance, speculation, stats

EXPERIMENT = specdec.EXPERIMENT

KEYS = ["model", "backend", "arm", "category"]
PAPER = {"color": "white", "alpha": 0.8, "pad": 0.5, "lw": 0}  # behind text that a curve may cross
ALL = "all"  # in place of a category
MIXED = ("hybrid",)  # drafts of two lengths and two costs, which rates per position and one cost cannot describe


def predicted(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: measured against predicted speedup of decoding with the line of equality, a large point per method and
    model, a small one per category. Right: the cost of a forward against its tokens, between its two limits.
    """
    latency = specdec.protocol(rows, "latency", "single requests")
    cost = specdec.costs(rows)
    table, curves = predictions(latency, cost), verify_curves(cost)
    if table.empty:
        raise Undrawable(
            "No method has both a timed speedup and the costs that a prediction needs (hybrid drafts in two ways, "
            "which one cost does not describe): run another method with the backend torch, which times what both take."
        )
    figure, (left, right) = style.new(style.TEXT, 3.3, columns=2, width_ratios=(1.15, 1))
    marks = dict(zip(specdec.models(curves), style.MARKERS, strict=False))
    _scatter(left, table, marks)
    _curves(right, curves, marks)
    _legend(figure, table, marks)
    style.note(figure, missing, style.dummies(rows))
    data = pd.concat([table.assign(panel="speedup"), curves.assign(panel="verify cost")], ignore_index=True)
    return Drawn(figure, data, _caption(latency, table, curves, missing))


FIGURES = {"2a_predicted": predicted}


def predictions(latency: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """One row per model, backend, method and category, and one with category "all": predicted speedup of decoding, and
    the measured one as estimate, low, high, n. Methods whose costs were not measured are left out, and mixed ones.
    """
    latency = latency[~latency.arm.isin(MIXED)]
    known = latency[latency.decode_s.notna() & latency.tested_at.notna() & (latency.new_tokens > 1)]
    known = known.assign(s_per_token=known.decode_s / (known.new_tokens - 1))
    known = known.merge(cost[cost.arm == specdec.VERIFY][["model", "backend"]].drop_duplicates())
    if not known.drafted.any():
        return pd.DataFrame()
    return pd.concat([_scope(known.assign(category=ALL), cost), _scope(known, cost)], ignore_index=True)


def _scope(latency: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    steps = latency.groupby(KEYS)[["draftless_steps", "steps"]].sum()
    found = []
    for key, part in acceptance.by_position(latency, KEYS).groupby(KEYS, sort=False):
        rates = part.sort_values("position").unconditional.to_numpy()
        draft_s = specdec.curve(cost, *key[:3], longest=len(rates))
        verify_s = specdec.curve(cost, *key[:2], specdec.VERIFY, longest=len(rates) + 1)
        if draft_s and verify_s:
            draftless = steps.draftless_steps[key] / steps.steps[key]
            value = speculation.predicted(rates, draft_s, verify_s, draftless=draftless)
            found.append(dict(zip(KEYS, key, strict=True)) | {"predicted": value})
    return _measured(latency).merge(pd.DataFrame(found), on=KEYS) if found else pd.DataFrame()


def _measured(latency: pd.DataFrame) -> pd.DataFrame:
    """Pooled as the model's rates are: the seconds that decoding all outputs one by one took over those of drafting."""
    tokens = latency.groupby([*KEYS, "prompt"], as_index=False).new_tokens.median()
    pairs = specdec.speedups(latency, ["category"]).merge(tokens, on=[*KEYS, "prompt"])
    table = []
    for key, part in pairs.groupby(["parameters", *KEYS], sort=False):
        seconds = (part.new_tokens - 1).to_numpy() * part[["baseline", "s_per_token"]].to_numpy().T
        interval = vars(acceptance.pooled(seconds))
        if len(part) < stats.ENOUGH:
            interval |= {"low": np.nan, "high": np.nan}
        table.append(dict(zip(["parameters", *KEYS], key, strict=True)) | interval)
    return pd.DataFrame(table).sort_values(["parameters", *KEYS], ignore_index=True)


def verify_curves(cost: pd.DataFrame) -> pd.DataFrame:
    """v(q), the cost of a forward of q tokens in forwards of one: median, quartiles low and high, n timings; one row
    per model, backend and number of tokens.
    """
    rows = cost[cost.arm == specdec.VERIFY].astype({"tokens": int})
    seconds = rows.groupby(["model", "parameters", "backend", "tokens"]).seconds
    found = seconds.agg(estimate="median", low=lambda x: x.quantile(0.25), high=lambda x: x.quantile(0.75), n="count")
    return found.reset_index()


def _scatter(ax: Axes, table: pd.DataFrame, marks: dict[str, str]) -> None:
    look = specdec.looks(table)
    for row in table.sort_values("category", key=lambda c: c == ALL).itertuples():  # the large ones on top
        colour, whole = look[row.arm]["color"], row.category == ALL
        shape = {"ms": 5.5 if whole else 2.5, "alpha": 1 if whole else 0.45, "mew": 0.5 if whole else 0}
        ax.plot(
            row.predicted,
            row.estimate,
            marks[row.model],
            color=colour,
            mec="white",
            label=f"{row.arm} {row.category}",
            **shape,
        )
        if whole:
            ax.vlines(row.predicted, row.low, row.high, color=colour, lw=1)
    values = table[["predicted", "estimate", "low", "high"]].to_numpy()
    ends = 0.92 * min(0.8, np.nanmin(values)), 1.08 * max(1.25, np.nanmax(values))
    ax.plot(ends, ends, color="0.5", lw=0.8, zorder=0, label="equal")
    ax.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    ax.set(xlabel="predicted speedup of decoding", ylabel="measured speedup of decoding")
    ax.set_title(f"requests: n = {table[table.category == ALL].n.min()}", loc="left", fontsize=7)
    style.times_ticks(ax)
    style.times_ticks(ax, "x")


def _curves(ax: Axes, curves: pd.DataFrame, marks: dict[str, str]) -> None:
    """On log-log axes, so that "proportional" is a straight line and equal factors are equal lengths."""
    shades = dict(zip(marks, sns.color_palette("crest", len(marks)), strict=True))
    shown = specdec.first_backend(curves)
    for model in specdec.models(shown):
        line = shown[shown.model == model].sort_values("tokens")
        colour = shades[model]
        ax.plot(line.tokens, line.estimate, marks[model], ls="-", ms=3, lw=1, color=colour, label=specdec.name(model))
        ax.vlines(line.tokens, line.low, line.high, color=colour, lw=0.8)
    most = float(curves.tokens.max())
    for exponent, kind in ((0, "memory-bound"), (1, "compute-bound")):
        ax.plot([1, most], [1, most**exponent], "--", lw=0.8, color="0.5", zorder=0, label=kind)
    ax.text(most, 0.66, "memory-bound: flat", fontsize=7, color="0.35", ha="right", va="top", bbox=PAPER)
    ax.text(1.1, most * 0.9, "compute-bound: proportional", fontsize=7, color="0.35", va="top")
    ax.set(xscale="log", yscale="log", xlabel="tokens q in one forward", ylabel="seconds of q tokens / of one")
    ax.set_ylim(min(0.5, 0.9 * curves.low.min()), 1.15 * max(most, curves.high.max()))
    ax.set_title(f"cost of verifying; timings per point: n ≥ {shown.n.min()}", loc="left", fontsize=7)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set(major_locator=FixedLocator([1, 2, 4, 8, 16, 32, 64]), minor_locator=NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))


def _legend(figure: Figure, table: pd.DataFrame, marks: dict[str, str]) -> None:
    look, grey = specdec.looks(table), {"color": "0.4", "ls": ""}
    handles = [Patch(color=look[arm]["color"], label=arm) for arm in specdec.methods(table)]
    handles += [Line2D([], [], marker=mark, ms=4, label=specdec.name(m), **grey) for m, mark in marks.items()]
    handles.append(Line2D([], [], marker="o", ms=2.5, alpha=0.6, label="one category", **grey))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), frameon=False)


def _caption(latency: pd.DataFrame, table: pd.DataFrame, curves: pd.DataFrame, missing: Sequence[str]) -> str:
    whole = table[table.category == ALL]
    error = 100 * (np.exp(np.abs(np.log(whole.estimate / whole.predicted)).median()) - 1)
    absent = ", ".join(arm for arm in specdec.methods(latency) if arm not in set(table.arm))
    return (
        "Left: speedup of decoding (prefill left out) over the baseline of the same engine against what the model of "
        "Leviathan et al. predicts from the measured acceptance by position, the share of steps without a draft and "
        "the costs of drafting and verifying, timed apart; no constant is fitted. Large: all requests of a model, "
        f"pooled over {specdec.requests(whole)} with 95 % bootstrap intervals where there are {stats.ENOUGH} or more; "
        "small: one category. Below the line a step costs more than its parts. Median distance from it: "
        f"{error:.0f} %. Right: seconds of a forward of q tokens over those of one, medians with quartiles; where "
        "reading the weights takes the time it is flat, where arithmetic does it is proportional to q, and drafting "
        f"cannot pay. {f'No costs to predict from: {absent}. ' if absent else ''}"
        f"{specdec.others(curves, specdec.first_backend(curves))}{specdec.setting(latency)}"
        f"{style.missing_sentence(missing)}"
    )
