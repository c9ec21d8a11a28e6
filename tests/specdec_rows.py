"""Measurement rows of 2a with known answers, for tests of what is drawn from them."""

import numpy as np
import pandas as pd

SIZES = {"ladder-160k": 164_416, "ladder-3m": 2_781_504}
OVERLAP = {"story": 0.05, "maths": 0.2, "multihop": 0.4, "choice": 0.45, "edit": 0.9}  # category -> prompt_overlap
K, STEPS = 5, 40
SPEEDUPS = {"ngram": 1.4, "eagle": 1.9, "draft": 0.8}  # planted, on every model; transformers' ngram: 1.1
# Per request: steps that drafted at least i+1 tokens, of these those that accepted all before, and the token too.
COUNTS = {
    "baseline": ([0] * K, [0] * K, [0] * K),
    "ngram": ([20, 18, 16, 16, 16], [20, 9, 8, 8, 8], [10, 8, 8, 8, 6]),
    "eagle": ([STEPS] * K, [STEPS, 36, 27, 18, 9], [36, 27, 18, 9, 9]),
    "draft": ([STEPS] * K, [STEPS, 20, 10, 5, 5], [20, 10, 5, 5, 4]),
}


def common(model: str, arm: str, protocol: str, backend: str = "torch") -> dict:
    return {"run": f"{model}_x", "group": model.replace("-", "_"), "model": model, "parameters": SIZES[model]} | {
        "dummy": False, "backend": backend, "arm": arm, "protocol": protocol, "temperature": 0.0, "repeat": 0,
        "num_speculative_tokens": K, "max_new_tokens": 128,
    }  # fmt: skip


def latency_rows(per_category: int = 4, repeats: int = 1, backends: tuple[str, ...] = ("torch",)) -> pd.DataFrame:
    """Requests whose baseline times differ widely and whose speedups are the planted ones exactly."""
    rng, made = np.random.default_rng(0), []
    for backend in backends:
        for model in SIZES:
            for prompt in range(per_category * len(OVERLAP)):
                category = list(OVERLAP)[prompt % len(OVERLAP)]
                base = 1e-3 * rng.lognormal(sigma=0.5)
                for arm in ("baseline", *SPEEDUPS):
                    for repeat in range(repeats):
                        made.append(
                            common(model, arm, "latency", backend)
                            | {"prompt": prompt, "id": f"{category}-{prompt}", "category": category, "turn": 0}
                            | {"repeat": repeat, "prompt_overlap": OVERLAP[category]}
                            | _counted(arm)
                            | {"s_per_token": base / (SPEEDUPS | {"baseline": 1})[arm]}
                        )
    rows = pd.DataFrame(made)
    wall, prefill = rows.s_per_token * rows.new_tokens, rows.s_per_token
    return rows.assign(wall_s=wall, prefill_s=prefill, decode_s=wall - prefill, tokens_per_s=1 / rows.s_per_token)


def _counted(arm: str) -> dict:
    """The row columns that counts of drafted and accepted tokens give."""
    drafted, tested, accepted = COUNTS[arm]
    steps = STEPS + sum(COUNTS["eagle"][2]) - sum(accepted)  # every arm emits as many tokens
    histogram = -np.diff([steps, *accepted, 0])
    return {
        "new_tokens": 1 + steps + sum(accepted), "steps": steps, "draftless_steps": steps - drafted[0],
        "drafted": sum(drafted), "accepted": sum(accepted), "drafted_at": list(drafted), "tested_at": list(tested),
        "accepted_at": list(accepted), "acceptance_histogram": histogram.tolist(),
    }  # fmt: skip


def throughput_rows(batches: int = 6) -> pd.DataFrame:
    """Speedup 2 / sqrt(batch size) for eagle, which crosses 1 at 4; ngram always pays, draft never does."""
    made = []
    for model in SIZES:
        for size in (1, 2, 8, 16, 64):
            gains = {"baseline": 1.0, "eagle": 2 / size**0.5, "ngram": 1.2, "draft": 0.9}
            for prompt in range(batches):
                for arm, gain in gains.items():
                    row = {"prompt": prompt, "batch_size": size, "s_per_token": (1 + prompt) / size / gain}
                    made.append(common(model, arm, "throughput") | row)
    return pd.DataFrame(made)


def verify_s(tokens: int) -> float:
    """Seconds of a forward, on every model: six tokens cost 1.5 times one."""
    return 0.9e-3 + 0.1e-3 * tokens


DRAFT_S = {"ngram": 0.01e-3, "eagle": 0.1e-3, "draft": 0.5e-3}  # per drafted token


def cost_rows(repeats: int = 3) -> pd.DataFrame:
    """Timings whose median is the curve; the others are 20 % off to either side."""
    made = []
    for model in SIZES:
        costs = [("verify", q, verify_s(q)) for q in (1, 2, 4, 6, 8, 11, 16)]
        costs += [(arm, k, k * seconds) for arm, seconds in DRAFT_S.items() for k in (1, 5, 10)]
        for arm, tokens, seconds in costs:
            for repeat in range(repeats):
                row = {"tokens": tokens, "seconds": seconds * (1, 0.8, 1.2)[repeat % 3], "repeat": repeat}
                made.append(common(model, arm, "cost") | row)
    return pd.DataFrame(made)


PLACES = 40  # of a traced output, the prefill's token aside
TRACES = {  # drafted and correct tokens at every place
    "eagle": ([10] * PLACES, [2] * PLACES),
    "ngram": ([10] * 20 + [0] * 20, [9] * 20 + [0] * 20),
    "draft": ([10] * PLACES, [0] * PLACES),
}


def trace_rows(prompts: int = 6) -> pd.DataFrame:
    """Every output alike: n-gram knows the first half by heart, eagle two tokens anywhere, draft nothing."""
    made = []
    for model in SIZES:
        for prompt in range(prompts):
            for arm, (drafted, correct) in TRACES.items():
                row = {"prompt": prompt, "category": list(OVERLAP)[prompt % len(OVERLAP)], "new_tokens": PLACES + 1}
                made.append(common(model, arm, "trace") | row | {"drafted_trace": drafted, "correct_trace": correct})
    return pd.DataFrame(made)
