"""Muon for many small matrices: momentum, made orthogonal for all matrices of one shape in one batch.

Muon (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon) replaces the momentum of a matrix by the nearest
orthogonal one, found by five Newton-Schulz steps. torch.optim.Muon takes one matrix after another, which for the tiny
models here costs more calls than arithmetic; here a step is one batch of products per shape. A parameter [..., a, b]
counts as that many matrices [a, b]. The steps, their coefficients and the scale of the update are torch's
(`adjust_lr_fn="match_rms_adamw"`), and a test holds the two together.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

COEFFICIENTS = 3.4445, -4.7750, 2.0315  # of the quintic iteration
STEPS = 5
RMS = 0.2  # root mean square of an update at learning rate 1, as large as AdamW's


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum with decoupled weight decay."""

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        """Update every parameter that has a gradient."""
        for group in self.param_groups:
            used = [p for p in group["params"] if p.grad is not None]
            for p in used:
                if "momentum" not in self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            buffers = [self.state[p]["momentum"] for p in used]
            gradients = [p.grad for p in used]
            torch._foreach_lerp_(buffers, gradients, 1 - group["momentum"])
            ahead = torch._foreach_lerp(gradients, buffers, group["momentum"])
            torch._foreach_mul_(used, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(used, _orthogonal(ahead), alpha=-group["lr"])


def _orthogonal(updates: list[Tensor]) -> list[Tensor]:
    """Each update [..., a, b] made orthogonal and scaled; those of one shape go together."""
    by_shape = defaultdict(list)
    for index, update in enumerate(updates):
        by_shape[tuple(sorted(update.shape[-2:]))].append(index)
    found = list(updates)
    for (short, long), indices in by_shape.items():
        wide = [updates[i] if updates[i].shape[-1] == long else updates[i].mT for i in indices]
        batch = newton_schulz(torch.cat([w.reshape(-1, short, long) for w in wide])) * (RMS * long**0.5)
        parts = batch.split([w.numel() // (short * long) for w in wide])
        for i, w, part in zip(indices, wide, parts, strict=True):
            part = part.view(w.shape)
            found[i] = part if updates[i].shape[-1] == long else part.mT
    return found


def newton_schulz(matrices: Tensor) -> Tensor:
    """Matrices [n, a, b], a <= b, with their singular values moved close to 1; bfloat16 on a GPU."""
    a, b, c = COEFFICIENTS
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + torch.baddbmm(gram, gram, gram, beta=b, alpha=c) @ x
    return x.to(matrices.dtype)
