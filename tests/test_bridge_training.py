"""Each loss against an item-by-item oracle, and a loop that keeps, stops and restores as it says."""

import itertools
from dataclasses import replace

import bridge_toys
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate import PartialState
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.metrics.messages import early_stop
from lib.models import bridge_losses, bridge_training
from lib.models.bridge_losses import LOSSES, Recipe, info_nce, losses_of, message, question_keys, text
from lib.models.bridge_reader import IGNORED

RECIPE = Recipe(steps=6, batch_size=4, learning_rate=0.01, warmup=2, evaluations=3)
ON = {"info_nce": 1.0, "distill": 1.0, "reconstruct": 1.0}
INDEX = np.arange(5)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


@pytest.fixture(scope="module")
def train_set(world):
    return world.encoded("train", 24)


@pytest.fixture
def state():
    return PartialState()


def losses(world, encoded, state, step=0, see=message, bridge=None, **weights):
    bridge = bridge or world.bridge()
    return losses_of(bridge, world.pair.reader, encoded.batch(INDEX), replace(RECIPE, **weights), see, step, state)


def soft_of(world, encoded, item):
    """Soft tokens [1, K, d] of one item alone, by the same untrained bridge."""
    return world.bridge()(*encoded.states.rows(np.array([item])))


# --- losses ---------------------------------------------------------------------------------------------------------


def test_the_answer_loss_is_what_the_model_says_of_each_item_alone(world, train_set, state):
    """Per item, unpadded, with the labels that the Hugging Face model shifts itself."""
    reader, total, count = world.pair.reader, 0.0, 0
    for item in INDEX:
        prefix = reader.message_inputs(soft_of(world, train_set, item))
        answer = torch.tensor([train_set.answers[item]])
        inputs = torch.cat([prefix, reader.embed(answer)], 1)
        labels = torch.cat([torch.full(prefix.shape[:2], IGNORED), answer], 1)
        total += reader.model(inputs_embeds=inputs, labels=labels).loss.item() * answer.numel()
        count += answer.numel()
    assert len({len(train_set.answers[i]) for i in INDEX}) > 1
    assert losses(world, train_set, state)["answer"].item() == pytest.approx(total / count, rel=1e-5)


def test_with_a_tuned_prompt_the_whole_text_stands_after_it(world, train_set, state):
    """Prompts of different lengths in one batch are each as if alone; the prompt follows BOS."""
    reader, total, count = world.pair.reader, 0.0, 0
    for item in INDEX:
        ids = train_set.prompts[item]
        assert ids[0] == reader.tokenizer.bos_token_id
        parts = [reader.embed(ids[:1])[None], soft_of(world, train_set, item), reader.embed(ids[1:])[None]]
        answer = torch.tensor([train_set.answers[item]])
        prefix = torch.cat(parts, 1)
        logits = reader.model(inputs_embeds=torch.cat([prefix, reader.embed(answer)], 1)).logits
        total += F.cross_entropy(logits[0, prefix.shape[1] - 1 : -1], answer[0], reduction="sum").item()
        count += answer.numel()
    assert len({len(train_set.prompts[i]) for i in INDEX}) > 1
    found = losses(world, train_set, state, see=text)["answer"].item()
    assert found == pytest.approx(total / count, rel=1e-5)


def test_distillation_is_the_divergence_from_the_text_at_each_place_of_the_answer(world, train_set, state):
    """KL(text || message), summed over the answer's places and its whole vocabulary, per answer token."""
    reader, total, count = world.pair.reader, 0.0, 0
    for item in INDEX:
        answer = torch.tensor(train_set.answers[item])
        told = reader.message_inputs(soft_of(world, train_set, item))[0]
        read = reader.embed(train_set.prompts[item])
        laws = []
        for prefix in (read, told):
            logits = reader.model(inputs_embeds=torch.cat([prefix, reader.embed(answer)])[None]).logits[0]
            laws.append(logits[len(prefix) - 1 : -1].double().softmax(-1).detach().numpy())
        p, q = laws
        total += (p * np.log(p / q)).sum()
        count += len(answer)
    found = losses(world, train_set, state, distill=1.0)["distill"].item()
    assert found == pytest.approx(total / count, rel=1e-4)


def test_reconstruction_reads_the_question_out_of_the_soft_tokens(world, train_set, state):
    reader, total, count = world.pair.reader, 0.0, 0
    for item in INDEX:
        question = torch.tensor(train_set.questions[item])
        before = torch.cat([reader.embed(reader.bos), soft_of(world, train_set, item)[0]])
        logits = reader.model(inputs_embeds=torch.cat([before, reader.embed(question)])[None]).logits[0]
        total += F.cross_entropy(logits[len(before) - 1 : -1], question, reduction="sum").item()
        count += len(question)
    found = losses(world, train_set, state, reconstruct=1.0)["reconstruct"].item()
    assert found == pytest.approx(total / count, rel=1e-5)


def info_nce_by_hand(soft, questions, table):
    """InfoNCE of all K soft tokens' means against the questions' mean embeddings, item by item, at 0.07."""
    unit = lambda v: v / np.linalg.norm(v)  # noqa: E731
    keys = [unit(table[question].mean(0)) for question in questions]
    found = []
    for row, own in enumerate(soft):
        scores = np.array([unit(own.mean(0)) @ key for key in keys]) / 0.07
        found.append(np.log(np.exp(scores - scores.max()).sum()) + scores.max() - scores[row])
    return np.mean(found)


def test_info_nce_is_over_all_soft_tokens_and_no_padding(world, train_set, state):
    table = world.pair.reader.embedding.weight.double().numpy()
    soft = torch.cat([soft_of(world, train_set, item) for item in INDEX]).detach().double().numpy()
    questions = [train_set.questions[item] for item in INDEX]
    assert len({len(question) for question in questions}) > 1
    found = losses(world, train_set, state, info_nce=1.0)["info_nce"].item()
    assert found == pytest.approx(info_nce_by_hand(soft, questions, table), rel=1e-4)
    assert found != pytest.approx(info_nce_by_hand(soft[:, :-1], questions, table), rel=1e-3)


def test_every_soft_token_feels_info_nce_and_more_padding_does_not(world, train_set, state):
    """The published code took the first 32 whatever there were, and pooled padding like text."""
    batch, reader = train_set.batch(INDEX), world.pair.reader
    soft = torch.randn(5, 40, world.pair.target_dim, requires_grad=True)
    info_nce(soft, question_keys(reader, batch.questions), state).backward()
    assert (soft.grad.abs().amax((0, 2)) > 0).all()
    padded = F.pad(batch.questions, (0, 7), value=IGNORED)
    torch.testing.assert_close(question_keys(reader, padded), question_keys(reader, batch.questions))


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_alone_moves_the_whole_bridge_and_nothing_else(world, train_set, state, name):
    bridge = world.bridge().train()
    losses(world, train_set, state, bridge=bridge, **ON)[name].backward()
    idle = {n for n, p in bridge.named_parameters() if p.grad is None or not p.grad.abs().max() > 0}
    assert not idle
    assert all(p.grad is None and not p.requires_grad for p in world.pair.target.model.parameters())


def test_what_is_off_costs_nothing(world, train_set, state, monkeypatch):
    """Nothing is embedded as text and the target runs once."""
    forwards = []
    hook = world.pair.target.model.register_forward_pre_hook(lambda *_: forwards.append(1))
    monkeypatch.setattr(type(world.pair.reader), "text_inputs", pytest.fail)
    monkeypatch.setattr(type(world.pair.reader), "question_logits", pytest.fail)
    monkeypatch.setattr(bridge_losses, "question_keys", pytest.fail)
    assert set(losses(world, train_set, state)) == {"answer"}
    hook.remove()
    assert len(forwards) == 1


def test_the_teacher_gets_no_gradient_and_sees_no_message(world, train_set, state):
    """With a message that is the text itself there is nothing to learn: the loss is nought."""
    reader, batch = world.pair.reader, train_set.batch(INDEX)
    recipe = replace(RECIPE, distill=1.0)
    see = lambda reader, soft, batch: reader.text_inputs(None, batch.prompts)  # noqa: E731
    found = losses_of(world.bridge(), reader, batch, recipe, see, 0, state)
    assert found["distill"].item() == pytest.approx(0.0, abs=1e-5)
    assert not found["distill"].requires_grad


def test_info_nce_starts_when_it_is_told(world, train_set, state):
    on = ["info_nce" in losses(world, train_set, state, step=step, info_nce=1.0, info_nce_from=3) for step in range(5)]
    assert on == [False, False, False, True, True]


def test_padding_on_the_left_moves_no_logit(world, train_set):
    """Prefixes of different lengths in one batch; answers too."""
    reader = world.pair.reader
    prefixes = reader.text_inputs(None, [train_set.prompts[i] for i in INDEX])
    batch = train_set.batch(INDEX)
    together = reader.answer_logits(prefixes, batch.inputs)
    for row, prefix in enumerate(prefixes):
        length = len(train_set.answers[row])
        alone = reader.answer_logits(prefix[None], batch.inputs[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0], rtol=1e-3, atol=1e-4)


# --- schedule and optimizers ----------------------------------------------------------------------------------------


def test_the_rate_warms_up_and_decays_linearly():
    recipe = replace(RECIPE, steps=10, warmup=4)
    expected = [0.25, 0.5, 0.75, 1, 1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6]
    assert [recipe.scale(step) for step in range(10)] == pytest.approx(expected)
    assert [replace(recipe, warmup=0, steps=4).scale(step) for step in range(4)] == pytest.approx([1, 0.75, 0.5, 0.25])
    assert replace(recipe, warmup=10).scale(9) > 0


@pytest.mark.parametrize("optimizer", bridge_training.OPTIMIZERS)
@pytest.mark.parametrize("kind", ["resampler", "constant"])
def test_only_matrices_decay_and_only_under_adamw(world, optimizer, kind):
    """With gradients of zero whatever moves was decayed. Queries and a learned message are no matrices of a layer."""
    bridge = world.bridge(kind)
    before = {name: p.detach().clone() for name, p in bridge.named_parameters()}
    made = bridge_training._optimizers(bridge, replace(RECIPE, optimizer=optimizer))
    held = [id(p) for o in made for group in o.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in bridge.parameters())
    for p in bridge.parameters():
        p.grad = torch.zeros_like(p)
    for o in made:
        o.step()
    moved = {name for name, p in bridge.named_parameters() if not torch.equal(p, before[name])}
    matrices = {n for n, p in before.items() if p.ndim == 2 and not n.endswith(("queries", "learned"))}
    assert moved == (matrices if optimizer == "adamw" else set())


@pytest.mark.parametrize(("clip", "bound"), [(0.5, 0.5), (0.0, float("inf"))])
def test_gradients_are_clipped_to_the_norm_asked_for(world, train_set, monkeypatch, clip, bound):
    seen, real = [], torch.nn.utils.clip_grad_norm_

    def spied(parameters, bound):
        parameters = list(parameters)
        before = real(parameters, bound)
        seen.append((before.item(), torch.cat([p.grad.flatten() for p in parameters]).norm().item()))
        return before

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spied)
    rows = trained(world, train_set, clip=clip, evaluations=6)[1]
    assert [row["grad_norm"] for row in rows[1:]] == pytest.approx([before for before, _ in seen])  # as it was before
    assert max(before for before, _ in seen) > 0.5
    for before, after in seen:
        assert after == pytest.approx(min(before, bound), rel=1e-3)


# --- the loop -------------------------------------------------------------------------------------------------------


def trained(world, encoded, accuracies=(), see=message, bridge=None, **changed):
    """(what `train` returns, rows, weights as the judge saw them, steps told) with judged accuracies as given."""
    patience = changed.pop("patience", 5)
    bridge, rows, seen, told = bridge or world.bridge(), [], [], []
    script = itertools.chain(accuracies, itertools.repeat(0.0))

    def judge(judged):
        assert not judged.training
        seen.append({name: tensor.clone() for name, tensor in judged.state_dict().items()})
        return {"val_accuracy": next(script)}

    def watched(reader, soft, batch):
        assert bridge.training
        return see(reader, soft, batch)

    found = bridge_training.train(
        bridge,
        world.pair.reader,
        encoded,
        replace(RECIPE, **changed),
        watched,
        judge,
        lambda accuracies: early_stop(accuracies, patience),
        rows.append,
        lambda: told.append(1),
    )
    return found, rows, seen, len(told)


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in one)


def test_the_curve_tells_of_every_evaluation(world, train_set):
    found, rows, _, steps = trained(world, train_set, **ON, info_nce_from=3)
    assert [row["step"] for row in rows] == [0, 2, 4, 6]
    assert steps == 6
    assert rows[0]["loss"] is None and rows[0]["loss_answer"] is None and rows[0]["grad_norm"] is None
    assert [row["rate"] for row in rows[1:]] == pytest.approx([0.01 * RECIPE.scale(step) for step in (1, 3, 5)])
    assert rows[1]["loss_info_nce"] == 0.0  # on, but not yet
    assert rows[2]["loss_info_nce"] > 0
    for row in rows[1:]:
        assert row["loss"] == pytest.approx(sum(row[f"loss_{name}"] for name in LOSSES))
    assert found.seconds == rows[-1]["train_s"] > rows[1]["train_s"] > rows[0]["train_s"] == 0


def test_logged_losses_are_means_since_the_evaluation_before(world, train_set, monkeypatch):
    """Against the losses of every step as they were computed; None for what is off."""
    each, real = [], bridge_training.losses_of
    monkeypatch.setattr(bridge_training, "losses_of", lambda *given: each.append(real(*given)) or each[-1])
    rows = trained(world, train_set, distill=0.5)[1]
    for name in ("answer", "distill"):
        means = np.array([step[name].item() for step in each]).reshape(3, 2).mean(1)
        assert [row[f"loss_{name}"] for row in rows[1:]] == pytest.approx(means.tolist())
    assert {row["loss_reconstruct"] for row in rows} == {row["loss_info_nce"] for row in rows} == {None}
    assert rows[1]["loss"] == pytest.approx(rows[1]["loss_answer"] + 0.5 * rows[1]["loss_distill"])


@settings(max_examples=8, deadline=None)
@given(script=st.lists(st.sampled_from([0.0, 0.2, 0.4, 0.6]), min_size=7, max_size=7), patience=st.integers(1, 4))
def test_the_best_weights_are_those_that_early_stopping_keeps(world, train_set, script, patience):
    """Real copies: the published "best" were an alias of the last."""
    found, rows, seen, _ = trained(world, train_set, script, evaluations=6, patience=patience)
    best, stop = early_stop(script, patience)
    assert [row["val_accuracy"] for row in rows] == script
    assert found.best_step == rows[best]["step"]
    assert found.stop_step == (None if stop is None else rows[stop]["step"])
    assert same(found.best, seen[best])
    assert same(found.final, seen[-1])
    assert [same(weights, found.final) for weights in seen] == [False] * 6 + [True]


def test_stopping_for_real_ends_there(world, train_set):
    script = [0.1, 0.3, 0.2, 0.2, 0.9, 0.9, 0.9]
    found, rows, seen, steps = trained(world, train_set, script, evaluations=6, patience=2, stop=True)
    assert (found.best_step, found.stop_step, steps, len(rows)) == (1, 3, 3, 4)
    assert same(found.best, seen[1])
    assert same(found.final, seen[3])


def test_training_on_changes_neither_copy(world, train_set):
    bridge = world.bridge()
    found = trained(world, train_set, bridge=bridge)[0]
    kept = {name: tensor.clone() for name, tensor in found.final.items()}
    with torch.no_grad():
        for p in bridge.parameters():
            p.add_(1.0)
    assert same(found.final, kept)
    assert not bridge.training


def test_a_seed_decides_everything(world, train_set):
    first, again, other = (trained(world, train_set, seed=seed)[0].final for seed in (0, 0, 1))
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("optimizer", bridge_training.OPTIMIZERS)
def test_training_lowers_the_loss(world, train_set, optimizer):
    rates = {"muon": 0.05, "adamw": 0.01}
    rows = trained(world, train_set, steps=30, evaluations=3, optimizer=optimizer, learning_rate=rates[optimizer])[1]
    assert rows[-1]["loss_answer"] < rows[1]["loss_answer"] - 0.3


def test_weights_stay_float32_and_the_reader_as_it_was(world, train_set):
    before = [p.clone() for p in world.pair.target.model.parameters()]
    found = trained(world, train_set)[0]
    assert {tensor.dtype for tensor in found.final.values()} == {torch.float32}
    assert all(torch.equal(p, q) for p, q in zip(before, world.pair.target.model.parameters(), strict=True))


def test_a_tuned_prompt_is_trained_by_the_same_loop(world, train_set):
    found, rows, seen, _ = trained(world, train_set, see=text, bridge=world.bridge("constant"))
    assert not torch.equal(found.final["sender.learned"], seen[0]["sender.learned"])
    assert rows[-1]["loss_answer"] > 0


# --- batches --------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=200), size=st.integers(1, 20), seed=st.integers(0, 9))
def test_a_pass_sees_every_example_at_most_once(lengths, size, seed):
    lengths = np.array(lengths)
    batches = list(bridge_training.buckets(lengths, size, np.random.default_rng(seed)))
    size = min(size, len(lengths))
    seen = np.concatenate(batches)
    assert {len(batch) for batch in batches} == {size}
    assert len(set(seen.tolist())) == len(seen) == len(lengths) // size * size


def test_batches_are_of_similar_length_and_in_random_order():
    lengths = np.random.default_rng(0).integers(1, 100, 640)
    batches = list(bridge_training.buckets(lengths, 16, np.random.default_rng(1)))
    spread = np.mean([np.ptp(lengths[batch]) for batch in batches])
    assert spread < 0.2 * np.ptp(lengths)
    means = [lengths[batch].mean() for batch in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.5
    other = list(bridge_training.buckets(lengths, 16, np.random.default_rng(2)))
    assert not all(np.array_equal(a, b) for a, b in zip(batches, other, strict=True))
