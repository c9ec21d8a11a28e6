"""Where the time goes: stages of an answer from text and from messages, stacked."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.figures import Drawn, inference, style
from lib.figures.inference import ACCOUNTINGS, RAN, RUNS, SOURCE, STAGES, WRITING

EXPERIMENT = inference.EXPERIMENT
HATCH = "////"  # of what is saved where the source has read the question anyway
UNTIL = {"end": STAGES, "writing": {stage: label for stage, label in STAGES.items() if stage not in WRITING}}


def stages(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Median milliseconds of each stage: a row of panels per batch size, the whole left, until writing begins right."""
    part = inference.protocol(rows, "latency")
    bandwidth = slowest(part)
    batches = inference.latency(rows, bandwidth)
    called, sizes = inference.names(part), sorted(set(batches.batch_size))
    figure, axes = style.new(style.TEXT, 0.7 + 0.5 * len(sizes) + 0.16 * len(called) * len(sizes), 2, len(sizes))
    data = []
    for row, size in enumerate(sizes):
        own = batches[batches.batch_size == size]
        for ax, (until, shown) in zip(axes[2 * row : 2 * row + 2], UNTIL.items(), strict=True):
            data.append(_bars(ax, own, called, shown).assign(batch_size=size, until=until))
        axes[2 * row].set_title(f"batch of {size}: n = {own.batch.nunique()}", loc="left", fontsize=7)
    axes[1].set_title("until writing begins", loc="left", fontsize=7)
    for ax in axes[-2:]:
        ax.set_xlabel("milliseconds per batch (median)")
    _legend(figure, axes[0], bandwidth)
    style.note(figure, missing, [])
    return Drawn(figure, pd.concat(data, ignore_index=True), _caption(part, bandwidth, missing))


FIGURES = {"4c_stages": stages}


def slowest(part: pd.DataFrame) -> float:
    """The slowest link among the run's bandwidths in Mbit/s; 0 where it has none."""
    return min((link for link in part.bandwidths.iloc[0] if link), default=0.0)


def _bars(ax: Axes, own: pd.DataFrame, called: dict[str, str], shown: dict[str, str]) -> pd.DataFrame:
    """One bar per arm, with both totals at its end; returns what is plotted."""
    colours = dict(zip(STAGES, sns.color_palette("colorblind", len(STAGES)), strict=True))
    found = []
    for place, arm in enumerate(called):
        part, end = own[own.arm == arm], 0.0
        for stage, label in shown.items():
            width = 1e3 * part[stage].median()
            hatch = HATCH if stage in SOURCE else None
            ax.barh(place, width, left=end, height=0.7, color=colours[stage], hatch=hatch, label=label, lw=0)
            found.append({"arm": arm, "stage": stage, "ms": width})
            end += width
        total = {name: 1e3 * inference.seconds(part, runs, shown).median() for name, runs in ACCOUNTINGS.items()}
        text = f"{total[RUNS]:.3g}" + ("" if arm == inference.TEXT else f" ({total[RAN]:.3g})")
        ax.text(end, place, f" {text}", va="center", fontsize=6.5)
        found += [{"arm": arm, "stage": name, "ms": value} for name, value in total.items()]
    ax.set_yticks(range(len(called)), list(called.values()) if ax.get_subplotspec().is_first_col() else [])
    ax.invert_yaxis()
    ax.margins(x=0.22)
    return pd.DataFrame(found)


def _legend(figure: Figure, ax: Axes, bandwidth: float) -> None:
    """Every stage once; a link only where there is one."""
    bars = dict(zip(*reversed(ax.get_legend_handles_labels()), strict=True))
    link = bars.pop(STAGES["link_s"])
    if bandwidth:
        bars[f"link of {bandwidth:g} Mbit/s"] = link
    figure.legend(bars.values(), bars.keys(), loc="outside lower center", ncols=5, frameon=False)


def _caption(part: pd.DataFrame, bandwidth: float, missing: Sequence[str]) -> str:
    link = f"The link of {bandwidth:g} Mbit/s is computed from the bytes that are sent. " if bandwidth else ""
    return (
        "Stages of answering from the text and from messages, medians over batches (their number is n), left to the "
        "end of the answer and right until the first token. At the end of each bar the median total; in parentheses "
        "where the source has read the question anyway, which saves the hatched part. "
        f"{link}{inference.masks_sentence(part)}{inference.setting(part)}"
        f"{style.missing_sentence(missing)}"
    )
