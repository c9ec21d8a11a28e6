"""Letting the target answer, greedily and in batches, from embeddings: the same code for every arm.

transformers applies repetition_penalty and no_repeat_ngram_size to the prompt as well when it is given as ids, and to
the new tokens only when it is given as embeddings. So that both flags mean the same for a text and for a message, every
arm goes in as embeddings, and the flags see what the model has written and nothing else.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lib.generators.hf import own_generation_config
from lib.models.bridge_reader import Reader

HYGIENE = {"repetition_penalty": 1.1, "no_repeat_ngram_size": 3}  # as in the published plan
POSITIONS_AT_ONCE = 32_768  # of a batch: what it reads and may write


@dataclass(frozen=True)
class Written:
    """What the target wrote to each of N prompts, without the id that ends it."""

    texts: list[str]
    capped: list[bool]  # it hit the limit instead of ending
    context: list[int]  # positions that it read before


def answer_texts(reader: Reader, prompts: Sequence[list[int]], max_new_tokens: int, hygiene: bool = False) -> Written:
    """Answers to prompts of token ids, in batches of similar length."""
    return answer_embeddings(reader, [reader.embed(ids) for ids in prompts], max_new_tokens, hygiene)


def answer_embeddings(reader: Reader, prompts: Sequence[Tensor], max_new_tokens: int, hygiene: bool = False) -> Written:
    """Answers to prompts given as embeddings [L_i, d], each with its own length."""
    lengths = np.array([len(prompt) for prompt in prompts])
    texts, capped = [""] * len(prompts), [False] * len(prompts)
    order = np.argsort(-lengths, kind="stable")
    while len(order):
        count = max(1, POSITIONS_AT_ONCE // int(lengths[order[0]] + max_new_tokens))
        part, order = order[:count], order[count:]
        answered = _answer(reader, [prompts[i] for i in part], max_new_tokens, hygiene)
        for index, (text, full) in zip(part, answered, strict=True):
            texts[index], capped[index] = text, full
    return Written(texts, capped, lengths.tolist())


@torch.inference_mode()
def _answer(reader: Reader, prompts: list[Tensor], max_new_tokens: int, hygiene: bool) -> list[tuple[str, bool]]:
    """One batch, padded on the left."""
    longest = max(map(len, prompts))
    inputs = prompts[0].new_zeros(len(prompts), longest, prompts[0].shape[-1])
    mask = torch.zeros(len(prompts), longest, dtype=torch.long, device=inputs.device)
    for row, prompt in enumerate(prompts):
        inputs[row, longest - len(prompt) :] = prompt
        mask[row, longest - len(prompt) :] = 1
    # A model's own generation_config may hold a repetition penalty, as Qwen2.5's do: no arm is to have it unasked.
    with own_generation_config(reader.model), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Passing `(repetition_penalty|no_repeat_ngram_size)` with `inputs_embeds`")
        ids = _greedy(reader, inputs, mask, max_new_tokens, hygiene)
    found = []
    for row in ids.tolist():
        end = next((place for place, token in enumerate(row) if token in reader.stop_ids), None)
        found.append((reader.tokenizer.decode(row[:end], skip_special_tokens=True), end is None))
    return found


def _greedy(reader: Reader, inputs: Tensor, mask: Tensor, max_new_tokens: int, hygiene: bool) -> Tensor:
    """New token ids [B, at most max_new_tokens]."""
    return reader.model.generate(
        inputs_embeds=inputs.to(reader.embedding.weight.dtype),
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=reader.stop_ids,
        pad_token_id=reader.pad,
        **(HYGIENE if hygiene else {}),
    )
