"""What 4a may be told: the plan's settings are all there, and nonsense is one sentence at once."""

import pytest

from lib.models.bridge import SENDERS
from lib.models.bridge_training import OPTIMIZERS
from lib.params import ParameterError, config_hash, resolve
from lib.params import bridge as params_of_bridge
from lib.params.bridge import Bridge

NAME = "4a_bridge"


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ({"task": "arithmetics"}, "did you mean 'arithmetic'"),
        ({"task": ""}, "choose one of arithmetic"),
        ({"kind": "resample"}, "did you mean 'resampler'"),
        ({"optimizer": "sgd"}, "choose one of muon, adamw"),
        ({"info_nce_start": "warm-up"}, "did you mean 'warmup'"),
        ({"stressor": "hott"}, "did you mean 'hot'"),
        ({"stressor": "xyz"}, "choose one of hot"),
        ({"source": "bridge-sorce"}, "bridge-source"),
        ({"target": "/nowhere/at/all"}, "/nowhere/at/all"),
        ({"source_layer": 0.0}, "source_layer"),
        ({"source_layer": 1.5}, "source_layer"),
        ({"soft_tokens": 0}, "soft_tokens"),
        ({"soft_tokens": 2.5}, "soft_tokens"),
        ({"wire_dim": 0}, "wire_dim"),
        ({"heads": 7}, "7 heads do not divide a bottleneck of"),
        ({"depth": 0}, "depth"),
        ({"ffn": -1}, "ffn"),
        ({"info_nce": -0.1}, "info_nce"),
        ({"distill": float("inf")}, "distill"),
        ({"reconstruct": float("nan")}, "reconstruct"),
        ({"info_nce": True}, "info_nce"),
        ({"patience": -1}, "patience"),
        ({"hygiene": "maybe"}, "hygiene"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"learning_rate": float("nan")}, "learning_rate"),
        ({"warmup": 400, "steps": 300}, "longer than the training of 300"),
        ({"evaluations": 12, "steps": 10, "warmup": 1}, "no room for 12 evaluations"),
        ({"clip": -1.0}, "clip"),
        ({"batch_size": 1}, "batch_size"),
        ({"train": 8, "batch_size": 16}, "do not fill a batch of 16"),
        ({"test": 1}, "test"),
        ({"seed": []}, "at least one"),
        ({"seed": [1, 1]}, "each once"),
        ({"seed": [-1]}, "none below 0"),
        ({"seed": "[0, 1"}, "cannot be read as a list"),
        ({"seed": True}, "seed"),
        ({"seed": [0.5]}, "seed"),
        ({"data": "rows.jsonl"}, "leave 'data' empty"),
        ({"data": "rows.jsonl", "task": "multihop"}, "reads no data"),
        ({"device": "gpu"}, "device"),
        ({"dtype": "int8"}, "dtype"),
        ({"processes": -1}, "processes"),
        ({"threads": 0}, "threads"),
        ({"soft_token": 8}, "did you mean 'soft_tokens'"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_nonsense_is_refused_in_a_sentence(raw, said):
    with pytest.raises(ParameterError) as refused:
        resolve(NAME, raw)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).rstrip().endswith((".", "?"))


def test_one_seed_is_a_list_of_one():
    one, many, text = (resolve(NAME, {"seed": seed}) for seed in (7, [7], "[7]"))
    assert config_hash(one) == config_hash(many) == config_hash(text)
    assert resolve(NAME, {"seed": "[0, 3]"}).seed == [0, 3]  # as papermill's -p passes it


def test_every_choice_of_the_code_can_be_asked_for():
    assert set(params_of_bridge.KINDS) == set(SENDERS)
    assert set(params_of_bridge.OPTIMIZERS) == set(OPTIMIZERS)
    from lib.bridge import stressors, tasks

    assert set(params_of_bridge.TASKS) == set(tasks.TASKS)
    for name in params_of_bridge.STRESSORS:
        assert f"| `{name}` |" in stressors.__doc__
        assert resolve(NAME, {"stressor": name}).stressor == name


@pytest.mark.parametrize(
    ("raw", "label"),
    [
        ({"label": "1a_stable_64tok", "info_nce": 0.05}, "1a_stable_64tok"),
        ({"soft_tokens": 8, "wire_dim": 4}, "arithmetic_resampler_8x4_info_nce"),
        ({"info_nce": 0.0, "kind": "linear", "soft_tokens": 8, "wire_dim": 4}, "arithmetic_linear_8x4"),
        ({"distill": 0.5, "stressor": "hot", "soft_tokens": 8, "wire_dim": 4}, "resampler_8x4_info_nce_distill_hot"),
    ],
)
def test_a_run_without_a_label_is_named_after_what_it_is(raw, label):
    assert resolve(NAME, raw).folder_label().endswith(label)


def test_info_nce_starts_at_half_of_the_warm_up_or_of_the_training():
    """The plan's words, 50 %, are of the warm-up in its code."""
    sizes = {"warmup": 30, "steps": 200}
    assert resolve(NAME, sizes).info_nce_from == 15
    assert resolve(NAME, sizes | {"info_nce_start": "training"}).info_nce_from == 100


def test_the_plans_settings_can_be_asked_for():
    for tokens, width, depth, heads, warmup in ((32, 768, 4, 12, 600), (48, 1024, 6, 16, 750), (64, 1024, 8, 16, 750)):
        shape = {"soft_tokens": tokens, "bottleneck": width, "depth": depth, "heads": heads, "warmup": warmup}
        made = resolve(NAME, {**shape, "learning_rate": 1e-4, "optimizer": "adamw", "steps": 3000, "task": "gsm8k"})
        assert (made.soft_tokens, made.depth, made.warmup) == (tokens, depth, warmup)


def test_only_a_pair_that_is_trained_here_depends_on_how():
    assert "lib.models.bridge_pair" in resolve(NAME, {}).modules()
    assert resolve(NAME, {"source": "Qwen2.5-0.5B", "target": "Qwen2.5-1.5B"}).modules() == ()


@pytest.mark.parametrize("name", params_of_bridge.COMPARED)
def test_cells_of_a_task_must_be_comparable(name):
    other = {"source": "Qwen2.5-0.5B", "target": "Qwen2.5-0.5B", "source_layer": 0.5, "data": "x"}.get(name, 33)
    one = resolve(NAME, {})
    changed = one.model_copy(update={name: other})
    with pytest.raises(ParameterError, match=f"differ in {name} "):
        Bridge.check_grid([one, changed])
    Bridge.check_grid([one, changed.model_copy(update={"task": "multihop"})])


def test_cells_may_differ_in_everything_that_is_studied():
    one = resolve(NAME, {})
    Bridge.check_grid(
        [one, resolve(NAME, {"soft_tokens": 4, "kind": "linear", "seed": [3], "train": 500, "steps": 40})]
    )


@pytest.mark.parametrize("name", ["arithmetic", "multihop"])
def test_an_answer_fits_into_what_may_be_written(name):
    from lib.bridge.tasks import TASKS
    from lib.models import bridge_pair

    task, reader = TASKS[name], bridge_pair.tokenizer("qwen2")
    splits = ("test", *task.shifts)
    longest = max(len(reader(i.answer)["input_ids"]) for split in splits for i in task.load(split, 200, ""))
    assert longest + 1 <= task.max_new_tokens
