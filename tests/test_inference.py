"""4c on toys: what is timed is what 4a would compute, stage by stage, and a run holds what it says."""

from dataclasses import replace

import bridge_toys
import numpy as np
import pytest
import torch

from lib.bridge import inference, inference_stages, pair
from lib.bridge.chosen import Chosen
from lib.bridge.inference import Study
from lib.bridge.inference_stages import STAGES, Arm, Clock, Setting
from lib.bridge.tasks import TASKS
from lib.models import wire
from lib.models.bridge_reader import LeakError
from lib.params import ParameterError, resolve

NEW = 6
TARGET_BYTES = (
    2 * 2 * 2 * 8 * 4
)  # of the cache, per position: keys and values, layers, heads of keys, their width, float32


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def setting(world):
    return Setting(world.pair, TASKS["arithmetic"], NEW, "fp32")


@pytest.fixture(scope="module")
def bridge(world):
    return world.bridge()


@pytest.fixture(scope="module")
def items():
    return TASKS["arithmetic"].load("test", 6, "")


@pytest.fixture(scope="module")
def questions(items):
    return [item.question for item in items]


def clock():
    return Clock(torch.device("cpu"))


def written(world, prompt):
    """The forced greedy answer to one prompt of embeddings, by transformers' own generation."""
    model = world.pair.target.model
    kept = {"do_sample": False, "max_new_tokens": NEW, "min_new_tokens": NEW, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(inputs_embeds=prompt[None], attention_mask=torch.ones(1, len(prompt)), **kept)[0]


@pytest.mark.parametrize("layer", [1, 2])
def test_the_front_of_a_model_gives_the_states_of_the_whole_to_the_bit(world, layer):
    model, ids = world.pair.source.model.base_model, torch.arange(5, 17).view(2, 6)
    with torch.inference_mode():
        whole = model(input_ids=ids, output_hidden_states=True).hidden_states[layer]
        front = inference_stages.front(model, layer)(input_ids=ids, use_cache=False).last_hidden_state
    assert torch.equal(front, whole)
    assert len(model.layers) == 2  # the model itself is as it was
    assert next(front_weights(model, layer)).data_ptr() == next(model.parameters()).data_ptr()


def front_weights(model, layer):
    return inference_stages.front(model, layer).parameters()


def test_the_front_of_an_unknown_architecture_is_refused_in_a_sentence():
    with pytest.raises(ParameterError, match="Linear keeps its blocks elsewhere"):
        inference_stages.front(torch.nn.Linear(2, 2), 1)


def test_states_are_those_that_bridges_are_trained_on(world, setting, items, questions):
    stored, stored_mask = world.encode(items).states.rows(np.arange(len(items)))
    ids = pair.contexts(world.pair.source, setting.task, questions)
    with torch.inference_mode():
        states, mask = inference_stages.source_states(setting, ids)
    assert torch.equal(mask, stored_mask)
    torch.testing.assert_close(states[mask], stored[mask], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("size", [1, 6])
def test_text_is_answered_as_transformers_does(world, setting, questions, size):
    reader = world.pair.reader
    prompts = [reader.embed(pair.prompt(world.pair.target, setting.task, question)) for question in questions]
    assert len(set(map(len, prompts))) > 1  # so that batches are padded
    expected = torch.stack([written(world, row) for row in prompts])
    found = [
        inference_stages.read_text(setting, clock(), questions[i : i + size]).tokens
        for i in range(0, len(questions), size)
    ]
    assert torch.equal(torch.cat(found), expected)


@pytest.mark.parametrize("size", [1, 6])
def test_a_message_is_answered_as_4a_does(world, setting, bridge, items, questions, size):
    with torch.inference_mode():
        soft = bridge(*world.encode(items).states.rows(np.arange(len(items))))
        expected = torch.stack([written(world, row) for row in world.pair.reader.message_inputs(soft)])
    found = []
    for begin in range(0, len(questions), size):
        frames = inference_stages.send(setting, clock(), bridge, questions[begin : begin + size])
        found.append(inference_stages.read_message(setting, clock(), bridge, frames).tokens)
    assert torch.equal(torch.cat(found), expected)


def test_the_target_sees_what_crossed_the_wire_and_nothing_else(world, bridge, questions):
    rough = Setting(world.pair, TASKS["arithmetic"], NEW, "int2")
    frames = inference_stages.send(rough, clock(), bridge, questions)
    exact = inference_stages.send(replace(rough, codec="fp32"), clock(), bridge, questions)
    soft = bridge.receive(torch.from_numpy(np.stack([wire.decode(frame) for frame in frames])))
    with world.pair.reader.guard(soft.detach()):
        inference_stages.read_message(rough, clock(), bridge, frames)
    with pytest.raises(LeakError), world.pair.reader.guard(soft.detach()):
        inference_stages.read_message(rough, clock(), bridge, exact)
    for frame, row in zip(frames, soft, strict=True):
        prompt = inference_stages.embedded(rough, bridge, frame)
        assert torch.equal(prompt, world.pair.reader.message_inputs(row[None])[0])


def test_answers_have_the_forced_length_even_where_they_would_stop(world, setting, questions, monkeypatch):
    monkeypatch.setattr(world.pair.reader, "stop_ids", list(range(400)))
    assert inference_stages.read_text(setting, clock(), questions).tokens.shape == (len(questions), NEW)


def test_cache_bytes_are_those_of_all_positions(world, setting, bridge, questions):
    frames = inference_stages.send(setting, clock(), bridge, questions[:2])
    text = inference_stages.read_text(setting, clock(), questions[:2])
    message = inference_stages.read_message(setting, clock(), bridge, frames)
    around = len(world.pair.reader.bos) + len(world.pair.reader.anchor)
    assert message.context_tokens == [4 + around] * 2
    assert text.padded_tokens == max(text.context_tokens)
    for answered in (text, message):
        assert answered.kv_prefill_bytes == 2 * answered.padded_tokens * TARGET_BYTES
        assert answered.kv_bytes == 2 * (answered.padded_tokens + NEW - 1) * TARGET_BYTES


def test_each_stage_takes_the_time_within_it(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(inference_stages.time, "perf_counter", lambda: now[0])
    watched = clock()
    for stage, seconds in (("sender", 2.0), ("decode", 3.0), ("sender", 0.5)):
        now[0] += 10  # between stages
        with watched(stage):
            now[0] += seconds
    assert watched.seconds == dict.fromkeys(STAGES, 0.0) | {"sender": 2.5, "decode": 3.0}


def test_arms_spend_time_in_their_own_stages_alone(setting, bridge, questions):
    spent = {}
    for arm in (Arm("text"), Arm("message", bridge)):
        watched = clock()
        arm.read(setting, watched, arm.send(setting, watched, questions[:2]))
        spent[arm.name] = {stage for stage, seconds in watched.seconds.items() if seconds > 0}
    assert spent["text"] == {"target_tokenize", "target_prefill", "decode"}
    assert spent["message"] == set(STAGES) - {"target_tokenize"}


@pytest.fixture(scope="module")
def study(world, setting, bridge, items):
    params = resolve("4c_inference", {"bridges": ["toy/a"], "samples": 6, "batches": [1, 3], "repeats": 2})
    return Study(params, setting, [Arm("text"), Arm("toy/a", bridge)], items)


@pytest.fixture(scope="module")
def ran(study, tmp_path_factory):
    told = []
    rows = list(inference.run(study, lambda **given: told.append(given), tmp_path_factory.mktemp("run")))
    return rows, told


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_batches_of_every_size_hold_the_same_questions(study, items, size):
    batches = study.batches(size)
    assert {len(batch) for batch in batches} == {size}
    assert [item for batch in batches for item in batch] == items


@pytest.fixture
def load(world, monkeypatch):
    """`inference.load` of a toy's bridge that must not be trained."""
    monkeypatch.setattr(inference.chosen, "find", lambda *_: Chosen(world.params()))
    monkeypatch.setattr(Chosen, "bridge", lambda *_: pytest.fail("a bridge was asked for"))
    small = {"bridges": ["toy/a"], "samples": 6, "batches": [1, 3]}
    return lambda **changed: inference.load(resolve("4c_inference", small | changed))


def test_fewer_questions_than_asked_for_are_refused(load, items, monkeypatch):
    monkeypatch.setattr(Chosen, "items", lambda *_: items[:5])
    with pytest.raises(ParameterError, match=r"^The task has 5 test questions, not 6: ask for fewer samples\.$"):
        load()


def test_answers_that_do_not_fit_the_target_are_refused_before_a_bridge_is_trained(load, world, setting):
    items = TASKS["arithmetic"].load("test", 6, "")
    longest = max(len(pair.prompt(world.pair.target, setting.task, item.question)) for item in items)
    fitting = world.pair.target.model.config.max_position_embeddings - longest
    with pytest.raises(ParameterError, match=rf"come to {longest} \+ {fitting + 1} tokens, .* reads 256 at most"):
        load(new_tokens=fitting + 1)
    with pytest.raises(pytest.fail.Exception, match="a bridge was asked for"):
        load(new_tokens=fitting)


def test_messages_that_do_not_fit_the_target_are_refused(load, world, monkeypatch):
    monkeypatch.setattr(inference.chosen, "find", lambda *_: Chosen(world.params(soft_tokens=250)))
    with pytest.raises(ParameterError, match="reads 256 at most"):
        load(new_tokens=6)


def test_a_wrong_name_is_found_before_a_model_is_loaded(monkeypatch):
    monkeypatch.setattr(Chosen, "pair", lambda _: pytest.fail("models were asked for"))
    with pytest.raises(ParameterError, match="1a_stable_4tok"):
        inference.load(resolve("4c_inference", {"bridges": ["micro/1a_stable_4tok", "micro/1a_stable_4tk"]}))


def of(rows, protocol):
    return [row for row in rows if row["protocol"] == protocol]


def test_every_arm_is_timed_on_every_batch_in_random_order(ran):
    rows = of(ran[0], "latency")
    cells = [(row["arm"], row["batch_size"], row["batch"], row["repeat"]) for row in rows]
    batches = [(1, i) for i in range(6)] + [(3, 0), (3, 1)]
    assert sorted(cells) == sorted((arm, *b, r) for arm in ("text", "toy/a") for b in batches for r in (0, 1))
    assert [row["order"] for row in rows] == list(range(len(rows)))
    assert cells != sorted(cells)
    for first, second in zip(cells[::2], cells[1::2], strict=True):
        assert first[1:] == second[1:]  # arms of a batch right after another
    assert len({row["arm"] for row in rows[::2]}) == 2


def test_a_mask_is_told_where_texts_differ_in_length_and_nowhere_else(world, study, ran):
    def lengths(batch):
        return {len(pair.prompt(world.pair.target, study.setting.task, item.question)) for item in batch}

    told = {(row["arm"], row["batch_size"], row["batch"]): row["masked"] for row in of(ran[0], "latency")}
    for size in (1, 3):
        for i, batch in enumerate(study.batches(size)):
            assert told["text", size, i] is (len(lengths(batch)) > 1)
            assert told["toy/a", size, i] is False
    assert any(told.values())


def test_bytes_that_are_sent_are_those_of_the_question_and_of_the_frame(ran, items):
    sent = {(row["arm"], row["batch"]): row["sent_bytes"] for row in of(ran[0], "latency") if row["batch_size"] == 1}
    size = wire.sizes(4, 6, "fp32").total
    for i, item in enumerate(items):
        assert sent["text", i] == len(item.question.encode())
        assert sent["toy/a", i] == size


def test_quality_is_of_the_answers_that_are_timed(world, setting, ran, items):
    rows, told = ran
    assert [(row["arm"], row["n"]) for row in of(rows, "quality")] == [("text", 6), ("toy/a", 6)]
    tokens = inference_stages.read_text(setting, clock(), [items[0].question]).tokens[0]
    assert told[0]["texts"][0] == world.pair.target.tokenizer.decode(tokens, skip_special_tokens=True)
    assert all(len(row["correct"]) == 6 for row in of(rows, "quality"))


def test_a_forged_prompt_of_a_message_is_a_leak(world, study, monkeypatch):
    honest, reader = inference_stages.prefill, world.pair.reader
    question = reader.embed(reader.ids(study.items[0].question))
    beside = {
        "question": lambda rows: [torch.cat([question, row]) for row in rows],
        "another's message": lambda rows: [*rows[1:], rows[0]],
        "a number": lambda rows: [*rows[:-1], rows[-1] + 1e-3],
    }
    for forge in beside.values():
        monkeypatch.setattr(inference_stages, "prefill", lambda reader, rows, forge=forge: honest(reader, forge(rows)))
        with pytest.raises(LeakError):
            list(inference._quality(replace(study, arms=study.arms[1:]), lambda **_: None))


def test_memory_is_measured_after_a_pass_of_every_arm_and_batch_size(study, monkeypatch):
    done = []
    monkeypatch.setattr(inference, "_pass", lambda setting, arm, batch: done.append(("pass", arm.name, len(batch))))
    monkeypatch.setattr(
        inference, "_held", lambda study, arm, questions: done.append(("held", arm.name, len(questions))) or {}
    )
    list(inference._memory(study))
    for arm in study.arms:
        for size in study.params.batches:
            first = done.index(("held", study.arms[0].name, size))
            assert done[:first].count(("pass", arm.name, size)) == 1
    assert sum(kind == "pass" for kind, *_ in done) == len(study.arms) * len(study.params.batches)


def test_gold_answers_are_never_read(study, items):
    def texts(changed):
        told = []
        list(inference._quality(replace(study, items=changed), lambda **given: told.append(given["texts"])))
        return told

    assert texts(items) == texts([replace(item, answer="#### 1", gold="1") for item in items])


def test_memory_counts_both_sides(world, study, ran):
    rows = of(ran[0], "memory")
    assert {(row["arm"], row["batch_size"]) for row in rows} == {(a, s) for a in ("text", "toy/a") for s in (1, 3)}
    source, target = world.pair.source.model, world.pair.target.model
    for row in rows:
        message = row["arm"] != "text"
        assert (row["source_kv_bytes"] > 0) == (row["source_peak_bytes"] > 0) == message
        assert row["peak_bytes"] > row["kv_bytes"] > row["kv_prefill_bytes"]
    weights = {row["arm"]: row["weight_bytes"] for row in rows}
    assert weights["text"] == 4 * target.num_parameters()
    last = sum(p.numel() for p in source.base_model.layers[-1].parameters()) + source.base_model.norm.weight.numel()
    bridge = sum(p.numel() for p in study.arms[1].bridge.parameters())
    assert weights["toy/a"] - weights["text"] == 4 * (source.num_parameters() - last + bridge)


def test_breakeven_is_marked_at_the_questions_and_told_for_the_plan(ran, study, world):
    rows = of(ran[0], "breakeven")
    (here,) = [row for row in rows if row["pair"] == "here" and row["measured"]]
    around = len(world.pair.reader.bos) + len(world.pair.reader.anchor)
    prompts = [pair.prompt(world.pair.target, study.setting.task, item.question) for item in study.items]
    assert here["text_tokens"] == round(np.mean([len(ids) for ids in prompts]) - around)
    assert {row["tokens"] for row in rows if row["pair"] == "plan"} == {64, 32}
    assert {row["text_tokens"] for row in rows if row["measured"] and row["pair"] == "plan"} == {150}


def test_an_engine_is_handed_texts_as_ids_and_messages_as_embeddings(world, study, monkeypatch, tmp_path):
    asked = {}

    def serve(model, prompts, new_tokens, batches, repeats, **options):
        asked.update(model=model, prompts=prompts, given=(new_tokens, batches, repeats), options=options)
        return [{"kind": kind, "batch": 3, "repeat": 0, "samples_per_s": 2.0, "tokens": [[1]]} for kind in prompts]

    monkeypatch.setattr(inference.serving, "serve", serve)
    params = resolve("4c_inference", study.params.model_dump() | {"backend": "vllm"})
    rows = list(inference.run(replace(study, params=params), lambda **_: None, tmp_path))
    assert asked["model"] == world.target
    first = study.items[0].question
    assert asked["prompts"]["text"][0] == pair.prompt(world.pair.target, study.setting.task, first)
    (frame,) = inference_stages.send(study.setting, clock(), study.arms[1].bridge, [first])
    expected = inference_stages.embedded(study.setting, study.arms[1].bridge, frame)
    assert torch.equal(asked["prompts"]["toy/a"][0], expected)
    assert asked["given"] == (params.new_tokens, [1, 3], 2)
    assert [(row["protocol"], row["arm"], row["tokens"], row["batch_size"]) for row in rows] == [
        ("serving", "text", None, 3),
        ("serving", "toy/a", 4, 3),
    ]
