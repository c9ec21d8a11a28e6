"""The sampling faults of vLLM's CPU build under speculation, found by trying and put right in place.

The rejection sampler spreads each request's temperature, top-k and top-p over the request's draft tokens. Where the CPU
build uses its own C++ kernel for that, the values are written to an int64 copy of the output that is thrown away, so
that drafts are judged under whatever was in memory (`ISSUE`). And with top-k alone it fails on a step in which no
request has a draft, such as every prefill. Greedy decoding skips this code. Whether an installed version has the faults
is asked of its functions, not of a list of versions.
"""

from collections.abc import Callable

import torch
from torch import Tensor

ISSUE = "https://github.com/vllm-project/vllm/issues/55005"
ROUNDS = 8  # of different values, so that memory left over from one round cannot pass for an answer in the next
Expand = Callable[..., Tensor]


def expand(x: Tensor, cu_num_tokens: Tensor, num_tokens: int, replace_from: int = 0, replace_to: int = 0) -> Tensor:
    """Each request's value, once per draft token: what `expand_batch_to_tokens` of vLLM's sampler says it returns.

    Args:
        x: one value per request [batch], any dtype.
        cu_num_tokens: draft tokens of the requests so far, cumulated [batch].
        num_tokens: draft tokens of all requests.
        replace_from, replace_to: a value of x that is replaced, and by what (greedy's temperature 0, which divides).

    Returns:
        [num_tokens], in x's dtype.
    """
    counts = torch.diff(cu_num_tokens, prepend=cu_num_tokens.new_zeros(1))
    values = torch.where(x == replace_from, torch.full_like(x, replace_to), x)
    return torch.repeat_interleave(values, counts, output_size=num_tokens)


def is_faulty(tried: Expand) -> bool:
    """Whether `tried` gives other values than `expand` for the dtypes that the sampler passes."""
    counts = torch.tensor([2, 2, 5], dtype=torch.int32)  # the second request has no draft
    for i in range(ROUNDS):
        temperature = torch.tensor([0.25, 0.5, 0.75]) + i
        top_k = torch.tensor([3, 5, 7], dtype=torch.int32) * (i + 1)
        if any(not torch.equal(tried(x, counts, 5), expand(x, counts, 5)) for x in (temperature, top_k)):
            return True
    return False


def fails_on_nothing(apply_top_k_top_p: Callable[..., Tensor]) -> bool:
    """Whether a sampler's filter fails where there are no draft tokens at all, with top-k alone."""
    try:
        apply_top_k_top_p(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int32), None)
    except RuntimeError:
        return True
    return False


def correct() -> bool:
    """Put right in this process what the sampler does wrong; whether its values were lost (`ISSUE`).

    To be called once the engine is built: only then does the CPU build have its kernels in place.
    """
    from vllm.v1.sample import rejection_sampler as sampler

    if fails_on_nothing(filtered := sampler.apply_top_k_top_p):
        sampler.apply_top_k_top_p = lambda logits, k, p: filtered(logits, k, p) if len(logits) else logits
    if not is_faulty(sampler.expand_batch_to_tokens):
        return False
    sampler.expand_batch_to_tokens = expand
    return True
