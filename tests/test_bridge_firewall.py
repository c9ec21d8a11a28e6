"""What the target sees of a message arm: [BOS | soft tokens | anchor], whatever was asked and is right."""

from dataclasses import replace

import bridge_toys
import pytest
import torch

from lib.bridge import arms, evaluation, study
from lib.bridge.worker import Job
from lib.models.bridge_reader import ANCHOR, LeakError

MESSAGE_ARMS = ("bridged", *arms.CONTROLS)


@pytest.fixture(scope="module", params=[True, False], ids=["bos", "no-bos"])
def either(request, tmp_path_factory):
    """A target with BOS, and one without."""
    with bridge_toys.world(tmp_path_factory.mktemp("either"), bos=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


class Seen:
    """What goes through a target while it is looked at: embeddings of prompts, as the model itself is given them."""

    def __init__(self, world):
        self.prompts, self.model = [], world.pair.target.model

    def __enter__(self):
        self.hook = self.model.register_forward_pre_hook(self._note, with_kwargs=True)
        return self

    def __exit__(self, *_):
        self.hook.remove()

    def _note(self, _, given, kwargs):
        inputs = kwargs.get("inputs_embeds")
        if inputs is not None:
            self.prompts.append(inputs.clone())


def changed(encoded, **fields):
    """The same items with other texts."""
    return replace(encoded, items=[replace(item, **fields) for item in encoded.items])


def written(world, encoded, arm="bridged", hygiene=False):
    return next(arms.message_rows(world.pair, encoded, world.bridge(), arm, [hygiene], seed=3))["texts"]


@pytest.mark.parametrize("arm", MESSAGE_ARMS)
def test_another_gold_answer_changes_nothing_that_is_sent_or_written(world, arm):
    encoded = world.encoded()
    other = world.encode([replace(item, answer="7+7=14\n#### 14", gold="14") for item in encoded.items])
    assert torch.equal(evaluation.sent(world.bridge(), other), evaluation.sent(world.bridge(), encoded))
    for hygiene in (False, True):
        assert written(world, other, arm, hygiene) == written(world, encoded, arm, hygiene)


def test_another_question_with_the_same_message_changes_nothing_that_is_written(world):
    """Texts of other questions for the target, states of these: only the states count."""
    encoded, other = world.encoded("validation"), world.encoded("test")
    crossed = replace(other, states=encoded.states)
    assert other.questions != encoded.questions
    for hygiene in (False, True):
        assert written(world, crossed, hygiene=hygiene) == written(world, encoded, hygiene=hygiene)
    assert written(world, other) != written(world, encoded)  # so that the message is what it depends on


@pytest.mark.parametrize("arm", MESSAGE_ARMS)
def test_the_model_itself_is_given_the_constants_and_the_soft_tokens_only(either, arm):
    """At the model's door, not at ours: every prompt that it reads while it answers."""
    encoded, bridge, reader = either.encoded(), either.bridge(), either.pair.reader
    message = arms.destroyed(evaluation.sent(bridge, encoded), arm, 3)
    with torch.inference_mode(), Seen(either) as seen:
        evaluation.answer_messages(either.pair, bridge, encoded.task, message, hygiene=False)
        allowed = {row.numpy().tobytes() for row in bridge.receiver(message)}
    table = reader.embedding.weight
    first = table[[reader.tokenizer.bos_token_id] if reader.bos else []]
    last = table[reader.tokenizer(ANCHOR, add_special_tokens=False)["input_ids"]]
    prompts = [row for batch in seen.prompts if batch.shape[1] > 1 for row in batch]
    assert prompts
    for row in prompts:
        assert len(row) == len(reader.bos) + message.shape[1] + len(last)
        assert torch.equal(row[: len(reader.bos)], first)
        assert torch.equal(row[-len(last) :], last)
        assert row[len(reader.bos) : -len(last)].numpy().tobytes() in allowed


@pytest.mark.parametrize("arm", MESSAGE_ARMS)
def test_no_question_is_embedded_or_written_out_for_a_message_arm(either, arm, monkeypatch):
    """The reader embeds BOS, the anchor and gold answers (for the loss of teacher forcing), and nothing else."""
    encoded, bridge, reader = either.encoded(), either.bridge(), either.pair.reader
    allowed = {tuple(reader.bos), tuple(reader.anchor)}
    embed, seen = reader.embed, []

    def spied(ids):
        rows = torch.as_tensor(ids)
        seen.extend(tuple(row) for row in (rows[None] if rows.ndim == 1 else rows).tolist())
        return embed(ids)

    monkeypatch.setattr(reader, "embed", spied)
    for name in ("text_inputs", "question_logits", "ids", "many_ids"):
        monkeypatch.setattr(type(reader), name, pytest.fail)
    monkeypatch.setattr(arms, "prompts", pytest.fail)
    list(arms.message_rows(either.pair, encoded, bridge, arm, [True], 0))
    forced = [ids for ids in seen if ids not in allowed]
    golden = [tuple(answer) for answer in encoded.answers]
    assert set(allowed) <= {*seen, ()}
    assert forced
    assert all(any(ids[: len(g) - 1] == g[: len(ids)][: len(g) - 1] for g in golden) for ids in forced)


def test_judging_in_training_goes_through_the_same_door(world, monkeypatch):
    encoded, bridge = world.encoded(), world.bridge()
    monkeypatch.setattr(type(world.pair.reader), "text_inputs", pytest.fail)
    checked, check = [], world.pair.reader.check
    monkeypatch.setattr(world.pair.reader, "check", lambda *given: checked.append(check(*given)))
    evaluation.judge(world.pair, encoded, bridge)
    assert len(checked) == 2  # one per decoding


@pytest.mark.parametrize("arm", MESSAGE_ARMS)
def test_a_gold_answer_does_change_the_loss(world, arm):
    """Teacher forcing needs it: the guard of the tests above, which would pass if nothing ever looked at it."""
    encoded = world.encoded()
    other = world.encode([replace(item, answer="1+1=2\n#### 2") for item in encoded.items])
    rows = [next(arms.message_rows(world.pair, items, world.bridge(), arm, [False], 3)) for items in (encoded, other)]
    assert rows[0]["ce"] != rows[1]["ce"]


def more(inputs, reader):
    return torch.cat([inputs, reader.embed([5]).expand(len(inputs), -1, -1)], 1)


def touched(inputs, place):
    inputs = inputs.clone()
    inputs[0, place, 0] += 1e-3
    return inputs


SMUGGLED = {
    "token after the anchor": lambda inputs, soft, reader: more(inputs, reader),
    "token before": lambda inputs, soft, reader: torch.cat([more(inputs, reader)[:, -1:], inputs], 1),
    "anchor first": lambda inputs, soft, reader: inputs.roll(len(reader.anchor), 1),
    "soft tokens turned round": lambda inputs, soft, reader: reader.message_inputs(soft.flip(1)),
    "another item's": lambda inputs, soft, reader: inputs.roll(1, 0),
    "changed soft token": lambda inputs, soft, reader: touched(inputs, 2),
    "changed anchor": lambda inputs, soft, reader: touched(inputs, -1),
    "a soft token less": lambda inputs, soft, reader: reader.message_inputs(soft[:, 1:]),
    "question instead of the message": lambda inputs, soft, reader: reader.message_inputs(
        reader.embed([[4, 5, 6, 7]]).expand_as(soft)
    ),
    "an item more": lambda inputs, soft, reader: inputs.repeat(2, 1, 1),
}


@pytest.mark.parametrize("name", SMUGGLED)
@torch.no_grad()
def test_anything_else_is_a_leak(either, name):
    encoded, reader = either.encoded(), either.pair.reader
    soft = either.bridge().receiver(evaluation.sent(either.bridge(), encoded))
    inputs = reader.message_inputs(soft)
    reader.check(inputs, soft)
    with pytest.raises(LeakError, match="would not be the message"):
        reader.check(SMUGGLED[name](inputs, soft, reader), soft)


def test_a_leaking_reader_is_caught_when_a_message_arm_is_evaluated(world, monkeypatch):
    """The published fault: what is generated from holds the question's text beside the soft tokens."""
    encoded = world.encoded()
    honest = evaluation.decoding.answer_embeddings

    def leaking(reader, prompts, *given):
        texts = reader.text_inputs(None, encoded.prompts[: len(prompts)])
        return honest(reader, [torch.cat([text, own]) for text, own in zip(texts, prompts, strict=True)], *given)

    monkeypatch.setattr(evaluation.decoding, "answer_embeddings", leaking)
    with pytest.raises(LeakError):
        list(arms.message_rows(world.pair, encoded, world.bridge(), "bridged", [False], 0))


@torch.no_grad()
def test_the_guard_stands_at_the_models_door_and_leaves_it_again(world):
    """Prompts in several parts pass in their order; text of any length does not, before, beside or after them."""
    reader = world.pair.reader
    soft = torch.randn(3, 4, world.pair.target_dim)
    inputs, ids = reader.message_inputs(soft), torch.tensor([[5, 6]])
    with reader.guard(soft):
        for part in inputs.split(2):
            reader.model(inputs_embeds=part)
        reader.model(input_ids=ids[:, :1])
    for leak in ({"input_ids": ids}, {"input_ids": ids[:, :1]}, {"inputs_embeds": inputs[1:]}, {"inputs_embeds": soft}):
        with pytest.raises(LeakError), reader.guard(soft):
            reader.model(**leak)
    with pytest.raises(LeakError), reader.guard(soft):
        reader.model(inputs_embeds=inputs)
        reader.model(input_ids=ids)
    with pytest.raises(LeakError), reader.guard(soft):
        reader.model(ids)
    reader.model(ids)


def test_only_the_leaked_arm_reads_the_gold_answer(world):
    """The stressor's evaluation changes with the gold answer, so the firewall's tests would see a leak."""
    encoded = world.encoded()
    other = changed(encoded, answer="7+7=14\n#### 14")
    with Seen(world) as honest:
        leaked = arms.leaked_row(world.pair, encoded, world.bridge(), False, 0)
    with Seen(world) as changed_gold:
        arms.leaked_row(world.pair, other, world.bridge(), False, 0)
    assert leaked["arm"] == "leaked"
    assert honest.prompts[0].shape != changed_gold.prompts[0].shape or not torch.equal(
        honest.prompts[0], changed_gold.prompts[0]
    )
    assert leaked["context_tokens"] > max(map(len, encoded.questions))


def test_a_run_leaks_under_the_stressor_of_that_name_alone(world, monkeypatch):
    calls = []

    def noted(*given):
        calls.append(given[2])
        return dict.fromkeys(arms.NAMED) | {"arm": "leaked", "texts": []}

    monkeypatch.setattr(arms, "leaked_row", noted)
    for stressor in ("", "leak"):
        params = world.params(stressor=stressor, steps=2, evaluations=1, soft_tokens=2)
        subject = study.trained(world.pair, Job.of(params))
        list(study._rows(params, world.pair, world.encoded("test"), {}, subject, lambda **_: None, 0))
        assert bool(calls) == (stressor == "leak")


@torch.no_grad()
def test_a_training_that_diverged_is_judged_and_is_no_leak(world):
    """Not a number is not equal to itself."""
    bridge = world.bridge()
    bridge.receiver.expand.weight.fill_(float("nan"))
    judged = evaluation.judge(world.pair, world.encoded(), bridge)
    assert judged["val_accuracy"] == 0
    assert judged["val_ce"] is judged["delta_ce"] is None
