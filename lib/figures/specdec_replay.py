"""What other ways of drafting would have bought: every fixed k, the best k at every place, two drafters combined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator

from lib.figures import Drawn, Undrawable, specdec, style
from lib.metrics import replay, stats

EXPERIMENT = specdec.EXPERIMENT

# Of the combinations of two drafters these are drawn; the others are in the plotted data.
EITHER, BETTER = f"{replay.LOOKUP}, else eagle", f"better of {replay.LOOKUP}, eagle"
COMBINED = {EITHER: {"color": (0.1, 0.1, 0.1), "marker": "P"}, BETTER: {"color": (0.55, 0.35, 0.15), "marker": "*"}}
RING = {"ls": "", "marker": "o", "ms": 8, "mfc": "none", "mec": "0.2", "mew": 0.8}


def replayed(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """A panel per model: projected speedup of decoding by k, a line per drafter, its oracle a dashed horizontal line.

    The best fixed k has a ring. Undrawable without traces, or without the costs of what they recorded.
    """
    traces = specdec.protocol(rows, "trace", "what drafters would propose at every place")
    table = projections(traces, specdec.costs(rows))
    shown = specdec.first_backend(table[table.arm.isin([*traces.arm, *COMBINED])])
    models, look = specdec.models(shown), specdec.looks(traces) | COMBINED
    figure, axes = style.grid(len(models), 2.3, sharex=True, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        part = shown[shown.model == model]
        _lines(ax, part, look)
        ax.set_title(f"{specdec.name(model)}: requests n = {part.n.min()}", loc="left", fontsize=7)
        ax.set(xlabel="draft tokens k", yscale="log")
    axes[0].set_ylabel("projected speedup of decoding")
    axes[0].xaxis.set_major_locator(FixedLocator([1, 3, 5, 7, 10]))
    values = shown[["speedup", "low", "high"]].to_numpy()
    axes[0].set_ylim(0.92 * min(0.8, np.nanmin(values)), 1.08 * max(1.25, np.nanmax(values)))
    style.times_ticks(axes[0])
    keys = [Line2D([], [], ls="-", color="0.4", lw=1, label="fixed k"), Line2D([], [], **RING, label="best fixed k")]
    keys.append(Line2D([], [], ls="--", color="0.4", lw=0.9, label="oracle k"))
    specdec.legend(figure, shown, keys, columns=4, look=look, ls="-", lw=1)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, table, _caption(traces, table, shown, missing))


FIGURES = {"2a_replay": replayed}


def projections(traces: pd.DataFrame, cost: pd.DataFrame) -> pd.DataFrame:
    """One row per model, backend, drafter (arm) and strategy: "fixed" with its k, or "oracle" with k NaN; speedup with
    its interval low, high (NaN for too few requests) and n requests. Drafters of unknown cost are left out.
    """
    traces = traces.drop_duplicates(["model", "backend", "prompt", "arm"])
    found = []
    for (model, parameters, backend), part in traces.groupby(["model", "parameters", "backend"], sort=False):
        costs = _costs(cost, model, backend, specdec.methods(part))
        known = part[part.arm.isin(costs.draft_s)] if costs else part[:0]
        if len(known):
            table = replay.speedups(replay.replay(known, costs))
            found.append(table.assign(model=model, parameters=parameters, backend=backend))
    if not found:
        raise Undrawable(
            "No traced drafter has its costs measured, which a projection needs: run the sweep with the backend torch."
        )
    table = pd.concat(found, ignore_index=True)
    table = table.rename(columns={"speedup_low": "low", "speedup_high": "high", "requests": "n"})
    table.loc[table.n < stats.ENOUGH, ["low", "high"]] = np.nan
    return table.sort_values(["parameters", "model", "backend", "arm", "strategy", "k"], ignore_index=True)


def _costs(cost: pd.DataFrame, model: str, backend: str, arms: Sequence[str]) -> replay.Costs | None:
    verify = specdec.curve(cost, model, backend, specdec.VERIFY, replay.LONGEST + 1)
    drafts = {arm: specdec.curve(cost, model, backend, arm, replay.LONGEST) for arm in arms}
    return replay.Costs(verify, {arm: curve for arm, curve in drafts.items() if curve}) if verify else None


def best(table: pd.DataFrame) -> pd.DataFrame:
    """The row of the best fixed k of every model, backend and drafter, the smallest of equals."""
    fixed = table[table.strategy == "fixed"].sort_values("k")
    return fixed.loc[fixed.groupby(["model", "backend", "arm"], sort=False).speedup.idxmax()]


def _lines(ax: Axes, part: pd.DataFrame, look: dict[str, dict[str, object]]) -> None:
    ax.axhline(1, color="0.5", lw=0.8, zorder=0)
    top = best(part).set_index("arm")
    for arm in specdec.methods(part):
        line, colour = part[(part.arm == arm) & (part.strategy == "fixed")], look[arm]["color"]
        oracle = part[(part.arm == arm) & (part.strategy == "oracle")]
        ax.plot(line.k, line.speedup, ms=3, lw=1, label=arm, **look[arm])
        ax.vlines(top.k[arm], top.low[arm], top.high[arm], color=colour, lw=0.8)  # of all k they would hide the lines
        ax.axhline(oracle.speedup.iloc[0], ls="--", lw=0.9, color=colour, label=f"{arm} oracle")
        ax.plot(top.k[arm], top.speedup[arm], **RING | {"mec": colour}, label=f"{arm} best")


def _caption(traces: pd.DataFrame, table: pd.DataFrame, shown: pd.DataFrame, missing: Sequence[str]) -> str:
    left_out = sorted(set(table.arm) - set(shown.arm))
    unknown = sorted(set(specdec.methods(traces)) - set(table.arm))
    return (
        "Speedup of decoding that other ways of drafting would have had on recorded greedy outputs, by the engine's "
        "own steps and the measured costs of drafting and verifying: projected, not timed, without other overhead. "
        "Solid: at most k drafted tokens in every step, rings at the best k; dashed: an oracle that drafts, at every "
        f"place, the right tokens that make the output cheapest. {_combined_sentence(shown)}Pooled over "
        f"{specdec.requests(shown)}; upright, the best k's 95 % bootstrap interval over requests where there are "
        f"{stats.ENOUGH} or more. Drafts longer than any timed are taken to cost what a curve fitted to the others "
        f"says. {_best_sentence(shown)}"
        + (f"In the plotted data only: {'; '.join(left_out)}. " if left_out else "")
        + (f"No costs to project from: {', '.join(unknown)}. " if unknown else "")
        + specdec.setting(traces.drop(columns="num_speculative_tokens", errors="ignore"))
        + style.missing_sentence(missing)
    )


def _combined_sentence(shown: pd.DataFrame) -> str:
    if EITHER not in set(shown.arm):
        return ""
    return (
        f'"{EITHER}" takes the n-gram match where there is one; "{BETTER}" knows whose draft gets farther, which '
        "bounds any choice between the two. "
    )


def _best_sentence(shown: pd.DataFrame) -> str:
    """The best fixed k of every drafter on the largest model, beside its oracle."""
    part = shown[shown.model == specdec.models(shown)[-1]]
    oracle = part[part.strategy == "oracle"].set_index("arm").speedup
    top = best(part).set_index("arm").loc[specdec.methods(part)]
    said = [f"{row.Index} {row.speedup:.2f}× at {row.k:g} ({oracle[row.Index]:.2f}×)" for row in top.itertuples()]
    return f"Best fixed k on {specdec.name(part.model.iloc[0])}, in brackets the oracle: {'; '.join(said)}. "
