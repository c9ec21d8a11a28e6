"""Bridges send what the source has read and nothing of the padding, with real heads, at the target's scale."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.models import bridge
from lib.models.bridge import SENDERS, Attention, Shape, build, match_rms, stretches

SHAPE = Shape("resampler", source_dim=12, target_dim=20, soft_tokens=3, wire_dim=5, bottleneck=16, depth=2, heads=4)
KINDS = sorted(SENDERS)
RMS = 0.37


def made(kind: str = "resampler", **changed: int) -> bridge.Bridge:
    return build(replace(SHAPE, kind=kind, **changed), RMS, 0).eval()


def states(
    lengths: list[int], seed: int = 0, padded: int = 0, garbage: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random states of texts [B, longest + padded, 12] with `garbage` behind their ends, and their mask."""
    generator = torch.Generator().manual_seed(seed)
    found = torch.full((len(lengths), max(lengths) + padded, 12), garbage)
    mask = torch.zeros(found.shape[:2], dtype=torch.bool)
    for row, length in enumerate(lengths):
        found[row, :length] = torch.randn(length, 12, generator=generator)
        mask[row, :length] = True
    return found, mask


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_follow_the_dials(kind):
    made_here, given_states = made(kind), states([4, 7])
    assert made_here.message(*given_states).shape == (2, 3, 5)
    assert made_here(*given_states).shape == (2, 3, 20)
    assert made_here.parameters_count == sum(p.numel() for p in made_here.parameters())


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    padded=st.integers(0, 5),
    garbage=st.sampled_from([0.0, 1.0, -300.0, 1e4]),
    data=st.data(),
)
def test_a_message_knows_nothing_of_padding_or_companions(kind, lengths, padded, garbage, data):
    sender = made(kind)
    row = data.draw(st.integers(0, len(lengths) - 1))
    found, mask = states(lengths, padded=padded, garbage=garbage)
    alone = found[row : row + 1, : lengths[row]], mask[row : row + 1, : lengths[row]]
    with torch.no_grad():
        torch.testing.assert_close(sender.message(found, mask)[row], sender.message(*alone)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_gets_a_gradient(kind):
    sender = made(kind).train()
    (sender(*states([6, 9])) * torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(1))).sum().backward()
    idle = [name for name, p in sender.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    assert not idle


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"constant"}))
def test_every_state_of_a_text_reaches_its_message_and_no_other(kind):
    sender, (found, mask) = made(kind), states([5, 8])
    before = sender.message(found, mask)
    for place in range(8):
        changed = found.clone()
        changed[1, place] += torch.linspace(-1, 1, 12)
        after = sender.message(changed, mask)
        torch.testing.assert_close(after[0], before[0])
        assert (after[1] - before[1]).abs().max() > 1e-4, place


def test_a_constant_sends_one_message_whatever_was_read():
    sender = made("constant")
    sent = torch.cat([sender.message(*states([5, 8], seed)) for seed in (0, 1)])
    assert (sent == sent[0]).all()
    assert sent[0].std() > 0


def test_attention_is_torchs_own_with_as_many_heads():
    width, heads = 16, 4
    ours, theirs = Attention(width, heads), torch.nn.MultiheadAttention(width, heads, bias=False, batch_first=True)
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.out_proj.weight.copy_(ours.out.weight)
    queries, seen = torch.randn(2, 3, width), torch.randn(2, 7, width)
    mask = torch.arange(7) < torch.tensor([[7], [4]])
    expected, _ = theirs(queries, seen, seen, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, seen, mask), expected, rtol=1e-4, atol=1e-5)
    ours.heads = 1
    assert (ours(queries, seen, mask) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_a_resampler_attends_with_the_heads_it_was_given(heads):
    """The published one had one, whatever it was told."""
    attentions = [module for module in made(heads=heads).modules() if isinstance(module, Attention)]
    assert len(attentions) == 2 * SHAPE.depth
    assert {module.heads for module in attentions} == {heads}


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(1e-3, 1e3), rms=st.floats(1e-3, 10), shift=st.floats(-2, 2))
def test_matching_the_rms_sets_the_length_and_keeps_the_direction(scale, rms, shift):
    soft = scale * (torch.randn(4, 3, 32, generator=torch.Generator().manual_seed(0)) + shift)
    matched = match_rms(soft, rms)
    torch.testing.assert_close(matched.square().mean(-1).sqrt(), torch.full((4, 3), rms), rtol=1e-3, atol=0)
    cosine = torch.cosine_similarity(matched, soft, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(4, 3), rtol=0, atol=1e-5)
    assert match_rms(soft.bfloat16(), torch.tensor(rms)).dtype is torch.bfloat16


def test_soft_tokens_have_the_length_of_the_targets_embeddings():
    soft = made()(*states([4, 7]))
    torch.testing.assert_close(soft.square().mean(-1).sqrt(), torch.full((2, 3), RMS), rtol=1e-4, atol=0)
    assert (match_rms(torch.zeros(1, 4), RMS) == 0).all()


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=4), count=st.integers(1, 6), left=st.booleans())
def test_stretches_are_means_that_leave_no_position_out(lengths, count, left):
    position = torch.arange(max(lengths))
    ends = torch.tensor(lengths)[:, None]
    mask = (position >= max(lengths) - ends) if left else (position < ends)
    weights = stretches(mask, count)
    assert weights.shape == (len(lengths), count, max(lengths))
    torch.testing.assert_close(weights.sum(-1), torch.ones(len(lengths), count))
    assert ((weights.sum(1) > 0) == mask).all()
    for row, length in enumerate(lengths):
        used = weights[row] > 0
        if length % count == 0:
            assert (used.sum(0)[mask[row]] == 1).all()
            assert (used.sum(1) == length // count).all()


def test_stretches_by_hand():
    weights = stretches(torch.tensor([[True] * 4 + [False], [True] * 5]), 2)
    expected = [[[0.5, 0.5, 0, 0, 0], [0, 0, 0.5, 0.5, 0]], [[1 / 3] * 3 + [0, 0], [0, 0] + [1 / 3] * 3]]
    torch.testing.assert_close(weights, torch.tensor(expected))


def test_linear_and_mean_pool_are_what_their_names_say():
    found, mask = states([6])
    normed = torch.nn.functional.layer_norm(found[0], (12,))
    linear, pooled = made("linear").sender, made("mean_pool").sender
    parts = torch.stack([part.mean(0) for part in normed.split(2)])
    torch.testing.assert_close(linear(found, mask)[0], linear.send(parts), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(pooled(found, mask)[0].flatten(), pooled.mlp(normed.mean(0)), rtol=1e-4, atol=1e-5)


def test_a_seed_is_one_bridge():
    first, same, other = build(SHAPE, RMS, 3), build(SHAPE, RMS, 3), build(SHAPE, RMS, 4)
    pairs = [(p, q, r) for p, q, r in zip(first.parameters(), same.parameters(), other.parameters(), strict=True)]
    assert all(torch.equal(p, q) for p, q, _ in pairs)
    assert not all(torch.equal(p, r) for p, _, r in pairs)


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build(SHAPE, RMS, 0)
    assert torch.equal(torch.rand(3), expected)


def test_queries_start_orthogonal():
    gram = made().sender.queries @ made().sender.queries.T
    torch.testing.assert_close(gram, torch.eye(3), rtol=0, atol=1e-5)


@pytest.mark.parametrize("inner", [0, 7])
def test_ffn_is_its_width_or_four_times_the_bottlenecks(inner):
    assert made(ffn=inner).sender.blocks[0].ffn[0].out_features == (inner or 4 * SHAPE.bottleneck)


@pytest.mark.parametrize(
    ("changed", "said"),
    [({"kind": "lstm"}, "use one of resampler"), ({"heads": 3}, "do not divide a bottleneck of 16")],
)
def test_what_cannot_be_built_is_said(changed, said):
    with pytest.raises(ValueError, match=said):
        build(replace(SHAPE, **changed), RMS, 0)
