"""Measurement rows of 3a with known answers, for tests of what is drawn from them and of the claims.

`rows` makes every protocol of a grid of models, `results` only one row per model (what claims need, and fast). What is
planted is a share of solved mazes per size and arm, ACCURACY by default; `noise` is the standard deviation over seeds,
half of its variance common to all arms of a seed. Shares are counts of N_TEST mazes, so without noise a planted share
that is a multiple of 1 / N_TEST comes back exactly.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

ARMS = ("stack", "stack_params", "loop", "poh", "stack_flops")
RECURRENT = ("loop", "poh")
# name: d_model, n_heads, d_ff, depth, parameters of the stack
SIZES = {
    "nano": (16, 2, 32, 2, 6_000),
    "micro": (24, 4, 48, 2, 13_000),
    "mini": (32, 4, 64, 2, 22_000),
    "tiny": (128, 4, 512, 2, 463_000),
    "small": (256, 4, 1024, 3, 2_502_000),
    "medium": (512, 8, 2048, 4, 12_875_000),
    "large": (768, 12, 3072, 6, 42_925_000),
    "xl": (1024, 16, 4096, 8, 101_300_000),
}
PLAN = ("tiny", "small", "medium", "large", "xl")  # the sizes of the experiment's plan
N_TEST, MAZE_SIZE, R, T, EPOCHS, TRAIN_MAZES = 400, 8, 4, 4, 5, 1000
MIN_PATH = 25  # cells; int(0.4 * 8 * 8)
EXTRA_PARAMETERS = {"stack": 1.0, "stack_params": 1.2, "loop": 1.02, "poh": 1.205, "stack_flops": 3.8}
EXTRA_FLOPS = {"stack": 1.0, "stack_params": 1.2, "loop": 4.02, "poh": 4.08, "stack_flops": 4.0}
# Planted shares of solved mazes at the smallest size; they grow by GROWTH per size of the grid, up to 0.99.
ACCURACY = {"stack": 0.02, "stack_params": 0.04, "loop": 0.6, "poh": 0.5, "stack_flops": 0.55}
GROWTH = 0.15
LOOPS_OPTIMAL = 0.75  # share of the mazes with loops solved that are solved by a shortest way, every arm

Planted = Mapping[tuple[str, str], float]  # (size, arm): share


def planted(sizes: Sequence[str], arms: Iterable[str] = ARMS) -> dict[tuple[str, str], float]:
    """What `rows` plants unless told otherwise."""
    return {(size, arm): min(0.99, ACCURACY[arm] + GROWTH * i) for i, size in enumerate(sizes) for arm in arms}


def rows(
    sizes: Sequence[str] = ("nano", "micro", "mini"),
    arms: Sequence[str] = ARMS,
    seeds: int = 3,
    accuracy: Planted | None = None,
    noise: float = 0.02,
    rng_seed: int = 0,
    maze_size: int = MAZE_SIZE,
    results_alone: bool = False,
) -> pd.DataFrame:
    """Every protocol, or `result` alone. Columns that a protocol lacks are NaN, as in tables loaded from runs."""
    made = []
    for protocol in (_result,) if results_alone else (_epochs, _result, _refinements, _larger, _loops, _lengths):
        made += _per_model(protocol, sizes, arms, seeds, accuracy, noise, rng_seed, maze_size)
    for seed in range(0 if results_alone else seeds):
        made += _references(seed, maze_size)
    return pd.DataFrame(made)


results = partial(rows, results_alone=True)


def _per_model(
    protocol: Callable[..., list[dict]],
    sizes: Sequence[str],
    arms: Sequence[str],
    seeds: int,
    accuracy: Planted | None,
    noise: float,
    rng_seed: int,
    maze_size: int,
) -> list[dict]:
    """Rows of one protocol of every model; all protocols of a model know the same share of solved mazes."""
    rng = np.random.default_rng(rng_seed)
    accuracy, made = accuracy or planted(sizes, arms), []
    for seed in range(seeds):
        for size in sizes:
            common = rng.normal(0, noise * 0.5**0.5)
            for arm in arms:
                share = accuracy[size, arm] + common + rng.normal(0, noise * 0.5**0.5)
                share = round(N_TEST * float(np.clip(share, 0, 1))) / N_TEST
                model = _model(size, arm, seed, maze_size)
                made += [model | row for row in protocol(model, share)]
    return made


def _model(size: str, arm: str, seed: int, maze_size: int) -> dict:
    """The columns on every row of a trained model."""
    d_model, n_heads, d_ff, depth, parameters = SIZES[size]
    depth *= R if arm == "stack_flops" else 1
    d_ff += d_ff // 2 if arm == "stack_params" else 0
    forward = 2 * parameters * maze_size**2 * EXTRA_FLOPS[arm]
    return {
        "run": f"{size}_{maze_size}_x", "preset": "quick", "stale": False, "size": size, "arch": arm, "seed": seed,
        "d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, "depth": depth, "R": R, "T": T, "maze_size": maze_size,
        "parameters": round(parameters * EXTRA_PARAMETERS[arm]),
        "recurrent_parameters": round(0.9 * parameters) if arm in RECURRENT else 0,
        "forward_flops": forward, "train_flops": 3 * forward * TRAIN_MAZES * EPOCHS,
    }  # fmt: skip


def _loss(share: float) -> float:
    """Nats per cell: an arbitrary decreasing function of the share of solved mazes."""
    return 0.05 + 0.6 * (1 - share)


def _epochs(model: dict, share: float) -> list[dict]:
    """The share of solved validation mazes rises in equal steps to what the tests find."""
    return [
        {
            "protocol": "epoch", "epoch": epoch, "step": epoch * 30, "mazes": epoch * TRAIN_MAZES,
            "flops": model["train_flops"] * epoch / EPOCHS, "loss": _loss(share * epoch / EPOCHS) - 0.02,
            "val_loss": _loss(share * epoch / EPOCHS), "val_cell_accuracy": 0.5 + share * epoch / EPOCHS / 2,
            "val_accuracy": share * epoch / EPOCHS, "last_rate": 0.01 * (1 - epoch / EPOCHS),
            "train_s": 1.5 * epoch,
        }
        for epoch in range(1, EPOCHS + 1)
    ]  # fmt: skip


def _result(model: dict, share: float) -> list[dict]:
    solved = round(share * N_TEST)
    return [
        {
            "protocol": "result", "accuracy": share, "optimality": share, "cell_accuracy": 0.5 + share / 2,
            "loss": _loss(share), "n_test": N_TEST, "solved": "1" * solved + "0" * (N_TEST - solved),
            "data_hash": f"{model['maze_size']}-{model['seed']}", "min_path": MIN_PATH, "capped": 0,
            "train_mazes": TRAIN_MAZES, "train_s": 1.5 * EPOCHS, "peak_memory_bytes": 10**8,
        }
    ]  # fmt: skip


def _refinements(model: dict, share: float) -> list[dict]:
    """Equal steps up to the share at R; beyond, recurrent arms gain a tenth of what is left. Routing sharpens."""
    recurrent, routed = model["arch"] in RECURRENT, model["arch"] == "poh"
    trained, found = R if recurrent else min(R, model["depth"]), []
    for step in range(1, (2 * R if recurrent else trained) + 1):
        solved = share * step / trained if step <= trained else share + 0.1 * (1 - share)
        weights = np.arange(1, model["n_heads"] + 1) / sum(range(1, model["n_heads"] + 1))
        found.append(
            {
                "protocol": "refinement", "refinement": step, "accuracy": solved, "optimality": solved,
                "cell_accuracy": 0.5 + solved / 2, "loss": _loss(solved),
                "routing_entropy": 1 - 0.05 * step if routed else None,
                "head_share": weights.tolist() if routed else None,
            }
        )  # fmt: skip
    return found


def _larger(model: dict, share: float) -> list[dict]:
    """Half of the share is lost with every further two cells of side; twice the refinements win a tenth back."""
    found, recurrent = [], model["arch"] in RECURRENT
    for i, side in enumerate((model["maze_size"], model["maze_size"] + 2, model["maze_size"] + 4)):
        solved = share / 2**i
        longer = solved + 0.1 * (1 - solved) if recurrent else None
        row = {"protocol": "larger", "side": side, "n_test": N_TEST, "accuracy": solved, "optimality": solved}
        found.append(row | {"accuracy_2R": longer, "optimality_2R": longer})
    return found


def _loops(model: dict, share: float) -> list[dict]:
    return [{"protocol": "loops", "accuracy": share, "optimality": LOOPS_OPTIMAL * share, "n_test": N_TEST}]


def _lengths(model: dict, share: float) -> list[dict]:
    """Three bins of 100 mazes each, in other places for every seed; longer ways are solved less often."""
    edge = 40 + 2 * (model["seed"] % 2)
    bins = ((MIN_PATH, 30, 1.0), (31, edge, 0.8), (edge + 1, 64, 0.5))
    return [{"protocol": "length", "low": a, "high": b, "n_test": 100, "accuracy": share * k} for a, b, k in bins]


def _references(seed: int, maze_size: int) -> list[dict]:
    common = {"run": f"nano_{maze_size}_x", "preset": "quick", "stale": False, "protocol": "reference", "size": ""}
    common |= {"seed": seed, "R": R, "T": T, "maze_size": maze_size, "parameters": None, "n_test": N_TEST}
    shares = {"random": (0.0, 0.4), "manhattan": (0.0, 0.6), "bfs": (1.0, 1.0)}
    return [
        common | {"arch": arm, "accuracy": solved, "optimality": solved, "cell_accuracy": cells}
        for arm, (solved, cells) in shares.items()
    ]
