"""Replicates are independent, cost what they are said to cost, and the N found is the largest that fits."""

import math
from collections import Counter

import pytest
import torch

from lib import generators
from lib.generators import batched, replicates
from lib.generators.common import Output, Sample, SamplingParams
from lib.generators.sampling import probabilities
from lib.metrics.cost import Cost
from lib.metrics.law import fidelity
from tests.toys import prompt, tiny_model

PARAMS = SamplingParams(num_samples=5, max_new_tokens=6, threshold=0.6, max_paths=5, stop_ids=(3, 5))
PROMPT = prompt(9)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def tokens(outputs):
    return [[sample.tokens for sample in output.samples] for output in outputs]


@pytest.mark.parametrize("name", sorted({"batched", "eab", "eab@0.3", "naive", *generators.NAMES} - {"hf_sequential"}))
def test_replicates_are_as_many_as_asked_and_different(name, model):
    outputs = replicates.draws(name, model, PROMPT, PARAMS, 7, seed=3)
    assert [len(output.samples) for output in outputs] == [5] * 7
    assert len({str(drawn) for drawn in tokens(outputs)}) == 7
    assert tokens(replicates.draws(name, model, PROMPT, PARAMS, 4, seed=3)) == tokens(outputs)[:4]
    assert tokens(replicates.draws(name, model, PROMPT, PARAMS, 7, seed=4)) != tokens(outputs)


def test_replicates_do_not_depend_on_how_many_are_decoded_together(model):
    alone = replicates.draws("batched", model, PROMPT, PARAMS, 7, seed=0)
    together = SamplingParams(**(vars(PARAMS) | {"prompts_together": 3}))
    grouped = replicates.draws("batched", model, PROMPT, together, 7, seed=0)
    assert tokens(grouped) == tokens(alone)
    assert [output.shared_by for output in grouped] == [3] * 6 + [1]


def test_the_same_replicates_of_two_arms_share_their_random_numbers(model):
    naive = replicates.draws("naive", model, PROMPT, PARAMS, 3, seed=0)
    assert tokens(naive) == tokens(replicates.draws("batched", model, PROMPT, PARAMS, 3, seed=0))


def test_the_reference_follows_the_law_in_chunks_that_differ(model, monkeypatch):
    monkeypatch.setattr(replicates, "ROWS", 400)
    rows = []
    count = model.register_forward_pre_hook(lambda _m, _a, kw: rows.append(len(kw["input_ids"])), with_kwargs=True)
    samples = replicates.reference(model, PROMPT, PARAMS, 3000, seed=1)
    count.remove()
    assert max(rows) == 400
    assert len(samples) == 3000
    assert sum(sample.weight for sample in samples) == pytest.approx(1)
    chunks = [[sample.tokens for sample in samples[i : i + 400]] for i in range(0, 2800, 400)]
    assert len(set(map(str, chunks))) == 7
    with torch.inference_mode():
        law = probabilities(model(input_ids=PROMPT.unsqueeze(0)).logits[:, -1], PARAMS)[0].tolist()
    first = Counter(sample.tokens[0] for sample in samples)
    z = [(first[token] - 3000 * p) / math.sqrt(3000 * p * (1 - p)) for token, p in enumerate(law)]
    assert max(map(abs, z)) < 4.5


def test_reference_and_replicates_agree_and_are_not_the_same_draws(model):
    together = SamplingParams(**(vars(PARAMS) | {"prompts_together": 25}))
    drawn = replicates.draws("batched", model, PROMPT, together, 100, seed=1)
    ours = [sample.tokens[0] for output in drawn for sample in output.samples]
    theirs = [sample.tokens[0] for sample in replicates.reference(model, PROMPT, PARAMS, 1000, seed=1)]
    verdict = fidelity(ours, theirs)
    assert 0 < verdict.tv < 2 * verdict.noise_95
    five = replicates.reference(model, PROMPT, PARAMS, 5, seed=1)
    assert [sample.tokens for sample in five] != tokens(drawn)[0]


def test_cost_of_prompts_decoded_together_is_shared():
    group = Cost(prefill_tokens=30, decode_tokens=60)
    outputs = [Output([], group, 3), Output([], group, 3), Output([], Cost(prefill_tokens=90), 1)]
    assert replicates.token_forwards(outputs) == pytest.approx((30 + 30 + 90) / 3)


def test_equal_cost_of_naive_is_what_arithmetic_says(model, monkeypatch):
    monkeypatch.setattr(replicates, "PILOTS", 2)
    unending = SamplingParams(**(vars(PARAMS) | {"stop_ids": (), "max_new_tokens": 3}))
    one = len(PROMPT) + unending.max_new_tokens - 1
    assert replicates.pilot_cost("naive", model, PROMPT, unending, 0) == 5 * one
    for budget, n in ((9 * one, 9), (9 * one - 1, 8), (one, 1)):
        assert replicates.equal_cost("naive", model, PROMPT, unending, budget, 0) == n
    shared = len(PROMPT) + 13 * (unending.max_new_tokens - 1)
    assert replicates.equal_cost("batched", model, PROMPT, unending, shared + 1, 0) == 13


def stepwise(cost_of):
    """A generator with the cost of N that `cost_of` says, per replicate."""

    def generate(_model, prompts, params, seeds):
        samples = [Sample([1], 0.0, 1 / params.num_samples)] * params.num_samples
        return [Output(samples, Cost(decode_tokens=cost_of(params.num_samples, seed))) for seed in seeds]

    return generate


@pytest.mark.parametrize(
    ("cost_of", "budget", "expected"),
    [
        (lambda n, _: 40 * math.ceil(n / 7), 130, 21),  # trees of seven paths each
        (lambda n, _: 500 + n // 1000, 100, 250),  # dearer than the budget at any N: the largest at its cheapest
        (lambda n, _: 100 * n, 50, 1),
        (lambda n, _: round(1000 * n**0.5), 12_000, 144),
        (lambda n, seed: 10 * n + seed % 21 - 10, 300, 30),
    ],
)
def test_equal_cost_finds_the_largest_n_that_fits(cost_of, budget, expected, monkeypatch):
    calls = []

    def counted(n, seed):
        calls.append(n)
        return cost_of(n, seed)

    monkeypatch.setattr(generators, "get", lambda _: stepwise(counted))
    found = replicates.equal_cost("any", None, PROMPT, PARAMS, budget, 0)
    assert found == pytest.approx(expected, rel=replicates.RESOLUTION, abs=1)
    assert len(set(calls)) <= 14, "each N is measured once, and few are"


def test_equal_cost_stays_within_the_budget_on_a_model(model, monkeypatch):
    monkeypatch.setattr(replicates, "PILOTS", 4)
    params = SamplingParams(num_samples=10, max_new_tokens=6, stop_ids=(3, 5), max_paths=5)
    budget = replicates.pilot_cost("batched", model, PROMPT, params, 0)
    n = replicates.equal_cost("eab@0.3", model, PROMPT, params, budget, 0)
    cost = replicates.pilot_cost("eab@0.3", model, PROMPT, SamplingParams(**(vars(params) | {"num_samples": n})), 0)
    more = SamplingParams(**(vars(params) | {"num_samples": math.ceil(n * (1 + replicates.RESOLUTION)) + 1}))
    assert cost <= budget < replicates.pilot_cost("eab@0.3", model, PROMPT, more, 0)


def test_pilots_cost_what_a_replicate_alone_costs(model):
    short = SamplingParams(**(vars(PARAMS) | {"stop_ids": tuple(range(18))}))
    together = SamplingParams(**(vars(short) | {"prompts_together": replicates.PILOTS}))
    alone = replicates.pilot_cost("batched", model, PROMPT, short, 2)
    assert replicates.pilot_cost("batched", model, PROMPT, together, 2) == alone
    grouped = replicates.token_forwards(replicates.draws("batched", model, PROMPT, together, 16, 2))
    assert grouped > alone, "rows of a group wait for its last one, or this test tests nothing"


def test_pilots_are_not_the_replicates(model):
    purposes = (replicates.PILOT, replicates.REPLICATE, replicates.REFERENCE)
    seeds = [replicates._seeds(0, purpose, 50) for purpose in purposes]
    assert len({seed for some in seeds for seed in some}) == 150
    assert all(0 <= seed < 2**63 for some in seeds for seed in some)
    batch = batched.generate(model, [PROMPT], PARAMS, [seeds[1][0]])
    assert tokens(batch) == tokens(replicates.draws("batched", model, PROMPT, PARAMS, 1, seed=0))
