"""Figures of 1.A.3: what EAB and its rivals save, against model size."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, style
from lib.metrics import stats

EXPERIMENT = "1a3_scaling"

# Speedups of EAB over naive that the plan of the experiment expects of Qwen2.5: parameters, lowest, highest.
EXPECTED = pd.DataFrame(
    [(0.49e9, 1.8, 2.2), (1.54e9, 2.0, 2.5), (3.09e9, 2.2, 2.8), (7.62e9, 2.5, 3.2)],
    columns=["parameters", "low", "high"],
)
# Lines against size cannot hold every arm: these, and EAB at further thresholds, are in the plotted data alone.
NOT_LINES = ("tree_multinomial", "arithmetic")
# Fixes the looks of the arms, the same in every figure of 1a3; others follow by name.
ARMS = ("batched", "bifurcated", "eab", "eab_sequential", "hf", "tree")
ARMS += ("hf_sequential", "arithmetic", "naive", "tree_multinomial")
PROTOCOLS = {"fixed": "fixed N", "matched": "N set by EAB"}


def speedup(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Speedup over `naive` against parameters, log-log, every arm, one panel per protocol, with the expected band."""
    pairs = stats.against(rows)
    pairs = pairs[pairs.arm != "naive"]
    table = stats.summarise(pairs)
    slopes = pd.DataFrame(_slopes(pairs))
    figure, axes = style.new(style.TEXT, 3.5, columns=2, sharey=True)
    lines = looks(_lined(table))
    for ax, protocol in zip(axes, PROTOCOLS, strict=True):
        _lines(ax, table[table.protocol == protocol], lines, _slope_labels(slopes, protocol))
        _expected_band(ax)
        ax.axhline(1, color="0.6", lw=0.6, zorder=0)
        ax.set(xscale="log", yscale="log", title=_title(protocol, rows), xlabel="model size (parameters, log scale)")
        _size_ticks(ax, rows)
        style.times_ticks(ax)
    exponents = "arm: exponent of parameters, with its 95 % interval over prompts (left panel)"
    style.legend_below(figure, axes[0], 3, exponents if len(slopes) else None)
    axes[0].set_ylabel("speedup over naive (wall time)")
    style.note(figure, missing, style.dummies(rows))
    data = table.merge(slopes, on=["protocol", "arm"], how="left") if len(slopes) else table
    return Drawn(figure, data, _speedup_caption(rows, table, missing))


def time_saved(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Seconds per prompt saved against `naive`, by parameters, every arm at fixed N."""
    pairs = stats.against(rows)
    table = stats.summarise(pairs[(pairs.arm != "naive") & (pairs.protocol == "fixed")], "saved")
    figure, (ax,) = style.new(style.COLUMN, 3.2)
    _lines(ax, table, looks(_lined(table)), {})
    ax.axhline(0, color="0.6", lw=0.6, zorder=0)
    ax.set(
        xscale="log",
        title=_title("fixed", rows),
        xlabel="model size (parameters, log scale)",
        ylabel="seconds saved per prompt",
    )
    _size_ticks(ax, rows)
    style.legend_below(figure, ax, 2)
    style.note(figure, missing, style.dummies(rows))
    caption = (
        f"Wall-clock seconds saved per prompt against {samples(rows)} naive generations, median over "
        f"{table.n.min()} prompts per model with 95 % bootstrap intervals. Below zero an arm is slower than naive. "
        f"{_left_out(table)}"
        f"{setting(rows)}{style.missing_sentence(missing)}"
    )
    return Drawn(figure, table, caption)


FIGURES = {"1a3_speedup": speedup, "1a3_time_saved": time_saved}


def looks(arms: Iterable[str]) -> dict[str, dict[str, object]]:
    """Colour and marker of each arm, in the order of `ARMS`; eab@0.1 looks like eab."""
    plain = {arm: arm.partition("@")[0] for arm in arms}
    order = [*ARMS, *sorted(set(plain.values()) - set(ARMS))]
    styles = style.arm_styles(order)
    return {arm: styles[plain[arm]] for arm in sorted(plain, key=lambda arm: (order.index(plain[arm]), arm))}


def _lined(table: pd.DataFrame) -> list[str]:
    """The arms that have a line of their own."""
    return sorted(arm for arm in set(table.arm) - set(NOT_LINES) if "@" not in arm)


def _lines(ax: Axes, table: pd.DataFrame, lines: dict[str, dict[str, object]], labels: dict[str, str]) -> None:
    """One line per arm through the medians, with its interval as a band."""
    for arm, look in ((arm, look) for arm, look in lines.items() if arm in set(table.arm)):
        part = table[table.arm == arm].sort_values("parameters")
        ax.plot(part.parameters, part.estimate, ms=3.5, lw=1, label=labels.get(arm, arm), **look)
        known = part[part.n >= stats.ENOUGH]
        ax.fill_between(known.parameters, known.low, known.high, color=look["color"], alpha=0.18, lw=0)


def _slopes(pairs: pd.DataFrame) -> list[dict[str, object]]:
    """Exponent of speedup against parameters per protocol and arm, on the prompts that every model has."""
    found = []
    for (protocol, arm), part in pairs.groupby(["protocol", "arm"], sort=False):
        wide = part.pivot_table(index="parameters", columns="prompt", values="ratio").dropna(axis=1)
        if len(wide) >= 2 and wide.shape[1]:
            slope = stats.loglog_slope(wide.index.to_numpy(), wide.to_numpy())
            found.append(
                {
                    "protocol": protocol,
                    "arm": arm,
                    "slope": slope.estimate,
                    "slope_low": slope.low,
                    "slope_high": slope.high,
                }
            )
    return found


def _slope_labels(slopes: pd.DataFrame, protocol: str) -> dict[str, str]:
    if slopes.empty:
        return {}
    part = slopes[slopes.protocol == protocol]
    return {s.arm: f"{s.arm}: {s.slope:+.2f} [{s.slope_low:+.2f}, {s.slope_high:+.2f}]" for s in part.itertuples()}


def _expected_band(ax: Axes) -> None:
    """What the plan expects of Qwen2.5, hatched so that nobody takes it for a measurement."""
    ax.fill_between(
        EXPECTED.parameters,
        EXPECTED.low,
        EXPECTED.high,
        facecolor="none",
        edgecolor="0.5",
        hatch="////",
        lw=0.5,
        label="expected in the original plan",
    )


def _size_ticks(ax: Axes, rows: pd.DataFrame) -> None:
    """Models by name at their number of parameters; beside them the ends of the expected band."""
    names = {row.parameters: style.short_name(row.model) for row in rows.drop_duplicates("model").itertuples()}
    if ax.get_yscale() == "log" and max(names) < EXPECTED.parameters.min():
        names |= {EXPECTED.parameters.iloc[0]: "0.5B", EXPECTED.parameters.iloc[-1]: "7B"}
    ax.xaxis.set(major_locator=FixedLocator(sorted(names)), minor_locator=NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda n, _: names.get(n, "")))


def samples(rows: pd.DataFrame) -> int:
    """N of the fixed protocol."""
    return int(rows[rows.protocol == "fixed"].num_samples.max())


def _title(protocol: str, rows: pd.DataFrame) -> str:
    part = rows[rows.protocol == protocol]
    prompts = part.groupby("model").prompt.nunique().min()
    if protocol == "fixed":
        return f"N = {samples(rows)} for all; prompts: n = {prompts}"
    drawn = part[part.arm == "naive"].num_samples
    return f"{PROTOCOLS[protocol]} (median {np.median(drawn):g}); prompts: n = {prompts}"


def setting(rows: pd.DataFrame) -> str:
    """What a caption says of the settings, and of random weights."""
    first = rows.iloc[0]
    thresholds = "/".join(f"{t:g}" for t in sorted(set(rows.threshold)))
    text = (
        f"{first.prompt_tokens}-token prompts, up to {first.max_new_tokens} new tokens, temperature "
        f"{first.temperature:g}, EAB threshold {thresholds} of ln |V|, {first.threads} thread(s). "
    )
    dummies = style.dummies(rows)
    return text + (f"Random weights, cost only: {', '.join(dummies)}. " if dummies else "")


def _left_out(table: pd.DataFrame) -> str:
    names = sorted(set(table.arm) - set(_lined(table)))
    return f"In the plotted data only: {', '.join(names)}. " if names else ""


def _speedup_caption(rows: pd.DataFrame, table: pd.DataFrame, missing: Sequence[str]) -> str:
    return (
        f"Wall-time speedup over naive sequential generation against model size, median over {table.n.min()} prompts "
        "per model, paired by prompt, with 95 % bootstrap intervals; the legend gives each arm's exponent of size with "
        "its interval. "
        f"{_left_out(table)}Left: every arm draws the same number of samples (EAB grows further trees where one "
        "returns fewer, which is ours). Right: the number EAB chose for each prompt. "
        "The hatched band is what the experiment's plan expects of EAB on Qwen2.5; it is drawn, not measured. "
        f"{setting(rows)}{style.missing_sentence(missing)}"
    )
