"""How figures look, and how they are put on disk: one size, one palette, PDF + PNG + CSV + caption."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter, NullLocator

from lib.figures import Drawn, Tabled

COLUMN, TEXT = 3.25, 6.75  # inches: a column and the full width of a two-column page
MARKERS = "osD^vP*Xph"
HALO = [withStroke(linewidth=1.5, foreground="white")]  # path effect of a text that may stand on lines


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


def save(made: Drawn | Tabled, name: str, folder: Path, source: str) -> list[Path]:
    """Write a figure's name.pdf, .png, .csv and .txt into `folder`, its own files and the copies of its PNG; or a
    table's name.md and .csv. The same input gives the same bytes. Closes the figure.

    `source` (commit and run folders) goes into the metadata of the PDF and PNG, under the caption, and under the table.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return (_save_table if isinstance(made, Tabled) else _save_figure)(made, folder / name, source)


def _save_figure(drawn: Drawn, stem: Path, source: str) -> list[Path]:
    pdf, png, csv, txt = targets = [stem.with_name(f"{stem.name}.{ending}") for ending in ("pdf", "png", "csv", "txt")]
    drawn.figure.savefig(png, dpi=300, metadata={"Title": stem.name, "Description": source, "Software": None})
    drawn.figure.set_layout_engine("none")  # the layout is done, and takes longer than the drawing
    drawn.figure.savefig(pdf, metadata={"Title": stem.name, "Keywords": source, "CreationDate": None, "ModDate": None})
    drawn.data.to_csv(csv, index=False)
    txt.write_text(f"{drawn.caption}\n\n{source}\n", encoding="utf-8")
    mpl.pyplot.close(drawn.figure)
    return [*targets, *_beside(drawn, png)]


def _save_table(table: Tabled, stem: Path, source: str) -> list[Path]:
    md, csv = stem.with_name(f"{stem.name}.md"), stem.with_name(f"{stem.name}.csv")
    table.data.to_csv(csv, index=False)
    parts = [table.caption, markdown(table.data), table.reading, f"*{source}*"]
    md.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return [md, csv]


def markdown(data: pd.DataFrame) -> str:
    """A table in Markdown, numbers to the right and in four digits; what is not known is empty."""
    rule = ["---:" if pd.api.types.is_numeric_dtype(kind) else "---" for kind in data.dtypes]
    lines = [[_cell(value) for value in row] for row in data.itertuples(index=False)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (data.columns, rule, *lines))


def _cell(value: object) -> str:
    if pd.isna(value):
        return ""
    if isinstance(value, float):  # numpy's too
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def said(estimate: float, low: float, high: float, form: str = ".1f") -> str:
    """An estimate with its 95 % interval, where it has one, for a sentence."""
    return f"{estimate:{form}}" + ("" if np.isnan(low) else f" ({low:{form}} to {high:{form}})")


def _beside(drawn: Drawn, png: Path) -> list[Path]:
    """Write the texts that come with a figure and copy its PNG under the further names."""
    texts = {png.with_name(name): text.encode() for name, text in drawn.files.items()}
    images = {png.with_name(name): png.read_bytes() for name in drawn.copies}
    for path, content in (texts | images).items():
        path.write_bytes(content)
    return [*texts, *images]
