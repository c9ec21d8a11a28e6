"""A replay of recorded traces is what engines do that run with other drafts, and no plan beats the oracle."""

import functools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib.metrics import acceptance, replay
from lib.metrics.acceptance import crop, describe
from lib.metrics.replay import LONGEST, Costs
from lib.metrics.speculation import Fitted, measured

PROMPT = [0, 1, 2, 0, 1]


def ngram(history, k):
    """What followed the last two tokens where they stood first."""
    for i in range(2, len(history)):
        if history[i - 2 : i] == history[-2:]:
            return history[i : i + k]
    return []


def guess(history, k):
    """A drafter that always has something to say: it counts on from the last token, in threes."""
    return [(history[-1] + 1 + i) % 3 for i in range(k)]


def hybrid(history, k):
    return ngram(history, k) or guess(history, k)


DRAFTERS = {"ngram": ngram, "eagle": guess, "ngram, else eagle": hybrid}


def engine(drafter, continuation, new_tokens, k):
    """(drafted, accepted) per step of greedy decoding whose target would go on as `continuation`."""
    drafted, accepted, done = [], [], 1
    while done < new_tokens:
        draft = drafter(PROMPT + continuation[:done], k)
        right = 0
        while right < len(draft) and draft[right] == continuation[done + right]:
            right += 1
        drafted.append(len(draft))
        accepted.append(right)
        done += right + 1
    return drafted, accepted


def traces(continuation, new_tokens, arms=("ngram", "eagle"), **columns):
    """Rows as the experiment records them: every drafter asked at every place of the output."""
    rows = []
    for arm in arms:
        drafts = [DRAFTERS[arm](PROMPT + continuation[:i], LONGEST) for i in range(1, new_tokens)]
        right = [np.equal(draft, continuation[i : i + len(draft)]) for i, draft in enumerate(drafts, start=1)]
        rows.append(
            {"prompt": 0, "arm": arm, "category": "copy", "new_tokens": new_tokens}
            | {"drafted_trace": [len(draft) for draft in drafts]}
            | {"correct_trace": [int(equal.cumprod().sum()) for equal in right]}
            | columns
        )
    return pd.DataFrame(rows)


def costs(verify=None, **draft):
    default = Fitted("sum", 0.0, 0.01)
    curves = {arm: draft.get(arm, default) for arm in ("ngram", "eagle")}
    return Costs(verify or Fitted("max", 1.0, 0.2), curves, 0.05)


@st.composite
def outputs(draw):
    """What a target would go on with, beyond the end of what is kept, and how much is kept."""
    new_tokens = draw(st.integers(1, 25))
    return draw(st.lists(st.integers(0, 2), min_size=new_tokens + 22, max_size=new_tokens + 22)), new_tokens


@settings(deadline=None, max_examples=60)
@given(outputs(), st.integers(1, LONGEST))
def test_a_replay_at_k_is_the_engine_that_runs_with_k(output, k):
    replayed = replay.replay(traces(*output), costs())
    for arm, drafter in DRAFTERS.items():
        counts = describe(*crop(*engine(drafter, *output, k), output[1]), LONGEST)
        row = replayed[(replayed.arm == arm) & (replayed.k == k)].iloc[0]
        assert row[list(counts)].to_dict() == counts, arm


@settings(deadline=None, max_examples=40)
@given(outputs(), st.integers(1, LONGEST))
def test_seconds_are_those_of_the_steps(output, k):
    lookup, head = Fitted("sum", 0.03, 0.0), Fitted("sum", 0.0, 0.1)
    model = costs(ngram=lookup, eagle=head)
    replayed = replay.replay(traces(*output), model)
    for arm, curve in {"ngram": lookup, "eagle": head}.items():
        drafted, _ = engine(DRAFTERS[arm], *output, k)
        row = replayed[(replayed.arm == arm) & (replayed.k == k)].iloc[0]
        assert row.seconds == pytest.approx(sum(curve(d) + model.verify_s(d + 1) + 0.05 for d in drafted))
        assert row.baseline_s == pytest.approx(output[1] - 1)


def plans(rows, model):
    """Seconds of the cheapest way through the output for somebody who knows every drafter's right tokens, by trying
    all; the drafts that may be used at a place are those of any row.
    """
    right = np.stack(rows.correct_trace)
    places = right.shape[1]

    @functools.cache
    def rest(i):
        if i >= places:
            return 0.0
        options = [model.verify_s(1) + rest(i + 1)]
        for arm, correct in zip(rows.arm, right, strict=True):
            for a in range(1, correct[i] + 1):
                options.append(model.draft_s[arm](a) + model.verify_s(a + 1) + rest(i + a + 1))
        return min(options) + model.overhead_s

    return rest(0)


@settings(deadline=None, max_examples=40)
@given(outputs(), st.floats(0, 1), st.floats(0, 0.5))
def test_the_oracle_is_the_cheapest_of_all_plans(output, per_token, head):
    model = costs(Fitted("sum", 1.0, per_token), ngram=Fitted("sum", 0.03, 0.0), eagle=Fitted("sum", 0.0, head))
    table = traces(*output)
    found = replay.replay(table, model)
    oracle = found[found.strategy == "oracle"].set_index("arm")
    fixed = found[found.strategy == "fixed"].groupby("arm").seconds.min()
    best = oracle.seconds
    assert best["ngram"] == pytest.approx(plans(table[:1], model))
    assert best["eagle"] == pytest.approx(plans(table[1:], model))
    assert best["better of ngram, eagle"] == pytest.approx(plans(table, model))
    match = np.array(table.drafted_trace[0]) > 0
    believed = [
        np.where(match == first, right, 0) for first, right in zip((True, False), table.correct_trace, strict=True)
    ]
    assert best["ngram, else eagle"] == pytest.approx(plans(table.assign(correct_trace=believed), model))
    for arm, seconds in best.items():
        assert seconds <= fixed[arm] + 1e-9
        assert seconds <= oracle.baseline_s[arm] + 0.05 * (output[1] - 1) + 1e-9, "it may refuse to draft"
        assert best["better of ngram, eagle"] <= seconds + 1e-9
    assert (oracle.drafted == oracle.accepted).all()
    assert (oracle.steps + oracle.accepted == output[1] - 1).all()


def test_drafting_all_that_is_right_is_not_the_fewest_steps():
    """Two right tokens lead to a place where nothing is; one of them leads to a place where all is."""
    correct = [2, 0, 7, 0, 0, 0, 0, 0, 0, 0]
    table = pd.DataFrame([{"prompt": 0, "arm": "eagle", "new_tokens": 11, "drafted_trace": [10] * 10}])
    table["correct_trace"] = [correct]
    model = Costs(lambda _: 1.0, {"eagle": lambda _: 0.0})
    found = replay.replay(table, model).set_index("strategy")
    assert len(replay.walk(np.array(correct) + 1)) == 8
    assert found.loc["oracle"].steps == 2 == found.loc["oracle"].seconds
    assert found.loc["fixed"].steps.min() == 8


def test_the_better_of_two_takes_the_one_that_gets_farther():
    pair = {"prompt": 0, "new_tokens": 6, "category": "copy"}
    table = pd.DataFrame(
        [
            pair | {"arm": "ngram", "drafted_trace": [4, 0, 0, 4, 0], "correct_trace": [1, 0, 0, 1, 0]},
            pair | {"arm": "eagle", "drafted_trace": [9] * 5, "correct_trace": [2, 0, 0, 1, 0]},
        ]
    )
    found = replay.replay(table, costs()).set_index(["arm", "k"])
    better = found.loc["better of ngram, eagle"]
    assert better.loc[2, ["steps", "drafted", "accepted"]].tolist() == [2, 4, 3], "eagle gets to place 3"
    assert better.loc[5, ["steps", "drafted", "accepted"]].tolist() == [2, 9, 3], "of equals the lookup, which drafts 4"
    fallback = found.loc["ngram, else eagle"]
    assert fallback.loc[2, ["steps", "drafted", "accepted"]].tolist() == [3, 6, 2], "a match is believed"


def test_outputs_are_pooled_and_resampled_whole():
    rng = np.random.default_rng(0)
    parts = [
        traces(rng.integers(0, 3, n + 22).tolist(), n, prompt=p, category=c)
        for p, (n, c) in enumerate([(30, "copy"), (10, "qa"), (20, "copy"), (1, "qa")])
    ]
    replayed = replay.replay(pd.concat(parts), costs())
    table = replay.speedups(replayed, ["category", "arm", "strategy", "k"])
    assert len(table) == 2 * 4 * (LONGEST + 1)
    part = replayed[(replayed.category == "copy") & (replayed.arm == "eagle") & (replayed.k == 3)]
    row = table[(table.category == "copy") & (table.arm == "eagle") & (table.k == 3)].iloc[0]
    assert row.speedup == pytest.approx(part.baseline_s.sum() / part.seconds.sum())
    each = part.baseline_s / part.seconds
    assert (row.speedup_low, row.speedup_high, row.requests) == (
        pytest.approx(each.min()),
        pytest.approx(each.max()),
        2,
    )
    lengths = acceptance.summarise(replayed, ["arm", "strategy", "k"])
    assert len(lengths) == 4 * (LONGEST + 1)
    best = lengths[lengths.strategy == "oracle"].set_index("arm").tokens_per_forward
    assert best["better of ngram, eagle"] == best.max() > 1


def test_one_drafter_alone_is_not_combined_and_other_columns_stay():
    alone = replay.replay(traces([0] * 30, 8, arms=("eagle",), model="m"), costs())
    assert set(alone.arm) == {"eagle"} and set(alone.model) == {"m"} and set(alone.category) == {"copy"}
    assert not {"drafted_trace", "correct_trace"} & set(alone)


def test_traces_that_do_not_fit_are_one_sentence():
    table = traces([0] * 30, 8)
    with pytest.raises(ValueError, match="one model at a time"):
        replay.replay(pd.concat([table, table]), costs())
    with pytest.raises(ValueError, match="has 7 places and its output 9 tokens"):
        replay.replay(table.assign(new_tokens=9), costs())
    with pytest.raises(ValueError, match="measured up to 5"):
        replay.replay(table, costs(eagle=measured([1, 5], [0.1, 0.3])))
