"""What several test files share: one tiny trained model."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lib import paths


@pytest.fixture(scope="session")
def micro_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of `ladder-micro`, trained once per test session in a cache of its own."""
    import torch

    from lib.models import ladder

    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        cache = tmp_path_factory.mktemp("cache")
        patch.setenv("RECOUNT_CACHE", str(cache))  # for processes the tests start
        patch.setattr(paths, "CACHE", cache)
        yield ladder.path("ladder-micro")
