"""What a trained bridge does: on validation items while it is trained, on test items afterwards, and what it costs."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from lib.bridge import decoding
from lib.bridge.decoding import Written
from lib.bridge.pair import Encoded, Pair
from lib.bridge.tasks import Item, Task
from lib.metrics import answers, messages
from lib.metrics.cost import kv_bytes
from lib.models.bridge import Bridge
from lib.models.bridge_reader import IGNORED, Reader

AT_ONCE = 256  # items whose messages are made in one batch
LOGITS = 2**28  # numbers at once: a GB in float32; a large vocabulary with long answers fills a GPU otherwise
MEASURED = 32  # items whose caches are measured


def score(task: Task, items: Sequence[Item], written: Written) -> dict[str, Any]:
    """How good written answers are: the columns of a row about an arm. Nothing unreadable is right."""
    read = [task.read(text) for text in written.texts]
    flexible = [task.flexible(text) for text in written.texts]
    right = [task.right(answer, item.gold) for answer, item in zip(read, items, strict=True)]
    overlap = [answers.hotpotqa_em_f1(answer, item.gold) for answer, item in zip(read, items, strict=True)]
    em, f1 = np.mean(overlap, axis=0).tolist() if task.overlap else (None, None)
    return {
        "n": len(items),
        "accuracy": float(np.mean(right)),
        "correct": "".join(str(int(r)) for r in right),
        "flexible": float(np.mean([task.right(a, i.gold) for a, i in zip(flexible, items, strict=True)])),
        "em": em,
        "f1": f1,
        "invalid": float(np.mean([answer is None for answer in read])),
        "capped": float(np.mean(written.capped)),
        "distinct": messages.distinct(read),
        "commonest": max(Counter(item.gold for item in items).values()) / len(items),
        "context_tokens": float(np.mean(written.context)),
    }


@torch.inference_mode()
def sent(bridge: Bridge, encoded: Encoded) -> Tensor:
    """Messages [N, soft_tokens, wire_dim] float32 of all items."""
    parts = []
    for begin in range(0, len(encoded.items), AT_ONCE):
        states, mask = encoded.states.rows(np.arange(begin, min(begin + AT_ONCE, len(encoded.items))))
        parts.append(bridge.message(states, mask).float())
    return torch.cat(parts)


@torch.inference_mode()
def answer_messages(pair: Pair, bridge: Bridge, task: Task, message: Tensor, hygiene: bool) -> Written:
    """What the target answers to messages [N, K, w], of which it sees nothing but [BOS | soft tokens | anchor].

    Equal messages are answered once.
    """
    different, place = torch.unique(message.flatten(1), dim=0, return_inverse=True)
    soft = bridge.receive(different.view(-1, *message.shape[1:]))
    inputs = pair.reader.message_inputs(soft)
    with pair.reader.guard(soft):
        written = decoding.answer_embeddings(pair.reader, list(inputs), task.max_new_tokens, hygiene)
    index = place.tolist()
    pick = [[values[i] for i in index] for values in (written.texts, written.capped, written.context)]
    return Written(*pick)


@torch.inference_mode()
def message_loss(reader: Reader, bridge: Bridge, message: Tensor, encoded: Encoded) -> float:
    """Cross-entropy in nats per answer token of the gold answers of `encoded`, given messages [N, K, w]."""
    prefixes = reader.message_inputs(bridge.receive(message))
    return answer_loss(reader, list(prefixes), encoded)


@torch.inference_mode()
def answer_loss(reader: Reader, prefixes: Sequence[Tensor], encoded: Encoded) -> float:
    """Cross-entropy in nats per answer token, teacher-forced, after prefixes [P_i, d] that end with the anchor."""
    total, count = 0.0, 0
    longest = max(map(len, encoded.answers))
    size = max(1, min(AT_ONCE, LOGITS // (longest * reader.model.config.vocab_size)))
    for begin in range(0, len(prefixes), size):
        index = np.arange(begin, min(begin + size, len(prefixes)))
        batch = encoded.batch(index)
        used = batch.labels != IGNORED
        rows = [prefixes[i].to(reader.embedding.weight.dtype) for i in index]
        logits = reader.answer_logits(rows, batch.inputs)[used]
        total += F.cross_entropy(logits, batch.labels[used], reduction="sum").item()
        count += int(used.sum())
    return total / count


def judge(pair: Pair, encoded: Encoded, bridge: Bridge) -> dict[str, float]:
    """What validation items say of a bridge in training: accuracy in both decodings, and the signs of collapse."""
    task, items = encoded.task, encoded.items
    message = sent(bridge, encoded)
    found = {h: score(task, items, answer_messages(pair, bridge, task, message, h)) for h in (False, True)}
    matched = message_loss(pair.reader, bridge, message, encoded)
    shuffled = message_loss(pair.reader, bridge, message.roll(1, 0), encoded)
    flat = message.flatten(1).cpu().numpy()
    healthy = bool(np.isfinite(flat).all())
    return {
        "val_accuracy": found[False]["accuracy"],
        "val_accuracy_hygiene": found[True]["accuracy"],
        "val_ce": finite(matched),
        "val_ce_shuffled": finite(shuffled),
        "delta_ce": finite(shuffled - matched),
        "distinct": found[False]["distinct"],
        "invalid": found[False]["invalid"],
        "cosine": messages.mean_cosine(flat) if healthy else None,
        "effective_rank": messages.effective_rank(flat) if healthy else None,
    }


@torch.inference_mode()
def judge_text(pair: Pair, encoded: Encoded, bridge: Bridge) -> dict[str, float]:
    """The accuracy on validation items of a prompt that stands before the whole text."""
    soft = bridge(*encoded.states.rows(np.arange(len(encoded.items))))
    written = decoding.answer_embeddings(
        pair.reader, pair.reader.text_inputs(soft, encoded.prompts), encoded.task.max_new_tokens
    )
    return {"val_accuracy": score(encoded.task, encoded.items, written)["accuracy"]}


def finite(value: float) -> float | None:
    """None for what JSON has no number for: the loss of a training that diverged."""
    return value if math.isfinite(value) else None


@torch.inference_mode()
def costs(pair: Pair, bridge: Bridge, encoded: Encoded) -> dict[str, Any]:
    """What a question costs as text and as a message: tokens, cache bytes measured on the tensors, bytes to send."""
    task, items = encoded.task, encoded.items
    shape = bridge.shape
    text_tokens = float(np.mean([len(ids) for ids in encoded.questions]))
    message = sent(bridge, encoded)[:MEASURED]
    inputs = pair.reader.message_inputs(bridge.receive(message))
    texts = [pair.reader.message_inputs(pair.reader.embed(ids)[None])[0] for ids in encoded.questions[:MEASURED]]
    of_text, of_message = (np.mean([_cache(pair.reader, row) for row in rows]) for rows in (texts, list(inputs)))
    return {
        "text_tokens": text_tokens,
        "token_ratio": text_tokens / shape.soft_tokens,
        "kv_bytes_text": float(of_text),
        "kv_bytes_bridged": float(of_message),
        "kv_bytes_per_token": float(of_message) / inputs.shape[1],
        "message_bytes_fp16": 2 * shape.soft_tokens * shape.wire_dim,
        "text_bytes": float(np.mean([len(item.question.encode()) for item in items])),
        "entropy_bits": task.entropy_bits() if task.entropy_bits else None,
    }


def _cache(reader: Reader, row: Tensor) -> int:
    """Bytes of the cache that the target fills while reading embeddings [L, d]."""
    given = row[None].to(reader.embedding.weight.dtype)
    return kv_bytes(reader.model(inputs_embeds=given, use_cache=True).past_key_values)
