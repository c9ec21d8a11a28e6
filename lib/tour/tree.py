"""A tree of entropy-adaptive branching, written down while it grows: every node, and how unsure the model was there."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators import eab
from lib.generators.common import SamplingParams
from lib.generators.engines import Engine, PackedTree
from lib.generators.sampling import entropy, probabilities
from lib.metrics.cost import CostMeter

Path = tuple[int, ...]  # the tokens that lead to a node from the end of the prompt


@dataclass(frozen=True)
class Node:
    """One token of the tree; the root stands for the end of the prompt and has no token."""

    path: Path
    entropy: float | None  # of the law behind it, as a share of ln |V|; None where nothing was drawn there
    probability: float  # under the law in front of it; 1 of the root


@dataclass(frozen=True)
class Tree:
    """What EAB grew from one prompt: nodes, parents before children, and its samples' paths."""

    nodes: dict[Path, Node]
    samples: list[Path]
    threshold: float
    pruned: int
    token_forwards: int  # tokens that went through the model behind the prompt
    separately: int  # the same, had each sample been decoded alone

    def children(self, path: Path) -> list[Path]:
        """The nodes that go on from a node, in the order in which they were drawn."""
        return [other for other in self.nodes if len(other) == len(path) + 1 and other[:-1] == path]

    @property
    def unsure(self) -> list[Node]:
        """The nodes at which EAB branched: those whose entropy reaches the threshold."""
        return [node for node in self.nodes.values() if node.entropy is not None and node.entropy >= self.threshold]

    @property
    def cut(self) -> list[Path]:
        """Where pruning took all that went on: ends that are no sample's."""
        before = {path[:-1] for path in self.nodes if path}
        return [path for path in self.nodes if path not in before and path not in self.samples]


def grow(model: nn.Module, prompt: LongTensor, params: SamplingParams, seed: int) -> Tree:
    """Let EAB grow one tree from prompt int64 [P] (params.num_samples is None), and keep what it saw."""
    nodes = params.max_paths * params.max_new_tokens
    with torch.inference_mode(), CostMeter(model) as meter, PackedTree(model, [prompt], nodes, meter) as engine:
        watched = _Watched(engine, params)
        samples, trace = eab.branch(watched, model.config.vocab_size, params, seed)
    paths = [tuple(sample.tokens) for sample in samples]
    alone = sum(len(path) - 1 for path in paths)  # the last token of a sample is never read
    return Tree(watched.nodes(paths), paths, params.threshold, trace["pruned"], meter.cost.decode_tokens, alone)


class _Watched:
    """An engine that writes down the law behind each path that it is asked about."""

    def __init__(self, engine: Engine, params: SamplingParams) -> None:
        self._engine, self._params = engine, params
        self._laws: dict[Path, Tensor] = {}
        self._live: list[Path] = []

    def __enter__(self) -> _Watched:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def roots(self, prompts: np.ndarray) -> Tensor:
        return self._seen([()] * len(prompts), self._engine.roots(prompts))

    def step(self, parents: np.ndarray, tokens: np.ndarray, prompts: np.ndarray | None = None) -> Tensor:
        paths = [(*self._live[parent], int(token)) for parent, token in zip(parents, tokens, strict=True)]
        return self._seen(paths, self._engine.step(parents, tokens, prompts))

    def _seen(self, paths: list[Path], logits: Tensor) -> Tensor:
        self._live = paths
        self._laws |= dict(zip(paths, probabilities(logits, self._params), strict=True))
        return logits

    def nodes(self, samples: list[Path]) -> dict[Path, Node]:
        """Every path that was live, and those of the samples, shortest first."""
        ends = [sample for sample in samples if sample not in self._laws]
        return {path: self._node(path) for path in sorted([*self._laws, *ends], key=len)}

    def _node(self, path: Path) -> Node:
        law = self._laws.get(path)
        share = None if law is None else float(entropy(law)) / math.log(len(law))
        return Node(path, share, float(self._laws[path[:-1]][path[-1]]) if path else 1.0)


def reading(trees: Mapping[float, Tree], threshold: float) -> str:
    """What came out at a threshold, and at the lowest and highest of all that were tried."""
    tree, lowest, highest = trees[threshold], trees[min(trees)], trees[max(trees)]
    asked = sum(node.entropy is not None for node in tree.nodes.values())
    return (
        f"At {threshold:g} the model was unsure at {len(tree.unsure)} of {asked} places. EAB took {_paths(tree)} "
        f"through it with {tree.token_forwards} tokens, where decoding each alone takes {tree.separately}. At "
        f"{lowest.threshold:g} there are {_paths(lowest)} and {lowest.pruned} were pruned; at {highest.threshold:g}, "
        f"{_paths(highest)}."
    )


def _paths(tree: Tree) -> str:
    return f"{len(tree.samples)} path{'s' if len(tree.samples) > 1 else ''}"
