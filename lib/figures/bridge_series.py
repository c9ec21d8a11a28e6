"""Which configurations make up the study of soft tokens: four series that share one reference, the plan's best.

The plan's own configurations change width, depth and heads with the number of tokens. So beside them stand series in
which the architecture is kept, or the number of parameters, or the size of the message.
"""

from __future__ import annotations

import pandas as pd

from lib.figures import bridge

PLAN, ARCHITECTURE, PARAMETERS, MESSAGE = (
    "the plan's configurations",
    "same architecture",
    "same parameters",
    "same message size",
)
SERIES = (PLAN, ARCHITECTURE, PARAMETERS, MESSAGE)
LABELS = ("1a_", "2a_", "2b_", "2c_")  # of the plan's configurations
BODY = ["bottleneck", "depth", "heads", "ffn"]
CLOSE = 0.01  # relative difference of parameters that are called the same


def members(part: pd.DataFrame, own: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of each series among trained bridges of `own`'s task, with all fixes; `own`: the reference's rows.

    Series of a single number of tokens are left out, save the plan's where it is alone.
    """
    first = own.iloc[0]
    pool = part[(part.task == first.task) & (part.stressor == "") & (part.kind == first["kind"])]
    pool = pool[bridge.all_fixes(pool) == bridge.all_fixes(first)]
    found = {PLAN: pool[pool.label.str.startswith(LABELS)]} | _controlled(pool, first)
    several = {name: rows for name, rows in found.items() if rows.soft_tokens.nunique() > 1}
    return several or {PLAN: own}


def _controlled(pool: pd.DataFrame, first: pd.Series) -> dict[str, pd.DataFrame]:
    """The series that keep something but the number of tokens; the reference is in each."""
    recipe = [*bridge.RECIPE, "info_nce", "distill"]
    pool = pool[(pool[recipe] == first[recipe]).all(axis=1)]
    body = (pool[BODY] == first[BODY]).all(axis=1)
    wire = pool.wire_dim == first.wire_dim
    reference = body & wire & (pool.soft_tokens == first.soft_tokens)
    close = (pool.parameters / first.parameters - 1).abs() <= CLOSE
    size = pool.soft_tokens * pool.wire_dim == first.soft_tokens * first.wire_dim
    return {
        ARCHITECTURE: pool[body & wire],
        PARAMETERS: pool[(~body & wire & close) | reference],
        MESSAGE: pool[(~wire & size) | reference],
    }
