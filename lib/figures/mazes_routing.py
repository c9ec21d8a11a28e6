"""What PoH's routing does: how evenly its weights are spread over heads, and how much the heads differ in use.

Heads have no names that two seeds would share (permute them and the model is the same), so a mean over seeds of "head
2" means nothing. Each model's heads are ranked by their share first; means are over heads of the same rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from lib.figures import Drawn, Undrawable, mazes, style
from lib.metrics import paired

EXPERIMENT = mazes.EXPERIMENT


def routing(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Drawn:
    """Left: routing entropy per refinement, a line per size. Right: share of each head at R, ranked, 1 = even."""
    part, trained = _routed(rows), paired.setting(rows).R
    entropy = mazes.over_seeds(part, "routing_entropy", ["refinement"])
    shares = mazes.over_seeds(head_shares(part[part.refinement == trained]), "share", ["rank"])
    looks = _looks(mazes.sizes(part))
    figure, (left, right) = style.new(style.TEXT, 3.0, columns=2)
    mazes.beyond(left, trained, entropy.refinement.max())
    _lines(left, entropy, "refinement", looks)
    _lines(right, shares, "rank", looks)
    left.set(xlabel="refinement", ylabel="routing entropy (share of ln n_heads)", ylim=(0, 1.05))
    right.set(xlabel="head, ranked by its share within each model", ylabel="weight (1 = as if even)")
    right.set_ylim(0, 1.1 * max(1, np.nanmax(shares[["estimate", "high"]].to_numpy(float))))
    left.set_title(f"spread of the weights; {mazes.replicates(entropy)}", loc="left", fontsize=7)
    right.set_title(f"use of the heads at R = {trained}; {mazes.replicates(entropy)}", loc="left", fontsize=7)
    handles = [*left.get_legend_handles_labels()[0], Patch(color=mazes.BEYOND["color"], label="beyond R")]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False)
    gaps = _gaps(rows, part, missing)
    style.note(figure, gaps, [])
    data = [entropy.assign(measure="routing_entropy"), shares.assign(measure="head_weight")]
    return Drawn(figure, pd.concat(data, ignore_index=True), _caption(rows, entropy, gaps))


FIGURES = {"3a_routing": routing}


def head_shares(part: pd.DataFrame) -> pd.DataFrame:
    """Every head of every model with its `rank` (1: the most used) and `share`, in shares of an even distribution."""
    long = (
        part.assign(share=[len(s) * np.sort(s)[::-1] for s in part.head_share])
        .explode("share")
        .astype({"share": float})
    )
    return long.assign(rank=long.groupby(["size", "arch", "seed"]).cumcount() + 1)


def _routed(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows per refinement of models that route."""
    part = mazes.protocol(rows, "refinement").astype({"refinement": int})
    part = part[part.routing_entropy.notna()] if "routing_entropy" in part else part[:0]
    if part.empty:
        raise Undrawable(
            "No model among the runs routes over heads (arm poh), which this figure is about: run the sweep with poh "
            "among its arms."
        )
    return part


def _looks(sizes: Sequence[str]) -> dict[str, dict[str, object]]:
    """Darker and another marker the larger the size: arms have the other colours."""
    colours = sns.color_palette("flare", len(sizes))
    return {s: {"color": c, "marker": m} for s, c, m in zip(sizes, colours, style.MARKERS, strict=False)}


def _lines(ax: Axes, table: pd.DataFrame, x: str, looks: dict[str, dict[str, object]]) -> None:
    """A line per size, and where even weights lie."""
    ax.axhline(1, color="0.6", lw=0.6, zorder=0)
    for size, line in table.groupby("size", sort=False):
        mazes.points(ax, line[x], line, looks[size], label=size)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))


def _gaps(rows: pd.DataFrame, part: pd.DataFrame, missing: Sequence[str]) -> list[str]:
    """Cells without a finished run, and sizes of other arms that have no poh."""
    order = mazes.sizes(paired.of_setting(rows))
    return [*missing, *(f"poh ({size})" for size in order if size not in set(part["size"]))]


def _caption(rows: pd.DataFrame, table: pd.DataFrame, gaps: Sequence[str]) -> str:
    return (
        "Left: entropy of poh's weights over heads, averaged over blocks, cells and test mazes, as a share of its "
        "largest value, ln n_heads: at 1 every head counts alike, at 0 one head alone is used; beyond R (grey), "
        "refinements that were not trained. Right: the heads' mean weights at the last trained refinement in shares of "
        "an even distribution, heads ranked within each model because heads of two seeds have nothing in common. "
        "An even mean can hide cells that choose differently; the entropy tells. "
        f"{mazes.seeds_sentence(table)}{mazes.setting_sentence(rows)}{style.missing_sentence(gaps)}"
    )
