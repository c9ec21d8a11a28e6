"""The two models of a bridge, and a task encoded for them.

The source reads each question once: its hidden states are stored in the cache as safetensors shards, so that neither a
training step nor a later run on the same task needs the source model. States are those of one layer (`layer`, as a
share of the depth), over the tokens of the question as the source's own prompt has it.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from lib.bridge.tasks import Item, Task
from lib.models import cache, hub
from lib.models.bridge_losses import Batch
from lib.models.bridge_reader import ANCHOR, IGNORED, Reader
from lib.models.hub import LoadedModel

# What decides a cached result: a training, or what a text arm wrote and how it was scored.
CODE = [
    *(f"lib.bridge.{name}" for name in ("arms", "decoding", "evaluation", "pair", "stressors", "tasks", "worker")),
    *(f"lib.data.{name}" for name in ("gsm8k", "hotpotqa", "rows")),
    *(f"lib.metrics.{name}" for name in ("answers", "messages")),
    *(f"lib.models.{name}" for name in ("bridge", "bridge_losses", "bridge_reader", "bridge_training", "hub", "muon")),
    "lib.models.wire_noise",
    "lib.params.bridge",
]
SHARD = 2**28  # numbers per file: half a GB of bfloat16
AT_ONCE = 16_384  # tokens that the source reads in one batch


@dataclass
class Pair:
    """Source and target, both frozen, and the layer whose states the source gives away (0 is its embedding).

    `encoded` keeps what was encoded for them, since a bridge and its tuned prompts are trained on the same items.
    """

    source: LoadedModel
    target: LoadedModel
    reader: Reader
    layer: int
    encoded: dict[str, "Encoded"] = field(default_factory=dict, repr=False)

    @property
    def source_dim(self) -> int:
        return self.source.model.config.hidden_size

    @property
    def target_dim(self) -> int:
        return self.target.model.config.hidden_size


def load(source: str, target: str, layer: float, **options: object) -> Pair:
    """Both models by any name (see `lib.models.hub.load`, which takes `options`)."""
    sender, receiver = hub.load(source, **options), hub.load(target, **options)
    for lm in (sender, receiver):
        lm.model.requires_grad_(False)
    depth = sender.model.config.num_hidden_layers
    reader = Reader(receiver.model, receiver.tokenizer, receiver.stop_ids)
    return Pair(sender, receiver, reader, max(1, round(layer * depth)))


def prompt(lm: LoadedModel, task: Task, text: str) -> list[int]:
    """Token ids of a text to be answered, up to and with the anchor: through the chat template where there is one."""
    return prompts(lm, task, [text])[0]


def prompts(lm: LoadedModel, task: Task, texts: Sequence[str]) -> list[list[int]]:
    """`prompt` of many texts."""
    anchor = lm.tokenizer(ANCHOR, add_special_tokens=False)["input_ids"]
    return [ids + anchor for ids in contexts(lm, task, texts)]


def contexts(lm: LoadedModel, task: Task, texts: Sequence[str]) -> list[list[int]]:
    """`prompts` without the anchor: what the source has read when its states are taken."""
    tokenizer = lm.tokenizer
    asked = [f"{task.instruction}\n\n{text}" if task.instruction else text for text in texts]
    if tokenizer.chat_template:
        messages = [[{"role": "user", "content": text}] for text in asked]
        written = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        return tokenizer(written, add_special_tokens=False)["input_ids"]
    before = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    read = tokenizer([f"{text}\n" for text in asked], add_special_tokens=False)["input_ids"]
    return [before + ids for ids in read]


class States:
    """Hidden states of many texts: rows of one tensor, in shards; `offsets` int64 [N + 1]."""

    def __init__(self, shards: list[Tensor], offsets: np.ndarray, device: torch.device) -> None:
        self.shards, self.offsets, self.device = shards, offsets, device
        self.starts = np.cumsum([0, *(len(shard) for shard in shards)])

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def rows(self, index: np.ndarray) -> tuple[Tensor, Tensor]:
        """States [B, T, d] float32, zero after each end, and their mask (bool [B, T]), on the device."""
        lengths = torch.from_numpy(self.lengths[index])
        position = torch.arange(int(lengths.max()))
        mask = position < lengths[:, None]
        wanted = (torch.from_numpy(self.offsets[index])[:, None] + position)[mask].numpy()
        found = torch.zeros((*mask.shape, self.shards[0].shape[1]))
        found[mask] = self._at(wanted)
        return found.to(self.device), mask.to(self.device)

    def _at(self, wanted: np.ndarray) -> Tensor:
        if len(self.shards) == 1:
            return self.shards[0][torch.from_numpy(wanted)].float()
        shard = np.searchsorted(self.starts, wanted, side="right") - 1
        parts = [self.shards[s][torch.from_numpy(wanted[shard == s] - self.starts[s])] for s in np.unique(shard)]
        order = np.argsort(np.concatenate([np.flatnonzero(shard == s) for s in np.unique(shard)]), kind="stable")
        return torch.cat(parts)[torch.from_numpy(order)].float()


@dataclass
class Encoded:
    """Items of a task as the pair sees them: what a bridge is trained on (`Examples`) or judged by."""

    task: Task
    items: list[Item]
    states: States
    questions: list[list[int]]  # the target's tokens of the question alone
    prompts: list[list[int]]  # and of the whole text prompt
    answers: list[list[int]]  # and of the answer, with the id that ends it
    device: torch.device

    @property
    def lengths(self) -> np.ndarray:
        """What makes an example long: states that are read and answer that is written."""
        return self.states.lengths + np.array([len(answer) for answer in self.answers])

    def batch(self, index: np.ndarray) -> Batch:
        """The examples of int64 `index` [B], padded to the longest of them."""
        states, mask = self.states.rows(index)
        labels = self._padded([self.answers[i] for i in index])
        inputs = torch.cat([labels.new_full((len(index), 1), IGNORED), labels[:, :-1]], dim=1)
        questions, prompts = ([rows[i] for i in index] for rows in (self.questions, self.prompts))
        return Batch(states, mask, inputs, labels, self._padded(questions), prompts)

    def _padded(self, rows: list[list[int]]) -> Tensor:
        longest = max(map(len, rows))
        return torch.tensor([[*row, *[IGNORED] * (longest - len(row))] for row in rows], device=self.device)


def encode(pair: Pair, task: Task, items: Sequence[Item]) -> Encoded:
    """Items for the pair, once each; the source's states come from the cache, or are stored there."""
    key = digest(pair, task, items)
    if key not in pair.encoded:
        pair.encoded[key] = _encode(pair, task, items)
    return pair.encoded[key]


def _encode(pair: Pair, task: Task, items: Sequence[Item]) -> Encoded:
    questions = [item.question for item in items]
    stop = pair.target.tokenizer.eos_token_id
    end = pair.reader.stop_ids[0] if stop is None else stop
    return Encoded(
        task,
        list(items),
        _states(pair, contexts(pair.source, task, questions)),
        pair.reader.many_ids(questions),
        prompts(pair.target, task, questions),
        [[*ids, end] for ids in pair.reader.many_ids([item.answer for item in items])],
        pair.target.device,
    )


def _states(pair: Pair, texts: list[list[int]]) -> States:
    """Stored states of token sequences, made now where they are not in the cache."""
    source = pair.source
    facts = {
        "source": fingerprint(source),
        "layer": pair.layer,
        "texts": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "code": cache.source_hash(["lib.bridge.pair"]),
        "torch": torch.__version__,
        "dtype": [str(source.dtype), source.device.type],
    }
    place = cache.get(
        "bridge-states", f"source-states-{len(texts)}", cache.key_of(facts), lambda folder: _store(pair, texts, folder)
    )
    shards = [load_file(file)["states"] for file in sorted(place.glob("states-*.safetensors"))]
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return States(shards, offsets, pair.target.device)


def _store(pair: Pair, texts: list[list[int]], folder: Path) -> None:
    """Let the source read every text, in batches of similar lengths, and write the states in the texts' order."""
    found: list[Tensor | None] = [None] * len(texts)
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    with tqdm(total=len(texts), desc="source states", unit="text", file=sys.stderr, delay=2) as bar:
        while order:
            count = max(1, AT_ONCE // len(texts[order[-1]]))
            part, order = order[-count:], order[:-count]
            for index, states in zip(part, _read(pair, [texts[i] for i in part]), strict=True):
                found[index] = states
            bar.update(len(part))
    begin, number = 0, 0
    while begin < len(found):
        end, size = begin, 0
        while end < len(found) and (end == begin or size + found[end].numel() <= SHARD):
            size, end = size + found[end].numel(), end + 1
        save_file({"states": torch.cat(found[begin:end])}, folder / f"states-{number:05}.safetensors")
        begin, number = end, number + 1


@torch.no_grad()
def _read(pair: Pair, texts: list[list[int]]) -> list[Tensor]:
    """States [T, d] of each text at the pair's layer; padding is on the right, where it changes nothing before it."""
    source = pair.source
    rows = [torch.tensor(text) for text in texts]
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(source.device)
    output = source.model.base_model(input_ids=ids, use_cache=False, output_hidden_states=True)
    states = output.hidden_states[pair.layer].cpu()
    return [states[row, : len(text)].clone() for row, text in enumerate(texts)]


def digest(models: Pair, task: Task, items: Sequence[Item]) -> str:
    """Tells items from others, and how the pair reads them: by their texts, and by the tokens of the first."""
    texts = [[item.question, item.answer, item.gold] for item in items]
    read = [prompt(lm, task, items[0].question + items[0].answer) for lm in (models.source, models.target)]
    return hashlib.sha256(json.dumps([task.name, texts, read]).encode()).hexdigest()


def machine(models: Pair) -> list[str]:
    """What a result depends on besides weights, items and code."""
    return [torch.__version__, *(f"{lm.dtype} {lm.device.type}" for lm in (models.source, models.target))]


def fingerprint(lm: LoadedModel) -> str:
    """Tells a model from another by its weights: a hash of the first numbers of every parameter."""
    digest = hashlib.sha256()
    for name, parameter in lm.model.named_parameters():
        corner = parameter.detach().flatten()[:64].float().cpu()
        digest.update(name.encode() + corner.numpy().tobytes())
    return digest.hexdigest()[:16]
