"""Measurements with a known truth, as ugly as the real ones, for `lib.claims.calibration`.

Spreads are those of finished runs, beside each number: `standard` runs of 3a, 4a, 4b and 4c and `quick` ones of 1a3 and
2a. Where a truth is planted it is the mean over what the claim's test resamples: prompts, seeds, or seeds and items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

SOURCE = {"run": "synthetic", "stale": False}
LADDER = (57_000, 164_416, 919_680, 2_781_504)  # parameters of 1a3's four models
PROMPTS, PROMPT_SPREAD, CELL_SPREAD = 20, 0.2, 0.35  # log2 speedup: common to all models, and of one on one prompt
MAZE_SIZES = {"pico": 7_172, "nano": 22_772, "micro": 48_612, "mini": 84_692}
FAILS, LOST = 1 / 6, (15.0, 45.0)  # PoH-HRM: one training of six ends this many points below the others
SEED_SPREAD, STEADY_SPREAD = 4.0, 2.0  # points between the other trainings, and between those of a stack
DRAFTING = {"num_speculative_tokens": 5, "prompt_lookup_max": 4}  # the plan's
SEEDS, ITEMS = 4, 1000  # of 4a and 4b
EASE = 0.87, 0.35  # mean and concentration of the share of seeds that solve an item: items spread by 29 points
OWN = 0.15  # of the items are as hard for one arm as any other item
TRAINED_SPREAD = 0.7  # points between trainings of a bridge: 0.4 to 1.5


def skewed(rng: np.random.Generator, shape: int | tuple[int, ...], spread: float) -> np.ndarray:
    """Noise of mean zero with this standard deviation, skewness 1.3 and excess kurtosis 3 (4c's times: 1.1 and 3.8)."""
    drawn = np.exp(0.4 * rng.normal(size=shape))
    return spread * (drawn - np.exp(0.08)) / np.sqrt(np.exp(0.32) - np.exp(0.16))


def ladder(rng: np.random.Generator, slope: float) -> pd.DataFrame:
    """1a3: EAB as published, whose log2 speedup grows by `slope` per doubling."""
    doublings = np.log2(LADDER) - np.log2(LADDER).mean()
    gain = 2 + slope * doublings[:, None] + rng.normal(0, PROMPT_SPREAD, PROMPTS)
    gain = gain + skewed(rng, (len(LADDER), PROMPTS), CELL_SPREAD)
    sizes, prompts = np.repeat(LADDER, PROMPTS), np.tile(np.arange(PROMPTS), len(LADDER))
    return timed(rng, gain.ravel(), prompts).assign(model=np.tile(sizes, 2).astype(str), parameters=np.tile(sizes, 2))


def of_one_model(rng: np.random.Generator, log2: float, prompts: int, **about: object) -> pd.DataFrame:
    """1a3: prompts of one model whose mean log2 speedup is this, in the plan's settings."""
    gain = log2 + skewed(rng, prompts, CELL_SPREAD)
    return timed(rng, gain, np.arange(prompts)).assign(**about)


def timed(rng: np.random.Generator, gain: np.ndarray, prompts: np.ndarray) -> pd.DataFrame:
    """1a3: seconds without and with EAB, which differ by these log2 speedups [prompts, of any number of models]."""
    seconds = rng.lognormal(sigma=0.5, size=len(gain))
    wall, arm = np.concatenate([seconds, seconds / 2**gain]), np.repeat(["naive", "eab_sequential"], len(gain))
    made = pd.DataFrame({"prompt": np.tile(prompts, 2), "wall_s": wall, "arm": arm})
    return made.assign(protocol="matched", dummy=False, threshold=0.1, **SOURCE)


def trainings(rng: np.random.Generator, mean: float, shape: tuple[int, ...], fails: bool) -> np.ndarray:
    """Percent of mazes solved by trained models; `fails`: one in six of them fails."""
    if not fails:
        return mean + rng.normal(0, STEADY_SPREAD, shape)
    lost = (rng.random(shape) < FAILS) * rng.uniform(*LOST, shape)
    return mean + FAILS * np.mean(LOST) - lost + rng.normal(0, SEED_SPREAD, shape)


def points(
    rng: np.random.Generator, ahead: Sequence[float], fails: tuple[bool, bool], seeds: Sequence[int]
) -> np.ndarray:
    """3a: one arm minus another in percent [sizes, seeds], NaN where a size has fewer seeds; means as `ahead` says."""
    shape = (len(ahead), max(seeds))
    made = trainings(rng, 0.0, shape, fails[0]) - trainings(rng, 0.0, shape, fails[1]) + np.array(ahead)[:, None]
    return np.where(np.arange(shape[1]) < np.array(seeds)[:, None], made, np.nan)


def mazes(rng: np.random.Generator, ahead: Mapping[str, float]) -> pd.DataFrame:
    """3a: PoH-HRM, which fails now and then, is so many points ahead of the stack at each size, on 6 seeds."""
    counts, frames = MAZE_SIZES | {"tiny": 10**6, "small": 2 * 10**6, "medium": 10**7, "large": 10**8}, []
    for size, more in ahead.items():
        for arch, solved in (
            ("poh", trainings(rng, 45.0 + more, (6,), True)),
            ("stack", trainings(rng, 45.0, (6,), False)),
        ):
            made = {"seed": range(6), "accuracy": solved / 100, "size": size, "arch": arch, "parameters": counts[size]}
            frames.append(pd.DataFrame(made))
    return pd.concat(frames, ignore_index=True).assign(protocol="result", maze_size=8, R=4, T=4, **SOURCE)


def answers(rng: np.random.Generator, easy: np.ndarray, percent: Sequence[float]) -> np.ndarray:
    """What trainings of these mean accuracies get right [trainings, items], 0 or 1.

    easy: [items], from `items`, shared by the arms of a comparison but for OWN of them.
    """
    mean = EASE[0]
    own = np.where(rng.random(len(easy)) < OWN, items(rng, len(easy)), easy)
    shift = np.asarray(percent)[:, None] / 100 - mean
    share = np.where(shift > 0, own + (1 - own) * shift / (1 - mean), own * (1 + shift / mean))
    return (rng.random(share.shape) < share).astype(int)


def items(rng: np.random.Generator, n: int = ITEMS) -> np.ndarray:
    """How often each item is solved [n]: most always, some never."""
    mean, concentration = EASE
    return rng.beta(concentration * mean, concentration * (1 - mean), n)


def bridges(rng: np.random.Generator, percent: float, fails: float = 0.0) -> np.ndarray:
    """Mean accuracies [SEEDS] of a bridge; `fails`: the share of trainings that end 10 to 20 points lower."""
    lost = (rng.random(SEEDS) < fails) * rng.uniform(10, 20, SEEDS)
    return percent + 15 * fails - lost + rng.normal(0, TRAINED_SPREAD, SEEDS)


def bridge_run(label: str, tables: Mapping[tuple[str, str, bool], np.ndarray], **about: object) -> list[dict]:
    """4a: rows of one configuration's arms, {(arm, checkpoint, decoded with hygiene): answers}."""
    return [
        {"protocol": "arm", "arm": arm, "checkpoint": checkpoint, "decode_hygiene": hygiene, "run": label}
        | {"seed": seed if checkpoint else None, "correct": "".join(map(str, marks)), "label": label, **about}
        for (arm, checkpoint, hygiene), table in tables.items()
        for seed, marks in enumerate(table)
    ]


def stability(label: str, peak: np.ndarray, final: np.ndarray, **about: object) -> list[dict]:
    """4a: rows on the course of trainings, from percent at the peak and at the end."""
    return [
        {"protocol": "stability", "early_stopping": False, "decode_hygiene": False, "run": label, "label": label}
        | {"seed": seed, "peak": high / 100, "final": low / 100, "degradation": (high - low) / 100, "why": "accuracy"}
        | {"collapsed": low < 0.7 * high, **about}
        for seed, (high, low) in enumerate(zip(peak, final, strict=True))
    ]


def study(rows: Sequence[dict]) -> pd.DataFrame:
    """4a: rows of configurations of the small pair as a table with the columns that tell configurations apart."""
    same = {"source": "bridge-source", "target": "bridge-target", "task": "arithmetic", "kind": "resampler"}
    same |= {"stressor": "", "soft_tokens": 16, "wire_dim": 16, "bottleneck": 64, "depth": 2, "heads": 4, "ffn": 256}
    same |= {"info_nce": 0.05, "distill": 0.0, "reconstruct": 0.0, "optimizer": "muon", "learning_rate": 0.01}
    same |= {"steps": 400, "batch_size": 64, "patience": 5, "hygiene": True, "stale": False}
    return pd.DataFrame([same | row for row in rows])
