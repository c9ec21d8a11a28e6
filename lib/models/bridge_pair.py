"""The pair of models that bridges are built between where no hub is at hand: `bridge-source` and `bridge-target`.

They differ as a real pair does: a Llama with 96 dimensions that reads words, a Qwen2 with 128 that reads digits and
pieces of words (`lib.models.bridge_tokenizers`). Both solve the two generated tasks of the study from text almost
always (`lib.models.bridge_lessons` says how that is taught in a minute or two), so what a bridge loses is the bridge's.
`bridge-micro-source` and `bridge-micro-target` are the same idea untaught, for tests: seconds to train, seldom right.

    bridge_pair.path("bridge-source")                          the folder, trained if need be
    python -m lib.models.ladder bridge-source bridge-target    train both ahead of time, side by side
"""

from collections import deque
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

from lib.data import two_hop, two_step
from lib.models import bridge_lessons, bridge_tokenizers, cache, ladder, training
from lib.models.bridge_lessons import ANCHOR, Lesson, Lessons
from lib.models.induction import wire
from lib.models.training import Recipe

CONTEXT = 1024  # positions, as the ladder; a question and its answer are some 80 tokens at most
ROW = 130  # tokens: two documents of a task, or a dozen drills
VOCABULARY_QUESTIONS = 1500  # of each task, from which the tokenizers learn their words
AT_ONCE = 100  # questions in one forward
RECENT = 10  # steps
LEARNED = 0.08  # nats per token: all is known of the opening but yes and no
DATA = ("choices", "two_hop", "two_step", "world")
MODELS = ("bridge_lessons", "bridge_pair", "bridge_tokenizers", "induction", "training")
SOURCES = [*(f"lib.data.{module}" for module in DATA), *(f"lib.models.{module}" for module in MODELS)]

TOKENIZERS = {"llama": bridge_tokenizers.words, "qwen2": bridge_tokenizers.pieces}


@dataclass(frozen=True)
class Member:
    """Shape and recipe of one model of a pair."""

    family: str  # of transformers, and of TOKENIZERS
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    recipe: Recipe
    lessons: Lessons
    seconds: float  # expected CPU seconds of training, to balance processes
    examined: int = 1000  # held-out questions of each task
    seed: int = 0

    def config(self, tokenizer: PreTrainedTokenizerFast) -> PreTrainedConfig:
        """The transformers configuration; a Llama gets biases, which the wired start of its attention needs."""
        fields = {"attention_bias": True} if self.family == "llama" else {}
        return AutoConfig.for_model(
            self.family,
            vocab_size=len(tokenizer),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=CONTEXT,
            rope_parameters={"rope_type": "default", "rope_theta": ladder.ROPE_THETA},
            tie_word_embeddings=True,
            initializer_range=0.04,  # as in the ladder's narrow rungs
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **fields,
        )


# The source is later asked how likely questions are, so it reads a few for their own sake. The target is given the
# source's answers in one of the study's arms, so it repeats some.
SOURCE = Member(
    "llama", 96, 3, 3, 288,
    Recipe(380_000, 8, 3e-3, row=ROW, warmup=20, decay=0.7),
    Lessons({"arithmetic": 4, "multihop": 3, "sum": 20, "same": 2}, {"multihop": 3, "same": 1}, 8000, whole=0.05),
    85,
)  # fmt: skip
TARGET = Member(
    "qwen2", 128, 3, 4, 384,
    Recipe(360_000, 8, 2.5e-3, row=ROW, warmup=20, decay=0.6),
    Lessons({"arithmetic": 3, "multihop": 2, "relay": 2, "sum": 20, "same": 2}, {"multihop": 3, "same": 1}, 8000),
    100,
)  # fmt: skip


def _micro(full: Member) -> Member:
    recipe = replace(full.recipe, tokens=12_000, rows=4, learning_rate=1e-2)
    lessons = replace(full.lessons, opened=0)
    shape = {"hidden_size": 32, "layers": 2, "heads": 1, "intermediate_size": 96}
    return replace(full, **shape, recipe=recipe, lessons=lessons, seconds=3, examined=50)


MEMBERS = {
    "bridge-source": SOURCE,
    "bridge-target": TARGET,
    "bridge-micro-source": _micro(SOURCE),
    "bridge-micro-target": _micro(TARGET),
}


def member(name: str) -> Member:
    """The model of this name; ValueError, with the names there are, for any other."""
    if name not in MEMBERS:
        raise ValueError(f"{name!r} is not a model of the trained pair: use one of {', '.join(MEMBERS)}.")
    return MEMBERS[name]


def folder(name: str) -> Path:
    """Where a model of the pair is, or would be, cached; trains nothing."""
    return cache.folder("bridge", name, _key(name))


def path(name: str, position: int = 0) -> Path:
    """The folder of a model of the pair, trained on first use with a progress bar on stderr.

    Args:
        name: one of MEMBERS.
        position: line of the progress bar, where two processes train side by side.

    Returns:
        A Hugging Face folder: config.json, generation_config.json, model.safetensors (float32), the tokenizer's files,
        and training.json (recipe, tokens, loss curve, validation loss, accuracy, seconds).

    Raises:
        ValueError: for a name that is not one of the pair.
    """
    return cache.get("bridge", name, _key(name), lambda place: _build(place, name, position))


def _key(name: str) -> str:
    facts = {key: value for key, value in asdict(member(name)).items() if key != "seconds"}
    facts |= {"anchor": ANCHOR, "source": cache.source_hash(SOURCES), "torch": torch.__version__}
    return cache.key_of(facts)


def tokenizer(family: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family's model; the same on every call."""
    asked = [*two_step.problems("words", VOCABULARY_QUESTIONS), *two_hop.questions("words", VOCABULARY_QUESTIONS)]
    texts = [text for made in asked for text in (f"{made.question}\n", made.answer, ANCHOR + made.answer)]
    # `wording` asks first, so that "How" stands without a space in front of it.
    return TOKENIZERS[family]([*texts, ANCHOR, "How"], CONTEXT)


def _build(place: Path, name: str, position: int) -> None:
    made = member(name)
    reader = tokenizer(made.family)
    with training.one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(made.seed)
        model = AutoModelForCausalLM.from_config(made.config(reader), attn_implementation="eager")
        wire(model)
        record = ladder.timed(name, position, made.recipe, lambda log: _train(model, reader, made, log))
        record |= examine(model, reader, made.examined)
    ladder.save(place, model, reader, {"name": name, "parameters": model.num_parameters()} | asdict(made) | record)


def _train(model: PreTrainedModel, reader: PreTrainedTokenizerFast, made: Member, log: ladder.Log) -> None:
    """Train in place; the opening lasts until the loss of the last RECENT steps is below LEARNED."""
    recent: deque[float] = deque(maxlen=RECENT)

    def watch(step: dict[str, float]) -> None:
        recent.append(step["loss"])
        log(step)

    def learned() -> bool:
        return len(recent) == RECENT and sum(recent) / RECENT < LEARNED

    training.train(model, bridge_lessons.stream(made.lessons, reader, made.seed, learned), made.recipe, watch)


def examine(model: PreTrainedModel, reader: PreTrainedTokenizerFast, count: int) -> dict[str, object]:
    """Loss and accuracy on `count` validation questions of each task, and accuracy on relays: the study tests.

    The loss is in nats per token of an answer, whose entropy is 0: a question determines its answer.
    """
    tasks = _held_out("validation", count)
    validation = [lesson for task in tasks.values() for lesson in task]
    answers = [lesson.answer for task in tasks.values() for lesson in task[: count // 2]]
    tasks["relay"] = [bridge_lessons.asked(answer, answer) for answer in answers]
    return {
        "validation_loss": training.validation_loss(model, bridge_lessons.examples(reader, validation)),
        "validation_entropy": 0.0,
        "accuracy": {"text": {task: _accuracy(model, reader, lessons) for task, lessons in tasks.items()}},
    }


def _held_out(split: str, count: int) -> dict[str, list[Lesson]]:
    """Questions of both tasks as documents."""
    made = {"arithmetic": two_step.problems("exam", count, split), "multihop": two_hop.questions("exam", count, split)}
    return {task: [bridge_lessons.asked(one.question, one.answer) for one in found] for task, found in made.items()}


@torch.no_grad()
def _accuracy(model: PreTrainedModel, reader: PreTrainedTokenizerFast, lessons: list[Lesson]) -> float:
    """Share of lessons whose greedy answer is the right one, token for token, with its end.

    Greedy decoding writes the right answer exactly where each of its tokens is the likeliest after the right ones
    before it, so one forward over question and answer decides it. Padding is on the right, where nothing sees it.
    """
    found = bridge_lessons.examples(reader, lessons)
    right = 0
    for begin in range(0, len(found), AT_ONCE):
        part = found[begin : begin + AT_ONCE]
        ids = pad_sequence([torch.tensor(example.ids) for example in part], batch_first=True)
        likeliest = model(input_ids=ids, use_cache=False).logits.argmax(-1).tolist()
        right += sum(
            row[e.start - 1 : len(e.ids) - 1] == e.ids[e.start :] for row, e in zip(likeliest, part, strict=True)
        )
    return right / len(found)
