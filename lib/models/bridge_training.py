"""How a bridge is trained between two frozen models.

A step needs no source model: its hidden states were stored once. The target reads
[BOS | soft tokens | anchor | answer] and gradients flow through it into the bridge alone (`lib.models.bridge_losses`).

Weights are float32 whatever the forward runs in. Batches hold examples of similar length, and each of several processes
takes its share of the same global batch.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from lib.models.bridge import Bridge
from lib.models.bridge_losses import LOSSES, Batch, Recipe, See, losses_of
from lib.models.bridge_reader import Reader
from lib.models.muon import Muon

BETAS = (0.9, 0.98)
ADAMW_DECAY = 0.01  # of matrices
WINDOW = 16  # batches of examples that are sorted by length together
OPTIMIZERS = ("muon", "adamw")


class Examples(Protocol):
    """What is trained on."""

    lengths: np.ndarray  # int [N], of whatever makes an example long

    def batch(self, index: np.ndarray) -> Batch:
        """The examples of int64 `index` [B]."""
        ...


@dataclass(frozen=True)
class Trained:
    """The weights at the end and at the best evaluation (real copies), and the steps of the best and of the stop."""

    final: dict[str, Tensor]
    best: dict[str, Tensor]
    best_step: int
    stop_step: int | None
    seconds: float  # of training, without evaluations


def train(
    bridge: Bridge,
    reader: Reader,
    examples: Examples,
    recipe: Recipe,
    see: See,
    judge: Callable[[Bridge], dict[str, float]],
    watch: Callable[[list[float]], tuple[int, int | None]],
    log: Callable[[dict[str, Any]], object],
    progress: Callable[[], object] = lambda: None,
) -> Trained:
    """Train `bridge` in place, on the device where it is; it ends with the final weights.

    Args:
        see: what the target is shown besides the answer: `message` for every bridge, `text` for a tuned prompt.
        judge: what validation items say of a bridge; called before the first step and at every evaluation, in every
            process. Its `val_accuracy` is what early stopping watches; its time is not counted.
        watch: from the accuracies so far to (index of the best, index at which it stops or None).
        log: called with a row per evaluation: step, train_s, the mean of every loss since the one before (None where
            it is off), grad_norm, rate (learning rate), and what `judge` returned.
        progress: called after every step.
    """
    state = PartialState()
    optimizers = _optimizers(bridge, recipe)
    batches = _batches(examples, recipe, state)
    marks = sorted({round(recipe.steps * k / recipe.evaluations) for k in range(1, recipe.evaluations + 1)})
    accuracies: list[float] = []
    steps, seconds, norm, rate = [0], 0.0, None, 0.0
    sums = dict.fromkeys(LOSSES, 0.0)

    def evaluate(step: int, since: int) -> tuple[int, int | None]:
        bridge.eval()
        judged = judge(bridge)
        bridge.train()
        means = {f"loss_{name}": _mean(sums[name], since, name, recipe) for name in LOSSES}
        total = sum(recipe.weights[name] * (means[f"loss_{name}"] or 0.0) for name in LOSSES) if since else None
        log({"step": step, "train_s": seconds, "loss": total} | means | {"grad_norm": norm, "rate": rate} | judged)
        accuracies.append(judged["val_accuracy"])
        return watch(accuracies)

    evaluate(0, 0)
    best, best_step, stop_step = copy_of(bridge), 0, None
    began = time.perf_counter()
    for step in range(recipe.steps):
        rate = recipe.learning_rate * recipe.scale(step)
        norm = _step(bridge, reader, next(batches), recipe, see, step, rate, optimizers, sums, state)
        progress()
        if step + 1 in marks:
            norm = norm.item()  # waits for the device
            seconds += time.perf_counter() - began
            index, stopped = evaluate(step + 1, step + 1 - steps[-1])
            steps.append(step + 1)
            sums = dict.fromkeys(LOSSES, 0.0)
            if stop_step is None and index == len(accuracies) - 1:
                best, best_step = copy_of(bridge), step + 1
            if stop_step is None and stopped is not None:
                stop_step = step + 1
                if recipe.stop:
                    break
            began = time.perf_counter()
    bridge.eval()
    return Trained(copy_of(bridge), best, best_step, stop_step, seconds)


def _step(
    bridge: Bridge,
    reader: Reader,
    batch: Batch,
    recipe: Recipe,
    see: See,
    step: int,
    rate: float,
    optimizers: list[torch.optim.Optimizer],
    sums: dict[str, Tensor | float],
    state: PartialState,
) -> Tensor:
    """One update; adds every loss to `sums` and returns the norm of the gradient before clipping."""
    device = batch.states.device
    weights = recipe.weights
    with plain_attention(reader):
        with torch.autocast(device.type, torch.bfloat16):
            losses = losses_of(bridge, reader, batch, recipe, see, step, state)
        sum(weights[name] * loss for name, loss in losses.items()).backward()
    for name, loss in losses.items():
        sums[name] = sums[name] + loss.detach()
    if state.num_processes > 1:
        _add_gradients(bridge)
    norm = torch.nn.utils.clip_grad_norm_(bridge.parameters(), recipe.clip or float("inf"))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return norm


@contextmanager
def plain_attention(reader: Reader) -> Iterator[None]:
    """Attention as plain products, on a CPU: what torch has fused there is slow backwards at these lengths.

    At batch 64 and 40 positions the fused kernel took 49 ms a call, more than half of a step. transformers' own
    products save the target another 12 % of a step over torch's, which build a mask and a guarded softmax.
    """
    if reader.device.type != "cpu":
        yield
        return
    usual = reader.model.config._attn_implementation
    reader.model.set_attn_implementation("eager")
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        reader.model.set_attn_implementation(usual)


def copy_of(bridge: Bridge) -> dict[str, Tensor]:
    """The weights as they are now; later steps do not change the copy."""
    return {name: tensor.detach().clone() for name, tensor in bridge.state_dict().items()}


def _mean(total: Tensor | float, steps: int, name: str, recipe: Recipe) -> float | None:
    """The mean of a loss over `steps`, of all processes; None where it is off or nothing was trained yet."""
    if not steps or not recipe.weights[name]:
        return None
    return (reduce(total, "sum") if isinstance(total, Tensor) else torch.tensor(total)).item() / steps


def _add_gradients(bridge: Bridge) -> None:
    """Sum the gradients of all processes, in one exchange."""
    gradients = [p.grad for p in bridge.parameters() if p.grad is not None]
    summed = reduce(torch.cat([g.flatten() for g in gradients]), "sum")
    for gradient, part in zip(gradients, summed.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


def _batches(examples: Examples, recipe: Recipe, state: PartialState) -> Iterator[Batch]:
    """Endless batches: every process takes every n-th example of the same global batch."""
    order = np.random.default_rng(recipe.seed)
    while True:
        for index in buckets(examples.lengths, recipe.batch_size, order):
            yield examples.batch(index[state.process_index :: state.num_processes])


def buckets(lengths: np.ndarray, batch_size: int, order: np.random.Generator) -> Iterator[np.ndarray]:
    """One pass over the examples in random batches of similar lengths; what does not fill a batch is left out."""
    size = min(batch_size, len(lengths))
    shuffled = order.permutation(len(lengths))
    shuffled = shuffled[: len(shuffled) // size * size]
    batches = []
    for begin in range(0, len(shuffled), WINDOW * size):
        window = shuffled[begin : begin + WINDOW * size]
        batches += np.split(window[np.argsort(lengths[window], kind="stable")], len(window) // size)
    for index in order.permutation(len(batches)):
        yield batches[index]


def _optimizers(bridge: Bridge, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for matrices and AdamW for the rest, or AdamW for all, with weight decay on matrices only."""
    named = [(name, p) for name, p in bridge.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and not name.endswith(("queries", "learned"))]
    others = [p for _, p in named if not any(p is m for m in matrices)]
    rate = recipe.learning_rate
    if recipe.optimizer == "muon":
        found = [Muon(matrices, rate), torch.optim.AdamW(others, rate, betas=BETAS, weight_decay=0.0)]
    else:
        groups = [{"params": matrices, "weight_decay": ADAMW_DECAY}, {"params": others, "weight_decay": 0.0}]
        found = [torch.optim.AdamW(groups, rate, betas=BETAS)]
    return [o for o in found if any(group["params"] for group in o.param_groups)]
