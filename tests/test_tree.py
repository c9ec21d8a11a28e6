"""Coalesced trees draw what separate generation draws: token for token, or on average, and for less."""

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch._dynamo.utils import counters
from transformers import GPT2Config, GPT2LMHeadModel, MistralConfig, MistralForCausalLM

from lib import generators
from lib.generators import coalesce, counts, fixed_shapes, tree
from lib.generators.common import SamplingParams, per_group
from lib.generators.sampling import draw, probabilities
from tests.toys import ARCHITECTURES, prompt, tiny_model

LAWS = {"tree": counts.Systematic, "tree_multinomial": counts.Multinomial, "arithmetic": counts.Arithmetic}
PARAMS = SamplingParams(num_samples=12, max_new_tokens=9, stop_ids=(3, 5))


@functools.cache
def model(architecture="qwen2"):
    return tiny_model(architecture)


def run(name, params=PARAMS, seed=7, prompts=None, seeds=None, m=None):
    return generators.get(name)(m or model(), prompts or [prompt(11)], params, seeds or [seed])


def tokens(output):
    return [sample.tokens for sample in output.samples]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.8, "temperature": 1.3}])
@pytest.mark.parametrize("name", ["tree_multinomial", "bifurcated"])
def test_with_common_random_numbers_the_leaves_are_naives_sequences(name, architecture, filters):
    params = SamplingParams(**(vars(PARAMS) | filters))
    m = model(architecture)
    for seed in range(5):
        mine, naive = (run(arm, params, seed, m=m)[0] for arm in (name, "naive"))
        assert tokens(mine) == tokens(naive)
        assert [s.logprob for s in mine.samples] == pytest.approx([s.logprob for s in naive.samples], abs=1e-3)


@pytest.mark.parametrize("window", [None, 64])
def test_other_architectures_draw_naives_tokens_as_long_as_nothing_leaves_the_window(window):
    torch.manual_seed(0)
    shape = {"vocab_size": 24, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    mistral = MistralConfig(**shape, num_key_value_heads=2, intermediate_size=48, sliding_window=window)
    gpt2 = GPT2Config(vocab_size=24, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.4)
    for m in (MistralForCausalLM(mistral).eval(), GPT2LMHeadModel(gpt2).eval()):
        assert tokens(run("tree_multinomial", m=m)[0]) == tokens(run("naive", m=m)[0])


def test_a_window_that_a_path_would_leave_is_refused():
    config = MistralConfig(
        vocab_size=24, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=48, sliding_window=14,
    )  # fmt: skip
    m = MistralForCausalLM(config).eval()
    with pytest.raises(ValueError, match="sliding window"):
        run("tree", m=m)
    assert m.config._attn_implementation == "sdpa"


def test_compiled_steps_have_one_signature_whatever_the_shapes():
    """A second signature would be compiled in the middle of somebody's timed pass."""
    for n, together, length in ((1, 1, 1), (1, 1, 5), (7, 1, 5), (1, 3, 5), (7, 3, 5)):
        params = SamplingParams(num_samples=n, max_new_tokens=length, prompts_together=together)
        for name in (*LAWS, "bifurcated"):
            run(name, params, prompts=[prompt(11, seed=s) for s in range(3)], seeds=range(3))
    for kernel in (counts._evenly_spaced, coalesce._invert, coalesce._merge):
        assert len(kernel.signatures) == 1


@pytest.mark.parametrize("name", [*LAWS, "bifurcated", "batched"])
def test_prompts_decoded_together_draw_what_each_draws_alone(name):
    prompts = [prompt(11, seed=1), prompt(11, seed=2), prompt(7, seed=3), prompt(11, seed=4), prompt(11, seed=5)]
    apart = run(name, prompts=prompts, seeds=range(5))
    for size, groups in ((2, [2, 2, 1, 2, 2]), (8, [2, 2, 1, 2, 2])):
        params = SamplingParams(**(vars(PARAMS) | {"prompts_together": size}))
        together = run(name, params, prompts=prompts, seeds=range(5))
        assert [tokens(o) for o in together] == [tokens(o) for o in apart]
        assert [o.shared_by for o in together] == groups, "neighbours of one length"
        for mine, alone in zip(together, apart, strict=True):
            inexact = {key: pytest.approx(alone.trace[key], rel=1e-4) for key in alone.trace if "entropy" in key}
            assert mine.trace == alone.trace | inexact
    assert together[0].cost.forward_calls < apart[0].cost.forward_calls + apart[1].cost.forward_calls
    if name != "batched":  # whose finished rows wait for the slowest prompt's
        expected = apart[0].cost.token_forwards + apart[1].cost.token_forwards
        assert together[0].cost.token_forwards == expected, "no row is added for being together"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fixed_shapes_draw_the_same_from_one_compiled_graph(architecture, monkeypatch):
    monkeypatch.setattr(fixed_shapes, "BACKEND", "eager")  # traces the whole graph, generates no code
    torch._dynamo.reset()
    counters.clear()
    m = tiny_model(architecture)
    prompts = [prompt(11, seed=1), prompt(11, seed=2), prompt(11, seed=3), prompt(11, seed=4)]
    params = SamplingParams(**(vars(PARAMS) | {"prompts_together": 2}))
    fixed = SamplingParams(**(vars(params) | {"compile": True}))
    for name in LAWS:
        for mine, plain in zip(
            run(name, fixed, 7, prompts, range(4), m), run(name, params, 7, prompts, range(4), m), strict=True
        ):
            assert tokens(mine) == tokens(plain)
            assert mine.trace["live"] == plain.trace["live"]
            assert mine.cost.forward_calls == plain.cost.forward_calls
            assert mine.cost.decode_tokens == 2 * 12 * mine.cost.decode_calls, "every place is computed, and counted"
    assert counters["stats"]["unique_graphs"] == 1, "two groups of prompts, three laws, every step: one graph"
    assert m.config._attn_implementation == "sdpa"


def test_old_workspaces_of_fixed_shapes_are_given_up(monkeypatch):
    monkeypatch.setattr(fixed_shapes, "BACKEND", "eager")
    torch._dynamo.reset()
    m = tiny_model()
    for n in (*range(2, 14), 2):  # more than torch's own limit of recompilations, and back to one that was given up
        params = SamplingParams(**(vars(PARAMS) | {"num_samples": n, "compile": True}))
        assert len(run("tree", params, m=m)[0].samples) == n
    assert len(m._recount_fixed) == fixed_shapes.WORKSPACES + 1


def test_every_shared_prefix_is_decoded_once_and_every_sample_has_a_place():
    for name in LAWS:
        params = SamplingParams(num_samples=50, max_new_tokens=9, stop_ids=(3, 5))
        (output,) = run(name, params)
        prefixes = {tuple(t[:i]) for t in tokens(output) for i in range(1, len(t) + 1)}
        decoded = [p for p in prefixes if p[-1] not in params.stop_ids and len(p) < params.max_new_tokens]
        assert output.cost.decode_tokens == len(decoded)
        assert sum(output.trace["live"]) == len(decoded) + 1, "the root is drawn from too, on the prefill's logits"
        assert max(output.trace["live"]) <= 50
        assert output.trace["paths"] == len({tuple(t) for t in tokens(output)})
        kv = output.cost.kv_bytes / run("naive", SamplingParams(num_samples=1, max_new_tokens=1))[0].cost.kv_bytes
        assert kv == pytest.approx((11 + len(decoded)) / 11), "one pool: the prompt and each node once"


def test_multiplicities_sum_to_n_at_every_step(monkeypatch):
    seen = []

    def watched(drawn, samples, starts, stop_ids):
        children = coalesce.merge(drawn, samples, starts, stop_ids)
        finished = int(np.isin(drawn, stop_ids).sum())
        assert len(children.samples) + finished == len(samples)
        assert children.starts[-1] == len(children.samples)
        assert (np.diff(children.starts) > 0).all()
        seen.append((len(samples), finished))
        return children

    monkeypatch.setattr(tree, "merge", watched)
    for name in LAWS:
        run(name)
    assert {live for live, _ in seen} != {12}, "some sample should stop, or this shows little"
    for name_steps in np.split(np.array(seen), np.flatnonzero(np.array(seen)[:, 0] == 12)[1:]):
        live, finished = name_steps.T
        assert (live[1:] == live[0] - finished.cumsum()[:-1]).all()


def test_systematic_counts_are_floor_or_ceil():
    m = tiny_model(spread=0.2)
    with torch.inference_mode():
        p = probabilities(m(input_ids=prompt(11)[None]).logits[:, -1], PARAMS)[0].double().numpy()
    p /= p.sum()
    for seed in range(10):
        (output,) = run("tree", SamplingParams(num_samples=40, max_new_tokens=1), seed, m=m)
        n = np.bincount([t[0] for t in tokens(output)], minlength=24)
        assert (n >= np.floor(40 * p - 1e-6)).all()
        assert (n <= np.ceil(40 * p + 1e-6)).all()


def test_samples_that_have_parted_still_share_out_the_unit_interval():
    law = counts.Systematic([3, 4], 8, 5)
    orders = []
    for t in range(5):
        points = law.points(t, np.arange(16), np.arange(17))  # two prompts, every sample alone
        for own in (points[:8], points[8:]):
            assert sorted((own * 8).astype(int)) == list(range(8)), "one point in each eighth"
            assert np.ptp(own * 8 % 1) < 1e-9, "evenly spaced"
            orders.append(tuple(np.argsort(own)))
    assert len(set(orders)) == 10, "in another order at every step and for every prompt"


# Unbiasedness: a model small enough to know every sequence's probability.
VOCAB, STEPS, STOP = 5, 3, 4
TOY = SamplingParams(num_samples=8, max_new_tokens=STEPS, stop_ids=(STOP,), prompts_together=50, threshold=0.6)
TREES = 600


@functools.cache
def toy_law():
    """The model, and the probability of each of its sequences of up to 3 tokens by enumeration."""
    m, ids = tiny_model(vocab=VOCAB, spread=0.3), prompt(6, VOCAB)
    law = {}
    for length in range(1, STEPS + 1):
        for path in itertools.product(range(VOCAB), repeat=length):
            if STOP in path[:-1] or (length < STEPS and path[-1] != STOP):
                continue
            with torch.inference_mode():
                logits = m(input_ids=torch.cat([ids, torch.tensor(path)])[None]).logits[0, len(ids) - 1 : -1]
            law[path] = math.exp(sum(torch.log(probabilities(logits, TOY))[range(length), path].tolist()))
    assert sum(law.values()) == pytest.approx(1, abs=1e-5)
    return m, ids, law


def masses(generate):
    """Share of each sequence in every one of many independent trees, [trees, sequences]."""
    m, ids, law = toy_law()
    outputs = generate(m, [ids] * TREES, TOY, range(TREES))
    index = {path: i for i, path in enumerate(law)}
    found = np.zeros((TREES, len(law)))
    for row, output in zip(found, outputs, strict=True):
        for sample in output.samples:
            row[index[tuple(sample.tokens)]] += sample.weight
    return found


def smallest_p(found):
    """Holm's first adjusted p-value: is any sequence's mean mass over independent trees wrong?"""
    law = np.array(list(toy_law()[2].values()))
    common = law > 0.004  # a normal approximation of the mean over trees
    tests = stats.ttest_1samp(found[:, common], law[common])
    return np.nanmin(tests.pvalue) * common.sum()


class Greedy(counts.Systematic):
    """Deliberately biased: the first of a prefix's samples takes its likeliest token, however unlikely the rest."""

    def points(self, t, samples, starts):
        points = super().points(t, samples, starts)
        points[starts[:-1]] = 0.5
        return points


@per_group
def greedy(m, prompts, params, seeds, meter):
    return tree.grow(m, prompts, params, seeds, meter, Greedy)


@pytest.mark.parametrize("name", [*LAWS, "bifurcated", "batched"])
def test_every_law_is_unbiased(name):
    found = masses(generators.get(name))
    assert found.sum(1) == pytest.approx(1)
    assert smallest_p(found) > 0.01


@pytest.mark.parametrize("generate", [greedy, generators.get("eab")], ids=["greedy", "eab"])
def test_the_unbiasedness_test_catches_a_biased_sampler(generate):
    assert smallest_p(masses(generate)) < 1e-6


@pytest.mark.parametrize("name", LAWS)
def test_any_one_sample_follows_the_law_too(name):
    """Not only the average over samples: whoever reads the first of them must not read the CDF's low end."""
    m, ids, _ = toy_law()
    first = [o.samples[0].tokens[0] for o in generators.get(name)(m, [ids] * TREES, TOY, range(TREES))]
    with torch.inference_mode():
        p = probabilities(m(input_ids=ids[None]).logits[:, -1], TOY)[0].double().numpy()
    assert stats.chisquare(np.bincount(first, minlength=VOCAB), p / p.sum() * TREES).pvalue > 1e-3


def test_systematic_masses_vary_least():
    law = np.array(list(toy_law()[2].values()))
    error = {name: ((masses(generators.get(name)) - law) ** 2).sum(1).mean() for name in LAWS}
    iid = (1 - (law**2).sum()) / TOY.num_samples
    assert error["tree_multinomial"] == pytest.approx(iid, rel=0.1)
    assert error["tree"] < 0.8 * iid
    assert error["arithmetic"] < 0.8 * iid


def test_node_entropies_add_up_to_the_entropy_of_a_sequence():
    m, ids, law = toy_law()
    exact = -sum(p * math.log(p) for p in law.values())
    for name in LAWS:
        estimates = [o.trace["entropy"] for o in generators.get(name)(m, [ids] * 200, TOY, range(200))]
        assert stats.ttest_1samp(estimates, exact).pvalue > 0.001
        assert np.std(estimates) > 0


@pytest.mark.parametrize("p", [0.5, 0.3])
def test_codes_of_arithmetic_sampling_do_not_run_out_of_digits(p):
    law = counts.Arithmetic([0], 64, 300)
    everyone, apart = np.arange(64), np.arange(65)
    ones = np.empty((300, 64), dtype=bool)
    for t in range(300):
        points = law.points(t, everyone, apart)
        ones[t] = points < p
        within = np.where(ones[t], points / p, (points - p) / (1 - p))
        law.carry(t, everyone, np.where(ones[t], p, 1 - p), within)
    assert abs(ones[0].sum() - 64 * p) < 1, "a lattice of codes shares them out"
    late = ones[10:]
    assert stats.binomtest(int(late.sum()), late.size, p).pvalue > 1e-3
    assert abs(np.corrcoef(late.T)[~np.eye(64, dtype=bool)]).max() < 0.5, "codes must not fall together"


@st.composite
def steps_of_a_tree(draw_):
    """Segments of samples, a token for each, and stop ids."""
    sizes = draw_(st.lists(st.integers(1, 6), min_size=1, max_size=6))
    m = sum(sizes)
    samples = np.array(draw_(st.permutations(range(m))))
    drawn = np.array(draw_(st.lists(st.integers(0, 4), min_size=m, max_size=m)))
    stops = draw_(st.sets(st.integers(0, 4), max_size=2))
    return drawn, samples, np.cumsum([0, *sizes]), np.array(sorted(stops), dtype=np.int64)


@settings(deadline=None, max_examples=200)
@given(steps_of_a_tree())
def test_merging_is_grouping_by_prefix_and_token(step):
    drawn, samples, starts, stops = step
    expected, split = [], []
    for d in range(len(starts) - 1):
        groups = {}
        for i in range(starts[d], starts[d + 1]):
            groups.setdefault(drawn[i], []).append(samples[i])
        split.append(len(groups))
        expected += [(d, token, groups[token]) for token in sorted(groups) if token not in stops]
    got = coalesce.merge(*step)
    held = [list(got.samples[a:b]) for a, b in itertools.pairwise(got.starts)]
    assert list(zip(got.parents, got.tokens, held, strict=True)) == expected
    assert list(got.split) == split


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_inverting_agrees_with_draw_on_either_device(data):
    vocab, sizes = data.draw(st.sampled_from([3, 64, 65, 200])), data.draw(st.lists(st.integers(1, 4), min_size=1))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    logits = torch.from_numpy(rng.normal(scale=3, size=(len(sizes), vocab))).float()
    params = SamplingParams(temperature=0.7, top_k=data.draw(st.sampled_from([0, 2])))
    probs = probabilities(logits, params)
    starts, m = np.cumsum([0, *sizes]), sum(sizes)
    points = np.array(data.draw(st.lists(st.floats(0, 1 - 2**-53), min_size=m, max_size=m)))
    compiled = coalesce.invert(logits, probs, 0.7, starts, points)
    tensors = coalesce.invert_on_device(logits, probs, 0.7, starts, points)
    row = np.repeat(np.arange(len(sizes)), sizes)
    expected = draw(probs[row], torch.from_numpy(points).unsqueeze(-1)).squeeze(-1)
    exact = stats.entropy(probs.double().numpy(), axis=-1)
    for got in (compiled, tensors):
        np.testing.assert_array_equal(got.tokens, expected)
        assert (got.probs > 0).all()
        np.testing.assert_array_equal(got.probs, probs.double()[row, got.tokens])
        assert ((got.within >= 0) & (got.within < 1)).all()
        np.testing.assert_allclose(got.entropies, exact, atol=2e-4)
    padded = torch.cat([logits, torch.full((len(sizes), 9), -torch.inf)], 1)
    wider = torch.cat([probs, torch.zeros(len(sizes), 9)], 1)
    for invert in (coalesce.invert, coalesce.invert_on_device):
        np.testing.assert_allclose(invert(padded, wider, 0.7, starts, points).entropies, exact, atol=2e-4)
    np.testing.assert_allclose(compiled.within, tensors.within, atol=1e-6 / probs[probs > 0].min().item())
