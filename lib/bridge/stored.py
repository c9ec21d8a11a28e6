"""Bridges as runs leave them: `bridge.safetensors` and `bridge.json` in the run folder.

The JSON holds the shape, the parameters of the run, and what tells the two models from others by their weights: a
bridge is worthless between other models, so it is refused there. Nothing is unpickled.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from lib.bridge import named, stressors
from lib.bridge import pair as pairs
from lib.bridge.named import ABOUT, WEIGHTS, BridgeError
from lib.bridge.pair import Pair
from lib.models import bridge
from lib.models.bridge import Bridge, Shape
from lib.params import resolve
from lib.params.bridge import Bridge as Params


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


def load(folder: Path, models: Pair) -> Stored:
    """The bridge of a run folder, on the target's device, ready for the two models it was trained between.

    BridgeError where a file is missing or damaged, or the bridge is of other models.
    """
    about = named.about(folder)
    if about["models"] != _models(models):
        was = about["params"]
        raise BridgeError(
            f"The bridge in {folder} was trained between other weights ({was.get('source')} and {was.get('target')}): "
            "load those models, or train a bridge between these."
        )
    params = resolve(named.EXPERIMENT, about["params"])
    try:
        shape = Shape(**about["shape"])
        made = stressors.bridge(params.stressor, bridge.build(shape, about["target_rms"], about["seed"]))
        made.load_state_dict(load_file(folder / WEIGHTS))
    except (SafetensorError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise named.unreadable(folder, error) from None
    return Stored(made.to(models.target.device).eval(), params, about["checkpoint"], folder)


def _models(models: Pair) -> dict[str, Any]:
    return {
        "source": pairs.fingerprint(models.source),
        "target": pairs.fingerprint(models.target),
        "layer": models.layer,
    }
