"""The table of planned and actual parameters counts what modules hold."""

import pytest
from torch import nn

from lib.bench import mazes_original
from lib.mazes.planned import SIDE, planned
from lib.models import maze
from lib.models.maze_sizes import SIZES

PLAN = {"tiny": 10**6, "small": 3 * 10**6, "medium": 10**7, "large": 3 * 10**7, "xl": 10**8}


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def test_holds_the_plans_five_sizes_in_order_and_its_targets():
    table = planned()
    assert table.planned.to_dict() == PLAN
    assert list(table.index) == list(PLAN)
    assert list(table) == ["planned", "original baseline", "original PoH", "stack", "poh"]


@pytest.mark.parametrize("arch", ["stack", "poh"])
def test_our_counts_are_those_of_the_models(arch):
    assert planned()[arch]["tiny"] == count(maze.build(arch, SIZES["tiny"], R=4, T=4, seed=0))


@pytest.mark.parametrize(("column", "arch"), [("original baseline", "stack"), ("original PoH", "poh")])
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_published_counts_are_those_of_the_models_built_anew(column, arch, size):
    """Built anew they read four open sides per cell, where the published ones read one number."""
    shape = SIZES[size]
    model = mazes_original.Original(arch, shape, SIDE, R=4)
    model.walls = nn.Linear(1, shape.d_model)
    assert planned()[column][size] == count(model)


def test_the_published_controller_costs_more_than_a_third_of_the_baseline():
    table = planned()
    ratio = table["original PoH"] / table["original baseline"]
    assert ((ratio > 1.37) & (ratio < 1.47)).all()
    assert ((table["poh"] / table["stack"] - 1) < (ratio - 1)).all()
