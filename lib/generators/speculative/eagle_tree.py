"""A small tree of EAGLE drafts: several guesses per place, verified together under one mask.

The tree grows by depth, as EAGLE-2's does (Li et al. 2024, arXiv 2406.16858): the `tree_width` likeliest nodes of each
depth are read by the head and offer as many children each, a node being as likely as the product of the head's
probabilities on its way; in the end the likeliest nodes of all depths stay, as many as depth times width. A parent is
at least as likely as its child, so what stays is a tree. Nodes are definite tokens, so the target's own choices are
followed through it (`acceptance`), greedy or sampled, and the law is kept.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.drafting import Draft, Rows
from lib.generators.speculative.eagle import Eagle
from lib.models.eagle import EagleHead


class EagleTree(Eagle):
    """Drafts a tree for the only row of a batch."""

    def __init__(self, head: EagleHead, speculation: Speculation, decoding: Decoding) -> None:
        super().__init__(head, speculation, decoding)
        self._depth, self._width = speculation.num_speculative_tokens, speculation.tree_width
        self.ahead = self._depth * self._width

    def propose(self, rows: Rows, room: int) -> Draft:
        """At most depth * width nodes, parents before children. ValueError for a batch of several rows."""
        if len(rows) > 1:
            raise ValueError("Trees are drafted for one request at a time: set batch_size to 1, or tree_width to 1.")
        if room < self._depth:  # at the end of the model's window
            return Draft.nothing(1)
        tokens, scores, parents = self._grow(rows)
        return _likeliest(tokens, scores, parents, self.ahead)

    def _grow(self, rows: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """All candidates by depth: tokens int64 [n], log-probabilities float [n], parents int64 [n] (0: the root)."""
        self._before = int(rows.length[0]) - 1  # slots of the head's cache that are no nodes
        self._used, sees = 0, np.zeros((0, 0), dtype=bool)
        logits = self._catch_up(rows)[None]  # [1, 1, V]: of the root's child
        guesses, likely, places = self._guess, torch.zeros(1, device=self._device), np.zeros(1, dtype=np.int64)
        tokens, scores, parents = [], [], []
        for depth in range(self._depth):
            best = logits[0].log_softmax(-1).topk(self._width)
            scored = (likely[:, None] + best.values).flatten()
            first = sum(map(len, tokens)) + 1
            tokens.append(best.indices.flatten().cpu().numpy())
            scores.append(scored.cpu().numpy())
            parents.append(places.repeat(self._width))
            if depth == self._depth - 1:
                break
            likely, kept = scored.topk(self._width)
            chosen = kept.cpu().numpy()
            places = first + chosen
            from_row = chosen // self._width
            sees = _extended(sees, from_row, self._width, root=depth == 0)
            guesses = self._read_nodes(best.indices.flatten()[kept], guesses[:, self._tensor(from_row)], depth, sees)
            logits = self._head.logits(guesses)
        return np.concatenate(tokens), np.concatenate(scores), np.concatenate(parents)

    def _read_nodes(self, tokens: Tensor, guesses: Tensor, depth: int, sees: np.ndarray) -> Tensor:
        """The head's guesses [1, w, h] at w nodes of one depth, each seeing the text and its own ancestors."""
        width = len(tokens)
        mask = np.ones((1, 1, width, self._before + sees.shape[1]), dtype=bool)
        mask[..., self._before :] = sees[-width:]
        slots = torch.arange(self._before + self._used, self._before + self._used + width, device=self._device)[None]
        self._used += width
        positions = torch.full_like(slots, self._before + depth)
        return self._head(tokens[None], guesses, positions, self._cache, slots, self._tensor(mask))


def _extended(sees: np.ndarray, from_row: np.ndarray, width: int, root: bool) -> np.ndarray:
    """Who sees whom after `width` more nodes: bool [n + width, n + width].

    Node j of the new depth descends from node from_row[j] of the depth before, which is the last `width` rows.
    """
    before = len(sees)
    grown = np.zeros((before + width, before + width), dtype=bool)
    grown[:before, :before] = sees
    if not root:
        grown[before:, :before] = sees[before - width + from_row]
    grown[before:, before:] = np.eye(width, dtype=bool)
    return grown


def _likeliest(tokens: np.ndarray, scores: np.ndarray, parents: np.ndarray, count: int) -> Draft:
    """The `count` likeliest candidates as a draft; ties go to the earlier, so parents stay before and with children."""
    kept = np.sort(np.argsort(-scores, kind="stable")[:count])
    place = np.zeros(len(tokens) + 1, dtype=np.int64)
    place[kept + 1] = np.arange(1, len(kept) + 1)
    return Draft(tokens[kept][None], np.array([len(kept)]), parents=place[parents[kept]])
