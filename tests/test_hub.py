"""Loading: what comes out is what was saved, it is freed afterwards, and every failure is one useful sentence."""

import gc
import json
import shutil
import types
import weakref
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    BloomForCausalLM,
    GenerationConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

from lib.models import dummy, hub, locate, memory, registry
from lib.models.registry import Entry, ModelError

torch.set_num_threads(1)

TINY = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TINY_ENTRY = Entry("Tiny-1K", "acme/Tiny-1K-Instruct", "qwen3", 0, 2, 32, 48, 4, 2, 16, 300, True, 128, "made up")
SHA = "0" * 40


def sentence(error: pytest.ExceptionInfo) -> str:
    """The message, after checking that it is one line that ends as a sentence does."""
    text = str(error.value)
    assert text.endswith(".") and "\n" not in text and len(text) < 400, text
    return text


def save_tokenizer(folder: Path) -> None:
    words = ["<unk>", "<eos>", *(f"w{i}" for i in range(30))]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<eos>", unk_token="<unk>").save_pretrained(folder)


def save_model(folder: Path, config) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config = GenerationConfig(eos_token_id=[7, 1], top_k=20, repetition_penalty=1.05, do_sample=True)
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def tied(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("qwen2"), Qwen2Config(**TINY, tie_word_embeddings=True))


@pytest.fixture(scope="module")
def untied(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("llama"), LlamaConfig(**TINY, tie_word_embeddings=False))


@pytest.fixture
def copy(tied, tmp_path) -> Path:
    """A copy of the tied model to break."""
    return Path(shutil.copytree(tied, tmp_path / "model"))


@pytest.fixture
def empty_cache(tmp_path, monkeypatch) -> Path:
    """An empty Hugging Face cache, with a network that must not be touched."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)

    def unreachable(*args, **kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(locate, "get_hf_file_metadata", unreachable)
    monkeypatch.setattr(locate, "snapshot_download", unreachable)
    return tmp_path / "cache"


def failing(error: Exception):
    def ask(*args, **kwargs):
        raise error

    return ask


def http(cls: type, message: str = "403 Client Error") -> Exception:
    """An error of the hub with the least response its constructor accepts."""
    return cls(message, response=types.SimpleNamespace(headers={}, request=None, status_code=403))


# --- what comes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_a_folder_loads_as_it_was_saved(which, request, capsys):
    folder = request.getfixturevalue(which)
    saved = load_file(folder / "model.safetensors")
    capsys.readouterr()  # what saving it printed
    with hub.loaded(str(folder), device="cpu") as lm:
        assert not lm.model.training and lm.model.config._attn_implementation == "sdpa"
        assert lm.dtype == torch.float32 and lm.device == torch.device("cpu") and not lm.dummy
        assert lm.name == str(folder.resolve()) and lm.entry is None
        state = lm.model.state_dict()
        assert all(torch.equal(state[key], saved[key]) for key in saved)
        embedding = TINY["vocab_size"] * TINY["hidden_size"]
        assert lm.parameters == sum(t.numel() for t in saved.values())
        assert lm.parameters - lm.non_embedding_parameters == embedding * (1 if which == "tied" else 2)
        assert lm.tokenizer("w3 w4").input_ids == [5, 6]  # AutoTokenizer replaces the tokenizer of any Qwen2 folder
    assert capsys.readouterr() == ("", "")  # where nobody waits, a notebook shows no line and no bar in red


def test_generation_stops_where_tokenizer_or_generation_config_says(tied, untied):
    """The tokenizer knows one end of text, the generation config two; a list, a number and nothing are all allowed."""
    with hub.loaded(str(tied)) as lm:
        assert lm.stop_ids == (1, 7)
        lm.model.generation_config.eos_token_id = 9
        assert hub._stop_ids(lm.model.generation_config, lm.tokenizer) == (1, 9)
        lm.model.generation_config.eos_token_id = None
        assert hub._stop_ids(lm.model.generation_config, lm.tokenizer) == (1,)


def test_size_is_announced_before_the_weights_are_read(copy, capsys, monkeypatch):
    monkeypatch.setattr(hub, "SMALL", 0)
    (copy / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError):
        hub.load(str(copy), dtype="bfloat16")
    parameters = 40 * 16 + 2 * (2 * 16 * 16 + 2 * 16 * 8 + 16 + 2 * 8 + 3 * 16 * 24 + 32) + 16
    assert f"{2 * parameters / 1e6:.2g} MB of weights in bfloat16" in capsys.readouterr().err


def test_large_weights_are_announced_in_gigabytes(capsys, monkeypatch):
    monkeypatch.setattr(hub, "capacity", lambda device: 80e9)
    hub._announce("Qwen2.5-7B", registry.lookup("Qwen2.5-7B").parameters, "float16", torch.device("cuda"))
    assert capsys.readouterr().err == "Loading Qwen2.5-7B: 15.2 GB of weights in float16 on cuda\n"


def test_dtype_and_device_as_asked(tied):
    with hub.loaded(str(tied), dtype="bfloat16", device="cpu") as lm:
        assert lm.dtype == torch.bfloat16 and {p.dtype for p in lm.model.parameters()} == {torch.bfloat16}


def test_auto_dtype_is_the_seeds_on_gpus_and_exact_elsewhere():
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert hub._dtype("auto", "Qwen/Qwen2.5-7B-Instruct", gpu) == "float16"
    assert hub._dtype("auto", "Qwen/Qwen2.5-7B-Instruct", cpu) == "float32"
    assert hub._dtype("auto", "ladder-1m+arithmetic", gpu) == "float32"
    assert hub._dtype("bfloat16", "ladder-1m", cpu) == "bfloat16"


def test_a_ladder_name_goes_through_the_ladder(tied, monkeypatch):
    asked = []
    monkeypatch.setattr("lib.models.ladder.path", lambda name: asked.append(name) or tied)
    with hub.loaded("Ladder-1M+arithmetic") as lm:
        assert lm.name == "ladder-1m+arithmetic" and asked == ["ladder-1m+arithmetic"]
        assert not lm.dummy


# --- memory -----------------------------------------------------------------------------------------------------------


def test_a_model_is_freed_when_its_block_ends(tied):
    with hub.loaded(str(tied)) as lm:
        alive = weakref.ref(lm.model), weakref.ref(lm.model.get_input_embeddings().weight)
        assert all(ref() is not None for ref in alive)
    assert all(ref() is None for ref in alive)  # although `lm` is still here
    with pytest.raises(AttributeError):
        _ = lm.model


def test_a_model_is_freed_when_its_block_fails(tied):
    def fail() -> weakref.ref:
        with pytest.raises(ZeroDivisionError), hub.loaded(str(tied)) as lm:
            ref = weakref.ref(lm.model)
            raise ZeroDivisionError
        return ref

    ref = fail()
    gc.collect()
    assert ref() is None


@pytest.mark.parametrize(
    ("error", "where"),
    [(torch.OutOfMemoryError("CUDA out of memory. Tried"), "GPU"), (MemoryError(), "main")],
)
def test_out_of_memory_names_the_setting(error, where):
    with pytest.raises(ModelError) as raised, hub.explain_oom("max_paths"):
        raise error
    assert sentence(raised) == f"Out of {where} memory: lower max_paths, or take a smaller model."


def test_out_of_memory_on_the_cpu_as_torch_really_raises_it():
    with pytest.raises(ModelError, match="Out of main memory: lower batch_size"), hub.explain_oom("batch_size"):
        torch.empty(1 << 56, dtype=torch.uint8)


def test_memory_of_the_failed_call_is_free_for_the_next():
    class Big:
        pass

    refs = []

    def generate():
        big = Big()
        refs.append(weakref.ref(big))
        raise MemoryError

    with pytest.raises(ModelError) as raised, hub.explain_oom("max_paths"):
        generate()
    assert raised.value is not None and refs[0]() is None


def test_other_errors_pass_through_explain_oom():
    with pytest.raises(RuntimeError, match="shape mismatch"), hub.explain_oom("max_paths"):
        raise RuntimeError("shape mismatch")


def test_weights_that_can_never_fit_are_refused_before_they_are_read(tied, monkeypatch):
    monkeypatch.setattr(hub, "capacity", lambda device: 12_000)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", failing(AssertionError("the weights were read")))
    with pytest.raises(ModelError, match=r"cpu has 1\.2e-05 GB: lower dtype to float16 or bfloat16, or") as error:
        hub.load(str(tied))
    sentence(error)
    with pytest.raises(AssertionError, match="the weights were read"):  # half as many bytes do fit
        hub.load(str(tied), dtype="bfloat16")


def test_capacity_of_main_memory_is_this_machines():
    gigabytes = memory.capacity(torch.device("cpu")) / 1e9
    assert gigabytes == float("inf") or 0.5 < gigabytes < 50_000


def test_out_of_memory_while_loading_names_the_dtype(tied, monkeypatch):
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", failing(torch.OutOfMemoryError("CUDA out of memory")))
    with pytest.raises(ModelError, match="Out of GPU memory: lower dtype to float16 or bfloat16") as error:
        hub.load(str(tied))
    sentence(error)


# --- the hub ----------------------------------------------------------------------------------------------------------


def test_gated_names_the_licence_page(empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(http(GatedRepoError)))
    with pytest.raises(ModelError) as error:
        hub.load("llama-3.2-1b")
    text = sentence(error)
    assert "accept its licence at https://huggingface.co/meta-llama/Llama-3.2-1B-Instruct and log in" in text
    assert str(empty_cache) in text and "'ladder-1m'" in text
    with pytest.raises(ModelError, match=r"licence at https://huggingface\.co/acme/secret"):
        hub.load("acme/secret")


def test_missing_names_where_it_was_looked_for_and_what_to_type(empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(http(RepositoryNotFoundError)))
    with pytest.raises(ModelError) as error:
        hub.load("Qwen/Qwen2.5-7B-Instuct")
    text = sentence(error)
    assert text.startswith("Qwen/Qwen2.5-7B-Instuct is neither a folder here") and str(empty_cache) in text
    assert "nearest known name is 'Qwen/Qwen2.5-7B-Instruct'" in text


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("An error happened.\nPlease check your connection."),
        OfflineModeIsEnabled("offline mode is enabled"),
        ConnectionError("[Errno -2] Name or service not known"),
        TimeoutError(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_no_network_is_one_sentence(error, empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(error))
    with pytest.raises(ModelError, match="the hub could not be asked") as raised:
        hub.load("Qwen2.5-0.5B")
    text = sentence(raised)
    assert "Qwen/Qwen2.5-0.5B-Instruct" in text and str(empty_cache) in text and "pass its folder" in text


def test_a_download_that_breaks_off_is_one_sentence(empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", lambda *args, **kwargs: None)
    monkeypatch.setattr(locate, "snapshot_download", failing(OSError("No space left on device")))
    with pytest.raises(ModelError, match="No space left on device") as error:
        hub.load("Qwen2.5-0.5B")
    sentence(error)


def test_offline_mode_is_named(empty_cache, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(OfflineModeIsEnabled("offline")))
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE is set"):
        hub.load("Qwen2.5-0.5B")


def test_a_repository_without_a_config(empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(EntryNotFoundError("404")))
    with pytest.raises(ModelError, match=r"no config\.json"):
        hub.load("acme/weights-only")


def test_the_first_question_is_short_and_pickles_are_not_downloaded(empty_cache, tied, monkeypatch):
    calls = {}
    monkeypatch.setattr(locate, "get_hf_file_metadata", lambda url, timeout: calls.update(url=url, timeout=timeout))
    monkeypatch.setattr(locate, "snapshot_download", lambda hub_id, **kwargs: calls.update(kwargs) or str(tied))
    locate.check("acme/tiny")
    assert locate.folder("acme/tiny") == tied
    assert "acme/tiny" in calls["url"] and calls["timeout"] <= 10
    assert not any(pattern.endswith((".bin", ".pt", ".py")) for pattern in calls["allow_patterns"])
    locate.folder("acme/tiny", trust_remote_code=True)
    assert "*.py" in calls["allow_patterns"]


def fill_cache(cache: Path, hub_id: str, folder: Path) -> Path:
    """Lay a model out as huggingface_hub's cache does."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    snapshot = Path(shutil.copytree(folder, repository / "snapshots" / SHA))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(SHA)
    return snapshot


def test_a_cached_model_needs_no_network(empty_cache, tied):
    fill_cache(empty_cache, "acme/tiny", tied)
    with hub.loaded("acme/tiny") as lm:
        assert lm.name == "acme/tiny"


@pytest.mark.parametrize("lost", ["model.safetensors", "tokenizer.json"])
def test_half_a_cached_model_is_completed_from_the_hub(empty_cache, tied, lost):
    snapshot = fill_cache(empty_cache, "acme/tiny", tied)
    (snapshot / lost).unlink()
    assert locate.cached("acme/tiny") is None


def test_a_cached_model_in_shards_needs_every_shard(empty_cache, tied):
    snapshot = fill_cache(empty_cache, "acme/tiny", tied)
    (snapshot / "model.safetensors").rename(snapshot / "model-00001-of-00002.safetensors")
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (snapshot / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert locate.cached("acme/tiny") is None
    (snapshot / shards["b"]).write_bytes(b"")
    assert locate.cached("acme/tiny") == snapshot


def head(place: Path, weights: str) -> Path:
    """The files of an EAGLE head: no tokenizer, and its tensors under the given name."""
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").write_text("{}")
    (place / weights).write_bytes(b"")
    return place


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_a_cached_head_needs_no_network_and_no_tokenizer(empty_cache, tmp_path, weights):
    snapshot = fill_cache(empty_cache, "acme/head", head(tmp_path / "saved", weights))
    assert locate.head_folder("acme/head") == snapshot
    assert locate.head_folder(str(tmp_path / "saved")) == tmp_path / "saved"


@pytest.mark.parametrize(("published", "asked"), [("model.safetensors", 1), ("pytorch_model.bin", 2)])
def test_a_heads_pickle_is_downloaded_only_where_there_is_nothing_else(
    empty_cache, tmp_path, monkeypatch, published, asked
):
    calls = []

    def download(hub_id, allow_patterns):
        calls.append(allow_patterns)
        wanted = published if published.endswith("safetensors") or published in allow_patterns else "config.json"
        return str(head(tmp_path / "head", wanted))

    monkeypatch.setattr(locate, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(locate, "snapshot_download", download)
    assert (locate.head_folder("acme/head") / published).exists()
    assert len(calls) == asked and not any("bin" in pattern for pattern in calls[0])


def test_half_a_cached_head_is_completed_from_the_hub(empty_cache, tmp_path, monkeypatch):
    """config.json alone is what a look at the repository leaves in the cache."""
    fill_cache(empty_cache, "acme/head", head(tmp_path / "saved", "config.json"))
    monkeypatch.setattr(locate, "get_hf_file_metadata", lambda url, timeout: None)
    monkeypatch.setattr(locate, "snapshot_download", lambda hub_id, **_: str(head(tmp_path / "x", "model.safetensors")))
    assert locate.head_folder("acme/head") == tmp_path / "x"


def test_a_head_that_cannot_be_had_is_one_sentence(empty_cache, monkeypatch):
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(http(RepositoryNotFoundError)))
    with pytest.raises(ModelError, match="nor a public model on the hub") as raised:
        locate.head_folder("acme/head")
    sentence(raised)


# --- outlines: a model without its weights ----------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["tied", "untied"])
def test_an_outline_is_what_loading_would_say(which, request):
    folder = request.getfixturevalue(which)
    outline = hub.outline(str(folder))
    with hub.loaded(str(folder), device="cpu") as lm:
        of = hub.outline_of(lm)
        assert lm.parameters == outline.parameters and lm.stop_ids == outline.stop_ids
        assert outline.context == lm.model.config.max_position_embeddings
        assert outline.tokenizer("w3 w4").input_ids == [5, 6]
    assert vars(of) | {"tokenizer": None} == vars(outline) | {"tokenizer": None}
    assert (of.folder, of.dtype) == (folder, "float32")


def test_an_outline_reads_no_weights_and_stops_where_the_folder_says(copy, monkeypatch):
    (copy / "model.safetensors").write_bytes(b"")
    GenerationConfig(eos_token_id=[7, 9]).save_pretrained(copy)
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", failing(AssertionError("weights were read")))
    assert hub.outline(str(copy)).stop_ids == (1, 7, 9)


def test_the_outline_of_random_weights_has_no_folder(tiny_entry, empty_cache):
    with hub.loaded(tiny_entry.hub_id, load_format="dummy") as lm:
        assert hub.outline_of(lm).folder is None


def test_an_outline_that_cannot_be_had_is_one_sentence(copy, empty_cache, monkeypatch):
    (copy / "config.json").write_text('{"model_type": "nobodys"}')
    with pytest.raises(ModelError) as raised:
        hub.outline(str(copy))
    assert str(copy) in sentence(raised)
    monkeypatch.setattr(locate, "get_hf_file_metadata", failing(http(RepositoryNotFoundError)))
    with pytest.raises(ModelError, match="nor a public model on the hub"):
        hub.outline("acme/none")


# --- broken folders ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep", [0, 1, 0.5])
def test_damaged_weights(copy, keep):
    weights = copy / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: int(keep * len(data))] if keep < 1 else b"\xff" * len(data))
    with pytest.raises(ModelError, match=r"weights in .* are damaged") as error:
        hub.load(str(copy))
    assert str(copy) in sentence(error)


def test_an_architecture_without_sdpa_is_one_sentence(copy):
    BloomForCausalLM(BloomConfig(vocab_size=64, hidden_size=32, n_layer=1, n_head=2)).save_pretrained(copy)
    with pytest.raises(ModelError, match="without SDPA attention") as error:
        hub.load(str(copy))
    assert str(copy) in sentence(error)


def test_missing_weights_are_not_left_random(copy):
    """transformers loads such a folder with a warning, and the layer is noise."""
    state = load_file(copy / "model.safetensors")
    del state["model.layers.1.mlp.up_proj.weight"]
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of its weights, model\.layers\.1\.mlp\.up_proj\.weight") as error:
        hub.load(str(copy))
    sentence(error)


def test_weights_of_another_shape(copy):
    state = load_file(copy / "model.safetensors")
    state["model.norm.weight"] = torch.ones(3)
    save_file(state, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        hub.load(str(copy))
    sentence(error)


def test_pickles_are_not_read(copy):
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no \.safetensors weights \(pickled ones are not read\)") as error:
        hub.load(str(copy))
    sentence(error)


def test_a_missing_tokenizer_is_not_made_up(copy):
    """transformers builds a Qwen2 tokenizer with a single token for such a folder."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (copy / name).unlink()
    with pytest.raises(ModelError, match="no tokenizer") as error:
        hub.load(str(copy))
    sentence(error)


def test_an_architecture_that_is_no_causal_lm(copy):
    T5Config().save_pretrained(copy)
    with pytest.raises(ModelError, match="not a causal language model") as error:
        hub.load(str(copy))
    sentence(error)


def test_code_in_a_folder_is_not_run(copy):
    config = {"model_type": "acme", "auto_map": {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}}
    (copy / "config.json").write_text(json.dumps(config))
    (copy / "evil.py").write_text(f"open({str(copy / 'ran')!r}, 'w')\n")
    with pytest.raises(ModelError, match=r"brings its own code.*trust_remote_code=True") as error:
        hub.load(str(copy))
    sentence(error)
    assert not (copy / "ran").exists()


@pytest.mark.parametrize("text", ["{", "{}", '{"model_type": "nonesuch"}'])
def test_a_config_that_means_nothing(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelError, match="cannot be loaded") as error:
        hub.load(str(copy))
    assert str(copy) in sentence(error)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dtype": "float8"}, "'float8' is not a dtype"),
        ({"device": "tpu"}, "'tpu' is not a device"),
        ({"device": "cuda:99"}, "torch sees .* GPUs"),
        ({"load_format": "random"}, "use 'auto', or 'dummy'"),
        ({"load_format": "dummy"}, "needs a registered architecture"),
    ],
    ids=str,
)
def test_a_wrong_option_fails_before_anything_loads(tied, options, says, capsys):
    with pytest.raises(ModelError, match=says) as error:
        hub.load(str(tied), **options)
    sentence(error)
    assert capsys.readouterr().err == ""


# --- random weights ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_entry(monkeypatch) -> Entry:
    monkeypatch.setattr(registry, "ENTRIES", (TINY_ENTRY,))
    return TINY_ENTRY


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dummy_is_the_architecture_with_finite_seeded_noise(tiny_entry, empty_cache, dtype, capsys, monkeypatch):
    monkeypatch.setattr(hub, "SMALL", 0)
    with (
        hub.loaded("tiny-1k", dtype=dtype, load_format="dummy") as lm,
        hub.loaded("tiny-1k", dtype=dtype, load_format="dummy") as again,
    ):
        assert lm.dummy and lm.entry is tiny_entry and lm.name == tiny_entry.hub_id
        assert lm.dtype == getattr(torch, dtype) and not lm.model.training
        assert lm.parameters == registry.parameter_count(tiny_entry)
        assert lm.parameters - lm.non_embedding_parameters == tiny_entry.embedding_parameters
        state, other = lm.model.state_dict(), again.model.state_dict()
        assert all(torch.equal(state[key], other[key]) for key in state)
        logits = lm.model(torch.arange(0, 300, 3)[None]).logits
        assert torch.isfinite(logits).all() and logits.std() > 0
    assert "with random weights" in capsys.readouterr().err


def test_dummy_reads_positions(tiny_entry):
    """Building without initialisation must not leave the rotary frequencies undefined."""
    with hub.loaded("tiny-1k", load_format="dummy") as lm:
        built = AutoModelForCausalLM.from_config(tiny_entry.config())
        assert torch.equal(lm.model.model.rotary_emb.inv_freq, built.model.rotary_emb.inv_freq)
        assert lm.model.get_output_embeddings().weight is lm.model.get_input_embeddings().weight


def test_dummy_tokenizer_counts_exactly_and_covers_every_id(tiny_entry):
    with hub.loaded("tiny-1k", load_format="dummy") as lm:
        tokenizer = lm.tokenizer
        assert len(tokenizer) == tiny_entry.vocab
        for text in ("a" * 200, "Zoë, 日本\n\n\t x <300>", " leading"):
            ids = tokenizer(text).input_ids
            assert len(ids) == len(text.encode()) and max(ids) < 256
            assert tokenizer.decode(ids) == text
        assert all(tokenizer.decode([i]) for i in range(256, tiny_entry.vocab))
        chat = [{"role": "user", "content": "Hi"}]
        ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)["input_ids"]
        assert tokenizer.decode(ids) == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
        assert lm.stop_ids == (tokenizer.eos_token_id,) == (258,)


def test_dummy_tokenizer_of_a_real_vocabulary():
    assert len(dummy.tokenizer(128_256)) == 128_256
