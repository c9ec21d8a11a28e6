"""What the figures of 4a share: which trainings are compared, values with intervals, names and looks.

Seeds are the replicates of a training: each has its own initial weights and order of the data, and all are judged on
the same test items of a task. So a point of several seeds is their mean with a t interval over them. What no bridge
takes part in has one value, and a bridge of one seed too: these have Wilson's interval over test items, which says
nothing of another seed.

A run is one configuration. Early stopping and decoding hygiene are crossed in after the training, so configurations
that differ in `patience` and `hygiene` alone hold the same training, which counts once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lib.figures import Undrawable
from lib.metrics import proportions, stats

EXPERIMENT = "4a_bridge"
WORLD = ["task", "source", "target"]
SHAPE = ["kind", "soft_tokens", "wire_dim", "bottleneck", "depth", "heads", "ffn"]
RUN = ["source_layer", "info_nce_start", "warmup", "clip"]  # parameters of a run that its rows need not repeat
RECIPE = ["reconstruct", "optimizer", "learning_rate", "steps", "batch_size", *RUN]
SETTING = [*WORLD, *SHAPE, *RECIPE, "stressor"]  # what trainings have in common whose losses are compared
TRAINING = [*SETTING, "info_nce", "distill"]
CONFIGURATION = [*TRAINING, "patience", "hygiene"]
NAMED = ("1a_", "2c_", "3a_")  # labels of the plan's best configuration: all fixes, most soft tokens
INTERVAL = ["estimate", "low", "high", "seeds", "items"]
PERCENTAGES = (
    "accuracy", "flexible", "em", "f1", "val_accuracy", "val_accuracy_hygiene", "peak", "final", "degradation",
    "test_accuracy",
)  # fmt: skip
HOLDS = {
    "curve": "evaluations in training",
    "stability": "peak and final accuracy of each training",
    "arm": "accuracy of each arm on the test items",
}
ARMS = {
    "target_alone": "target, reads the text",
    "prefix_text": "target, tuned prompt + text",
    "source_alone": "source, reads the text",
    "relay": "relay, source's answer as text",
    "truncated": "target, text cut to K tokens",
    "oracle": "oracle, target's embeddings",
    "bridged": "bridged, message only",
    "shuffled": "another item's message",
    "mean": "mean message",
    "zero": "zero message",
    "noise": "noise message",
    "constant": "tuned prompt, no message",
}
PER_TOKENS = ("truncated", "prefix_text", "constant", "oracle")  # arms that no bridge takes part in and K decides
CELLS = ("neither", "InfoNCE", "distillation", "InfoNCE + distillation")  # of the factorial of losses
TASKS = ("arithmetic", "gsm8k", "multihop", "hotpotqa")  # fixes order and colours
COLLAPSED = "firebrick"
FLOOR = "constant"  # the arm that says nothing of the question; chance is at least what it reaches
ALLOWED = 5.0  # points above it that a message without information may reach
BAND = {"color": "C3", "alpha": 0.12, "lw": 0}


def protocol(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one protocol, of each task's commonest pair of models, shares in percent, by run and seed.

    Undrawable without any.
    """
    part = rows[rows.protocol == name] if "protocol" in rows else rows[:0]
    if part.empty:
        raise Undrawable(
            f"The runs hold no rows of protocol {name!r} ({HOLDS[name]}), which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset standard' and draw that preset."
        )
    part = part[pd.MultiIndex.from_frame(part[WORLD]).isin(pairs(part))]
    part = part.sort_values(["run", "seed"], kind="stable", ignore_index=True)
    columns = [column for column in PERCENTAGES if column in part]
    shares = {column: 100 * part[column].astype(float) for column in columns}
    return part.assign(**shares, **{column: "" for column in RUN if column not in part})


def pairs(part: pd.DataFrame) -> list[tuple[str, str, str]]:
    """Each task with the source and target of most of its rows; of as many, the last by name."""
    counts = part.groupby(WORLD).size()
    return [max(own.index, key=lambda world: (counts[world], world)) for _, own in counts.groupby("task")]


def tasks(part: pd.DataFrame) -> list[str]:
    """Tasks among the rows, in the order that fixes their colours."""
    found = set(part.task)
    return [task for task in TASKS if task in found] + sorted(found - set(TASKS))


def arms(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of protocol "arm" of the tasks that have a bridged arm without a stressor; Undrawable without any."""
    part = protocol(rows, "arm")
    bridged = part[(part.arm == "bridged") & (part.stressor == "")]
    if bridged.empty:
        raise Undrawable(
            "No bridge was trained without a stressor among these runs, which this figure is drawn from: run "
            f"'python -m lib.sweep {EXPERIMENT} --preset standard' and draw that preset."
        )
    refuse_doubles(bridged, CONFIGURATION, ["checkpoint", "decode_hygiene"])
    return part[part.task.isin(bridged.task) & (part.stressor == "")]


def trainings(part: pd.DataFrame, keys: Sequence[str]) -> pd.DataFrame:
    """Every training once, told apart by `TRAINING` and seed; `keys`: the columns that tell one training's rows apart.

    Undrawable where a configuration was run twice: the figure could not say which of the two it shows.
    """
    refuse_doubles(part, CONFIGURATION, keys)
    return part.drop_duplicates([*TRAINING, "seed", *keys], keep="last")


def refuse_doubles(part: pd.DataFrame, columns: Sequence[str], keys: Sequence[str]) -> None:
    """Undrawable where two rows agree in `columns`, seed and `keys`."""
    doubles = part[part.duplicated([*columns, "seed", *keys])]
    if len(doubles):
        first = doubles.iloc[0]
        raise Undrawable(
            f"Configuration {first.label!r}, seed {first.seed:g}, was run more than once among these runs, in ways "
            "this figure does not tell apart: draw one preset with --preset, or one setting with --set."
        )


def factorial(part: pd.DataFrame) -> pd.DataFrame:
    """Trainings that differ in seed, InfoNCE and distillation alone, with `fixes` naming the losses that are on.

    Of several settings that with the most of the four cells, without a stressor if there is one, then with the most
    seeds and soft tokens; of several weights of a loss that of the most rows.
    """
    cell = (part.info_nce > 0) + 2 * (part.distill > 0)
    part = part.assign(fixes=cell.map(dict(enumerate(CELLS))))

    def rank(own: pd.DataFrame) -> tuple[int, ...]:
        plain = (own.stressor == "").all() and (own.kind == "resampler").all()
        return plain, own.fixes.nunique(), own.seed.nunique(), own.soft_tokens.iloc[0]

    own = max((own for _, own in part.groupby(SETTING, dropna=False)), key=rank)
    for loss in ("info_nce", "distill"):
        weights = own[own[loss] > 0][loss].mode()
        own = own[(own[loss] == 0) | own[loss].isin(weights[:1])]
    return own


def reference(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of bridged arms of the plan's best configuration: by label; else with all its fixes, then with the most
    seeds and soft tokens.
    """
    part = part[part.arm == "bridged"]

    def rank(own: pd.DataFrame) -> tuple[int, ...]:
        row = own.iloc[0]
        plain = row["kind"] == "resampler"
        return plain, str(row.label).startswith(NAMED), all_fixes(row), own.seed.nunique(), row.soft_tokens

    return max((own for _, own in part.groupby(CONFIGURATION, dropna=False)), key=rank)


def all_fixes(rows: pd.DataFrame | pd.Series) -> pd.Series | bool:
    """InfoNCE, early stopping and hygiene: what the plan calls stable."""
    return (rows.info_nce > 0) & (rows.patience > 0) & rows.hygiene.astype(bool)


def in_order(table: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of `ARMS`, other arms after them by name; of an arm by the kind of bridge."""
    order = [*ARMS, *sorted(set(table.arm) - set(ARMS))]
    return table.assign(rank=table.arm.map(order.index)).sort_values(["rank", "kind"], kind="stable")


def beside(part: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Arms without a bridge, a row each, that stand beside a configuration: of its task, decoded like it, and of its K
    where that decides. Every run of a task asks them the same items.
    """
    first = own.iloc[0]
    free = part[part.seed.isna() & (part.decode_hygiene == first.hygiene) & (part.task == first.task)]
    free = free[~free.arm.isin(PER_TOKENS) | (free.soft_tokens == first.soft_tokens)]
    return free.drop_duplicates("arm", keep="last")


def same(part: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
    """Rows of `own`'s configuration."""
    return part[pd.MultiIndex.from_frame(part[CONFIGURATION]).isin(pd.MultiIndex.from_frame(own[CONFIGURATION]))]


def as_configured(part: pd.DataFrame) -> pd.DataFrame:
    """Rows of protocol "arm" with the checkpoint that their configuration keeps, decoded as it asks for."""
    checkpoint = np.where(part.patience > 0, "best", "final")
    return part[(part.checkpoint == checkpoint) & (part.decode_hygiene == part.hygiene)]


def estimate(part: pd.DataFrame, value: str = "accuracy", n: str = "n") -> dict[str, float]:
    """A share in percent with its 95 % interval: estimate, low, high, number of seeds and of test items.

    Over seeds (t) where there are several rows, over items (Wilson) where there is one. Arms without a bridge have no
    seeds.
    """
    values, items = part[value].to_numpy(float), int(part[n].min())
    mean, low, high = stats.t_interval(values)
    if len(values) < 2:
        low, high = (100 * bound for bound in proportions.wilson(round(mean / 100 * items), items))
    return dict(zip(INTERVAL, (mean, low, high, int(part.seed.notna().sum()), items), strict=True))


def over_seeds(values: Sequence[float]) -> dict[str, float]:
    """Mean of one value per seed with its t interval: estimate, low, high, seeds; no interval (NaN) of one seed."""
    mean, low, high = stats.t_interval(np.asarray(values, dtype=float))
    if len(values) < 2:
        low, high = np.nan, np.nan
    return {"estimate": mean, "low": low, "high": high, "seeds": len(values)}


def floor(ax: Axes, table: pd.DataFrame) -> None:
    """A band up the panel from no accuracy to what a message without information may reach, where that is known.

    That is what a tuned prompt reaches, or whoever always gives the commonest answer (column `commonest`, percent).
    """
    known = table[table.arm == FLOOR].estimate
    if len(known):
        least = max(known.iloc[0], table.commonest.iloc[0])
        ax.axvspan(0, least + ALLOWED, label="_chance", zorder=0, **BAND)
