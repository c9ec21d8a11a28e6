"""What the browser tests share: a fresh clone, JupyterLab in it as `make lab` starts it, and a browser."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import chromium
import lab_server
import pytest
from lab_page import Notebook
from playwright.sync_api import Browser, sync_playwright

from lib import paths

WINDOW = {"width": 1280, "height": 800}
# As root, and in containers, Chromium's sandbox cannot be had; the pages are our own.
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    if (path := chromium.find()) is None:
        pytest.skip(chromium.MISSING)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=OPTIONS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[lab_server.Lab]:
    """`make lab` in a fresh clone, whose runs stay in it; trained models come from the usual cache."""
    folder = tmp_path_factory.mktemp("lab")
    subprocess.run(["git", "clone", "--quiet", paths.ROOT, folder / "clone"], check=True)
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("RECOUNT_RUNS", "RECOUNT_FIGURES"):
            patch.delenv(variable, raising=False)
        with lab_server.started(folder / "clone", folder) as lab:
            yield lab


@pytest.fixture(scope="session")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots are kept: the folder that RECOUNT_SCREENSHOTS names, else the tests' own."""
    folder = Path(os.environ.get("RECOUNT_SCREENSHOTS") or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def visit(
    browser: Browser, lab: lab_server.Lab, artefacts: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[[str], Notebook]]:
    """Opens a notebook by its name. What it looks like when the test ends is kept; its kernel and changes are not."""
    page = browser.new_page(viewport=WINDOW)
    yield lambda name: Notebook(page, lab, name)
    name = request.node.name.removeprefix("test_").replace("[", "-").removesuffix("]")
    page.screenshot(path=artefacts / f"{name}.png")
    page.close()
    lab_server.stop_kernels(lab)
    subprocess.run(["git", "checkout", "--quiet", "--", "notebooks"], cwd=lab.root, check=True)
