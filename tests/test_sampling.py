"""Draws follow the laws they claim, and random numbers are addressed, not consumed."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lib.generators.common import SamplingParams
from lib.generators.sampling import draw, draw_distinct, entropy, probabilities, uniforms

LAW = torch.tensor([0.5, 0.0, 0.2, 0.2, 0.1, 0.0], dtype=torch.float64)
DRAWS = 20_000


def test_draw_follows_the_law_and_never_takes_what_is_impossible():
    u = torch.from_numpy(uniforms(3, 0, DRAWS))
    counts = np.bincount(draw(LAW.expand(DRAWS, -1), u.unsqueeze(-1)).squeeze(-1), minlength=6)
    assert counts[[1, 5]].sum() == 0
    possible = LAW.numpy() > 0
    assert stats.chisquare(counts[possible], LAW.numpy()[possible] * DRAWS).pvalue > 1e-4


def test_draw_distinct_has_the_law_of_successive_sampling():
    u = torch.from_numpy(uniforms(4, 0, 2 * DRAWS).reshape(DRAWS, 2))
    pairs = draw_distinct(LAW.expand(DRAWS, -1), u).tolist()
    p = LAW.tolist()
    expected = {(i, j): p[i] * p[j] / (1 - p[i]) for i, j in itertools.permutations(range(6), 2) if p[i] * p[j] > 0}
    observed = dict.fromkeys(expected, 0)
    for pair in pairs:
        observed[tuple(pair)] += 1  # a pair with a repeated or impossible token is a KeyError
    pvalue = stats.chisquare(list(observed.values()), [expected[k] * DRAWS for k in observed]).pvalue
    assert pvalue > 1e-4


def test_draw_distinct_marks_what_a_filter_left_no_token_for():
    tokens = draw_distinct(torch.tensor([[0.0, 1.0, 0.0]], dtype=torch.float64), torch.full((1, 3), 0.999))
    assert tokens.tolist() == [[1, -1, -1]]


@settings(deadline=None)
@given(st.integers(0, 2**63), st.integers(0, 2**40), st.integers(2, 50), st.integers(1, 50))
def test_uniforms_are_a_function_of_their_address(seed, stream, n, more):
    numbers = uniforms(seed, stream, n)
    assert ((numbers >= 0) & (numbers < 1)).all()
    np.testing.assert_array_equal(numbers, uniforms(seed, stream, n + more)[:n])
    assert not np.array_equal(uniforms(seed, stream + 1, n), numbers)
    assert not np.array_equal(uniforms(seed + 1, stream, n), numbers)


def test_uniforms_of_neighbouring_streams_are_uncorrelated():
    table = np.stack([uniforms(0, stream, 2000) for stream in range(30)])
    off_diagonal = np.corrcoef(table)[~np.eye(30, dtype=bool)]
    assert np.abs(off_diagonal).max() < 5 / np.sqrt(2000)


@pytest.mark.parametrize(("top_k", "top_p", "support"), [(0, 1.0, 4), (2, 1.0, 2), (0, 0.9, 2), (1, 0.9, 1)])
def test_filters_and_temperature(top_k, top_p, support):
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    probs = probabilities(logits, SamplingParams(temperature=0.5, top_k=top_k, top_p=top_p))[0]
    plain = torch.exp(2 * logits[0])
    kept = plain[:support] / plain[:support].sum()
    torch.testing.assert_close(probs[:support], kept)
    assert probs[support:].sum() == 0


def test_entropy_agrees_with_scipy():
    assert float(entropy(LAW)) == pytest.approx(stats.entropy(LAW.numpy()))
