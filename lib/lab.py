"""What a notebook shows with controls where somebody sits in front of it, and as pictures where nobody does.

JupyterLab, and what is built on it, names the cell with every request to run one; papermill and nbconvert do not. So a
notebook executed without a front end holds still pictures alone, which anything can show. A live picture is an ordinary
output that the control replaces: a notebook saved with it still shows the last one when it is opened without a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, TypeVar

from IPython import get_ipython
from IPython.display import Image, Markdown, display

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 200  # twice what a page shows, for screens that have it
T = TypeVar("T")


def live() -> bool:
    """Whether the cell that is running was run from a page that shows controls."""
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel is not None and "cellId" in kernel.get_parent("shell").get("metadata", {})


def picture(figure: Figure, says: str) -> Image:
    """A figure as a picture at its own size, with `says` for those who cannot see it; closes the figure."""
    from matplotlib import pyplot

    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    pyplot.close(figure)
    return Image(buffer.getvalue(), format="png", retina=True, alt=says)


def say(text: str) -> None:
    """Show a sentence about the run at hand as the prose around it is shown."""
    display(Markdown(text))


def steps(
    draw: Callable[[T], Figure],
    values: Sequence[T],
    start: T,
    label: str,
    strip: Callable[[], Figure] | None = None,
) -> None:
    """Show draw(value) for one of `values`, `start` at first, with a slider; without a front end, one still picture.

    The still picture is that of `start`, or what `strip` draws, where a strip of all steps says more. `draw` is called
    once for each value that somebody looks at.
    """
    if not live():
        display(picture(strip() if strip else draw(start), f"{label}: {start}"))
        return
    import ipywidgets

    drawn = cache(lambda value: picture(draw(value), f"{label}: {value}"))
    slider = ipywidgets.SelectionSlider(
        options=[(str(value), value) for value in values],
        value=start,
        description=label,
        layout={"width": "36em"},
        style={"description_width": "initial"},
    )
    display(slider)
    shown = display(drawn(start), display_id=True)
    slider.observe(lambda change: shown.update(drawn(change["new"])), names="value")
