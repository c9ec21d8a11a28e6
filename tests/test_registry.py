"""Names mean what the seeds say, and every dimension in the registry gives the model that transformers would build."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib import paths
from lib.models import groups, registry
from lib.models.registry import ENTRIES, LADDER, PAIR, SKILLS, ModelError, lookup, resolve_name

SEED_IDS = {
    "Qwen2.5-0.5B": "Qwen/Qwen2.5-0.5B-Instruct",
    "Qwen2.5-1.5B": "Qwen/Qwen2.5-1.5B-Instruct",
    "Qwen2.5-3B": "Qwen/Qwen2.5-3B-Instruct",
    "Qwen2.5-7B": "Qwen/Qwen2.5-7B-Instruct",
    "Llama-3.2-1B": "meta-llama/Llama-3.2-1B-Instruct",
    "Llama-3.2-3B": "meta-llama/Llama-3.2-3B-Instruct",
    "Llama-3.1-8B": "meta-llama/Llama-3.1-8B-Instruct",
    "Qwen2-7B": "Qwen/Qwen2-7B-Instruct",
    "Qwen2-72B": "Qwen/Qwen2-72B-Instruct",
    "Qwen3-32B": "Qwen/Qwen3-32B",
    "Llama-3-8B": "meta-llama/Meta-Llama-3-8B-Instruct",
    "Llama-3-70B": "meta-llama/Meta-Llama-3-70B-Instruct",
}
# Billions without embeddings as the model cards and technical reports print them.
NON_EMBEDDING = {"Qwen2.5-0.5B": 0.36, "Qwen2.5-1.5B": 1.31, "Qwen2.5-3B": 2.77, "Qwen2.5-7B": 6.53,
                 "Qwen2-72B": 70.21, "Qwen3-32B": 31.2}  # fmt: skip

every_entry = pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)


def test_short_names_are_the_seeds_instruct_models():
    assert {entry.name: resolve_name(entry.name) for entry in ENTRIES} == SEED_IDS


@every_entry
def test_every_spelling_is_one_cell(entry):
    spellings = [entry.name, entry.name.upper(), entry.hub_id, entry.hub_id.lower(), entry.hub_id.split("/")[1]]
    assert {resolve_name(f" {spelling} ") for spelling in spellings} == {entry.hub_id}
    assert all(lookup(spelling) is entry for spelling in spellings)


def test_no_spelling_means_two_models():
    spellings = [s.casefold() for e in ENTRIES for s in {e.name, e.hub_id, e.hub_id.split("/")[1]}]
    assert len(spellings) == len(set(spellings))


@every_entry
def test_formula_gives_the_published_total(entry):
    assert registry.parameter_count(entry) == entry.parameters


@every_entry
def test_transformers_builds_the_same_model(entry):
    """The model built from the entry on the meta device: parameters, embeddings, shapes of the caches."""
    torch = pytest.importorskip("torch")
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(entry.config())
    assert sum(p.numel() for p in model.parameters()) == entry.parameters
    tables = {id(m.weight): m.weight.numel() for m in (model.get_input_embeddings(), model.get_output_embeddings())}
    assert sum(tables.values()) == entry.embedding_parameters
    attention = model.model.layers[0].self_attn
    assert attention.head_dim == entry.head_dim
    assert attention.k_proj.out_features == entry.kv_heads * entry.head_dim
    assert len(model.model.layers) == entry.layers


@pytest.mark.parametrize("name", NON_EMBEDDING)
def test_non_embedding_counts_as_published(name):
    published = NON_EMBEDDING[name]
    decimals = len(str(published).split(".")[1])
    assert abs(lookup(name).non_embedding_parameters / 1e9 - published) <= 0.51 * 10**-decimals


@pytest.mark.parametrize(("field", "value"), [("family", "llama"), ("family", "qwen3"), ("tied", False)])
def test_formula_sees_biases_norms_and_tying(field, value):
    """A formula that ignored these would still be within 1 % of every total."""
    entry = lookup("Qwen2.5-0.5B")
    assert registry.parameter_count(replace(entry, **{field: value})) != entry.parameters


def test_llama_31_and_32_stretch_their_rotary_frequencies():
    assert lookup("Llama-3-8B").config().rope_parameters["rope_type"] == "default"
    rope = lookup("Llama-3.2-1B").config().rope_parameters
    assert (rope["rope_type"], rope["factor"], rope["rope_theta"]) == ("llama3", 32.0, 500_000.0)
    assert lookup("Llama-3.1-8B").config().rope_parameters["factor"] == 8.0
    assert lookup("Qwen2.5-7B").config().rope_parameters["rope_theta"] == 1_000_000.0


@every_entry
def test_weights_fit_the_gpus_with_a_fifth_to_spare(entry):
    assert 1.2 * registry.gigabytes(entry.parameters, entry.dtype) <= entry.gpus * entry.gpu_gb
    assert entry.kv_heads % entry.gpus == 0  # tensor parallelism splits whole KV heads


def test_gpus_are_within_what_the_seed_asks():
    asked = {"Qwen2-7B": (1, 1), "Llama-3-8B": (1, 1), "Qwen3-32B": (2, 4), "Qwen2-72B": (4, 8), "Llama-3-70B": (4, 8)}
    for name, (low, high) in asked.items():
        assert low <= lookup(name).gpus <= high


def test_gigabytes_of_a_7b_model():
    """The seed's own figure is about 14 GB in float16, for 7.6e9 parameters of two bytes."""
    entry = lookup("Qwen2.5-7B")
    assert registry.gigabytes(entry.parameters, "float16") == pytest.approx(15.23, abs=0.01)
    assert registry.gigabytes(entry.parameters, "float32") == 2 * registry.gigabytes(entry.parameters, "bfloat16")
    with pytest.raises(ModelError, match=r"'int8' is not a dtype.*float16"):
        registry.gigabytes(entry.parameters, "int8")


def test_only_llama_is_gated_and_names_its_page():
    assert {entry.name for entry in ENTRIES if entry.gated} == {e.name for e in ENTRIES if e.family == "llama"}
    assert lookup("Llama-3.1-8B").licence == "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize("rung", LADDER)
def test_ladder_names_with_and_without_a_skill(rung):
    assert resolve_name(rung.upper()) == rung
    assert resolve_name(f"{rung}+{SKILLS[0]}") == f"{rung}+{SKILLS[0]}"
    assert registry.is_ladder(f"{rung}+{SKILLS[0]}")
    assert registry.is_trained_here(f"{rung}+{SKILLS[0]}")
    assert lookup(rung) is None


@pytest.mark.parametrize("name", PAIR)
def test_the_trained_pair_is_known_but_is_no_rung(name):
    assert resolve_name(f" {name.upper()} ") == name
    assert registry.is_trained_here(name) and not registry.is_ladder(name)
    assert lookup(name) is None
    with pytest.raises(ModelError, match="No group is called"):
        groups.group(name)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [
        ("ladder-1mm", "ladder-1m"),
        ("ladder-160", "ladder-160k"),
        ("ladder1m", "ladder-1m"),
        ("ladder-1m+arithmetics", "ladder-1m+arithmetic"),
        ("ladder-1m+arithmetic+arithmetic", "ladder-1m+arithmetic"),
        ("bridge-sorce", "bridge-source"),
        ("bridge_target", "bridge-target"),
        ("bridge-micro-sauce", "bridge-micro-source"),
        ("Qwen2.5_7B", "Qwen2.5-7B"),
        ("qwen3", "Qwen3-32B"),
        ("Llama3.1-8B", "Llama-3.1-8B"),
        ("Llama3-70B-Instruct", "meta-llama/Meta-Llama-3-70B-Instruct"),
    ],
)
def test_a_typo_is_answered_with_the_name_meant(typo, meant):
    with pytest.raises(ModelError, match=f"'{meant}'".replace("+", r"\+")) as error:
        resolve_name(typo)
    assert str(error.value).endswith(".") and "\n" not in str(error.value)


def test_any_other_hub_id_passes_as_it_is():
    assert resolve_name("HuggingFaceTB/SmolLM2-135M") == "HuggingFaceTB/SmolLM2-135M"
    assert lookup("HuggingFaceTB/SmolLM2-135M") is None
    assert not registry.is_trained_here("HuggingFaceTB/SmolLM2-135M")


def test_a_folder_becomes_an_absolute_path(tmp_path, monkeypatch):
    (tmp_path / "team" / "model").mkdir(parents=True)
    (tmp_path / "team" / "model" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    absolute = str((tmp_path / "team" / "model").resolve())
    assert resolve_name("team/model") == resolve_name("./team/model") == resolve_name(absolute) == absolute
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_name("~/team/model") == absolute


def test_a_folder_cannot_hide_a_registered_name(tmp_path, monkeypatch):
    for name in ("ladder-1m", "bridge-source", "Qwen2.5-7B", "Qwen/Qwen2.5-7B-Instruct"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve_name("ladder-1m") == "ladder-1m" and resolve_name("bridge-source") == "bridge-source"
    assert resolve_name("Qwen2.5-7B") == resolve_name("Qwen/Qwen2.5-7B-Instruct") == "Qwen/Qwen2.5-7B-Instruct"


def test_a_folder_without_a_model_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ModelError, match=r"not a folder with a config\.json.*save_pretrained"):
            resolve_name(str(path))
    with pytest.raises(ModelError, match="no such folder exists"):
        resolve_name(str(tmp_path / "absent"))


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_one_sentence(text):
    try:
        canonical = resolve_name(text)
    except ModelError as error:
        assert str(error).endswith(".") and len(str(error).splitlines()) == 1
    else:
        assert resolve_name(canonical) == canonical


def test_names_need_no_model_stack():
    code = "import sys; from lib.models import groups, registry as r; r.resolve_name('Qwen2.5-7B');"
    code += "r.resolve_name('ladder-1m');"
    code += "assert not {'torch', 'transformers', 'huggingface_hub'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=paths.ROOT)


def test_names_of_models_trained_here_match_those_that_can_be_trained():
    ladder = pytest.importorskip("lib.models.ladder")
    assert set(ladder.RUNGS) == set(LADDER)
    assert set(ladder.skills.SKILLS) == set(SKILLS)
    from lib.models import bridge_pair

    assert set(bridge_pair.MEMBERS) == set(PAIR)


# --- groups of the speculative-decoding study -------------------------------------------------------------------------


@pytest.mark.parametrize("name", groups.GROUPS)
def test_a_published_group_is_made_of_registered_models(name):
    """A head of another size than its target, or a draft of another family, would fail on the first GPU hour."""
    found = groups.group(name)
    assert groups.group_of(found.model) == name
    target = lookup(found.model)
    assert target.hub_id == found.model
    assert found.eagle_architecture == ("qwen2" if target.family == "qwen2" else "llama")
    assert all(registry.HUB_ID.fullmatch(other) for other in (found.eagle, found.draft) if other)
    if small := lookup(found.draft):
        assert (small.family, small.vocab) == (target.family, target.vocab) and small.parameters < target.parameters


@pytest.mark.parametrize("rung", LADDER)
def test_a_ladder_group_trains_its_own_head_and_drafts_with_the_smallest_model(rung):
    name = groups.group_of(rung)
    assert name == rung.replace("-", "_")
    found = groups.group(name)
    assert (found.model, found.eagle) == (rung, rung)
    assert found.draft == ("" if rung in ("ladder-micro", "ladder-60k") else "ladder-60k")
    skilled = groups.group(groups.group_of(f"{rung}+arithmetic"))
    assert (skilled.model, skilled.eagle) == (f"{rung}+arithmetic", f"{rung}+arithmetic")


def test_any_other_model_is_a_group_by_itself(tmp_path):
    for model in ("HuggingFaceTB/SmolLM2-135M", str(tmp_path)):
        assert groups.group_of(model) == model
        assert groups.group(model) == groups.Group(model)


@pytest.mark.parametrize(
    ("typo", "meant"),
    [("qwen2-7b", "qwen2_7b"), ("llama3_80b", "llama3_8b"), ("Ladder_1M", "ladder_1m"), ("ladder_160", "ladder_160k")],
)
def test_an_unknown_group_is_answered_with_the_nearest(typo, meant):
    with pytest.raises(ModelError) as error:
        groups.group(typo)
    assert str(error.value) == f"No group is called {typo!r}: the nearest is '{meant}'."


def test_all_groups_are_the_sweeps():
    with pytest.raises(ModelError, match=r"give one of qwen2_7b, .*, or run the sweep, which has all\.$"):
        groups.group("all")
