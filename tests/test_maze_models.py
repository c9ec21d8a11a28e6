"""The arms are what their names say: each defect of the published code is a test that would have failed on it."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from lib.data import mazes
from lib.models import maze, maze_blocks, maze_sizes
from lib.models.maze_blocks import Block, attend, geometry
from lib.models.maze_sizes import ARCHS, SIZES, Size
from lib.models.maze_training import Batch, Recipe, Training, loss_of

SIZE = Size(d_model=16, n_heads=4, d_ff=24, depth=2)
R, T, SIDE = 3, 2, 4

each_arch = pytest.mark.parametrize("arch", ARCHS)


@pytest.fixture(scope="module")
def data() -> mazes.Mazes:
    return mazes.make(SIDE, 48, seed=1)


@pytest.fixture(scope="module")
def batch(data) -> Batch:
    return Batch.of(data.open, data.goal, data.next_steps, "cpu")


def trained(arch: str, data: mazes.Mazes, T: int = T, R: int = R, epochs: int = 3) -> maze.MazeModel:
    """An arm after a few steps, so that what starts at zero no longer is."""
    model = maze.build(arch, SIZE, R, T, seed=0)
    training = Training(model, data, Recipe(epochs, batch_size=16, learning_rate=0.02))
    for _ in range(epochs):
        training.run_epoch(lambda: None)
    return model


def logits(model: maze.MazeModel, batch: Batch, **options) -> torch.Tensor:
    with torch.no_grad():
        return model(batch.walls, batch.goal, **options)


@each_arch
def test_every_parameter_receives_a_gradient(arch, data, batch):
    model = trained(arch, data)
    loss_of(model(batch.walls, batch.goal), batch).mean().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


@each_arch
def test_the_walls_decide_the_answer(arch, data, batch):
    model = trained(arch, data)
    shuffled = Batch(
        batch.walls[torch.randperm(len(batch.walls), generator=torch.Generator().manual_seed(0))],
        batch.goal,
        batch.right,
    )
    assert (logits(model, batch)[-1].argmax(-1) != logits(model, shuffled)[-1].argmax(-1)).float().mean() > 0.1


def test_T_changes_the_output_and_what_ticks_every_T_is_trained(data, batch):
    often, seldom = (maze.build("poh", SIZE, R, t, seed=0) for t in (1, 2))
    seldom.load_state_dict(often.state_dict())
    for model in (often, seldom):
        with torch.no_grad():  # routes start faint, and out projections at zero
            model.controller.route.weight.mul_(50)
            for block in model.blocks:
                block.out.normal_()
    seldom.controller.route.load_state_dict(often.controller.route.state_dict())
    for ours, theirs in zip(often.blocks, seldom.blocks, strict=True):
        theirs.load_state_dict(ours.state_dict())
    assert (logits(often, batch) - logits(seldom, batch)).abs().max() > 1e-3
    loss_of(often(batch.walls, batch.goal), batch).mean().backward()
    slow = often.controller.slow
    assert all(p.grad.abs().max() > 0 for p in (slow.weight_ih, slow.weight_hh, slow.bias_ih))


def test_the_slow_module_moves_at_every_Tth_tick_and_the_fast_one_at_each():
    controller = maze.Controller(SIZE, T=3)
    x = torch.randn(2, SIDE**2, SIZE.d_model)
    states = [controller.start(x)]
    for _ in range(7):
        states.append(controller.tick(x, states[-1])[1])
    moved = [not torch.equal(a.slow, b.slow) for a, b in pairwise(states)]
    assert moved == [True, False, False, True, False, False, True]
    assert all(not torch.equal(a.fast, b.fast) for a, b in pairwise(states))


def test_the_state_of_one_batch_does_not_reach_the_next(data, batch):
    model = trained("poh", data)
    first = logits(model, batch)
    logits(model, Batch(batch.walls.flip(0), batch.goal.flip(0), batch.right))
    assert torch.equal(logits(model, batch), first)
    alone = logits(model, batch[torch.arange(1)])
    torch.testing.assert_close(alone[:, 0], first[:, 0], atol=1e-4, rtol=1e-4)  # nor does another maze of the batch


def test_a_route_weighs_heads_and_not_slices_of_what_they_were_mixed_into():
    torch.manual_seed(0)
    block = Block(16, 4, 24)
    torch.nn.init.normal_(block.out)
    torch.nn.init.zeros_(block.down)
    x, bias = torch.randn(2, SIDE**2, 16), torch.zeros(4, SIDE**2, SIDE**2)
    route = torch.rand(2, SIDE**2, 4)
    normed = torch.nn.functional.layer_norm(x, (16,), block.norm_attention)
    wanted = x.clone()
    for head in range(4):  # every head alone, by its own columns of the output projection
        part = slice(4 * head, 4 * head + 4)
        q, k, v = (normed @ matrix[part].T for matrix in block.qkv)
        mixed = torch.softmax(q @ k.transpose(1, 2) / 2, -1) @ v
        wanted += route[..., head : head + 1] * (mixed @ block.out[:, part].T)
    torch.testing.assert_close(block(x, bias, route), wanted, atol=1e-5, rtol=1e-5)


def test_routes_average_one_and_differ_from_cell_to_cell(data, batch):
    trace = maze.Trace([])
    logits(trained("poh", data), batch, trace=trace)
    assert len(trace.routes) == R * SIZE.depth
    for route in trace.routes:
        assert route.shape == (len(batch.walls), SIDE**2, SIZE.n_heads)
        torch.testing.assert_close(route.mean(-1), torch.ones(route.shape[:2]))
        assert route.std(dim=1).max() > 0


def test_without_routing_and_controller_poh_is_the_loop(batch):
    poh, loop = (maze.build(arch, SIZE, R, T, seed=0) for arch in ("poh", "loop"))
    loop.load_state_dict({name: value for name, value in poh.state_dict().items() if name in loop.state_dict()})
    with torch.no_grad():
        poh.controller.route.weight.zero_()
        for router in poh.routers:
            router.zero_()
        for a, b in zip(poh.blocks, loop.blocks, strict=True):
            a.out.normal_()
            b.out.copy_(a.out)
    torch.testing.assert_close(logits(poh, batch), logits(loop, batch))


@pytest.mark.parametrize("arch", maze_sizes.RECURRENT)
def test_refining_longer_changes_the_answer_and_repeats_what_came_before(arch, data, batch):
    model = trained(arch, data)
    longer = logits(model, batch, refinements=2 * R)
    assert longer.shape[0] == 2 * R
    torch.testing.assert_close(longer[:R], logits(model, batch))
    assert (longer[0] - longer[R - 1]).abs().max() > 1e-2
    once = trained(arch, data, R=1)
    assert (logits(once, batch)[-1] - longer[R - 1]).abs().max() > 1e-2


@given(
    arch=st.sampled_from(ARCHS),
    size=st.builds(Size, st.sampled_from([8, 16, 24]), st.sampled_from([2, 4]), st.integers(1, 40), st.integers(1, 3)),
    R=st.integers(1, 5),
    T=st.integers(1, 4),
    side=st.integers(2, 5),
)
@settings(max_examples=40, deadline=None)
def test_parameters_and_flops_are_what_torch_counts(arch, size, R, T, side):
    kind, made = maze_sizes.resolve(arch, size, R)
    model = maze.build(arch, size, R, T, seed=0)
    assert maze_sizes.parameters(kind, made) == sum(p.numel() for p in model.parameters())
    walls, goal = torch.zeros(3, side**2, dtype=torch.uint8), torch.zeros(3, dtype=torch.long)
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        found = model(walls, goal)
    assert len(found) == len(maze_sizes.read_outs(kind, made, R))
    assert forward.get_total_flops() == 3 * maze_sizes.forward_flops(kind, made, R, T, side)


@each_arch
def test_training_costs_three_forwards(arch, batch):
    model = maze.build(arch, SIZES["nano"], 4, 4, seed=0)
    with FlopCounterMode(display=False) as counter:
        loss_of(model(batch.walls, batch.goal), batch).mean().backward()
    kind, size = maze_sizes.resolve(arch, SIZES["nano"], 4)
    forward = maze_sizes.forward_flops(kind, size, 4, 4, SIDE)
    assert counter.get_total_flops() == pytest.approx(maze_sizes.train_flops(forward, len(batch.walls)), rel=0.01)


@pytest.mark.parametrize("name", SIZES)
def test_stacks_are_matched_in_parameters_and_in_flops(name):
    size = SIZES[name]
    ours = maze_sizes.parameters("poh", size)
    assert maze_sizes.parameters(*maze_sizes.resolve("stack_params", size, 4)) == pytest.approx(ours, rel=0.01)
    loop, stack = (
        maze_sizes.forward_flops(*maze_sizes.resolve(arch, size, 4), 4, 4, 16) for arch in ("loop", "stack_flops")
    )
    assert stack == pytest.approx(loop, rel=0.02)


def test_the_plans_sizes_are_the_plans():
    plan = {"tiny": (128, 4, 512, 2), "small": (256, 4, 1024, 3), "medium": (512, 8, 2048, 4)}
    plan |= {"large": (768, 12, 3072, 6), "xl": (1024, 16, 4096, 8)}
    assert {n: (s.d_model, s.n_heads, s.d_ff, s.depth) for n, s in SIZES.items() if s.target} == plan


def test_read_outs_are_spread_evenly_and_end_with_the_last_block():
    deep, shallow = Size(16, 4, 24, 8), Size(16, 4, 24, 2)
    assert maze_sizes.read_outs("stack", deep, 4) == [2, 4, 6, 8]
    assert maze_sizes.read_outs("stack", shallow, 4) == [1, 2]
    assert maze_sizes.read_outs("stack", Size(16, 4, 24, 3), 4)[-1] == 3
    assert maze_sizes.read_outs("poh", shallow, 3) == [2, 4, 6]


def test_positions_depend_on_offsets_alone_and_reach_every_side():
    bias = maze_blocks.RelativeBias(2)
    torch.nn.init.normal_(bias.table)
    torch.nn.init.normal_(bias.slope)
    small, large = (bias(*geometry(side)).view(2, side, side, side, side) for side in (3, 12))
    torch.testing.assert_close(small, large[:, 4:7, 4:7, 4:7, 4:7])
    assert not torch.allclose(large[:, 0, 0, 0, 11], large[:, 0, 0, 0, 10])  # beyond the table the slope tells apart
    fresh = maze_blocks.RelativeBias(2)(*geometry(3))
    assert fresh[0, 0].tolist() == [-maze_blocks.SLOPE * d for d in (0, 1, 2, 1, 2, 3, 2, 3, 4)]


def test_attention_is_torchs_own():
    torch.manual_seed(1)
    q, k, v, bias = (torch.randn(*shape, requires_grad=True) for shape in [(3, 4, 9, 8)] * 3 + [(4, 9, 9)])
    ours = attend(q, k, v, bias)
    theirs = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    for a, b in zip(*(torch.autograd.grad((x * weight).sum(), (q, k, v, bias)) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(attend(q, k, v, bias), ours)


def test_features_are_the_open_sides_and_the_goal():
    found = maze.features(torch.tensor([[0b0010, 0b1001, 0, 15]], dtype=torch.uint8), torch.tensor([1]))
    assert found.tolist() == [[[0, 1, 0, 0, 0], [1, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 0]]]


@each_arch
def test_equal_seeds_give_equal_weights_and_leave_the_global_state_alone(arch):
    before = torch.random.get_rng_state()
    one, two, other = (maze.build(arch, SIZE, R, T, seed) for seed in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    same = [torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True)]
    assert all(same)
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_a_loss_counts_all_ways_that_are_right_and_no_goal():
    scores = torch.tensor([[[[1.0, 0.0, -1.0, 0.5]] * 3]])  # [read-out, maze, cell, direction]
    right = torch.tensor([[0b0001, 0b1010, 0]], dtype=torch.uint8)
    found = loss_of(scores, Batch(torch.zeros_like(right), torch.zeros(1, dtype=torch.long), right))
    chances = np.exp(scores[0, 0, 0].numpy()) / np.exp(scores[0, 0, 0].numpy()).sum()
    wanted = -(np.log(chances[0]) + np.log(chances[1] + chances[3])) / 2
    assert found.tolist() == pytest.approx([wanted], rel=1e-5)
