"""Measurement rows of 4a with known answers, for tests of what is drawn from them and of the claims.

`rows` makes every protocol of the configurations given: dictionaries made by `config`, or one of the sets below
(`FACTORIAL`, `SERIES`, ..., all together `STUDY`). What is planted, per label: `accuracy` (of the best weights, on
validation and test items alike, without hygiene) and `end` (of the last weights; by default the same). `collapsed`
names seeds of a label that end at COLLAPSED of their peak, with messages that say nothing. `noise` is the standard
deviation over seeds; accuracies are counts of `n_test` items, so without noise a planted share that is a multiple of
1 / n_test comes back exactly, and `correct` has as many ones. Items differ in difficulty, the same for all arms.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from lib.metrics import messages

N_TEST, EVALUATIONS, PATIENCE, STEPS = 200, 11, 5, 400
COLLAPSED = 0.44  # of the peak accuracy: the plan's 81.5 -> 36
HYGIENE_COSTS = 0.02  # of accuracy, text and bridged alike
ANCHOR_TOKENS, TEXT_BYTES, ENTROPY_BITS = 4, 104.0, 23.5
DISTINCT_GOLD = 0.25  # different gold answers / items
SMALL_PAIR = {"source": "bridge-source", "target": "bridge-target"}
PLAN_PAIR = {"source": "mistralai/Mistral-7B-Instruct-v0.3", "target": "meta-llama/Llama-3.1-8B-Instruct"}
TEXT_TOKENS = {"bridge-target": 37.6, PLAN_PAIR["target"]: 150.0}
KV_BYTES_PER_TOKEN = {"bridge-target": 3072, PLAN_PAIR["target"]: 131072}
FIXED = {"info_nce": 0.05, "patience": PATIENCE, "hygiene": True}
UNFIXED = {"info_nce": 0.0, "patience": 0, "hygiene": False}
# Arms that need no trained message: planted accuracy, and positions that the target reads (None: those of the text).
TEXT = {
    "source_alone": (0.98, None),
    "target_alone": (0.975, None),
    "relay": (0.97, 60.0),
    "truncated": (0.03, None),
    "prefix_text": (0.985, None),
    "constant": (0.04, None),
}
DESTROYED = {"shuffled": 0.03, "mean": 0.02, "zero": 0.01, "noise": 0.025}
SHIFTED = {"harder": 0.3, "numbers": 0.2, "wording": 0.8}  # of the accuracy on the test split
MULTIHOP = ("multihop", "hotpotqa")


def config(label: str, soft_tokens: int = 16, **changes) -> dict:
    """The columns that describe a configuration; by default with all fixes, of the trained small pair."""
    shape = {"kind": "resampler", "soft_tokens": soft_tokens, "wire_dim": 16, "bottleneck": 64, "depth": 2, "heads": 4}
    losses = FIXED | {"distill": 0.0, "reconstruct": 0.0, "stressor": ""}
    recipe = {"optimizer": "muon", "learning_rate": 0.01, "steps": STEPS, "batch_size": 64}
    made = {"task": "arithmetic", **SMALL_PAIR, "label": label, **shape, "ffn": 256, **losses, **recipe, **changes}
    return {"parameters": parameters(made), **made}


def parameters(of: Mapping) -> int:
    """Weights of a resampler of this shape, roughly."""
    width = of["bottleneck"]
    block = 8 * width**2 + 2 * width * of["ffn"]
    return of["depth"] * block + of["soft_tokens"] * width + 2 * of["wire_dim"] * width


STABLE, BASELINE = config("1a_stable_16tok"), config("1b_baseline_16tok", **UNFIXED)
FACTORIAL = (
    STABLE,
    BASELINE,
    config("1_distill_16tok", **UNFIXED | {"distill": 1.0}),
    config("1_info_nce_distill_16tok", distill=1.0),
)
SERIES = (  # the seed's: all of the shape changes with the number of tokens
    config("2a_stable_8tok", 8, bottleneck=48, depth=1, heads=2, ffn=192),
    config("2b_stable_12tok", 12, bottleneck=64, depth=1, heads=4),
    STABLE,
)
EQUAL_SHAPE = tuple(config(f"2_shape_{k}tok", k) for k in (4, 8, 32))  # and STABLE
EQUAL_BYTES = tuple(config(f"2_bytes_{k}tok", k, wire_dim=256 // k) for k in (4, 8, 32))
EQUAL_PARAMETERS = tuple(config(f"2_parameters_{k}tok", k, ffn=256 + (16 - k) // 4) for k in (4, 8, 32))
RIVALS = tuple(config(f"rival_{kind}", kind=kind) for kind in ("mean_pool", "linear"))
TASKS = (config("3a_multihop_16tok", task="multihop"),)
STRESSED = tuple(
    config(f"stress_{stressor}_{name}", stressor=stressor, **changes)
    for stressor in ("rate_x10", "decay")
    for name, changes in {"none": UNFIXED, "info_nce": UNFIXED | {"info_nce": 0.05}, "all": {}}.items()
)
STUDY = (*FACTORIAL, *SERIES[:2], *EQUAL_SHAPE, *EQUAL_BYTES, *EQUAL_PARAMETERS, *RIVALS, *TASKS, *STRESSED)
PLAN = (  # the plan's own configurations on its own pair
    config("1a_stable_64tok", 64, **PLAN_PAIR, task="gsm8k", bottleneck=1024, depth=8, heads=16, ffn=4096),
    config("1b_baseline_64tok", 64, **PLAN_PAIR, task="gsm8k", bottleneck=1024, depth=8, heads=16, ffn=4096, **UNFIXED),
    config("2a_stable_32tok", 32, **PLAN_PAIR, task="gsm8k", bottleneck=768, depth=4, heads=12, ffn=3072),
    config("2b_stable_48tok", 48, **PLAN_PAIR, task="gsm8k", bottleneck=1024, depth=6, heads=16, ffn=4096),
    config("3a_hotpotqa_64tok", 64, **PLAN_PAIR, task="hotpotqa", bottleneck=1024, depth=8, heads=16, ffn=4096),
)


def planted(of: Mapping) -> float:
    """The accuracy that `rows` plants unless told otherwise: grows with soft tokens, the rivals are worse."""
    small, large = {4: 0.6, 8: 0.8, 12: 0.9, 16: 0.95, 32: 0.96}, {32: 0.55, 48: 0.7, 64: 0.81}
    at = (large if of["target"] == PLAN_PAIR["target"] else small)[of["soft_tokens"]]
    return at * {"resampler": 1.0, "mean_pool": 0.5, "linear": 0.6}[of["kind"]]


def collapsing(configs: Sequence[Mapping] = STUDY, seeds: int = 4) -> dict[str, Collection[int]]:
    """All seeds of the stressed configurations without InfoNCE, and the first of the baseline."""
    found = {of["label"]: range(seeds) for of in configs if of["stressor"] and not of["info_nce"]}
    return found | {BASELINE["label"]: (0,)}


def rows(
    configs: Sequence[Mapping] = STUDY,
    seeds: int = 4,
    accuracy: Mapping[str, float] | None = None,
    end: Mapping[str, float] | None = None,
    collapsed: Mapping[str, Collection[int]] | None = None,
    text: Mapping[str, float] | None = None,
    hygiene_costs: float = HYGIENE_COSTS,
    noise: float = 0.01,
    n_test: int = N_TEST,
    rng_seed: int = 0,
) -> pd.DataFrame:
    """Every protocol. `text`: accuracy of arms that need no message, by name, in place of TEXT's.

    Columns that a protocol lacks are NaN, as in tables loaded from runs.
    """
    rng, made = np.random.default_rng(rng_seed), []
    accuracy, end = accuracy or {}, end or {}
    collapsed = collapsing(configs, seeds) if collapsed is None else collapsed
    for of in configs:
        of_task = np.random.default_rng([rng_seed, *of["task"].encode()])  # so text arms are the same in all its runs
        judge = _Judge(of, hygiene_costs, n_test, of_task)
        common = {"run": f"{of['label']}_x", "preset": "quick", "stale": False, **of}
        found = _of_no_seed(judge, {name: share for name, (share, _) in TEXT.items()} | dict(text or {}))
        judge.rng = rng
        for seed in range(seeds):
            peak = float(np.clip(accuracy.get(of["label"], planted(of)) + rng.normal(0, noise), 0, 1))
            last = min(1.0, end.get(of["label"], peak) + (rng.normal(0, noise) if of["label"] in end else 0))
            lost = seed in collapsed.get(of["label"], ())
            weights = {"best": peak, "final": COLLAPSED * peak if lost else last}
            found += [{"seed": seed} | row for row in _of_seed(judge, weights, lost)]
        made += [common | row for row in found]
    return pd.DataFrame(made)


class _Judge:
    """Turns shares into counts and strings on the test items of a configuration's task."""

    def __init__(self, of: Mapping, hygiene_costs: float, n_test: int, rng: np.random.Generator) -> None:
        self.of, self.hygiene_costs, self.n_test, self.rng = of, hygiene_costs, n_test, rng
        self.difficulty = rng.random(n_test)

    def share(self, share: float, hygiene: bool) -> float:
        """The share that decoding hygiene leaves, a count of test items."""
        return round(self.n_test * max(0.0, share - self.hygiene_costs * hygiene)) / self.n_test

    def items(self, share: float, hygiene: bool) -> dict:
        """accuracy and correct: the easiest items, give or take what differs from arm to arm."""
        accuracy = self.share(share, hygiene)
        order = np.argsort(self.difficulty + self.rng.normal(0, 0.2, self.n_test))
        correct = np.isin(np.arange(self.n_test), order[: round(accuracy * self.n_test)])
        return {"n": self.n_test, "accuracy": accuracy, "correct": "".join(np.where(correct, "1", "0"))}


def _of_no_seed(judge: _Judge, text: Mapping[str, float]) -> list[dict]:
    arms = [
        _arm(judge, arm, share, hygiene, TEXT[arm][1] or TEXT_TOKENS[judge.of["target"]])
        | {"seed": None, "checkpoint": ""}
        for arm, share in text.items()
        for hygiene in (False, True)
    ]
    shifts = [
        {"protocol": "shift", "seed": None, "split": split, "arm": "target_alone"}
        | judge.items(rest * text["target_alone"], False)
        for split, rest in SHIFTED.items()
        if judge.of["task"] == "arithmetic"
    ]
    return arms + shifts


def _of_seed(judge: _Judge, weights: Mapping[str, float], lost: bool) -> Iterator[dict]:
    curve = list(_curve(judge, weights, lost))
    yield from curve
    yield from _stability(judge, weights, curve)
    own, hygiene = "best" if judge.of["patience"] else "final", judge.of["hygiene"]
    positions = judge.of["soft_tokens"] + ANCHOR_TOKENS
    for checkpoint, share in weights.items():
        for decode in (False, True):
            yield _arm(judge, "bridged", share, decode, positions) | {"checkpoint": checkpoint}
    for arm, share in DESTROYED.items():
        yield _arm(judge, arm, share, hygiene, positions) | {"checkpoint": own}
    text = TEXT_TOKENS[judge.of["target"]] + ANCHOR_TOKENS
    yield _arm(judge, "oracle", TEXT["target_alone"][0], hygiene, text) | {"checkpoint": own}
    if judge.of["task"] == "arithmetic":
        for split, rest in SHIFTED.items():
            found = judge.items(rest * weights[own], hygiene)
            yield {"protocol": "shift", "split": split, "arm": "bridged"} | found
    yield _cost(judge.of)


def _curve(judge: _Judge, weights: Mapping[str, float], lost: bool) -> Iterator[dict]:
    """Up to the best weights in equal steps, reached half-way, then in equal steps to the last ones."""
    half, of = EVALUATIONS // 2, judge.of
    for i in range(EVALUATIONS):
        share = weights["best"] * min(1, i / half)
        share += (weights["final"] - weights["best"]) * max(0, i - half) / (EVALUATIONS - 1 - half)
        gone = lost and i == EVALUATIONS - 1
        ce, delta = 2.5 - 2.4 * share, 0.01 if gone else 2.5 * share
        first = i == 0
        yield {
            "protocol": "curve", "step": i * of["steps"] // (EVALUATIONS - 1), "train_s": 1.5 * i,
            "loss": None if first else ce + 0.1, "loss_answer": None if first else ce,
            "loss_info_nce": None if first or not of["info_nce"] else 2 * (1 - share) + 0.1,
            "loss_distill": None if first or not of["distill"] else 1.5 * (1 - share),
            "loss_reconstruct": None, "grad_norm": None if first else 1.0 + share,
            "rate": of["learning_rate"] * (1 - i / EVALUATIONS), "val_accuracy": judge.share(share, False),
            "val_accuracy_hygiene": judge.share(share, True), "val_ce": ce, "val_ce_shuffled": ce + delta,
            "delta_ce": delta, "distinct": 0.01 if gone else 0.05 + 0.2 * share, "invalid": 0.1 * (1 - share),
            "cosine": 0.99 if gone else 0.8 - 0.3 * share, "effective_rank": 1.2 if gone else 3 + 40 * share,
        }  # fmt: skip


def _stability(judge: _Judge, weights: Mapping[str, float], curve: Sequence[Mapping]) -> Iterator[dict]:
    for hygiene in (False, True):
        seen = [row["val_accuracy_hygiene" if hygiene else "val_accuracy"] for row in curve]
        for stopping in (False, True):
            best, stop = messages.early_stop(seen, PATIENCE)
            kept = best if stopping else len(seen) - 1
            last = curve[kept]
            why = messages.collapse(max(seen), seen[kept], last["delta_ce"], last["distinct"], DISTINCT_GOLD)
            test = judge.share(weights["best" if stopping else "final"], hygiene)
            yield {
                "protocol": "stability", "early_stopping": stopping, "decode_hygiene": hygiene, "peak": max(seen),
                "final": seen[kept], "degradation": max(seen) - seen[kept], "test_accuracy": test,
                "n_test": judge.n_test, "best_step": curve[best]["step"],
                "stop_step": None if stop is None else curve[stop]["step"], "collapsed": bool(why),
                "why": "+".join(why),
            }  # fmt: skip


def _arm(judge: _Judge, arm: str, share: float, hygiene: bool, positions: float) -> dict:
    found = judge.items(share, hygiene)
    hop = judge.of["task"] in MULTIHOP
    positions = float(judge.of["soft_tokens"]) if arm == "truncated" else positions
    return {
        "protocol": "arm", "arm": arm, "decode_hygiene": hygiene, **found, "flexible": found["accuracy"],
        "em": found["accuracy"] if hop else None, "f1": min(1.0, found["accuracy"] + 0.01) if hop else None,
        "invalid": 0.05 * (1 - share), "capped": 0.02 * (1 - share), "distinct": 0.05 + 0.2 * share,
        "ce": None if arm in ("source_alone", "relay") else 2.5 - 2.4 * share, "context_tokens": positions,
    }  # fmt: skip


def _cost(of: Mapping) -> dict:
    tokens, values = of["soft_tokens"], of["soft_tokens"] * of["wire_dim"]
    text, kv = TEXT_TOKENS[of["target"]], KV_BYTES_PER_TOKEN[of["target"]]
    return {
        "protocol": "cost", "text_tokens": text, "token_ratio": text / tokens,
        "kv_bytes_text": kv * (text + ANCHOR_TOKENS), "kv_bytes_bridged": kv * (tokens + ANCHOR_TOKENS),
        "kv_bytes_per_token": kv, "message_bytes_fp16": 2 * values, "text_bytes": TEXT_BYTES,
        "entropy_bits": ENTROPY_BITS if of["task"] == "arithmetic" else None, "train_s": 1.5 * (EVALUATIONS - 1),
        "peak_memory_bytes": None,
    }  # fmt: skip
