"""The trained pair: two tokenizers that lose nothing, lessons without a held-out question, models that load by name."""

import re
from collections import Counter
from dataclasses import replace
from itertools import islice
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from lib import paths
from lib.data import two_hop, two_step
from lib.models import bridge_lessons, bridge_pair, hub, ladder, ladder_cli, locate, registry
from lib.models.bridge_lessons import ANCHOR, Lesson
from lib.models.bridge_reader import Reader

MICRO = ("bridge-micro-source", "bridge-micro-target")
FAMILIES = ("llama", "qwen2")
TOKENIZERS = {family: bridge_pair.tokenizer(family) for family in FAMILIES}
HELD_OUT_SUMS = {case for split in ("validation", "test") for case in two_step.cases(split)}

each_family = pytest.mark.parametrize("family", FAMILIES)
each_member = pytest.mark.parametrize("name", bridge_pair.MEMBERS)


def never() -> bool:
    """The opening is not learned yet."""
    return False


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A cache of this file's own, so that the micro pair is really trained."""
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "CACHE", tmp_path_factory.mktemp("cache"))
        yield paths.CACHE


@pytest.fixture(scope="module", params=MICRO)
def micro(request):
    return hub.load(request.param)


@pytest.fixture(scope="module")
def source():
    return hub.load(MICRO[0])


# --- tokenizers -------------------------------------------------------------------------------------------------------


@each_family
@given(seed=st.integers(0, 10**6), split=st.sampled_from([*two_step.SPLITS, "two hops"]))
@settings(max_examples=60, deadline=None)
def test_every_question_and_answer_comes_back_exactly(family, seed, split):
    made = two_hop.questions(seed, 1)[0] if split == "two hops" else two_step.problems(seed, 1, split)[0]
    tokenizer = TOKENIZERS[family]
    for text in (made.question, f"{made.question}\n", ANCHOR, made.answer):
        read = ids(tokenizer, text)
        assert tokenizer.decode(read) == text
        assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in read


def test_a_number_is_one_word_and_as_many_pieces_as_digits():
    for number in range(100):
        for text in (f"{number}", f"#### {number}", f"{number}+"):
            words, pieces = (
                [tokenizer.decode([token]).strip() for token in ids(tokenizer, text)]
                for tokenizer in TOKENIZERS.values()
            )
            assert str(number) in words
            assert [piece for piece in pieces if piece.isdigit()] == list(str(number))


def test_the_two_agree_neither_on_length_nor_on_ids():
    question = two_step.problems(0, 1)[0].question
    words, pieces = (ids(tokenizer, question) for tokenizer in TOKENIZERS.values())
    assert len(words) != len(pieces)
    assert len(TOKENIZERS["llama"]) != len(TOKENIZERS["qwen2"])


def test_an_unknown_word_is_spelt_by_pieces_and_unknown_to_words():
    text = "Zebras cost 3 €."
    assert TOKENIZERS["qwen2"].decode(ids(TOKENIZERS["qwen2"], text)) == text
    assert TOKENIZERS["llama"].unk_token_id in ids(TOKENIZERS["llama"], text)


# --- lessons ----------------------------------------------------------------------------------------------------------


def case_of(answer):
    """Operations and operands of a worked answer of arithmetic, read off its text."""
    steps = re.findall(r"(\d+)([+-])(\d+)=\d+\n", answer)
    return "".join(symbol for _, symbol, _ in steps), (int(steps[0][0]), *(int(right) for _, _, right in steps))


def split_of(question):
    """The split of a multihop question, read off its text."""
    mothers = re.findall(r"The mother of (\w+) is (\w+)\.", question)
    towns = dict(re.findall(r"(\w+) lives in (\w+)\.", question))
    return two_hop.split_of(SimpleNamespace(families=[(child, mother, towns[mother]) for child, mother in mothers]))


@given(name=st.sampled_from(sorted(bridge_pair.MEMBERS)), seed=st.integers(0, 10**6))
@settings(max_examples=10, deadline=None)
def test_no_lesson_is_a_held_out_question(name, seed):
    plan = replace(bridge_pair.member(name).lessons, opened=20)
    for lesson in islice(bridge_lessons.lessons(plan, seed, never), 150):
        if lesson.ends and "=" in lesson.answer:
            assert case_of(lesson.answer) not in HELD_OUT_SUMS
        elif lesson.given[0].endswith("?\n"):
            assert split_of(lesson.given[0]) == "train"


def test_the_check_above_would_see_a_held_out_question():
    assert all(case_of(made.answer) in HELD_OUT_SUMS for made in two_step.problems(1, 50, "test"))
    assert all(split_of(made.question) == "test" for made in two_hop.questions(1, 50, "test"))


@each_family
def test_a_question_is_put_together_as_the_reader_of_a_bridge_does(family):
    tokenizer = TOKENIZERS[family]
    model = torch.nn.Module()
    model.get_input_embeddings = lambda: torch.nn.Embedding(len(tokenizer), 2)
    reader = Reader(model, tokenizer, [tokenizer.eos_token_id])
    for made in (*two_step.problems(0, 20), *two_hop.questions(0, 20)):
        prompt = [*reader.bos, *reader.ids(f"{made.question}\n"), *reader.anchor]
        (example,) = bridge_lessons.examples(tokenizer, [bridge_lessons.asked(made.question, made.answer)])
        assert example.ids == [*prompt, *reader.ids(made.answer), tokenizer.eos_token_id]
        assert example.start == len(prompt)


@each_family
@pytest.mark.parametrize("kind", ["sum", "same"])
def test_a_drill_is_a_piece_of_an_answer(family, kind):
    """Its tokens are those of the answer it was taken from: the border of question and answer splits no token."""
    tokenizer, plan = TOKENIZERS[family], bridge_lessons.Lessons({kind: 1}, {kind: 1}, 0)
    for lesson in islice(bridge_lessons.lessons(plan, 3, never), 50):
        (example,) = bridge_lessons.examples(tokenizer, [lesson])
        text = "".join(lesson.given) + lesson.answer
        end = [tokenizer.eos_token_id] if kind == "same" else []
        assert example.ids == [tokenizer.bos_token_id, *ids(tokenizer, text), *end]
        if kind == "sum":
            left, result = text.split("=")
            assert eval(left) == int(result)
        else:
            first, second = re.findall(r"to (\w+)\n", text)
            assert lesson.answer == (" yes" if first == second else " no")


def test_a_relay_is_an_answer_to_either_task_to_be_repeated():
    plan = bridge_lessons.Lessons({"relay": 1}, {"relay": 1}, 0)
    made = list(islice(bridge_lessons.lessons(plan, 0, never), 60))
    assert all(lesson.given == [f"{lesson.answer}\n", ANCHOR] for lesson in made)
    assert 10 < sum("=" in lesson.answer for lesson in made) < 50


def kind_of(lesson: Lesson) -> str:
    if not lesson.ends:
        return "sum"
    if len(lesson.given) == 1:
        return "same"
    if lesson.given[0] == f"{lesson.answer}\n":
        return "relay"
    return "arithmetic" if "=" in lesson.answer else "multihop"


@pytest.mark.parametrize("name", ["bridge-source", "bridge-target"])
def test_copying_is_learned_before_sums(name):
    """Arithmetic before the copying is learned unlearns the wired circuit: multihop then stays at the chance of 0.4."""
    plan = replace(bridge_pair.member(name).lessons, opened=300)
    made = [kind_of(lesson) for lesson in islice(bridge_lessons.lessons(plan, 0, never), 2700)]
    assert set(made[:300]) == set(plan.opening) and "arithmetic" not in plan.opening
    total, counts = sum(plan.weights.values()), Counter(made[300:])
    assert set(counts) == set(plan.weights)
    for kind, weight in plan.weights.items():
        assert counts[kind] / 2400 == pytest.approx(weight / total, abs=0.04)


def test_the_opening_ends_when_it_is_learned():
    plan, told = bridge_lessons.Lessons({"sum": 1}, {"same": 1}, 50), []
    made = bridge_lessons.lessons(plan, 0, lambda: len(told) >= 20)
    for lesson in islice(made, 40):
        told.append(kind_of(lesson))
    assert told == ["same"] * 20 + ["sum"] * 20
    told.clear()  # once over it does not come back
    assert kind_of(next(made)) == "sum"


def test_the_opening_is_learned_when_the_last_losses_are_low(monkeypatch):
    """A stand-in for training reports losses; the stream may leave the opening only after RECENT low ones."""
    asked = []

    def report(model, stream, recipe, log):
        for loss in (*[1.0] * 5, *[0.01] * 9):
            log({"loss": loss})
        asked.append(stream())
        log({"loss": 0.01})
        asked.append(stream())

    monkeypatch.setattr(bridge_lessons, "stream", lambda plan, tokenizer, seed, learned: learned)
    monkeypatch.setattr(bridge_pair.training, "train", report)
    heard = []
    bridge_pair._train(None, None, bridge_pair.SOURCE, heard.append)
    assert asked == [False, True] and len(heard) == 15


def test_only_the_source_reads_questions_for_their_own_sake():
    for name, share in (("bridge-source", 0.05), ("bridge-target", 0.0)):
        made = bridge_pair.member(name)
        plan = replace(made.lessons, opened=0)
        stream = bridge_lessons.stream(plan, TOKENIZERS[made.family], 0, never)
        whole = [example.start == 1 for example in islice(stream, 2000)]
        assert sum(whole) / 2000 == pytest.approx(share, abs=0.02) and any(whole) == bool(share)


def test_lessons_never_repeat_from_block_to_block_and_are_the_same_for_a_seed():
    plan = bridge_pair.member("bridge-micro-target").lessons
    tokenizer = TOKENIZERS["qwen2"]
    first, again, other = (
        [tuple(example.ids) for example in islice(bridge_lessons.stream(plan, tokenizer, seed, never), 1000)]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first[:500] != first[500:]


# --- models -----------------------------------------------------------------------------------------------------------


@each_member
def test_members_are_different_models_with_wide_enough_heads(name):
    made = bridge_pair.member(name)
    config = made.config(TOKENIZERS[made.family])
    assert config.model_type == made.family
    assert config.hidden_size // config.num_attention_heads == 32  # the smallest that vLLM's attention takes
    assert config.rope_parameters["rope_theta"] == 1e6 and config.tie_word_embeddings


def test_source_and_target_differ_in_architecture_and_width():
    source, target = (bridge_pair.member(f"bridge-{which}") for which in ("source", "target"))
    assert source.family != target.family and source.hidden_size != target.hidden_size


@pytest.mark.parametrize("name", ["bridge-sorce", "bridge", "ladder-1m", ""])
def test_a_wrong_name_is_one_sentence_with_the_right_ones(name):
    with pytest.raises(ValueError, match=r"^'.*' is not a model of the trained pair: use one of bridge-source, .*\.$"):
        bridge_pair.path(name)


def test_a_name_loads_what_was_trained_and_trains_it_once(micro, cache):
    assert locate.folder(micro.name) == bridge_pair.folder(micro.name) == bridge_pair.path(micro.name)
    assert bridge_pair.folder(micro.name).parent == cache / "bridge"
    locate.check(micro.name)
    assert micro.dtype == torch.float32 and micro.parameters == micro.model.num_parameters()
    assert micro.stop_ids == tuple(sorted({micro.tokenizer.eos_token_id, micro.tokenizer.bos_token_id}))
    assert hub._dtype("auto", micro.name, torch.device("cuda")) == "float32"


def test_the_folder_is_an_ordinary_one(micro):
    place = bridge_pair.folder(micro.name)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(place), AutoTokenizer.from_pretrained(place)
    assert not list(place.glob("*.bin")) and (place / "model.safetensors").exists()
    assert type(model).__name__ == {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}[model.config.model_type]
    for made in (*two_step.problems(5, 10, "wording"), *two_hop.questions(5, 10)):
        text = f"{made.question}\n{ANCHOR}{made.answer}"
        assert ids(tokenizer, text) == ids(micro.tokenizer, text) == ids(TOKENIZERS[model.config.model_type], text)
        assert tokenizer.decode(ids(tokenizer, text)) == text
    read = torch.tensor([ids(tokenizer, text)])
    with torch.no_grad():
        assert torch.allclose(model(input_ids=read).logits, micro.model(input_ids=read).logits, atol=1e-4)


def test_the_record_says_what_was_reached(micro):
    record = ladder.training_of(bridge_pair.folder(micro.name))
    assert record["tokens"] >= bridge_pair.member(micro.name).recipe.tokens
    assert record["parameters"] == micro.parameters
    assert record["curve"][0][1] > 4 > 2 > record["curve"][-1][1]
    assert 0 < record["validation_loss"] < 2
    assert set(record["accuracy"]["text"]) == {"arithmetic", "multihop", "relay"}
    assert record["cpu_seconds"] > 0 < record["wall_seconds"]


def test_accuracy_is_that_of_greedy_decoding(source):
    """One forward decides what decoding token by token would write; half of the answers are the model's own."""
    questions = [made.question for made in (*two_step.problems(7, 12), *two_hop.questions(7, 12))]
    model, tokenizer, lessons, right = source.model, source.tokenizer, [], 0
    for number, question in enumerate(questions):
        prompt = [tokenizer.bos_token_id, *ids(tokenizer, f"{question}\n"), *ids(tokenizer, ANCHOR)]
        written = model.generate(input_ids=torch.tensor([prompt]), do_sample=False, max_new_tokens=60)[0, len(prompt) :]
        answer = tokenizer.decode(written, skip_special_tokens=True)
        lessons.append(bridge_lessons.asked(question, answer if number % 2 else answer.replace(" ", "  ", 1) + "x"))
        own = [*ids(tokenizer, lessons[-1].answer), tokenizer.eos_token_id]
        right += own == written.tolist()
    assert 0 < right < len(lessons)
    assert bridge_pair._accuracy(model, tokenizer, lessons) == pytest.approx(right / len(lessons))


def test_a_perfect_model_has_accuracy_one_and_a_silent_one_none(source):
    """Of an answer every token counts, its end too; of the question none."""

    class Told(torch.nn.Module):
        """Predicts the token that comes next, save those that `wrong` maps to another."""

        def __init__(self, wrong):
            super().__init__()
            self.wrong = wrong

        def forward(self, input_ids, use_cache):
            follows = input_ids.roll(-1, 1)
            for token, other in self.wrong.items():
                follows[follows == token] = other
            return SimpleNamespace(logits=torch.nn.functional.one_hot(follows, len(tokenizer)).float())

    tokenizer = source.tokenizer
    lessons = bridge_pair._held_out("validation", 10)["arithmetic"]
    asked = ids(tokenizer, "many")[0]
    for wrong, expected in (({}, 1.0), ({tokenizer.eos_token_id: 0}, 0.0), ({asked: 0}, 1.0)):
        assert bridge_pair._accuracy(Told(wrong), tokenizer, lessons) == expected


def test_the_same_recipe_gives_the_same_weights(monkeypatch, tmp_path):
    short = replace(
        bridge_pair.member(MICRO[0]), recipe=replace(bridge_pair.SOURCE.recipe, tokens=1500, rows=2), examined=2
    )
    monkeypatch.setitem(bridge_pair.MEMBERS, MICRO[0], short)
    weights = []
    for number in range(2):
        monkeypatch.setattr(paths, "CACHE", tmp_path / str(number))
        torch.manual_seed(number)  # whatever the caller has drawn before
        weights.append(load_file(bridge_pair.path(MICRO[0]) / "model.safetensors"))
    assert all(torch.equal(tensor, weights[1][key]) for key, tensor in weights[0].items())


def test_the_folder_is_named_by_all_that_the_weights_depend_on(monkeypatch):
    name = "bridge-source"
    made, places = bridge_pair.member(name), [bridge_pair.folder(name)]
    assert bridge_pair.folder(name) == places[0]
    changes = [
        {"seed": 1},
        {"layers": 4},
        {"recipe": replace(made.recipe, tokens=1)},
        {"lessons": replace(made.lessons, whole=0.5)},
    ]
    for change in changes:
        monkeypatch.setitem(bridge_pair.MEMBERS, name, replace(made, **change))
        places.append(bridge_pair.folder(name))
    assert len(set(places)) == len(places)
    monkeypatch.setitem(bridge_pair.MEMBERS, name, replace(made, seconds=1.0))
    assert bridge_pair.folder(name) == places[0]


# --- ahead of time ----------------------------------------------------------------------------------------------------


def test_the_pair_is_trained_side_by_side(monkeypatch):
    assert ladder_cli.plan(["bridge-source", "bridge-target"], 2) == [["bridge-target"], ["bridge-source"]]
    assert ladder_cli.seconds("bridge-source") == bridge_pair.member("bridge-source").seconds
    bridge_pair.path(MICRO[0])
    assert ladder_cli.seconds(MICRO[0]) == 0
    assert "held-out accuracy, text: arithmetic" in ladder_cli.table([MICRO[0]])


@pytest.mark.parametrize(
    ("names", "heads", "sentence"),
    [
        (["bridge-sorce"], [], "'bridge-sorce' is not a model of the trained pair: use one of bridge-source"),
        (["ladder-1mm"], [], "did you mean 'ladder-1m'"),
        ([], ["bridge-source"], "bridge-source has no EAGLE head"),
    ],
)
def test_what_cannot_be_trained_is_one_sentence(names, heads, sentence):
    with pytest.raises(ValueError, match=re.escape(sentence)):
        ladder_cli.main(names, heads, 1)


def test_every_member_is_known_by_name():
    assert set(registry.PAIR) == set(bridge_pair.MEMBERS)
