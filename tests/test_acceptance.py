"""Counts are those of a walk through the steps, one by one; the definitions of the glossary hold and differ."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from lib.metrics import stats
from lib.metrics.acceptance import RATIOS, by_position, crop, describe, prompt_overlap, summarise

K = 5


@st.composite
def steps(draw, least=0):
    """(drafted, accepted) of one request, per step."""
    drafted = draw(st.lists(st.integers(0, K), min_size=least, max_size=12))
    return drafted, [draw(st.integers(0, d)) for d in drafted]


def row(prompt, drafted, accepted, k=K, new_tokens=None, **columns):
    """A measurement row of one request, as the experiment writes it; uncropped where `new_tokens` is not given."""
    new = 1 + sum(accepted) + len(accepted) if new_tokens is None else new_tokens
    cropped = crop(drafted, accepted, new)
    described = json.loads(json.dumps(describe(*cropped, k)))
    return {"prompt": prompt, "arm": "ngram", "category": "copy", "new_tokens": new} | described | columns


def emit(drafted, accepted):
    """The output as labels: where each token came from, the prefill's first."""
    output = [("prefill", 0, 0)]
    for step, (d, a) in enumerate(zip(drafted, accepted, strict=True)):
        output += [("draft", step, i) for i in range(a)]
        output.append(("bonus", step, d))
    return output


@given(steps(), st.data())
def test_crop_keeps_what_has_its_place_within_the_output(counts, data):
    drafted, accepted = counts
    whole = emit(drafted, accepted)
    kept = whole[: data.draw(st.integers(1, len(whole)))]
    d, a = crop(drafted, accepted, len(kept))
    assert sum(a) == sum(source == "draft" for source, *_ in kept)
    assert len(a) == len({step for source, step, _ in kept if source != "prefill"})
    assert d[:-1] == drafted[: len(d[:-1])]
    if d:
        whole_step = ("bonus", len(d) - 1, drafted[len(d) - 1]) in kept
        assert d[-1] == (drafted[len(d) - 1] if whole_step else a[-1])
    assert crop(d, a, len(kept)) == (d, a), "cropping is done once and for all"


def test_crop_removes_what_lies_behind_the_last_token_and_no_more():
    assert crop([5, 5], [5, 5], 1 + 6 + 6) == ([5, 5], [5, 5])
    assert crop([5, 5], [5, 5], 1 + 6 + 5) == ([5, 5], [5, 5]), "only the bonus is gone"
    assert crop([5, 5], [5, 5], 1 + 6 + 2) == ([5, 2], [5, 2])
    assert crop([5, 5], [5, 1], 1 + 6 + 2) == ([5, 5], [5, 1]), "the step was not cut short: its wrong drafts count"
    assert crop([5, 5], [5, 2], 1 + 6 + 2) == ([5, 2], [5, 2]), "what was wrong about the next token is not known"
    assert crop([5, 5], [5, 5], 1 + 6) == ([5], [5]), "a step too many"
    assert crop([], [], 1) == crop([3], [2], 1) == ([], []), "the prefill made the only token"


@pytest.mark.parametrize("new_tokens", (0, 6))
def test_steps_that_cannot_have_made_the_output_are_refused(new_tokens):
    """Engines that leave out the steps without a draft, as vLLM's counters do, are caught here."""
    with pytest.raises(ValueError, match="without a draft included"):
        crop([3], [3], new_tokens)


def test_impossible_steps_are_one_sentence():
    with pytest.raises(ValueError, match="accepted between 0 and drafted"):
        describe([2], [3], K)
    with pytest.raises(ValueError, match="2 steps of drafted and 1 of accepted"):
        crop([2, 2], [1], 2)
    with pytest.raises(ValueError, match="drafted 7 tokens where k is 5"):
        describe([7], [3], K)


@given(steps())
def test_a_description_is_a_walk_through_the_steps(counts):
    expected = {"steps": 0, "draftless_steps": 0, "drafted": 0, "accepted": 0, "acceptance_histogram": [0] * (K + 1)}
    expected |= {name: [0] * K for name in ("drafted_at", "tested_at", "accepted_at")}
    for d, a in zip(*counts, strict=True):
        expected["steps"] += 1
        expected["draftless_steps"] += not d
        expected["acceptance_histogram"][a] += 1
        for i in range(d):
            expected["drafted"] += 1
            expected["drafted_at"][i] += 1
        for i in range(d):  # verified one after the other, until one is wrong
            expected["tested_at"][i] += 1
            if i == a:
                break
            expected["accepted_at"][i] += 1
            expected["accepted"] += 1
    assert describe(*counts, K) == expected


@settings(deadline=None, max_examples=30)
@given(st.lists(steps(least=1), min_size=1, max_size=4))
def test_the_reported_figures_of_vllm_follow_from_the_columns(requests):
    """Its formulas, from the counters it keeps: drafts, draft tokens, accepted tokens, accepted tokens per position;
    it does not see steps without a draft.
    """
    seen = [(d, a) for drafted, accepted in requests for d, a in zip(drafted, accepted, strict=True) if d]
    table = pd.DataFrame(row(p, *counts) for p, counts in enumerate(requests))
    summary, positions = summarise(table, ["arm"]).iloc[0], by_position(table)
    if not seen:
        assert np.isnan(summary.acceptance_rate) and np.isnan(summary.mean_acceptance_length_drafted)
        assert summary.mean_acceptance_length == 1 and positions.empty
        return
    drafts, tokens, accepted = len(seen), sum(d for d, _ in seen), sum(a for _, a in seen)
    per_position = [sum(a > i for _, a in seen) for i in range(K)]
    assert summary.mean_acceptance_length_drafted == pytest.approx(1 + accepted / drafts)
    assert summary.acceptance_rate == pytest.approx(accepted / tokens)
    assert positions.unconditional.tolist() == pytest.approx([n / drafts for n in per_position])
    assert positions.position.tolist() == list(range(1, K + 1))
    assert 1 + positions.unconditional.sum() == pytest.approx(summary.mean_acceptance_length_drafted)


def test_known_trap_steps_without_a_draft_inflate_the_mean_acceptance_length():
    drafted, accepted = [0] * 99 + [9], [0] * 99 + [9]
    summary = summarise(pd.DataFrame([row(0, drafted, accepted, k=9)]), ["arm"]).iloc[0]
    assert summary.mean_acceptance_length_drafted == 10
    assert summary.mean_acceptance_length == summary.tokens_per_forward == pytest.approx(1.09)


def test_tokens_per_forward_knows_neither_the_prefill_nor_the_cropped_bonus():
    baseline = summarise(pd.DataFrame([row(0, [0] * 7, [0] * 7, k=0)]), ["arm"]).iloc[0]
    assert baseline.tokens_per_forward == baseline.mean_acceptance_length == 1
    assert np.isnan(baseline.acceptance_rate)
    cut = summarise(pd.DataFrame([row(0, [5, 5], [5, 5], new_tokens=1 + 6 + 5)]), ["arm"]).iloc[0]
    assert (cut.tokens_per_forward, cut.mean_acceptance_length) == (5.5, 6)


def test_tokens_that_the_prefill_made_are_no_step_s():
    """transformers verifies its first draft together with the prompt."""
    assert crop([5], [5], 3 + 6, first=3) == crop([5, 5], [5, 5], 3 + 6, first=3) == ([5], [5])
    assert crop([5], [5], 3 + 2, first=3) == ([2], [2])
    assert crop([5], [5], 2, first=3) == ([], []), "cut within the first tokens"
    many = row(0, [5], [5]) | {"new_tokens": 9, "first": 3}
    assert summarise(pd.DataFrame([many]), ["arm"]).tokens_per_forward[0] == 6
    mixed = summarise(pd.DataFrame([many, row(0, [5], [5], arm="eagle")]), ["arm"])
    assert mixed.tokens_per_forward.tolist() == [6, 6]


def test_pooled_and_mean_of_requests_are_told_apart():
    table = pd.DataFrame([row(0, [5] * 90, [5] * 90), row(1, [5] * 10, [0] * 10)])
    summary = summarise(table, ["arm"]).iloc[0]
    assert (summary.acceptance_rate, summary.acceptance_rate_of_requests) == pytest.approx((0.9, 0.5))
    assert (summary.tokens_per_forward, summary.tokens_per_forward_of_requests) == pytest.approx((5.5, 3.5))


def test_a_request_without_any_draft_has_no_acceptance_rate_to_average():
    table = pd.DataFrame([row(0, [5, 5], [5, 1]), row(1, [0, 0, 0], [0, 0, 0])])
    summary = summarise(table, ["arm"]).iloc[0]
    assert summary.acceptance_rate == summary.acceptance_rate_of_requests == 0.6
    assert np.isfinite([summary.acceptance_rate_low, summary.acceptance_rate_of_requests_high]).all()
    assert summary.mean_acceptance_length_of_requests == (4 + 1) / 2, "but its steps count"


def test_conditional_rates_count_the_steps_that_were_put_to_the_test():
    """Half the drafts are one token long and right: that says nothing of the second position."""
    positions = by_position(pd.DataFrame([row(0, [1] * 10 + [2] * 10, [1] * 10 + [2] * 10, k=2)]))
    assert positions.conditional.tolist() == [1, 1]
    assert positions.n.tolist() == [20, 10]
    accepted_at = row(0, [1] * 10 + [2] * 10, [1] * 10 + [2] * 10, k=2)["accepted_at"]
    assert accepted_at[1] / accepted_at[0] == positions.unconditional[1] == 0.5, "the usual quotient says otherwise"


def test_positions_never_reached_have_no_rate_and_different_k_pool():
    table = pd.DataFrame([row(0, [3, 3], [1, 0], k=3), row(1, [1, 1], [1, 0], k=1)])
    positions = by_position(table)
    assert positions.conditional.tolist() == [0.5, 0.0, pytest.approx(np.nan, nan_ok=True)]
    assert positions.unconditional.tolist() == [0.5, 0, 0]
    assert positions.n.tolist() == [4, 1, 0]


def test_requests_are_resampled_whole_with_their_repeats():
    rng = np.random.default_rng(0)
    counts = [(int(n), rng.integers(0, K + 1, n)) for n in rng.integers(5, 20, 12)]
    once = [row(p, [K] * n, a.tolist()) for p, (n, a) in enumerate(counts)]
    summary = summarise(pd.DataFrame(once), ["arm"]).iloc[0]
    again = summarise(pd.DataFrame(once * 3), ["arm"]).iloc[0]
    pd.testing.assert_series_equal(summary, again)
    rates = np.array([a.mean() / K for _, a in counts])
    expected = stats.bootstrap(rates, lambda x: x.mean(-1))
    found = summary[[f"acceptance_rate_of_requests{end}" for end in ("", "_low", "_high")]]
    assert found.tolist() == pytest.approx([expected.estimate, expected.low, expected.high])
    assert summary.requests == 12


def test_interval_of_a_pooled_rate_agrees_with_scipy():
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 60, 30)  # requests differ in length and in ease
    accepted = [rng.binomial(1, rng.beta(4, 2), n) for n in lengths]
    table = pd.DataFrame(row(p, [1] * len(a), a.tolist(), k=1) for p, a in enumerate(accepted))
    summary, position = summarise(table, ["arm"]).iloc[0], by_position(table).iloc[0]
    theirs = scipy_stats.bootstrap(
        ([a.sum() for a in accepted], lengths),
        lambda right, of, axis: right.sum(axis) / of.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=4000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    assert [summary.acceptance_rate_low, summary.acceptance_rate_high] == pytest.approx([*theirs], abs=0.01)
    assert [position.conditional_low, position.conditional_high] == pytest.approx([*theirs], abs=0.01)


def test_groups_are_kept_apart_in_their_order():
    table = pd.DataFrame(
        [
            row(0, [5], [5], arm="eagle", category="qa"),
            row(1, [5], [1], arm="eagle", category="copy"),
            row(0, [5], [0], arm="ngram", category="qa"),
            row(0, [], [], arm="none", category="qa"),
        ]
    )
    summary = summarise(table, ["arm", "category"])
    assert summary[["arm", "category"]].to_numpy().tolist() == [
        ["eagle", "qa"],
        ["eagle", "copy"],
        ["ngram", "qa"],
        ["none", "qa"],
    ]
    assert summary.acceptance_rate[:3].tolist() == [1, 0.2, 0]
    assert summary.iloc[3][list(RATIOS)].isna().all(), "a request of one token had no step"
    assert by_position(table, ["arm", "category"]).groupby(["arm", "category"]).size().tolist() == [K, K, K]


@given(st.lists(st.integers(0, 2), max_size=12), st.lists(st.integers(0, 2), max_size=12))
def test_prompt_overlap_is_the_share_of_windows_found(prompt, output):
    def text(tokens):
        return "".join(map(str, tokens))

    windows = [text(output[i : i + 4]) for i in range(len(output) - 3)]
    found = prompt_overlap(prompt, output)
    assert found == (np.mean([w in text(prompt) for w in windows]) if windows else None)
