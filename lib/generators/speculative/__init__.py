"""Speculative decoding: draft a few tokens cheaply, verify them in one forward of the target, keep what it agrees with.

Three engines answer the same requests. `torch` is ours: one loop (`decode`) for every method, which differ only in who
drafts. `transformers` is the outside check, `vllm` what people deploy. One way of drafting on one engine is an `Arm`
(`common`), and arms are all that the comparison sees.

A method of ours is one file here that defines `drafter(speculation, decoding, parts)`, and its name is the file's.
`NEEDS = "head"` or `"draft_model"` in it says which of the `parts` (`drafting.Parts`) it asks for. So adding a method
means adding a file. This module imports no torch, so that names can be checked before a model stack is loaded.
"""

import re
from pathlib import Path

_FILES = {file.stem: file.read_text(encoding="utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))}
_DRAFTERS = {name: text for name, text in _FILES.items() if re.search(r"^def drafter\(", text, re.M)}
BACKENDS = ("torch", "transformers", "vllm")
METHODS = tuple(_DRAFTERS)
NEEDS = {name: (re.findall(r'^NEEDS = "(\w+)"', text, re.M) or [""])[0] for name, text in _DRAFTERS.items()}
SUPPORTED = {  # which methods each engine can run at all; a model may still lack the head or the draft for one
    "torch": METHODS,
    "transformers": ("baseline", "ngram", "draft"),
    "vllm": ("baseline", "ngram", "draft", "eagle"),
}
