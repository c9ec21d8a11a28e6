"""The generated corpora: exact entropy, one derivation per text, disjoint splits, right answers, lossless tokens."""

import math
import re
import statistics
import unicodedata
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.data import arithmetic, copyedit, corpus, multihop
from lib.data.choices import Choices, Draw, Weighted, expected_entropy, several, zipf
from lib.data.tokenizer import SPECIALS, encode, train_tokenizer

KINDS = [None, *corpus.WRITERS]


class Recorder(Draw):
    """A draw that remembers the options it was given and what it answered."""

    def __init__(self, seed: int | str) -> None:
        super().__init__(seed)
        self.answers: list[object] = []
        self.branches: list[object] = []
        self.slots: list[float] = []

    def pick(self, options):
        answer = super().pick(options)
        self.answers.append(answer)
        self.slots.append(options.entropy() if isinstance(options, Weighted) else math.log(len(options)))
        return answer

    def branch(self, options):
        answer = super().pick(options)
        self.answers.append(answer)
        listed = options.options if isinstance(options, Weighted) else list(options)
        self.branches.append(listed.index(answer))
        return answer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(1024)


def toy(choices: Choices) -> str:
    """A generator whose entropy is easy by hand: a biased branch to nothing, to one of four, or to two of three."""
    length = choices.branch(Weighted([0, 1, 2], [2, 1, 1]))
    return {0: lambda: "", 1: lambda: choices.pick("abcd"), 2: lambda: "".join(several(choices, "xyz", 2))}[length]()


def test_entropy_of_a_toy_by_hand():
    by_hand = 0.5 * math.log(2) + 0.25 * (math.log(4) + math.log(4)) + 0.25 * (math.log(4) + math.log(6))
    assert expected_entropy(toy) == pytest.approx(by_hand, rel=1e-12)


def test_entropy_of_a_toy_by_enumeration_of_its_texts():
    surprisal = {}
    for seed in range(400):
        draw = Draw(seed)
        text = toy(draw)
        surprisal[text] = draw.surprisal
    assert sum(math.exp(-value) for value in surprisal.values()) == pytest.approx(1.0)
    assert sum(math.exp(-value) * value for value in surprisal.values()) == pytest.approx(expected_entropy(toy))


def test_zipf_is_normalised_and_falls_as_a_power():
    law = zipf("abcd", 0.5)
    assert sum(law.probabilities) == pytest.approx(1)
    assert law.probabilities[0] / law.probabilities[3] == pytest.approx(2)


@pytest.mark.parametrize("kind", KINDS)
def test_mean_surprisal_is_the_exact_entropy(kind):
    values = []
    for seed in range(3000):
        draw = Draw(seed)
        corpus.write(draw, kind)
        values.append(draw.surprisal)
    error = statistics.stdev(values) / math.sqrt(len(values))
    assert abs(statistics.mean(values) - corpus.entropy_per_document(kind)) < 4 * error


def test_the_mixture_adds_the_choice_of_the_kind():
    law = corpus.MIXTURE
    parts = zip(law.options, law.probabilities, strict=True)
    expected = law.entropy() + sum(p * corpus.entropy_per_document(kind) for kind, p in parts)
    assert corpus.entropy_per_document() == pytest.approx(expected)


def test_slots_depend_on_branches_only():
    """The enumeration answers every slot with its first option: right only if no later entropy depends on it."""
    seen: dict[tuple, list[float]] = {}
    for seed in range(4000):
        recorder = Recorder(seed)
        corpus.write(recorder)
        path = tuple(recorder.branches)
        assert seen.setdefault(path, recorder.slots) == pytest.approx(recorder.slots)


@pytest.mark.parametrize(
    "generate",
    [
        lambda choices: arithmetic.problem(choices, "mul").question,
        lambda choices: _small_hop(choices, "bridge"),
        lambda choices: _small_hop(choices, "compare"),
        lambda choices: corpus.write(choices)[0],
    ],
    ids=["mul", "bridge", "compare", "mixture"],
)
def test_equal_texts_come_from_equal_choices(generate):
    """Two derivations of one text would make its surprisal larger than -ln p, and the entropy a wrong floor."""
    derivations = defaultdict(set)
    for seed in range(4000):
        recorder = Recorder(seed)
        text = generate(recorder)
        derivations[text].add((tuple(map(str, recorder.answers)), round(recorder.surprisal, 9)))
    assert all(len(ways) == 1 for ways in derivations.values())


def _small_hop(choices: Choices, kind: multihop.Kind) -> tuple[str, str]:
    """A two-hop question with so few names that the same text comes up many times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(multihop, "TITLES", ["X", "Y", "Z"])
        patch.setattr(multihop, "SHE", ["A", "B", "C"])
        patch.setattr(multihop, "HE", [])
        patch.setattr(multihop, "TOWNS", ["P", "Q", "R"])
        patch.setattr(multihop, "ARRANGEMENTS", multihop.ARRANGEMENTS[:2])
        made = multihop.question(choices, kind)
    return made.context, made.question


def test_streams_repeat_and_are_disjoint():
    train = corpus.documents("a seed", 500)
    assert train == corpus.documents("a seed", 500)
    assert train != corpus.documents("another seed", 500)
    held = {document.text for document in corpus.documents("a seed", 300, "validation")}
    assert not held & {document.text for document in train}
    assert {corpus.stream_of(text) for text in held} == {"validation"}


def test_documents_are_framed_as_the_chat_template_frames_them(tokenizer):
    for document in corpus.documents("frames", 60):
        if not document.chat:
            assert document.text.endswith("<|endoftext|>")
            assert "<|im_" not in document.text
            continue
        pattern = r"<\|im_start\|>user\n(.*)<\|im_end\|>\n<\|im_start\|>assistant\n(.*)<\|im_end\|>"
        request, reply = re.fullmatch(pattern, document.text, re.DOTALL).groups()
        turns = [{"role": "user", "content": request}, {"role": "assistant", "content": reply}]
        assert tokenizer.apply_chat_template(turns, tokenize=False) == tokenizer.bos_token + document.text
        opening = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
        assert opening + reply + "<|im_end|>" == tokenizer.bos_token + document.text


@pytest.mark.parametrize("kind", arithmetic.KINDS)
@pytest.mark.parametrize("split", ["train", "heldout"])
def test_arithmetic_is_right_and_in_format(kind, split):
    for problem in arithmetic.problems(1, 200, kind, split):
        steps = re.findall(r"<<(\d+)([-+*])(\d+)=(-?\d+)>>(-?\d+)", problem.answer)
        assert len(steps) == (2 if kind == "two_step" else 1)
        for left, symbol, right, result, repeated in steps:
            assert arithmetic.CALCULATE[symbol](int(left), int(right)) == int(result) == int(repeated)
        assert problem.answer.endswith(f"#### {problem.gold}")
        assert steps[-1][3] == problem.gold == arithmetic.predicted(problem.answer)
        assert int(problem.gold) >= 0
        assert all(str(operand) in problem.question for operand in problem.operands)


def test_heldout_sums_and_differences_never_occur_in_training():
    calculations = {split: set() for split in ("train", "heldout")}
    for split, found in calculations.items():
        for kind in ("add", "sub", "two_step"):
            for problem in arithmetic.problems(2, 1500, kind, split):
                for left, symbol, right in re.findall(r"<<(\d+)([-+])(\d+)=", problem.answer):
                    found.add((symbol, *(sorted((left, right)) if symbol == "+" else (left, right))))
    assert min(map(len, calculations.values())) > 150, "both splits should show most of what they hold"
    assert not calculations["train"] & calculations["heldout"]


def test_products_are_held_out_by_question():
    questions = {
        split: {p.question for p in arithmetic.problems(3, 400, "mul", split)} for split in ("train", "heldout")
    }
    assert not questions["train"] & questions["heldout"]
    assert not set(arithmetic.products("train")) & set(arithmetic.products("heldout"))
    assert {(x, y) for x, y, _ in arithmetic.products("train")} == set(arithmetic.pairs("*", "train"))


@pytest.mark.parametrize(
    ("text", "number"), [("#### 1,234", "1234"), ("x\n#### -5.", "-5"), ("#### none", None), ("7", None)]
)
def test_predicted_number(text, number):
    assert arithmetic.predicted(text) == number


@pytest.mark.parametrize("kind", multihop.KINDS)
def test_multihop_answers_follow_from_the_context_alone(kind):
    golds = set()
    for made in multihop.questions(1, 300, kind):
        director = dict(re.findall(r'"([^"]+)" was directed by (\w+)\.', made.context))
        born = dict(re.findall(r"(\w+) was born in (\w+)\.", made.context))
        towns = [born[director[title]] for title in re.findall(r'"([^"]+)"', made.question)]
        expected = towns[0] if kind == "bridge" else "yes" if towns[0] == towns[1] else "no"
        assert made.gold == expected
        assert made.answer.endswith(f"#### {expected}")
        assert all(sentence in made.context for sentence in made.evidence)
        assert len(made.evidence) == 2 * len(towns)
        golds.add(made.gold)
    assert len(golds) == (2 if kind == "compare" else len(multihop.TOWNS))


def test_a_repeated_town_does_not_give_the_comparison_away():
    """Whether any town comes up twice must not decide between yes and no."""
    twice = defaultdict(int)
    for made in multihop.questions(5, 600, "compare"):
        towns = re.findall(r"was born in (\w+)\.", made.context)
        twice[made.gold] += len(set(towns)) < len(towns)
    assert twice["no"] > 100


def test_copyedit_answers():
    for task in copyedit.tasks(1, 100, "quote"):
        assert task.answer in task.passage
        assert f"{task.instruction.split()[2]} says: {task.answer}" in task.passage
    for kind in ("list", "repeat"):
        assert all(task.answer == task.passage for task in copyedit.tasks(1, 50, kind))
    for task in copyedit.tasks(1, 100, "edit"):
        new, old = re.findall(r'"(\w+)"', task.instruction)
        assert not re.search(rf"\b{old}\b", task.answer)
        assert re.sub(rf"\b{new}\b", old, task.answer) == task.passage
        assert task.answer != task.passage


@settings(deadline=None, max_examples=300)
@given(st.text())
def test_any_text_survives_the_tokenizer(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == unicodedata.normalize("NFC", text)


def test_digits_are_tokens_and_specials_are_single(tokenizer):
    assert [tokenizer.decode(index) for index in tokenizer("2027")["input_ids"]] == list("2027")
    assert [tokenizer(special)["input_ids"] for special in SPECIALS] == [[0], [1], [2], [3]]
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<|endoftext|>", "<|im_end|>", "<|pad|>")
    assert len(tokenizer) == 1024


def test_encoded_documents_start_with_the_end_of_the_last(tokenizer):
    ids = encode(tokenizer, [document.text for document in corpus.documents(1, 20)])
    assert all(row[0] == tokenizer.bos_token_id and row[-1] in (0, 3) for row in ids)
