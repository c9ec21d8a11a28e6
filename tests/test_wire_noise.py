"""The noise of training is that of the wire: as wide as its steps, uniform, and without a gradient of its own."""

import bridge_toys
import numpy as np
import pytest
import torch
from accelerate import PartialState
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lib.bridge.worker import Job
from lib.models import wire
from lib.models.bridge_losses import Recipe, losses_of, message
from lib.models.wire_noise import GROUP, noisy
from lib.params import ParameterError, resolve


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


def drawn(tokens: int, width: int, seed: int = 0, batch: int = 3) -> torch.Tensor:
    return torch.randn(batch, tokens, width, generator=torch.Generator().manual_seed(seed)) * 3


def steps_of(sent: torch.Tensor, bits: int) -> np.ndarray:
    """The width of a code at each number [B, tokens * width], group by group."""
    rows = []
    for row in sent.flatten(1).numpy():
        parts = [row[i : i + GROUP] for i in range(0, len(row), GROUP)]
        rows.append(np.concatenate([np.full(len(p), np.abs(p).max() / (2 ** (bits - 1) - 1)) for p in parts]))
    return np.stack(rows)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 9), st.integers(1, 40), st.integers(2, 8), st.integers(0, 99))
def test_no_number_moves_by_more_than_half_a_step(tokens, width, bits, seed):
    sent = drawn(tokens, width, seed)
    moved = (noisy(sent, bits, seed) - sent).flatten(1).numpy()
    assert (np.abs(moved) <= steps_of(sent, bits) * 0.5 * (1 + 1e-4) + 1e-6).all()


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_it_is_uniform_over_the_whole_step(bits):
    sent = drawn(64, 64)
    moved = (noisy(sent, bits, 1) - sent).flatten(1).numpy() / steps_of(sent, bits)
    assert stats.kstest(moved.ravel(), stats.uniform(-0.5, 1).cdf).pvalue > 0.01


@pytest.mark.parametrize("bits", [3, 4, 6])
def test_it_is_as_strong_as_what_the_wire_does(bits):
    """Uniform noise of width s and rounding to steps of s both have variance s^2 / 12."""
    sent = drawn(32, 32, batch=4)
    came = np.stack([wire.decode(wire.encode(row, f"int{bits}")) for row in sent])
    ours = (noisy(sent, bits, 2) - sent).square().mean().item()
    assert ours == pytest.approx(np.square(came - sent.numpy()).mean(), rel=0.1)


def test_a_seed_means_the_same_noise_and_zero_bits_none():
    sent = drawn(4, 6)
    assert torch.equal(noisy(sent, 4, 5), noisy(sent, 4, 5))
    assert not torch.equal(noisy(sent, 4, 5), noisy(sent, 4, 6))
    assert noisy(sent, 0, 5) is sent
    assert noisy(sent.bfloat16(), 4, 5).dtype == torch.bfloat16


def test_the_gradient_passes_as_if_there_were_none():
    sent = drawn(4, 6).requires_grad_()
    (noisy(sent, 3, 1) * torch.arange(6)).sum().backward()
    assert torch.equal(sent.grad, torch.arange(6.0).expand_as(sent))


def test_training_hears_it_and_each_step_anew(world):
    batch = world.encoded("train", 8).batch(np.arange(8))

    def loss(step: int, **changed: int) -> float:
        recipe = Recipe(steps=6, batch_size=8, learning_rate=0.01, warmup=2, **changed)
        return losses_of(world.bridge(), world.pair.reader, batch, recipe, message, step, PartialState())[
            "answer"
        ].item()

    assert loss(0) == loss(1)
    assert len({loss(0), loss(0, noise_bits=2), loss(1, noise_bits=2), loss(0, noise_bits=2, seed=1)}) == 4


def test_it_belongs_to_the_training_and_not_to_tuned_prompts(world):
    plain, noise = Job.of(world.params()), Job.of(world.params(noise_bits=4))
    assert noise.recipe().noise_bits == 4
    assert plain.facts(world.pair) != noise.facts(world.pair)
    assert plain.tuned("constant").facts(world.pair) == noise.tuned("constant").facts(world.pair)


@pytest.mark.parametrize("bits", [1, 9, -1])
def test_bits_that_no_codec_has_are_refused(bits):
    with pytest.raises(ParameterError, match="2 to 8"):
        resolve("4a_bridge", {"noise_bits": bits})
