"""Speed and quality in one picture: what an arm draws, beside what independent draws from the model look like.

On story prompts every arm is compared with `naive` on the same prompt at equal N: its line is the target, and more
diverse than independent draws is as wrong as less. On questions (rows of protocol `law`) arms have spent the same
token-forwards: how far off is the entropy of the answers then, and how many independent draws would err as little?
There `batched` is the line to beat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from lib.figures import Drawn, scaling, style
from lib.metrics import stats

EXPERIMENT = "1a3_scaling"


@dataclass(frozen=True)
class Panel:
    """One quantity of every arm, by itself or against the same of `target` on the same prompt."""

    title: str
    column: str
    shows: Literal["value", "difference", "ratio", "speedup"] = "difference"  # speedup: the target's over the arm's
    protocol: str = "fixed"
    target: str = "naive"

    @property
    def line(self) -> float:
        """Where the target is."""
        return 1 if self.log else 0

    @property
    def log(self) -> bool:
        return self.shows in ("ratio", "speedup")

    @property
    def label(self) -> str:
        """What the horizontal axis shows."""
        if self.shows == "value":
            return "by itself"
        return f"{'times' if self.log else 'minus'} {self.target}'s"

    def values(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Medians over prompts with intervals, one row per model and arm; empty where nothing was measured."""
        part = rows[rows.protocol == self.protocol]
        if self.column not in part or part[self.column].isna().all():
            return pd.DataFrame()
        pairs = stats.against(part, self.target, self.column)
        value = {
            "value": pairs[self.column],
            "difference": -pairs.saved,
            "ratio": 1 / pairs.ratio,
            "speedup": pairs.ratio,
        }[self.shows]
        kept = np.isfinite(value) & ((pairs.arm != self.target) | (self.shows == "value"))
        pairs = pairs.assign(value=value)[kept]  # not finite: a question always answered alike has no error to compare
        return stats.summarise(pairs, "value").assign(panel=self.title) if len(pairs) else pd.DataFrame()


EXACT = ("batched", "bifurcated", "tree_multinomial")  # read naive's random numbers
TICK_BASES = (64, 16, 4, 2, 1.5, 1.2, 1.1)
NARROWEST = 1.15  # a log axis reaches from its inverse to it at least, which holds two powers of the last base
LAW = {"protocol": "law", "target": "batched"}
PANELS = (
    Panel("speedup", "wall_s", "speedup"),
    Panel("distinct-2", "distinct_2"),
    Panel("self-BLEU", "self_bleu"),
    Panel("unique ratio", "unique_ratio"),
    Panel("coverage", "coverage"),
    Panel("NLL (nats)", "nll"),
    Panel("entropy bias (nats)", "entropy_bias", "value", **LAW),
    Panel("entropy RMSE", "entropy_rmse", "ratio", **LAW),
    Panel("effective samples", "effective_samples", "ratio", **LAW),
)


def quality(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Arms down, quantities across: dots per model, the line of the i.i.d. arm."""
    tables = [panel.values(rows) for panel in PANELS]
    data = pd.concat([table for table in tables if len(table)], ignore_index=True)
    arms = sorted(set(data.arm))
    models = data.drop_duplicates("model").sort_values("parameters").model.tolist()
    height = 2 * (0.17 * len(arms) + 0.62)
    figure, axes = style.new(style.TEXT, height, 5, 2, sharey=True)
    looks = _looks(models)
    for ax, panel, table in zip(axes, PANELS, tables, strict=False):
        _panel(ax, panel, table, arms, looks)
    axes[0].set_yticks(range(len(arms)), arms)
    axes[0].set_ylim(len(arms) - 0.4, -0.6)
    _legend(axes[len(PANELS)], looks, data)
    style.note(figure, missing, style.dummies(rows))
    return Drawn(figure, data, _caption(rows, tables, missing))


FIGURES = {"1a3_quality": quality}


def _looks(models: list[str]) -> dict[str, dict[str, object]]:
    """Models from light to dark with size, told apart by marker too."""
    shades = sns.color_palette("crest", len(models))
    return {m: {"color": c, "marker": s} for m, c, s in zip(models, shades, style.MARKERS, strict=False)}


def _panel(ax: Axes, panel: Panel, table: pd.DataFrame, arms: list[str], looks: dict[str, dict[str, object]]) -> None:
    ax.set_title(panel.title, fontsize=7.5)
    if table.empty:
        ax.text(0.5, 0.5, "not measured", transform=ax.transAxes, ha="center", fontsize=7)
        ax.set_xticks([])
        return
    ax.axvline(panel.line, color="0.5", lw=0.8, zorder=0)
    offsets = dict(zip(looks, np.linspace(-0.3, 0.3, len(looks) + 2)[1:-1], strict=True))
    for row in table.itertuples():
        y = arms.index(row.arm) + offsets[row.model]
        ax.plot(row.estimate, y, ms=3, ls="", **looks[row.model])
        if row.n >= stats.ENOUGH:
            ax.hlines(y, row.low, row.high, color=looks[row.model]["color"], lw=0.8)
    if panel.log:
        _ratio_ticks(ax)
    else:
        ax.xaxis.set_major_locator(MaxNLocator(3))
    ax.set_xlabel(panel.label, fontsize=7)


def _ratio_ticks(ax: Axes) -> None:
    """A log axis with ticks at 1 and at powers of the largest base that gives two or more."""
    ax.set_xscale("log", base=2)
    low, high = ax.get_xlim()
    low, high = min(low, 1 / NARROWEST), max(high, NARROWEST)
    ax.set_xlim(low, high)
    ticks = next(found for base in TICK_BASES if len(found := _powers(base, low, high)) > 1)
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:.3g}×"))


def _powers(base: float, low: float, high: float) -> list[float]:
    """The powers of `base` from low to high."""
    first, last = np.ceil(np.log(low) / np.log(base)), np.floor(np.log(high) / np.log(base))
    return (base ** np.arange(first, last + 1)).tolist()


def _legend(ax: Axes, looks: dict[str, dict[str, object]], data: pd.DataFrame) -> None:
    """In the place of the tenth panel."""
    ax.set_axis_off()
    handles = [Line2D([], [], ls="", ms=3.5, label=style.short_name(model), **look) for model, look in looks.items()]
    handles.append(Line2D([], [], color="0.5", lw=0.8, label="independent\ndraws, or no bias"))
    ax.legend(handles=handles, loc="center", frameon=False, title=f"prompts: n ≥ {data.n.min()}")


def _caption(rows: pd.DataFrame, tables: list[pd.DataFrame], missing: Sequence[str]) -> str:
    absent = [panel.title for panel, table in zip(PANELS, tables, strict=True) if table.empty]
    return (
        f"Speed and quality of {scaling.samples(rows)} samples per prompt, each arm against independent draws on the "
        "same prompt; medians over prompts with 95 % bootstrap intervals. Independent draws are the target of "
        "distinct-2 to NLL: a sampler that is more diverse than they are has another law. Distinct-2: share of "
        "different bigrams; self-BLEU: likeness of a sample to the others; unique ratio: share of different samples; "
        "coverage: probability of the sequences seen; NLL: mean -log probability. "
        + _exact_sentence(rows)
        + _law_sentence(rows)
        + (f"Not measured in these runs: {', '.join(absent)}. " if absent else "")
        + scaling.setting(rows[rows.protocol == "fixed"])
        + style.missing_sentence(missing)
    )


def _exact_sentence(rows: pd.DataFrame) -> str:
    arms = [arm for arm in EXACT if arm in set(rows[rows.protocol == "fixed"].arm)]
    if not arms:
        return ""
    names = " and ".join(", ".join(arms).rsplit(", ", 1))
    return f"Quality of {names} equals that of naive exactly: same random numbers, same samples. "


def _law_sentence(rows: pd.DataFrame) -> str:
    law = rows[rows.protocol == "law"]
    if law.empty:
        return ""
    models = ", ".join(style.short_name(model) for model in dict.fromkeys(law.model))
    asked = law.prompt.nunique()
    return (
        "Entropy of the answers and effective samples, at batched's token-forwards: "
        f"{asked} question{'s' if asked > 1 else ''} on {models}, at least {law.replicates.min():.0f} replicates per "
        f"arm against {law.reference.min():.0f} independent draws; the entropy of few samples is biased "
        "low, whoever draws them; effective samples is how many independent ones err as little. "
    )
