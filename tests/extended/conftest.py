"""The long suites: collected where they are asked for (`pytest tests/extended`), not among the ordinary tests."""

import pytest


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    return None if any("extended" in argument for argument in config.invocation_params.args) else True
