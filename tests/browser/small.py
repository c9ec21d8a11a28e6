"""The smallest parameters of each notebook, as text for its parameters cell."""

from lib import notebooks, paths, presets
from lib.params import EXPERIMENTS

NOTEBOOKS = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
TOUR = {"model": "ladder-micro", "draft_model": "ladder-micro", "mazes": "micro", "bridge": "micro/1a_stable_4tok"}
PAGES = {"00_start": TOUR}  # notebooks that are no experiment; others are small as they are


def parameters(name: str, **changed: object) -> str:
    """The parameters cell of a notebook with the smallest values, then `changed`, in lines of their own at its end."""
    (source,) = notebooks.code_cells(paths.NOTEBOOKS / f"{name}.ipynb", "parameters")
    values = presets.cells(name, "micro")[0].params if name in EXPERIMENTS else PAGES.get(name, {})
    return "\n".join([source, *(f"{key} = {value!r}" for key, value in {**values, **changed}.items())])
