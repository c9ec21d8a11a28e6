"""Which browser the tests drive: the system's Chromium or Chrome, else the one that Playwright brought.

`python tests/browser/chromium.py` prints its path, and fails with how to get one where there is none.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

NAMES = "chromium", "chromium-browser", "google-chrome-stable", "google-chrome"
MISSING = "There is no Chromium to open the notebooks in; apt-get install chromium, or playwright install chromium."


def find() -> str | None:
    """The path of the browser's program; None where there is none."""
    if system := next(filter(None, map(shutil.which, NAMES)), None):
        return system
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    return own if Path(own).exists() else None


if __name__ == "__main__":
    sys.exit(MISSING) if (path := find()) is None else print(path)
