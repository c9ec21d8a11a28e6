"""Tiny models with real tokenizers, saved as folders: pairs for tests of bridges, made in a fraction of a second.

`words` reads whole numbers and `pieces` single digits, so that tokens, their counts and the widths of a pair differ as
they do between real models. Weights are random but spread widely: what a toy writes depends on what it has read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from lib import paths
from lib.bridge import pair
from lib.bridge.pair import Encoded, Pair, encode
from lib.bridge.tasks import TASKS, Item
from lib.data import two_step
from lib.models import bridge
from lib.models.bridge import Bridge, Shape
from lib.params import resolve
from lib.params.bridge import Bridge as Params

FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}
CHAT = "{{ bos_token or '' }}{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
SPECIAL = ("<s>", "</s>", "<pad>", "<unk>")
LIMIT = 8  # new tokens per answer: toys never end by themselves
SIZES = {"train": 24, "validation": 6, "test": 6}


def tokenizer(kind: str, bos: bool = True, chat: bool = False) -> PreTrainedTokenizerFast:
    """`words` or `pieces`, learned from two-step problems; without a BOS token, with a chat template."""
    made = two_step.problems("toys", 300)
    texts = [f"{row.question}\n{row.answer}\nAnswer: " for row in made]
    if kind == "words":
        core = Tokenizer(models.WordLevel(unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Split(Regex(r" ?[A-Za-z]+| ?[0-9]+|\S|\s"), "isolated")
        core.decoder = decoders.Fuse()
        trainer = trainers.WordLevelTrainer(special_tokens=list(SPECIAL), show_progress=False)
    else:
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=330, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False
        )
    core.train_from_iterator(texts, trainer)
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"} | ({"bos_token": "<s>"} if bos else {})
    found = PreTrainedTokenizerFast(tokenizer_object=core, **names)
    found.chat_template = CHAT if chat else None
    return found


def save(
    folder: Path, family: str, kind: str, width: int = 32, bos: bool = True, chat: bool = False, seed: int = 0
) -> str:
    """A model of two layers and its tokenizer as a folder; its path."""
    reader = tokenizer(kind, bos, chat)
    config, model = FAMILIES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = model(
            config(
                vocab_size=len(reader),
                hidden_size=width,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                intermediate_size=48,
                max_position_embeddings=256,
                tie_word_embeddings=True,
                initializer_range=0.3,
                bos_token_id=reader.bos_token_id,
                eos_token_id=reader.eos_token_id,
                pad_token_id=reader.pad_token_id,
            )
        )
    made.save_pretrained(folder)
    reader.save_pretrained(folder)
    return str(folder)


@dataclass(frozen=True)
class World:
    """Folders of a source and a target, both loaded, and what tests do with them; the cache is one of its own."""

    folder: Path
    source: str
    target: str
    pair: Pair

    def params(self, **changed: object) -> Params:
        """Parameters of a bridge that is trained in a blink."""
        plain = {"source": self.source, "target": self.target, "device": "cpu", "soft_tokens": 4, "wire_dim": 6}
        shape = {"bottleneck": 16, "depth": 1, "heads": 4, "ffn": 24, "steps": 6, "batch_size": 8, "warmup": 2}
        counts = {"evaluations": 3, "info_nce": 0.0, **SIZES}
        return resolve("4a_bridge", plain | shape | counts | changed)

    def encoded(self, split: str = "validation", count: int = 6, task: str = "arithmetic") -> Encoded:
        """Items of a generated task for the pair."""
        return encode(self.pair, TASKS[task], TASKS[task].load(split, count, ""))

    def encode(self, items: list[Item], task: str = "arithmetic") -> Encoded:
        """These items for the pair."""
        return encode(self.pair, TASKS[task], items)

    def bridge(self, kind: str = "resampler", seed: int = 0, **changed: int) -> Bridge:
        """An untrained bridge between the two."""
        sizes = {"soft_tokens": 4, "wire_dim": 6, "bottleneck": 16, "depth": 1, "heads": 4, "ffn": 24} | changed
        shape = Shape(kind, self.pair.source_dim, self.pair.target_dim, **sizes)
        return bridge.build(shape, self.pair.reader.rms, seed).eval()


@contextmanager
def world(folder: Path, bos: bool = True, chat: bool = False, device: str = "cpu") -> Iterator[World]:
    """A pair in `folder`: a Llama that reads words and a narrower Qwen2 that reads pieces."""
    source = save(folder / "source", "llama", "words", width=40, chat=chat, seed=1)
    target = save(folder / "target", "qwen2", "pieces", bos=bos, chat=chat, seed=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECOUNT_CACHE", str(folder / "cache"))  # for processes that tests start
        patch.setattr(paths, "CACHE", folder / "cache")
        for name in ("arithmetic", "multihop"):
            patch.setitem(TASKS, name, replace(TASKS[name], max_new_tokens=LIMIT))
        torch.set_num_threads(1)
        yield World(folder, source, target, pair.load(source, target, 0.5, device=device))
