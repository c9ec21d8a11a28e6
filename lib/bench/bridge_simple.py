"""What the training and the evaluation of bridges are measured against: the loops that one would write first.

Training: examples in random order; the source reads the questions of a batch again at every step, padded to the longest
of them; float32 throughout; the kernel of attention that the models come with; AdamW, which updates one parameter after
another. Evaluation: one question after another, each read by the source and answered by `generate`.

Kept alike, so that both sides do the same work: the bridge, the losses, the size of a batch, clipping, greedy answers
from the same embeddings. Questions are tokenised once, in the simple loops' favour.

Every ingredient of ours can be put into the training loop, so that each can be left out alone and its worth be seen.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor

from lib.bridge.pair import Encoded, Pair, contexts
from lib.generators.hf import own_generation_config
from lib.models import bridge_losses, bridge_training
from lib.models.bridge import Bridge
from lib.models.bridge_losses import Batch, Recipe

INGREDIENTS = ("cached_states", "length_buckets", "attention_kernel", "bfloat16")


class Reading:
    """Stands in for stored states: the source reads the questions whenever their states are asked for."""

    def __init__(self, pair: Pair, encoded: Encoded) -> None:
        self.pair = pair
        self.texts = contexts(pair.source, encoded.task, [item.question for item in encoded.items])
        self.lengths = encoded.states.lengths

    @torch.no_grad()
    def rows(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """States [B, T, d] float32 of the texts of int64 `index` [B], and their mask (bool [B, T])."""
        source = self.pair.source
        texts = [torch.tensor(self.texts[i]) for i in index]
        ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).to(source.device)
        lengths = torch.tensor([len(text) for text in texts], device=source.device)
        mask = torch.arange(ids.shape[1], device=source.device) < lengths[:, None]
        output = source.model(input_ids=ids, attention_mask=mask.long(), use_cache=False, output_hidden_states=True)
        return output.hidden_states[self.pair.layer].float(), mask


def rereading(pair: Pair, encoded: Encoded) -> Encoded:
    """The same items, whose states are not stored."""
    return replace(encoded, states=Reading(pair, encoded))


class Training:
    """The loop, with those of INGREDIENTS that it is given; `bridge` is trained in place."""

    def __init__(
        self, pair: Pair, bridge: Bridge, encoded: Encoded, recipe: Recipe, ingredients: Collection[str] = ()
    ) -> None:
        self.bridge, self.reader, self.recipe = bridge, pair.reader, recipe
        self.encoded = encoded if "cached_states" in ingredients else rereading(pair, encoded)
        self.lengths = encoded.lengths if "length_buckets" in ingredients else np.zeros(len(encoded.items))
        self.attention = bridge_training.plain_attention if "attention_kernel" in ingredients else nullcontext
        self.bfloat16 = "bfloat16" in ingredients
        self.optimizer = torch.optim.AdamW(bridge.parameters(), recipe.learning_rate, foreach=False)

    def run(self, seed: int) -> list[float]:
        """As many steps as the recipe says, on batches drawn with the seed; the loss of each."""
        batches = self._batches(np.random.default_rng(seed))
        return [self._step(next(batches), step) for step in range(self.recipe.steps)]

    def _batches(self, order: np.random.Generator) -> Iterator[Batch]:
        """Without end; texts that all count as equally long are in random order."""
        while True:
            for index in bridge_training.buckets(self.lengths, self.recipe.batch_size, order):
                yield self.encoded.batch(index)

    def _step(self, batch: Batch, step: int) -> float:
        device = batch.states.device
        self.optimizer.zero_grad()
        with self.attention(self.reader):
            with torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                loss = self._loss(batch, step)
            loss.backward()
        torch.nn.utils.clip_grad_norm_(self.bridge.parameters(), self.recipe.clip)
        self.optimizer.step()
        return loss.item()

    def _loss(self, batch: Batch, step: int) -> Tensor:
        see, state = bridge_losses.message, PartialState()
        losses = bridge_losses.losses_of(self.bridge, self.reader, batch, self.recipe, see, step, state)
        return sum(self.recipe.weights[name] * loss for name, loss in losses.items())


@torch.no_grad()
def answer(pair: Pair, bridge: Bridge, encoded: Encoded, i: int) -> str:
    """The target's greedy answer to item i, told by a message alone."""
    reader = pair.reader
    inputs = reader.message_inputs(bridge(*encoded.states.rows(np.array([i]))))
    with own_generation_config(reader.model):
        ids = reader.model.generate(
            inputs_embeds=inputs.to(reader.embedding.weight.dtype),
            attention_mask=torch.ones(inputs.shape[:2], dtype=torch.long, device=inputs.device),
            do_sample=False,
            max_new_tokens=encoded.task.max_new_tokens,
            eos_token_id=reader.stop_ids,
            pad_token_id=reader.pad,
        )
    return reader.tokenizer.decode(ids[0], skip_special_tokens=True)
