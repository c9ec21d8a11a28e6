"""How figures look, and how they are put on disk: one size, one palette, PDF + PNG + CSV + caption."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lib.figures import Drawn

COLUMN, TEXT = 3.25, 6.75  # inches: a column and the full width of a two-column page
MARKERS = "osD^vP*Xph"


def new(width: float, height: float, columns: int = 1, rows: int = 1, **options: object) -> tuple[Figure, list[Axes]]:
    """A figure at its final size in inches, and its axes row by row."""
    sns.set_theme(context="paper", style="ticks", palette="colorblind")
    mpl.rcParams |= {
        "font.size": 8,
        "axes.labelsize": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 7,
        "legend.title_fontsize": 7,
        "xtick.labelsize": 7,
        "ytick.labelsize": 7,
        "pdf.fonttype": 42,  # outlines as TrueType: venues refuse Type 3
        "ps.fonttype": 42,
        "svg.hashsalt": "recount",
    }
    figure, axes = mpl.pyplot.subplots(
        rows, columns, figsize=(width, height), squeeze=False, layout="constrained", **options
    )
    sns.despine(figure)
    return figure, list(axes.flat)


def grid(count: int, height: float, most: int = 4, **options: object) -> tuple[Figure, list[Axes]]:
    """`count` panels of `height` inches in rows of at most `most`, at full width; the panels beyond are taken away."""
    lines = -(-count // most)
    columns = -(-count // lines)
    figure, axes = new(TEXT, height * lines + 0.5, columns, lines, **options)
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


def arm_styles(arms: Sequence[str]) -> dict[str, dict[str, object]]:
    """Colour and marker of each arm, by its place in the list (so give every panel the same list)."""
    colours = sns.color_palette("colorblind")
    colours[8] = (0.1, 0.1, 0.1)  # near black for the palette's yellow, which a thin line on white loses
    palette = cycle(colours)
    return {a: {"color": c, "marker": m} for a, c, m in zip(arms, palette, cycle(MARKERS))}


def legend_below(figure: Figure, ax: Axes, columns: int, title: str | None = None) -> None:
    """One legend for the whole figure, under its axes."""
    figure.legend(
        *ax.get_legend_handles_labels(), loc="outside lower center", ncols=columns, frameon=False, title=title
    )


def note(figure: Figure, missing: Sequence[str], dummies: Sequence[str]) -> None:
    """Say on the figure itself which grid cells have no finished run, and which models have random weights."""
    notes = [f"No finished run: {', '.join(missing)}"] if missing else []
    notes += [f"Random weights, cost only: {', '.join(dummies)}"] if dummies else []
    if notes:
        figure.suptitle("\n".join(notes), fontsize=7, color="firebrick")


def missing_sentence(missing: Sequence[str]) -> str:
    """The same for a caption."""
    return f"Missing, because no finished run was found: {', '.join(missing)}." if missing else ""


def dummies(rows: pd.DataFrame) -> list[str]:
    """Models among the rows whose weights are random."""
    return sorted(set(rows[rows.dummy.astype(bool)].model))


def short_name(model: str) -> str:
    """ladder-160k -> 160k, Qwen/Qwen2.5-7B-Instruct -> 7B, meta-llama/Llama-3.2-1B-Instruct -> 3.2-1B."""
    return model.rsplit("/", 1)[-1].removesuffix("-Instruct").split("-", 1)[-1]


def times_ticks(ax: Axes, axis: str = "y") -> None:
    """Tick a log axis of speedups at round factors."""
    scale = getattr(ax, f"{axis}axis")
    scale.set(
        major_locator=FixedLocator([0.25, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32]), minor_locator=NullLocator()
    )
    scale.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    scale.set_minor_formatter(NullFormatter())


def save(drawn: Drawn, name: str, folder: Path, source: str) -> list[Path]:
    """Write name.pdf, .png, .csv and .txt into `folder`, then the figure's own files and the copies of its PNG; the
    same input gives the same bytes. Closes the figure.

    `source` (commit and run folders) goes into the metadata of the PDF and PNG and under the caption.
    """
    folder.mkdir(parents=True, exist_ok=True)
    targets = [folder / f"{name}.{ending}" for ending in ("pdf", "png", "csv", "txt")]
    drawn.figure.savefig(
        targets[0], metadata={"Title": name, "Keywords": source, "CreationDate": None, "ModDate": None}
    )
    drawn.figure.savefig(targets[1], dpi=300, metadata={"Title": name, "Description": source, "Software": None})
    drawn.data.to_csv(targets[2], index=False)
    targets[3].write_text(f"{drawn.caption}\n\n{source}\n", encoding="utf-8")
    mpl.pyplot.close(drawn.figure)
    return [*targets, *_beside(drawn, targets[1])]


def _beside(drawn: Drawn, png: Path) -> list[Path]:
    """Write the texts that come with a figure and copy its PNG under the further names."""
    texts = {png.with_name(name): text.encode() for name, text in drawn.files.items()}
    images = {png.with_name(name): png.read_bytes() for name in drawn.copies}
    for path, content in (texts | images).items():
        path.write_bytes(content)
    return [*texts, *images]
