"""The frozen target model of a bridge, and the only ways in which it is given anything to read.

`message_inputs` is the firewall: a target that is to be told by a message alone sees [BOS | soft tokens | anchor], made
here from the soft tokens and two constants, and `guard`, at the model's own door, refuses anything else. No function of
this file that takes a message takes a question or a gold answer beside it, except `answer_logits`, which feeds gold
tokens back for the loss.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

IGNORED = -100  # a label that counts for nothing
ANCHOR = "Answer: "  # stands in front of every answer, as text, in every arm


class LeakError(RuntimeError):
    """The target was about to see something besides the message."""


class Reader:
    """A target model that answers: frozen, in eval mode, with its tokenizer and the ids that end an answer."""

    def __init__(self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", stop_ids: Sequence[int]) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.stop_ids = list(stop_ids)
        self.embedding = model.get_input_embeddings()
        self.device = self.embedding.weight.device
        self.bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
        self.anchor = self.ids(ANCHOR)
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else self.stop_ids[0]
        # Of one row of the table, in the middle of them: what soft tokens are scaled to.
        self.rms = self.embedding.weight.detach().float().square().mean(-1).sqrt().median().item()

    def ids(self, text: str) -> list[int]:
        """Token ids of a text, without special tokens."""
        return self.many_ids([text])[0]

    def many_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """`ids` of many texts, which takes a tokenizer far less time than one by one."""
        return self.tokenizer(list(texts), add_special_tokens=False)["input_ids"]

    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Embeddings [..., d] of token ids."""
        return self.embedding(torch.as_tensor(ids, dtype=torch.long, device=self.device))

    def message_inputs(self, soft: Tensor) -> Tensor:
        """What the target sees of a message: [BOS | soft | anchor] as embeddings [B, 1 + K + anchor, d]."""
        before, after = (self.embed(ids).to(soft.dtype).expand(len(soft), -1, -1) for ids in (self.bos, self.anchor))
        return torch.cat([before, soft, after], dim=1)

    def check(self, inputs: Tensor, soft: Tensor) -> None:
        """LeakError unless `inputs` is what `message_inputs` makes of `soft`, to the bit; NaN, of a training that
        diverged, is itself."""
        allowed = self.message_inputs(soft).to(inputs.dtype)
        if inputs.shape != allowed.shape or not torch.allclose(inputs, allowed, rtol=0, atol=0, equal_nan=True):
            raise LeakError(
                f"The target was given {tuple(inputs.shape)} embeddings that are not [BOS | message | anchor] "
                f"{tuple(allowed.shape)}; what is measured would not be the message."
            )

    @contextmanager
    def guard(self, soft: Tensor) -> Iterator[None]:
        """Stand at the model's own door: LeakError where it is about to read a prompt that is not made of `soft`.

        soft float [B, K, d]: the messages, in the order in which they are answered, each of them once. Tokens that
        the model has written itself come back to it one at a time and pass.
        """
        answered = 0

        def check(_: torch.nn.Module, args: tuple[object, ...], given: dict[str, Any]) -> None:
            nonlocal answered
            ids, inputs = given.get("input_ids"), given.get("inputs_embeds")
            if answered and inputs is None and not args and ids.shape[1] == 1:
                return
            if inputs is None:
                raise LeakError("The target was about to read text that is not its own, beside or without a message.")
            self.check(inputs, soft[answered : answered + len(inputs)])
            answered += len(inputs)

        hook = self.model.register_forward_pre_hook(check, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def text_inputs(self, soft: Tensor | None, prompts: Sequence[Sequence[int]]) -> list[Tensor]:
        """Embeddings [L_i, d] of whole text prompts, with the soft tokens [B, K, d], if any, after the first token.

        For arms that are given the text: a message arm never comes here.
        """
        rows = [self.embed(ids) for ids in prompts]
        if soft is None:
            return rows
        first = len(self.bos)
        return [torch.cat([row[:first], own.to(row.dtype), row[first:]]) for row, own in zip(rows, soft, strict=True)]

    def answer_logits(self, prefix: Tensor | list[Tensor], inputs: Tensor) -> Tensor:
        """Logits [B, A, vocabulary] float32 of the answer's tokens, teacher-forced.

        prefix float [B, P, d], or rows [P_i, d] of different lengths, ends with the anchor; inputs int64 [B, A] holds
        the answer's tokens one place to the right: its first column is ignored, because the prefix's end predicts the
        first label. Rows are padded on the left and masked; rotary positions are relative, so this moves nothing.
        """
        mask = None
        if isinstance(prefix, list):
            prefix, mask = left_padded(prefix)
            mask = torch.cat([mask, mask.new_ones(len(mask), inputs.shape[1] - 1)], dim=1)
        given = torch.cat([prefix, self.embed(inputs[:, 1:].clamp(min=0)).to(prefix.dtype)], dim=1)
        output = self.model(inputs_embeds=given, attention_mask=mask, use_cache=False, logits_to_keep=inputs.shape[1])
        return output.logits.float()

    def question_logits(self, soft: Tensor, inputs: Tensor) -> Tensor:
        """Logits [B, Q, vocabulary] of the question's tokens, teacher-forced, read from [BOS | soft] alone."""
        before = self.embed(self.bos).to(soft.dtype).expand(len(soft), -1, -1)
        return self.answer_logits(torch.cat([before, soft], dim=1), inputs)


def left_padded(rows: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Rows [L_i, d] as one tensor [B, L, d] that ends where they end, and its mask (int64 [B, L])."""
    padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_side="left")
    lengths = torch.tensor([len(row) for row in rows], device=padded.device)
    positions = torch.arange(padded.shape[1], device=padded.device)
    return padded, (positions >= padded.shape[1] - lengths[:, None]).long()
