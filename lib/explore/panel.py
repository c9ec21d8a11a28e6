"""The page: dropdowns in front of a picture and a table, or both alone where nobody is there to choose."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pandas as pd
from IPython.display import Image, display

from lib import lab
from lib.explore import table
from lib.explore.picture import picture
from lib.explore.table import ALL, Choice
from lib.params import EXPERIMENTS

DIGITS = 4


def show(
    experiment: str = "",
    protocol: str = "",
    x: str = "",
    y: str = "",
    hue: str = "",
    preset: str = "",
    runs_dir: str = "",
) -> None:
    """Show `y` over `x` by `hue` of an experiment's runs; what is empty is suggested.

    Says in one sentence what to run where no run is finished. ParameterError for a name that nothing has.
    """
    known = table.experiments(runs_dir or None)
    if not known:
        first = next(iter(EXPERIMENTS))
        lab.say(
            "No experiment has a finished run yet: run `make demo` for all of them, or "
            f"`python -m lib.sweep {first} --preset quick` for one, and then this notebook again."
        )
        return
    experiment = experiment or known[0]
    rows = table.read(experiment, preset, runs_dir or None)
    choice = table.choose(experiment, rows, protocol, x, y, hue)
    if lab.live():
        Panel(known, experiment, rows, choice, preset, runs_dir).show()
    else:
        display(*_output(experiment, rows, choice))


def _output(experiment: str, rows: pd.DataFrame, choice: Choice) -> tuple[Image, pd.DataFrame]:
    """The picture and the table of a choice."""
    values = table.replicates(rows, choice)
    medians = table.medians(values)
    drawn = lab.picture(picture(values, medians, choice), f"{experiment}: {choice.y} over {choice.x}")
    named = medians.rename(columns={"x": choice.x, "hue": f"by {choice.hue}", "median": f"median {choice.y}"})
    return drawn, named.round(DIGITS)


class Panel:
    """Dropdowns that depend on each other: the experiment decides the kinds of rows, these the columns."""

    def __init__(
        self, known: list[str], experiment: str, rows: pd.DataFrame, choice: Choice, preset: str, runs_dir: str
    ) -> None:
        import ipywidgets

        self._rows, self._preset, self._runs_dir = rows, preset, runs_dir
        self._experiment = ipywidgets.Dropdown(options=known, value=experiment, description="experiment")
        self._runs = ipywidgets.SelectMultiple(description="runs", rows=4, layout={"width": "36em"})
        self._fields = {name: ipywidgets.Dropdown(description=name) for name in ("protocol", "x", "y", "hue")}
        chosen = ipywidgets.HBox(list(self._fields.values()), layout={"flex_flow": "row wrap"})  # in narrow windows
        self._box = ipywidgets.VBox([ipywidgets.HBox([self._experiment, self._runs]), chosen])
        self._fill(choice, new_rows=True)
        self._experiment.observe(self._other_experiment, names="value")
        self._runs.observe(self._redraw, names="value")
        self._fields["protocol"].observe(self._other_protocol, names="value")
        for name in ("x", "y", "hue"):
            self._fields[name].observe(self._redraw, names="value")

    def show(self) -> None:
        """Display everything once; later changes replace picture and table where they stand."""
        made = _output(self._experiment.value, self._rows, self._choice())
        display(self._box)
        self._shown = [display(part, display_id=True) for part in made]

    def _choice(self) -> Choice:
        return Choice(**{name: field.value for name, field in self._fields.items()})

    def _fill(self, choice: Choice, new_rows: bool = False) -> None:
        """Offer what the rows have, with `choice` chosen."""
        part = table.of_protocol(self._rows, choice.protocol)
        offered = {
            "protocol": table.protocols(self._rows),
            "x": list(part),
            "y": table.numeric(part),
            "hue": [ALL, *part],
        }
        self._quietly(lambda: [_offer(f, offered[name], getattr(choice, name)) for name, f in self._fields.items()])
        if new_rows:
            names = list(self._rows.run.unique())
            self._quietly(lambda: _offer(self._runs, names, names))

    def _quietly(self, change: Callable[[], Any]) -> None:
        """Change fields without drawing after each."""
        self._busy = True
        try:
            change()
        finally:
            self._busy = False

    def _other_experiment(self, change: dict[str, Any]) -> None:
        self._rows = table.read(change["new"], self._preset, self._runs_dir or None)
        self._fill(table.choose(change["new"], self._rows), new_rows=True)
        self._redraw()

    def _other_protocol(self, change: dict[str, Any]) -> None:
        if not self._busy:
            self._fill(table.choose(self._experiment.value, self._rows, change["new"]))
            self._redraw()

    def _redraw(self, _change: dict[str, Any] | None = None) -> None:
        if self._busy:
            return
        rows = self._rows[self._rows.run.isin(self._runs.value or self._runs.options)]
        for shown, part in zip(self._shown, _output(self._experiment.value, rows, self._choice()), strict=True):
            shown.update(part)


def _offer(field: Any, options: Iterable[str], value: Any) -> None:
    field.options = list(options)
    field.value = value
