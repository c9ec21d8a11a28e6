"""Claims of 4c on planted rows: every verdict, from the rows that should lead to it."""

import inference_rows as planted
import numpy as np
import pandas as pd
import pytest
from inference_rows import MESSAGE8

from lib.claims import decide
from lib.claims import inference as claims

HERE = {"source": "bridge-source", "target": "bridge-target"}
PLAN = {"source": "mistralai/Mistral-7B-Instruct-v0.3", "target": "meta-llama/Llama-3.1-8B-Instruct"}
NAMES = (
    "latency-source-has-read", "latency", "throughput-source-has-read", "throughput", "memory", "memory-with-source"
)  # fmt: skip


def rows(gain=1.0, noise=0.02, n=24, seed=0, pair=HERE, run="run_1", batch_size=1, **kv):
    """Timed batches whose message is `gain` times as fast as the text, but for noise; the source takes another 0.2 of
    the text's time. Memory of as many batches, as in `planted.memory` but for `kv`."""
    rng, made = np.random.default_rng(seed), []
    held = {"kv_bytes": 700, "source_kv_bytes": 300} | kv
    zero = dict.fromkeys([f"{stage}_s" for stage in planted.STAGES], 0.0)
    for i in range(n):
        text, message = 1.0 * 2 ** rng.normal(0, noise), 1 / gain * 2 ** rng.normal(0, noise)
        about = {"batch_size": batch_size, "batch": i, "repeat": 0, "sent_bytes": 1.0, "context_tokens": 1.0}
        about |= {"padded_tokens": 1 + i % 2}
        for arm, tokens, seconds in (("text", None, text), (MESSAGE8, 8, message), ("other", 4, 10.0)):
            source = {} if arm == "text" else {"source_prefill_s": 0.2}
            timed = zero | about | {"protocol": "latency", "arm": arm, "tokens": tokens, "decode_s": seconds} | source
            own = {"kv_bytes": 1000, "source_kv_bytes": 0} if arm == "text" else held
            made += [timed, {"protocol": "memory", "arm": arm, "tokens": tokens} | about | own]
    return planted.frame(made, run=run).assign(**pair)


def verdicts(of, every=None):
    found = decide(claims.claims(), of, of if every is None else every)
    return {verdict.claim.id.removeprefix("4c/"): verdict for verdict in found}


def said(of, every=None):
    return {name: verdict.verdict for name, verdict in verdicts(of, every).items()}


@pytest.mark.parametrize(
    ("gain", "read", "must"),
    [
        (1.5, "supported", "supported"),
        (1.15, "supported", "not supported"),  # the source's 0.2 s are more than what is gained
        (1.0, "not supported", "not supported"),
        (0.9, "not supported", "not supported"),
    ],
)
def test_time(gain, read, must):
    found = said(rows(gain))
    assert (found["latency-source-has-read"], found["latency"]) == (read, must)


def test_latency_is_of_the_smallest_batch_and_throughput_of_the_largest():
    found = said(pd.concat([rows(0.8), rows(1.5, batch_size=4), rows(1.0, batch_size=2)]))
    assert (found["latency-source-has-read"], found["latency"]) == ("not supported", "not supported")
    assert (found["throughput-source-has-read"], found["throughput"]) == ("supported", "supported")


@pytest.mark.parametrize(
    ("kv", "alone", "together"),
    [
        ({}, "supported", "not supported"),
        ({"source_kv_bytes": 100}, "supported", "supported"),
        ({"kv_bytes": 1000}, "not supported", "not supported"),
    ],
)
def test_memory(kv, alone, together):
    found = said(rows(**kv))
    assert (found["memory"], found["memory-with-source"]) == (alone, together)


def test_the_estimate_is_the_planted_gain_of_the_largest_message():
    finding = verdicts(rows(1.5))["latency-source-has-read"].finding
    assert finding.estimate == pytest.approx(1.5, rel=0.02)
    assert finding.low < finding.estimate < finding.high
    assert finding.n == 24
    assert "8 tokens" in finding.remark


def test_of_messages_of_one_size_the_bridge_named_first_counts():
    single = rows(1.5)
    twin = single[single.arm == MESSAGE8].assign(arm="twin", decode_s=0.1, kv_bytes=1)
    expected = verdicts(single)
    for names in ((MESSAGE8, "twin"), ("other", MESSAGE8, "twin")):
        for mixed in ([single, twin], [twin, single]):
            both = pd.concat(mixed, ignore_index=True)
            both = both.assign(bridges=[names] * len(both))
            for name, verdict in verdicts(both).items():
                if verdict.finding:
                    assert verdict.finding.n == 24
                    assert verdict.finding.estimate == pytest.approx(expected[name].finding.estimate)


def test_padding_of_the_text_is_told_where_batches_are_larger_than_one():
    found = verdicts(pd.concat([rows(1.5), rows(1.5, batch_size=4)]))
    assert "12 of the text's 24 batches of several questions (50%)" in found["throughput"].finding.remark
    assert "messages, all equally long, never need one" in found["throughput"].finding.remark
    assert "padding" not in found["latency"].finding.remark


def test_too_few_or_too_noisy_questions_decide_nothing_and_say_what_would():
    for of in (rows(1.1, n=5), rows(1.05, noise=0.5, seed=1)):
        verdict = verdicts(of)["latency-source-has-read"]
        assert verdict.verdict == "inconclusive"
        assert "takes" in verdict.finding.remark


def test_each_pair_is_judged_by_its_own_runs():
    here, plan = rows(1.5), rows(0.8, pair=PLAN, run="run_2")
    found = said(here, pd.concat([here, plan]))
    assert found["latency"] == "supported"
    assert found["plan-latency"] == "not supported"
    alone = said(here)
    assert {alone[f"plan-{name}"] for name in NAMES} == {"not run at this scale"}


def test_nothing_is_decided_without_rows():
    assert set(said(pd.DataFrame())) == {*NAMES, *(f"plan-{name}" for name in NAMES)}
    assert set(said(pd.DataFrame()).values()) == {"not run at this scale"}


def test_false_alarms_are_as_rare_as_promised():
    found = [said(rows(1.0, noise=0.1, n=12, seed=seed))["latency-source-has-read"] for seed in range(60)]
    assert found.count("supported") <= 60 * 0.05 + 3
