"""One question as a message of soft tokens: encoded, sent, decoded and answered, in every number format."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from lib.bridge import chosen, evaluation
from lib.bridge.pair import encode
from lib.models import wire
from lib.params.wire import CODECS

ASKED = 100  # test questions that accuracies are of


@dataclass(frozen=True)
class Sent:
    """What a codec made of the message, and what the target answered to it."""

    codec: str
    frame: bytes
    sizes: wire.Sizes
    came: np.ndarray  # float32 [tokens, width], decoded
    answer: str
    right: bool
    accuracy: float  # over all questions asked

    @property
    def parts(self) -> dict[str, int]:
        """Bytes of each part, in the frame's order."""
        sizes = self.sizes
        found = {"header": sizes.header, "scales": sizes.scales, "numbers": sizes.codes, "anchor": sizes.anchor}
        return found | {"checksum": sizes.checksum}


@dataclass(frozen=True)
class Crossing:
    """A question, its message float32 [tokens, width], and how it crossed the wire in each codec."""

    bridge: str
    question: str
    gold: str
    message: np.ndarray
    sent: dict[str, Sent]
    asked: int

    @property
    def shortest_good(self) -> Sent:
        """The shortest frame that kept 95 % of the best accuracy."""
        best = max(sent.accuracy for sent in self.sent.values())
        return min((s for s in self.sent.values() if s.accuracy >= 0.95 * best), key=lambda s: len(s.frame))


def cross(bridge: str, group: int = 32, scales: str = "fp16") -> Crossing:
    """Send test questions of a bridge (see `lib.bridge.named`), and show the first that fp32 gets right.

    The pair and the bridge are trained if need be, with a progress bar. `group` numbers share a scale of type `scales`.
    """
    subject = chosen.find(bridge)
    pair, task = subject.pair(), subject.task()
    made = subject.bridge(pair)
    encoded = encode(pair, task, subject.items("test", ASKED))
    messages = evaluation.sent(made, encoded).cpu().numpy()
    options = {"group": group, "scales": scales}
    answered = {}
    for codec in CODECS:
        frames = [wire.encode(message, codec, bridge=made.fingerprint, **options) for message in messages]
        came = np.stack([wire.decode(frame) for frame in frames])
        heard = torch.from_numpy(came).to(pair.target.device)
        written = evaluation.answer_messages(pair, made, task, heard, hygiene=False)
        answered[codec] = frames, came, written.texts, evaluation.score(task, encoded.items, written)
    index = max(answered["fp32"][3]["correct"].find("1"), 0)
    sizes = {codec: wire.sizes(*messages.shape[1:], codec, **options) for codec in CODECS}
    sent = {
        codec: Sent(codec, frames[index], sizes[codec], came[index], texts[index].strip(), *_judged(score, index))
        for codec, (frames, came, texts, score) in answered.items()
    }
    item = encoded.items[index]
    return Crossing(bridge, item.question, item.gold, messages[index], sent, len(encoded.items))


def reading(crossing: Crossing) -> str:
    """The longest frame, the shortest that still does, the shortest of all, and the text."""
    longest, shortest = (pick(crossing.sent.values(), key=lambda s: len(s.frame)) for pick in (max, min))
    good = crossing.shortest_good
    return (
        f"{_said(longest)}; {_said(good)}, the shortest frame with 95 % of the best accuracy; {_said(shortest)}. The "
        f"question itself is {len(crossing.question.encode())} bytes of text, before any compression."
    )


def _said(sent: Sent) -> str:
    return f"{sent.codec}: {len(sent.frame)} bytes, {sent.accuracy:.0%} right"


def _judged(score: dict, index: int) -> Iterator[bool | float]:
    """Whether one item was right, and the share of all."""
    yield score["correct"][index] == "1"
    yield score["accuracy"]
