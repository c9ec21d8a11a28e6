"""The protocols of 2a on a model trained here: what rows hold, who sees what, and whether a broken arm is caught."""

import gc
import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lib import results
from lib.data.benchmark import CATEGORIES, Request
from lib.figures import specdec_positions, specdec_predicted
from lib.generators.speculative import vllm_backend
from lib.generators.speculative.common import Response
from lib.generators.speculative.eagle import Eagle
from lib.models import hub
from lib.models.registry import ModelError
from lib.params import resolve
from lib.specdec import arms, latency, lengths, lossless, report, throughput, traces
from lib.specdec.target import Target

ABOUT = {"group", "model", "parameters", "dummy", "backend", "temperature", "protocol", "arm"}
COUNTS = {"steps", "drafted", "accepted"}
SPEED = {"new_tokens", "wall_s", "s_per_token", "tokens_per_s"}
LATENCY = ABOUT | COUNTS | SPEED | {
    "prompt", "id", "category", "turn", "cut", "repeat", "order", "batch_size", "prompt_tokens", "total_tokens",
    "first", "prefill_s", "decode_s", "draft_s", "verify_s", "draftless_steps", "drafted_at", "tested_at",
    "accepted_at", "acceptance_histogram", "prompt_overlap", "token_equal", "first_divergence",
}  # fmt: skip
THROUGHPUT = ABOUT | COUNTS | SPEED | {"prompt", "batch_size", "order", "repeat"}
TRACE = ABOUT | {"prompt", "category", "new_tokens", "drafted_trace", "correct_trace"}
GREEDY = {"requests", "tokens", "likeliest", "margin", "tolerance", "diverged", "tie", "passed"}
SMALL = {"model": "ladder-micro", "requests": 7, "max_new_tokens": 12, "batch_sizes": [1, 2], "batch_requests": 4}


@pytest.fixture(scope="module")
def lm(micro_path):
    with hub.loaded("ladder-micro") as loaded:
        yield loaded


@pytest.fixture
def make(lm, monkeypatch):
    """Targets that share the loaded model."""
    monkeypatch.setattr(hub, "load", lambda name, **options: lm)
    return lambda **changes: Target(resolve("2a_specdec", SMALL | changes))


class Scripted:
    """An arm that answers what it is told to, and remembers what it was asked."""

    def __init__(self, name: str, answer=lambda ids: [5, 6, 7], log: list | None = None) -> None:
        self.name, self._answer, self.asked, self.seeds = name, answer, [], []
        self._log = [] if log is None else log

    def __enter__(self):
        return self

    def __exit__(self, *exc): ...

    def run(self, prompts, seeds):
        self.asked.append([list(ids) for ids in prompts])
        self.seeds.append(list(seeds))
        self._log.append(self.name)
        answers = [self._answer(ids) for ids in prompts]
        return [Response(t, [0] * (len(t) - 1), [0] * (len(t) - 1), 1.0, 0.25, 0.75) for t in answers]


class Broken:
    """A real arm whose answers are changed afterwards."""

    def __init__(self, arm, change) -> None:
        self.name, self._arm, self._change = arm.name, arm, change

    def run(self, prompts, seeds):
        return [replace(r, tokens=self._change(list(r.tokens))) for r in self._arm.run(prompts, seeds)]


def ready(target, tmp_path) -> list:
    """The run's own arms, outside their with block: these hold nothing."""
    with arms.ready(target, tmp_path / "log.txt", seats=8) as engines:
        return engines


def requests(*turns: tuple[str, ...]) -> list[Request]:
    return [Request(str(i), "talk", said) for i, said in enumerate(turns)]


# --- rows -------------------------------------------------------------------------------------------------------------


def test_latency_rows_hold_the_contract_and_answers_are_the_baselines(make, tmp_path):
    target = make(repeats=2)
    asked = latency.requests(target)
    assert [request.category for request in asked] == list(CATEGORIES)
    timed = list(latency.run(target, ready(target, tmp_path), asked))
    rows = [one.row(target) for one in timed]
    assert len(rows) == 7 * 2 * 2
    for row in rows:
        assert row.keys() == LATENCY
        assert json.dumps(row, allow_nan=False)
        assert row["token_equal"] is True and row["first_divergence"] is None
        assert row["total_tokens"] == row["prompt_tokens"] + row["new_tokens"]
        made = row["first"] + row["accepted"] + row["steps"]
        assert made - row["new_tokens"] in (0, 1)  # the last step's own token may be one too many
        assert len(row["drafted_at"]) == len(row["tested_at"]) == len(row["accepted_at"]) == 5
        assert sum(row["acceptance_histogram"]) == row["steps"]
        assert sum(row["accepted_at"]) == row["accepted"] and sum(row["drafted_at"]) == row["drafted"]
        assert row["s_per_token"] == pytest.approx(1 / row["tokens_per_s"])
        assert row["wall_s"] >= row["prefill_s"] > 0
    base = [row for row in rows if row["arm"] == "baseline"]
    assert all(row["drafted"] == 0 and row["steps"] == row["draftless_steps"] for row in base)
    assert any(row["accepted"] for row in rows if row["arm"] == "ngram"), "an arm that never drafts shows nothing"


def test_records_hold_the_text_and_its_steps(make, tmp_path):
    target = make(requests=3)
    for one in latency.run(target, ready(target, tmp_path), latency.requests(target)):
        record = one.record(target)
        assert record["text"] == target.tokenizer.decode(record["tokens"], skip_special_tokens=True)
        assert len(record["drafted"]) == one.row(target)["steps"]
        assert sum(record["accepted"]) == one.row(target)["accepted"]


def test_what_a_prefill_verified_belongs_to_no_step(make):
    """transformers verifies its first draft with the prompt: 3 tokens there, then a step of 2."""
    response = Response([1, 2, 3, 4, 5], [4], [1], 1.0, 0.5, 0.5, first=3)
    assert latency.cropped(response) == ([4], [1])
    # the output ended inside that first draft: no step made any of it
    assert latency.cropped(replace(response, tokens=[1, 2])) == ([], [])
    asked = latency.Asked(0, requests(("hello",))[0], 0, [1], 0)
    row = latency.Timed(asked, "ngram", response, 0, 0).row(make())
    assert (row["first"], row["new_tokens"], row["steps"]) == (3, 5, 1)
    assert report.summary(pd.DataFrame([row, row | {"protocol": "audit"}]))["acceptance"][0]["tokens_per_forward"] == 2


def test_a_wider_draft_than_asked_for_has_its_columns(make):
    """A tree of two candidates per depth verifies ten tokens a step."""
    response = Response([1, 2, 3, 4], [10], [2], 1.0, 0.5, 0.5)
    row = latency.Timed(latency.Asked(0, requests(("hello",))[0], 0, [1], 0), "tree", response, 0, 0).row(make())
    assert len(row["drafted_at"]) == 10


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))  # whoever answers first in time, the baseline's words go on
def test_every_arm_sees_the_same_second_turn(make, seed):
    target = make(seed=seed)
    word = target.tokenizer(" harbour")["input_ids"]
    base, other = Scripted("baseline", lambda ids: word), Scripted("ngram", lambda ids: [9, 9, 9])
    asked = requests(("How?", "And then?", "Why?"), ("Who?",), ("Where?", "When?"))
    rows = [one.row(target) for one in latency.run(target, [base, other], asked)]
    assert base.asked == other.asked
    second = target.tokenizer.decode(base.asked[2][0])  # after the warm-up and the first turn
    assert "How?" in second and "And then?" in second and target.tokenizer.decode(word) in second
    assert second.index("How?") < second.index("harbour") < second.index("And then?")
    turns = [(row["id"], row["turn"], row["prompt"]) for row in rows if row["arm"] == "ngram"]
    assert turns == [("0", 0, 0), ("0", 1, 1), ("0", 2, 2), ("1", 0, 3), ("2", 0, 4), ("2", 1, 5)]
    assert not any(row["token_equal"] for row in rows if row["arm"] == "ngram")


def test_conversations_of_a_batch_go_on_together(make):
    target = make(batch_size=2)
    arm = Scripted("baseline")
    asked = requests(("a", "b"), ("c",), ("d",), ("e", "f"), ("g",))
    rows = [one.row(target) for one in latency.run(target, [arm], asked)]
    assert [len(batch) for batch in arm.asked[1:]] == [2, 1, 2, 1, 1]
    assert [(row["id"], row["turn"]) for row in rows] == [
        ("0", 0), ("1", 0), ("0", 1), ("2", 0), ("3", 0), ("3", 1), ("4", 0)
    ]  # fmt: skip
    seeds = list(itertools.chain(*arm.seeds[1:]))
    assert len(set(seeds)) == len(rows), "two turns that share their random numbers are one observation"


def test_a_long_prompt_loses_its_middle_and_says_so(make, capsys):
    target = make(max_new_tokens=50)
    begin, end = "Alice lives in Colby.", "What does Bob think?"
    text = begin + " They went on and on." * 400 + end
    arm = Scripted("baseline")
    rows = [one.row(target) for one in latency.run(target, [arm], requests((text,), ("Short.",)))]
    whole = len(target.tokenizer(text)["input_ids"])
    assert len(arm.asked[1][0]) == target.context - 50
    assert rows[0]["cut"] > 0 and rows[0]["prompt_tokens"] + rows[0]["cut"] >= whole
    assert rows[1]["cut"] == 0
    read = target.tokenizer.decode(arm.asked[1][0])
    assert begin in read and end in read
    assert "1 of 2 prompts were longer than the model reads and lost their middle." in capsys.readouterr().err


def test_the_tokenizer_does_not_warn_of_what_is_cut(make, capfd):
    """transformers says that longer texts will result in indexing errors, in the middle of a progress bar."""
    target = make()
    target.tokenizer.deprecation_warnings.clear()
    assert len(latency.encode(target, ["word " * 3000])[0]) == target.context - 12
    assert "Token indices" not in capfd.readouterr().err


def test_max_model_len_is_the_room_of_a_prompt(make):
    target = make(max_model_len=40)
    arm = Scripted("baseline")
    list(latency.run(target, [arm], requests((" word" * 300,))))
    assert {len(ids) for batch in arm.asked for ids in batch} == {40 - 12}


def test_a_model_too_short_for_what_is_asked_is_one_sentence(make, lm):
    positions = lm.model.config.max_position_embeddings
    with pytest.raises(ModelError, match=f"{positions} positions, fewer than max_model_len {positions + 1}: lower it"):
        make(max_model_len=positions + 1)
    with pytest.raises(ModelError, match=f"max_new_tokens {positions} leaves no room for a prompt"):
        make(max_new_tokens=positions)


def test_the_order_is_random_and_the_seeds(make):
    def order(seed: int) -> list[str]:
        log: list[str] = []
        target = make(seed=seed, repeats=3)
        sides = [Scripted("baseline", log=log), Scripted("ngram", log=log)]
        rows = [one.row(target) for one in latency.run(target, sides, latency.requests(target))]
        assert log[:2] == ["baseline", "ngram"]  # the warm-up
        assert [row["arm"] for row in rows] == log[2:]
        assert [row["order"] for row in rows] == list(range(6)) * 7
        return log[2:]

    assert order(0) == order(0) != order(1)
    firsts = {order(seed)[i] for seed in (0, 1) for i in range(0, 42, 6)}
    assert firsts == {"baseline", "ngram"}


def test_requests_come_from_the_file_as_many_as_asked(make, tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"Say {i}."}) + "\n" for i in range(5)))
    assert [r.turns for r in latency.requests(make(benchmark=str(path), requests=2))] == [("Say 0.",), ("Say 1.",)]
    assert len(latency.requests(make(benchmark=str(path), requests=0))) == 5
    assert latency.requests(make(seed=1)) != latency.requests(make(seed=2))


# --- which arms -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method": "ngram"}, ["baseline", "ngram"]),
        ({"method": "ngram", "paired": False}, ["ngram"]),
        ({"method": "baseline"}, ["baseline"]),
        ({"method": "baseline", "paired": False}, ["baseline"]),
        ({"method": "ngram", "backend": "transformers"}, ["baseline", "ngram"]),
        ({"method": "draft", "draft_model": "ladder-micro"}, ["baseline", "draft"]),
    ],
)
def test_arms_of_a_run(make, tmp_path, changes, expected):
    assert [arm.name for arm in ready(make(**changes), tmp_path)] == expected


def test_a_draft_model_of_another_vocabulary_is_refused(make, tmp_path, monkeypatch):
    target = make(method="draft", draft_model="ladder-micro")
    small = replace(target.lm, name="other", model=type("Other", (), {"config": type("C", (), {"vocab_size": 7})})())
    monkeypatch.setattr(hub, "load", lambda *_, **__: small)
    with pytest.raises(ModelError, match=r"other has 7 token ids and ladder-micro \d+: give a draft model of one"):
        _ = target.draft_model


def test_the_draft_model_is_the_one_that_is_named_whatever_the_runs_method(make):
    target = make(method="hybrid", draft_model="ladder-60k", eagle_model="ladder-1m")
    assert (target.drafter_name("draft"), target.drafter_name("eagle")) == ("ladder-60k", "ladder-1m")
    target = make(model="ladder-3m", method="ngram")
    assert (target.drafter_name("draft"), target.drafter_name("eagle")) == ("ladder-60k", "ladder-3m")


def test_without_a_baseline_nothing_is_compared(make, tmp_path):
    target = make(paired=False, requests=2)
    rows = [one.row(target) for one in latency.run(target, ready(target, tmp_path), latency.requests(target))]
    assert {(row["arm"], row["token_equal"], row["first_divergence"]) for row in rows} == {("ngram", None, None)}


def test_a_wrong_token_shows_in_the_rows(make, tmp_path):
    target = make()
    base, ngram = ready(target, tmp_path)
    broken = Broken(ngram, lambda tokens: [*tokens[:3], tokens[3] ^ 1, *tokens[4:]])
    rows = [one.row(target) for one in latency.run(target, [base, broken], latency.requests(target))]
    assert {(row["arm"], row["token_equal"], row["first_divergence"]) for row in rows} == {
        ("baseline", True, None), ("ngram", False, 3)
    }  # fmt: skip


# --- is it lossless ---------------------------------------------------------------------------------------------------


def audits(target, engines) -> dict[str, dict]:
    timed = latency.run(target, engines, latency.requests(target))
    return {row["arm"]: row for row in lossless.audit(target, timed)}


def test_honest_greedy_arms_pass(make, tmp_path):
    found = audits(make(), ready(make(), tmp_path))
    assert found.keys() == {"baseline", "ngram"}
    for row in found.values():
        assert row.keys() == ABOUT | GREEDY
        assert row["passed"] and row["diverged"] == 0 and row["tie"] is None
        assert row["tokens"] > 50 and row["likeliest"] == row["tokens"]


def test_a_broken_greedy_arm_fails_and_the_tie_says_that_it_was_none(make, tmp_path, lm):
    target = make()
    base, ngram = ready(target, tmp_path)
    broken = Broken(ngram, lambda tokens: [*tokens[:-1], tokens[-1] ^ 1])
    found = audits(target, [base, broken])
    assert found["baseline"]["passed"]
    assert not found["ngram"]["passed"]
    assert found["ngram"]["diverged"] == 7
    assert found["ngram"]["tokens"] - found["ngram"]["likeliest"] == 7
    assert found["ngram"]["margin"] >= found["ngram"]["tie"] > found["ngram"]["tolerance"]


def test_a_tie_that_rounding_decides_is_no_fault(make, tmp_path, monkeypatch, lm):
    target = make(requests=1)
    gap = 1e-6
    scores = np.zeros((12, 20), dtype=np.float32)
    scores[:, 3], scores[:, 4] = 10.0, 10.0 + gap

    def planted(_target, _ids, tokens):
        import torch

        return torch.from_numpy(scores[: len(tokens)])

    monkeypatch.setattr(lossless, "_scores", planted)
    sides = [Scripted("baseline", lambda ids: [4] * 12), Scripted("ngram", lambda ids: [4, 3] * 6)]
    found = audits(target, sides)
    assert found["ngram"]["likeliest"] == 6 and found["ngram"]["passed"]
    assert (found["ngram"]["diverged"], found["ngram"]["tie"]) == (1, pytest.approx(gap, abs=1e-6))
    scores[:, 4] = 10.1
    assert not audits(target, sides)["ngram"]["passed"]


SAMPLED = {"temperature": 0.8, "requests": 28, "max_new_tokens": 24}


def test_honest_sampled_arms_pass(make, tmp_path):
    target = make(**SAMPLED, top_p=0.9)
    found = audits(target, ready(target, tmp_path))
    for row in found.values():
        assert row["passed"] and row["outside_support"] == 0
        assert row["low"] <= row["difference"] <= row["high"] and row["tokens"] > 300


def test_a_broken_sampled_arm_fails(make, tmp_path):
    """One that takes the likeliest token although a law was asked for, and one that ignores the filters."""
    target = make(**SAMPLED)
    greedy = make(**SAMPLED | {"temperature": 0.0})
    cold = audits(target, [ready(target, tmp_path)[0], ready(greedy, tmp_path)[1]])
    assert cold["baseline"]["passed"] and not cold["ngram"]["passed"]
    assert cold["ngram"]["difference"] < 0
    filtered = make(**SAMPLED, top_k=2)
    loose = audits(filtered, [ready(filtered, tmp_path)[0], ready(target, tmp_path)[1]])
    assert loose["baseline"]["passed"] and not loose["ngram"]["passed"]
    assert loose["ngram"]["outside_support"] > 0


def test_sampled_answers_are_compared_with_nobodys(make, tmp_path):
    target = make(**SAMPLED | {"requests": 2})
    rows = [one.row(target) for one in latency.run(target, ready(target, tmp_path), latency.requests(target))]
    assert {row["token_equal"] for row in rows} == {None}


# --- batches ----------------------------------------------------------------------------------------------------------


def test_throughput_cycles_short_benchmarks(make, capsys):
    target = make(batch_sizes=[1, 3, 8], batch_requests=6)
    arm = Scripted("baseline")
    asked = requests(("one",), ("two", "never read"))
    rows = list(throughput.run(target, [arm, Scripted("ngram")], asked))
    texts = [[target.tokenizer.decode(ids) for ids in batch] for batch in arm.asked]
    assert [len(batch) for batch in texts] == [1] * 6 + [3] * 2 + [8]
    words = ["two" if "two" in text else "one" for text in itertools.chain(*texts)]
    assert words == ["one", "two"] * 3 + ["one", "two"] * 3 + ["one", "two"] * 4
    assert not any("never read" in text for text in itertools.chain(*texts))
    assert all(len(set(seeds)) == len(seeds) for seeds in arm.seeds)
    assert len(rows) == 2 * 9
    for row in rows:
        assert row.keys() == THROUGHPUT
        assert row["new_tokens"] == 3 * row["batch_size"]
        assert row["wall_s"] == 1.0 and row["s_per_token"] == pytest.approx(1 / row["new_tokens"])
        assert row["steps"] == 2 * row["batch_size"]
    assert {row["order"] for row in rows if row["arm"] == "baseline"} == {0, 1}


def test_batches_that_an_engine_cannot_do_are_left_out(make):
    assert throughput.sizes(make(batch_sizes=[1, 4])) == [1, 4]
    assert throughput.sizes(make(batch_sizes=[1, 4], backend="transformers")) == [1]
    assert throughput.sizes(make(batch_sizes=[4], method="eagle", tree_width=2)) == []


# --- costs and traces -------------------------------------------------------------------------------------------------


def test_cost_rows(make):
    rows = list(lengths.run(make(traces=2), latency.requests(make(traces=2))))
    verify = [row for row in rows if row["arm"] == "verify"]
    method = [row for row in rows if row["arm"] == "ngram"]
    assert [row["tokens"] for row in verify] == list(lengths.VERIFIED) and verify[0]["tokens"] == 1
    assert [row["tokens"] for row in method] == list(lengths.DRAFTED)
    assert {frozenset(row) for row in verify} == {frozenset(ABOUT | {"tokens", "seconds", "context"})}
    assert {frozenset(row) for row in method} == {
        frozenset(ABOUT | {"tokens", "seconds", "speedup", "mean_acceptance_length"})
    }
    assert all(row["seconds"] > 0 for row in rows)
    assert all(1 <= row["mean_acceptance_length"] <= 1 + row["tokens"] for row in method)


def test_costs_stay_within_the_models_positions(make, lm):
    """A prompt that fills the model leaves no room for sixteen more tokens behind the middle of its answer."""
    target = make(traces=1, max_new_tokens=4, method="baseline")
    rows = list(lengths.run(target, requests((" word" * 2000,))))
    assert {row["context"] for row in rows} == {target.context - max(lengths.VERIFIED)}


@pytest.mark.parametrize("changes", [{"backend": "transformers"}, {"traces": 0}])
def test_no_costs_and_traces_without_our_engine_or_requests(make, changes):
    target = make(**changes)
    assert list(lengths.run(target, latency.requests(target))) == []
    assert list(traces.run(target, latency.requests(target))) == []


def test_a_trace_is_what_drafting_far_from_every_position_would_have_hit(make, tmp_path):
    """Against a search by definition over the answer that the baseline gives."""
    target = make(traces=7, max_new_tokens=24)
    asked = latency.requests(target)
    base = ready(target, tmp_path)[0]
    rows = list(traces.run(target, asked))
    assert [row["prompt"] for row in rows] == list(range(7))
    hits = 0
    for row, request in zip(rows, asked, strict=True):
        assert row.keys() == TRACE and row["arm"] == "ngram"
        ids = latency.encode(target, request.turns)[0]
        answer = base.run([ids], [0])[0].tokens
        assert row["new_tokens"] == len(answer)
        assert len(row["drafted_trace"]) == len(row["correct_trace"]) == len(answer) - 1
        for place in range(1, len(answer)):
            guess = followers(ids + answer[:place])
            assert row["drafted_trace"][place - 1] == len(guess)
            known = answer[place : place + len(guess)]
            right = agreeing(guess, known)
            if right < len(known) or len(known) == len(guess):  # else the trace knows what came behind the end
                assert row["correct_trace"][place - 1] == right
                hits += right
    assert hits > 20


def agreeing(guess: list[int], known: list[int]) -> int:
    """Tokens that agree from the beginning on."""
    pairs = zip(guess, known, strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def followers(text: list[int], longest: int = 4, count: int = traces.AHEAD) -> list[int]:
    """What followed the first earlier occurrence of the longest ending that has one."""
    for size in range(min(longest, len(text) - 1), 0, -1):
        for start in range(len(text) - size):
            if text[start : start + size] == text[-size:]:
                return text[start + size : start + size + count]
    return []


# --- vLLM -------------------------------------------------------------------------------------------------------------


class FakeEngine(Scripted):
    """Stands in for a vLLM arm: says when it lives."""

    alive = 0

    def __init__(self, engine, speculation, decoding, log, drafter=None) -> None:
        super().__init__(speculation.method, lambda ids: [5] * decoding.max_new_tokens)
        self.engine, self.drafter = engine, drafter

    def __enter__(self):
        FakeEngine.alive += 1
        return self

    def __exit__(self, *exc):
        FakeEngine.alive -= 1


def test_with_vllm_no_weights_are_loaded_before_the_engine_is_gone(micro_path, lm, tmp_path, monkeypatch):
    loads = []

    def load(name, **options):
        loads.append((name, FakeEngine.alive))
        return lm

    monkeypatch.setattr(hub, "load", load)
    monkeypatch.setattr(vllm_backend, "VllmArm", FakeEngine)
    changes = {"backend": "vllm", "method": "draft", "draft_model": "ladder-micro", "max_model_len": 100}
    target = Target(resolve("2a_specdec", SMALL | changes))
    assert target.outline.parameters == lm.parameters and target.outline.stop_ids == lm.stop_ids
    asked = latency.requests(target)
    with arms.ready(target, tmp_path / "log.txt", seats=9) as engines:
        assert [(e.name, e.drafter) for e in engines] == [("baseline", None), ("draft", micro_path)]
        timed = list(latency.run(target, engines, asked))
        rows = list(throughput.run(target, engines, asked))
        assert FakeEngine.alive == 2 and not loads and rows
    assert not list(lengths.run(target, asked)) and not list(traces.run(target, asked)) and not loads
    assert engines[0].engine == engines[1].engine
    engine = engines[0].engine
    assert (engine.model, engine.dtype, engine.max_model_len, engine.max_num_seqs) == (micro_path, "float32", 100, 9)
    verdicts = [row["passed"] for row in lossless.audit(target, timed)]
    assert verdicts == [False, False]  # nobody's likeliest token is always 5
    assert loads == [("ladder-micro", 0)]


def test_vllm_is_told_of_random_weights_and_foreign_code(micro_path, tmp_path, monkeypatch):
    """Else real weights are timed, and called random."""
    monkeypatch.setattr(vllm_backend, "VllmArm", FakeEngine)
    changes = {"backend": "vllm", "method": "baseline", "load_format": "dummy", "trust_remote_code": True, "threads": 2}
    (arm,) = ready(Target(resolve("2a_specdec", SMALL | changes)), tmp_path)
    assert (arm.engine.load_format, arm.engine.trust_remote_code, arm.engine.threads) == ("dummy", True, 2)


def test_a_model_that_only_its_engine_can_hold_is_not_audited_and_the_run_goes_on(make, monkeypatch, capsys):
    target = make(requests=1)
    timed = list(latency.run(target, [Scripted("baseline")], latency.requests(target)))
    del vars(target)["lm"]

    def too_large(name, **options):
        raise ModelError("Big needs 145 GB and cuda has 80 GB: take a smaller model.")

    monkeypatch.setattr(hub, "load", too_large)
    assert list(lossless.audit(target, timed)) == []
    assert "Not audited, since the model cannot be loaded beside its engine: Big needs" in capsys.readouterr().err


# --- what is read of it -----------------------------------------------------------------------------------------------


class FakeRun:
    """What `results.frame` reads of a run."""

    def __init__(self, target, folder) -> None:
        self.params, self.dir = target.params, folder


def table_of(target, tmp_path, **arm_of) -> pd.DataFrame:
    asked = latency.requests(target)
    engines = arm_of.get("engines") or ready(target, tmp_path)
    timed = list(latency.run(target, engines, asked))
    rows = [one.row(target) for one in timed]
    rows += [*throughput.run(target, engines, asked), *lossless.audit(target, timed)]
    rows += [*lengths.run(target, asked), *traces.run(target, asked)]
    return results.frame(FakeRun(target, tmp_path), rows)


def test_tables_of_a_paired_run(make, tmp_path):
    target = make(requests=14, traces=1)
    table = table_of(target, tmp_path)
    own = table[table.protocol == "latency"]
    shown = report.by_category(own, "ngram")
    assert shown.prompt_overlap[:-1].is_monotonic_increasing
    assert set(shown.index) == {*CATEGORIES, "all"} and shown.index[-1] == "all"
    wide = own.pivot(index="prompt", columns="arm", values="s_per_token")
    assert shown.speedup["all"] == pytest.approx((wide.baseline / wide.ngram).median())
    ours = own[own.arm == "ngram"]
    assert shown.tokens_per_forward["all"] == pytest.approx((ours.new_tokens - 1).sum() / ours.steps.sum())
    stories = ours[ours.category == "story"]
    assert shown.acceptance_rate["story"] == pytest.approx(stories.accepted.sum() / stories.drafted.sum())
    assert shown.requests.to_dict() == dict.fromkeys(CATEGORIES, 2) | {"all": 14}
    assert list(report.by_batch(table[table.protocol == "throughput"]).index) == [1, 2]
    assert report.audits(table).equal.to_dict() == {"baseline": 1.0, "ngram": 1.0}
    assert report.answer(table, "ngram").startswith("ngram on ladder_micro (torch), times the baseline's speed: ")
    assert report.draw(specdec_positions.positions, table)
    assert report.draw(specdec_predicted.predicted, table)
    summary = report.summary(table)
    assert [row["arm"] for row in summary["speedups"]] == ["ngram"] and len(summary["audit"]) == 2
    assert (summary["parameters"], summary["dummy"]) == (target.outline.parameters, False)


@pytest.mark.parametrize(
    "changes",
    [
        {"paired": False},
        {"method": "baseline"},
        {"batch_sizes": []},
        {"traces": 0},
        {"temperature": 0.8},
        {"max_new_tokens": 2},  # no 4-gram, so no overlap
        {"backend": "transformers"},
    ],
)
def test_tables_of_every_other_run(make, tmp_path, changes, capsys):
    target = make(**{"traces": 1} | changes)
    table, method = table_of(target, tmp_path), target.params.method
    latencies = table[table.protocol == "latency"]
    shown = report.by_category(latencies, method)
    assert len(shown) == 8 and not shown.isna().all().any()
    assert ("speedup" in shown) == (target.params.paired and method != "baseline")
    batches = report.by_batch(table[table.protocol == "throughput"])
    assert (batches is not None) == bool(throughput.sizes(target))
    assert set(report.audits(table).index) == set(latencies.arm)
    drawn = report.draw(specdec_positions.positions, table)
    assert (drawn is None) == (method == "baseline")
    assert ("No figure: this run drafted nothing." in capsys.readouterr().out) == (method == "baseline")
    drawn = report.draw(specdec_predicted.predicted, table)
    assert (drawn is None) == ("No figure: " in capsys.readouterr().out)
    answer = report.answer(table, method)
    assert ("tokens/s" in answer) == ("speedup" not in shown) and math.isfinite(shown.ms_per_token["all"])
    assert report.summary(table)["audit"]


def test_random_weights_are_said_first(make, tmp_path):
    table = table_of(make(traces=0, requests=1), tmp_path).assign(dummy=True)
    assert report.answer(table, "ngram").startswith("RANDOM WEIGHTS, cost only. ngram on")


def test_the_head_is_loaded_once(make, monkeypatch):
    from lib.models import eagle_files

    target, loads = make(method="eagle", eagle_model="ladder-micro"), []
    monkeypatch.setattr(Target, "drafter_folder", lambda self, method: method)
    monkeypatch.setattr(eagle_files, "load", lambda folder, model: loads.append(folder) or model)
    for _ in range(3):
        assert isinstance(arms.drafter(target, target.speculation("eagle"), target.decoding), Eagle)
    assert loads == ["eagle"]
    gc.collect()


def test_positions_of_a_tree_are_depths_and_its_drafted_tokens_are_nodes(make):
    target = make(method="eagle", tree_width=2, num_speculative_tokens=3)
    request = Request("a", "story", ("Go on.",))
    answer = Response([5] * 7, drafted=[6, 6], accepted=[3, 1], wall_s=1.0, prefill_s=0.5, decode_s=0.5)
    row = latency.Timed(latency.Asked(0, request, 0, [1, 2], 0), "eagle", answer, 0, 0).row(target)
    assert (row["drafted"], row["accepted"]) == (12, 4)
    assert (row["drafted_at"], row["accepted_at"]) == ([2, 2, 2], [2, 1, 1])
    assert row["acceptance_histogram"] == [0, 1, 0, 1]
