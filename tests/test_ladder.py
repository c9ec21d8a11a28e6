"""The ladder: names, shapes, an ordinary folder that loads by path, training in one thread, held-out exams."""

import json
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib.data import arithmetic, corpus
from lib.data.choices import Draw
from lib.data.tokenizer import encode, train_tokenizer
from lib.models import cache, induction, ladder, ladder_cli, registry, skills, training
from lib.models.training import Example


@pytest.fixture(scope="module")
def micro(micro_path):
    return AutoModelForCausalLM.from_pretrained(micro_path).eval(), AutoTokenizer.from_pretrained(micro_path)


def test_the_registry_knows_the_rungs():
    assert set(registry.LADDER) == set(ladder.RUNGS)


@pytest.mark.parametrize("name", ["ladder-2m", "ladder-1m+", "ladder-1m+arithmetics", "ladder", "1m", ""])
def test_a_wrong_name_is_one_sentence_with_a_right_one(name):
    with pytest.raises(ValueError, match=r"did you mean 'ladder-.*'\?") as error:
        ladder.path(name)
    suggestion = re.search(r"mean '(.*)'", str(error.value)).group(1)
    assert ladder.split_name(suggestion)


def test_rungs_grow_at_equal_tokens():
    tokenizer = train_tokenizer(ladder.CONTEXT)
    with torch.device("meta"):
        counts = [
            ladder.Qwen2ForCausalLM(ladder.RUNGS[name].config(tokenizer)).num_parameters()
            for name in [*ladder.QUICK, "ladder-10m"]
        ]
    assert counts == sorted(counts)
    assert counts == pytest.approx([60e3, 160e3, 1e6, 3e6, 10e6], rel=0.1)
    assert len({ladder.RUNGS[name].recipe.tokens for name in ladder.QUICK}) == 1


def test_the_folder_is_an_ordinary_one(micro_path, micro):
    model, tokenizer = micro
    files = {file.name for file in micro_path.iterdir()}
    assert {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "training.json"} <= files
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.config.model_type == "qwen2"
    assert model.config.tie_word_embeddings
    assert model.generation_config.eos_token_id == [tokenizer.eos_token_id, tokenizer.bos_token_id]
    assert tokenizer.backend_tokenizer.to_str() == train_tokenizer(ladder.CONTEXT).backend_tokenizer.to_str()
    prompt = tokenizer.apply_chat_template([{"role": "user", "content": "Hi"}], add_generation_prompt=True)
    assert prompt["input_ids"][:2] == [tokenizer.bos_token_id, tokenizer.convert_tokens_to_ids("<|im_start|>")]


def test_the_record_says_what_was_reached(micro_path, micro):
    record = ladder.training_of(micro_path)
    assert record["tokens"] >= ladder.RUNGS["ladder-micro"].recipe.tokens
    assert record["parameters"] == micro[0].num_parameters()
    assert record["curve"][0][1] > 6 > 3 > record["curve"][-1][1]
    assert 0.2 < record["validation_entropy"] < record["validation_loss"] < 1.5
    assert record["validation_entropy"] == pytest.approx(record["entropy_per_token"], rel=0.05)
    assert record["cpu_seconds"] > 0 < record["wall_seconds"]


def test_validation_loss_is_that_of_each_document_alone(micro):
    """Packing must be invisible: the same loss from a plain forward over one document at a time, with transformers' own
    attention, mask and positions."""
    model, tokenizer = micro
    rows = encode(tokenizer, [document.text for document in corpus.documents(4, 12, "validation")])
    total = 0.0
    for row in rows:
        ids = torch.tensor([row])
        with torch.no_grad():
            total += F.cross_entropy(model(input_ids=ids).logits[0, :-1], ids[0, 1:], reduction="sum").item()
    expected = total / sum(len(row) - 1 for row in rows)
    eager = AutoModelForCausalLM.from_pretrained(model.config._name_or_path, attn_implementation="eager")
    assert training.validation_loss(eager, [Example(row) for row in rows], rows=2) == pytest.approx(expected, rel=1e-5)


def test_the_start_already_finds_what_followed_before():
    """Before any training, head 0 of block 0 looks one token back and head 0 of block 1 at the successor of the current
    token's last occurrence."""
    tokenizer = train_tokenizer(ladder.CONTEXT)
    torch.manual_seed(0)
    config = ladder.RUNGS["ladder-1m"].config(tokenizer)
    model = ladder.Qwen2ForCausalLM._from_config(config, attn_implementation="eager")
    induction.wire(model)
    words = torch.randperm(500)[:24] + 10
    with torch.no_grad():
        first, second = model(input_ids=torch.cat([words, words])[None], output_attentions=True).attentions[:2]
    assert all(first[0, 0, index, index - 1] > 0.6 for index in range(1, 48))
    found = [second[0, 0, 24 + index].argmax().item() == index + 1 for index in range(23)]
    assert sum(found) > 18


def test_packing_keeps_every_document_whole_once():
    lengths = [5, training.ROW, 200, 100, 58, 30, 258, 1, 128, 129]
    examples = [Example([index + 1] * length) for index, length in enumerate(lengths)]
    batches = list(training.pack(iter(examples), 2))
    packed = [example for batch in batches for row in batch for example in row]
    assert sorted(example.ids for example in packed) == sorted(example.ids for example in examples)
    assert all(sum(len(example.ids) for example in row) <= training.ROW for batch in batches for row in batch)


def test_targets_start_where_the_answer_starts():
    ids, targets, positions, mask = training.tensors([[Example([5, 6, 7, 8], 2), Example([9, 10], 1)]], pad=0)
    assert ids.tolist() == [[5, 6, 7, 8, 9, 10]]
    ignored = training.IGNORED
    assert targets.tolist() == [[ignored, 7, 8, ignored, 10, ignored]]
    assert positions.tolist() == [[0, 1, 2, 3, 0, 1]]
    assert (mask[0, 0, 5] == 0).tolist() == [False] * 4 + [True] * 2


def test_one_thread_is_given_back():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), training.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_asking_again_trains_nothing(micro_path, monkeypatch):
    monkeypatch.setattr(training, "train", None)
    state = torch.get_rng_state()
    assert ladder.path("ladder-micro") == micro_path
    assert torch.equal(torch.get_rng_state(), state)


def test_the_key_depends_on_recipe_and_torch(monkeypatch):
    before = ladder.folder("ladder-micro")
    monkeypatch.setattr(torch, "__version__", "0.0")
    other = ladder.folder("ladder-micro")
    assert before != other
    rung = ladder.RUNGS["ladder-micro"]
    monkeypatch.setitem(ladder.RUNGS, "ladder-micro", replace(rung, seed=1))
    assert ladder.folder("ladder-micro") not in (before, other)


def test_lessons_are_documents_of_the_corpus_with_the_loss_on_the_answer(micro):
    _, tokenizer = micro
    lessons = skills.stream(skills.SKILLS["arithmetic"], tokenizer)
    for _, lesson in zip(range(50), lessons, strict=False):
        text, answer = tokenizer.decode(lesson.ids), tokenizer.decode(lesson.ids[lesson.start :])
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == lesson.ids
        assert re.match(r" ?\d+ [-+*] \d+ = <<", answer)
        assert re.search(r"#### \d+<\|(im_end|endoftext)\|>$", answer)


def copied(text):
    """What an ideal reader of a copy or edit task writes, found without the generator."""
    asked, passage = re.search(
        r"(?:user\n|Question: )(.*?)\n\n(.*?)(?:<\|im_end\|>|\nAnswer:)", text, re.DOTALL
    ).groups()
    if speaker := re.match(r"What does (\w+) say", asked):
        return re.search(rf'\b{speaker[1]} says: ("[^"]*")', passage)[1]
    new, old = re.findall(r'"(\w+)"', asked) or ("", "\0")
    return re.sub(rf"\b{old}\b", new, passage)


def test_copyedit_starts_with_swaps_then_mixes_tasks_and_whole_documents(micro):
    _, tokenizer = micro
    skill = replace(skills.SKILLS["copyedit"], opening=(20, {"swap": 1}))
    kinds = Counter()
    for number, lesson in zip(range(400), skills.stream(skill, tokenizer), strict=False):
        text, answer = tokenizer.decode(lesson.ids), tokenizer.decode(lesson.ids[lesson.start :])
        body = text.removeprefix(tokenizer.bos_token)
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == lesson.ids
        if lesson.start == 1:
            assert corpus.stream_of(body) == "train"
            kinds["document"] += 1
        else:
            assert answer.strip(" ").removesuffix(corpus.IM_END).removesuffix(corpus.END_OF_TEXT) == copied(text)
            kinds["swap" if "." not in answer and "Write" in text else re.search("Say|Repeat|Write|What", text)[0]] += 1
        assert number >= 20 or kinds["swap"] == number + 1
    assert all(kinds[kind] > 0 for kind in ("swap", "document", "Say", "Repeat", "Write"))


def test_swaps_replace_half_of_the_words():
    draw = Draw("swaps")
    words = [word for _ in range(500) for word in _replaced(skills.SUBJECTS["copyedit"].task(draw, "swap", "train"))]
    assert sum(words) / len(words) == pytest.approx(0.5, abs=0.05)


def _replaced(task):
    before = task.question.split("\n\n")[1].split()
    return [old != new for old, new in zip(before, task.answer.split(), strict=True)]


EXAMS = [(name, kind) for name, skill in skills.SKILLS.items() for kind in skills.SUBJECTS[skill.subject].kinds]


@pytest.mark.parametrize(("name", "kind"), EXAMS)
def test_exams_are_held_out_and_different(name, kind):
    skill = replace(skills.SKILLS[name], examined=40)
    tasks = skills.exam(skill, kind)
    assert len({task.question for task in tasks}) == 40
    draw = Draw("other")
    lessons = {skills.SUBJECTS[name].task(draw, kind, "train").question for _ in range(2000)}
    assert not lessons & {task.question for task in tasks}
    if name == "arithmetic":
        problems = arithmetic.problems(f"final exam {kind}", 40, kind, "heldout")
        assert tasks == [(problem.question, problem.answer) for problem in problems]
    else:
        assert {corpus.stream_of(corpus.chat(*task)) for task in tasks} == {"validation"}


@pytest.mark.parametrize("name", skills.SKILLS)
def test_the_exam_counts_what_is_solved(name, monkeypatch):
    """A model that writes the answer to every prompt but the first of each batch."""
    skill = replace(skills.SKILLS[name], examined=4)
    answers = {
        prompt: answer
        for kind in skills.SUBJECTS[name].kinds
        for task in skills.exam(skill, kind)
        for prompt, answer in (skills.prompt_and_answer(task, wrapping) for wrapping in skills.WRAPPINGS)
    }

    def greedy(_model, _tokenizer, prompts, _longest):
        written = [answers[prompt].removesuffix(corpus.IM_END) for prompt in prompts]
        return ["Wrong.", *(text.removesuffix(corpus.END_OF_TEXT) for text in written[1:])]

    monkeypatch.setattr(skills, "greedy", greedy)
    kinds = dict.fromkeys(skills.SUBJECTS[name].kinds, 0.75)
    assert skills.accuracy(skill, None, None) == {"chat": kinds, "plain": kinds}


@pytest.mark.parametrize("name", skills.SKILLS)
def test_the_exam_reads_no_answers(micro, name):
    """Changing every answer of the exam may change the score, never what the model writes."""
    model, tokenizer = micro
    tasks = skills.exam(replace(skills.SKILLS[name], examined=6), skills.SUBJECTS[name].kinds[0])
    written = [
        skills.greedy(model, tokenizer, [skills.prompt_and_answer(task, "chat")[0] for task in rows], 12)
        for rows in (tasks, [task._replace(answer="0\n#### 0") for task in tasks])
    ]
    assert written[0] == written[1]


def test_greedy_is_what_one_prompt_alone_would_give(micro):
    model, tokenizer = micro
    tasks = skills.exam(replace(skills.SKILLS["arithmetic"], examined=4), "two_step")
    prompts = [skills.prompt_and_answer(task, "plain")[0] for task in tasks]
    together = skills.greedy(model, tokenizer, prompts, 16)
    assert together == [skills.greedy(model, tokenizer, [prompt], 16)[0] for prompt in prompts]


def test_the_plan_balances_processes_and_keeps_skills_with_their_rung(monkeypatch):
    monkeypatch.setattr(ladder_cli, "seconds", lambda name: {"ladder-3m": 150.0, "ladder-1m": 66.0}.get(name, 20.0))
    assert ladder_cli.plan(ladder.QUICK, 2) == [["ladder-3m"], ["ladder-1m", "ladder-60k", "ladder-160k"]]
    assert ladder_cli.plan(["ladder-1m+arithmetic", "ladder-60k"], 2) == [
        ["ladder-1m", "ladder-1m+arithmetic"],
        ["ladder-60k"],
    ]


def test_heads_of_cached_models_are_shared_out_too(monkeypatch):
    monkeypatch.setattr(ladder_cli, "seconds", lambda name: 0.0)
    shares = ladder_cli.plan(["ladder-1m+copyedit", "ladder-3m"], 2, ["ladder-1m+copyedit", "ladder-3m"])
    assert sorted(shares) == [["ladder-1m", "ladder-1m+copyedit"], ["ladder-3m"]]


def test_the_command_prints_a_table_of_cached_models(micro_path):
    command = [sys.executable, "-m", "lib.models.ladder", "ladder-micro"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    record = json.loads((micro_path / "training.json").read_text())
    assert f"{record['validation_loss']:.3f}" in done.stdout
    wrong = subprocess.run([*command[:-1], "ladder-2m"], capture_output=True, text=True, check=False)
    assert wrong.returncode == 2
    assert "did you mean" in wrong.stderr
    assert "Traceback" not in wrong.stderr


def test_the_cached_model_is_whole(micro_path):
    assert cache.is_complete(micro_path)
