"""What a bridge is trained by: batches, the recipe, and four losses in nats.

* `answer`: cross-entropy of the answer's tokens; always on;
* `info_nce`: each pooled message has to be nearest, of all questions in the batch, to its own question's mean
  embedding (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748; temperature 0.07);
* `distill`: KL(target given the text || target given the message) at the answer's positions, per answer token
  (self-distillation as in xRAG, Cheng et al. 2024, https://arxiv.org/abs/2405.13792);
* `reconstruct`: cross-entropy of the question, read out of the soft tokens (ICAE, Ge et al. 2023,
  https://arxiv.org/abs/2307.06945).

Sums over the batch are divided by counts of the whole batch, over all processes, so that any number of processes trains
the same bridge.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from accelerate import PartialState
from accelerate.utils import gather, reduce
from torch import Tensor

from lib.models.bridge import Bridge
from lib.models.bridge_reader import IGNORED, Reader
from lib.models.wire_noise import noisy

TEMPERATURE = 0.07  # of InfoNCE, as published
LOSSES = ("answer", "info_nce", "distill", "reconstruct")


@dataclass(frozen=True)
class Batch:
    """Examples of one step, on the device, padded on the right.

    states float [B, T, d_source] and mask bool [B, T]; inputs int64 [B, A], the answer before each label; labels int64
    [B, A], IGNORED after the end; questions int64 [B, Q] in the target's tokens, IGNORED after the end; prompts: the
    whole text prompts that a target without a bridge is given, as token ids.
    """

    states: Tensor
    mask: Tensor
    inputs: Tensor
    labels: Tensor
    questions: Tensor
    prompts: list[list[int]]


See = Callable[[Reader, Tensor, Batch], Tensor | list[Tensor]]


@dataclass(frozen=True)
class Recipe:
    """How to train; weights of losses are 0 where a loss is off."""

    steps: int
    batch_size: int  # over all processes
    learning_rate: float
    warmup: int  # steps
    optimizer: str = "muon"
    clip: float = 1.0  # norm of the gradient; 0 does not clip
    info_nce: float = 0.0
    info_nce_from: int = 0  # step
    distill: float = 0.0
    reconstruct: float = 0.0
    noise_bits: int = 0  # per number, of the wire whose noise is added to messages; 0 adds none
    evaluations: int = 10  # evenly over the training, after the one before it
    stop: bool = False  # end when early stopping says so, instead of noting it
    seed: int = 0

    def scale(self, step: int) -> float:
        """The learning rate at a step, as a share of its maximum: linear warm-up, then linearly to zero."""
        return min(1.0, (step + 1) / max(1, self.warmup), (self.steps - step) / max(1, self.steps - self.warmup))

    @property
    def weights(self) -> dict[str, float]:
        """Of every loss."""
        return {"answer": 1.0} | {name: getattr(self, name) for name in LOSSES[1:]}


def message(reader: Reader, soft: Tensor, batch: Batch) -> Tensor:
    """[BOS | soft tokens | anchor]."""
    return reader.message_inputs(soft)


def text(reader: Reader, soft: Tensor, batch: Batch) -> list[Tensor]:
    """The soft tokens before the whole question: a tuned prompt, not a message."""
    return reader.text_inputs(soft, batch.prompts)


def losses_of(
    bridge: Bridge, reader: Reader, batch: Batch, recipe: Recipe, see: See, step: int, state: PartialState
) -> dict[str, Tensor]:
    """Every loss that is on: this process's part, so that the sum over processes is the loss of the global batch."""
    drawn = (recipe.seed * recipe.steps + step) * state.num_processes + state.process_index
    soft = bridge.receiver(noisy(bridge.message(batch.states, batch.mask), recipe.noise_bits, drawn))
    used = batch.labels != IGNORED
    count = _total(used.sum(), state)
    logits = reader.answer_logits(see(reader, soft, batch), batch.inputs)[used]
    losses = {"answer": F.cross_entropy(logits, batch.labels[used], reduction="sum") / count}
    if recipe.info_nce and step >= recipe.info_nce_from:
        losses["info_nce"] = info_nce(soft, question_keys(reader, batch.questions), state)
    if recipe.distill:
        with torch.no_grad():
            taught = reader.answer_logits(reader.text_inputs(None, batch.prompts), batch.inputs)[used].log_softmax(-1)
        losses["distill"] = F.kl_div(logits.log_softmax(-1), taught, reduction="sum", log_target=True) / count
    if recipe.reconstruct:
        asked = batch.questions != IGNORED
        read = reader.question_logits(soft, batch.questions.roll(1, 1))[asked]
        total = F.cross_entropy(read, batch.questions[asked], reduction="sum")
        losses["reconstruct"] = total / _total(asked.sum(), state)
    return losses


def info_nce(soft: Tensor, keys: Tensor, state: PartialState) -> Tensor:
    """InfoNCE of pooled soft tokens [B, K, d] against unit keys [B, d]: this process's part of the batch's mean.

    Only the messages get a gradient, so the keys of other processes can be gathered as they are.
    """
    pooled = F.normalize(soft.float().mean(1), dim=-1)
    everybody = gather(keys) if state.num_processes > 1 else keys
    own = torch.arange(len(pooled), device=soft.device) + state.process_index * len(pooled)
    return F.cross_entropy(pooled @ everybody.T / TEMPERATURE, own, reduction="sum") / len(everybody)


def question_keys(reader: Reader, questions: Tensor) -> Tensor:
    """Unit vectors [B, d]: the mean of the target's embeddings of each question's tokens, padding left out."""
    real = (questions != IGNORED).unsqueeze(-1)
    with torch.no_grad():
        embedded = reader.embed(questions.clamp(min=0)).float()
        return F.normalize((embedded * real).sum(1) / real.sum(1).clamp(min=1), dim=-1)


def _total(count: Tensor, state: PartialState) -> Tensor:
    return reduce(count, "sum") if state.num_processes > 1 else count
