"""Claims that a number decides by itself: counted in runs, or calculated from a plan's tables and a model's dimensions.

No chance is in such a number, so there is no interval and no p-value, and it says nothing of how fast anything is.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.claims import Finding

TOLERANCE = 0.1  # of a number that a plan gives as "about": its own roundings are within it


def near(value: float, stated: float) -> bool:
    """Whether a number is what a plan says it is about."""
    return abs(value / stated - 1) <= TOLERANCE


def counted(
    value: float, holds: bool, statistic: str, unit: str, remark: str = "", source: pd.DataFrame | None = None
) -> Finding:
    """A number that decides outright; `source`: the rows it was counted in, None where no run is needed for it."""
    return Finding(
        statistic=statistic,
        unit=unit,
        estimate=value,
        low=-np.inf,
        high=np.inf,
        n=1,
        p_supports=float(not holds),
        p_refutes=float(holds),
        spread=0.0,
        matters=0.0,
        runs=() if source is None else tuple(sorted(set(source.run))),
        stale=source is not None and bool(source.stale.any()),
        remark=remark,
        replicate="count",
        enough=1,
        exact=True,
    )
