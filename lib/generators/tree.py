"""Coalesced tree sampling: N samples of a prompt, every prefix that several of them share decoded once.

All N samples start at the prompt. At each step every live prefix goes through the model once, all of them in one
forward, and the m samples that have a prefix choose their next tokens from its law: those that take the same token
stay together, the others part. Where the model is sure nothing splits, and where it is not the tree branches by
itself. There is no threshold, no branching factor and no pruning; at most N prefixes are live, and the multiplicities
of live and finished ones always sum to N.

How the m samples choose is the count law (`counts`): a child's expected multiplicity is m times its probability, which
is all that unbiased averages need. `tree` uses systematic counts, `tree_multinomial` independent ones (exactly the
samples of separate generation), `arithmetic` the codes of arithmetic sampling.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from torch import LongTensor, Tensor, nn

from lib.generators.coalesce import invert, merge
from lib.generators.common import Drawn, Sample, SamplingParams, per_group, requested
from lib.generators.counts import CountLaw, Systematic
from lib.generators.engines import PackedTree
from lib.generators.fixed_shapes import FixedTree
from lib.generators.sampling import probabilities
from lib.metrics.cost import CostMeter

NONE = -1  # no token: the sample has stopped


@per_group
def generate(
    model: nn.Module, prompts: list[LongTensor], params: SamplingParams, seeds: list[int], meter: CostMeter
) -> list[Drawn]:
    """N samples of each of B prompts [P], with systematic counts."""
    return grow(model, prompts, params, seeds, meter, Systematic)


def grow(
    model: nn.Module,
    prompts: list[LongTensor],
    params: SamplingParams,
    seeds: list[int],
    meter: CostMeter,
    law: type[CountLaw],
    apart: bool = False,
) -> list[Drawn]:
    """Decode the trees of B prompts side by side; `apart` starts every sample on a path of its own, never merged."""
    n, steps = requested(params), params.max_new_tokens
    trees = Trees(len(prompts), n, law(seeds, n, steps), params, apart)
    if params.compile:
        engine = FixedTree(model, prompts, n, steps, meter)
    else:
        engine = PackedTree(model, prompts, len(prompts) * n * steps, meter)
    with engine:
        logits = engine.roots(trees.prompts())
        for t in range(steps):
            trees.advance(t, logits)
            if t == steps - 1 or not len(trees.parents):
                break
            logits = engine.step(trees.parents, trees.last_tokens, trees.prompts())
    return trees.finish(model.config.vocab_size)


class Trees:
    """The B x N samples so far (sample i of prompt b has number b N + i), and their live prefixes.

    Prefix d holds samples[starts[d] : starts[d + 1]]; it ends in last_tokens[d] and grew from row parents[d].
    """

    def __init__(self, b: int, n: int, law: CountLaw, params: SamplingParams, apart: bool) -> None:
        self._n, self._law, self._params = n, law, params
        self._stop_ids = np.array(params.stop_ids, dtype=np.int64)
        self.samples = np.arange(b * n)
        self.starts = np.arange(0, b * n + 1, 1 if apart else n)
        self.parents = self.last_tokens = np.zeros(len(self.starts) - 1, dtype=np.int64)
        self._tokens = np.full((b * n, params.max_new_tokens), NONE)
        self._logprobs = np.zeros(b * n)
        self._history: list[tuple[np.ndarray, ...]] = []  # per step: prompt, samples, children, entropy of every prefix

    def prompts(self) -> np.ndarray:
        """int64 [D]: the prompt of every live prefix."""
        return self.samples[self.starts[:-1]] // self._n

    def advance(self, t: int, logits: Tensor) -> None:
        """Let the samples of every live prefix draw from its logits [D, V], and part where they differ."""
        logits = logits.float()
        points = self._law.points(t, self.samples, self.starts)
        drawn = invert(logits, probabilities(logits, self._params), self._params.temperature, self.starts, points)
        self._law.carry(t, self.samples, drawn.probs, drawn.within)
        self._tokens[self.samples, t] = drawn.tokens
        self._logprobs[self.samples] += np.log(drawn.probs)
        children = merge(drawn.tokens, self.samples, self.starts, self._stop_ids)
        self._history.append((self.prompts(), np.diff(self.starts), children.split, drawn.entropies))
        self.parents, self.last_tokens, self.samples, self.starts, _ = children

    def finish(self, vocab_size: int) -> list[Drawn]:
        """Per prompt the N samples in their order, and the trace: EAB's, and a sample's estimated entropy in nats."""
        rows, logprobs = self._tokens.tolist(), self._logprobs.tolist()
        samples = [Sample([x for x in row if x != NONE], p, 1 / self._n) for row, p in zip(rows, logprobs, strict=True)]
        prompt, m, split, entropy = (np.concatenate(column) for column in zip(*self._history, strict=True))
        step = np.repeat(np.arange(len(self._history)), [len(prompts) for prompts, *_ in self._history])
        drawn = []
        for b in range(len(rows) // self._n):
            mine = prompt == b
            trace: dict[str, Any] = {
                "live": np.bincount(step[mine]).tolist(),
                "branch_positions": step[mine & (split > 1)].tolist(),
                "pruned": 0,
                "trees": 1,
                "paths": 1 + int((split[mine] - 1).sum()),
                "normalised_entropy": float(entropy[mine].sum()) / math.log(vocab_size),
                "entropy": float(m[mine] @ entropy[mine]) / self._n,
            }
            drawn.append((samples[b * self._n : (b + 1) * self._n], trace))
        return drawn
