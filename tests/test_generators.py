"""Every generator: right tokens, right probabilities, right counts. The oracle is a full forward without any cache."""

import functools
import math
import random
import types

import numpy as np
import pytest
import torch
from scipy import stats
from torch.utils.flop_counter import FlopCounterMode
from transformers import GenerationConfig

from lib import generators
from lib.generators.common import SamplingParams
from lib.generators.engines import PackedTree, SequentialPaths
from lib.generators.sampling import draw_distinct, entropy, probabilities, uniforms
from lib.metrics.cost import CostMeter
from tests.toys import ARCHITECTURES, prompt, tiny_model

PARAMS = SamplingParams(num_samples=6, max_new_tokens=9, threshold=0.6, max_paths=5, stop_ids=(3, 5))
EVERY = pytest.mark.parametrize("name", generators.NAMES)
BRANCHING = ("eab", "eab_sequential")
MERGING = ("tree", "tree_multinomial", "arithmetic")


@functools.cache
def model(architecture: str = "qwen2"):
    return tiny_model(architecture)


def run(name, params=PARAMS, length=11, seed=7, m=None):
    return generators.get(name)(m or model(), [prompt(length)], params, [seed])[0]


def tokens(output):
    return [sample.tokens for sample in output.samples]


def law(m, ids, params):
    """float64 [V] next-token law after `ids`, recomputed from nothing."""
    with torch.inference_mode():
        return probabilities(m(input_ids=ids.unsqueeze(0), use_cache=False).logits[:, -1], params)[0]


def test_the_registry_knows_exactly_the_modules_that_define_generate():
    assert set(generators.NAMES) >= {"naive", "batched", "hf", "hf_sequential", "eab", "eab_sequential"}
    with pytest.raises(ValueError, match="no generator 'nave'"):
        generators.get("nave")


@EVERY
def test_samples_are_complete_stop_where_they_should_and_weigh_one_in_all(name):
    output = run(name, SamplingParams(**(vars(PARAMS) | {"num_samples": 24})))
    assert len(output.samples) == 24
    assert sum(s.weight for s in output.samples) == pytest.approx(1)
    stopped = 0
    for sample in output.samples:
        assert not set(sample.tokens[:-1]) & set(PARAMS.stop_ids)
        stopped += sample.tokens[-1] in PARAMS.stop_ids
        assert len(sample.tokens) == PARAMS.max_new_tokens or sample.tokens[-1] in PARAMS.stop_ids
    assert stopped, "the toy model should reach a stop id in some sample, or this test shows nothing"


@EVERY
@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.8}])
def test_logprobs_equal_a_full_recompute(name, filters):
    params = SamplingParams(**(vars(PARAMS) | filters | {"num_samples": 3}))
    for sample in run(name, params).samples:
        ids, total = prompt(11), 0.0
        for token in sample.tokens:
            total += math.log(law(model(), ids, params)[token])
            ids = torch.cat([ids, torch.tensor([token])])
        assert sample.logprob == pytest.approx(total, abs=1e-3)


@EVERY
def test_same_seed_repeats_and_another_seed_changes(name):
    assert tokens(run(name, seed=1)) == tokens(run(name, seed=1))
    assert tokens(run(name, seed=1)) != tokens(run(name, seed=2))


@EVERY
def test_a_prompt_does_not_notice_its_neighbours(name):
    a, b = prompt(11, seed=1), prompt(8, seed=2)
    generate = generators.get(name)
    first, second = generate(model(), [a, b], PARAMS, [1, 2])
    swapped_second, swapped_first = generate(model(), [b, a], PARAMS, [2, 1])
    assert tokens(first) == tokens(swapped_first)
    assert tokens(second) == tokens(swapped_second)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_batched_draws_the_tokens_of_naive(architecture):
    m = model(architecture)
    assert tokens(run("batched", m=m)) == tokens(run("naive", m=m))


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7, 1.1])
def test_both_eab_engines_grow_the_same_trees(threshold):
    params = SamplingParams(**(vars(PARAMS) | {"threshold": threshold}))
    packed, sequential = run("eab", params), run("eab_sequential", params)
    assert tokens(packed) == tokens(sequential)
    assert packed.trace == sequential.trace | {"normalised_entropy": pytest.approx(packed.trace["normalised_entropy"])}
    assert packed.cost.token_forwards == sequential.cost.token_forwards


@EVERY
def test_counters_equal_what_the_forward_itself_saw(name):
    m = tiny_model()
    seen = {"tokens": 0, "calls": 0}
    forward = m.forward

    def counting(self, *args, **kwargs):
        seen["tokens"] += kwargs["input_ids"].numel()
        seen["calls"] += 1
        return forward(*args, **kwargs)

    m.forward = types.MethodType(counting, m)
    cost = run(name, m=m).cost
    assert (cost.token_forwards, cost.forward_calls) == (seen["tokens"], seen["calls"])
    assert cost.flops_2nd == 2 * sum(p.numel() for p in m.parameters()) * seen["tokens"]
    assert not m._forward_hooks
    assert not m._forward_pre_hooks


@EVERY
def test_flops_equal_torchs_own_counter(name):
    m = tiny_model()
    m.set_attn_implementation("eager")  # plain matrix products, which the counter sees on every device
    with FlopCounterMode(display=False) as counter:
        cost = run(name, m=m).cost
    rotary = (
        2 * 8 // 2
    )  # the angles are an outer product of positions and frequencies: head size / 2 multiply-adds each
    expected = counter.get_total_flops()
    assert abs(cost.flops - expected) <= rotary * cost.token_forwards


@EVERY
def test_prefill_and_decode_are_told_apart(name):
    params = SamplingParams(**(vars(PARAMS) | {"stop_ids": ()}))
    cost = run(name, params).cost
    n, length, steps = 6, 11, PARAMS.max_new_tokens - 1
    prefills = {"naive": n, "hf_sequential": n, "hf": n}.get(name, 1)
    assert cost.prefill_tokens == prefills * length
    if name in MERGING:
        assert cost.decode_tokens < n * steps
    elif name not in BRANCHING:
        assert cost.decode_tokens == n * steps
    assert 0 < cost.prefill_s < cost.wall_s


def slot_bytes(m):
    config = m.config
    return 2 * config.num_hidden_layers * config.num_key_value_heads * 8 * 4  # keys and values, head size 8, float32


def test_kv_bytes_are_those_of_the_tensors():
    params = SamplingParams(**(vars(PARAMS) | {"stop_ids": ()}))
    one_row = (11 + PARAMS.max_new_tokens - 1) * slot_bytes(model())
    for name, peak_rows in (("naive", 1), ("hf_sequential", 1), ("batched", 6), ("hf", 6)):
        cost = run(name, params).cost
        assert (cost.kv_bytes, cost.kv_bytes_peak) == (6 * one_row, peak_rows * one_row), name
    cost = run("eab", params).cost
    assert cost.kv_bytes == (11 + cost.decode_tokens) * slot_bytes(model()), "one pool: the prompt and each node once"
    assert run("eab_sequential", params).cost.kv_bytes > cost.kv_bytes


def packed(m, ids, meter):
    return PackedTree(m, ids, 3, meter)  # far too little room: the pool must grow


def sequential(m, ids, meter):
    return SequentialPaths(m, ids[0], SamplingParams(max_new_tokens=10), meter)


@pytest.mark.parametrize(("engine", "prompts"), [(packed, 1), (packed, 3), (sequential, 1)])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_engine_logits_equal_a_full_recompute_of_every_path(engine, prompts, architecture):
    m, ids = model(architecture), [prompt(13, seed=s) for s in range(prompts)]
    choose = random.Random(prompts)
    with torch.inference_mode(), CostMeter(m) as meter, engine(m, ids, meter) as grown:
        for n in (3, 2):  # a second round of roots starts over from the same prompts
            of = sorted(choose.choices(range(prompts), k=n))
            logits, paths = grown.roots(np.array(of)), [(b, ids[b]) for b in of]
            for _ in range(6):
                for row, (_, path) in zip(logits, paths, strict=True):
                    torch.testing.assert_close(row, recomputed(architecture, path), atol=1e-4, rtol=0)
                parents = sorted(choose.choices(range(len(paths)), k=choose.randint(1, 6)))
                new = choose.choices(range(24), k=len(parents))
                paths = [
                    (paths[p][0], torch.cat([paths[p][1], torch.tensor([t])]))
                    for p, t in zip(parents, new, strict=True)
                ]
                logits = grown.step(np.array(parents), np.array(new), np.array([b for b, _ in paths]))
    assert m.config._attn_implementation == "sdpa", "the model is handed back as it was"


def recomputed(architecture, path):
    """Logits [V] after a path, from another copy of the model: the one under test is set to the engine's attention."""
    return untouched(architecture)(input_ids=path.unsqueeze(0), use_cache=False).logits[0, -1]


@functools.cache
def untouched(architecture):
    return tiny_model(architecture)


def test_a_model_whose_attention_cannot_be_exchanged_is_refused_and_left_alone():
    m = tiny_model()
    m._can_set_attn_implementation = lambda: False
    with pytest.raises(ValueError, match="leave out the arms"):
        run("tree", m=m)
    assert m.config._attn_implementation == "sdpa"


def reference_eab(m, ids, params, seed):
    """EAB for one tree, straight from its description: no cache, no batching, one full forward per path and step."""
    v, k = m.config.vocab_size, params.branch_factor
    live, done = [([], 0.0)], []
    for t in range(params.max_new_tokens):
        budget, children = params.max_paths - len(live), []
        u = uniforms(seed, 2**32 + t, len(live) * k).reshape(len(live), k)
        for i, (path, logprob) in enumerate(live):
            p = law(m, torch.cat([ids, torch.tensor(path, dtype=torch.long)]), params)
            width = 1
            if entropy(p) / math.log(v) >= params.threshold:
                width = 2 if budget <= 0 else min(k, budget)
            drawn = draw_distinct(p[None], torch.from_numpy(u[i : i + 1]))[0][:width].tolist()
            children += [([*path, c], logprob + math.log(p[c])) for c in drawn]
        done += [c for c in children if c[0][-1] in params.stop_ids]
        live = [c for c in children if c[0][-1] not in params.stop_ids]
        best = sorted(live, key=lambda c: c[1], reverse=True)[: params.max_paths]
        live = [c for c in live if c in best]
    return [c[0] for c in done + live]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("threshold", [0.3, 0.6, 0.75])
def test_eab_is_the_algorithm_as_described(seed, threshold):
    params = SamplingParams(**(vars(PARAMS) | {"threshold": threshold, "num_samples": None}))
    output = run("eab", params, seed=seed)
    assert tokens(output) == reference_eab(model(), prompt(11), params, seed)


def test_eab_extremes():
    never = run("eab", SamplingParams(num_samples=None, max_new_tokens=6, threshold=1.1))
    assert len(never.samples) == 1
    assert never.trace["branch_positions"] == []
    always = run("eab", SamplingParams(num_samples=None, max_new_tokens=6, threshold=0.0, max_paths=5))
    assert always.trace["live"] == [1, 3, 5, 5, 5, 5], "3 paths with 2 places left make 2 children each, pruned to 5"
    assert always.trace["pruned"] == 1 + 3 * 5 + 5
    stuck = run("eab", SamplingParams(num_samples=None, max_new_tokens=6, threshold=0.0, max_paths=4))
    assert stuck.trace["live"] == [1, 3, 3, 3, 3, 3], "one place left makes one child: the original's quirk, kept"


def test_a_path_attends_to_its_prompt_and_its_own_nodes_whatever_else_grows():
    """One path per tree, so a round of n trees is n chains: queries x keys are known, and FLOPs linear in them."""

    def flops(n):
        return run("eab", SamplingParams(num_samples=n, max_new_tokens=6, threshold=1.1)).cost.flops

    for n in (3, 5):
        assert flops(n) - prefill_flops() == n * (flops(1) - prefill_flops())


def prefill_flops():
    return run("eab", SamplingParams(num_samples=1, max_new_tokens=1, threshold=1.1)).cost.flops


def test_asked_for_samples_eab_grows_more_trees_and_pays_for_them():
    one = run("eab", SamplingParams(num_samples=None, max_new_tokens=6, threshold=1.1))
    five = run("eab", SamplingParams(num_samples=5, max_new_tokens=6, threshold=1.1))
    assert five.trace["trees"] == 5
    assert five.cost.decode_tokens == 5 * one.cost.decode_tokens
    assert five.cost.prefill_tokens == one.cost.prefill_tokens, "the prompt is prefilled once for all trees"
    assert five.cost.kv_bytes == (11 + five.cost.decode_tokens) * slot_bytes(model())
    assert len({tuple(t) for t in tokens(five)}) > 1, "trees must not share random numbers"


@pytest.mark.parametrize("name", [n for n in generators.NAMES if n not in BRANCHING])
def test_only_eab_may_choose_its_own_number(name):
    with pytest.raises(ValueError, match="num_samples is None"):
        run(name, SamplingParams(num_samples=None))


@EVERY
def test_first_tokens_follow_the_models_law_whatever_its_generation_config_says(name):
    """The published baseline inherited Qwen's top-k and repetition penalty. Here nothing may."""
    if name in BRANCHING:
        pytest.skip("EAB's children are drawn without replacement: another law by design")
    m = tiny_model(spread=0.25)
    m.generation_config = GenerationConfig(top_k=1, repetition_penalty=3.0, do_sample=False, temperature=0.1)
    params = SamplingParams(num_samples=400, max_new_tokens=1, temperature=0.8)
    first = [t[0] for t in tokens(run(name, params, m=m))]
    p = law(m, prompt(11), params).double().numpy()
    p /= p.sum()
    common = p > 5 / 400  # chi-squared needs a few expected in each cell; the rest is pooled
    observed = [first.count(i) for i in range(24) if common[i]]
    expected = list(p[common] * 400)
    observed.append(400 - sum(observed))
    expected.append(400 - sum(expected))
    assert stats.chisquare(observed, expected).pvalue > 1e-4
    assert m.generation_config.top_k == 1, "the caller's configuration comes back"
