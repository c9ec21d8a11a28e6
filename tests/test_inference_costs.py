"""4c: live tensors are counted as they come and go, and FLOPs as torch counts them."""

from dataclasses import replace

import bridge_toys
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lib.bridge import inference_flops, inference_stages, live_memory
from lib.bridge.inference_flops import Costs
from lib.metrics.cost import ModelShape


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    with bridge_toys.world(tmp_path_factory.mktemp("toys")) as made:
        yield made


CPU = torch.device("cpu")


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8))
def test_tensors_that_live_together_add_up(sizes):
    _, together = live_memory.peak(lambda: [torch.zeros(size) for size in sizes], CPU)
    assert together == 4 * sum(sizes)


@settings(deadline=None)
@given(st.lists(st.integers(1, 500), min_size=1, max_size=8))
def test_tensors_that_live_one_after_another_do_not(sizes):
    def work():
        for size in sizes:
            torch.zeros(size)

    assert live_memory.peak(work, CPU)[1] == 4 * max(sizes)


def test_views_and_writing_in_place_hold_nothing():
    weights = torch.ones(1000)
    result, held = live_memory.peak(lambda: weights.view(10, 100).t().add_(1), CPU)
    assert held == 0
    assert result.shape == (100, 10)


def test_a_view_keeps_the_whole_alive():
    def work():
        kept = torch.zeros(1000)[:1]
        return kept, torch.zeros(10)

    assert live_memory.peak(work, CPU)[1] == 4 * 1010


def counted(work):
    with torch.inference_mode(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


@pytest.mark.parametrize("tokens", [5, 23])
def test_prefills_cost_what_torch_counts(world, tokens):
    source, target = world.pair.source.model, world.pair.target.model
    ids = torch.ones(1, tokens, dtype=torch.long)
    front = inference_flops.front(ModelShape.of(source), world.pair.layer)
    run_front = inference_stages.front(source.base_model, world.pair.layer)
    assert inference_flops.prefill(front, tokens) == counted(lambda: run_front(input_ids=ids, use_cache=False))
    whole = inference_flops.prefill(ModelShape.of(target), tokens, logit_rows=1)
    assert whole == counted(lambda: target(input_ids=ids, logits_to_keep=1))


@pytest.mark.parametrize("kind", ["resampler", "linear", "mean_pool"])
@pytest.mark.parametrize("tokens", [1, 9, 40])
def test_bridges_cost_what_torch_counts_at_any_length(world, kind, tokens):
    made = world.bridge(kind).requires_grad_(False)
    fixed, per_token, receiver = inference_flops.bridge_flops(made.shape)
    states, mask = torch.zeros(1, tokens, world.pair.source_dim), torch.ones(1, tokens, dtype=torch.bool)
    assert fixed + tokens * per_token == counted(lambda: made.message(states, mask))
    assert receiver == counted(lambda: made.receive(torch.zeros(1, 4, 6)))


@pytest.mark.parametrize("model", [inference_flops.MISTRAL_7B, inference_flops.LLAMA_8B])
def test_published_sizes_add_up_to_the_published_parameters(model):
    norms = (2 * model.layers + 1) * 4096
    assert model.linear + 2 * model.head + norms == model.parameters


def test_a_decoder_from_its_config_is_the_one_that_transformers_builds(world):
    real = world.pair.target.model
    made = inference_flops.decoder(1, 2, 32, 48, 4, 2, 8, real.config.vocab_size)
    assert replace(made, parameters=real.num_parameters()) == ModelShape.of(real)


@given(st.builds(Costs, **dict.fromkeys(("text", "message", "source", "sender", "receiver"), st.integers(1, 10**6))))
def test_a_message_saves_exactly_where_its_source_costs_less_than_it_may(costs):
    saved = costs.text - (costs.message + costs.source + costs.sender + costs.receiver)
    assert costs.affordable - costs.ratio == pytest.approx(saved / costs.text, abs=1e-9)


def test_the_plans_pair_loses_at_the_plans_length():
    costs = inference_flops.plan(64).costs(inference_flops.PLAN_TEXT)
    assert costs.source / 1e12 == pytest.approx(2.2, abs=0.1)  # by 2 x 7.25e9 x 150
    assert (costs.text - costs.message) / 1e12 == pytest.approx(1.4, abs=0.2)  # by 2 x 8.03e9 x 86, embeddings and all
    assert 0 < costs.affordable < costs.ratio
