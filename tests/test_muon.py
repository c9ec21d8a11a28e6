"""Our batched Muon against torch's, one matrix at a time, and against the singular values it is about."""

import pytest
import torch

from lib.models.muon import Muon, newton_schulz

SHAPES = [(8, 8), (24, 8), (8, 24), (8, 8), (6, 6)]


def test_it_moves_matrices_as_torchs_muon_does():
    torch.manual_seed(0)
    start = [torch.randn(*shape) for shape in SHAPES]
    ours, theirs = ([torch.nn.Parameter(p.clone()) for p in start] for _ in range(2))
    settings = {"lr": 0.02, "momentum": 0.95, "weight_decay": 0.05}
    optimizers = Muon(ours, **settings), torch.optim.Muon(theirs, **settings, adjust_lr_fn="match_rms_adamw")
    for _ in range(10):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, before in zip(ours, theirs, start, strict=True):
        moved = (b.detach() - before).norm()
        assert (a - b).detach().norm() < 0.02 * moved  # torch iterates in bfloat16


def test_a_parameter_of_several_matrices_counts_as_each_of_them():
    torch.manual_seed(1)
    together = torch.nn.Parameter(torch.randn(3, 8, 8))
    apart = [torch.nn.Parameter(matrix.clone()) for matrix in together.detach()]
    together.grad = torch.randn(3, 8, 8)
    for matrix, gradient in zip(apart, together.grad, strict=True):
        matrix.grad = gradient.clone()
    Muon([together], lr=0.1).step()
    Muon(apart, lr=0.1).step()
    torch.testing.assert_close(together.detach(), torch.stack([matrix.detach() for matrix in apart]))


@pytest.mark.parametrize("shape", [(5, 8, 8), (5, 4, 12)])
def test_newton_schulz_moves_singular_values_close_to_one(shape):
    torch.manual_seed(2)
    before = torch.randn(*shape) + 3  # far from orthogonal
    after = newton_schulz(before)
    values = torch.linalg.svdvals(after)
    assert values.max() < 1.3
    assert values[..., :-1].min() > 0.3
    left, _, right = torch.linalg.svd(before, full_matrices=False)
    aligned = torch.einsum("nij,nij->n", left @ right, after) / after.flatten(1).norm(dim=1) / shape[1] ** 0.5
    assert (aligned > 0.9).all()


def test_what_has_no_gradient_stays():
    used, unused = (torch.nn.Parameter(torch.ones(4, 4)) for _ in range(2))
    used.grad = torch.eye(4)
    Muon([used, unused], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(unused.detach(), torch.ones(4, 4))
    assert not torch.equal(used.detach(), torch.ones(4, 4))
