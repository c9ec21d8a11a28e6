"""What 4c may be told: the plan's sizes are among the presets, and nonsense is one sentence at once."""

import pytest

from lib import presets
from lib.models.wire import CODECS
from lib.params import ParameterError, config_hash, resolve
from lib.params import inference as params_of_inference

NAME = "4c_inference"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"bridges": []}, "at least one"),
        ({"bridges": ["quick/a", "quick/a"]}, "each once"),
        ({"bridges": 8}, "bridges"),
        ({"backend": "vlm"}, "did you mean 'vllm'"),
        ({"samples": 1}, "samples"),
        ({"samples": 4, "batches": [1, 8]}, "compared on the same questions; take 8."),
        ({"samples": 100}, "take 96 or 104."),
        ({"samples": 20, "batches": [4, 6]}, "take 12 or 24."),
        ({"new_tokens": 1}, "new_tokens"),
        ({"batches": []}, "at least one"),
        ({"batches": [0, 1]}, "one question at least"),
        ({"batches": [4, 4]}, "each once"),
        ({"batches": [1.5]}, "batches"),
        ({"batches": "[1, 4"}, "cannot be read as a list"),
        ({"repeats": 0}, "repeats"),
        ({"codec": "int5"}, "did you mean"),
        ({"bandwidths": [-1]}, "or 0 for no link"),
        ({"bandwidths": [float("inf")]}, "or 0 for no link"),
        ({"bandwidths": [float("nan")]}, "or 0 for no link"),
        ({"bandwidths": [True]}, "bandwidths"),
        ({"threads": 0}, "threads"),
        ({"bridge": ["quick/a"]}, "did you mean 'bridges'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nonsense_is_refused_in_a_sentence(raw, said):
    with pytest.raises(ParameterError) as refused:
        resolve(NAME, raw)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).rstrip().endswith((".", "?"))


def test_lists_may_be_typed_as_papermill_hands_them_over():
    one, text = resolve(NAME, {"batches": 4, "bandwidths": 10}), resolve(NAME, {"batches": "[4]", "bandwidths": "[10]"})
    assert config_hash(one) == config_hash(text)
    assert one.bandwidths == [10.0]
    assert resolve(NAME, {"bridges": "[quick/a, quick/b]"}).bridges == ["quick/a", "quick/b"]


def test_order_within_a_list_changes_nothing():
    a, b = resolve(NAME, {"batches": [8, 1]}), resolve(NAME, {"batches": [1, 8]})
    assert config_hash(a) == config_hash(b)


def test_every_codec_of_the_wire_can_be_asked_for():
    assert params_of_inference.CODECS == CODECS


def test_presets_name_bridges_that_4a_trains():
    for preset in presets.load_yaml(NAME)["presets"]:
        for cell in presets.cells(NAME, preset):
            for name in cell.resolved().bridges:
                group, _, label = name.rpartition("/")
                assert label in {one.label for one in presets.cells("4a_bridge", group or preset)}


def test_the_full_preset_is_the_plan_on_both_backends():
    cells = [cell.resolved() for cell in presets.cells(NAME, "full")]
    assert {cell.backend for cell in cells} == {"torch", "vllm"}
    for cell in cells:
        assert cell.samples == 104
        assert cell.batches == [1, 4, 8]
        assert [name.split("_")[-1] for name in cell.bridges] == ["64tok", "32tok"]
        assert not any("/" in name for name in cell.bridges), "one GPU would train what 4a trains on four"
