"""Presets: the grid is what the YAML says, filters select what they name, every shipped preset is valid."""

import itertools

import pytest

from lib import paths, presets
from lib.params import EXPERIMENTS, ParameterError

EXPERIMENT = "1a3_scaling"
GRID = {
    "base": {"prompts": 4},
    "exclusive": True,
    "presets": {
        "grid": {
            "base": {"temperature": 0.5},
            "grid": {"model": ["ladder-60k", "ladder-1m", "Qwen2.5-7B"], "seed": [0, 1]},
            "exclude": [{"model": "ladder-1m", "seed": 1}],
            "gpus": 1,
            "label": "{model}-s{seed}",
        },
        "plain": {"exclusive": False},
        "overrides": {
            "grid": {"model": ["ladder-60k", "ladder-1m"], "seed": [0, 1]},
            "overrides": [{"where": {"model": "ladder-1m"}, "set": {"prompts": 9}}],
        },
        "counted": {"gpus": "threads", "base": {"threads": 2}, "grid": {"model": ["ladder-60k"]}},
        "defaulted": {"gpus": "num_samples"},
        "miscounted": {"gpus": "thread"},
        "misspelt override": {"overrides": [{"where": {"modle": "ladder-1m"}, "set": {"prompts": 9}}]},
        "half an override": {"overrides": [{"where": {"model": "ladder-1m"}}]},
        "misspelt key": {"gird": {}},
        "misspelt parameter": {"grid": {"modle": ["ladder-1m"]}},
        "misspelt exclusion": {"exclude": [{"sed": 1}]},
    },
}


@pytest.fixture
def grid(monkeypatch):
    monkeypatch.setattr(presets, "load_yaml", lambda experiment: GRID)


def chosen(**filters) -> list[str]:
    return [cell.label for cell in presets.cells(EXPERIMENT, "grid", **filters)]


def complaint(preset: str = "grid", **filters) -> str:
    with pytest.raises(ParameterError) as caught:
        presets.cells(EXPERIMENT, preset, **filters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.usefixtures("grid")
class TestGrid:
    def test_product_without_exclusions(self):
        cells = presets.cells(EXPERIMENT, "grid")
        expected = set(itertools.product(["ladder-60k", "ladder-1m", "Qwen2.5-7B"], [0, 1])) - {("ladder-1m", 1)}
        assert {(c.params["model"], c.params["seed"]) for c in cells} == expected
        assert len(cells) == len(expected)
        for cell in cells:
            assert (cell.gpus, cell.exclusive) == (1, True)
            assert (cell.params["prompts"], cell.params["temperature"], cell.params["preset"]) == (4, 0.5, "grid")
            assert cell.label == f"{cell.params['model']}-s{cell.params['seed']}"

    def test_overrides_change_the_cells_they_name(self):
        cells = presets.cells(EXPERIMENT, "overrides")
        assert {(c.params["model"], c.params["prompts"]) for c in cells} == {("ladder-60k", 4), ("ladder-1m", 9)}
        assert len(cells) == 4
        assert "did you mean 'model'?" in complaint("misspelt override")
        assert "lacks overrides.0.set" in complaint("half an override")

    def test_a_preset_without_grid_is_one_cell_and_may_be_inclusive(self):
        (cell,) = presets.cells(EXPERIMENT, "plain")
        assert (cell.gpus, cell.exclusive) == (0, False)

    def test_filters_of_one_name_widen_and_of_two_names_narrow(self):
        assert chosen(only=["model=ladder-60k", "model=ladder-1m"]) == [
            "ladder-60k-s0",
            "ladder-60k-s1",
            "ladder-1m-s0",
        ]
        assert chosen(only=["model=ladder-60k", "seed=1"]) == ["ladder-60k-s1"]

    def test_skip_is_the_rest_of_only(self):
        filters = ["model=ladder-60k", "model=Qwen2.5-7B", "seed=0"]
        assert sorted(chosen(only=filters) + chosen(skip=filters)) == sorted(chosen())

    def test_filters_understand_every_name_of_a_model(self):
        assert chosen(only=["model=Qwen/Qwen2.5-7B-Instruct", "seed=0"]) == ["Qwen2.5-7B-s0"]

    def test_set_reaches_every_cell_and_merges_what_became_equal(self):
        assert {c.params["prompts"] for c in presets.cells(EXPERIMENT, "grid", set_=["prompts=50"])} == {50}
        assert {c.params["temperature"] for c in presets.cells(EXPERIMENT, "grid", set_=["temperature=1e-1"])} == {0.1}
        assert {c.params["label"] for c in presets.cells(EXPERIMENT, "grid", set_=["label=2024"])} == {"2024"}
        assert len(presets.cells(EXPERIMENT, "grid", set_=["model=ladder-160k"])) == 2

    def test_a_parameter_may_say_how_many_gpus_and_follows_what_is_set(self):
        assert [cell.gpus for cell in presets.cells(EXPERIMENT, "counted")] == [2]
        assert [cell.gpus for cell in presets.cells(EXPERIMENT, "counted", set_=["threads=3"])] == [3]
        assert [cell.gpus for cell in presets.cells(EXPERIMENT, "defaulted")] == [20]
        assert "did you mean 'threads'?" in complaint("miscounted")

    def test_all_selects_every_cell(self):
        assert chosen(only=["model=all"]) == chosen() == chosen(only=["model=all", "seed=all"])
        assert chosen(only=["model=all", "seed=1"]) == chosen(only=["seed=1"])
        assert chosen(skip=["seed=all"]) == []

    def test_mistakes(self):
        assert "did you mean 'model'?" in complaint(only=["modle=ladder-1m"])
        assert "did you mean 'ladder-60k'?" in complaint(only=["model=ladder-160k"])
        assert "name=value" in complaint(only=["model"])
        assert "whole number" in complaint(set_=["prompts=many"])
        assert "did you mean 'grid'?" in complaint("gird")
        assert "unknown key 'gird'; did you mean 'grid'?" in complaint("misspelt key")
        assert "did you mean 'model'?" in complaint("misspelt parameter")
        assert "did you mean 'seed'?" in complaint("misspelt exclusion")


@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if not name.startswith("bench/")])
def test_every_shipped_preset_resolves(experiment):
    shipped = presets.load_yaml(experiment)["presets"]
    assert {"micro", "quick", "standard", "full"} <= shipped.keys()
    for preset in shipped:
        assert all(cell.resolved() for cell in presets.cells(experiment, preset))


def test_every_parameter_file_belongs_to_an_experiment():
    named = {path.stem for path in paths.PARAMS.glob("*.yaml")} - {"plans"}
    assert named == {n for n in EXPERIMENTS if not n.startswith("bench/")}


def test_aliases_are_understood_by_every_filter():
    full = presets.cells("2a_specdec", "full", set_=["num_tokens=3"], only=["ngram_prompt_lookup_max=4"])
    assert {cell.resolved().num_speculative_tokens for cell in full} == {3} and len(full) == 10
    with pytest.raises(ParameterError, match="No cell of preset 'full' has num_speculative_tokens=7"):
        presets.cells("2a_specdec", "full", only=["num_tokens=7"])


def test_an_experiment_without_presets_says_so():
    with pytest.raises(ParameterError, match=r"no presets.*choose one of 1a3_scaling"):
        presets.cells("bench/sampling", "quick")


def test_the_published_grid():
    full = {c.resolved().model: c for c in presets.cells(EXPERIMENT, "full")}
    assert list(full) == [f"Qwen/Qwen2.5-{size}-Instruct" for size in ("0.5B", "1.5B", "3B", "7B")]
    for cell in full.values():
        params = cell.resolved()
        assert (params.prompts, params.dtype, params.threshold, cell.gpus) == (10, "float16", 0.055, 1)
        assert cell.exclusive


def test_a_filter_on_a_list_finds_the_cells_that_hold_it():
    found = presets.cells("3a_poh_scaling", "quick", only=["arch=poh"])
    assert [cell.resolved().arch for cell in found] == [["poh", "stack", "stack_params"]]
    with pytest.raises(ParameterError, match=r"No cell of preset 'quick' has arch"):
        presets.cells("3a_poh_scaling", "quick", only=["arch=[poh, loop]"])
