"""Where everything lives: the only module that knows folders.

Folders of the checkout hang off `ROOT`; results and caches can be moved with an environment variable, so that a test or
a cluster job never has to touch the checkout. The variables are read once, at import, because a run spawns its kernels
with the environment it was started in.
"""

import os
import sys
from pathlib import Path


def user_cache() -> Path:
    """The user's cache folder by the platform's convention (XDG_CACHE_HOME wins where it is set)."""
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    return Path.home() / ".cache"


def from_environment(variable: str, default: Path) -> Path:
    """The folder named by an environment variable, absolute, or `default` when it is unset or empty."""
    value = os.environ.get(variable)
    return Path(value).expanduser().resolve() if value else default


ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ROOT / "notebooks"
PARAMS = ROOT / "params"
RUNS = from_environment("RECOUNT_RUNS", ROOT / "runs")
FIGURES = from_environment("RECOUNT_FIGURES", ROOT / "figures")
CACHE = from_environment("RECOUNT_CACHE", user_cache() / "recount")
