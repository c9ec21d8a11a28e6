"""Parameters of the benchmark of the sweep itself, whose cells do nothing."""

from pydantic import Field

from lib.params.base import Params


class Sweep(Params):
    """How much book-keeping is timed; `seed` tells its cells apart."""

    cells: int = Field(1000, ge=1, description="cells that the timed sweep runs")
    runs: int = Field(10_000, ge=1, description="finished runs that are loaded")
