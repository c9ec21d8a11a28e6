"""The suite that needs a real vLLM: collected only where there is one, as in what `make vllm` builds."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from arms import Drafters
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from lib.data import corpus
from lib.data.tokenizer import encode
from lib.generators.speculative import vllm_process
from lib.models import eagle_training

collect_ignore_glob = [] if vllm_process.installed() else ["test_*.py"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where an engine prints."""
    return tmp_path / "log.txt"


@pytest.fixture(scope="session")
def target(micro_path: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(micro_path, dtype=torch.float32).eval()


@pytest.fixture(scope="session")
def prompts(micro_path: Path) -> list[list[int]]:
    """Twelve beginnings of documents, of different lengths."""
    documents = corpus.documents("vllm", 12, "validation")
    ids = encode(AutoTokenizer.from_pretrained(micro_path), [document.text for document in documents])
    return [list(map(int, row[: len(row) // 2])) for row in ids]


@pytest.fixture(scope="session")
def eagle(micro_path: Path) -> Path:
    """An EAGLE head, trained for seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eagle_training, "RECIPE", replace(eagle_training.RECIPE, tokens=60_000))
        return eagle_training.path("ladder-micro")


@pytest.fixture(scope="session")
def draft(micro_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A draft model: the target with noise on its weights."""
    noisy = AutoModelForCausalLM.from_pretrained(micro_path, dtype=torch.float32)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight.add_(torch.randn_like(weight) * 0.15 * weight.std())
    folder = tmp_path_factory.mktemp("draft")
    noisy.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def drafters(request: pytest.FixtureRequest) -> Drafters:
    """What a method drafts from, made when it is first asked for."""
    return lambda method: request.getfixturevalue(method) if method in ("eagle", "draft") else None
