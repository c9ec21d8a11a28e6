"""What 4b may be told: known codecs, each once, and cells that can be compared."""

import pytest

from lib.models import wire
from lib.params import ParameterError, resolve
from lib.params import wire as parameters


def test_the_codecs_are_those_of_the_wire():
    assert wire.CODECS == parameters.CODECS


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"codecs": ["int5"]}, "did you mean 'int4'|did you mean 'int6'|did you mean 'int"),
        ({"codecs": []}, "at least one"),
        ({"codecs": ["int4", "int4"]}, "each once"),
        ({"scales": ["fp8"]}, "did you mean 'fp"),
        ({"seed": []}, "at least one"),
        ({"seed": [0, 0]}, "each once"),
        ({"seed": [-1]}, "none below 0"),
        ({"group": 0}, "greater than or equal to 1"),
        ({"noise_bits": 1}, "2 to 8"),
        ({"gsm8k": "no/such/file.jsonl"}, "no file or folder"),
        ({"codec": "int4"}, "did you mean 'codecs'"),
    ],
)
def test_refuses_in_one_sentence(given, says):
    with pytest.raises(ParameterError, match=says):
        resolve("4b_wire", given)


def test_lists_may_be_typed_as_text_or_as_one():
    found = resolve("4b_wire", {"codecs": "[int4, fp32]", "seed": 3, "scales": "fp16"})
    assert (found.codecs, found.seed, found.scales) == (["fp32", "int4"], [3], ["fp16"])


def test_a_label_says_what_is_changed():
    assert resolve("4b_wire", {}).folder_label() == "1a_stable_8tok"
    changed = {"bridge": "standard/1b_baseline_16tok", "wire_dim": 6, "noise_bits": 4}
    assert resolve("4b_wire", changed).folder_label() == "1b_baseline_16tok_x6_noise4"


def test_cells_of_one_grid_have_the_same_items_and_groups():
    cells = [resolve("4b_wire", {"test": 10}), resolve("4b_wire", {"test": 12})]
    with pytest.raises(ParameterError, match="differ in test"):
        type(cells[0]).check_grid(cells)
