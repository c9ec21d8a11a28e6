"""What 3a may be told: the plan's names and settings are all there, and nonsense is one sentence at once."""

import pytest

from lib import presets
from lib.models.maze_sizes import ARCHS, SIZES
from lib.params import ParameterError, config_hash, resolve

NAME = "3a_poh_scaling"
PLAN = ["tiny", "small", "medium", "large", "xl"]


def test_one_value_is_a_list_of_one():
    one, many = (resolve(NAME, v) for v in ({"arch": "poh", "seed": 7}, {"arch": ["poh"], "seed": [7]}))
    assert config_hash(one) == config_hash(many)
    assert resolve(NAME, {"min_path": 160, "maze_size": 20}).least_cells == 160
    assert resolve(NAME, {}).least_cells == "auto"
    assert resolve(NAME, {"size": "[pico, nano]"}).size == ["pico", "nano"]  # as papermill's -p passes it


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"arch": "pho"}, "did you mean 'poh'"),
        ({"size": ["tiny", "smal"]}, "did you mean 'small'"),
        ({"arch": []}, "'arch' is empty"),
        ({"seed": [1, 1]}, "'seed' lists a value twice"),
        ({"seed": -1}, "none may be below 0"),
        ({"seed": ["a"]}, "should be a whole number"),
        ({"larger": [0]}, "none may be below 1"),
        ({"device": "cdua"}, "'device'"),
        ({"size": "[pico, nanoo]"}, "did you mean 'nano'"),
        ({"maze_size": 1}, "maze_size"),
        ({"maze_size": 180, "larger": [5]}, "side of 2 to"),
        ({"min_path": 1000}, "has 2 to 36 cells"),
        ({"min_path": "some"}, "type 'auto' or a number"),
        ({"min_path": True}, "min_path"),
        ({"algorithm": "prims"}, "did you mean"),
        ({"braid": 1.5}, "braid"),
        ({"n_heads": 5}, "do not divide the d_model 32"),
        ({"R": 0}, "'R'"),
        ({"T": 0}, "'T'"),
        ({"train": 0}, "'train'"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"learning_rate": [0.1, 0.2]}, "2 learning rates do not fit 5 arms"),
        ({"epoch": 5}, "did you mean 'epochs'"),
    ],
)
def test_nonsense_is_refused_in_a_sentence(raw, said):
    with pytest.raises(ParameterError) as refused:
        resolve(NAME, raw)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_arms_of_one_size_must_see_the_same_mazes():
    cells = presets.cells(NAME, "quick")
    params = [cell.resolved() for cell in cells]
    with pytest.raises(ParameterError, match="differ in train"):
        type(params[0]).check_grid([params[0], params[1].model_copy(update={"train": 7})])


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("full", {"maze_size": 16, "train": 1000, "epochs": 50, "R": 4, "T": 4, "min_path": "auto"}),
        ("debug", {"maze_size": 12, "train": 500, "test": 50, "epochs": 30, "R": 4, "T": 4}),
        ("large_maze", {"maze_size": 20, "train": 2000, "test": 200, "epochs": 100, "min_path": "160", "R": 4, "T": 4}),
    ],
)
def test_presets_keep_the_plans_settings(preset, settings):
    found = [cell.resolved() for cell in presets.cells(NAME, preset)]
    for params in found:
        assert {name: getattr(params, name) for name in settings} == settings
    trained = {(size, arch) for params in found for size in params.size for arch in params.arch}
    sizes = ["tiny", "small"] if preset == "debug" else PLAN
    assert trained == {(size, arch) for size in sizes for arch in ARCHS}
    assert all(42 in params.seed for params in found)


def test_statistics_have_what_they_need():
    cells = {name: [c.resolved() for c in presets.cells(NAME, name)] for name in ("quick", "standard", "full")}
    seeds = {
        name: {(s, a): p.seed for p in found if p.R == 4 for s in p.size for a in p.arch}
        for name, found in cells.items()
    }
    assert min(p.test for p in cells["quick"]) >= 400
    assert min(p.test for name in ("standard", "full") for p in cells[name]) >= 1000
    assert min(map(len, seeds["quick"].values())) >= 3
    assert min(len(some) for name in ("standard", "full") for some in seeds[name].values()) >= 6
    assert {arch for (_, arch), some in seeds["standard"].items() if len(some) >= 30} >= {"loop", "poh", "stack_flops"}
    for found in cells.values():  # every setting of standard and full has one learning rate per arm
        rates = {(arch, p.rate(arch)) for p in found for arch in p.arch}
        assert len(rates) == len(ARCHS)


def test_every_arm_gets_the_same_search():
    searched = [cell.resolved() for cell in presets.cells(NAME, "search")]
    by_arm = {arch: sorted((p.rate(arch), tuple(p.seed)) for p in searched if arch in p.arch) for arch in ARCHS}
    assert len({tuple(tried) for tried in by_arm.values()}) == 1
    assert len(by_arm["poh"]) >= 3
    used = {
        seed for name in ("quick", "standard", "full") for c in presets.cells(NAME, name) for seed in c.resolved().seed
    }
    assert all(used.isdisjoint(p.seed) for p in searched)  # so that no test maze was seen when rates were chosen


def test_sizes_are_named_in_the_help():
    from lib.params import schema

    assert all(name in schema(NAME).model_fields["size"].description for name in SIZES)
