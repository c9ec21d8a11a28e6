"""The baseline and the method of a run, made ready on its engine."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from lib.generators.speculative.baseline import Baseline
from lib.generators.speculative.common import Arm, Decoding, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.drafting import Drafter
from lib.models import hub
from lib.models.registry import ModelError
from lib.specdec.target import Target

DRAFTERS = ("draft", "eagle")  # methods whose engine in another process reads a folder of its own


@contextmanager
def ready(target: Target, log: Path, seats: int) -> Iterator[list[Arm]]:
    """The arms of a run, the baseline first where it is paired; engines live inside.

    `log` is where an engine in a process of its own prints; `seats` the most requests that come together.
    """
    method, paired = target.params.method, target.params.paired
    methods = ["baseline"] if method == "baseline" else [*(["baseline"] if paired else []), method]
    make = {"torch": _torch, "transformers": _transformers, "vllm": _vllm}[target.params.backend]
    with ExitStack() as stack:
        engines = []
        for arm in make(target, methods, log, seats):
            if target.params.backend == "vllm":
                print(f"Starting vLLM for {arm.name}, which takes a while; it prints to {log}", file=sys.stderr)
            engines.append(stack.enter_context(arm))
        yield engines


def drafter(target: Target, speculation: Speculation, decoding: Decoding) -> Drafter:
    """Who drafts for `speculation.method` in the torch backend."""
    if speculation.method == "baseline":
        return Baseline()
    if speculation.method == "ngram":
        from lib.generators.speculative.ngram import Ngram

        return Ngram(speculation)
    if speculation.method == "draft":
        from lib.generators.speculative.draft import DraftModel

        return DraftModel(draft_model(target).model, speculation, decoding)
    from lib.generators.speculative.eagle import Eagle
    from lib.generators.speculative.eagle_tree import EagleTree
    from lib.generators.speculative.hybrid import Hybrid

    if speculation.tree_width > 1:
        return EagleTree(target.head, speculation, decoding)
    eagle = Eagle(target.head, speculation, decoding)
    return Hybrid(eagle, speculation) if speculation.method == "hybrid" else eagle


def draft_model(target: Target) -> hub.LoadedModel:
    """The target's draft model; ModelError where it reads other token ids."""
    small = target.draft_lm
    theirs, ours = small.model.config.vocab_size, target.lm.model.config.vocab_size
    if theirs != ours:
        raise ModelError(
            f"{small.name} has {theirs} token ids and {target.lm.name} {ours}: give a draft model of one vocabulary."
        )
    return small


def _torch(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    decoding = target.decoding
    return [TorchArm(target.lm.model, drafter(target, target.speculation(m), decoding), decoding) for m in methods]


def _transformers(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    from lib.generators.speculative.hf_arm import TransformersArm

    assistant = draft_model(target).model if "draft" in methods else None
    return [TransformersArm(target.lm.model, target.speculation(m), target.decoding, assistant) for m in methods]


def _vllm(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    from lib.generators.speculative.vllm_backend import Engine, VllmArm

    params = target.params
    engine = Engine(
        model=target.outline.folder,
        dtype=target.outline.dtype if params.dtype == "auto" else params.dtype,
        max_model_len=target.context,
        max_num_seqs=seats,
        tensor_parallel_size=params.tensor_parallel_size,
        gpu_memory_utilization=params.gpu_memory_utilization,
        seed=params.seed,
        load_format=params.load_format,
        trust_remote_code=params.trust_remote_code,
        threads=params.threads,
    )
    folders = {method: target.drafter_folder(method) for method in methods if method in DRAFTERS}
    return [VllmArm(engine, target.speculation(m), target.decoding, log, folders.get(m)) for m in methods]
