"""Training of an EAGLE head on a ladder model: about a minute on one thread, on first use, then cached.

Features come from the target reading fresh documents of its corpus (`lib.models.eagle_lessons` has the loss), with
uniform noise on those the head reads, since at drafting most are guesses. A minute is short, so

* the columns of fc that read the embedding, whose entries are a twentieth of a feature's, are trained at that scale;
* one attention head starts as a copying circuit (`lib.models.eagle_wiring`);
* steps are small and many.

    eagle_training.path("ladder-3m")                   the folder, trained if need be
    eagle_training.path("ladder-3m", "feature")        the ablation that sees no token
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from safetensors.torch import load_model
from torch import Tensor, nn
from torch.nn.utils import parametrize
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from lib.data import corpus
from lib.data.tokenizer import encode
from lib.models import cache, eagle_files, ladder, training
from lib.models.eagle import EagleHead
from lib.models.eagle_lessons import lesson, loss_of
from lib.models.eagle_wiring import wire
from lib.models.training import Example

Inputs = Literal["both", "feature", "token"]
SOURCES = [
    *ladder.SOURCES,
    "lib.models.eagle",
    "lib.models.eagle_training",
    "lib.models.eagle_lessons",
    "lib.models.eagle_wiring",
]
TRAINING = "training.json"
STREAM = 1000  # seed of the documents; the target was trained on those of seed 0
VALIDATION_DOCUMENTS, DEPTHS = 64, 5
COPY_TASKS = 40  # from which the wiring learns to read tokens off features; more change nothing


@dataclass(frozen=True)
class Recipe:
    """How to train a head; the schedule is warm-up, constant, then linear to `final` over the last `decay`."""

    tokens: int = 400_000  # read, at least
    rows: int = 3  # per step
    learning_rate: float = 8e-3  # of AdamW, at `width` and below; beyond, inversely to the hidden size
    width: int = 128  # with 8e-3 at 256 drafts are shorter than those of a head that sees tokens only
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: int = 20  # steps
    decay: float = 0.5
    final: float = 0.03
    clip: float = 1.0  # norm of the gradient
    noise: float = 0.06  # half the width of the noise, relative to the mean size of a feature's entries
    law: float = 0.5  # weight of the cross-entropy beside SmoothL1
    depth: int = 1  # draft steps that the loss is taken over; more of them cost more steps than they are worth
    seed: int = 0

    def rate(self, hidden: int, step: int, done: float) -> float:
        """The learning rate at a step for a hidden size, with `done` in [0, 1] of the tokens read."""
        schedule = min(1.0, (step + 1) / self.warmup, max(self.final, (1 - done) / self.decay))
        return self.learning_rate * min(1.0, self.width / hidden) * schedule


RECIPE = Recipe()


def path(name: str, inputs: Inputs = "both", position: int = 0) -> Path:
    """The folder of the head of a ladder model, trained on first use with a progress bar on stderr.

    Args:
        name: as for `ladder.path`; the target is trained first if need be.
        inputs: what the head reads; "feature" and "token" are ablations that see one half of the pair only.
        position: line of the progress bar.

    Returns:
        A folder that `eagle_files.load` and vLLM load, with training.json (recipe, curve, loss, top-1, seconds).

    Raises:
        ValueError: for a name that is not on the ladder, or other inputs.
    """
    label, key = _label_and_key(name, inputs)
    target = ladder.path(name, position)
    return cache.get("eagle", label, key, lambda place: _build(place, target, label, inputs, position))


def folder(name: str, inputs: Inputs = "both") -> Path:
    """Where the head of a ladder model is, or would be, cached; trains nothing. ValueError as for `path`."""
    return cache.folder("eagle", *_label_and_key(name, inputs))


def _label_and_key(name: str, inputs: Inputs) -> tuple[str, str]:
    """What a head is called in the cache, and a hash of everything its weights depend on."""
    if inputs not in get_args(Inputs):
        raise ValueError(f"inputs is {inputs!r}: an EAGLE head reads one of {', '.join(get_args(Inputs))}.")
    facts = {"target": ladder.folder(name).name, "inputs": inputs, "recipe": asdict(RECIPE), "torch": torch.__version__}
    key = cache.key_of(facts | {"source": cache.source_hash(SOURCES)})
    return name if inputs == "both" else f"{name}-{inputs}", key


def training_of(place: Path) -> dict:
    """What training.json of a head's folder says."""
    return json.loads((place / TRAINING).read_text(encoding="utf-8"))


def new_head(target: PreTrainedModel) -> EagleHead:
    """An untrained head in the shape of one of the target's layers; draws from torch's global generator."""
    like = target.config
    shape = (
        "vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads",
        "max_position_embeddings", "rms_norm_eps", "rope_parameters", "tie_word_embeddings",
        "bos_token_id", "eos_token_id", "pad_token_id",
    )  # fmt: skip
    fields = {field: getattr(like, field) for field in shape}
    return EagleHead(LlamaConfig(**fields, num_hidden_layers=1, attention_bias=False, qkv_bias=True), target)


class _Columns(nn.Module):
    """fc.weight is trained as the weight of inputs that were multiplied by `scale` [2h]; 0 hides an input."""

    def __init__(self, scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("scale", scale)

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.scale

    def right_inverse(self, weight: Tensor) -> Tensor:
        return torch.where(self.scale > 0, weight / self.scale, 0.0)


@torch.no_grad()
def _columns(head: EagleHead, features: Tensor, inputs: Inputs) -> _Columns:
    """Embeddings at the size of features; the half that an ablation does not see at 0."""
    hidden = head.config.hidden_size
    ratio = features.std() / head.embed(torch.arange(head.config.vocab_size)).std()
    scale = torch.ones(2 * hidden)
    scale[:hidden] = 0.0 if inputs == "feature" else ratio
    scale[hidden:] = 0.0 if inputs == "token" else 1.0
    return _Columns(scale)


def train(
    head: EagleHead,
    target: PreTrainedModel,
    examples: Iterator[Example],
    recipe: Recipe,
    log: Callable[[dict[str, float]], None],
    inputs: Inputs = "both",
) -> None:
    """Train in place until the recipe's tokens are read (or the stream ends).

    The target must have been made with `attn_implementation="eager"`, which takes the additive mask as it is.

    Args:
        log: called after every step with step, tokens read, loss (mean over depths) and top1 (of depth 1).
    """
    target.requires_grad_(False)
    noise = torch.Generator().manual_seed(recipe.seed)
    optimizer, seen = None, 0
    for step, batch in enumerate(training.pack(examples, recipe.rows)):
        read = lesson(target, batch)
        if optimizer is None:
            parametrize.register_parametrization(head.fc, "weight", _columns(head, read.features, inputs))
            optimizer = torch.optim.AdamW(head.parameters(), betas=recipe.betas, weight_decay=0.0)
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate(head.config.hidden_size, step, seen / recipe.tokens)
        width = 2 * recipe.noise * read.features.abs().mean()
        noisy = read.features + width * (torch.rand(read.features.shape, generator=noise) - 0.5)
        with torch.autocast("cpu", torch.bfloat16):
            loss, agreement = loss_of(head, read, noisy, recipe.depth, recipe.law)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(head.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seen += int(read.inside.sum())
        log({"step": step + 1, "tokens": seen, "loss": loss.item(), "top1": agreement[0]})
        if seen >= recipe.tokens:
            break
    parametrize.remove_parametrizations(head.fc, "weight")


def start(head: EagleHead, target: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> None:
    """Wire the untrained head by what the target makes of a few copy tasks."""
    tasks = corpus.documents(f"wiring {recipe.seed}", COPY_TASKS, "train", "copyedit")
    examples = [Example(ids) for ids in encode(tokenizer, [task.text for task in tasks])]
    read = [lesson(target, batch) for batch in training.pack(iter(examples), recipe.rows)]
    wire(head, torch.cat([one.features[one.inside] for one in read]), torch.cat([one.ids[one.inside] for one in read]))


def _build(place: Path, target_folder: Path, label: str, inputs: Inputs, position: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(target_folder)
    config = AutoConfig.from_pretrained(target_folder)
    target = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    load_model(target, target_folder / "model.safetensors")
    with training.one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(RECIPE.seed)
        wall, cpu = time.perf_counter(), time.process_time()
        head = new_head(target)
        start(head, target, tokenizer, RECIPE)
        curve = _train_with_bar(head, target, tokenizer, label, inputs, position)
        seconds = {"cpu_seconds": time.process_time() - cpu, "wall_seconds": time.perf_counter() - wall}
        record = {"name": label, "target": target_folder.name, "inputs": inputs, "recipe": asdict(RECIPE)}
        record |= {"parameters": sum(weight.numel() for weight in head.parameters()), "curve": curve}
        record |= {name: round(value, 2) for name, value in seconds.items()} | validate(head, target, tokenizer)
    eagle_files.save(head, place, target)
    (place / TRAINING).write_text(json.dumps(record | {"torch": torch.__version__}, indent=1), encoding="utf-8")


def _train_with_bar(
    head: EagleHead,
    target: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    label: str,
    inputs: Inputs,
    position: int,
) -> list[dict[str, float]]:
    """Train with a progress bar; the curve, about 100 steps of it."""
    curve: list[dict[str, float]] = []
    title = f"EAGLE head of {label}"
    with tqdm(total=RECIPE.tokens, desc=title, unit="tok", unit_scale=True, position=position, file=sys.stderr) as bar:

        def log(step: dict[str, float]) -> None:
            bar.set_postfix(loss=f"{step['loss']:.3f}", top1=f"{step['top1']:.3f}", refresh=False)
            bar.update(step["tokens"] - bar.n)
            if not curve or step["tokens"] - curve[-1]["tokens"] >= RECIPE.tokens / 100:
                curve.append({name: round(value, 4) for name, value in step.items()})

        train(head, target, ladder.corpus_stream(tokenizer, STREAM), RECIPE, log, inputs)
    return curve


@torch.no_grad()
def validate(head: EagleHead, target: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> dict[str, float]:
    """Loss on validation documents, and agreement with the target's likeliest token for each of DEPTHS draft steps."""
    documents = corpus.documents(ladder.VALIDATION_SEED, VALIDATION_DOCUMENTS, "validation")
    examples = [Example(ids) for ids in encode(tokenizer, [document.text for document in documents])]
    losses, agreements = [], []
    for batch in training.pack(iter(examples), RECIPE.rows):
        read = lesson(target, batch)
        loss, agreement = loss_of(head, read, read.features, DEPTHS, RECIPE.law)
        losses.append(loss.item())
        agreements.append(agreement)
    top1 = [round(sum(column) / len(column), 4) for column in zip(*agreements, strict=True)]
    return {"validation_loss": round(sum(losses) / len(losses), 4), "validation_top1": top1}


def summary(place: Path) -> str:
    """One line on what a trained head reached."""
    record = training_of(place)
    shares = " ".join(f"{share:.3f}" for share in record["validation_top1"])
    return (
        f"{record['name']}: {record['parameters']:,} weights in {record['cpu_seconds']:.0f} CPU seconds; "
        f"agreement with the target by draft step: {shares}"
    )
