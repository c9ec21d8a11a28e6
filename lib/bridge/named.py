"""Which bridge a name means, found without a model stack, so that a wrong name is refused before anything is loaded.

A bridge is named in one of two ways:

* `PRESET/LABEL`, such as `quick/1a_stable_8tok`: that cell of params/4a_bridge.yaml. It is trained when it is needed,
  with a progress bar, or comes out of the cache where 4a or an earlier study has trained it; no run of 4a is needed.
* a run id or label of a finished run of 4a: the bridge in its folder, which may come from another machine.

Parameters can be changed on the way (fewer numbers per token, other seeds): such a relative is trained in the same way.
"""

import json
import shlex
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lib import presets, runs
from lib.params import ParameterError, nearest, resolve
from lib.params.bridge import Bridge as Params

EXPERIMENT = "4a_bridge"
WEIGHTS, ABOUT = "bridge.safetensors", "bridge.json"
FIELDS = {"shape": dict, "target_rms": float, "params": dict, "checkpoint": str, "seed": int, "models": dict}


class BridgeError(ParameterError):
    """A stored bridge that cannot be used; the message is one sentence for the user."""


def find(name: str, runs_dir: str | Path = "", **changes: Any) -> tuple[Params, Path | None]:
    """The parameters in 4a of the bridge of this name, with `changes`, and the run folder that holds its weights.

    What is changed has to be trained, so a changed bridge of a run is no longer that in its folder: None, as for a
    cell. ParameterError, one sentence, where the name means no bridge.
    """
    if not name:
        raise ParameterError("The name of a bridge is empty; give PRESET/LABEL of 4a, or a finished run of it.")
    folder = None if "/" in name else run_folder(name, runs_dir or None)
    found = _cell(name) if folder is None else parameters(folder)
    changes = {key: value for key, value in changes.items() if value != getattr(found, key)}
    if changes:
        found = resolve(EXPERIMENT, found.model_dump(mode="json") | changes)
    return found, None if changes else folder


def _cell(name: str) -> Params:
    """The cell `PRESET/LABEL` of 4a."""
    preset, _, label = name.partition("/")
    cells = {cell.label: cell.resolved() for cell in presets.cells(EXPERIMENT, preset)}
    if label not in cells:
        raise ParameterError(
            f"Preset {preset!r} of {EXPERIMENT} has no configuration {label!r}; {nearest(label, cells)}"
        )
    return cells[label]


def same_pair(bridges: list[Params]) -> None:
    """ParameterError unless all bridges are between the same two models, for one task: others cannot be compared."""
    first = bridges[0]
    for other in bridges[1:]:
        for name in ("source", "target", "source_layer", "task", "data"):
            if getattr(first, name) != getattr(other, name):
                raise ParameterError(
                    f"The bridges {first.folder_label()} and {other.folder_label()} differ in {name} "
                    f"({getattr(first, name)}, {getattr(other, name)}): name bridges of one pair and task."
                )


def run_folder(name: str, runs_dir: str | Path | None = None) -> Path:
    """The folder of a finished run with a bridge, by run id or by label (the newest).

    ParameterError, in one sentence that says what to run, where there is none.
    """
    done = [run for run in runs.finished(EXPERIMENT, runs_dir) if (run.dir / ABOUT).is_file()]
    found = [run for run in done if name in (run.dir.name, run.config["label"])]
    if not found:
        known = [run.dir.name for run in done] + [run.config["label"] for run in done]
        raise ParameterError(f"No finished run of {EXPERIMENT} is called {name!r}, {_advice(name, known, runs_dir)}")
    return found[-1].dir


def _advice(name: str, known: list[str], runs_dir: str | Path | None) -> str:
    """How to get a bridge of this label: the presets of 4a that make it, or that none does; ends a sentence."""
    makers: dict[str, list[str]] = {}
    for preset in presets.load_yaml(EXPERIMENT)["presets"]:
        for label in dict.fromkeys(cell.label for cell in presets.cells(EXPERIMENT, preset)):
            makers.setdefault(label, []).append(preset)
    if name not in makers:
        return f"and no preset makes it; {nearest(name, [*known, *makers])}"
    typed = ["python", "-m", "lib.sweep", EXPERIMENT, "--preset", makers[name][0], "--only", f"label={name}"]
    command = shlex.join([*typed, *(("--runs-dir", str(runs_dir)) if runs_dir else ())])
    others = f" (so does {' or '.join(makers[name][1:])})" if makers[name][1:] else ""
    return f"which preset {makers[name][0]!r} makes{others}: run '{command}' first."


def parameters(folder: Path) -> Params:
    """The parameters of the run that left the bridge; BridgeError where one of its files is missing or damaged."""
    values = about(folder)["params"]
    try:
        with safe_open(folder / WEIGHTS, "numpy"):
            return resolve(EXPERIMENT, values)
    except (SafetensorError, OSError) as error:
        raise unreadable(folder, error) from None


def about(folder: Path) -> dict[str, Any]:
    """What bridge.json says; BridgeError where it is missing or damaged."""
    try:
        values = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
        if isinstance(values, dict) and all(isinstance(values.get(name), kind) for name, kind in FIELDS.items()):
            return values
        reason = "it lacks fields"
    except (OSError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
    raise BridgeError(f"{folder / ABOUT} does not describe a bridge ({reason}): run that configuration again.")


def unreadable(folder: Path, error: Exception) -> BridgeError:
    """The sentence about weights that cannot be read."""
    reason = str(error).splitlines()[0].rstrip(".:")
    return BridgeError(f"{folder / WEIGHTS} cannot be read ({reason}): run that configuration again.")
