"""How far into a draft the drafter is right: acceptance by position, given that all before were right and outright."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from lib.figures import Drawn, Undrawable, specdec, style
from lib.metrics import acceptance, stats

EXPERIMENT = specdec.EXPERIMENT

RATES = {"conditional": "-", "unconditional": "--"}


def positions(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """A panel per model, a colour per method: conditional rate solid, unconditional dashed, intervals upright.

    Of several backends the figure shows the first. Undrawable where nothing was drafted.
    """
    latency = specdec.protocol(rows, "latency", "single requests")
    table = _table(latency)
    shown = specdec.first_backend(table)
    models = specdec.models(shown)
    figure, axes = style.grid(len(models), 2.1, sharex=True, sharey=True)
    for ax, model in zip(axes, models, strict=True):
        part = shown[shown.model == model]
        _lines(ax, part)
        ax.set_title(f"{specdec.name(model)}: requests n = {part.requests.min()}", loc="left", fontsize=7)
        ax.set(xlabel="position in the draft", ylim=(0, 1.02))
    axes[0].set_ylabel("acceptance rate")
    axes[0].xaxis.set_major_locator(MaxNLocator(6, integer=True))
    kinds = [Line2D([], [], ls=dash, lw=1, color="0.4", label=rate) for rate, dash in RATES.items()]
    specdec.legend(figure, shown, kinds, ls="-", lw=1)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, table, _caption(latency, table, shown, missing))


FIGURES = {"2a_positions": positions}


def _table(latency: pd.DataFrame) -> pd.DataFrame:
    """Rates of `acceptance.by_position` per model, backend and method; requests of unknown steps are left out."""
    counted = latency[latency.tested_at.notna()] if "tested_at" in latency else latency[:0]
    table = acceptance.by_position(counted, ["model", "parameters", "backend", "arm"])
    if table.empty:
        raise Undrawable(
            "No request has counts of drafted tokens by position, which this figure is drawn from: run the sweep with "
            "a method that drafts, on the backend torch or vllm."
        )
    few = table.requests < stats.ENOUGH
    table.loc[few, [f"{rate}_{end}" for rate in RATES for end in ("low", "high")]] = np.nan
    return table.sort_values(["parameters", "model", "backend", "arm", "position"], ignore_index=True)


def _lines(ax: Axes, part: pd.DataFrame) -> None:
    """Methods beside each other at each position, so that their intervals can be told apart."""
    look, methods = specdec.looks(part), specdec.methods(part)
    for arm, offset in zip(methods, np.linspace(-0.15, 0.15, len(methods) + 2)[1:-1], strict=True):
        line, colour = part[part.arm == arm], look[arm]["color"]
        x = line.position + offset
        for rate, dash in RATES.items():
            ax.plot(x, line[rate], dash, ms=3.5, lw=1, label=f"{arm} {rate}", **look[arm])
            ax.vlines(x, line[f"{rate}_low"], line[f"{rate}_high"], color=colour, lw=0.7, alpha=0.7)


def _caption(latency: pd.DataFrame, table: pd.DataFrame, shown: pd.DataFrame, missing: Sequence[str]) -> str:
    requests = specdec.requests(shown.rename(columns={"n": "steps", "requests": "n"}))
    return (
        "Acceptance by position in the draft, pooled over the steps of "
        f"{requests}, with 95 % bootstrap intervals over requests where there are {stats.ENOUGH} or more. Conditional "
        "(solid): of the steps that put the position to the test, its token drafted and all before it accepted, the "
        "share that accepted it. Unconditional (dashed): of all steps with a draft, the share that accepted as far; "
        "the sum over positions is what a drafted step gains. Steps without a draft count in neither. "
        f"{specdec.others(table, shown)}{specdec.setting(latency)}{style.missing_sentence(missing)}"
    )
