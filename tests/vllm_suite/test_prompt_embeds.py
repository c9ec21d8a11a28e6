"""Prompt embeddings on the real vLLM engine: it answers a message as our own model does, token for token.

Both sides compute in float32 but add in different orders, so where two tokens are as good as equal either may be
chosen, and what follows differs. So every token of vLLM's is judged given vLLM's own tokens before it: our model's best
logit may exceed its logit by no more than rounding.
"""

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lib.bridge import serving
from lib.bridge.serving_worker import CPU_BLOCK
from lib.data import two_step
from lib.models import bridge, locate
from lib.models.bridge_reader import Reader
from lib.models.registry import ModelError

NAME = "bridge-micro-target"
COUNT, NEW_TOKENS, BATCHES, REPEATS = 12, 20, [1, 4, 8], 2
ROUNDING = 1e-4  # of a logit: float32, and sums in another order
SOURCE_DIM = 24


@pytest.fixture(scope="module")
def reader(micro_path) -> Reader:
    """The pair's target, trained for seconds in the cache that `micro_path` makes."""
    place = locate.folder(NAME)
    tokenizer = AutoTokenizer.from_pretrained(place)
    model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32)
    return Reader(model, tokenizer, [tokenizer.eos_token_id])


@pytest.fixture(scope="module")
def prompts(reader) -> dict[str, list]:
    """Texts, the same texts as embeddings, and messages of two lengths from bridges that nobody trained."""
    questions = [row.question for row in two_step.problems("serving", COUNT)]
    texts = [reader.bos + reader.ids(f"{question}\n") + reader.anchor for question in questions]
    found = {"text": texts, "embedded": [reader.embed(ids) for ids in texts]}
    return found | {f"latent_{k}": list(messages(reader, k)) for k in (4, 8)}


@torch.no_grad()
def messages(reader: Reader, soft_tokens: int) -> Tensor:
    """What the target sees of messages about states drawn at random."""
    width = reader.embedding.weight.shape[1]
    shape = bridge.Shape("linear", SOURCE_DIM, width, soft_tokens, SOURCE_DIM, 16, 1, 4)
    states = torch.randn(COUNT, 16, SOURCE_DIM, generator=torch.Generator().manual_seed(soft_tokens))
    made = bridge.build(shape, reader.rms, seed=0)
    return reader.message_inputs(made(states, torch.ones(COUNT, 16, dtype=torch.bool)))


@pytest.fixture(scope="module")
def rows(prompts, tmp_path_factory) -> list[dict]:
    """All kinds served by one engine, at every batch size."""
    log = tmp_path_factory.mktemp("serving") / "log.txt"
    return serving.serve(NAME, prompts, NEW_TOKENS, BATCHES, REPEATS, log=log, enforce_eager=True)


@torch.no_grad()
def judge(model: PreTrainedModel, prompt: Tensor, answer: list[int]) -> tuple[Tensor, Tensor]:
    """By how much our best logit exceeds that of each token of an answer [n], and our second best [n], given the prompt
    [L, d] and the tokens before: a forward of the whole, without a cache."""
    before = model.get_input_embeddings()(torch.tensor(answer[:-1]))
    logits = model(inputs_embeds=torch.cat([prompt, before])[None]).logits[0, len(prompt) - 1 :]
    best = logits.topk(2).values
    return best[:, 0] - logits[torch.arange(len(answer)), answer], best[:, 0] - best[:, 1]


def seen(prompts: dict[str, list], kind: str) -> list[Tensor]:
    """The prompts of a kind as embeddings."""
    return prompts["embedded" if kind == "text" else kind]


def test_every_cell_is_there(rows):
    cells = {(row["kind"], row["batch"], row["repeat"]) for row in rows}
    kinds = ("text", "embedded", "latent_4", "latent_8")
    assert cells == {(kind, batch, repeat) for kind in kinds for batch in BATCHES for repeat in range(REPEATS)}
    assert len(rows) == len(cells)
    assert all(len(row["tokens"]) == row["samples"] == COUNT // row["batch"] * row["batch"] for row in rows)


def test_every_token_is_our_own_choice(rows, prompts, reader):
    for row in rows:
        judged = [judge(reader.model, *pair) for pair in zip(seen(prompts, row["kind"]), row["tokens"], strict=False)]
        gaps, margins = map(torch.stack, zip(*judged, strict=True))
        assert gaps.max() < ROUNDING, row["kind"]
        assert margins.median() > 100 * ROUNDING, "most tokens are a clear choice"


@pytest.mark.parametrize("kind", ["text", "latent_4", "latent_8"])
def test_the_judge_notices_another_message(kind, rows, prompts, reader):
    """What the test above must not let pass: answers to other prompts than those that were given."""
    answers = next(row["tokens"] for row in rows if row["kind"] == kind and row["batch"] == 1)
    assert len(set(map(tuple, answers))) > COUNT // 3, "prompts make a difference"
    shifted = [*answers[1:], answers[0]]
    gaps = [judge(reader.model, *pair)[0].max() for pair in zip(seen(prompts, kind), shifted, strict=True)]
    assert sum(gap > 100 * ROUNDING for gap in gaps) > COUNT // 3


def test_token_ids_and_their_embeddings_are_one_prompt(rows):
    def answers(kind: str) -> dict[tuple[int, int], list]:
        return {(row["batch"], row["repeat"]): row["tokens"] for row in rows if row["kind"] == kind}

    assert answers("text") == answers("embedded")


def test_answers_go_on_beyond_their_end(rows, reader):
    answers = [answer for row in rows for answer in row["tokens"]]
    assert {len(answer) for answer in answers} == {NEW_TOKENS}
    assert any(reader.stop_ids[0] in answer[:-1] for answer in answers), "nothing was forced"


def test_positions_and_blocks_are_counted(rows, prompts, reader):
    """A pass holds the most before its last step, when each prompt has its answer but for two tokens in the cache."""
    config = reader.model.config
    head_dim = config.hidden_size // config.num_attention_heads
    position = 2 * 4 * config.num_hidden_layers * config.num_key_value_heads * head_dim  # bytes of float32
    for row in rows:
        lengths = [len(prompt) for prompt in prompts[row["kind"]][: row["samples"]]]
        assert row["prompt_tokens"] == sum(lengths)
        blocks = [-(-(length + NEW_TOKENS - 2) // CPU_BLOCK) for length in lengths]
        held = [sum(blocks[first : first + row["batch"]]) for first in range(0, len(blocks), row["batch"])]
        assert row["kv_bytes"] == max(held) * CPU_BLOCK * position


def test_a_prompt_beyond_the_models_positions_is_one_sentence(reader, log):
    longest = reader.model.config.max_position_embeddings
    with pytest.raises(ModelError, match="max_model_len") as caught:
        serving.serve(NAME, {"latent": [torch.zeros(longest, 32)]}, 1, [1], 1, log=log, enforce_eager=True)
    assert "\n" not in str(caught.value), caught.value
