"""A better start for an EAGLE head: one attention head that already finds what followed before.

A minute of training teaches the head to continue texts that the target finds easy, but not to look things up: from
random weights it drafts copies no better than guesses. As in `lib.models.induction`, an attention head starts wired;
one is enough here, since row j reads token j + 1 beside feature f_j:

* key: the token j as far as it can be read from f_j, by ridge regression of embeddings on the target's features over a
  few copy tasks, reduced to its strongest directions;
* query: the same directions of the newest token's embedding, through the slow rotary pairs only;
* value: a random projection of token j + 1, which its transpose writes back: where embeddings are tied, that raises the
  logit of the token that followed.

The rest starts at random, in a subspace of its own. The circuit copies only what features still show: where the last
layers of the target have overwritten the token (lists of words, in our rungs), nothing can be matched.
"""

import torch
from torch import Tensor

from lib.models.eagle import EagleHead
from lib.models.induction import SLOW

SHARPNESS = 3.0  # score of a match, in units of the square root of the directions compared; 8 is too stiff to train
COPY = 2.0  # what the wired head writes, relative to an embedding of unit entries
RIDGE = 0.01  # of the mean square of a feature's entries
QUIET = 0.1  # scale of random weights beside wired ones


def token_reader(features: Tensor, embeddings: Tensor) -> Tensor:
    """Ridge regression [h, h]: how to read a token's embedding off the feature at its place (both [N, h])."""
    square = features.T @ features
    ridge = RIDGE * square.diagonal().mean() * torch.eye(len(square))
    return torch.linalg.solve(square + ridge, features.T @ (embeddings - embeddings.mean(0))).T


@torch.no_grad()
def wire(head: EagleHead, features: Tensor, ids: Tensor) -> None:
    """Overwrite the initial weights of the first attention head and of fc, in place; draws from torch's generator.

    Args:
        features: the target's features [N, h] at the places of the tokens `ids` [N].
    """
    hidden, size = head.config.hidden_size, head.head_dim
    theta = head.config.rope_parameters["rope_theta"]
    turn = theta ** (-torch.arange(size // 2) / (size // 2))  # [size / 2] radians per token
    slow = (turn < SLOW).repeat(2).nonzero()[:, 0][: hidden // 4]
    rank = len(slow)
    table = head.embed(torch.arange(head.config.vocab_size))
    unit = table.std()
    reader = token_reader(features, head.embed(ids) / unit)
    match = torch.linalg.svd(reader).U[:, :rank].T  # [rank, h]
    basis, copied = _orthonormal(hidden), _orthonormal(hidden)[:rank]
    asked, offered, carried, rest = basis.split([rank, rank, rank, hidden - 3 * rank])
    free = rest.T @ rest

    token, feature = head.fc.weight.split(hidden, 1)
    token.copy_((asked.T @ match + carried.T @ copied + free @ token) / unit)
    feature.copy_(offered.T @ match @ reader + free @ feature)
    strength = SHARPNESS**0.5 * (size / rank) ** 0.25
    query, keys, values = (start for start in (0, head.heads * size, (head.heads + head.kv_heads) * size))
    for start in (query, keys):
        head.qkv.weight[start : start + size] *= QUIET
        head.qkv.bias[start : start + size] = 0
    head.qkv.weight[query + slow] = strength * asked
    head.qkv.weight[keys + slow] = strength * offered
    head.qkv.weight[values : values + size] = 0
    head.qkv.bias[values : values + size] = 0
    head.qkv.weight[values : values + rank] = carried
    head.out.weight[:, :size] = 0
    head.out.weight[:, :rank] = COPY * copied.T


def _orthonormal(size: int) -> Tensor:
    """A random orthonormal basis [size, size] in rows."""
    return torch.linalg.qr(torch.randn(size, size))[0].T
