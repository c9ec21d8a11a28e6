"""What the figures of 2a share: speedups paired with the baseline, how methods and backends look, panels, captions.

A speedup is within one engine: baseline's seconds per token over a method's, on the same request (or batch), of the
same backend and model, in the same run. Only where a run timed no baseline of its own is that of the other runs of
its backend and model taken, and the captions say so.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from scipy import optimize

from lib.figures import Undrawable, style
from lib.metrics import speculation, stats

EXPERIMENT = "2a_specdec"
BASELINE = "baseline"
VERIFY = "verify"  # arm of the rows that hold the cost of a forward of the target
METHODS = ("ngram", "eagle", "draft", "hybrid", "eagle3")  # fixes colours over all figures; others follow by name
BACKENDS = {"torch": "full", "transformers": "none", "vllm": "left"}  # how their markers are filled


def protocol(rows: pd.DataFrame, name: str, why: str) -> pd.DataFrame:
    """Rows of one protocol at the lowest temperature among them; Undrawable where there are none.

    `why` names what the rows hold, for the message. Sampled rows are left out where greedy ones exist: they accept
    by another rule, and one figure shows one rule.
    """
    part = rows[rows.protocol == name] if "protocol" in rows else rows
    if part.empty or "protocol" not in rows:
        raise Undrawable(
            f"The runs hold no rows of protocol {name!r} ({why}), which this figure is drawn from: run 'python -m "
            "lib.sweep 2a_specdec --preset standard' and draw that preset."
        )
    return part[part.temperature == part.temperature.min()] if part.get("temperature") is not None else part


def speedups(rows: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Every method beside its baseline: columns model, parameters, backend, arm, `by`, prompt, s_per_token and baseline
    (the method's and the baseline's, medians over repeats), ratio (above 1 is faster), and borrowed (the baseline is
    another run's). Undrawable where no method has a baseline.
    """
    found = []
    for _, engine in rows.groupby(["backend", "model", *by], sort=False):
        for run, own in engine.groupby("run", sort=False):
            borrowed = BASELINE not in set(own.arm)
            base = (engine if borrowed else own).query("arm == @BASELINE")
            if len(base) and set(own.arm) != {BASELINE}:
                table = stats.against(pd.concat([own[own.arm != BASELINE], base]), BASELINE, "s_per_token")
                same = {name: own[name].iloc[0] for name in ("backend", *by)}
                found.append(table[table.arm != BASELINE].assign(**same, borrowed=borrowed, run=run))
    if not found:
        raise Undrawable(
            "No drafting method was timed together with a baseline of its own engine, which a speedup needs: run the "
            "sweep without --skip method=baseline."
        )
    keys = ["model", "parameters", "protocol", "backend", "arm", *by, "prompt"]
    again = pd.concat(found).groupby(keys, as_index=False, sort=False)  # a request that several runs asked
    values = {name: (name, "median") for name in ("s_per_token", "baseline", "ratio")}
    return again.agg(**values, borrowed=("borrowed", "max"))


def summarise(pairs: pd.DataFrame, by: Sequence[str] = ()) -> pd.DataFrame:
    """Median over requests of `ratio`, one row per model, backend, arm and `by`: estimate, low, high, n.

    Rows are ordered by size, method and backend. Intervals of fewer than `stats.ENOUGH` requests are NaN.
    """
    parts = []
    for values, part in pairs.groupby(["backend", *by], sort=False):
        parts.append(stats.summarise(part).assign(**dict(zip(("backend", *by), values, strict=True))))
    table = pd.concat(parts, ignore_index=True)
    table.loc[table.n < stats.ENOUGH, ["low", "high"]] = np.nan
    rank = {arm: i for i, arm in enumerate(methods(table))}
    order = table.assign(rank=table.arm.map(rank)).sort_values(["parameters", "model", "rank", "backend", *by]).index
    return table.loc[order].drop(columns="protocol").reset_index(drop=True)


def costs(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of protocol "cost" with `seconds` in forwards of one token by the same run, so that runs can be pooled on a
    machine whose speed differs from one to the next. Undrawable where no run timed that forward.
    """
    cost = protocol(rows, "cost", "drafting and verifying timed apart")
    keys = ["run", "model", "backend"]
    one = cost[(cost.arm == VERIFY) & (cost.tokens == 1)].groupby(keys).seconds.median().rename("one").reset_index()
    if one.empty:
        raise Undrawable(
            "No run timed a forward of a single token, which costs are measured by: run the sweep again with the "
            "backend torch."
        )
    cost = cost.merge(one, on=keys)
    return cost.assign(seconds=cost.seconds / cost.one)


def curve(cost: pd.DataFrame, model: str, backend: str, arm: str, longest: int) -> speculation.Curve | None:
    """Cost by number of tokens: medians, made to rise; where the longest timed is below `longest`, as fitted to all.

    More tokens never cost less, but timings on a busy machine can say so, and an oracle would lose to waste; medians
    that fall are averaged (isotonic regression). None where fewer than two numbers of tokens were timed.
    """
    part = cost[(cost.model == model) & (cost.backend == backend) & (cost.arm == arm)]
    if part.tokens.nunique() < 2:
        return None
    if part.tokens.max() < longest:
        return speculation.fit(part.tokens, part.seconds)
    medians = part.groupby("tokens").seconds.agg(["median", "count"])
    rising = optimize.isotonic_regression(medians["median"].to_numpy(), weights=medians["count"].to_numpy(float)).x
    return speculation.measured(medians.index, rising)


def methods(rows: pd.DataFrame) -> list[str]:
    """The drafting methods among the rows' arms, in the order that fixes their colours."""
    found = set(rows.arm) - {BASELINE, VERIFY}
    return [arm for arm in METHODS if arm in found] + sorted(found - set(METHODS))


def looks(rows: pd.DataFrame) -> dict[str, dict[str, object]]:
    """Colour and marker of each method; those of `METHODS` look alike on every figure."""
    return style.arm_styles([*METHODS, *(arm for arm in methods(rows) if arm not in METHODS)])


def filled(backend: str, look: dict[str, object]) -> dict[str, object]:
    """A method's look with its marker filled as its backend is."""
    return look | {"fillstyle": BACKENDS.get(backend, "bottom"), "markerfacecoloralt": "white"}


def models(rows: pd.DataFrame) -> list[str]:
    """Models from small to large."""
    return rows.drop_duplicates("model").sort_values(["parameters", "model"]).model.tolist()


def first_backend(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of each model's first backend in the order of `BACKENDS`, where a figure has room for one."""
    order = [*BACKENDS, *sorted(set(rows.backend) - set(BACKENDS))]
    first = rows.backend.map(order.index).groupby(rows.model).transform("min")
    return rows[rows.backend.map(order.index) == first]


def name(model: str) -> str:
    """ladder-3m -> 3m; meta-llama/Meta-Llama-3-8B-Instruct -> Llama-3-8B: the family stays, sizes repeat over them."""
    return model.rsplit("/", 1)[-1].removesuffix("-Instruct").removeprefix("Meta-").removeprefix("ladder-")


def legend(
    figure: Figure,
    table: pd.DataFrame,
    extra: Sequence[Artist] = (),
    columns: int = 7,
    look: dict[str, dict[str, object]] | None = None,
    **line: object,
) -> None:
    """Methods, backends where there are several, and `extra`, in a legend under the axes; `line`: of the methods."""
    look = look or looks(table)
    handles = [Line2D([], [], ms=4, label=arm, **{"ls": "", **line}, **look[arm]) for arm in methods(table)]
    backends = sorted(set(table.backend))
    if len(backends) > 1:
        grey = {"color": "0.4", "marker": "o"}
        handles += [Line2D([], [], ms=4, ls="", label=b, **filled(b, grey)) for b in backends]
    handles += extra
    lines = -(-len(handles) // columns)
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines), frameon=False)


def requests(table: pd.DataFrame, what: str = "requests") -> str:
    """The smallest and largest n, in words."""
    low, high = int(table.n.min()), int(table.n.max())
    return f"{low} {what}" if low == high else f"{low} to {high} {what}"


def others(table: pd.DataFrame, shown: pd.DataFrame) -> str:
    """Backends that are in the plotted data only, in words."""
    left = sorted(set(table.backend) - set(shown.backend))
    return f"In the plotted data only: backend {', '.join(left)}. " if left else ""


def setting(rows: pd.DataFrame, pairs: pd.DataFrame | None = None) -> str:
    """What a caption says of engines, decoding, borrowed baselines and random weights."""
    text = f"Backend {', '.join(sorted(set(rows.backend)))}; {_decoding(rows)}. "
    if pairs is not None and pairs.borrowed.any():
        arms = ", ".join(methods(pairs[pairs.borrowed]))
        text += f"Timed against the baseline of another run of the same engine: {arms}. "
    dummies = style.dummies(rows)
    return text + (f"Random weights, cost only: {', '.join(dummies)}. " if dummies else "")


def _decoding(rows: pd.DataFrame) -> str:
    temperature = rows.temperature.min() if "temperature" in rows else 0
    said = ["greedy decoding" if temperature == 0 else f"temperature {temperature:g}"]
    if "num_speculative_tokens" in rows:
        said.append(f"num_speculative_tokens {_values(rows.num_speculative_tokens)}")
    if "max_new_tokens" in rows:
        said.append(f"up to {_values(rows.max_new_tokens)} new tokens")
    return ", ".join(said)


def _values(column: pd.Series) -> str:
    return "/".join(f"{value:g}" for value in sorted(set(column.dropna())))
