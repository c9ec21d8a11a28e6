"""How tokens come out of a model: one file, one generator, one signature.

A module of this package that defines `generate` is a generator, and its file name is the name users type. So adding one
means adding one file: `generate(model, prompts, params, seeds) -> list[Output]`, with
- `model`: a transformers causal LM in eval mode,
- `prompts`: list of LongTensor [P_i], token ids on the model's device,
- `params`: `common.SamplingParams`, the same for every generator,
- `seeds`: one int per prompt; the same seed gives the same output whatever else runs beside it.

This module itself imports no torch, so names can be checked before a model stack is loaded.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from pathlib import Path

NAMES: tuple[str, ...] = tuple(
    sorted(f.stem for f in Path(__file__).parent.glob("*.py") if re.search(r"^(def )?generate\b", f.read_text(), re.M))
)


def get(name: str) -> Callable:
    """The generator called `name`; ValueError in one sentence for any other name."""
    if name not in NAMES:
        raise ValueError(f"There is no generator {name!r}; choose one of {', '.join(NAMES)}.")
    return importlib.import_module(f"lib.generators.{name}").generate
