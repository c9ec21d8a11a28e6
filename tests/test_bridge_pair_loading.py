"""Two models and a task between them: states as the source itself computes them, prompts, splits of the real sets."""

import json

import bridge_toys
import datasets
import numpy as np
import pytest
import torch

from lib.bridge import pair, tasks
from lib.bridge.tasks import TASKS
from lib.models.bridge_reader import ANCHOR, IGNORED
from lib.models.registry import ModelError


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def chatty(tmp_path_factory):
    """A pair whose tokenizers have chat templates; the target's has no BOS."""
    with bridge_toys.world(tmp_path_factory.mktemp("chatty"), bos=False, chat=True) as made:
        yield made


# --- states ---------------------------------------------------------------------------------------------------------


def alone(world, encoded):
    """Each question's states by its own forward of the source, at the pair's layer."""
    source, found = world.pair.source, []
    for item in encoded.items:
        ids = torch.tensor(pair.contexts(source, encoded.task, [item.question]))
        with torch.no_grad():
            found.append(source.model(ids, output_hidden_states=True).hidden_states[world.pair.layer][0])
    return found


def test_states_are_those_of_each_text_alone(world):
    encoded = world.encoded(count=6)
    expected = alone(world, encoded)
    assert len({len(states) for states in expected}) > 1
    assert encoded.states.lengths.tolist() == [len(states) for states in expected]
    index = np.array([4, 0, 5])
    states, mask = encoded.states.rows(index)
    assert mask.sum(-1).tolist() == [len(expected[i]) for i in index]
    for row, item in enumerate(index):
        torch.testing.assert_close(states[row][mask[row]], expected[item], rtol=1e-4, atol=1e-5)
        assert (states[row][~mask[row]] == 0).all()


@pytest.mark.parametrize("numbers", [1, 40 * 100, 40 * 130])
def test_several_shards_are_one(world, monkeypatch, numbers):
    """`numbers` per file: one text per shard at least; rows from several of them in any order, one twice."""
    whole = world.encoded(count=6)
    monkeypatch.setattr(pair, "SHARD", numbers)
    monkeypatch.setattr(pair.cache, "key_of", lambda facts: f"shards-{numbers}")
    monkeypatch.setattr(world.pair, "encoded", {})
    parts = world.encoded(count=6)
    assert len(parts.states.shards) > 1
    for index in ([5, 0, 3, 3], [2], range(6)):
        for one, other in zip(parts.states.rows(np.array(index)), whole.states.rows(np.array(index)), strict=True):
            assert torch.equal(one, other)


def test_batches_of_the_source_do_not_matter(world, monkeypatch):
    whole = world.encoded(count=6).states.rows(np.arange(6))[0]
    monkeypatch.setattr(pair, "AT_ONCE", 1)
    monkeypatch.setattr(pair.cache, "key_of", lambda facts: "one-by-one")
    monkeypatch.setattr(world.pair, "encoded", {})
    torch.testing.assert_close(world.encoded(count=6).states.rows(np.arange(6))[0], whole, rtol=1e-4, atol=1e-5)


def test_the_source_reads_a_text_once(world, monkeypatch):
    encoded = world.encoded(count=5)
    monkeypatch.setattr(world.pair, "encoded", {})
    monkeypatch.setattr(pair, "_read", pytest.fail)
    again = world.encoded(count=5)
    assert torch.equal(again.states.rows(np.arange(5))[0], encoded.states.rows(np.arange(5))[0])


def test_another_layer_and_another_source_have_other_states(world, chatty):
    deeper = pair.load(world.source, world.target, 1.0, device="cpu")
    items = TASKS["arithmetic"].load("validation", 3, "")
    first, second = (pair.encode(made, TASKS["arithmetic"], items) for made in (world.pair, deeper))
    assert (world.pair.layer, deeper.layer) == (1, 2)
    assert not torch.equal(first.states.rows(np.arange(3))[0], second.states.rows(np.arange(3))[0])
    other = pair.encode(chatty.pair, TASKS["arithmetic"], items)
    assert not np.array_equal(other.states.lengths, first.states.lengths)


def test_fingerprints_tell_weights_apart(world, tmp_path):
    same = pair.load(world.source, world.target, 0.5, device="cpu")
    assert pair.fingerprint(same.source) == pair.fingerprint(world.pair.source)
    assert pair.fingerprint(same.source) != pair.fingerprint(same.target)
    with torch.no_grad():
        list(same.source.model.parameters())[-1].view(-1)[0] += 1e-3
    assert pair.fingerprint(same.source) != pair.fingerprint(world.pair.source)


def test_both_models_are_frozen_and_in_eval_mode(world):
    for lm in (world.pair.source, world.pair.target):
        assert not lm.model.training
        assert not any(p.requires_grad for p in lm.model.parameters())
    assert (world.pair.source_dim, world.pair.target_dim) == (40, 32)


def test_a_model_that_is_not_there_is_one_sentence():
    with pytest.raises(ModelError) as refused:
        pair.load("/nowhere/at/all", "/nowhere/either", 0.5, device="cpu")
    assert "\n" not in str(refused.value)


# --- prompts --------------------------------------------------------------------------------------------------------


def test_a_prompt_is_bos_the_question_and_the_anchor(world):
    lm, task = world.pair.target, TASKS["arithmetic"]
    ids = pair.prompt(lm, task, "Ada has 14 coins.")
    assert ids[0] == lm.tokenizer.bos_token_id
    assert ids.count(lm.tokenizer.bos_token_id) == 1
    assert lm.tokenizer.decode(ids[1:]) == f"Ada has 14 coins.\n{ANCHOR}"
    assert ids[-len(world.pair.reader.anchor) :] == world.pair.reader.anchor


def test_a_chat_template_is_used_once_and_the_anchor_follows_it(chatty):
    for lm, bos in ((chatty.pair.source, "<s>"), (chatty.pair.target, "")):
        task = TASKS["gsm8k"]
        ids = pair.prompt(lm, task, "Ada has 14 coins.")
        expected = f"{bos}[user]{task.instruction}\n\nAda has 14 coins.[assistant]{ANCHOR}"
        assert ids == lm.tokenizer(expected, add_special_tokens=False)["input_ids"]
        assert ids.count(lm.tokenizer.convert_tokens_to_ids("<s>")) == bool(bos)


def test_the_source_reads_what_stands_before_the_anchor(chatty, world):
    for made in (chatty, world):
        source = made.pair.source
        anchor = source.tokenizer(ANCHOR, add_special_tokens=False)["input_ids"]
        given = pair.contexts(source, TASKS["gsm8k"], ["Who?"])[0]
        assert given + anchor == pair.prompt(source, TASKS["gsm8k"], "Who?")


def test_without_bos_a_message_starts_with_the_soft_tokens(chatty, world):
    soft = torch.zeros(1, 4, 32)
    for made, before in ((chatty, 0), (world, 1)):
        inputs = made.pair.reader.message_inputs(soft)
        assert inputs.shape[1] == before + 4 + len(made.pair.reader.anchor)
        assert (inputs[0, before : before + 4] == 0).all()


def test_answers_end_with_the_id_that_stops(world):
    encoded = world.encoded(count=4)
    reader = world.pair.reader
    for item, answer in zip(encoded.items, encoded.answers, strict=True):
        assert answer[-1] in reader.stop_ids
        assert reader.tokenizer.decode(answer[:-1]) == item.answer


def test_a_batch_shifts_answers_by_one_place(world):
    encoded = world.encoded(count=6)
    batch = encoded.batch(np.array([3, 1]))
    for row, item in enumerate((3, 1)):
        answer, question = encoded.answers[item], encoded.questions[item]
        labels = batch.labels[row].tolist()
        assert labels == answer + [IGNORED] * (len(labels) - len(answer))
        assert batch.inputs[row].tolist() == [IGNORED, *labels[:-1]]
        assert batch.questions[row].tolist()[: len(question)] == question
        assert batch.prompts[row] == encoded.prompts[item]
    assert np.array_equal(encoded.lengths, encoded.states.lengths + [len(answer) for answer in encoded.answers])


def test_soft_tokens_are_as_long_as_an_ordinary_row_of_the_table(world):
    table = world.pair.target.model.get_input_embeddings().weight
    assert world.pair.reader.rms == pytest.approx(np.median(table.square().mean(-1).sqrt().detach().numpy()), rel=0.01)


# --- tasks ----------------------------------------------------------------------------------------------------------

SPLITS = ("train", "validation", "test")


def gsm8k_row(number):
    return {"question": f"What is {number} and {number}?", "answer": f"It is {2 * number}.\n#### {2 * number}"}


def hotpotqa_row(number):
    return {
        "question": f"Where does number {number} live?",
        "answer": f"town {number}",
        "type": "bridge",
        "level": "easy",
        "context": {"title": ["One", "Two"], "sentences": [[f"Text {number}."], ["Aside."]]},
        "supporting_facts": {"title": ["One"], "sent_id": [0]},
    }


REAL = {"gsm8k": (gsm8k_row, "test"), "hotpotqa": (hotpotqa_row, "validation")}


@pytest.mark.parametrize("name", REAL)
def test_a_local_file_is_cut_into_disjoint_splits(name, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(REAL[name][0](number)) for number in range(40)))
    found = {split: TASKS[name].load(split, 100, str(path)) for split in SPLITS}
    assert {split: len(items) for split, items in found.items()} == {"test": 16, "validation": 4, "train": 20}
    assert len({item.question for items in found.values() for item in items}) == 40
    assert [len(TASKS[name].load(split, 3, str(path))) for split in SPLITS] == [3, 3, 3]


@pytest.mark.parametrize("name", REAL)
def test_a_saved_dataset_of_one_split_is_cut_like_a_file(name, tmp_path):
    row, _ = REAL[name]
    datasets.Dataset.from_list([row(number) for number in range(20)]).save_to_disk(tmp_path / "one")
    found = {split: TASKS[name].load(split, 20, str(tmp_path / "one")) for split in ("train", "validation", "test")}
    questions = {split: {item.question for item in items} for split, items in found.items()}
    assert [len(questions[split]) for split in ("test", "validation", "train")] == [8, 2, 10]
    assert len(set.union(*questions.values())) == 20


def test_other_items_in_the_same_file_train_another_bridge(world, tmp_path):
    from lib.bridge.worker import Job

    file = tmp_path / "rows.jsonl"
    keys = []
    for first in (0, 100):
        file.write_text("\n".join(json.dumps(gsm8k_row(first + number)) for number in range(20)))
        keys.append(Job.of(world.params(task="gsm8k", data=str(file), train=8)).facts(world.pair))
    assert keys[0].pop("items") != keys[1].pop("items")
    assert keys[0] == keys[1]


@pytest.mark.parametrize("name", REAL)
def test_a_folder_keeps_its_test_split_and_validates_on_the_end_of_training(name, tmp_path, monkeypatch):
    row, held = REAL[name]
    rows = {"train": range(30), held: range(100, 110)}
    made = {split: datasets.Dataset.from_list([row(n) for n in numbers]) for split, numbers in rows.items()}
    datasets.DatasetDict(made).save_to_disk(tmp_path / "set")
    monkeypatch.setattr(tasks, "CARVED", 8)
    found = {split: TASKS[name].load(split, 100, str(tmp_path / "set")) for split in SPLITS}
    assert {split: len(items) for split, items in found.items()} == {"test": 10, "validation": 8, "train": 22}
    questions = [{item.question for item in items} for items in found.values()]
    assert len(set.union(*questions)) == 40
    assert len(TASKS[name].load("validation", 3, str(tmp_path / "set"))) == 3


@pytest.mark.parametrize("name", ["arithmetic", "multihop"])
def test_generated_splits_share_no_question(name):
    splits = (*SPLITS, *TASKS[name].shifts)
    found = [item.question for split in splits for item in TASKS[name].load(split, 60, "")]
    assert len(set(found)) == 60 * len(splits)


@pytest.mark.parametrize("name", TASKS)
def test_every_gold_answer_is_right_and_nothing_else_is(name, tmp_path):
    path = tmp_path / "rows.jsonl"
    if name in REAL:
        path.write_text("\n".join(json.dumps(REAL[name][0](number)) for number in range(1, 30)))
    task = TASKS[name]
    for item in task.load("train", 4, str(path) if name in REAL else ""):
        for read in (task.read, task.flexible):
            assert task.right(read(item.answer), item.gold)
        assert not task.right(task.read("I do not know."), item.gold)
        assert not task.right(None, item.gold)
        assert task.read(item.answer.replace(f"#### {item.gold}", "#### 997")) != task.read(item.answer)
