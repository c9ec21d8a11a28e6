"""A few steps of speculative decoding, written down: what was drafted, what both models thought of it, what stayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lib.generators.sampling import probabilities
from lib.generators.speculative import draft as draft_model
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.drafting import Draft, Drafter, Rows


@dataclass(frozen=True)
class Token:
    """One token with its probability under the target (p) and under the drafter (q; None where it drafted none)."""

    id: int
    p: float
    q: float | None


@dataclass(frozen=True)
class Step:
    """One verification: the drafted tokens, how many were kept, and the target's own behind them.

    `own` is a bonus where all were kept, else the correction; None where the answer was long enough before it.
    """

    drafted: list[Token]
    kept: int
    own: Token | None

    @property
    def bonus(self) -> bool:
        return self.kept == len(self.drafted)


@dataclass(frozen=True)
class Story:
    """An answer from its first token, which the prompt alone gave, through every step."""

    first: int
    steps: list[Step]

    @property
    def tokens(self) -> int:
        """Of the answer."""
        return 1 + sum(step.kept + (step.own is not None) for step in self.steps)

    @property
    def surest_mistake(self) -> int:
        """The step whose rejected token the drafter held for the likeliest; 0 where none was rejected."""
        wrong = {n: step.drafted[step.kept].q for n, step in enumerate(self.steps) if step.own and not step.bonus}
        return max(wrong, key=wrong.__getitem__, default=0)


@dataclass
class _Parts:
    """What `draft` is made of."""

    draft_model: nn.Module


class _Watched:
    """A drafter that keeps what it proposed."""

    def __init__(self, drafter: Drafter) -> None:
        self._drafter, self.drafts = drafter, list[Draft]()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._drafter, name)

    def propose(self, rows: Rows, room: int) -> Draft:
        self.drafts.append(self._drafter.propose(rows, room))
        return self.drafts[-1]


def tell(
    target: nn.Module, drafter: nn.Module, prompt: list[int], how: Speculation, what: Decoding, seed: int
) -> Story:
    """Answer `prompt` with tokens drawn by `drafter` (same vocabulary) and verified by `target`, both in eval mode.

    `how` drafts with method "draft" and draft_sample_method "probabilistic"; `what` has a temperature above 0.
    """
    watched = _Watched(draft_model.drafter(how, what, _Parts(drafter)))
    (answer,) = TorchArm(target, watched, what).run([prompt], [seed])
    steps, place = [], answer.first
    for draft, kept in zip(watched.drafts, answer.accepted, strict=True):
        law = _law(target, [*prompt, *answer.tokens[:place]], draft, what)
        steps.append(_step(draft, law, answer.tokens[place : place + kept + 1], kept))
        place += kept + 1
    return Story(answer.tokens[0], steps)


@torch.inference_mode()
def _law(target: nn.Module, before: list[int], draft: Draft, what: Decoding) -> Tensor:
    """The target's law [K + 1, V] at every place of a draft, and behind it."""
    ids = torch.tensor([[*before, *draft.tokens[0].tolist()]], device=next(target.parameters()).device)
    return probabilities(target(input_ids=ids, logits_to_keep=draft.tokens.shape[1] + 1).logits[0], what)


def _step(draft: Draft, p: Tensor, came: list[int], kept: int) -> Step:
    """`came`: the tokens of the answer that the step added, fewer than kept + 1 where the answer ended."""
    count, q = int(draft.lengths[0]), draft.probs[0]
    drafted = [Token(i, float(p[j, i]), float(q[j, i])) for j, i in enumerate(draft.tokens[0, :count].tolist())]
    kept = min(kept, len(came))
    if kept == len(came):
        return Step(drafted, kept, None)
    own = came[kept]
    return Step(drafted, kept, Token(own, float(p[kept, own]), float(q[kept, own]) if kept < count else None))


def reading(story: Story) -> str:
    """How much of what was drafted was kept, and what that saved."""
    drafted, kept = sum(len(step.drafted) for step in story.steps), sum(step.kept for step in story.steps)
    checked = [token.q for step in story.steps for token in step.drafted[: step.kept]]
    whole = sum(step.bonus for step in story.steps)
    return (
        f"{story.tokens} tokens took {1 + len(story.steps)} forwards of the target instead of {story.tokens}. "
        f"{kept} of {drafted} drafted tokens were kept and {whole} of {len(story.steps)} drafts whole. The least "
        f"likely token that was kept had a probability of {min(checked, default=0):.2f} under the drafter."
    )
