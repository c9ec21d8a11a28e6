"""The two ways in which a question reaches the target, stage by stage, with a clock around each stage.

    text:    target_tokenize -> target_prefill -> decode
    message: source_tokenize -> source_prefill -> sender -> encode
             -> unpack -> receiver -> target_prefill -> decode

Stages do what a deployment would do and no more: the source runs up to the layer whose states are sent and keeps no
cache, the target computes logits of the last position alone, and a batch of prompts of one length carries no mask. The
answer has a forced length, so that arms differ in what is read and not in when the target stops.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lib.bridge.pair import Pair, contexts, prompts
from lib.bridge.tasks import Task
from lib.metrics.cost import kv_bytes
from lib.models import wire
from lib.models.bridge import Bridge
from lib.models.bridge_reader import Reader, left_padded
from lib.params import ParameterError

STAGES = (
    "source_tokenize", "source_prefill", "sender", "encode",  # the source's side
    "unpack", "receiver", "target_tokenize", "target_prefill", "decode",
)  # fmt: skip
TEXT = "text"  # the arm that sends the question itself


class Clock:
    """Seconds by stage; the device has finished before each reading."""

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._cuda = device if device.type == "cuda" else None

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        self._wait()
        start = time.perf_counter()
        yield
        self._wait()
        self.seconds[stage] += time.perf_counter() - start

    def _wait(self) -> None:
        if self._cuda is not None:
            torch.cuda.synchronize(self._cuda)


@dataclass
class Read:
    """What the target holds after its prompts: the cache, the first token of each answer, and a mask if they differ in
    length."""

    cache: Any
    token: Tensor  # int64 [B, 1]
    mask: Tensor | None  # int64 [B, P]
    positions: int  # P, of each row, with padding


@dataclass(frozen=True)
class Answered:
    """A batch that was answered."""

    tokens: Tensor  # int64 [B, new_tokens]
    context_tokens: list[int]  # positions that the target read, without padding
    padded_tokens: int  # of each, with it
    masked: bool  # whether prompts differed in length, so that the target had to be told where they begin
    kv_prefill_bytes: int  # the target's cache when it has read
    kv_bytes: int  # and when it has written


@dataclass
class Setting:
    """What all arms share: the models, the task, and how answers and messages are made."""

    pair: Pair
    task: Task
    new_tokens: int
    codec: str
    front: nn.Module = field(init=False)  # the source up to the layer whose states are sent

    def __post_init__(self) -> None:
        self.front = front(self.pair.source.model.base_model, self.pair.layer)

    @property
    def device(self) -> torch.device:
        return self.pair.target.device


@dataclass(frozen=True)
class Arm:
    """A way for questions to reach the target: as text, or over a bridge."""

    name: str
    bridge: Bridge | None = None

    @property
    def about(self) -> dict[str, Any]:
        return {"arm": self.name, "tokens": self.bridge.shape.soft_tokens if self.bridge else None}

    def send(self, setting: Setting, clock: Clock, questions: Sequence[str]) -> list[bytes]:
        """What goes over the link for each question of a batch."""
        if self.bridge is None:
            return [question.encode() for question in questions]
        return send(setting, clock, self.bridge, questions)

    def read(self, setting: Setting, clock: Clock, sent: Sequence[bytes]) -> Answered:
        """What the target makes of it."""
        if self.bridge is None:
            return read_text(setting, clock, [text.decode() for text in sent])
        return read_message(setting, clock, self.bridge, sent)

    def guard(self, setting: Setting, sent: Sequence[bytes]) -> AbstractContextManager[None]:
        """LeakError inside where the target reads anything but what was sent as messages; a text may be read."""
        if self.bridge is None:
            return nullcontext()
        return setting.pair.reader.guard(receive(setting, Clock(setting.device), self.bridge, sent))


def front(model: nn.Module, layer: int) -> nn.Module:
    """A decoder that ends after its first `layer` blocks, with the same weights: its `last_hidden_state` is what
    `hidden_states[layer]` of the whole is, to the bit.

    ParameterError for an architecture that does not keep its blocks in `layers` and its last norm in `norm`.
    """
    if not (hasattr(model, "layers") and hasattr(model, "norm")):
        raise ParameterError(
            f"{type(model).__name__} keeps its blocks elsewhere than Llama, Qwen and Mistral do, so it cannot be run "
            "up to a layer: choose a source of these families."
        )
    if layer == len(model.layers):
        return model
    cut = copy.copy(model)  # shares all weights; its own table of modules
    cut._modules = dict(model._modules)
    cut.layers, cut.norm = model.layers[:layer], nn.Identity()
    return cut


@torch.inference_mode()
def read_text(setting: Setting, clock: Clock, questions: Sequence[str]) -> Answered:
    """The target's side of a batch of questions that arrive as text."""
    reader = setting.pair.reader
    with clock("target_tokenize"):
        ids = prompts(setting.pair.target, setting.task, questions)
    with clock("target_prefill"):
        read = prefill(reader, [reader.embed(row) for row in ids])
    return _answer(setting, clock, read, [len(row) for row in ids])


@torch.inference_mode()
def send(setting: Setting, clock: Clock, bridge: Bridge, questions: Sequence[str]) -> list[bytes]:
    """The source's side: the frame of each question of a batch."""
    with clock("source_tokenize"):
        ids = contexts(setting.pair.source, setting.task, questions)
    with clock("source_prefill"):
        states, mask = source_states(setting, ids)
    with clock("sender"):
        message = bridge.message(states, mask).float().cpu().numpy()
    with clock("encode"):
        return [wire.encode(row, setting.codec) for row in message]


@torch.inference_mode()
def read_message(setting: Setting, clock: Clock, bridge: Bridge, frames: Sequence[bytes]) -> Answered:
    """The target's side of a batch of frames."""
    reader = setting.pair.reader
    soft = receive(setting, clock, bridge, frames)
    with clock("target_prefill"):
        read = prefill(reader, list(reader.message_inputs(soft)))
    return _answer(setting, clock, read, [read.positions] * len(frames))


@torch.inference_mode()
def receive(setting: Setting, clock: Clock, bridge: Bridge, frames: Sequence[bytes]) -> Tensor:
    """Soft tokens [B, K, d] that a batch of frames becomes."""
    with clock("unpack"):
        message = torch.from_numpy(np.stack([wire.decode(frame) for frame in frames]))
    with clock("receiver"):
        return bridge.receive(message.to(setting.device))


def source_states(setting: Setting, ids: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """States [B, T, d] at the pair's layer and their mask (bool [B, T]); padding is on the right, where it changes
    nothing before it."""
    rows = [torch.tensor(row) for row in ids]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(setting.pair.source.device)
    lengths = torch.tensor([len(row) for row in ids], device=padded.device)
    states = setting.front(input_ids=padded, use_cache=False).last_hidden_state.to(setting.device)
    mask = torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]
    return states, mask.to(setting.device)


@torch.inference_mode()
def source_cache(setting: Setting, questions: Sequence[str]) -> int:
    """Bytes of the cache that the source holds of a batch if it has read it to go on itself: all of its layers."""
    rows = [torch.tensor(ids) for ids in contexts(setting.pair.source, setting.task, questions)]
    padded = nn.utils.rnn.pad_sequence(rows, batch_first=True).to(setting.pair.source.device)
    return kv_bytes(setting.pair.source.model.base_model(input_ids=padded, use_cache=True).past_key_values)


@torch.inference_mode()
def embedded(setting: Setting, bridge: Bridge, frame: bytes) -> Tensor:
    """The prompt [1 + K + anchor, d] that a frame becomes for the target."""
    reader = setting.pair.reader
    soft = receive(setting, Clock(setting.device), bridge, [frame])
    return reader.message_inputs(soft)[0].to(reader.embedding.weight.dtype)


def prefill(reader: Reader, rows: Sequence[Tensor]) -> Read:
    """The target reads prompts given as embeddings [L_i, d], padded on the left where they differ in length."""
    inputs, mask = left_padded([row.to(reader.embedding.weight.dtype) for row in rows])
    mask = None if len({len(row) for row in rows}) == 1 else mask
    output = reader.model(inputs_embeds=inputs, attention_mask=mask, use_cache=True, logits_to_keep=1)
    token = output.logits[:, -1].argmax(-1, keepdim=True)
    return Read(output.past_key_values, token, mask, inputs.shape[1])


def decode(reader: Reader, read: Read, new_tokens: int) -> Tensor:
    """Greedy ids int64 [B, new_tokens], the first of which the prefill has made; fills the cache."""
    tokens, mask = [read.token], read.mask
    for _ in range(new_tokens - 1):
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), 1)], dim=1)
        output = reader.model(
            input_ids=tokens[-1], past_key_values=read.cache, attention_mask=mask, use_cache=True, logits_to_keep=1
        )
        tokens.append(output.logits[:, -1].argmax(-1, keepdim=True))
    return torch.cat(tokens, dim=1)


def _answer(setting: Setting, clock: Clock, read: Read, context_tokens: list[int]) -> Answered:
    filled = kv_bytes(read.cache)
    with clock("decode"):
        tokens = decode(setting.pair.reader, read, setting.new_tokens)
    masked = read.mask is not None
    return Answered(tokens, context_tokens, read.positions, masked, filled, kv_bytes(read.cache))
