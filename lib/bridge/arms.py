"""The ways in which the target can be told a question, from the whole text to nothing at all.

Text arms need no bridge: `source_alone` and `target_alone` answer the text; `relay` gives the target what the source
wrote; `truncated` gives it the first soft_tokens tokens of the question; `oracle` gives it its own embeddings of the
question in the place of soft tokens. No bridge has a say in their answers, so they are kept in the cache.

Message arms take the messages of a trained bridge, `bridged`, and destroy them: `shuffled` (another item's), `mean`
(of all items), `zero`, `noise` (random, with the mean and spread that every number has over the items). If an answer
survives that, it did not come from the message.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.bridge import decoding, evaluation
from lib.bridge.decoding import Written
from lib.bridge.pair import CODE, Encoded, Pair, digest, fingerprint, machine, prompts
from lib.models import cache
from lib.models.bridge import Bridge
from lib.models.bridge_reader import Reader

TEXT_ARMS = ("source_alone", "target_alone", "relay", "truncated", "oracle")
NAMED = ("arm", "seed", "checkpoint", "decode_hygiene")  # what identifies a row
CONTROLS = ("shuffled", "mean", "zero", "noise")
PROBED = 300  # items at most that cross-entropies are means over


def text_rows(pair: Pair, encoded: Encoded, soft_tokens: int, names: Sequence[str] = TEXT_ARMS) -> list[dict[str, Any]]:
    """One row per named text arm and decoding, with the texts that were written.

    `truncated` alone depends on the length of a message; the others are kept apart, for bridges of every length.
    """
    whole, cut = ([name for name in names if (name == "truncated") == short] for short in (False, True))
    rows = _kept(pair, encoded, 0, whole) if whole else []
    return rows + (_kept(pair, encoded, soft_tokens, cut) if cut else [])


def _kept(pair: Pair, encoded: Encoded, soft_tokens: int, names: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of these arms out of the cache, or made now."""
    facts = {
        "models": [fingerprint(pair.source), fingerprint(pair.target)],
        "items": digest(pair, encoded.task, encoded.items),
        "task": [encoded.task.name, encoded.task.instruction, encoded.task.max_new_tokens],
        "arms": [list(names), soft_tokens],
        "code": cache.source_hash(CODE),
        "machine": machine(pair),
    }

    def build(folder: Path) -> None:
        rows = list(_text_rows(pair, encoded, soft_tokens, names))
        (folder / "rows.json").write_text(json.dumps(rows, allow_nan=False), encoding="utf-8")

    place = cache.get("bridge-text", f"text-arms-{encoded.task.name}", cache.key_of(facts), build)
    return json.loads((place / "rows.json").read_text(encoding="utf-8"))


def _text_rows(pair: Pair, encoded: Encoded, soft_tokens: int, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    task, reader, target = encoded.task, pair.reader, pair.target
    source = Reader(pair.source.model, pair.source.tokenizer, pair.source.stop_ids)
    cut = [target.tokenizer.decode(ids[:soft_tokens]) for ids in encoded.questions]
    for hygiene in (False, True):
        given = {
            "target_alone": [reader.embed(ids) for ids in encoded.prompts],
            "truncated": [reader.embed(ids) for ids in prompts(target, task, cut)],
            "oracle": [reader.message_inputs(reader.embed(ids)[None])[0] for ids in encoded.questions],
        }
        if "source_alone" in names:
            asked = prompts(pair.source, task, [item.question for item in encoded.items])
            answered = decoding.answer_texts(source, asked, task.max_new_tokens, hygiene)
            yield _row(encoded, "source_alone", hygiene, answered)
            given["relay"] = [reader.embed(ids) for ids in prompts(target, task, answered.texts)]
        for arm in (name for name in given if name in names):
            written = decoding.answer_embeddings(reader, given[arm], task.max_new_tokens, hygiene)
            loss = None if arm == "relay" else evaluation.answer_loss(reader, given[arm][:PROBED], encoded)
            yield _row(encoded, arm, hygiene, written) | {"ce": loss}


def tuned_rows(pair: Pair, encoded: Encoded, arm: str, bridge: Bridge) -> Iterator[dict[str, Any]]:
    """`constant`: a tuned prompt instead of the message; `prefix_text`: one before the whole text."""
    reader, task = pair.reader, encoded.task
    with torch.inference_mode():
        soft = bridge.receiver(bridge.message(*encoded.states.rows([0])))
        if arm == "constant":
            rows = list(reader.message_inputs(soft).expand(len(encoded.items), -1, -1))
        else:
            rows = reader.text_inputs(soft.expand(len(encoded.items), -1, -1), encoded.prompts)
    loss = evaluation.answer_loss(reader, rows[:PROBED], encoded)
    for hygiene in (False, True):
        if arm == "constant":
            one = decoding.answer_embeddings(reader, rows[:1], task.max_new_tokens, hygiene)
            written = Written(*(values * len(rows) for values in (one.texts, one.capped, one.context)))
        else:
            written = decoding.answer_embeddings(reader, rows, task.max_new_tokens, hygiene)
        yield _row(encoded, arm, hygiene, written) | {"ce": loss}


def message_rows(
    pair: Pair, encoded: Encoded, bridge: Bridge, arm: str, hygienes: Sequence[bool], seed: int
) -> Iterator[dict[str, Any]]:
    """The row of a message arm for each decoding."""
    message = destroyed(evaluation.sent(bridge, encoded), arm, seed)
    loss = evaluation.finite(evaluation.message_loss(pair.reader, bridge, message[:PROBED], encoded))
    for hygiene in hygienes:
        written = evaluation.answer_messages(pair, bridge, encoded.task, message, hygiene)
        yield _row(encoded, arm, hygiene, written) | {"ce": loss, "seed": seed}


@torch.inference_mode()
def leaked_row(pair: Pair, encoded: Encoded, bridge: Bridge, hygiene: bool, seed: int) -> dict[str, Any]:
    """What the published evaluation measured: the target is given the question and the gold answer beside a message.

    The message is another item's, so nothing that is right here was understood from it. Bypasses the firewall, for the
    stressor `leak` alone.
    """
    soft = bridge.receive(destroyed(evaluation.sent(bridge, encoded), "shuffled", seed))
    told = prompts(pair.target, encoded.task, [f"{item.question}\n{item.answer}" for item in encoded.items])
    rows = pair.reader.text_inputs(soft, told)
    written = decoding.answer_embeddings(pair.reader, rows, encoded.task.max_new_tokens, hygiene)
    loss = evaluation.answer_loss(pair.reader, rows[:PROBED], encoded)
    return _row(encoded, "leaked", hygiene, written) | {"ce": loss, "seed": seed}


def destroyed(message: Tensor, arm: str, seed: int) -> Tensor:
    """Messages [N, K, w] as `arm` sends them; `bridged` leaves them as they are."""
    if arm == "bridged":
        return message
    if arm == "shuffled":
        return message.roll(1, 0)
    if arm == "mean":
        return message.mean(0, keepdim=True).expand_as(message)
    if arm == "zero":
        return torch.zeros_like(message)
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(message.shape, generator=generator).to(message.device)
    return message.mean(0) + message.std(0) * drawn


def told(rows: Iterable[dict[str, Any]], respond: Callable[..., None], **about: Any) -> Iterator[dict[str, Any]]:
    """Measurement rows, whose texts go to `respond` with what identifies them."""
    for row in rows:
        respond(**about, **{name: row[name] for name in NAMED}, texts=row["texts"])
        yield {name: value for name, value in row.items() if name != "texts"}


def _row(encoded: Encoded, arm: str, hygiene: bool, written: Written) -> dict[str, Any]:
    about = {"protocol": "arm", "arm": arm, "checkpoint": "", "decode_hygiene": hygiene, "seed": None, "ce": None}
    return about | evaluation.score(encoded.task, encoded.items, written) | {"texts": written.texts}
