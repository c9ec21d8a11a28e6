"""Measurement rows of 4c with known answers, for tests of what is drawn from them.

`SECONDS` are the planted stages of a batch of one; a batch of b takes sqrt(b) times as long. Batch i takes 1 + i / 10
times as long as the first, in all arms, and every repeat but the middle one is off by JITTER.
"""

import pandas as pd

MESSAGE8, MESSAGE4 = "quick/1a_stable_8tok", "quick/2a_stable_4tok"
TOKENS = {"text": None, MESSAGE8: 8, MESSAGE4: 4}
STAGES = (
    "source_tokenize", "source_prefill", "sender", "encode", "unpack", "receiver", "target_tokenize", "target_prefill",
    "decode",
)  # fmt: skip
SECONDS = {  # in milliseconds
    "text": (0, 0, 0, 0, 0, 0, 1, 9, 50),
    MESSAGE8: (1, 3, 1, 0.5, 0.25, 0.25, 0, 4, 48),
    MESSAGE4: (1, 3, 1, 0.25, 0.25, 0.5, 0, 2, 46),
}
SENT = {"text": 100, MESSAGE8: 160, MESSAGE4: 90}
KV = {"text": 1000, MESSAGE8: 700, MESSAGE4: 600}  # per question, at the end
SOURCE_KV, PEAK, SOURCE_PEAK = 300, 2, 500  # PEAK: times the cache
WEIGHTS = {"text": 5000, MESSAGE8: 8000, MESSAGE4: 8000}
BANDWIDTHS, BATCHES, REPEATS, SAMPLES, NEW = (0.0, 10.0, 1000.0), (1, 4, 8), 3, 24, 32
JITTER = 0.2
PADDED = (0, 2)  # batches of several questions whose texts are of different lengths
AFFORDABLE = {("here", 8): 0.5, ("here", 4): 0.7, ("plan", 64): 0.55, ("plan", 32): 0.76}


def batch_seconds(arm: str, size: int, number: int) -> dict[str, float]:
    """Planted seconds of each stage."""
    grown = 1e-3 * size**0.5 * (1 + number / 10)
    return {f"{stage}_s": grown * ms for stage, ms in zip(STAGES, SECONDS[arm], strict=True)}


def latency() -> list[dict]:
    made = []
    for arm, tokens in TOKENS.items():
        for size in BATCHES:
            for number in range(SAMPLES // size):
                for repeat in range(REPEATS):
                    off = 1 + JITTER * (repeat - 1)
                    times = {name: off * value for name, value in batch_seconds(arm, size, number).items()}
                    about = {"protocol": "latency", "arm": arm, "tokens": tokens, "batch_size": size}
                    about |= {"batch": number, "repeat": repeat, "sent_bytes": SENT[arm], "context_tokens": 29.0}
                    about |= {"padded_tokens": 30 if arm == "text" and size > 1 and number in PADDED else 29}
                    made.append(about | times | {"new_tokens": NEW, "device": "A machine, 1 thread"})
    return made


def memory() -> list[dict]:
    made = []
    for arm, tokens in TOKENS.items():
        for size in BATCHES:
            for number in range(2):
                own = arm != "text"
                held = {"kv_prefill_bytes": KV[arm] / 2, "kv_bytes": KV[arm], "peak_bytes": PEAK * KV[arm]}
                held |= {"source_peak_bytes": SOURCE_PEAK * own, "source_kv_bytes": SOURCE_KV * own}
                held = {name: size * value for name, value in held.items()} | {"weight_bytes": WEIGHTS[arm]}
                about = {"protocol": "memory", "arm": arm, "tokens": tokens, "batch_size": size, "batch": number}
                made.append(about | held | {"measured_by": "live tensors"})
    return made


def breakeven() -> list[dict]:
    made = []
    for (pair, tokens), affordable in AFFORDABLE.items():
        at = 25 if pair == "here" else 150
        for text in (16, at, 1024):
            flops = {"text_flops": 2.2e12, "message_flops": 1e12, "source_flops": 2e12, "bridge_flops": 1e11}
            about = {"protocol": "breakeven", "pair": pair, "tokens": tokens, "text_tokens": text}
            arm = {8: MESSAGE8, 4: MESSAGE4}.get(tokens, f"the plan's {tokens} tokens")
            size = {"affordable": affordable + 1e-4 * (text - at), "ratio": 0.9, "measured": text == at}
            made.append(about | flops | size | {"arm": arm})
    return made


def quality() -> list[dict]:
    return [
        {"protocol": "quality", "arm": arm, "tokens": tokens, "n": SAMPLES, "accuracy": 0.75, "capped": 0.0}
        for arm, tokens in TOKENS.items()
    ]


def serving() -> list[dict]:
    rates = {"text": 10.0, MESSAGE8: 12.0, MESSAGE4: 13.0}
    engine = {"vllm": "0.32.0", "device": "A machine", "dtype": "float32", "new_tokens": NEW}
    return [
        {"protocol": "serving", "arm": arm, "tokens": TOKENS[arm], "batch_size": size, "repeat": repeat}
        | {"samples_per_s": rate * size + repeat - 1}
        | engine
        for arm, rate in rates.items()
        for size in BATCHES
        for repeat in range(REPEATS)
    ]


def frame(made: list[dict], run: str = "run_1", **changed: object) -> pd.DataFrame:
    """Rows as `lib.runs.load` reads them: beside the run and its parameters."""
    params = {"bridges": (MESSAGE8, MESSAGE4), "bandwidths": BANDWIDTHS, "batches": BATCHES, "samples": SAMPLES}
    params |= {"repeats": REPEATS, "new_tokens": NEW, "codec": "int8", "backend": "torch", "preset": "quick"}
    return pd.DataFrame([{"run": run, "stale": False} | params | changed | row for row in made])


def rows() -> pd.DataFrame:
    """Everything that a run with timed stages holds."""
    return frame([*memory(), *quality(), *latency(), *breakeven()])
