"""Prompts have exactly the length asked for, read naturally, and are the same for whoever asks."""

import pytest

from lib.data import corpus
from lib.data.prompts import encode, natural_prompts
from lib.data.tokenizer import train_tokenizer
from lib.models import dummy


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(1024)


@pytest.mark.parametrize("tokens", [40, 200, 700])
def test_length_is_exact_with_the_chat_template_and_prompts_differ(tokenizer, tokens):
    prompts = natural_prompts(tokenizer, 5, tokens)
    assert [len(p.ids) for p in prompts] == [tokens] * 5
    assert len({p.text for p in prompts}) == 5
    for prompt in prompts:
        assert encode(tokenizer, prompt.text) == prompt.ids
        assert prompt.text.endswith((".", '"')), "cut between sentences only"
        sentences = prompt.text.partition("\n\n")[2].split(". ")
        assert len(set(sentences)) > 0.9 * len(sentences), "nothing is repeated to fill up"


def test_a_prompt_is_one_unfinished_story_where_that_is_long_enough(tokenizer):
    for prompt in natural_prompts(tokenizer, 5, 150):
        request, story = prompt.text.split("\n\n")
        assert request in corpus.CONTINUE
        assert not story.endswith("day."), "an ending leaves nothing to tell"


def test_same_seed_same_prompts_more_prompts_begin_alike_other_seed_other_prompts(tokenizer):
    three = natural_prompts(tokenizer, 3, 120)
    assert natural_prompts(tokenizer, 5, 120)[:3] == three
    assert natural_prompts(tokenizer, 3, 120, seed=1) != three


def test_other_tokenizers_get_exact_lengths_too():
    by_byte = dummy.tokenizer(300)
    assert [len(p.ids) for p in natural_prompts(by_byte, 2, 400)] == [400, 400]
    by_byte.chat_template = None
    (prompt,) = natural_prompts(by_byte, 1, 300)
    assert len(prompt.text.encode()) == 300


def test_an_impossible_length_is_one_sentence_that_says_what_is_possible(tokenizer, monkeypatch):
    monkeypatch.setattr("lib.data.prompts.ATTEMPTS", 20)
    with pytest.raises(ValueError, match=r"Only 0 of 1 prompts of exactly 9 tokens .* try prompt_tokens of \d+\."):
        natural_prompts(tokenizer, 1, 9)


def test_a_length_no_story_reaches_is_a_sentence_too(tokenizer, monkeypatch):
    monkeypatch.setattr("lib.data.prompts.ATTEMPTS", 5)
    with pytest.raises(ValueError, match="lower prompt_tokens"):
        natural_prompts(tokenizer, 1, 100_000)
