"""Questions are what the ladder was taught, held out from its lessons, and answers fall into the right clusters."""

from collections import Counter

import pytest

from lib.data import arithmetic, corpus, multihop
from lib.data.prompts import encode
from lib.data.questions import answer, questions
from lib.data.tokenizer import train_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(1024)


def test_kinds_come_by_turns_and_all_of_them(tokenizer):
    kinds = [question.kind for question in questions(tokenizer, 16)]
    assert all((kind in arithmetic.KINDS) == (i % 2 == 0) for i, kind in enumerate(kinds))
    assert set(Counter(kinds[:8])) == {*arithmetic.KINDS, *multihop.KINDS}
    assert kinds[:8] == kinds[8:]


def test_the_model_reads_the_question_as_a_chat_and_nothing_of_the_answer(tokenizer):
    for question in questions(tokenizer, 8):
        assert question.ids == encode(tokenizer, question.text)
        assert tokenizer.decode(question.ids).endswith("assistant\n")
        assert "####" not in question.text


def test_questions_read_as_the_corpus_writes_them(tokenizer):
    for question in questions(tokenizer, 8):
        if question.kind in multihop.KINDS:
            context, asked = question.text.split("\n\n")
            assert "was directed by" in context
            assert asked.endswith("?")
            document = next(corpus.generate("any", kind="multihop"))
            if document.chat:
                assert document.text.split("\n\n")[0].count(" was born in ") == context.count(" was born in ")


def test_arithmetic_is_held_out(tokenizer):
    trained = {p.question for kind in arithmetic.KINDS for p in arithmetic.problems("any", 300, kind, "train")}
    asked = [question for question in questions(tokenizer, 40) if question.kind in arithmetic.KINDS]
    assert len(asked) == 20
    assert not trained & {question.text for question in asked}
    for question in asked:
        if question.kind == "add":
            x, y = (int(word) for word in question.text.replace(".", "").split() if word.isdigit())
            assert tuple(sorted((x, y), reverse=True)) in arithmetic.pairs("+", "heldout")


def test_same_seed_same_questions_more_begin_alike_other_seed_others(tokenizer):
    six = questions(tokenizer, 6)
    assert questions(tokenizer, 20)[:6] == six
    assert questions(tokenizer, 6, seed=1) != six
    assert len({question.text for question in questions(tokenizer, 60)}) == 60


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("5 + 7 = <<5+7=12>>12 eggs.\n#### 12<|im_end|>", "12"),
        ("#### 12<|im_end|>\n<|im_start|>user #### 13", "12"),
        ("####12\n#### 13", "12"),
        ("#### 1,234,567<|endoftext|>", "1234567"),
        ("####  New   York. ", "new york"),
        ("#### Yes", "yes"),
        ("#### -7", "-7"),
        ("#### 3,4", "3,4"),
    ],
)
def test_the_label_is_what_follows_the_mark(text, label):
    assert answer(text) == label


@pytest.mark.parametrize("kind", [*arithmetic.KINDS, *multihop.KINDS])
def test_the_right_answer_gets_the_gold_label(kind):
    made = (arithmetic.problems if kind in arithmetic.KINDS else multihop.questions)("gold", 20, kind)
    assert all(answer(one.answer + corpus.IM_END) == one.gold.casefold() for one in made)


def test_a_text_without_an_answer_is_a_cluster_of_its_own():
    assert answer("I do not know.<|im_end|>") == answer("I  do not KNOW") == "i do not know"
    assert answer("5 + 7 = 12") != answer("5 + 7 = 13")
    assert answer("so it is ####") == answer("so it is ####<|im_end|>") == "so it is ####"
    assert answer("") == ""
    assert answer("nothing<|im_end|>#### 12") == "nothing", "what comes after the end was never said"
