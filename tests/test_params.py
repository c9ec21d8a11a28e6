"""Parameters: nothing unknown or ill-typed gets through, and one sentence says what to type instead."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lib.params import NOT_HASHED, ParameterError, Scaling, config_hash, resolve, split_arm

EXPERIMENT = "1a3_scaling"

# one other legal value for every parameter; a new parameter without one fails test_every_result_changes_the_hash
OTHER = {
    "model": "ladder-60k",
    "load_format": "dummy",
    "dtype": "bfloat16",
    "device": "cpu",
    "threads": 2,
    "prompts": 3,
    "prompt_tokens": 100,
    "max_new_tokens": 31,
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "threshold": 0.2,
    "branch_factor": 4,
    "max_paths": 10,
    "num_samples": 5,
    "arms": ["naive", "eab"],
    "repeats": 2,
    "compile": True,
    "questions": 2,
    "answer_tokens": 9,
    "replicates": 3,
    "reference": 300,
    "seed": 1,
    "trust_remote_code": True,
    "label": "mine",
    "preset": "quick",
    "run_dir": "here",
    "runs_dir": "there",
}


def complaint(**raw) -> str:
    with pytest.raises(ParameterError) as caught:
        resolve(EXPERIMENT, raw)
    return str(caught.value)


def test_defaults_are_the_published_settings():
    params = resolve(EXPERIMENT, {})
    published = {
        "prompt_tokens": 200,
        "temperature": 0.8,
        "max_new_tokens": 30,
        "threshold": 0.055,
        "branch_factor": 3,
        "max_paths": 20,
    }
    assert published.items() <= params.model_dump().items()


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"modle": "ladder-1m"}, "did you mean 'model'?"),
        ({"Temperature": 1.0}, "did you mean 'temperature'?"),
        ({"max_new_token": 5}, "did you mean 'max_new_tokens'?"),
        ({"model": 7}, "-r model 7"),  # what `papermill -p model 7` sends
        ({"temperature": "0.8"}, "'temperature' is '0.8' but should be a number"),
        ({"temperature": float("nan")}, "finite"),
        ({"temperature": True}, "should be a number"),
        ({"prompts": 2.0}, "should be a whole number"),
        ({"prompts": "2"}, "should be a whole number"),
        ({"prompts": True}, "should be a whole number"),
        ({"prompts": 0}, "greater than or equal to 1"),
        ({"prompts": None}, "should be a whole number"),
        ({"trust_remote_code": 1}, "trust_remote_code"),
        ({"dtype": "fp16"}, "'float16'"),
        ({"arms": "naive,eab"}, "-y 'arms: [naive, eab]'"),
        ({"arms": ["naive", "eab", "eabb"]}, "did you mean 'eab'?"),
        ({"arms": ["naive", "eab", "eab@often"]}, "like eab@0.055"),
        ({"arms": ["naive", "eab", "batched@0.1"]}, "like eab@0.055"),
        ({"arms": ["naive", "eab", "eab@0.10", "eab@0.1"]}, "listed twice"),
        ({"arms": ["naive", "batched"]}, "both 'naive' and 'eab'"),
        ({"branch_factor": 30}, "raise max_paths or lower branch_factor"),
        ({"model": "Qwen2.5-8B"}, "Qwen2.5-7B"),
    ],
)
def test_a_mistake_is_one_sentence_that_helps(raw, expected):
    text = complaint(**raw)
    assert expected in text
    assert "\n" not in text
    assert text[0].isupper() or text.startswith(EXPERIMENT)


def test_unknown_experiment():
    with pytest.raises(ParameterError, match="did you mean '1a3_scaling'"):
        resolve("1a3_scale", {})


@given(name=st.text(min_size=1), value=st.one_of(st.integers(), st.floats(), st.text(), st.none()))
def test_no_unknown_name_is_ever_accepted(name, value):
    if name not in Scaling.model_fields:
        assert repr(name) in complaint(**{name: value})


@given(temperature=st.floats(0.01, 10), prompts=st.integers(1, 10**6), seed=st.integers(0, 2**40))
def test_what_was_resolved_resolves_to_itself(temperature, prompts, seed):
    once = resolve(EXPERIMENT, {"temperature": temperature, "prompts": prompts, "seed": seed})
    again = resolve(EXPERIMENT, yaml.safe_load(yaml.safe_dump(once.model_dump(mode="json"))))
    assert again == once
    assert config_hash(again) == config_hash(once)


def test_every_result_changes_the_hash_and_nothing_else_does():
    assert OTHER.keys() == Scaling.model_fields.keys()
    base = config_hash(resolve(EXPERIMENT, {}))
    for name, value in OTHER.items():
        changed = config_hash(resolve(EXPERIMENT, {name: value})) != base
        assert changed == (name not in NOT_HASHED), name


def test_spellings_of_the_same_run_share_a_hash():
    assert config_hash(resolve(EXPERIMENT, {"temperature": 1})) == config_hash(
        resolve(EXPERIMENT, {"temperature": 1.0})
    )
    short, full = ({"model": name} for name in ("Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"))
    assert config_hash(resolve(EXPERIMENT, short)) == config_hash(resolve(EXPERIMENT, full))


def test_arms_with_a_threshold_of_their_own():
    assert split_arm("eab") == ("eab", None)
    assert split_arm("eab_sequential@0.1") == ("eab_sequential", 0.1)
    params = resolve(EXPERIMENT, {"arms": ["naive", "eab", "eab@0.1"]})
    assert params.modules() == ("lib.generators.eab", "lib.generators.naive")


def test_folder_label_is_the_models_own_name():
    assert resolve(EXPERIMENT, {"model": "Qwen2.5-7B"}).folder_label() == "Qwen2.5-7B-Instruct"
    assert resolve(EXPERIMENT, {"label": "try"}).folder_label() == "try"
