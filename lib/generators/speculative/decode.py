"""The torch backend: one verify loop for every method, so that arms differ in who drafts and in nothing else.

A step takes the last token and its draft through the target in one forward, keeps what `acceptance` allows, and adds
the token that the target itself chooses there. Rows of a batch keep different numbers of tokens and go on at different
lengths (`ragged_cache`), and leave the batch when they are finished. Every step's drafted and accepted tokens are
recorded, and so are the seconds spent drafting and verifying.
"""

from __future__ import annotations

import time
from typing import Self

import numpy as np
import torch
from torch import LongTensor, Tensor, nn

from lib.generators.sampling import draw, probabilities
from lib.generators.speculative import acceptance
from lib.generators.speculative.common import Decoding, Response
from lib.generators.speculative.drafting import ACCEPT, TARGET, Draft, Drafter, Rows
from lib.generators.speculative.ragged_cache import RaggedCache, own_attention, seen


class TorchArm:
    """One drafter on one transformers model (eval mode).

    With `creep`, a step records how many drafts were right and keeps one token all the same, so that every position of
    the answer is drafted from: for traces, not for speed.
    """

    def __init__(self, model: nn.Module, drafter: Drafter, decoding: Decoding, creep: bool = False) -> None:
        self.name = drafter.name
        self._model, self._drafter, self._decoding, self._creep = model, drafter, decoding, creep

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def run(self, prompts: list[list[int]], seeds: list[int]) -> list[Response]:
        """Answer prompts as one batch.

        ValueError for a prompt that is empty or leaves no room to answer, and for a model that cannot be followed.
        """
        with torch.inference_mode(), own_attention(self._model):
            self._check([len(prompt) for prompt in prompts])
            return _Batch(self._model, self._drafter, self._decoding, prompts, seeds, self._creep).answer()

    def _check(self, lengths: list[int]) -> None:
        context, longest = self._model.config.max_position_embeddings, max(lengths)
        if longest + self._decoding.max_new_tokens > context:
            raise ValueError(
                f"A prompt of {longest} tokens and {self._decoding.max_new_tokens} new ones do not fit the model's "
                f"{context} positions: shorten the prompt or lower max_new_tokens."
            )
        if not min(lengths):
            raise ValueError("A prompt is empty, which a model cannot go on from: give it at least one token.")


class _Batch:
    """Requests decoded together, from their prompts to their last tokens."""

    def __init__(
        self,
        model: nn.Module,
        drafter: Drafter,
        decoding: Decoding,
        prompts: list[list[int]],
        seeds: list[int],
        creep: bool,
    ) -> None:
        self._model, self._drafter, self._decoding, self._creep = model, drafter, decoding, creep
        self._device = next(model.parameters()).device
        self._stops = np.array(decoding.stop_ids)
        self._responses = [Response([], [], [], 0.0, 0.0, 0.0, 0.0, 0.0) for _ in prompts]
        self._features: Tensor | None = None
        self._start = self._clock()
        self.rows = Rows(prompts, decoding, drafter.ahead, seeds)
        self.cache = RaggedCache(model.config, self.rows.history.shape[1])

    def answer(self) -> list[Response]:
        """Decode to the end."""
        hook = (
            self._model.base_model.register_forward_hook(self._keep_features) if self._drafter.wants_features else None
        )
        try:
            self._prefill()
            while len(self.rows):
                self._step()
        finally:
            if hook:
                hook.remove()
        return self._responses

    def _keep_features(self, _module: nn.Module, _args: tuple, output: object) -> None:
        self._features = output.last_hidden_state

    def _prefill(self) -> None:
        """Read the prompts, choose each row's first token, and let the drafter see both."""
        logits, features = self._read_prompts()
        first, one = self._choose(logits, np.zeros(1, dtype=np.int64)).cpu().numpy(), np.ones(len(self.rows), np.int64)
        self.rows.append(first, one)
        prefill_s = self._clock() - self._start
        for response in self._responses:
            response.prefill_s = prefill_s
        self._drafter.start(self.rows, features)
        self._settle(first, one)

    def _read_prompts(self) -> tuple[Tensor, Tensor | None]:
        """Logits [B, 1, V] behind every prompt, and the features [B, P, h] of all its places.

        Shorter prompts are padded behind: nobody sees the padding, and new tokens overwrite it.
        """
        ids = self.rows.history[:, : self.rows.prompt.max()]
        places, inverse = np.unique(self.rows.prompt - 1, return_inverse=True)
        logits = self._forward(ids, np.arange(ids.shape[1])[None], start=0, logits_to_keep=self._tensor(places))
        return logits[torch.arange(len(ids)), self._tensor(inverse)][:, None], self._features

    def _step(self) -> None:
        """Draft, verify, keep."""
        rows, began = self.rows, self._clock()
        draft = self._drafter.propose(rows, self._room())
        drafted = self._clock()
        logits = self._verify(draft)
        tokens, kept, path = self._accept(draft, logits)
        verified = self._clock()
        counts = np.ones_like(kept) if self._creep else kept + 1
        rows.append(tokens, counts)
        features = self._features
        if features is not None and path is not None:
            features = features[:, self._tensor(path)]
        self._drafter.observe(rows, features, counts)
        self._record(draft, kept, drafted - began + self._clock() - verified, verified - drafted)
        self._settle(tokens, counts)

    def _room(self) -> int:
        """Tokens that may be drafted before a row runs out of positions."""
        return int(self._model.config.max_position_embeddings - self.rows.length.max())

    def _verify(self, draft: Draft) -> Tensor:
        """Logits [B, K + 1, V] behind each row's last token and behind every draft."""
        ids = np.concatenate([self.rows.last[:, None], draft.tokens], 1)
        lengths = self.rows.length - 1
        if draft.parents is None:
            return self._forward(ids, lengths[:, None] + np.arange(ids.shape[1]))
        depth, mask = _tree(draft.parents, int(lengths[0]))
        return self._forward(ids, lengths[:, None] + depth, start=int(lengths[0]), mask=self._tensor(mask))

    def _accept(self, draft: Draft, logits: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """What each row gains: tokens int64 [B, K + 1] (kept drafts, then the target's own), the number of kept drafts
        int64 [B], and the path through a tree, int64 [kept + 1] places of the verified block.
        """
        if draft.parents is not None:
            return self._walk(draft, logits)
        k = draft.tokens.shape[1]
        drafts, lengths = self._tensor(draft.tokens), self._tensor(draft.lengths)
        if draft.probs is None:
            tokens = self._choose(logits, np.arange(k + 1))
            return tokens.cpu().numpy(), acceptance.matching(tokens, drafts, lengths).cpu().numpy(), None
        accept, own = (self._tensor(self.rows.numbers(stream, np.arange(k + 1))) for stream in (ACCEPT, TARGET))
        law = self._law(logits)
        kept, extra = acceptance.rejection(law, draft.probs, drafts, lengths, accept[:, :k], own)
        tokens = torch.cat([drafts, drafts.new_zeros(len(drafts), 1)], 1).scatter(1, kept[:, None], extra[:, None])
        return tokens.cpu().numpy(), kept.cpu().numpy(), None

    def _walk(self, draft: Draft, logits: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Follow a tree (of the only row) as far as the target's own choices lead, and keep that path's KV."""
        depth = _depths(draft.parents)
        chosen = self._choose(logits, depth).cpu().numpy()[0]
        path = [0]
        while (here := np.flatnonzero((draft.parents == path[-1]) & (draft.tokens[0] == chosen[path[-1]]))).size:
            path.append(int(here[0]) + 1)
        start = int(self.rows.length[0]) - 1
        self.cache.move(self._tensor(start + np.array(path)), start)
        return chosen[path][None], np.array([len(path) - 1]), np.array(path)

    def _choose(self, logits: Tensor, offsets: np.ndarray) -> LongTensor:
        """The target's own token at every place, int64 [B, q]: the likeliest, or drawn with that position's number.

        offsets int64 [q]: how far behind the row's last token each place's choice stands.
        """
        if self._decoding.greedy:
            return logits.argmax(-1)
        u = self._tensor(self.rows.numbers(TARGET, offsets))
        return draw(self._law(logits).flatten(0, 1), u.reshape(-1, 1)).view(u.shape)

    def _law(self, logits: Tensor) -> Tensor:
        """The target's law [B, q, V] from logits [B, q, V]; transformers' top-p filter takes rows only."""
        return probabilities(logits.flatten(0, 1), self._decoding).view(logits.shape)

    def _forward(
        self,
        ids: np.ndarray,
        positions: np.ndarray,
        start: int | None = None,
        mask: Tensor | None = None,
        logits_to_keep: int | LongTensor = 0,
    ) -> Tensor:
        """Logits of ids int64 [B, q] at positions int64 [B or 1, q].

        `start` is the slot of the first where slots are not the positions; a prefill and a tree bring it.
        """
        where = self._tensor(positions)
        if start is not None:
            self.cache.place(start, None, start + ids.shape[1])
        else:
            level = bool((positions[:, 0] == positions[0, 0]).all())
            filled = int(positions.max()) + 1
            self.cache.place(int(positions[0, 0]) if level else None, None if level else where, filled)
            mask = None if level and ids.shape[1] == 1 else seen(where, filled)
        return self._model(
            input_ids=self._tensor(ids),
            position_ids=where.expand(len(ids), -1),
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
            logits_to_keep=logits_to_keep,
        ).logits

    def _record(self, draft: Draft, kept: np.ndarray, draft_s: float, verify_s: float) -> None:
        for b, request in enumerate(self.rows.index):
            response = self._responses[request]
            response.drafted.append(int(draft.lengths[b]))
            response.accepted.append(int(kept[b]))
            response.draft_s += draft_s
            response.verify_s += verify_s

    def _settle(self, tokens: np.ndarray, counts: np.ndarray) -> None:
        """Finish the rows that met a stop id among their newest tokens or have enough; they leave the batch."""
        fresh = np.arange(tokens.shape[1]) < counts[:, None]
        stopped = ((tokens[..., None] == self._stops).any(-1) & fresh).any(1)
        over = stopped | (self.rows.new >= self._decoding.max_new_tokens)
        if not over.any():
            return
        now = self._clock() - self._start
        for b in np.flatnonzero(over):
            self._finish(b, now)
        stay = _filled_up(over)
        self.rows.select(stay)
        if len(stay):
            self.cache.select(stay)
            self._drafter.select(stay)

    def _finish(self, row: int, now: float) -> None:
        response, start = self._responses[self.rows.index[row]], self.rows.prompt[row]
        new = self.rows.history[row, start : start + min(self.rows.new[row], self._decoding.max_new_tokens)]
        stops = np.flatnonzero(np.isin(new, self._stops))
        response.tokens = new[: stops[0] + 1].tolist() if stops.size else new.tolist()
        response.wall_s, response.decode_s = now, now - response.prefill_s

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(array).to(self._device)

    def _clock(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _filled_up(over: np.ndarray) -> np.ndarray:
    """The rows that go on, int64 [R]: each in its own place, and those behind the R-th in the places set free."""
    going = np.flatnonzero(~over)
    count = len(going)
    order = np.arange(count)
    order[over[:count]] = going[going >= count]
    return order


def _depths(parents: np.ndarray) -> np.ndarray:
    """Depth of every place of a verified tree, int64 [K + 1]; place 0, the row's last token, has depth 0."""
    depth = np.zeros(len(parents) + 1, dtype=np.int64)
    for node, parent in enumerate(parents):  # parents stand before their children
        depth[node + 1] = depth[parent] + 1
    return depth


def _tree(parents: np.ndarray, before: int) -> tuple[np.ndarray, np.ndarray]:
    """Depths int64 [K + 1] and the mask bool [1, 1, K + 1, before + K + 1]: all before the tree, ancestors, oneself."""
    size = len(parents) + 1
    sees = np.eye(size, dtype=bool)
    for node, parent in enumerate(parents):
        sees[node + 1] |= sees[parent]
    mask = np.ones((1, 1, size, before + size), dtype=bool)
    mask[..., before:] = sees
    return _depths(parents), mask
