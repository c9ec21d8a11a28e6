"""Measurement rows of 4b with known answers, for tests of what is drawn from them and of the claims.

`rows` makes every protocol of the bridges given (made by `config`, or a set below). What is planted: `accuracy`, by
(label, codec) or by label for all of its codecs, else `planted`. Accuracies are counts of `n_test` items, so without
noise over seeds a planted share that is a multiple of 1 / n_test comes back exactly, and `correct` has as many ones. A
seed's codecs get right the same items but for what they lose, and a few swaps where `swaps` is above zero.

Like rows of finished runs, these have the run's own lists in the columns `seed` and `scales` of the protocols that do
not set them.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

N_TEST, HEADER, ANCHOR, CHECKSUM = 200, 24, 8, 4
BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "int6": 6, "int4": 4, "int3": 3, "int2": 2}
SCALES = {"fp32": 4, "fp16": 2}  # bytes
LOSES = {"int4": 0.01, "int3": 0.1, "int2": 0.45}  # of accuracy, without noise in training
LOSES_WITH_NOISE = {"int3": 0.02, "int2": 0.2}
TEXT_ACCURACY, TEXT_BYTES, ENTROPY_BYTES, PROMPT_BYTES = 0.975, 104.0, 2.9, 480.0
CODERS = {  # bytes per question, bytes that both sides hold beforehand
    "utf8": (TEXT_BYTES, 0), "deflate": (88.0, 0), "deflate_dict": (19.0, 32768), "zstd_dict": (17.0, 16384),
    "packed_ids": (47.0, 20_000), "lm": (4.2, 1_400_000),
}  # fmt: skip
GEOMETRY = (32, 48, 64)  # soft tokens of 4096 numbers
KV_BYTES = 18.75 * 2**20  # of 150 tokens
SMALL_PAIR = {"task": "arithmetic", "source": "bridge-source", "target": "bridge-target"}
ABOUT = (  # columns of message rows alone
    "label_of", "task", "source", "target", "tokens", "width", "noise", "train_steps", "bridge_parameters",
)  # fmt: skip
PLAN_PAIR = {
    "task": "gsm8k", "source": "mistralai/Mistral-7B-Instruct-v0.3", "target": "meta-llama/Llama-3.1-8B-Instruct",
}  # fmt: skip


def config(label: str, tokens: int = 16, width: int = 16, noise: int = 0, **changes) -> dict:
    """The columns that describe a run about one bridge; by default a relative of the plan's best on the small pair."""
    described = {"label_of": "1a_stable_16tok", "tokens": tokens, "width": width, "noise": noise, "train_steps": 320}
    asked = {"bridge": "standard/1a_stable_16tok", "soft_tokens": tokens, "wire_dim": width, "noise_bits": noise}
    made = {"label": label, **SMALL_PAIR, **described, **asked, "steps": 0, "group": 32, **changes}
    return {"bridge_parameters": 75_000 + 96 * made["tokens"] + 200 * made["width"], **made}


BEST = config("best", soft_tokens=0, wire_dim=0)
NARROW = config("narrow", width=6)
NOISY = config("noisy", noise=4)
NARROW_NOISY = config("narrow_noisy", width=6, noise=4)
FEW_NOISY = config("few_noisy", tokens=8, width=8, noise=3)
STUDY = (BEST, NARROW, NOISY, NARROW_NOISY, config("few", tokens=8, width=8), FEW_NOISY)
PLAN = (config("plan", 64, 4096, **PLAN_PAIR, bridge="full/1a_stable_64tok", label_of="1a_stable_64tok"),)


def planted(of: Mapping, codec: str) -> float:
    """The accuracy that `rows` plants unless told otherwise: less of narrower wires, and of coarser codecs."""
    whole = 0.98 - 0.4 / np.sqrt(of["tokens"] * of["width"]) - 0.005 * bool(of["noise"])
    return whole - (LOSES_WITH_NOISE if of["noise"] else LOSES).get(codec, 0.0)


def parts(tokens: int, width: int, codec: str, scales: str = "fp32", group: int = 32) -> dict[str, int]:
    """Bytes of each part of a frame."""
    values = tokens * width
    scale = SCALES[scales] * math.ceil(values / group) if codec.startswith("int") else 0
    return {
        "header_bytes": HEADER, "scale_bytes": scale, "code_bytes": math.ceil(values * BITS[codec] / 8),
        "anchor_bytes": ANCHOR, "checksum_bytes": CHECKSUM,
    }  # fmt: skip


def rows(
    configs: Sequence[Mapping] = STUDY,
    seeds: int = 4,
    accuracy: Mapping[tuple[str, str] | str, float] | None = None,
    coders: Mapping[str, tuple[float, float]] | None = None,
    noise: float = 0.0,
    swaps: float = 0.0,
    n_test: int = N_TEST,
    rng_seed: int = 0,
) -> pd.DataFrame:
    """Every protocol. `coders`: bytes and side bytes by coder, in place of `CODERS`'s; `noise`: standard deviation
    over seeds of all of a bridge's accuracies.
    """
    accuracy, made, rng = accuracy or {}, [], np.random.default_rng(rng_seed)
    difficulty = np.random.default_rng([rng_seed, 1]).random(n_test)
    for of in configs:
        run = {"run": f"{of['label']}_x", "stale": False, "preset": "quick", "seed": list(range(seeds))}
        run |= {"scales": list(SCALES), "codecs": list(BITS), "test": n_test}
        run |= {name: value for name, value in of.items() if name not in ABOUT}
        found = [*_texts(CODERS | dict(coders or {}), difficulty), *_geometry()]
        for seed in range(seeds):
            ease = difficulty + rng.normal(0, 0.2, n_test)
            luck = rng.normal(0, noise)
            for codec in BITS:
                share = accuracy.get((of["label"], codec), accuracy.get(of["label"], planted(of, codec)))
                answers = _answers(ease + rng.normal(0, 1, n_test) * swaps, share + luck)
                scales = list(SCALES) if codec.startswith("int") else [""]
                about = {name: of[name] for name in ABOUT}
                found += [about | {"seed": seed, **_message(of, codec, scale), **answers} for scale in scales]
        made += [run | row for row in found]
    return pd.DataFrame(made)


def _answers(ease: np.ndarray, share: float) -> dict:
    n = len(ease)
    right = round(n * float(np.clip(share, 0, 1)))
    correct = np.isin(np.arange(n), np.argsort(ease)[:right])
    return {"n": n, "accuracy": right / n, "correct": "".join(np.where(correct, "1", "0"))}


def _message(of: Mapping, codec: str, scales: str) -> dict:
    bytes_of = parts(of["tokens"], of["width"], codec, scales or "fp32", of["group"])
    frame = sum(bytes_of.values())
    coded = min(frame, frame - 0.1 * bytes_of["code_bytes"]) if codec != "fp32" else frame
    decibels = None if codec == "fp32" else 6.0 * BITS[codec]
    return {
        "protocol": "message", "codec": codec, "scales": scales, "frame_bytes": float(frame),
        "coded_bytes": float(coded), **bytes_of, "sqnr_db": decibels,
    }  # fmt: skip


def _texts(coders: Mapping[str, tuple[float, float]], difficulty: np.ndarray) -> list[dict]:
    answers = _answers(difficulty, TEXT_ACCURACY)
    texts = [
        {"protocol": "text", "coder": coder, "bytes": size, "side_bytes": side, "lossless": True, **answers}
        for coder, (size, side) in coders.items()
    ]
    return [*texts, {"protocol": "floor", "entropy_bytes": ENTROPY_BYTES}]


def _geometry() -> list[dict]:
    common = {"protocol": "geometry", "prompt_bytes": PROMPT_BYTES, "prompt_source": "GSM8K test", "assumption": ""}
    sizes = [(tokens, codec, scale) for tokens in GEOMETRY for codec in BITS for scale in SCALES]
    found = [
        {"geometry": f"{tokens} x 4096", "tokens": tokens, "width": 4096, "codec": codec, "scales": scale,
         "frame_bytes": float(sum(parts(tokens, 4096, codec, scale).values()))}
        for tokens, codec, scale in sizes
        if codec.startswith("int") or scale == "fp32"
    ]  # fmt: skip
    cache = {"geometry": "KV cache, Llama-3.1-8B", "tokens": 150, "width": 65536, "assumption": "150 tokens, assumed"}
    found.append(cache | {"codec": "kv_cache", "scales": "", "frame_bytes": KV_BYTES})
    for row in found:
        row["times_prompt"] = row["frame_bytes"] / PROMPT_BYTES
        row["scales"] = row["scales"] if row["codec"].startswith("int") else ""
    return [common | row for row in found]
