"""What rows of 4a say about enrichment, stability and other tasks: functions from rows and a scale to a finding, or to
None where nothing in the rows bears on the claim.

`lib.claims.bridge_select` has which rows, `lib.claims.bridge_tests` the test, `lib.claims.bridge_tokens` the claims
about the number of soft tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from lib.claims import Finding
from lib.claims import bridge_select as select
from lib.claims.bridge_select import BASELINE, STABLE, Scale
from lib.claims.bridge_tests import ahead, minus, within
from lib.metrics.messages import KEPT

ONOFF = {"with it": True, "without": False}  # a fix's two arms, as remarks name them


def over(rows: pd.DataFrame, scale: Scale, other: str) -> Finding | None:
    """The best bridge's advantage over an arm that reads the text, decoded alike, on the maths task."""
    found = select.labelled(select.trained(rows, scale, scale.maths), STABLE)
    return _over(found, other, *select.own(found)) if len(found) else None


def at_one_checkpoint(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """The bridge's advantage over the target with the text on the multi-hop task, at the better of two checkpoints.

    For: there is one at either (the smaller p-value, doubled). Against: there is none at both (the larger p-value).
    """
    found = select.labelled(select.trained(rows, scale, scale.hops), ("3a_",))
    if found.empty:
        return None
    tests = [_over(found, "target_alone", checkpoint, select.own(found)[1]) for checkpoint in ("best", "final")]
    if None in tests:
        return None
    better = min(tests, key=lambda test: (test.p_supports, -test.estimate))
    against = max(test.p_refutes for test in tests)
    return replace(better, p_supports=min(1.0, 2 * better.p_supports), p_refutes=against, looks=2)


def _over(found: pd.DataFrame, other: str, checkpoint: str, hygiene: bool) -> Finding | None:
    tables = [select.answers(found, "bridged", checkpoint, hygiene), select.answers(found, other, "", hygiene)]
    decoded = f"{'with' if hygiene else 'without'} hygiene"
    about = f"bridged ({checkpoint} checkpoint) minus {other} in accuracy, both decoded {decoded}"
    return minus(tables, ("bridged", other), found, about)


def ends_above(rows: pd.DataFrame, scale: Scale, percent: float) -> Finding | None:
    """Test accuracy of what the configuration with all fixes keeps."""
    found = select.labelled(select.trained(rows, scale, scale.maths), STABLE)
    kept = select.kept(found)
    if kept.empty:
        return None
    about = select.accuracy(found)
    return ahead(100 * kept.to_numpy(float), found, at=percent, margin=0.0, statistic=about, unit="% correct")


def collapses(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """How far the last weights without fixes are below 0.7 of the peak, the first of the three signs of collapse.

    A seed that collapsed by another sign leaves the claim open: it is no evidence of a training that held.
    """
    found = select.labelled(select.trained(rows, scale, scale.maths), BASELINE)
    runs = select.stability(found, early_stopping=False, hygiene=False) if len(found) else found
    if runs.empty:
        return None
    lost = 100 * (KEPT * runs.peak - runs.final).to_numpy(float)
    fallen = runs.collapsed.astype(bool)
    why = ", ".join(f"{reason}: {n}" for reason, n in runs.why[fallen].value_counts().items())
    peak, final = 100 * runs.peak.mean(), 100 * runs.final.mean()
    said = f"Validation accuracy {peak:.1f} % at its peak, {final:.1f} % at the end; "
    said += f"{fallen.sum()} of {len(runs)} seeds collapsed by the definition{f' ({why})' if why else ''}."
    statistic = f"{KEPT:g} of the peak validation accuracy minus the final one, without any fix"
    test = ahead(lost[:, None], found, margin=0.0, statistic=statistic, remark=said)
    return replace(test, p_refutes=1.0) if fallen.any() else test


def course(rows: pd.DataFrame, scale: Scale, place: str, low: float, high: float) -> Finding | None:
    """Validation accuracy of the training without fixes at its peak or at its end (`final`), against a range."""
    found = select.labelled(select.trained(rows, scale, scale.maths), BASELINE)
    runs = select.stability(found, early_stopping=False, hygiene=False) if len(found) else found
    if runs.empty:
        return None
    values = 100 * runs[place].to_numpy(float)[:, None]
    about = f"{place} validation accuracy of {found.label.iloc[0]}"
    return within(values, found, low, high, statistic=about, unit="% correct")


def keeps_more(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """Test accuracy kept with all fixes minus that kept without any, on the same seeds."""
    part = select.trained(rows, scale, scale.maths)
    runs = [select.labelled(part, labels) for labels in (STABLE, BASELINE)]
    if any(run.empty for run in runs):
        return None
    names, about = ("all fixes", "no fixes"), "test accuracy kept with all fixes minus that without any"
    return minus([select.kept(run) for run in runs], names, pd.concat(runs), about)


def loss_effect(rows: pd.DataFrame, scale: Scale, loss: str) -> Finding | None:
    """Main effect of a loss on the last weights: mean over the other loss's levels at which it was on and off."""
    cells = select.factorial(select.trained(rows, scale, scale.maths))
    at = select.LOSSES.index(loss)
    others = [level for level in (False, True) if all(_cell(at, on, level) in cells for on in (False, True))]
    pairs = {on: [cells[_cell(at, on, level)] for level in others] for on in (True, False)}
    of = {name: [select.answers(run, "bridged", "final", False) for run in pairs[on]] for name, on in ONOFF.items()}
    other = select.LOSSES[1 - at]
    levels = " and ".join(f"{'with' if level else 'without'} {other}" for level in others)
    about = f"test accuracy with {loss} minus without, last weights, no hygiene, mean over trainings {levels}"
    return _effect(of, pairs[True] + pairs[False], about)


def _cell(at: int, on: bool, other: bool) -> tuple[bool, bool]:
    """The factorial's cell in which the loss at this place is `on` and the other one `other`."""
    return (on, other) if at == 0 else (other, on)


def stopping_effect(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """Early stopping on the same trainings: the weights it keeps minus the last ones."""
    runs = list(select.factorial(select.trained(rows, scale, scale.maths)).values())
    kept = dict(zip(ONOFF, ("best", "final"), strict=True))
    of = {name: [select.answers(run, "bridged", at, False) for run in runs] for name, at in kept.items()}
    about = f"test accuracy of what early stopping keeps minus that of the last weights, mean over {_trainings(runs)}"
    return _effect(of, runs, about)


def hygiene_effect(rows: pd.DataFrame, scale: Scale) -> Finding | None:
    """Decoding hygiene on the same, last weights."""
    runs = list(select.factorial(select.trained(rows, scale, scale.maths)).values())
    of = {name: [select.answers(run, "bridged", "final", on) for run in runs] for name, on in ONOFF.items()}
    about = f"test accuracy of the last weights decoded with hygiene minus without, mean over {_trainings(runs)}"
    found = _effect(of, runs, about)
    if found is None:
        return None
    text = [select.answers(runs[-1], "target_alone", "", on) for on in (True, False)]
    if select.shared([of["without"][0], *text]) is None:
        return found
    change = 100 * (text[0].to_numpy().mean() - text[1].to_numpy().mean())
    return replace(found, remark=f"{found.remark} It changes target_alone, on the text, by {change:+.1f} points.")


def _trainings(runs: Sequence[pd.DataFrame]) -> str:
    return f"{len(runs)} configuration{'s' * (len(runs) > 1)} of InfoNCE and distillation"


def _effect(of: dict[str, list[pd.DataFrame]], runs: Sequence[pd.DataFrame], about: str) -> Finding | None:
    """Mean over configurations of the first arm's answers minus the second's, on the seeds that all have."""
    ours, theirs = of.values()
    together = select.shared([*ours, *theirs]) if ours else None
    if together is None:
        return None
    means = [sum(tables) / len(ours) for tables in (together[: len(ours)], together[len(ours) :])]
    return minus(means, tuple(of), pd.concat(runs), about)
