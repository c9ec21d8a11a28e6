"""Speculative decoding: draft a few tokens cheaply, verify them in one forward of the target, keep what it agrees with.

Three engines answer the same requests. `torch` is ours: one loop (`decode`) for every method, which differ only in who
drafts. `transformers` is the outside check, `vllm` what people deploy. One way of drafting on one engine is an `Arm`
(`common`), and arms are all that the comparison sees.

A drafter of ours is one file here that defines `drafter(...)`: its name is the method's. This module imports no torch,
so that names can be checked before a model stack is loaded.
"""

BACKENDS = ("torch", "transformers", "vllm")
METHODS = ("baseline", "ngram", "draft", "eagle", "hybrid")
SUPPORTED = {  # which methods each engine can run at all; a model may still lack the head or the draft for one
    "torch": METHODS,
    "transformers": ("baseline", "ngram", "draft"),
    "vllm": ("baseline", "ngram", "draft", "eagle"),
}
