"""The suite that needs a real vLLM: collected only where there is one, as in what `make vllm` builds."""

from pathlib import Path

import pytest

from lib.generators.speculative import vllm_process

collect_ignore_glob = [] if vllm_process.installed() else ["test_*.py"]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where an engine prints."""
    return tmp_path / "log.txt"
