"""The formulas give the published table, the counters' numbers and the right limits; the original's metric does not."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib import generators
from lib.generators.common import SamplingParams
from lib.metrics import predictions
from lib.metrics.predictions import Dimensions
from lib.models import registry
from tests.toys import prompt, tiny_model

P, L, N = 200, 30, 20


def qwen(name: str) -> Dimensions:
    entry = registry.lookup(name)
    head = entry.vocab * entry.hidden
    return Dimensions(entry.non_embedding_parameters, head, entry.layers, entry.heads * entry.head_dim)


# TFLOP of naive, shared prefill, trees with 0.8 / 0.6 / 0.4 of N (L - 1) decode rows, naive / shared
TABLE = {
    "Qwen2.5-0.5B": (3.49, 0.729, 0.612, 0.495, 0.379, 4.78),
    "Qwen2.5-1.5B": (12.4, 2.34, 1.98, 1.62, 1.25, 5.29),
    "Qwen2.5-3B": (25.9, 4.73, 4.01, 3.29, 2.56, 5.48),
    "Qwen2.5-7B": (60.6, 10.9, 9.22, 7.57, 5.92, 5.58),
}


@pytest.mark.parametrize("name", TABLE)
def test_flops_of_qwen_by_method(name):
    works = [predictions.naive(P, L, N), predictions.batched(P, L, N)]
    works += [predictions.tree(P, [share * N] * (L - 1)) for share in (0.8, 0.6, 0.4)]
    flops = [qwen(name).flops(work) for work in works]
    assert [*np.array(flops) / 1e12, flops[0] / flops[1]] == pytest.approx(TABLE[name], rel=5e-3)


def test_most_of_the_published_setting_is_owed_to_reading_the_prompt_once():
    assert predictions.naive(P, L, N).tokens == 4580
    assert predictions.batched(P, L, N).tokens == 780
    assert predictions.naive(P, L, N).tokens / predictions.batched(P, L, N).tokens == pytest.approx(5.87, abs=0.005)
    assert predictions.tree(P, [1] * (L - 1)).tokens == 229, "samples that never part: one generation"


def test_speedup_in_the_limits():
    def gain(p, n):
        return predictions.naive(p, L, n).tokens / predictions.batched(p, L, n).tokens

    assert gain(P, 10**9) == pytest.approx((P + L - 1) / (L - 1)), "many samples: what the prompt cost each"
    assert gain(10**9, N) == pytest.approx(N, rel=1e-5), "a long prompt: read once instead of N times"
    assert gain(P, 1) == 1


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 300), st.integers(2, 40), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_a_tree_costs_no_more_than_its_batch_nor_less_than_one_sample(p, new, n, seed):
    live = np.sort(np.random.default_rng(seed).integers(1, n + 1, new - 1))
    dimensions = Dimensions(linear=1000, head=100, layers=2, attention_width=16)
    flops = [dimensions.flops(w) for w in (predictions.naive(p, new, 1), predictions.tree(p, live))]
    flops += [dimensions.flops(predictions.batched(p, new, n)), dimensions.flops(predictions.naive(p, new, n))]
    assert flops == sorted(flops) or np.allclose(flops, sorted(flops))


def test_token_forwards_and_flops_are_what_the_counters_find():
    model, params = tiny_model(), SamplingParams(num_samples=5, max_new_tokens=6)
    config = model.config
    linear = sum(m.weight.numel() for n, m in model.named_modules() if hasattr(m, "in_features") and n != "lm_head")
    dimensions = Dimensions(linear, 24 * 32, config.num_hidden_layers, 32)
    arms = {"naive": (predictions.naive, 5), "hf": (predictions.naive, 5), "batched": (predictions.batched, 1)}
    for name, (formula, prompts_read) in arms.items():
        cost = generators.get(name)(model, [prompt(9)], params, [0])[0].cost
        work = formula(9, 6, 5)
        assert cost.token_forwards == work.tokens
        masked = replace(
            work, pairs=work.pairs + prompts_read * 9 * 8 / 2
        )  # multiplied, then masked: the meter's count
        assert cost.flops == pytest.approx(dimensions.flops(masked)), name
    out = generators.get("eab")(model, [prompt(9)], replace(params, num_samples=None, threshold=0.9), [0])[0]
    live = out.trace["live"][1:]  # the first draw reads the prompt's own logits
    assert out.cost.token_forwards == predictions.tree(9, live).tokens


@pytest.mark.parametrize(("seed", "threshold"), product((0, 1), (0.05, 0.5, 0.95)))
def test_known_defect_the_original_speedup_is_p_plus_l_over_l_whatever_the_model_does(seed, threshold):
    """Toy models, several thresholds, no stop ids: the metric says the same of all of them; the counters do not."""
    model = tiny_model(spread=0.2 + 0.6 * seed, seed=seed)
    params = SamplingParams(num_samples=None, max_new_tokens=6, threshold=threshold, max_paths=5)
    eab = generators.get("eab")(model, [prompt(14)], params, [seed])[0]
    matched = replace(params, num_samples=len(eab.samples))
    naive = generators.get("naive")(model, [prompt(14)], matched, [seed])[0]
    lengths = [[len(sample.tokens) for sample in out.samples] for out in (naive, eab)]
    assert predictions.bookkeeping_speedup(14, *lengths) == pytest.approx((14 + 6) / 6)


def test_known_defect_reproduces_the_published_numbers():
    """Prompt and generation lengths as published, and the speedups that were read as measurements."""
    for p, new, published in ((100, 10, 11.00), (104, 30, 4.47), (328, 30, 11.93)):
        assert predictions.bookkeeping_speedup(p, [new] * N, [new] * N) == pytest.approx(published, abs=0.005)


def test_the_counted_speedup_of_the_same_runs_depends_on_the_threshold():
    found = set()
    for threshold in (0.05, 0.95):
        params = SamplingParams(num_samples=None, max_new_tokens=6, threshold=threshold, max_paths=5)
        eab = generators.get("eab")(tiny_model(), [prompt(14)], params, [0])[0]
        found.add(predictions.naive(14, 6, len(eab.samples)).tokens / eab.cost.token_forwards)
    assert len(found) == 2, "counted work tells them apart, so the identity above is the metric's doing"
