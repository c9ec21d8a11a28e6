"""What an EAGLE head learns from: the target's features over packed documents, and the loss of drafting from them.

The head is taught to guess the next feature (SmoothL1) and the target's law there (cross-entropy against it, through
the target's own LM head), as in Li et al. 2024 ("EAGLE", section 3.2), and to go on from its own guesses.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from lib.models import training
from lib.models.eagle import EagleHead
from lib.models.training import Example


@dataclass(frozen=True)
class Lesson:
    """A batch of B rows of L tokens as the target reads it.

    ids, positions [B, L] int64; mask [B, 1, L, L] float32, additive; features [B, L, h] and the target's law
    [B, L, V] float32; inside [B, L] bool: the token that follows is of the same document.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    features: Tensor
    law: Tensor
    inside: Tensor


@torch.no_grad()
def lesson(target: PreTrainedModel, batch: list[list[Example]]) -> Lesson:
    """What the target makes of packed documents."""
    ids, targets, positions, mask = training.tensors(batch, target.config.pad_token_id)
    with torch.autocast("cpu", torch.bfloat16):
        read = target.base_model(input_ids=ids, position_ids=positions, attention_mask=mask, use_cache=False)
        law = target.lm_head(read.last_hidden_state).float().softmax(-1)
    return Lesson(ids, positions, mask, read.last_hidden_state.float(), law, targets != training.IGNORED)


def drafts(head: EagleHead, lesson: Lesson, features: Tensor, depth: int) -> Iterator[Tensor]:
    """Guesses [B, L, h] of features t + 1, ..., t + depth from every place t at once, each from the guess before.

    At depth d row t stands at place t + d - 1: it sees the rows of depth 1 up to its own, made from true features, and
    its own of the depths between, as it would when drafting after place t was verified. What it reads are the true
    tokens, for a draft behind a wrong one is lost anyway. (Training-time test; Li et al. 2025, "EAGLE-3", section 3.2.)

    Args:
        features: what depth 1 reads, [B, L, h]: the lesson's, perhaps with noise.
    """
    guess, group, length = features, head.heads // head.kv_heads, lesson.ids.shape[1]
    keys, values = [], []
    for step in range(depth):
        x = head.fuse(lesson.ids.roll(-step - 1, 1), guess)  # what is rolled around is behind the end, and not used
        query, key, value = head.project(x, *head.rotary(lesson.positions + step))
        keys.append(key.repeat_interleave(group, 1))
        values.append(value.repeat_interleave(group, 1))
        own = [(query * later).sum(-1, keepdim=True) for later in keys[1:]]
        scores = torch.cat([query @ keys[0].transpose(-1, -2), *own], -1) * head.head_dim**-0.5
        scores[..., :length] += lesson.mask
        shares = scores.softmax(-1).to(value.dtype)
        attended = shares[..., :length] @ values[0]
        for index, later in enumerate(values[1:], length):
            attended = attended + shares[..., index, None] * later
        guess = head.finish(x, attended)
        yield guess


def loss_of(
    head: EagleHead, lesson: Lesson, features: Tensor, depth: int, law_weight: float
) -> tuple[Tensor, list[float]]:
    """The loss of one lesson, mean over depths, and by depth how often the head's likeliest token is the target's.

    Args:
        features: as for `drafts`.
        law_weight: of the cross-entropy beside SmoothL1.
    """
    inside, total, agreement = lesson.inside, torch.zeros(()), []
    for step, guess in enumerate(drafts(head, lesson, features, depth)):
        inside = inside & lesson.inside.roll(-step, 1)
        feature, law = (true.roll(-step - 1, 1)[inside] for true in (lesson.features, lesson.law))
        logits = head.logits(guess[inside]).float()
        cross_entropy = -(law * logits.log_softmax(-1)).sum(-1).mean()
        total = total + F.smooth_l1_loss(guess[inside].float(), feature) + law_weight * cross_entropy
        agreement.append((logits.argmax(-1) == law.argmax(-1)).float().mean().item())
    return total / depth, agreement
