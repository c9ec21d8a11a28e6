"""How every arm of the maze study is trained: one recipe, no matter which arm.

A step reads a batch that lies on the model's device already, and nothing waits for its loss: numbers are fetched once
an epoch. Each epoch shows every maze anew, turned or mirrored and with another goal (`augment`), because a maze costs
microseconds and a model of ten million parameters knows a thousand fixed ones by heart.

The loss is the mean over all read-outs of -log of the probability given to the directions that shorten the way, at
every cell but the goal. Matrices inside the blocks are trained by Muon, the rest by AdamW; the schedule is warm-up,
constant, then linear to zero.

An epoch is a pure function of the seed and its number, so a training that was stopped continues from its last
checkpoint as if it had never been, bit for bit on a CPU.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.data import mazes
from lib.data.mazes import Mazes
from lib.models.maze import MazeModel
from lib.models.maze_sizes import DIRECTIONS
from lib.models.muon import Muon

WARMUP = 1 / 12  # of the steps
DECAY = 0.6  # of the steps, at the end
WEIGHT_DECAY = 0.05  # of the matrices
ADAM_SHARE = (
    3.0  # of the learning rate, for what is no matrix: positions above all, which start far from where they end
)
BETAS = (0.9, 0.98)
CLIP = 1.0  # norm of the gradient
CHECKPOINT_EVERY = 20.0  # seconds of training between checkpoints, which are written when an epoch ends


class CheckpointError(ValueError):
    """A file that a training cannot go on from; the message says why."""


@dataclass(frozen=True)
class Recipe:
    """How long and how fast."""

    epochs: int
    batch_size: int
    learning_rate: float  # at d_model 32; wider models get `rate_at`
    augment: bool = True  # show a maze in another of its 8 symmetries and with another goal every epoch
    seed: int = 0  # of the order of mazes and of how they are shown


def rate_at(d_model: int, learning_rate: float) -> float:
    """The learning rate of a model so wide, given that of d_model 32: Muon's updates keep their spectral norm.

    (An update of a d x d matrix has the spectral norm lr * RMS * sqrt(d). In a trial at d_model 128, half the rate of
    d_model 32 solved more mazes than all of it.)
    """
    return learning_rate * (32 / d_model) ** 0.5


@dataclass(frozen=True)
class Batch:
    """Mazes on the model's device: walls uint8 [B, N], goal int64 [B], right uint8 [B, N] (bits of right answers)."""

    walls: Tensor
    goal: Tensor
    right: Tensor

    @classmethod
    def of(cls, walls: np.ndarray, goal: np.ndarray, right: np.ndarray, device: torch.device | str) -> "Batch":
        """From numpy arrays, in one transfer each."""
        arrays = walls, goal.astype(np.int64), right
        return cls(*(torch.from_numpy(np.ascontiguousarray(array)).to(device) for array in arrays))

    def __getitem__(self, index: Tensor) -> "Batch":
        return Batch(self.walls[index], self.goal[index], self.right[index])


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Mean loss of every read-out [read-outs], in nats per cell, from logits [read-outs, B, N, 4]."""
    bits = torch.arange(DIRECTIONS, device=batch.right.device, dtype=batch.right.dtype)
    right = ((batch.right.unsqueeze(-1) >> bits) & 1).bool()  # [B, N, 4]; none at the goal
    counted = batch.right != 0
    of_right = logits.masked_fill(~right, torch.finfo(logits.dtype).min).logsumexp(-1).masked_fill(~counted, 0.0)
    of_all = logits.logsumexp(-1).masked_fill(~counted, 0.0)
    return (of_all - of_right).sum(dim=(1, 2)) / counted.sum()


class Training:
    """A training in progress: the model, its optimizers, and the step it has come to."""

    def __init__(self, model: MazeModel, data: Mazes, recipe: Recipe) -> None:
        self.model, self.data, self.recipe = model, data, recipe
        self.steps = max(
            1, len(data.open) // recipe.batch_size
        )  # per epoch; what is left over is drawn anew in the next
        self.epoch, self.seconds = 0, 0.0
        self._device = next(model.parameters()).device
        self._rate = rate_at(model.d_model, recipe.learning_rate)
        self._optimizers = _optimizers(model, self._rate)

    def run_epoch(self, progress: Callable[[], object]) -> dict[str, float]:
        """Train on every maze once, calling `progress` at every step.

        Returns the epoch's mean loss in nats per cell and the learning rate of its last step.
        """
        began = time.perf_counter()
        shown = self._shown()
        order = np.random.default_rng([self.recipe.seed, self.epoch]).permutation(len(self.data.open))
        order = torch.from_numpy(order).to(self._device)
        self.model.train()
        total = torch.zeros((), device=self._device)
        for step in range(self.steps):
            index = order[step * self.recipe.batch_size : (step + 1) * self.recipe.batch_size]
            rate = self._rate * self._scale(self.epoch * self.steps + step)
            total += self._step(shown[index], rate)
            progress()
        self.model.eval()
        self.epoch += 1
        loss = total.item() / self.steps
        self.seconds += time.perf_counter() - began
        return {"loss": loss, "last_rate": rate}

    def _step(self, batch: Batch, rate: float) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._device.type == "cuda"):
            logits = self.model(batch.walls, batch.goal)
        losses = loss_of(logits, batch)
        losses.mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP, foreach=True)
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group["share"]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return losses[-1].detach()

    def _shown(self) -> Batch:
        """The training mazes as this epoch shows them."""
        if not self.recipe.augment:
            return Batch.of(self.data.open, self.data.goal, self.data.next_steps, self._device)
        seed = int(np.random.SeedSequence([self.recipe.seed, self.epoch]).generate_state(1, np.uint32)[0])
        walls, goal = mazes.variants(self.data.open, seed)
        return Batch.of(walls, goal, mazes.label(walls, goal)[1], self._device)

    def _scale(self, step: int) -> float:
        """The learning rate at a step, as a share of its maximum."""
        total = self.recipe.epochs * self.steps
        return min(1.0, (step + 1) / max(1.0, WARMUP * total), (total - step) / (DECAY * total))

    def save(self, path: Path, log: list[dict[str, Any]]) -> None:
        """Write everything that is needed to go on, and the rows logged so far, in one step."""
        facts = {"epoch": self.epoch, "seconds": self.seconds, "log": log}
        temporary = path.with_suffix(".tmp")
        save_file(self._tensors(), temporary, {"training": json.dumps(facts)})
        temporary.replace(path)

    def load(self, path: Path) -> list[dict[str, Any]]:
        """Go on from a checkpoint; returns the rows that were logged before it.

        Raises CheckpointError, with nothing changed, where the file is damaged or of another model.
        """
        try:
            with safe_open(path, "pt", device=str(self._device)) as file:
                stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
                facts = json.loads(file.metadata()["training"])
            epoch, seconds, log = facts["epoch"], facts["seconds"], facts["log"]
            weights = {name: stored[f"model.{name}"] for name, _ in self.model.named_parameters()}
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is no checkpoint of this training ({error})") from None
        if any(weights[name].shape != p.shape for name, p in self.model.named_parameters()):
            raise CheckpointError(f"{path} is the checkpoint of a model of another shape")
        self.model.load_state_dict(weights)
        for name, parameter in self.model.named_parameters():
            state = self._optimizer_of(parameter).state[parameter]
            prefix = f"optimizer.{name}/"
            state.update({key.removeprefix(prefix): value for key, value in stored.items() if key.startswith(prefix)})
        self.epoch, self.seconds = epoch, seconds
        return log

    def _tensors(self) -> dict[str, Tensor]:
        """Weights and optimizer states by name."""
        found = {}
        for name, parameter in self.model.named_parameters():
            found[f"model.{name}"] = parameter.detach().contiguous()
            state = self._optimizer_of(parameter).state[parameter]
            found |= {f"optimizer.{name}/{key}": value.contiguous() for key, value in state.items()}
        return found

    def _optimizer_of(self, parameter: Tensor) -> torch.optim.Optimizer:
        muon, adam = self._optimizers
        return muon if any(parameter is p for group in muon.param_groups for p in group["params"]) else adam


def _optimizers(model: MazeModel, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks and the injection, AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        inside = name.startswith(("blocks", "inject")) and parameter.ndim >= 2 and not name.endswith("table")
        (matrices if inside else others).append(parameter)
    muon = Muon(matrices, rate, weight_decay=WEIGHT_DECAY)
    adam = torch.optim.AdamW(others, rate, betas=BETAS, weight_decay=0.0, fused=True)
    for optimizer, share in ((muon, 1.0), (adam, ADAM_SHARE)):
        for group in optimizer.param_groups:
            group["share"] = share
    return [muon, adam]


def train(
    model: MazeModel,
    data: Mazes,
    recipe: Recipe,
    judge: Callable[[MazeModel], dict[str, float]],
    log: Callable[[dict[str, Any]], object],
    progress: Callable[[], object] = lambda: None,
    checkpoint: Path | None = None,
) -> None:
    """Train in place, on the device where the model is.

    Args:
        judge: called after every epoch with the model, for what the validation mazes say; its time is not counted.
        log: called with one row per epoch: epoch, step, mazes (seen so far), loss (training, nats per cell, of the last
            read-out, mean over the epoch), last_rate (learning rate of its last step), train_s (so far), and what
            `judge` returned.
        progress: called after every step.
        checkpoint: a file to go on from where it exists, and to write while training; `log` is called again with the
            rows of the epochs that it holds.
    """
    training = Training(model, data, recipe)
    rows = _resume(training, checkpoint) if checkpoint and checkpoint.exists() else []
    for row in rows:
        log(row)
    for _ in range(training.epoch * training.steps):
        progress()
    written = training.seconds
    while training.epoch < recipe.epochs:
        with _without_denormals():
            of_epoch = training.run_epoch(progress)
        steps = training.epoch * training.steps
        seen = {"epoch": training.epoch, "step": steps, "mazes": steps * min(recipe.batch_size, len(data.open))}
        rows.append(seen | of_epoch | {"train_s": training.seconds} | judge(model))
        log(rows[-1])
        if checkpoint and training.seconds - written >= CHECKPOINT_EVERY:
            training.save(checkpoint, rows)
            written = training.seconds


@contextmanager
def _without_denormals() -> Iterator[None]:
    """Numbers too small for full precision are 0 inside; CPUs are slow with them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)  # it holds for the whole thread, whatever else runs there


def _resume(training: Training, checkpoint: Path) -> list[dict[str, Any]]:
    """The rows of the epochs before the checkpoint; none, which is said, where it cannot be used."""
    try:
        return training.load(checkpoint)
    except CheckpointError as error:
        print(f"{error}: training starts anew.", file=sys.stderr)
        return []
