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
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import LongTensor, Tensor, nn

from lib.generators.coalesce import Draws, invert, merge
from lib.generators.common import Drawn, Sample, SamplingParams, per_group, requested
from lib.generators.counts import CountLaw, Systematic
from lib.generators.engines import PackedTree
from lib.generators.fixed_shapes import FixedTree
from lib.generators.sampling import probabilities, uniforms
from lib.metrics.cost import CostMeter

ORDER_STREAM = 2**31 + 1  # numbers that belong to no sample and to no count law
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
    trees = Trees(seeds, n, law(seeds, n, steps), params, apart)
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
            prompts_of_rows = trees.prompts() if len(prompts) > 1 else None
            logits = engine.step(trees.parents, trees.last_tokens, prompts_of_rows)
    return trees.finish(model.config.vocab_size)


class Trees:
    """The B x N samples (sample i of prompt b has number b N + i) and their live prefixes.

    Prefix d holds samples[starts[d] : starts[d + 1]]; it ends in last_tokens[d] and grew from row parents[d]. What a
    step drew is only filed away while the model waits; `finish` puts it together.
    """

    def __init__(self, seeds: list[int], n: int, law: CountLaw, params: SamplingParams, apart: bool) -> None:
        self._b, self._n, self._law, self._params = len(seeds), n, law, params
        self._stop_ids = np.array(params.stop_ids, dtype=np.int64)
        shuffled = [b * n + np.argsort(uniforms(seed, ORDER_STREAM, n)) for b, seed in enumerate(seeds)]
        self.samples = np.concatenate(shuffled)  # so that no sample's number says which point it gets
        self.starts = np.arange(0, len(self.samples) + 1, 1 if apart else n)
        self.parents = self.last_tokens = np.zeros(len(self.starts) - 1, dtype=np.int64)
        self._steps: list[tuple[np.ndarray, np.ndarray, Draws, np.ndarray]] = []

    def prompts(self) -> np.ndarray:
        """int64 [D]: the prompt of every live prefix."""
        return self.samples[self.starts[:-1]] // self._n

    def advance(self, t: int, logits: Tensor) -> None:
        """Let the samples of every live prefix draw from its logits [D, V], and part where they differ."""
        logits = logits.float()
        points = self._law.points(t, self.samples, self.starts)
        probs = probabilities(logits, self._params)
        drawn = invert(logits, probs, self._params.temperature, self.starts, points)
        self._law.carry(t, self.samples, drawn.probs, drawn.within)
        children = merge(drawn.tokens, self.samples, self.starts, self._stop_ids)
        self._steps.append((self.samples, self.starts, drawn, children.split))
        self.parents, self.last_tokens, self.samples, self.starts, _ = children

    def finish(self, vocab_size: int) -> list[Drawn]:
        """Per prompt the N samples in their order, and the trace: EAB's, and a sample's estimated entropy in nats."""
        samples, starts, drawn, split = zip(*self._steps, strict=True)
        step = np.repeat(np.arange(len(samples)), list(map(len, samples)))
        sample = np.concatenate(samples)
        tokens = np.full((self._b * self._n, len(samples)), NONE)
        tokens[sample, step] = np.concatenate([d.tokens for d in drawn])
        logs = np.log(np.concatenate([d.probs for d in drawn]))
        logprobs = np.bincount(sample, weights=logs).tolist()
        rows = [[x for x in row if x != NONE] for row in tokens.tolist()]
        made = [Sample(row, p, 1 / self._n) for row, p in zip(rows, logprobs, strict=True)]
        traces = self._traces(samples, starts, np.concatenate(split), np.concatenate([d.entropies for d in drawn]))
        log_vocab = math.log(vocab_size)
        for trace in traces:
            trace["normalised_entropy"] /= log_vocab
        return [(made[b * self._n : (b + 1) * self._n], trace) for b, trace in enumerate(traces)]

    def _traces(
        self, samples: Sequence[np.ndarray], starts: Sequence[np.ndarray], split: np.ndarray, entropy: np.ndarray
    ) -> list[dict[str, Any]]:
        """One trace per prompt; `split` and `entropy` are of all prefixes of all steps, in their order."""
        prompt = np.concatenate([of[at[:-1]] for of, at in zip(samples, starts, strict=True)]) // self._n
        m = np.concatenate([at[1:] - at[:-1] for at in starts])
        step = np.repeat(np.arange(len(starts)), [len(at) - 1 for at in starts])
        traces = []
        for b in range(self._b):
            mine = prompt == b
            traces.append(
                {
                    "live": np.bincount(step[mine]).tolist(),
                    "branch_positions": step[mine & (split > 1)].tolist(),
                    "pruned": 0,
                    "trees": 1,
                    "paths": 1 + int((split[mine] - 1).sum()),
                    "normalised_entropy": float(entropy[mine].sum()),
                    "entropy": float(m[mine] @ entropy[mine]) / self._n,
                }
            )
        return traces
