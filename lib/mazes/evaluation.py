"""What is asked of a trained arm, as measurement rows: one forward over the mazes of a set, then walks for everybody.

| protocol | asks |
|---|---|
| `result` | the test mazes |
| `refinement` | the same at every read-out; recurrent arms at twice as many as they were trained with |
| `length` | the same by the number of cells on the way |
| `larger` | mazes of larger sides, and the training side among them, at R and at 2R refinements |
| `loops` | mazes in which a way can be longer than it has to be, so that accuracy and optimality differ |
| `reference` | the same mazes walked by policies that know nothing, no walls, or everything |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from lib.data import mazes as data
from lib.data.mazes import Mazes
from lib.mazes.sets import Sets
from lib.metrics import mazes as metrics
from lib.models.maze import MazeModel, Trace
from lib.models.maze_sizes import RECURRENT
from lib.models.maze_training import Batch, loss_of

CELLS = 10_000  # cells per forward: bounds the memory of attention's scores, and 40,000 were slower on a CPU
BINS = 5  # of path lengths, as full as each other


@dataclass(frozen=True)
class Answers:
    """What a model says of M mazes at each of its read-outs."""

    policy: np.ndarray  # uint8 [read-outs, M, N]: the likeliest direction
    loss: np.ndarray  # float64 [read-outs]: nats per cell
    entropy: np.ndarray | None  # float64 [read-outs]: routing entropy as a share of ln n_heads, where heads are weighed
    shares: np.ndarray | None  # float64 [read-outs, n_heads]: how much of the weight each head got


@torch.no_grad()
def answers(model: MazeModel, mazes: Mazes, refinements: int | None = None) -> Answers:
    """Read a model out over a set of mazes, some at a time."""
    device = next(model.parameters()).device
    everything = Batch.of(mazes.open, mazes.goal, mazes.next_steps, device)
    policies, losses, routes, sizes = [], [], [], []
    for index in torch.arange(len(mazes), device=device).split(max(1, CELLS // mazes.open.shape[1])):
        batch, trace = everything[index], Trace([])
        logits = model(batch.walls, batch.goal, refinements, trace)
        policies.append(logits.argmax(-1).to(torch.uint8).cpu())
        losses.append(loss_of(logits, batch).double().cpu())
        sizes.append(len(index))
        if trace.routes:
            routes.append(_routing(trace, len(logits)))
    weights = np.array(sizes) / len(mazes)
    entropy, shares = map(np.stack, zip(*routes, strict=True)) if routes else (None, None)
    return Answers(
        policy=torch.cat(policies, 1).numpy(),
        loss=weights @ torch.stack(losses).numpy(),
        entropy=np.tensordot(weights, entropy, 1) if routes else None,
        shares=np.tensordot(weights, shares, 1) if routes else None,
    )


def _routing(trace: Trace, read_outs: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean entropy [read-outs] and mean share of each head [read-outs, n_heads], over mazes, cells and blocks."""
    share = torch.stack(trace.routes).double()
    share = share / share.sum(-1, keepdim=True)
    entropy = -torch.xlogy(share, share).sum(-1) / np.log(share.shape[-1])
    of_refinement = share.unflatten(0, (read_outs, -1)).mean(dim=(1, 2, 3))
    return entropy.unflatten(0, (read_outs, -1)).mean(dim=(1, 2, 3)).cpu().numpy(), of_refinement.cpu().numpy()


def score(policy: np.ndarray, mazes: Mazes) -> dict[str, float]:
    """accuracy, optimality and cell_accuracy of one policy [M, N]."""
    walks = metrics.walk(policy, mazes.open, mazes.start, mazes.goal)
    right = metrics.cell_accuracy(policy, mazes.next_steps)
    optimal = metrics.optimality(walks, mazes.shortest)
    return {"accuracy": metrics.accuracy(walks), "optimality": optimal, "cell_accuracy": right}


def validate(model: MazeModel, mazes: Mazes) -> dict[str, float]:
    """What an epoch's row says of the validation mazes."""
    said = answers(model, mazes)
    found = score(said.policy[-1], mazes)
    return {
        "val_loss": float(said.loss[-1]),
        "val_cell_accuracy": found["cell_accuracy"],
        "val_accuracy": found["accuracy"],
    }


def judge(model: MazeModel, arch: str, sets: Sets) -> tuple[metrics.Walks, list[dict[str, Any]]]:
    """The walks through the test mazes by the model's answer, and every row of the model but those of its epochs."""
    twice = 2 * model.refinements if arch in RECURRENT else None
    answer = model.refinements - 1 if arch in RECURRENT else -1  # the read-out at R; a stack's is its last
    said = answers(model, sets.test, twice)
    walks = metrics.walk(said.policy[answer], sets.test.open, sets.test.start, sets.test.goal)
    result = score(said.policy[answer], sets.test) | {"loss": said.loss[answer], "n_test": len(sets.test)}
    rows = [{"protocol": "result"} | result]
    rows += _refinements(said, sets.test)
    rows += _lengths(walks.reached, sets.test)
    rows += [_larger(said, answer, sets.test)]
    rows += [_larger(answers(model, mazes, twice), answer, mazes) for mazes in sets.larger.values()]
    loops = score(answers(model, sets.loops).policy[-1], sets.loops)
    return walks, [*rows, {"protocol": "loops", "n_test": len(sets.loops)} | loops]


def _larger(said: Answers, answer: int, mazes: Mazes) -> dict[str, Any]:
    """The row of one side: the answer, and for a model that was read out further, the last read-out."""
    beyond = score(said.policy[-1], mazes) if answer >= 0 else {}
    further = {f"{name}_2R": beyond.get(name) for name in ("accuracy", "optimality")}
    return (
        {"protocol": "larger", "side": mazes.side, "n_test": len(mazes)} | score(said.policy[answer], mazes) | further
    )


def _refinements(said: Answers, mazes: Mazes) -> Iterator[dict[str, Any]]:
    for index, policy in enumerate(said.policy):
        routed = said.entropy is not None
        yield {
            "protocol": "refinement",
            "refinement": index + 1,
            **score(policy, mazes),
            "loss": said.loss[index],
            "routing_entropy": said.entropy[index] if routed else None,
            "head_share": said.shares[index] if routed else None,
        }


def _lengths(solved: np.ndarray, mazes: Mazes) -> Iterator[dict[str, Any]]:
    """Shares solved by bins of the path's length in cells, as nearly equal in number as whole lengths allow."""
    cells = mazes.shortest.astype(int) + 1
    edges = np.unique(np.quantile(cells, np.linspace(0, 1, BINS + 1), method="higher"))
    lows = [edges[0], *(edges[1:-1] + 1)]
    for low, high in zip(lows, edges[1:] if len(edges) > 1 else edges, strict=True):
        inside = (cells >= low) & (cells <= high)
        if inside.any():
            about = {"low": low, "high": high, "n_test": inside.sum()}
            yield {"protocol": "length"} | about | {"accuracy": solved[inside].mean()}


def references(sets: Sets, seed: int) -> Iterator[dict[str, Any]]:
    """Rows of the policies that no model is needed for; Manhattan must fail, or the mazes have no walls to speak of."""
    test = sets.test
    policies = {
        "random": metrics.random_policy(test.open, seed),
        "manhattan": metrics.manhattan_policy(test.side, test.goal, seed),
        "bfs": metrics.bfs_policy(test.next_steps),
    }
    for name, policy in policies.items():
        yield {"protocol": "reference", "arch": name, "size": "", "seed": seed, "n_test": len(test)} | score(
            policy, test
        )


def facts(sets: Sets, min_path: int | str) -> dict[str, Any]:
    """What a result says of its data; `min_path` as it was asked for."""
    return {
        "data_hash": data.digest(sets.test),
        "min_path": data.auto_min_path(sets.test.side) if min_path == "auto" else min_path,
        "capped": sets.test.capped,
        "train_mazes": len(sets.train),
    }
