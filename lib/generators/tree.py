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
from dataclasses import dataclass
from typing import Any

import torch
from torch import LongTensor, Tensor, nn

from lib.generators.common import Drawn, Sample, SamplingParams, per_group, requested
from lib.generators.counts import CountLaw, Systematic
from lib.generators.engines import PackedTree
from lib.generators.sampling import probabilities
from lib.metrics.cost import CostMeter


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
    trees = [Tree(n, law(seed, n, steps), apart) for seed in seeds]
    with PackedTree(model, prompts, len(prompts) * n * steps, meter) as engine:
        logits = engine.roots([b for b, tree in enumerate(trees) for _ in tree.live])
        for t in range(steps):
            _advance(trees, logits, t, params)
            rows = [node for tree in trees for node in tree.live]
            if not rows or t == steps - 1:
                break
            logits = engine.step([node.parent for node in rows], [node.token for node in rows])
    return [tree.finish(model.config.vocab_size) for tree in trees]


@dataclass(slots=True)
class Node:
    """A live prefix: the samples that have it, the row of its parent in the last forward, and its last token."""

    samples: list[int]
    parent: int = 0
    token: int = -1


class Tree:
    """The samples of one prompt so far, and what happened where."""

    def __init__(self, n: int, law: CountLaw, apart: bool) -> None:
        self.law = law
        self.live = [Node([i]) for i in range(n)] if apart else [Node(list(range(n)))]
        self.tokens: list[list[int]] = [[] for _ in range(n)]
        self.logprobs = [0.0] * n
        self.leaves = 0
        self.widths: list[int] = []  # live prefixes per step
        self.branchings: list[int] = []  # the step of every prefix that split
        self.entropy = 0.0  # nats, sum over nodes, each counted once per sample
        self.entropy_of_nodes = 0.0  # nats, sum over nodes

    def advance(self, t: int, rows: range, drawn: Choices, stop_ids: tuple[int, ...]) -> None:
        """Hand every sample the token drawn for it; `rows` are the live nodes' rows."""
        children: list[Node] = []
        for node, row in zip(self.live, rows, strict=True):
            groups: dict[int, list[int]] = {}
            for sample, token, logprob in zip(node.samples, drawn.tokens[row], drawn.logprobs[row], strict=False):
                groups.setdefault(token, []).append(sample)
                self.tokens[sample].append(token)
                self.logprobs[sample] += logprob
            children += [Node(samples, row, token) for token, samples in groups.items()]
            self.branchings += [t] * (len(groups) > 1)
            self.entropy += len(node.samples) * drawn.entropies[row]
            self.entropy_of_nodes += drawn.entropies[row]
        self.widths.append(len(self.live))
        self.live = [child for child in children if child.token not in stop_ids]
        self.leaves += len(children) - len(self.live)

    def finish(self, vocab_size: int) -> Drawn:
        """The N samples in their order, and the trace: EAB's, and an estimate of the entropy of a sample in nats."""
        n = len(self.tokens)
        trace: dict[str, Any] = {
            "live": self.widths,
            "branch_positions": self.branchings,
            "pruned": 0,
            "trees": 1,
            "paths": self.leaves + len(self.live),
            "normalised_entropy": self.entropy_of_nodes / math.log(vocab_size),
            "entropy": self.entropy / n,
        }
        return [Sample(tokens, p, 1 / n) for tokens, p in zip(self.tokens, self.logprobs, strict=True)], trace


@dataclass(frozen=True)
class Choices:
    """What the samples of each row drew, the row's samples in order; entries behind them mean nothing."""

    tokens: list[list[int]]
    logprobs: list[list[float]]  # nats
    within: list[list[float]]  # where inside the token's interval of the CDF the point fell, in [0, 1)
    entropies: list[float]  # nats, of each row's law


def _advance(trees: list[Tree], logits: Tensor, t: int, params: SamplingParams) -> None:
    """Let the samples of all live nodes draw from the nodes' logits [D, V]."""
    points = [p for tree in trees for p in tree.law.points(t, [node.samples for node in tree.live])]
    drawn = _choose(logits, points, params)
    first = 0
    for tree in trees:
        rows = range(first, first + len(tree.live))
        for node, row in zip(tree.live, rows, strict=True):
            m = len(node.samples)
            tree.law.carry(node.samples, drawn.logprobs[row][:m], drawn.within[row][:m])
        tree.advance(t, rows, drawn, params.stop_ids)
        first = rows.stop


def _choose(logits: Tensor, points: list[list[float]], params: SamplingParams) -> Choices:
    """Invert each row's CDF at its points."""
    most = max(map(len, points))
    u = torch.tensor([p + [0.0] * (most - len(p)) for p in points], dtype=torch.float64, device=logits.device)
    probs = probabilities(logits, params)
    cdf = probs.cumsum(-1, dtype=torch.float64)
    targets = u * cdf[:, -1:]
    tokens = torch.searchsorted(cdf, targets, right=True)
    chosen = probs.gather(-1, tokens).double()
    logprobs = chosen.log()
    within = 1 - (cdf.gather(-1, tokens) - targets) / chosen
    # H = ln Z - E[logit] / T, and ln Z = logit / T - ln p of any token that may be drawn: no second pass of logarithms.
    logits = logits.float()
    entropies = (logits.gather(-1, tokens[:, :1])[:, 0] - torch.linalg.vecdot(probs, logits)) / params.temperature
    entropies = entropies - logprobs[:, 0]
    numbers = torch.cat([tokens.double(), logprobs, within, entropies.unsqueeze(-1)], -1).tolist()
    return Choices(
        [[int(x) for x in row[:most]] for row in numbers],
        [row[most : 2 * most] for row in numbers],
        [row[2 * most : 3 * most] for row in numbers],
        [row[-1] for row in numbers],
    )
