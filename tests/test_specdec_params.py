"""Parameters of 2a: the published plan's names and values, groups and models, what cannot be had, what compares."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import notebooks, papermill_io, paths, presets, runs
from lib.generators import speculative
from lib.models.groups import GROUPS
from lib.params import NOT_HASHED, ParameterError, SpecDec, config_hash, own_names, resolve

EXPERIMENT = "2a_specdec"
PLAN = ["qwen2_7b", "qwen2_72b", "qwen3_32b", "llama3_8b", "llama3_70b"]
MODELS = {
    "qwen2_7b": "Qwen/Qwen2-7B-Instruct",
    "qwen2_72b": "Qwen/Qwen2-72B-Instruct",
    "qwen3_32b": "Qwen/Qwen3-32B",
    "llama3_8b": "meta-llama/Meta-Llama-3-8B-Instruct",
    "llama3_70b": "meta-llama/Meta-Llama-3-70B-Instruct",
}

# one other legal value for every parameter; a new parameter without one fails test_every_result_changes_the_hash
OTHER = {
    "group": "ladder_3m",
    "model": "ladder-60k",
    "method": "draft",
    "backend": "transformers",
    "num_speculative_tokens": 3,
    "prompt_lookup_max": 3,
    "prompt_lookup_min": 2,
    "draft_sample_method": "probabilistic",
    "tree_width": 2,
    "eagle_model": "ladder-1m",
    "draft_model": "ladder-160k",
    "benchmark": "",  # set by the test, to a file that exists
    "requests": 3,
    "max_new_tokens": 31,
    "temperature": 0.7,
    "top_k": 5,
    "top_p": 0.9,
    "batch_size": 2,
    "batch_sizes": [],
    "batch_requests": 8,
    "traces": 0,
    "repeats": 2,
    "paired": False,
    "dtype": "bfloat16",
    "device": "cpu",
    "threads": 2,
    "load_format": "dummy",
    "tensor_parallel_size": 2,
    "gpu_memory_utilization": 0.5,
    "max_model_len": 512,
    "trust_remote_code": True,
    "seed": 1,
    "label": "mine",
    "preset": "quick",
    "run_dir": "here",
    "runs_dir": "there",
}


def params(**raw) -> SpecDec:
    return resolve(EXPERIMENT, raw)


def complaint(**raw) -> str:
    with pytest.raises(ParameterError) as caught:
        params(**raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def cells(preset: str, **filters) -> dict[str, presets.Cell]:
    """Label -> cell, in order."""
    found = presets.cells(EXPERIMENT, preset, **filters)
    by_label = {cell.label: cell for cell in found}
    assert len(by_label) == len(found)
    return by_label


def refusal(preset: str, **filters) -> str:
    with pytest.raises(ParameterError) as caught:
        presets.cells(EXPERIMENT, preset, **filters)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- the published plan -----------------------------------------------------------------------------------------------


def test_the_plans_values_are_the_defaults_and_those_of_every_shipped_cell():
    assert (params().num_speculative_tokens, params().prompt_lookup_max, params().prompt_lookup_min) == (5, 4, 1)
    for preset in presets.load_yaml(EXPERIMENT)["presets"]:
        for cell in cells(preset).values():
            resolved = cell.resolved()
            assert (resolved.num_speculative_tokens, resolved.prompt_lookup_max) == (5, 4), (preset, cell.label)
            assert cell.params["prompt_lookup_min"] == 1, "vLLM would set it to the maximum"


def test_the_plans_names_of_parameters():
    typed = params(num_tokens=3, ngram_prompt_lookup_max=2)
    assert (typed.num_speculative_tokens, typed.prompt_lookup_max) == (3, 2)
    assert config_hash(typed) == config_hash(params(num_speculative_tokens=3, prompt_lookup_max=2))
    assert params(num_tokens=3, num_speculative_tokens=3).num_speculative_tokens == 3
    assert complaint(num_tokens=3, num_speculative_tokens=4) == (
        "num_tokens is another name for num_speculative_tokens, and they differ; give one of them."
    )
    assert "did you mean 'num_tokens'?" in complaint(num_token=3)
    assert "'num_speculative_tokens' is 0 but should be" in complaint(num_tokens=0)


def test_own_names_touch_nothing_else():
    assert own_names(EXPERIMENT, {"num_tokens": 3, "PAPERMILL_INPUT_PATH": "x"}) == {
        "num_speculative_tokens": 3,
        "PAPERMILL_INPUT_PATH": "x",
    }


def test_the_plans_names_reach_a_notebook_as_its_own(tmp_path, monkeypatch):
    """The notebook's parameters cell sets num_speculative_tokens to 5, which must not contradict `-p num_tokens 3`."""
    handed = {}

    def execute(notebook, params, parameters, folder, *rest, **options):
        handed.update(params=params, parameters=parameters)

    monkeypatch.setattr(notebooks, "execute", execute)
    typed = {"num_tokens": 3, "runs_dir": str(tmp_path)}
    papermill_io._execute_ours(str(paths.NOTEBOOKS / f"{EXPERIMENT}.ipynb"), papermill_io.PLACEHOLDER, typed)
    assert handed["params"].num_speculative_tokens == 3
    assert handed["parameters"] == {"num_speculative_tokens": 3, "runs_dir": str(tmp_path)}
    # as in a notebook whose first cells are run a second time, where only names of parameters are looked at
    run = runs.open_run(EXPERIMENT, typed)
    again = {"__name__": "__main__", "run": run, "other": 7, **typed}
    assert runs.open_run(EXPERIMENT, again).params == run.params


def test_full_is_the_plans_grid_with_its_labels_and_gpus():
    full = cells("full")
    assert list(full) == [f"{group}_{method}" for group in PLAN for method in ("baseline", "ngram")]
    assert {label: cell.gpus for label, cell in full.items() if label.endswith("ngram")} == {
        "qwen2_7b_ngram": 1, "qwen2_72b_ngram": 4, "qwen3_32b_ngram": 2, "llama3_8b_ngram": 1, "llama3_70b_ngram": 4,
    }  # fmt: skip
    for cell in full.values():
        resolved = cell.resolved()
        assert (resolved.backend, resolved.model) == ("vllm", MODELS[resolved.group])
        assert cell.exclusive
        assert not resolved.paired, "two engines do not fit on the GPUs of one"
    assert list(cells("full_eagle")) == [f"{g}_{m}" for g in PLAN for m in ("baseline", "ngram", "eagle")]


def test_the_plans_flags_have_their_filters():
    assert list(cells("full", only=["group=qwen2_7b"])) == ["qwen2_7b_baseline", "qwen2_7b_ngram"]
    assert list(cells("full", only=["group=all"])) == list(cells("full"))
    assert list(cells("full", only=["group=all"], skip=["method=baseline"])) == [f"{group}_ngram" for group in PLAN]
    assert list(cells("full_eagle", skip=["method=baseline", "method=ngram"])) == [f"{group}_eagle" for group in PLAN]


def test_a_benchmark_is_given_by_any_path_and_kept_by_the_absolute_one(tmp_path, monkeypatch):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Hello."}\n')
    monkeypatch.chdir(tmp_path)
    for cell in cells("full", set_=["benchmark=mine.jsonl"]).values():
        assert cell.resolved().benchmark == str(tmp_path / "mine.jsonl")
    missing = refusal("full", set_=["benchmark=yours.jsonl"])
    assert missing.startswith(f"There is no benchmark file '{tmp_path / 'yours.jsonl'}': give the path of a file with")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Hello."}\n{"promt": "Hello."}\n')
    assert refusal("full", set_=["benchmark=mine.jsonl"]).startswith("Line 2 of benchmark '")
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Hello."}\n')
    assert "requests is 0" in complaint(requests=0)
    assert params(requests=0, benchmark="mine.jsonl").requests == 0


# --- group and model name each other ----------------------------------------------------------------------------------


@pytest.mark.parametrize("group", PLAN)
def test_a_group_names_its_model_and_the_model_its_group(group):
    assert params(group=group).model == MODELS[group]
    assert params(model=MODELS[group]).group == group
    both = params(group=group, model=MODELS[group])
    assert both == params(group=group)
    # a notebook hands over every parameter, so a model at its default was not given
    assert params(group=group, model="ladder-1m") == both


@pytest.mark.parametrize(
    ("spelling", "group"),
    [
        ("ladder_3m", "ladder_3m"),
        ("ladder-3m", "ladder_3m"),
        ("Qwen/Qwen2-7B-Instruct", "qwen2_7b"),
        ("ladder_1m+arithmetic", "ladder_1m+arithmetic"),
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_every_spelling_of_a_group_is_one_cell(spelling, group):
    typed = params(group=spelling)
    assert typed.group == group
    assert config_hash(typed) == config_hash(params(model=typed.model))
    assert params(**typed.model_dump()) == typed


def test_contradictions_and_unknown_groups_are_one_sentence():
    assert complaint(group="qwen2_7b", model="ladder-3m") == (
        "Group 'qwen2_7b' means Qwen/Qwen2-7B-Instruct, not ladder-3m; give one of the two."
    )
    assert complaint(group="qwen2_7") == "No group is called 'qwen2_7': the nearest is 'qwen2_7b'."
    assert "the nearest is 'ladder_160k'" in complaint(group="ladder_160")
    assert "run the sweep" in complaint(group="all")
    assert "Qwen2-7B" in complaint(model="Qwen2-8B")
    assert "No model is called ''" in complaint(model="")
    assert "-r group 7" in complaint(group=7)
    assert "-r model 7" in complaint(model=7)


def test_labels_of_hub_ids_and_folders_keep_the_method(tmp_path):
    folder = tmp_path / "a-long-name" / "model"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    assert params(model=str(folder), method="draft").folder_label() == "model_draft"
    assert params(model="Qwen2.5-7B").folder_label() == "Qwen2.5-7B-Instruct_ngram"
    assert params(label="mine").folder_label() == "mine"


def test_filters_by_model_select_that_model_alone(monkeypatch):
    """A model at its default counts as not given, which must not make the filter select every group."""
    groups = {"presets": {"two": {"grid": {"group": ["ladder_1m", "ladder_3m"]}}}}
    with monkeypatch.context() as patch:
        patch.setattr(presets, "load_yaml", lambda experiment: groups)
        assert list(cells("two", only=["model=ladder-1m"])) == ["ladder_1m_ngram"]
        assert list(cells("two", skip=["model=ladder-1m"])) == ["ladder_3m_ngram"]
    assert list(cells("full", only=["model=Qwen2-7B", "method=ngram"])) == ["qwen2_7b_ngram"]


def test_setting_a_group_or_a_model_takes_away_the_others_say():
    (cell,) = presets.cells(EXPERIMENT, "micro", set_=["group=ladder_160k"])
    assert cell.resolved().model == "ladder-160k"
    assert {c.resolved().group for c in presets.cells(EXPERIMENT, "sampled", set_=["model=ladder-3m"])} == {"ladder_3m"}
    assert "give one of the two" in refusal("full", set_=["model=Qwen2-7B", "group=llama3_8b"])


def test_gpus_follow_what_is_set():
    assert {c.gpus for c in cells("full", set_=["tensor_parallel_size=8"]).values()} == {8}
    assert {c.gpus for c in cells("quick").values()} == {0}


# --- what cannot be had -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"backend": "transformers", "method": "eagle"}, "transformers has no method eagle; it has baseline, ngram"),
        ({"backend": "transformers", "method": "hybrid"}, "transformers has no method hybrid"),
        ({"backend": "vllm", "method": "hybrid"}, "vllm has no method hybrid; it has baseline, ngram, draft, eagle."),
        ({"model": "Qwen2.5-7B", "method": "eagle"}, "has no EAGLE head that we know of; give one as eagle_model."),
        ({"model": "Qwen2.5-7B", "method": "hybrid"}, "has no EAGLE head that we know of"),
        ({"group": "qwen2_72b", "method": "draft"}, "qwen2_72b has no draft model of its vocabulary that we know of"),
        ({"model": "ladder-60k", "method": "draft"}, "ladder_60k has no draft model of its vocabulary"),
        ({"group": "qwen3_32b", "method": "eagle"}, "is an EAGLE-3 head, which only the vllm backend runs"),
        ({"group": "qwen3_32b", "method": "hybrid"}, "is an EAGLE-3 head, which only the vllm backend runs"),
        (
            {"group": "qwen2_7b", "method": "eagle", "backend": "vllm"},
            "no EagleQwen2ForCausalLM; convert the head",
        ),
        ({"tensor_parallel_size": 2}, "torch runs a model on one device; set tensor_parallel_size=1, or backend=vllm."),
        ({"backend": "vllm", "device": "cuda:1"}, "leave device at auto"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(raw, expected):
    reason = params(**raw).unavailable()
    assert expected in reason
    assert reason.endswith(".") and "\n" not in reason


@pytest.mark.parametrize(
    "raw",
    [
        {"model": "Qwen2.5-7B", "method": "eagle", "eagle_model": "someone/head"},
        {"group": "qwen2_7b", "method": "eagle", "backend": "vllm", "eagle_model": "someone/converted"},
        {"group": "qwen2_7b", "method": "eagle"},
        {"group": "qwen3_32b", "method": "eagle", "backend": "vllm"},
        {"group": "qwen3_32b", "method": "eagle", "eagle_model": "someone/eagle-1"},
        {"group": "qwen2_72b", "method": "draft", "draft_model": "Qwen2-7B"},
        {"group": "llama3_8b", "method": "eagle", "backend": "vllm", "tensor_parallel_size": 2},
        {"model": "ladder-1m", "method": "hybrid"},
        {"model": "ladder-1m", "method": "draft", "backend": "transformers"},
    ],
)
def test_what_can_be_had_is_not_refused(raw):
    assert params(**raw).unavailable() is None


@pytest.mark.parametrize("method", speculative.METHODS)
@pytest.mark.parametrize("backend", speculative.BACKENDS)
def test_unavailable_agrees_with_what_the_engines_support(backend, method):
    reason = params(model="ladder-3m", backend=backend, method=method).unavailable()
    assert (reason is None) == (method in speculative.SUPPORTED[backend])


def test_the_plans_heads_are_those_it_names():
    named = {
        "qwen2_7b": "yuhuili/EAGLE-Qwen2-7B-Instruct",
        "qwen2_72b": "yuhuili/EAGLE-Qwen2-72B-Instruct",
        "llama3_8b": "yuhuili/EAGLE-LLaMA3-Instruct-8B",
    }
    assert named.items() <= {name: group.eagle for name, group in GROUPS.items()}.items()
    assert list(GROUPS) == PLAN


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"prompt_lookup_min": 5}, "prompt_lookup_min 5 is above prompt_lookup_max 4; lower it."),
        ({"tree_width": 2}, "tree_width above 1 needs method eagle"),
        ({"tree_width": 2, "method": "eagle", "batch_size": 2}, "batch_size 1"),
        ({"tree_width": 2, "method": "eagle", "draft_sample_method": "probabilistic"}, "draft_sample_method greedy"),
        ({"backend": "transformers", "batch_size": 2}, "set batch_size and prompt_lookup_min to 1"),
        ({"batch_sizes": [1, 0]}, "a batch holds at least one request"),
        ({"batch_sizes": "1,8"}, "-y 'batch_sizes: [1, 8]'"),
        ({"batch_sizes": 8}, "--set 'batch_sizes=[8]'"),
        ({"method": "eagel"}, "'eagle'"),
        ({"draft_model": "ladder-2m"}, "try 'ladder-3m'"),
        ({"eagle_model": "/nowhere/at/all"}, "no such folder exists"),
        ({"temperature": float("inf")}, "finite"),
        ({"gpu_memory_utilization": 1.5}, "less than or equal to 1"),
        ({"max_new_tokens": 1}, "greater than or equal to 2"),
    ],
)
def test_a_mistake_is_one_sentence_that_helps(raw, expected):
    assert expected in complaint(**raw)


# --- what may be compared ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [("gpu_memory_utilization", 0.75), ("max_model_len", 4096), ("tensor_parallel_size", 2), ("dtype", "bfloat16"),
     ("threads", 2), ("load_format", "dummy")],
)  # fmt: skip
def test_arms_whose_engines_differ_are_refused_before_anything_runs(name, value, monkeypatch):
    """The published study gave its baseline 0.9 of the memory and all positions, its n-gram arm 0.75 and 8192."""
    rule = {"where": {"method": "ngram"}, "set": {name: value}}
    document = presets.load_yaml(EXPERIMENT)
    full = document["presets"]["full"]
    full["overrides"] = [*full["overrides"], rule]
    monkeypatch.setattr(presets, "load_yaml", lambda experiment: document)
    text = refusal("full", only=["group=qwen2_7b"])
    assert text.startswith(f"qwen2_7b_ngram and qwen2_7b_baseline differ in {name} ({value} and ")
    assert text.endswith("so their times cannot be compared; give both the same.")
    assert cells("full", only=["group=qwen2_7b", "method=ngram"])


def test_groups_and_backends_may_differ_from_each_other():
    some = [params(model="ladder-1m", backend=b, threads=t) for b, t in (("torch", 1), ("transformers", 2))]
    some.append(params(model="ladder-3m", max_model_len=100))
    SpecDec.check_grid(some)
    with pytest.raises(ParameterError, match="differ in threads"):
        SpecDec.check_grid([*some, params(model="ladder-1m", threads=2)])


# --- the hash ---------------------------------------------------------------------------------------------------------


def test_every_result_changes_the_hash_and_nothing_else_does(tmp_path):
    (tmp_path / "mine.jsonl").write_text('{"prompt": "Hello."}')
    other = OTHER | {"benchmark": str(tmp_path / "mine.jsonl")}
    assert other.keys() == SpecDec.model_fields.keys()
    with_them = {"tree_width": {"method": "eagle"}}
    for name, value in other.items():
        rest = with_them.get(name, {})
        changed = config_hash(params(**rest, **{name: value})) != config_hash(params(**rest))
        assert changed == (name not in NOT_HASHED), name


@given(tokens=st.integers(1, 64), temperature=st.floats(0, 5), group=st.sampled_from([*PLAN, "ladder_3m"]))
def test_what_was_resolved_resolves_to_itself(tokens, temperature, group):
    once = params(group=group, num_tokens=tokens, temperature=temperature)
    again = params(**json.loads(json.dumps(once.model_dump(mode="json"))))
    assert again == once
    assert config_hash(again) == config_hash(once)
