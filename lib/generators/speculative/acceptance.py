"""Which drafted tokens stay: the laws under which verification changes the speed and nothing else.

Two kinds of drafts, two laws, both exact:

* a draft that is one definite token per place (n-gram lookup, or the likeliest token of a drafter): the target draws
  its own token at every place and the draft stays as long as it agrees. The chance of that is p(draft), which is what
  rejection sampling gives for a drafter whose law is that one token, and the output is, number for number, what the
  target alone would have drawn from the same random numbers. Greedy decoding is the same with the likeliest token.
* a draft drawn from a law q: kept with probability min(1, p/q), and at the first rejection a token is drawn from the
  normalised excess max(p - q, 0) (Leviathan et al. 2023, arXiv 2211.17192, Algorithm 1; Chen et al. 2023,
  arXiv 2302.01318). More is kept, 1 - TV(p, q) of the places, but the output is another draw of the same law.
"""

from __future__ import annotations

import torch
from torch import LongTensor, Tensor

from lib.generators.sampling import draw


def matching(tokens: LongTensor, drafts: LongTensor, lengths: LongTensor) -> LongTensor:
    """How many drafts each row keeps, int64 [B]: those before the first that differs from the target's own token.

    tokens int64 [B, K + 1] the target's choices, drafts int64 [B, K], lengths int64 [B] the drafts each row has.
    """
    agree = tokens[:, :-1] == drafts
    agree &= torch.arange(drafts.shape[1], device=drafts.device) < lengths[:, None]
    return agree.cumprod(-1).sum(-1)


def rejection(
    p: Tensor, q: Tensor, drafts: LongTensor, lengths: LongTensor, u_accept: Tensor, u_draw: Tensor
) -> tuple[LongTensor, LongTensor]:
    """How many drafts each row keeps, int64 [B], and the token the target adds behind them, int64 [B].

    p float [B, K + 1, V] the target's law at every place, q float [B, K, V] the law each draft was drawn from, drafts
    int64 [B, K], lengths int64 [B]; u_accept float64 [B, K] and u_draw float64 [B, K + 1], uniform in [0, 1).
    """
    places = drafts[..., None]
    chance = p[:, :-1].gather(-1, places) / q.gather(-1, places)
    keep = u_accept < chance[..., 0]
    keep &= torch.arange(drafts.shape[1], device=drafts.device) < lengths[:, None]
    kept = keep.cumprod(-1).sum(-1)
    row = torch.arange(len(p), device=p.device)
    rejected = (kept < lengths)[:, None]
    excess = (p[row, kept] - q[row, kept.clamp(max=q.shape[1] - 1)]).clamp(min=0)
    has_mass = excess.sum(-1, keepdim=True) > 0  # rounding can leave none where p and q agree
    law = torch.where(rejected & has_mass, excess, p[row, kept])
    return kept, draw(law, u_draw[row, kept][:, None])[:, 0]
