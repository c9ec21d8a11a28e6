"""Training of a tiny causal LM on whole documents: packing, Muon + AdamW, a loop of a few lines, the validation loss.

Choices, each measured on ladder-1m at 150 thousand tokens (one thread of an AVX-512 server CPU):

* rows are packed with whole documents that cannot see each other (block-diagonal mask, positions restart), because
  the models are used and validated on documents from their beginning (0.81 nats/token; windows cut anywhere 0.91,
  in fewer and larger steps; batches of equal lengths, so of one kind, 0.95);
* matrices inside the blocks are trained by Muon, embeddings and norms by AdamW, at one learning rate
  (`adjust_lr_fn="match_rms_adamw"` gives Muon's updates the size of Adam's);
* the forward runs under bfloat16 autocast with eager attention: forward and backward take 85 ms, with sdpa
  97, in float32 121 to 148.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

ROW = 258  # tokens: the longest document of the corpus, with its `<|endoftext|>` in front, fits
LOOKAHEAD = 64  # documents from which a row is filled
IGNORED = -100  # the target that `cross_entropy` skips


@dataclass(frozen=True)
class Recipe:
    """How to train; the schedule is warm-up, constant, then linear to `final` over the last `decay` of the tokens."""

    tokens: int  # targets seen, at least
    rows: int  # per step
    learning_rate: float
    row: int = ROW  # tokens of a row at most; attention costs its square, so short documents want short rows
    warmup: int = 30  # steps
    decay: float = 0.4
    final: float = 0.03
    momentum: float = 0.95  # of Muon
    betas: tuple[float, float] = (0.9, 0.98)  # of AdamW
    clip: float = 1.0  # norm of the gradient

    def scale(self, step: int, done: float) -> float:
        """The learning rate at a step, with `done` in [0, 1] of the tokens seen, relative to its maximum."""
        return min(1.0, (step + 1) / self.warmup, max(self.final, (1 - done) / self.decay))


@dataclass(frozen=True)
class Example:
    """Token ids of one document; the loss is on the tokens from index `start` on."""

    ids: list[int]
    start: int = 1


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread inside: tiny models gain nothing from more, and lose tenfold where cores are shared."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def pack(examples: Iterator[Example], rows: int, length: int = ROW) -> Iterator[list[list[Example]]]:
    """Fill rows of at most `length` tokens with whole examples, taking the first of the next LOOKAHEAD that fits."""
    pool, batch = [], []
    while True:
        while len(pool) < LOOKAHEAD and (example := next(examples, None)):
            pool.append(example)
        if not pool:
            break
        batch.append(_fill(pool, length))
        if len(batch) == rows:
            yield batch
            batch = []
    if batch:
        yield batch


def _fill(pool: list[Example], room: int) -> list[Example]:
    row = [pool.pop(0)]
    room -= len(row[0].ids)
    while fitting := next((example for example in pool if len(example.ids) <= room), None):
        pool.remove(fitting)
        row.append(fitting)
        room -= len(fitting.ids)
    return row


def tensors(batch: list[list[Example]], pad: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Inputs of a batch of B rows, padded to the longest (L tokens).

    Returns:
        ids [B, L] int64, targets [B, L] int64 (the next token; IGNORED where none), positions [B, L] int64 (from 0 in
        each example), and the additive attention mask [B, 1, L, L] float32 (0 inside an example's past, else minimal).
    """
    length = max(sum(len(example.ids) for example in row) for row in batch)
    ids = torch.full((len(batch), length), pad)
    targets = torch.full((len(batch), length), IGNORED)
    positions = torch.zeros((len(batch), length), dtype=torch.long)
    owner = torch.full((len(batch), length), -1)
    for index, row in enumerate(batch):
        begin = 0
        for number, example in enumerate(row):
            end = begin + len(example.ids)
            ids[index, begin:end] = torch.tensor(example.ids)
            targets[index, begin + example.start - 1 : end - 1] = ids[index, begin + example.start : end]
            positions[index, begin:end] = torch.arange(end - begin)
            owner[index, begin:end] = number
            begin = end
    visible = (owner[:, :, None] == owner[:, None, :]).tril()
    mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
    return ids, targets, positions, mask[:, None]


def loss_of(model: PreTrainedModel, batch: list[list[Example]], reduction: str = "mean") -> tuple[Tensor, int]:
    """Cross-entropy of a batch in nats per target (or summed), and the number of targets."""
    ids, targets, positions, mask = tensors(batch, model.config.pad_token_id)
    hidden = model.model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False).last_hidden_state
    used = targets != IGNORED
    logits = model.lm_head(hidden[used]).float()
    return F.cross_entropy(logits, targets[used], reduction=reduction), int(used.sum())


def optimizers(model: PreTrainedModel, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the blocks, AdamW for embeddings, biases and norms."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else others).append(parameter)
    muon = torch.optim.Muon(
        matrices, recipe.learning_rate, weight_decay=0.01, momentum=recipe.momentum, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(others, recipe.learning_rate, betas=recipe.betas, weight_decay=0.0)]


def train(
    model: PreTrainedModel, examples: Iterator[Example], recipe: Recipe, log: Callable[[dict[str, float]], None]
) -> None:
    """Train in place on a stream of examples until the recipe's tokens are seen (or the stream ends).

    The model must have been made with `attn_implementation="eager"`, which takes the additive mask as it is.

    Args:
        log: called after every step with step, tokens seen, loss (nats per target) and learning rate.
    """
    optimizing = optimizers(model, recipe)
    model.train()
    seen = 0
    for step, batch in enumerate(pack(examples, recipe.rows, recipe.row)):
        rate = recipe.learning_rate * recipe.scale(step, seen / recipe.tokens)
        for group in (group for optimizer in optimizing for group in optimizer.param_groups):
            group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16):
            loss, targets = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        for optimizer in optimizing:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seen += targets
        log({"step": step + 1, "tokens": seen, "loss": loss.item(), "learning_rate": rate})
        if seen >= recipe.tokens:
            break
    model.eval()


@torch.no_grad()
def validation_loss(model: PreTrainedModel, examples: Sequence[Example], rows: int = 8) -> float:
    """Mean loss in nats per token over whole examples, each from its beginning, in float32."""
    total, count = 0.0, 0
    for batch in pack(iter(examples), rows):
        loss, targets = loss_of(model, batch, reduction="sum")
        total, count = total + loss.item(), count + targets
    return total / count


def shuffled(examples: Sequence[Example], seed: int) -> Iterator[Example]:
    """An endless stream of the examples, reshuffled each time round."""
    rng = random.Random(seed)
    order = list(examples)
    while True:
        rng.shuffle(order)
        yield from order
