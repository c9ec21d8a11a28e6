"""How the cost of each arm grows with samples, prompt, new tokens and prompts decoded together, beside its formula."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from lib.figures import Drawn, Undrawable, scaling, style
from lib.metrics import predictions

EXPERIMENT = "bench/growth"
AXES = {
    "N": "samples N",
    "P": "prompt tokens P",
    "L": "new tokens L",
    "prompts": "prompts together",
}
FORMULAS = ("naive", "batched", "tree")  # arms whose formula is drawn; a line for each arm would hide the points
SIZES = {"N": "num_samples", "P": "prompt_tokens", "L": "max_new_tokens", "prompts": "prompts"}


def growth(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Seconds per prompt against each quantity, log-log, a line per arm; dashed: the arm's formula for token-forwards,
    scaled to meet the measurement at the base point. Undrawable for rows that lack that point.
    """
    table = medians(_drawable(rows))
    figure, axes = style.new(style.TEXT, 3.2, columns=len(AXES), sharey=True)
    looks, lost = scaling.looks(set(rows.arm)), skipped(rows)
    for ax, axis in zip(axes, AXES, strict=True):
        _panel(ax, table[table.axis == axis], looks)
        ax.set(xscale="log", yscale="log", xlabel=AXES[axis])
        _ticks(ax, table[table.axis == axis].value)
        absent = [f"{arm} {', '.join(values)}" for (where, arm), values in lost.items() if where == axis]
        ax.set_title("\n".join(["not measured:", *absent]) if absent else "", fontsize=6, color="firebrick")
    axes[0].set_ylabel("seconds per prompt")
    dashes = Line2D([], [], color="0.4", ls="--", lw=0.7, label="formula")
    handles = [Line2D([], [], ms=3.5, lw=1, label=arm, **look) for arm, look in looks.items()]
    figure.legend(handles=[*handles, dashes], loc="outside lower center", ncols=len(handles) + 1, frameon=False)
    style.note(figure, missing, style.dummies(rows))
    found = crossovers(table)
    return Drawn(figure, table.assign(tree_faster_from=table.axis.map(found)), _caption(rows, table))


FIGURES = {"1a3_growth": growth}


def medians(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per axis, arm and value: `seconds` per prompt (median over passes, which go from `low` to `high`),
    the formula's `token_forwards` per prompt, and `formula`: seconds if those cost what they do at the base point.
    """
    done = rows[rows.wall_s.notna()]
    done = done.assign(seconds=done.wall_s / done.prompts, token_forwards=done.apply(token_forwards, axis=1))
    table = done.groupby(["axis", "arm", "value"], as_index=False).agg(
        seconds=("seconds", "median"),
        low=("seconds", "min"),
        high=("seconds", "max"),
        token_forwards=("token_forwards", "median"),
    )
    base = table[table.value == table.axis.map(base_point(rows))].drop_duplicates("arm").set_index("arm")
    table = table.sort_values("axis", key=lambda axes: axes.map(list(AXES).index), kind="stable", ignore_index=True)
    return table.assign(formula=table.token_forwards * table.arm.map(base.seconds / base.token_forwards))


def token_forwards(row: pd.Series) -> float:
    """Token-forwards per prompt by `lib.metrics.predictions`; those of trees have no formula in N, P and L alone: P
    plus the sum of their live prefixes D_t over steps 1 to L-1, which is measured.
    """
    size = row.prompt_tokens, row.max_new_tokens, row.num_samples
    if row.arm in ("naive", "hf"):
        return predictions.naive(*size).tokens
    if row.arm in ("batched", "bifurcated"):
        return predictions.batched(*size).tokens
    return row.prompt_tokens + row.decode_tokens / row.prompts


def base_point(rows: pd.DataFrame) -> dict[str, int]:
    """The sizes around which one is varied: what each has on the axes of the others."""
    return {axis: int(rows[rows.axis != axis][size].mode().iloc[0]) for axis, size in SIZES.items()}


def skipped(rows: pd.DataFrame) -> dict[tuple[str, str], list[str]]:
    """(axis, arm) -> values that the time budget left no pass for."""
    lost = rows[rows.wall_s.isna()].sort_values("value").groupby(["axis", "arm"]).value
    return {key: [str(value) for value in values] for key, values in lost}


def _panel(ax: Axes, table: pd.DataFrame, looks: dict[str, dict[str, object]]) -> None:
    for arm in (arm for arm in looks if arm in set(table.arm)):
        part, look = table[table.arm == arm], looks[arm]
        ax.plot(part.value, part.seconds, ms=3.5, lw=1, label=arm, **look)
        ax.vlines(part.value, part.low, part.high, lw=0.7, color=look["color"])
        if arm in FORMULAS:
            ax.plot(part.value, part.formula, ls="--", lw=0.7, color=look["color"], label=f"{arm} formula")


def _ticks(ax: Axes, values: pd.Series) -> None:
    """Ticks at the measured values, every other one where they are many."""
    ticks = sorted(set(values))
    ax.xaxis.set(major_locator=FixedLocator(ticks), minor_locator=NullLocator())
    shown = ticks if len(ticks) < 7 else ticks[::2]
    names = {x: f"{x / 1000:g}k" if x >= 1000 else f"{x:g}" for x in shown}
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: names.get(round(x), "")))


def gains(table: pd.DataFrame) -> dict[str, pd.Series]:
    """axis -> speedup of tree over batched by value, ascending, where both were measured; from `medians`."""
    wide = table.pivot_table(index=["axis", "value"], columns="arm", values="seconds")
    ratio = wide.reindex(columns=["batched", "tree"]).eval("batched / tree").dropna()
    return {axis: ratio[axis] for axis in AXES if axis in ratio.index.get_level_values("axis")}


def crossovers(table: pd.DataFrame) -> dict[str, float]:
    """axis -> the smallest measured value at which tree is faster than batched; NaN where it never is."""
    return {axis: float(min(ratio.index[ratio > 1], default=float("nan"))) for axis, ratio in gains(table).items()}


def _gains(table: pd.DataFrame) -> str:
    """Where the tree's gain over batched begins, and its factor at the ends of each axis."""
    first = crossovers(table)
    said = [
        f"{axis} {_from(ratio, first[axis])} ({ratio.iloc[0]:.2f} at {ratio.index[0]}, {ratio.iloc[-1]:.2f} at "
        f"{ratio.index[-1]})"
        for axis, ratio in gains(table).items()
    ]
    if not said:
        return ""
    return (
        "Smallest measured value at which tree is faster than batched, with its speedup over batched at the ends of "
        f"the axis: {'; '.join(said)}. "
    )


def _from(ratio: pd.Series, first: float) -> str:
    """Where tree starts to be faster; and the larger values, if any, at which it is not."""
    if first != first:  # NaN
        return "none"
    back = [str(value) for value in ratio.index[(ratio.index > first) & (ratio <= 1)]]
    return f"= {first:g}" + (f", but not at {', '.join(back)}" if back else "")


def _passes(rows: pd.DataFrame) -> str:
    most = int(rows.repeat.max()) + 1
    return "one pass" if most == 1 else f"medians over up to {most} passes"


def _drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows, if every axis is among them and some arm was timed at the base point; else Undrawable."""
    if set(AXES) <= set(rows.get("axis", ())):
        timed = rows[rows.wall_s.notna()]
        if (timed.value == timed.axis.map(base_point(rows))).any():
            return rows
    raise Undrawable(
        "The newest run of bench/growth holds no timed pass at the point around which sizes are varied: run 'python -m "
        "lib.bench growth' again."
    )


def _caption(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    base, first = base_point(rows), rows.iloc[0]
    lost = "; ".join(f"{arm} at {axis} = {', '.join(values)}" for (axis, arm), values in skipped(rows).items())
    return (
        f"Seconds per prompt on {first.model}, one quantity varied at a time around N = {base['N']} samples, P = "
        f"{base['P']} prompt tokens, L = {base['L']} new tokens and one prompt; {_passes(rows)} of "
        "one prompt set, in shuffled order after a first one of each arm at the base point, bars from fastest to "
        "slowest. Dashed: the formula for token-forwards (naive N(P+L-1), batched P+N(L-1), tree P plus its measured "
        "live prefixes), scaled to the measurement at the base point. A line above its dashes costs more per "
        "token-forward than at the base point, a line below them less: forward calls have a price of their own, which "
        "more tokens per call spread thinner, and attention costs more the longer the context. Stop ids are off, so "
        "lengths are exact. Prompts longer than the model's context keep its weights and raise its limit only: a "
        "forward's cost does not depend on the text; a tree's live prefixes do, and are measured. "
        f"{_gains(table)}{f'Not measured, to keep to the time budget: {lost}.' if lost else ''}"
    )
