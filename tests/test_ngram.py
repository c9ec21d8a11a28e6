"""Lookups find what a search by definition finds, what transformers finds, and nothing where there is nothing."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.candidate_generator import PromptLookupCandidateGenerator

from lib.generators.speculative import ngram
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Rows

TEXTS = st.lists(st.integers(0, 2), min_size=1, max_size=24)  # three tokens: endings repeat, and overlap themselves
RANGES = st.tuples(st.integers(1, 4), st.integers(0, 4)).map(lambda least: (least[0], sum(least)))


def lookup(text, shortest, longest, count):
    """What one row drafts."""
    history = np.array([[*text, *[7] * count]])  # 7: room behind the text that must never be read
    tokens, lengths = ngram.lookup(history, np.array([len(text)]), shortest, longest, count)
    return tokens[0, : lengths[0]].tolist()


def by_definition(text, shortest, longest, count):
    """The continuation of the first earlier occurrence of the longest ending that occurs earlier."""
    for size in range(longest, shortest - 1, -1):
        ending = text[len(text) - size :]
        for start in range(len(text) - size):
            if text[start : start + size] == ending:
                return text[start + size : start + size + count]
    return []


def by_transformers(text, longest, count):
    ids = torch.tensor([text])
    found, _ = PromptLookupCandidateGenerator(None, count, longest, max_length=1000).get_candidates(ids)
    return found[0, len(text) :].tolist()


@settings(deadline=None)  # the first call compiles
@given(TEXTS, RANGES, st.integers(1, 6))
def test_lookup_is_the_search_by_definition(text, sizes, count):
    assert lookup(text, *sizes, count) == by_definition(text, *sizes, count)


@settings(deadline=None)
@given(TEXTS, st.integers(1, 5), st.integers(1, 6))
def test_lookup_down_to_one_token_is_transformers(text, longest, count):
    assert lookup(text, 1, longest, count) == by_transformers(text, longest, count)


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=2, max_size=5), RANGES, st.integers(1, 6))
def test_rows_of_a_batch_look_up_what_each_does_alone(texts, sizes, count):
    drafter = ngram.Ngram(Speculation("ngram", count, prompt_lookup_max=sizes[1], prompt_lookup_min=sizes[0]))
    rows = Rows(texts, Decoding(max_new_tokens=4), count, [])
    draft = drafter.propose(rows, room=99)
    alone = [by_definition(text, *sizes, count) for text in texts]
    assert [row[:n].tolist() for row, n in zip(draft.tokens, draft.lengths, strict=True)] == alone
    assert draft.tokens.shape[1] == max(map(len, alone)), "no row is verified wider than the longest draft"


@pytest.mark.parametrize(
    ("text", "sizes", "expected"),
    [
        ([1, 2, 3, 4, 5, 9, 1, 2, 3, 4], (4, 4), [5, 9, 1]),
        ([0, 2, 3, 4, 5, 9, 1, 2, 3, 4], (4, 4), []),  # min = max: three tokens that agree are not enough
        ([0, 2, 3, 4, 5, 9, 1, 2, 3, 4], (1, 4), [5, 9, 1]),
        ([1, 2, 7, 1, 2, 8, 1, 2], (1, 4), [7, 1, 2]),  # the first of equals
        ([2, 7, 1, 2, 8, 1, 2], (1, 4), [8, 1, 2]),  # a longer ending before an earlier one
        ([3, 5, 5], (1, 4), [5]),  # an occurrence may overlap the ending; its draft ends with the text
        ([5, 5, 5, 5, 5], (1, 3), [5, 5]),
        ([1, 2, 1], (3, 4), []),
        ([1, 2, 3], (1, 4), []),
        ([1], (1, 4), []),
    ],
)
def test_by_hand(text, sizes, expected):
    assert lookup(text, *sizes, 3) == expected == by_definition(text, *sizes, 3)


def test_room_bounds_a_draft():
    drafter = ngram.Ngram(Speculation("ngram", 5))
    rows = Rows([[1, 2, 3, 4, 1]], Decoding(max_new_tokens=4), drafter.ahead, [])
    assert drafter.propose(rows, room=99).tokens.tolist() == [[2, 3, 4, 1]]
    assert drafter.propose(rows, room=2).tokens.tolist() == [[2, 3]]


def test_one_signature_is_compiled():
    """A second one would be compiled in the middle of somebody's timed pass."""
    rows = Rows([[1, 2, 1], [3], [1, 1]], Decoding(max_new_tokens=4), 5, [])
    drafter = ngram.Ngram(Speculation("ngram", 5))
    drafter.propose(rows, room=99)
    rows.append(np.array([[1], [3], [2]]), np.ones(3, dtype=np.int64))
    rows.select(np.array([0, 2]))
    drafter.propose(rows, room=1)
    assert len(ngram.lookup.signatures) == 1
