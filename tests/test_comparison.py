"""The protocol: who is asked for how many samples, in which order, and what is written down."""

import functools
import json
from dataclasses import replace

import pytest
import torch

from lib import generators
from lib.generators import comparison
from lib.generators.common import SamplingParams
from tests.toys import prompt, tiny_model

ARMS = ["naive", "batched", "eab_sequential", "eab", "eab@0.9"]
PARAMS = SamplingParams(num_samples=4, max_new_tokens=6, threshold=0.6, max_paths=5, stop_ids=(3,))
PROMPTS = [prompt(9, seed=s) for s in range(3)]


class Words:
    """Stands in for a tokenizer: only `decode` is needed."""

    @staticmethod
    def decode(ids):
        return " ".join(map(str, ids))


@functools.cache
def trials(repeats: int = 2, seed: int = 0):
    return list(comparison.trials(tiny_model(), PROMPTS, ARMS, PARAMS, repeats=repeats, seed=seed))


def natural(i: int) -> int:
    params = SamplingParams(**(vars(PARAMS) | {"num_samples": None}))
    return len(generators.get("eab")(tiny_model(), [PROMPTS[i]], params, [i])[0].samples)


def test_fixed_protocol_gives_every_arm_the_same_number_of_samples():
    fixed = [r for t in trials() for r in t.rows() if r["protocol"] == "fixed"]
    assert {r["num_samples"] for r in fixed} == {PARAMS.num_samples}
    assert {(r["arm"], r["prompt"]) for r in fixed} == {(arm, i) for arm in ARMS for i in range(3)}


def test_matched_protocol_takes_its_number_from_eab():
    numbers = {natural(i) for i in range(3)}
    assert len(numbers) > 1, "the toy should give EAB different numbers, or this test shows nothing"
    for row in (r for t in trials() for r in t.rows() if r["protocol"] == "matched"):
        assert row["arm"] != "eab@0.9"
        assert row["num_samples"] == natural(row["prompt"])


def test_only_fast_arms_are_repeated_and_no_pass_serves_a_protocol_twice():
    seen = [(r["arm"], r["prompt"], r["protocol"], r["repeat"]) for t in trials() for r in t.rows()]
    assert len(seen) == len(set(seen))
    repeated = {arm for arm, *_, repeat in seen if repeat == 1}
    assert repeated == {"batched", "eab", "eab@0.9"}


def test_order_is_shuffled_by_the_seed_within_a_prompt():
    def order(seed):
        return [(t.prompt, t.arm, t.repeat, t.protocols) for t in trials(2, seed)]

    assert order(0) != order(1)
    assert [p for p, *_ in order(0)] == sorted(p for p, *_ in order(0))


def test_one_pass_serves_both_protocols_where_their_numbers_coincide():
    params = SamplingParams(**(vars(PARAMS) | {"num_samples": natural(0)}))
    found = list(comparison.trials(tiny_model(), PROMPTS[:1], ARMS, params))
    assert {t.protocols for t in found if "@" not in t.arm} == {("fixed", "matched")}
    assert len(found) == len(ARMS)


def test_one_pass_of_naive_is_the_measurement_of_both_numbers():
    found = [t for t in trials() if t.arm == "naive"]
    different = [i for i in range(3) if natural(i) != PARAMS.num_samples]
    assert different, "or every pass serves both protocols anyway"
    for i in different:
        few, many = sorted((t for t in found if t.prompt == i), key=lambda t: t.num_samples)
        assert few.order == many.order, "one pass"
        assert [s.tokens for s in few.output.samples] == [s.tokens for s in many.output.samples[: few.num_samples]]
        law = replace(PARAMS, num_samples=few.num_samples)
        alone = comparison.run_arm("naive", tiny_model(), [PROMPTS[i]], law, [i])[0]
        assert few.output.samples == alone.samples
        untimed = dict.fromkeys(("wall_s", "prefill_s", "peak_memory_bytes"), 0)
        assert replace(few.output.cost, **untimed) == replace(alone.cost, **untimed)
        assert 0 < few.output.cost.prefill_s < few.output.cost.wall_s < many.output.cost.wall_s


@pytest.mark.parametrize("arm", comparison.BRANCHING_ARMS)
def test_a_tree_of_many_samples_is_the_measurement_of_fewer(arm):
    """Against a pass that is asked for N itself."""
    law = replace(PARAMS, num_samples=2)
    found = list(comparison.trials(tiny_model(), PROMPTS, [arm], law, repeats=3))
    many = [i for i in range(3) if natural(i) > 2]
    assert many, "or nothing is shared"
    for i in many:
        passes = 1 if arm in comparison.SLOW_ARMS else 3
        trees = {(t.repeat, t.protocols[0]): t for t in found if t.prompt == i}
        assert len(trees) == 2 * passes
        alone = comparison.run_arm(arm, tiny_model(), [PROMPTS[i]], law, [i])[0]
        for r in range(passes):
            few, whole = trees[r, "fixed"], trees[r, "matched"]
            assert few.order == whole.order and few.output.cost == whole.output.cost, "one pass"
            assert few.output.samples == alone.samples and few.output.trace == alone.trace
            assert few.output.cost.token_forwards == alone.cost.token_forwards


def test_only_the_originals_arms_and_batched_are_asked_for_eabs_number():
    found = comparison.trials(tiny_model(), PROMPTS[:1], ["naive", "eab", "batched", "tree", "bifurcated"], PARAMS)
    assert {t.arm for t in found if "matched" in t.protocols} == {"naive", "eab", "batched"}


def test_an_arm_with_a_threshold_of_its_own_uses_it():
    found = {t.arm: t.output.trace for t in trials() if t.prompt == 0 and t.protocols[0] == "fixed" and "eab" in t.arm}
    assert len(found["eab@0.9"]["branch_positions"]) < len(found["eab"]["branch_positions"])


def test_rows_are_plain_json_and_responses_tell_what_was_drawn():
    for trial in trials():
        json.dumps(trial.rows(), allow_nan=False)
        records = trial.responses(Words())
        assert len(records) == (0 if trial.repeat else len(trial.output.samples))
        for record in records:
            assert record["text"] == Words.decode(record["tokens"])
            assert torch.isfinite(torch.tensor(record["logprob"]))
    eab = next(r for t in trials() for r in t.rows() if r["arm"] == "eab" and r["branch_count"])
    assert eab["tokens_per_sample"] == pytest.approx(eab["token_forwards"] / eab["num_samples"])
    assert 0 <= eab["branch_frequency"] <= 1
    assert eab["first_branch"] <= eab["mean_branch"] <= eab["last_branch"]


def test_a_compiled_arm_never_compiles_inside_a_timed_pass(monkeypatch):
    calls, run_arm = [], comparison.run_arm

    def watched(arm, model, prompts, params, seeds):
        calls.append((arm, params.num_samples))
        return run_arm(arm, model, prompts, SamplingParams(**(vars(params) | {"compile": False})), seeds)

    monkeypatch.setattr(comparison, "run_arm", watched)
    params = SamplingParams(**(vars(PARAMS) | {"compile": True}))
    first = set()
    for trial in comparison.trials(tiny_model(), PROMPTS, ["batched", "eab", "tree"], params):
        job = (trial.arm, trial.num_samples)
        assert calls[-1] == job, "the last call is the one that was timed"
        if job not in first:
            assert calls[-2] == job, "the same shapes ran just before, untimed"
            first.add(job)
    assert len({n for arm, n in first if arm == "batched"}) > 1, "or there was only one graph to compile"
