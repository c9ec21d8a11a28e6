"""The ladder: real causal language models in Qwen2's architecture, 60 thousand to 10 million weights, trained here.

Each rung is trained on the same number of tokens of the same generated corpus, so loss falls with size alone and can
be compared with the corpus's exact entropy. A rung is trained the first time somebody asks for its folder and cached
from then on; the folder is an ordinary Hugging Face one that transformers and vLLM load by path. `NAME+SKILL` is a rung
fine-tuned on a skill that the general corpus is too short to teach (`lib.models.skills`).

    ladder.path("ladder-1m")               the folder, trained if need be
    python -m lib.models.ladder --help     train several ahead of time, side by side
"""

import difflib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from lib.data import corpus
from lib.data.tokenizer import encode, train_tokenizer
from lib.models import bars, cache, skills, training
from lib.models.induction import wire
from lib.models.training import Example, Recipe

ROPE_THETA = 1e6  # Qwen2's
CONTEXT = 1024  # positions; the corpus trains the first quarter of them
VALIDATION_DOCUMENTS = 256
VALIDATION_SEED = "validation"
ENCODED_AT_ONCE = 500  # documents; enough to make batch encoding worth it
TRAINING = "training.json"
Log = Callable[[dict[str, float]], None]
DATA = ("arithmetic", "choices", "copyedit", "corpus", "multihop", "stories", "tokenizer", "world")
SOURCES = [*(f"lib.data.{module}" for module in DATA), "lib.models.induction", "lib.models.training"]


@dataclass(frozen=True)
class Rung:
    """Shape and recipe of one model."""

    hidden_size: int
    layers: int
    heads: int
    kv_heads: int
    intermediate_size: int
    recipe: Recipe
    seconds: float  # expected CPU seconds of training, to balance processes
    seed: int = 0

    def config(self, tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
        """The transformers configuration; embeddings are tied, as in Qwen2.5's small models."""
        return Qwen2Config(
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=CONTEXT,
            rope_theta=ROPE_THETA,
            tie_word_embeddings=True,
            # Narrow models need larger initial weights, or attention stays flat for much of so short a run.
            initializer_range=0.04 if self.hidden_size < 320 else 0.02,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )


TOKENS = 409_600
# Heads are at least 32 wide, the smallest that vLLM's attention takes.
RUNGS: dict[str, Rung] = {
    "ladder-micro": Rung(32, 2, 1, 1, 96, Recipe(120_000, 3, 1e-2), 6),
    "ladder-60k": Rung(32, 2, 1, 1, 96, Recipe(TOKENS, 3, 1e-2), 20),
    "ladder-160k": Rung(64, 2, 2, 1, 192, Recipe(TOKENS, 3, 5e-3), 24),
    "ladder-1m": Rung(128, 4, 4, 2, 384, Recipe(TOKENS, 3, 2e-3), 70),
    "ladder-3m": Rung(256, 4, 4, 2, 640, Recipe(TOKENS, 3, 1e-3, decay=0.7), 165),
    "ladder-10m": Rung(320, 8, 10, 2, 960, Recipe(TOKENS, 3, 1e-3), 400),
}
QUICK = ["ladder-60k", "ladder-160k", "ladder-1m", "ladder-3m"]


def split_name(name: str) -> tuple[str, str | None]:
    """Rung and skill of a ladder name; ValueError, with the nearest right name, for any other."""
    rung, _, skill = name.partition("+")
    if rung in RUNGS and (not skill or skill in skills.SKILLS) and not name.endswith("+"):
        return rung, skill or None
    known = [*RUNGS, *(f"{rung}+{skill}" for rung in RUNGS for skill in skills.SKILLS)]
    near = difflib.get_close_matches(name, known, 1, 0.0)[0]
    rungs = ", ".join(RUNGS)
    raise ValueError(f"{name!r} is not on the ladder ({rungs}; alone or plus a skill): did you mean {near!r}?")


def folder(name: str) -> Path:
    """Where a ladder model is, or would be, cached; trains nothing."""
    return cache.folder("ladder", name, cache.key_of(_facts(name)))


def path(name: str, position: int = 0) -> Path:
    """The folder of a ladder model, trained on first use with a progress bar on stderr.

    Args:
        name: a rung (`ladder-1m`) or a rung with a skill (`ladder-1m+arithmetic`).
        position: line of the progress bar, where several processes train side by side.

    Returns:
        A Hugging Face folder: config.json, generation_config.json, model.safetensors (float32), the tokenizer's files,
        and training.json (recipe, tokens, loss curve, validation loss, entropy per token, seconds).

    Raises:
        ValueError: for a name that is not on the ladder.
    """
    rung, skill = split_name(name)
    build = _build_skill if skill else _build_rung
    return cache.get("ladder", name, cache.key_of(_facts(name)), lambda place: build(place, rung, skill, position))


def training_of(place: Path) -> dict:
    """What training.json of a ladder folder says."""
    return json.loads((place / TRAINING).read_text(encoding="utf-8"))


def _facts(name: str) -> dict[str, object]:
    """Everything the weights of a model depend on."""
    rung, skill = split_name(name)
    shape = {key: value for key, value in asdict(RUNGS[rung]).items() if key != "seconds"}
    facts = {"rung": shape, "source": cache.source_hash(SOURCES), "torch": torch.__version__}
    if skill:
        facts["skill"] = asdict(skills.SKILLS[skill]) | {"source": cache.source_hash(["lib.models.skills"])}
    return facts


def corpus_stream(tokenizer: PreTrainedTokenizerFast, seed: int) -> Iterator[Example]:
    """Endless fresh training examples."""
    for block in count():
        documents = corpus.documents(f"train {seed} {block}", ENCODED_AT_ONCE)
        yield from (Example(ids) for ids in encode(tokenizer, [document.text for document in documents]))


def validate(model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Validation loss and the entropy of the same documents, both in nats per token over whole documents."""
    documents = corpus.documents(VALIDATION_SEED, VALIDATION_DOCUMENTS, "validation")
    examples = [Example(ids) for ids in encode(tokenizer, [document.text for document in documents])]
    tokens = sum(len(example.ids) - 1 for example in examples)
    surprisal = sum(document.surprisal for document in documents)
    return {
        "validation_loss": training.validation_loss(model, examples),
        "validation_entropy": surprisal / tokens,
        "entropy_per_token": corpus.entropy_per_document() * len(documents) / tokens,
    }


def _build_rung(place: Path, name: str, skill: None, position: int) -> None:
    rung = RUNGS[name]
    tokenizer = train_tokenizer(CONTEXT)
    with training.one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(rung.seed)
        model = Qwen2ForCausalLM._from_config(rung.config(tokenizer), attn_implementation="eager")
        wire(model)
        stream = corpus_stream(tokenizer, rung.seed)
        record = timed(name, position, rung.recipe, lambda log: training.train(model, stream, rung.recipe, log))
        record |= validate(model, tokenizer)
    save(place, model, tokenizer, {"name": name, "parameters": model.num_parameters(), "rung": asdict(rung)} | record)


def _build_skill(place: Path, name: str, skill: str, position: int) -> None:
    base = path(name, position)
    lesson = skills.SKILLS[skill]
    tokenizer = AutoTokenizer.from_pretrained(base)
    with bars.hidden():
        model = AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager")
    label = f"{name}+{skill}"
    with training.one_thread():
        stream = skills.stream(lesson, tokenizer)
        record = timed(label, position, lesson.recipe, lambda log: training.train(model, stream, lesson.recipe, log))
        record |= validate(model, tokenizer) | {"accuracy": skills.accuracy(lesson, model, tokenizer)}
    facts = {"name": label, "parameters": model.num_parameters(), "base": base.name, "skill": asdict(lesson)}
    save(place, model, tokenizer, facts | record)


def timed(name: str, position: int, recipe: Recipe, train: Callable[[Log], None]) -> dict[str, object]:
    """Run a training with a progress bar; its tokens, loss curve (about 100 points), CPU and wall seconds."""
    curve: list[tuple[int, float]] = []
    wall, cpu = time.perf_counter(), time.process_time()
    with tqdm(total=recipe.tokens, desc=name, unit="tok", unit_scale=True, position=position, file=sys.stderr) as bar:

        def log(step: dict[str, float]) -> None:
            bar.set_postfix(loss=f"{step['loss']:.3f}", refresh=False)
            bar.update(step["tokens"] - bar.n)
            if not curve or step["tokens"] - curve[-1][0] >= recipe.tokens / 100:
                curve.append((step["tokens"], round(step["loss"], 4)))

        train(log)
        tokens = bar.n
    seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
    return {"tokens": tokens, "curve": curve} | {name: round(value, 2) for name, value in seconds.items()}


def save(place: Path, model: Qwen2ForCausalLM, tokenizer: PreTrainedTokenizerFast, record: dict) -> None:
    """Write the folder. Generation stops at the end of a turn and at the end of a text."""
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.bos_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    with bars.hidden():
        model.save_pretrained(place)
    tokenizer.save_pretrained(place)
    (place / TRAINING).write_text(json.dumps(record | {"torch": torch.__version__}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    from lib import console
    from lib.models.ladder_cli import app

    console.command(app, ValueError, RuntimeError)
