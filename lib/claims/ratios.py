"""The test behind every claim that something is faster, or smaller, than something else: ratios within a replicate.

Their logarithms are tested, by the test that the interval shows; it knows of skewed times (`lib.metrics.contrasts`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.claims import Finding, evidence
from lib.claims.power import percent
from lib.metrics import stats
from lib.metrics.contrasts import contrast

EXPECTED = f"above 1×; less than {percent(stats.FLAT):.0f} % counts as none"


def above_one(
    logs: np.ndarray, source: pd.DataFrame, statistic: str, remark: str, replicate: str = "prompt"
) -> Finding:
    """Whether log2 ratios [n] have a mean above zero; `source`: the rows they were made of.

    Against: it is less than what counts, by a one-sided test.
    """
    measured = contrast(logs[None], np.ones(1))
    mean, low, high = (float(2**value) for value in measured.interval())
    return Finding(
        statistic=statistic,
        unit="×",
        estimate=mean,
        low=low,
        high=high,
        matters=stats.FLAT,
        remark=remark,
        replicate=replicate,
        errors=measured.errors,
        **evidence(source, logs, min(1.0, 2 * measured.above(0.0)), measured.below(stats.FLAT)),
    )
