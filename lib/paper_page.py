"""What the paper notebook shows: the figures and tables, made anew from the runs, in the order it asks for them.

They are the files in figures/ themselves, so the notebook and `python -m lib.figures` cannot differ.
"""

from __future__ import annotations

from html import escape

from IPython.display import Image, Markdown, display

from lib import figures, lab, paper, paths
from lib.params import ParameterError

PIXELS = 150  # of a figure's 300 per inch that are shown per inch: half, for screens that have twice as many


class Paper:
    """Everything that the runs of a preset have to show, and why the rest is missing."""

    def __init__(self, preset: str = "", runs_dir: str = "") -> None:
        """Make every figure and table; parameters as the notebook's.

        ParameterError where a preset was asked for that no experiment has a run of.
        """
        known = figures.specs()
        found = paper.sources([spec.experiment for spec in known.values()], preset, runs_dir=runs_dir or None)
        made = paper.make(list(known), found, paths.FIGURES)
        self._made = {one.name: one for one in made}
        asked = [one for one in made if not known[one.name].experiment.startswith(paper.BENCH)]
        if preset and all(one.reason for one in asked):
            raise ParameterError(asked[0].reason)

    def show(self, *names: str) -> None:
        """Show figures with their captions, and tables with what came out; of those missing, say once why."""
        missing: dict[str, list[str]] = {}
        for name in names:
            one = self._made[name]
            if one.reason:
                missing.setdefault(one.reason, []).append(name)
            else:
                (_table if one.files[0].suffix == ".md" else _figure)(one)
        for reason, without in missing.items():
            lab.say(f"*Not here: {', '.join(without)}.* {reason}")


def _figure(one: paper.Made) -> None:
    png, txt = (next(path for path in one.files if path.suffix == ending) for ending in (".png", ".txt"))
    caption = txt.read_text(encoding="utf-8").split("\n\n")[0]
    display(Image(png.read_bytes(), format="png", retina=False, width=_width(png.read_bytes()), alt=one.name))
    display(
        {
            "text/html": f"<p><b>{one.name}</b> ({one.origin}). {escape(caption, quote=False)}</p>",
            "text/plain": caption,
        },
        raw=True,
    )


def _width(png: bytes) -> int:
    """Pixels across at which a PNG is shown: its header has its own."""
    return int.from_bytes(png[16:20], "big") * PIXELS // 300


def _table(one: paper.Made) -> None:
    caption, table, reading, _ = one.files[0].read_text(encoding="utf-8").split("\n\n")
    display(
        Markdown(
            f"**{one.name}** ({one.origin}). {escape(caption, quote=False)}\n\n{table}\n\n**What came out.** {reading}"
        )
    )
