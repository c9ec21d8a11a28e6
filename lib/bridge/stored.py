"""Bridges as runs leave them: `bridge.safetensors` and `bridge.json` in the run folder, found again by run or label.

The JSON holds the shape, the parameters of the run, and what tells the two models from others by their weights: a
bridge is worthless between other models, so it is refused there. Nothing is unpickled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lib import runs
from lib.bridge import pair as pairs
from lib.bridge import stressors
from lib.bridge.pair import Pair
from lib.models import bridge
from lib.models.bridge import Bridge, Shape
from lib.params import ParameterError, nearest, resolve
from lib.params.bridge import Bridge as Params

EXPERIMENT = "4a_bridge"
WEIGHTS, ABOUT = "bridge.safetensors", "bridge.json"


class BridgeError(ValueError):
    """A stored bridge that cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class Stored:
    """A bridge that was loaded, with the parameters of its run and the checkpoint it is of."""

    bridge: Bridge
    params: Params
    checkpoint: str
    folder: Path


def save(folder: Path, made: Bridge, params: Params, models: Pair, checkpoint: str, seed: int) -> None:
    """Write the bridge into a run folder; the JSON last, so that it vouches for the weights."""
    save_file({k: v.detach().cpu().contiguous() for k, v in made.state_dict().items()}, folder / WEIGHTS)
    about = {
        "shape": asdict(made.shape),
        "target_rms": models.reader.rms,
        "params": params.model_dump(mode="json"),
        "checkpoint": checkpoint,
        "seed": seed,
        "models": _models(models),
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=1), encoding="utf-8")


def find(name: str, runs_dir: str | Path | None = None) -> Path:
    """The folder of a finished run with a bridge, by run id or by label (the newest).

    ParameterError, in one sentence that says what to run, where there is none.
    """
    done = [run for run in runs.finished(EXPERIMENT, runs_dir) if (run.dir / ABOUT).is_file()]
    if not done:
        raise ParameterError(
            f"No finished run of {EXPERIMENT} has left a bridge: run 'python -m lib.sweep {EXPERIMENT} --preset quick' "
            "first."
        )
    found = [run for run in done if name in (run.dir.name, run.config["label"])]
    if not found:
        known = [run.dir.name for run in done] + [run.config["label"] for run in done]
        raise ParameterError(f"No finished run or label of {EXPERIMENT} is called {name!r}; {nearest(name, known)}")
    return found[-1].dir


def parameters(folder: Path) -> Params:
    """The parameters of the run that left the bridge; BridgeError where one of its files is missing or damaged."""
    about = _about(folder)
    try:
        with safe_open(folder / WEIGHTS, "numpy"):
            return resolve(EXPERIMENT, about["params"])
    except (SafetensorError, OSError) as error:
        raise _unreadable(folder, error) from None


def load(folder: Path, models: Pair) -> Stored:
    """The bridge of a run folder, on the target's device, ready for the two models it was trained between.

    BridgeError where a file is missing or damaged, or the bridge is of other models.
    """
    about = _about(folder)
    if about["models"] != _models(models):
        was = about["params"]
        raise BridgeError(
            f"The bridge in {folder} was trained between other weights ({was['source']} and {was['target']}): load "
            "those models, or train a bridge between these."
        )
    params = resolve(EXPERIMENT, about["params"])
    made = stressors.bridge(params.stressor, bridge.build(Shape(**about["shape"]), about["target_rms"], about["seed"]))
    try:
        made.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError) as error:
        raise _unreadable(folder, error) from None
    return Stored(made.to(models.target.device).eval(), params, about["checkpoint"], folder)


def _unreadable(folder: Path, error: Exception) -> BridgeError:
    reason = str(error).splitlines()[0].rstrip(".:")
    return BridgeError(f"{folder / WEIGHTS} cannot be read ({reason}): run that configuration again.")


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if {"shape", "target_rms", "params", "checkpoint", "seed", "models"} <= set(about):
            return about
        reason = "it lacks fields"
    except (OSError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
    raise BridgeError(f"{folder / ABOUT} does not describe a bridge ({reason}): run that configuration again.")


def _models(models: Pair) -> dict[str, Any]:
    return {
        "source": pairs.fingerprint(models.source),
        "target": pairs.fingerprint(models.target),
        "layer": models.layer,
    }
