"""A cache with room set aside tells the model what transformers' own growing cache tells it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import Qwen2Config
from transformers.cache_utils import DynamicLayer

from lib.generators.kv_cache import BufferCache, BufferLayer


def states(rows: int, tokens: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values [rows, 2, tokens, 3]."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(rows, 2, tokens, 3, generator=generator) for _ in range(2))


@given(capacity=st.integers(1, 8), steps=st.lists(st.integers(1, 5), min_size=1, max_size=8), rows=st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_however_often_it_has_to_grow_it_holds_what_transformers_holds(capacity, steps, rows):
    ours, theirs = BufferLayer(capacity), DynamicLayer()
    for seed, tokens in enumerate(steps):
        new = states(rows, tokens, seed)
        for found, expected in zip(ours.update(*new), theirs.update(*new), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
        assert ours.get_seq_length() == theirs.get_seq_length() == ours.filled <= ours.capacity


def test_chosen_rows_are_copies_that_grow_by_themselves():
    layer = BufferLayer(4)
    layer.update(*states(3, 3, seed=0))
    before = layer.keys.clone()
    copy = layer.rows(torch.tensor([2, 0, 2]))
    torch.testing.assert_close(copy.keys, before[[2, 0, 2]])
    copy.update(*states(3, 4, seed=1))
    torch.testing.assert_close(copy.keys[:, :, :3], before[[2, 0, 2]])
    torch.testing.assert_close(layer.keys, before)


def test_layers_that_see_a_window_only_are_refused():
    shape = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 2, "intermediate_size": 8}
    config = Qwen2Config(**shape, use_sliding_window=True, sliding_window=16, max_window_layers=1)
    with pytest.raises(ValueError, match="sliding-window attention"):
        BufferCache(config, 4)
