"""The table of 4a: what the target answers from the message alone, beside every way of telling it the question."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.figures import Tabled, bridge, bridge_captions, bridge_controls, style

EXPERIMENT = bridge.EXPERIMENT


def table(rows: pd.DataFrame, missing: Sequence[str] = ()) -> Tabled:
    """A row per task and arm; the bridge is the best configuration that the plan names."""
    part = bridge.arms(rows)
    data = bridge_controls.accuracies(part).rename(columns={"estimate": "accuracy"})
    caption = (
        "Percent of test items answered right, the bridge as its configuration (label) keeps and decodes it; commonest "
        "is what always giving the commonest answer reaches. Intervals of one seed, and of arms without a bridge (0 "
        f"seeds), are over items. {bridge_captions.seeds_sentence(data)}{bridge_captions.pair_sentence(part, rows)}"
        f"{style.missing_sentence(missing)}"
    )
    return Tabled(data, caption, " ".join(_reading(task, own) for task, own in data.groupby("task", sort=False)))


TABLES = {"4a_table": table}


def _reading(task: str, own: pd.DataFrame) -> str:
    plain = own[own["kind"] == ""].set_index("arm")
    destroyed = plain[plain.index.isin(bridge_controls.MESSAGES)].accuracy
    texts = {"target_alone": "from the text", bridge.FLOOR: "from a tuned prompt alone"}
    said = [f"{_said(plain.loc[arm])} % {how}" for arm, how in texts.items() if arm in plain.index]
    if len(destroyed):
        said.append(f"at most {destroyed.max():.1f} % from a destroyed message ({destroyed.idxmax()})")
    return f"{task}: the target solves {_said(plain.loc['bridged'])} % from the message alone ({'; '.join(said)})."


def _said(row: pd.Series) -> str:
    return style.said(row.accuracy, row.low, row.high)
