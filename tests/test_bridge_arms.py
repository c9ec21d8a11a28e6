"""Answers in batches are answers one at a time, in the same way for every arm; each arm is told what its name says."""

import math
from dataclasses import replace

import bridge_toys
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from lib.bridge import arms, decoding, evaluation, pair, study
from lib.bridge.decoding import HYGIENE, Written
from lib.bridge.pair import prompt
from lib.bridge.worker import Job
from lib.metrics import messages

K = 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def encoded(world):
    return world.encoded("test", 6)


def one_at_a_time(world, prompts, limit, **flags):
    """The new ids of each prompt of embeddings by a generation of its own, cut at the first id that stops."""
    reader, found = world.pair.reader, []
    for embedded in prompts:
        ids = reader.model.generate(
            inputs_embeds=embedded[None],
            attention_mask=torch.ones(1, len(embedded), dtype=torch.long),
            max_new_tokens=limit,
            do_sample=False,
            eos_token_id=reader.stop_ids,
            pad_token_id=reader.pad,
            **flags,
        )[0].tolist()
        ends = [place for place, token in enumerate(ids) if token in reader.stop_ids]
        found.append((reader.tokenizer.decode(ids[: ends[0] if ends else None], skip_special_tokens=True), not ends))
    return found


@pytest.fixture
def stopping(world, monkeypatch):
    """A reader whose toy model ends some of its answers: at an id that it likes to write."""
    monkeypatch.setattr(world.pair.reader, "stop_ids", [1, 25, 57])
    return world


# --- decoding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hygiene", [False, True])
@pytest.mark.parametrize("positions", [32_768, 100])
def test_batches_answer_as_each_prompt_does_alone(stopping, encoded, monkeypatch, hygiene, positions):
    """Prompts of different lengths, padded on the left, in one batch and in several."""
    world, reader = stopping, stopping.pair.reader
    monkeypatch.setattr(decoding, "POSITIONS_AT_ONCE", positions)
    prompts = [reader.embed(ids) for ids in encoded.prompts]
    written = decoding.answer_embeddings(reader, prompts, 20, hygiene)
    expected = one_at_a_time(world, prompts, 20, **(HYGIENE if hygiene else {}))
    assert list(zip(written.texts, written.capped, strict=True)) == expected
    assert written.context == [len(ids) for ids in encoded.prompts]
    assert len(set(written.context)) > 1
    if not hygiene:
        assert len(set(written.capped)) == 2  # some end and some do not


def greedy(world, embedded, limit, penalty, ngram):
    """Greedy ids with both flags over what was written alone, by a full recompute of every step."""
    reader, ids = world.pair.reader, []
    for _ in range(limit):
        given = torch.cat([embedded, reader.embed(ids)])[None]
        scores = reader.model(inputs_embeds=given).logits[0, -1]
        for token in set(ids):
            scores[token] = scores[token] * penalty if scores[token] < 0 else scores[token] / penalty
        for begin in range(len(ids) - ngram + 1):
            if ids[begin : begin + ngram - 1] == ids[len(ids) - ngram + 1 :]:
                scores[ids[begin + ngram - 1]] = -math.inf
        ids.append(int(scores.argmax()))
        if ids[-1] in reader.stop_ids:
            return ids[:-1]
    return ids


@torch.no_grad()
def test_hygiene_sees_what_was_written_and_never_the_prompt(world, encoded):
    """Of a text, transformers would count the question's tokens as repeated; here text and message are alike."""
    reader = world.pair.reader
    prompts = [reader.embed(ids) for ids in encoded.prompts[:3]]
    prompts += list(reader.message_inputs(world.bridge()(*encoded.states.rows(np.arange(2)))))
    written = decoding.answer_embeddings(reader, prompts, 24, True)
    by_hand = [greedy(world, embedded, 24, 1.1, 3) for embedded in prompts]
    assert written.texts == [reader.tokenizer.decode(ids, skip_special_tokens=True) for ids in by_hand]
    assert written.texts != decoding.answer_embeddings(reader, prompts, 24, False).texts


def test_texts_as_ids_are_texts_as_embeddings(world, encoded):
    reader = world.pair.reader
    one = decoding.answer_texts(reader, encoded.prompts, 12, True)
    assert one == decoding.answer_embeddings(reader, [reader.embed(ids) for ids in encoded.prompts], 12, True)


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_equal_messages_are_answered_once_and_alike(world, encoded, monkeypatch):
    message = evaluation.sent(world.bridge(), encoded)
    doubled = torch.cat([message[:3], message[:1], message[1:2], message])
    asked, answer = [], decoding.answer_embeddings

    def counted(reader, prompts, *given):
        asked.append(len(prompts))
        return answer(reader, prompts, *given)

    monkeypatch.setattr(decoding, "answer_embeddings", counted)
    found = evaluation.answer_messages(world.pair, world.bridge(), encoded.task, doubled, False)
    singly = [
        evaluation.answer_messages(world.pair, world.bridge(), encoded.task, own[None], False).texts[0]
        for own in doubled
    ]
    assert found.texts == singly
    assert asked[0] == 6
    assert len(found.texts) == len(found.capped) == len(found.context) == len(doubled)


def test_messages_in_parts_are_messages_at_once(world, encoded, monkeypatch):
    whole = evaluation.sent(world.bridge(), encoded)
    reader = world.pair.reader
    loss = evaluation.message_loss(reader, world.bridge(), whole, encoded)
    monkeypatch.setattr(evaluation, "AT_ONCE", 4)
    torch.testing.assert_close(evaluation.sent(world.bridge(), encoded), whole, rtol=1e-4, atol=1e-5)
    assert evaluation.message_loss(reader, world.bridge(), whole, encoded) == pytest.approx(loss, rel=1e-4)


@torch.no_grad()
def test_the_loss_of_an_arm_is_per_answer_token_of_each_item_alone(world, encoded):
    reader, total, count = world.pair.reader, 0.0, 0
    prefixes = [reader.embed(ids) for ids in encoded.prompts]
    for prefix, answer in zip(prefixes, encoded.answers, strict=True):
        logits = reader.model(inputs_embeds=torch.cat([prefix, reader.embed(answer)])[None]).logits[0]
        total += F.cross_entropy(logits[len(prefix) - 1 : -1], torch.tensor(answer), reduction="sum").item()
        count += len(answer)
    assert evaluation.answer_loss(reader, prefixes, encoded) == pytest.approx(total / count, rel=1e-4)


def test_judging_says_what_its_parts_say(world, encoded):
    bridge, reader = world.bridge(), world.pair.reader
    judged = evaluation.judge(world.pair, encoded, bridge)
    message = evaluation.sent(bridge, encoded)
    crossed = evaluation.message_loss(reader, bridge, message.roll(1, 0), encoded)
    assert judged["val_ce"] == pytest.approx(evaluation.message_loss(reader, bridge, message, encoded))
    assert judged["delta_ce"] == pytest.approx(crossed - judged["val_ce"], abs=1e-5)
    assert judged["delta_ce"] != 0
    assert judged["cosine"] == pytest.approx(messages.mean_cosine(message.flatten(1).numpy()))
    assert judged["effective_rank"] == pytest.approx(messages.effective_rank(message.flatten(1).numpy()))


def test_scores_by_hand(world, encoded):
    """Right, right in other words, wrong, unreadable, and the last number where no mark is."""
    items = [replace(item, gold="7") for item in encoded.items[:5]]
    written = Written(["#### 7", "3+4=7\n#### 7.0", "#### 8", "nothing", "it is 7"], [False] * 4 + [True], [8] * 5)
    row = evaluation.score(encoded.task, items, written)
    assert (row["n"], row["accuracy"], row["correct"]) == (5, 0.4, "11000")
    assert (row["flexible"], row["invalid"], row["capped"]) == pytest.approx((0.6, 0.4, 0.2))
    assert (row["em"], row["f1"], row["context_tokens"]) == (None, None, 8)


def test_two_hop_answers_are_scored_by_words_as_well(world):
    encoded = world.encoded("test", 3, "multihop")
    items = [replace(item, gold=gold) for item, gold in zip(encoded.items, ("New York", "yes", "Paris"), strict=True)]
    written = Written(["#### york", "#### yes", "Paris"], [False] * 3, [8] * 3)
    row = evaluation.score(encoded.task, items, written)
    assert (row["accuracy"], row["em"], row["f1"]) == pytest.approx((1 / 3, 1 / 3, (2 / 3 + 1) / 3))


def test_costs_are_measured_on_the_caches(world, encoded):
    """Two layers, keys and values, two heads of 8, float32, per position."""
    per_token = 2 * 2 * 2 * 8 * 4
    row = evaluation.costs(world.pair, world.bridge(), encoded)
    fixed = 1 + len(world.pair.reader.anchor)
    positions, read = fixed + K, [fixed + len(ids) for ids in encoded.questions]
    assert row["kv_bytes_per_token"] == per_token
    assert row["kv_bytes_bridged"] == per_token * positions
    assert row["kv_bytes_text"] == pytest.approx(per_token * np.mean(read))
    assert row["message_bytes_fp16"] == 2 * K * 6
    assert row["token_ratio"] == row["text_tokens"] / K
    assert row["text_bytes"] == pytest.approx(np.mean([len(item.question) for item in encoded.items]))


# --- arms -----------------------------------------------------------------------------------------------------------


def test_messages_are_destroyed_as_named():
    message = torch.randn(500, 3, 4, generator=torch.Generator().manual_seed(7)) * torch.arange(1, 5) + 2.0
    assert torch.equal(arms.destroyed(message, "bridged", 0), message)
    shuffled = arms.destroyed(message, "shuffled", 0)
    assert not (shuffled == message).flatten(1).all(-1).any()
    assert torch.equal(shuffled.flatten(1).sort(0).values, message.flatten(1).sort(0).values)
    mean = arms.destroyed(message, "mean", 0)
    torch.testing.assert_close(mean[0], message.mean(0))
    assert (mean == mean[0]).all()
    assert (arms.destroyed(message, "zero", 0) == 0).all()
    noise = arms.destroyed(message, "noise", 0)
    torch.testing.assert_close(noise.mean(0), message.mean(0), rtol=0, atol=0.9)
    torch.testing.assert_close(noise.std(0), message.std(0), rtol=0.15, atol=0)
    assert torch.equal(noise, arms.destroyed(message, "noise", 0))
    assert not torch.equal(noise, arms.destroyed(message, "noise", 1))
    assert abs(np.corrcoef(noise[:, 0, 0], message[:, 0, 0])[0, 1]) < 0.2


@pytest.fixture(scope="module")
def table(world, encoded):
    """Rows of the text arms, by arm and decoding."""
    return {(row["arm"], row["decode_hygiene"]): row for row in arms.text_rows(world.pair, encoded, K)}


def test_text_arms_have_both_decodings_and_no_seed(table, encoded):
    assert set(table) == {(arm, hygiene) for arm in arms.TEXT_ARMS for hygiene in (False, True)}
    for (arm, _), row in table.items():
        assert (row["seed"], row["checkpoint"], row["n"], len(row["correct"])) == (None, "", 6, 6)
        assert (row["ce"] is None) == (arm in ("source_alone", "relay"))


def test_each_text_arm_reads_as_much_as_it_should(world, encoded, table):
    reader, target = world.pair.reader, world.pair.target
    mean = {arm: table[arm, False]["context_tokens"] for arm in arms.TEXT_ARMS}
    empty = len(prompt(target, encoded.task, ""))
    assert mean["target_alone"] == pytest.approx(np.mean([len(ids) for ids in encoded.prompts]))
    assert mean["truncated"] == pytest.approx(empty + K, abs=0.5)
    questions = np.mean([len(ids) for ids in encoded.questions])
    assert mean["oracle"] == pytest.approx(1 + questions + len(reader.anchor))


def collected(world, encoded, monkeypatch, names):
    """What goes into the target for the text arms, as token ids where embeddings are rows of its table."""
    table, seen, answer = world.pair.reader.embedding.weight, [], decoding.answer_embeddings

    def noted(reader, prompts, *given):
        ids = [torch.cdist(rows, reader.embedding.weight).argmin(-1).tolist() for rows in prompts]
        seen.append((reader.model is world.pair.target.model, ids))
        return answer(reader, prompts, *given)

    monkeypatch.setattr(decoding, "answer_embeddings", noted)
    rows = list(arms._text_rows(world.pair, encoded, K, names))
    assert len(table) > 0
    return rows, seen


def test_relay_gives_the_target_what_the_source_wrote(world, encoded, monkeypatch):
    rows, seen = collected(world, encoded, monkeypatch, ["source_alone", "relay"])
    source, target = world.pair.source, world.pair.target
    assert [is_target for is_target, _ in seen] == [False, True, False, True]
    asked = [prompt(source, encoded.task, item.question) for item in encoded.items]
    own = arms.Reader(source.model, source.tokenizer, source.stop_ids)
    monkeypatch.undo()
    for hygiene, (_, told) in zip((False, True), seen[1::2], strict=True):
        answered = decoding.answer_texts(own, asked, encoded.task.max_new_tokens, hygiene).texts
        assert told == [prompt(target, encoded.task, text) for text in answered]
        assert not any(
            item.question in target.tokenizer.decode(ids) for ids, item in zip(told, encoded.items, strict=True)
        )
    assert [(row["arm"], row["decode_hygiene"]) for row in rows[:2]] == [("source_alone", False), ("relay", False)]


def test_truncated_has_the_first_tokens_of_the_question_alone(world, encoded, monkeypatch):
    _, seen = collected(world, encoded, monkeypatch, ["truncated"])
    target = world.pair.target
    for ids, question in zip(seen[0][1], encoded.questions, strict=True):
        assert ids == prompt(target, encoded.task, target.tokenizer.decode(question[:K]))
        assert ids[1 : K + 1] == question[:K]
        assert len(ids) == len(prompt(target, encoded.task, "")) + K


def test_the_oracle_has_the_question_in_the_place_of_soft_tokens(world, encoded, monkeypatch):
    _, seen = collected(world, encoded, monkeypatch, ["oracle"])
    reader = world.pair.reader
    for ids, question in zip(seen[0][1], encoded.questions, strict=True):
        assert ids == [*reader.bos, *question, *reader.anchor]


def test_text_arms_are_answered_once(world, encoded, table, monkeypatch):
    monkeypatch.setattr(decoding, "answer_embeddings", pytest.fail)
    again = arms.text_rows(world.pair, encoded, K)
    assert again == list(table.values())


def test_other_items_or_another_budget_are_answered_anew(world, encoded, table, monkeypatch):
    asked = []
    monkeypatch.setattr(arms, "_text_rows", lambda *given: asked.append(given[2:]) or [{"arm": "new"}])
    again = arms.text_rows(world.pair, encoded, K + 1)
    assert again == [row for row in table.values() if row["arm"] != "truncated"] + [{"arm": "new"}]
    assert asked == [(K + 1, ["truncated"])], "the budget has a say in this arm alone"
    names = ["target_alone"]
    fewer = world.encode(encoded.items[:5])
    assert arms.text_rows(world.pair, fewer, K, names) == [{"arm": "new"}]
    golden = world.encode([replace(item, gold="1") for item in encoded.items])
    assert arms.text_rows(world.pair, golden, K, names) == [{"arm": "new"}]
    assert asked[1:] == [(0, names), (0, names)]


@torch.no_grad()
def test_a_constant_is_answered_once_for_all_and_a_prefix_stands_before_each_text(world, encoded, monkeypatch):
    bridge, reader, seen = world.bridge("constant"), world.pair.reader, []
    answer = decoding.answer_embeddings
    monkeypatch.setattr(
        decoding, "answer_embeddings", lambda r, prompts, *given: seen.append(prompts) or answer(r, prompts, *given)
    )
    constant = list(arms.tuned_rows(world.pair, encoded, "constant", bridge))
    prefixed = list(arms.tuned_rows(world.pair, encoded, "prefix_text", bridge))
    soft = bridge.receiver(bridge.sender.learned[None])
    assert [len(prompts) for prompts in seen] == [1, 1, 6, 6]
    assert torch.equal(seen[0][0], reader.message_inputs(soft)[0])
    for given, ids in zip(seen[2], encoded.prompts, strict=True):
        assert torch.equal(given, torch.cat([reader.embed(ids[:1]), soft[0], reader.embed(ids[1:])]))
    assert {row["distinct"] for row in constant} == {1 / 6}
    assert [row["decode_hygiene"] for row in constant + prefixed] == [False, True] * 2
    for row in constant + prefixed:
        assert len(row["correct"]) == row["n"] == 6
        assert row["ce"] > 0


def test_a_penalty_that_a_model_brings_along_is_in_no_arm(world, monkeypatch):
    prompts = world.encoded("test").prompts
    plain = decoding.answer_texts(world.pair.reader, prompts, 8)
    monkeypatch.setattr(world.pair.target.model.generation_config, "repetition_penalty", 50.0)
    monkeypatch.setattr(world.pair.target.model.generation_config, "no_repeat_ngram_size", 1)
    assert decoding.answer_texts(world.pair.reader, prompts, 8) == plain


# --- a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ran(world, tmp_path_factory):
    """All rows of a run of two seeds, what was written, and its folder."""
    folder, told = tmp_path_factory.mktemp("run"), []
    params = world.params(seed=[0, 1], patience=1)
    rows = list(study.run(params, world.pair, lambda **given: told.append(given), folder))
    return params, rows, told, folder


def of(rows, protocol):
    return [row for row in rows if row["protocol"] == protocol]


def test_a_run_has_every_row_that_it_promises(ran):
    _, rows, told, _ = ran
    assert {row["protocol"] for row in rows} == {"arm", "curve", "stability", "shift", "cost"}
    assert [len(of(rows, name)) for name in ("curve", "stability", "cost")] == [2 * 4, 2 * 4, 2]
    bridged = [row for row in of(rows, "arm") if row["arm"] == "bridged"]
    combinations = {(row["seed"], row["checkpoint"], row["decode_hygiene"]) for row in bridged}
    assert combinations == {(s, c, h) for s in (0, 1) for c in ("best", "final") for h in (False, True)}
    controls = [row for row in of(rows, "arm") if row["arm"] in arms.CONTROLS]
    assert {(row["seed"], row["arm"]) for row in controls} == {(s, a) for s in (0, 1) for a in arms.CONTROLS}
    assert {(row["checkpoint"], row["decode_hygiene"]) for row in controls} == {("best", True)}
    shifts = {(row["split"], row["arm"], row["seed"]) for row in of(rows, "shift")}
    assert {(split, arm) for split, arm, _ in shifts} == {
        (split, arm) for split in ("numbers", "harder", "wording") for arm in ("target_alone", "bridged")
    }
    assert {len(row["correct"]) for row in of(rows, "arm") + of(rows, "shift")} == {6}
    assert all(len(given["texts"]) == 6 for given in told)


def test_the_stop_is_crossed_in_afterwards(ran):
    """Peak and final as the curve has them, in the same decoding; test accuracy of the weights that are kept."""
    _, rows, _, _ = ran
    for row in of(rows, "stability"):
        curve = [c for c in of(rows, "curve") if c["seed"] == row["seed"]]
        column = "val_accuracy_hygiene" if row["decode_hygiene"] else "val_accuracy"
        kept = row["best_step"] if row["early_stopping"] else curve[-1]["step"]
        assert row["peak"] == max(c[column] for c in curve)
        assert row["final"] == next(c[column] for c in curve if c["step"] == kept)
        assert row["degradation"] == row["peak"] - row["final"]
        where = {"arm": "bridged", "checkpoint": "best" if row["early_stopping"] else "final", "seed": row["seed"]}
        match = where | {"decode_hygiene": row["decode_hygiene"]}
        tested = [a for a in of(rows, "arm") if all(a[k] == v for k, v in match.items())]
        assert [a["accuracy"] for a in tested] == [row["test_accuracy"]]
        assert row["collapsed"] == bool(row["why"])


def test_stability_by_hand(world, encoded):
    """Each of the four cells reads its own column of the curve, its own weights and its own decoding."""
    looks = zip((0, 5, 10, 15), (0.1, 0.8, 0.6, 0.3), (0.0, 0.7, 0.9, 0.2), (1.0, 1.0, 1.0, 0.01), strict=True)
    names = ("step", "val_accuracy", "val_accuracy_hygiene", "delta_ce")
    curve = [dict(zip(names, look, strict=True)) for look in looks]
    subject = study.Subject(world.bridge(), {}, {"curve": curve, "best_step": 5, "stop_step": None})
    cells = [("best", False, 0.75), ("best", True, 0.65), ("final", False, 0.35), ("final", True, 0.15)]
    tested = {(c, hygiene): {"accuracy": right, "n": 6, "distinct": 1.0} for c, hygiene, right in cells}
    rows = {
        (row["early_stopping"], row["decode_hygiene"]): (row["peak"], row["final"], row["test_accuracy"], row["why"])
        for row in study._stability(subject, tested, encoded.task, encoded.items)
    }
    assert rows == {
        (True, False): (0.8, 0.8, 0.75, ""),
        (True, True): (0.9, 0.7, 0.65, ""),
        (False, False): (0.8, 0.3, 0.35, "accuracy+delta_ce"),
        (False, True): (0.9, 0.2, 0.15, "accuracy+delta_ce"),
    }


def test_the_saved_bridge_is_the_one_that_the_configuration_keeps(world, ran):
    params, rows, _, folder = ran
    from safetensors.torch import load_file

    subject = study.trained(world.pair, Job.of(params))
    assert (subject.record["best_step"], subject.same) == (0, False)  # a toy is never right, so the first is the best
    saved = load_file(folder / "bridge.safetensors")
    assert all(torch.equal(saved[name], tensor) for name, tensor in subject.weights["best"].items())
    assert any(not torch.equal(saved[name], tensor) for name, tensor in subject.weights["final"].items())
    bridged = [r for r in of(rows, "arm") if r["arm"] == "bridged" and r["seed"] == 0 and r["checkpoint"] == "best"]
    again = next(arms.message_rows(world.pair, world.encoded("test"), subject.at("best"), "bridged", [False], 0))
    assert bridged[0]["ce"] == pytest.approx(again["ce"])
    assert study.kept(params.model_copy(update={"patience": 0})) == "final"


def test_tuned_prompts_belong_to_the_task_and_not_to_the_bridge(world):
    """Bridges that differ in kind, stressor or losses share them; those that differ in what a prompt is do not."""
    one = Job.of(world.params()).tuned("constant")
    other = world.params(kind="linear", stressor="pads", info_nce=0.1, distill=0.3, depth=2, seed=[4], heads=2)
    assert Job.of(other).tuned("constant").facts(world.pair) == one.facts(world.pair)
    assert Job.of(world.params(soft_tokens=5)).tuned("constant").facts(world.pair) != one.facts(world.pair)
    assert Job.of(world.params()).tuned("prefix_text").facts(world.pair) != one.facts(world.pair)


def test_prompts_that_are_tuned_beside_a_bridge_serve_those_with_another_clipping_too(world):
    plain, unclipped = (Job.of(world.params(clip=clip)).tuned("constant") for clip in (1.0, 0.0))
    assert plain.facts(world.pair) == unclipped.facts(world.pair)


def test_many_texts_are_read_as_each_is_alone(world, encoded):
    texts = [item.question for item in encoded.items]
    for lm in (world.pair.source, world.pair.target):
        assert pair.prompts(lm, encoded.task, texts) == [pair.prompt(lm, encoded.task, text) for text in texts]


def test_items_are_encoded_once(world, encoded):
    assert world.encode(list(encoded.items)) is encoded
    assert world.encode(encoded.items[:5]) is not encoded


def test_chat_templates_reach_every_text_arm(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("chat"), bos=False, chat=True) as chatty:
        items = chatty.encoded("test", 2)
        assert pair.prompts(chatty.pair.target, items.task, ["x"]) != pair.contexts(
            chatty.pair.target, items.task, ["x"]
        )
        rows = arms.text_rows(chatty.pair, items, K)
    assert {row["arm"] for row in rows} == set(arms.TEXT_ARMS)
    empty = len(prompt(chatty.pair.target, items.task, ""))
    truncated = next(row for row in rows if row["arm"] == "truncated")
    assert truncated["context_tokens"] == pytest.approx(empty + K, abs=1)
