"""Entropy-adaptive branching (EAB) as its authors describe it, on an engine that decodes all live paths of a step
at once.

The algorithm, from the published code: at every step each live path looks at the entropy of its next-token law
(after temperature and filters), divided by ln |V| (the vocabulary of the model's configuration, padding ids
included). At or above `threshold` it branches into `branch_factor` different tokens (sampled without replacement),
below it draws one. Branching respects a budget of `max_paths` minus the paths live when the step began: if only 0 <
b < branch_factor places are left it makes b children, and with none left it still makes two and leaves it to
pruning, which keeps the `max_paths` paths of highest log-probability. A path that emits a stop id is complete and
leaves the budget, so a tree may return more than `max_paths` samples. All samples count the same.

That sampler is biased (children get equal weights, pruning drops the tail, a gate hands one draw to all
descendants); it is kept faithful here so that its cost and its bias can be measured. `num_samples=None` returns
what one tree returns. Asked for N samples, further trees grow from the same prefilled prompt, all together, with the
budget of what is missing, until there are N; a surplus is dropped at random and its cost counts. (Growing more trees
is ours: the published EAB returns what one tree returns.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.common import Output, Sample, SamplingParams, per_prompt
from lib.generators.decode import uniform_weights
from lib.generators.engines import Engine, PackedTree
from lib.generators.sampling import draw_distinct, entropy, probabilities, uniforms
from lib.metrics.cost import CostMeter

TREE_STRIDE = 2**32  # tree i reads streams (i + 1) * TREE_STRIDE + step: shared with no other tree and no other arm


@per_prompt
def generate(
    model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int, meter: CostMeter
) -> tuple[list[Sample], dict[str, Any]]:
    """EAB with one forward per step for all live paths."""
    with PackedTree(model, [prompt], params.max_paths * params.max_new_tokens, meter) as engine:
        return branch(engine, model.config.vocab_size, params, seed)


def branch(engine: Engine, vocab_size: int, params: SamplingParams, seed: int) -> tuple[list[Sample], dict[str, Any]]:
    """Grow as many trees as the asked number of samples needs; samples and a trace of what branched where."""
    forest = _Forest(engine, math.log(vocab_size), params, seed)
    paths: list[Path] = []
    while not paths or len(paths) < (params.num_samples or 0):
        missing = (params.num_samples or 1) - len(paths)
        more = math.ceil(missing * forest.trees / len(paths)) if paths else 1
        paths += forest.grow(more, max(missing, params.branch_factor) if paths else params.max_paths)
    trace = forest.trace | {"trees": forest.trees, "paths": len(paths)}
    if params.num_samples and len(paths) > params.num_samples:
        paths = [paths[i] for i in _kept(len(paths), params.num_samples, seed)]
    return uniform_weights([(path.tokens, path.logprob) for path in paths]), trace


def fewer(output: Output, n: int, seed: int) -> Output:
    """What one tree returned, as it is where n samples are asked for, which are no more than that: at the same cost."""
    samples = [replace(output.samples[i], weight=1 / n) for i in _kept(len(output.samples), n, seed)]
    return replace(output, samples=samples)


def _kept(paths: int, n: int, seed: int) -> list[int]:
    """The n of so many paths that are left where the surplus is dropped at random, in order."""
    return sorted(np.argsort(uniforms(seed, 2**63, paths))[:n].tolist())


@dataclass(frozen=True)
class Path:
    """A live or finished path of one tree."""

    tree: int
    tokens: list[int]
    logprob: float  # nats
    parent: int = 0  # index among the paths of the step before

    def child(self, index: int, token: int, logprob: float) -> Path:
        return Path(self.tree, [*self.tokens, token], self.logprob + logprob, index)


class _Forest:
    """The branching itself, engine aside. Trees grown together share forwards and nothing else."""

    def __init__(self, engine: Engine, max_entropy: float, params: SamplingParams, seed: int) -> None:
        self._engine, self._params, self._seed = engine, params, seed
        self._max_entropy = max_entropy
        self.trees = 0
        self.trace: dict[str, Any] = {"live": [], "branch_positions": [], "pruned": 0, "normalised_entropy": 0.0}

    def grow(self, n: int, max_paths: int) -> list[Path]:
        """Grow n more trees of a budget; all their paths, tree by tree, those that met a stop id first."""
        self._max_paths = min(max_paths, self._params.max_paths)
        live = [Path(self.trees + i, [], 0.0) for i in range(n)]
        self.trees += n
        finished: list[Path] = []
        logits = self._engine.roots(np.zeros(n, dtype=np.int64))
        for t in range(self._params.max_new_tokens):
            if t > 0:
                parents, tokens = np.array([[path.parent, path.tokens[-1]] for path in live]).T
                logits = self._engine.step(parents, tokens)
            children = self._children(live, logits, t)
            finished += [c for c in children if c.tokens[-1] in self._params.stop_ids]
            live = self._prune([c for c in children if c.tokens[-1] not in self._params.stop_ids])
            if not live:
                break
        return sorted(finished + live, key=lambda path: path.tree)

    def _children(self, live: list[Path], logits: Tensor, t: int) -> list[Path]:
        k = self._params.branch_factor
        entropies, tokens, logprobs = self._draw(live, logits, t)
        places = {tree: self._max_paths - len(list(paths)) for tree, paths in groupby(live, lambda p: p.tree)}
        children = []
        for i, path in enumerate(live):
            branches = entropies[i] >= self._params.threshold
            width = (min(k, places[path.tree]) if places[path.tree] > 0 else 2) if branches else 1
            drawn = [(int(tok), lp) for tok, lp in zip(tokens[i][:width], logprobs[i], strict=False) if tok >= 0]
            children += [path.child(i, token, logprob) for token, logprob in drawn]
            if len(drawn) > 1:
                self.trace["branch_positions"].append(t)
        self.trace["live"].append(len(live))
        self.trace["normalised_entropy"] += sum(entropies)
        return children

    def _draw(self, live: list[Path], logits: Tensor, t: int) -> tuple[list, list, list]:
        """Normalised entropy, k distinct tokens and their log-probabilities of every path, in one transfer from the
        device.
        """
        probs = probabilities(logits, self._params)
        tokens = draw_distinct(probs, self._uniforms(live, t).to(logits.device))
        logprobs = probs.gather(-1, tokens.clamp(min=0)).log()
        rows = torch.cat([entropy(probs).unsqueeze(-1) / self._max_entropy, tokens, logprobs], -1).tolist()
        k = self._params.branch_factor
        return [r[0] for r in rows], [r[1 : k + 1] for r in rows], [r[k + 1 :] for r in rows]

    def _uniforms(self, live: list[Path], t: int) -> Tensor:
        """float64 [D, k]: the j-th live path of a tree reads the j-th row of stream (tree, t)."""
        k = self._params.branch_factor
        per_tree = [
            uniforms(self._seed, (tree + 1) * TREE_STRIDE + t, len(list(paths)) * k).reshape(-1, k)
            for tree, paths in groupby(live, lambda p: p.tree)
        ]
        return torch.from_numpy(np.concatenate(per_tree))

    def _prune(self, paths: list[Path]) -> list[Path]:
        """Per tree the max_paths most probable, in their order."""
        kept = []
        for _, group in groupby(paths, lambda p: p.tree):
            tree = list(group)
            if len(tree) > self._max_paths:
                ranked = sorted(range(len(tree)), key=lambda i: -tree[i].logprob)
                self.trace["pruned"] += len(tree) - self._max_paths
                tree = [tree[i] for i in sorted(ranked[: self._max_paths])]
            kept += tree
        return kept
