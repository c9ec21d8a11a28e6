"""The summary of the experiment's plan as text: its table first, then every arm, and what follows from them."""

from __future__ import annotations

from lib.figures.mazes import short

WIDTH = 100  # characters
# Parameters that the plan expects of its sizes.
TARGETS = {"tiny": 1_000_000, "small": 3_000_000, "medium": 10_000_000, "large": 30_000_000, "xl": 100_000_000}


def summary(found: dict) -> str:
    """The summary as text; `found` as `results` makes it."""
    rule = "=" * WIDTH
    parts = [rule, "PARAMETER SCALING: PoH-HRM AGAINST THE BASELINE TRANSFORMER ON MAZES", rule, *_settings(found), ""]
    parts += [*_table(found), "", *_all_arms(found), ""]
    parts += [*_targets(found), ""] if any(row["size"] in TARGETS for row in found["results"]) else []
    return "\n".join([*parts, *_findings(found), rule, ""])


def _settings(found: dict) -> list[str]:
    config = found["config"]
    side = config["maze_size"]
    walkers = ", ".join(f"{arm} {share:.1f} %" for arm, share in found["references"].items())
    return [
        f"Mazes:    {side} x {side}, {config['n_train']} for training, {config['n_test']} for the test",
        f"Paths:    at least {config['min_path']} cells, or the longest where none is ({config['capped']} mazes)",
        f"Training: {config['epochs']} epochs; seeds {', '.join(map(str, config['seeds']))}",
        f"Models:   R = {config['R']} refinements, T = {config['T']}",
        f"Accuracy of walkers that learn nothing: {walkers or 'not run'}",
        _optimality(config["braid"]),
        "Means over seeds; differences are paired by seed; brackets hold 95 % t intervals over seeds.",
    ]


def _optimality(braid: float | list[float]) -> str:
    """What optimality has to say beside accuracy on the test mazes."""
    if not braid:
        return "Optimality equals accuracy by construction on these mazes, which have no loops."
    said = ", ".join(map(str, braid)) if isinstance(braid, list) else braid
    return f"Mazes have loops (braid {said}), so optimality can be below accuracy."


def _table(found: dict) -> list[str]:
    """The plan's table: baseline, PoH and their difference."""
    lines = [
        "-" * WIDTH,
        f"{'Size':<9} | {'Params base/PoH':<17} | {'Acc b/p/diff':<26} | {'Opt b/p/diff':<26}",
        "-" * WIDTH,
    ]
    for row in found["results"]:
        counts = "/".join(short(row[name]) if row[name] else "-" for name in ("baseline_params", "poh_params"))
        shares = [_three(row, measure) for measure in ("acc", "opt")]
        lines.append(f"{row['size']:<9} | {counts:<17} | {shares[0]:<26} | {shares[1]:<26}")
    return lines


def _three(row: dict, measure: str) -> str:
    values = [row[f"baseline_{measure}"], row[f"poh_{measure}"]]
    said = [_said(value) for value in values] + [_said(row[f"poh_advantage_{measure}"], "+.1f")]
    return " / ".join(said)


def _said(value: float | None, form: str = ".1f") -> str:
    return "-" if value is None else f"{value:{form}}"


def _bracket(measure: dict | None, form: str = ".1f") -> str:
    """Estimate with its interval, or with what it lacks."""
    if measure is None:
        return "no paired runs"
    if measure["low"] is None:
        return f"{measure['estimate']:{form}} (n = {measure['n']})"
    return f"{measure['estimate']:{form}} [{measure['low']:{form}}, {measure['high']:{form}}]"


def _all_arms(found: dict) -> list[str]:
    """Every arm of every size, costs beside accuracy."""
    head = (
        f"{'Size':<9} {'Arm':<13} {'Params':>7} {'Train FLOPs':>12} {'Seconds':>8}  {'Accuracy':<21} Optimality, loops"
    )
    lines = ["All arms", "-" * WIDTH, head, "-" * WIDTH]
    for row in found["results"]:
        for arm, own in row["arms"].items():
            costs = f"{short(own['parameters']):>7} {own['train_flops']:>12.3g} {own['train_s']:>8.1f}"
            loops = _bracket(own["optimality_loops"]) if "optimality_loops" in own else "not run"
            lines.append(f"{row['size']:<9} {arm:<13} {costs}  {_bracket(own['accuracy']):<21} {loops}")
    return lines


def _targets(found: dict) -> list[str]:
    """What the plan says its sizes have, and what they have."""
    head = f"{'Size':<9} | {'Target':>11} | {'Baseline (of target)':>22} | {'PoH (of target)':>22}"
    lines = ["Target and actual parameters", "-" * WIDTH, head, "-" * WIDTH]
    for row in found["results"]:
        if target := TARGETS.get(row["size"]):
            actual = [row["baseline_params"], row["poh_params"]]
            said = ["-" if count is None else f"{count:,} ({count / target:.2f}x)" for count in actual]
            lines.append(f"{row['size']:<9} | {target:>11,} | {said[0]:>22} | {said[1]:>22}")
    return lines


def _findings(found: dict) -> list[str]:
    lines = ["Key findings", "-" * WIDTH]
    for arm, average in found["averages"].items():
        both = [_bracket(average and average[name], "+.1f") for name in ("accuracy", "optimality")]
        sizes = len(average["sizes"]) if average else 0
        lines.append(f"PoH minus {arm:<12} points, mean of {sizes} size(s): accuracy {both[0]}, optimality {both[1]}")
    known = [
        (own["accuracy"]["estimate"], own["parameters"], row["size"], arm)
        for row in found["results"]
        for arm, own in row["arms"].items()
    ]
    for title, chosen in (("PoH", [one for one in known if one[3] == "poh"]), ("any arm", known)):
        if chosen:
            share, parameters, size, arm = max(chosen, key=lambda one: (one[0], -one[1]))
            where = f"({arm}, size {size}, {short(parameters)} parameters)"
            lines.append(f"Best accuracy of {title}: {share:.1f} % {where}")
    return lines
