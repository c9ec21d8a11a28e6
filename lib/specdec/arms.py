"""The baseline and the method of a run, made ready on its engine."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from lib.generators.speculative.common import Arm, Decoding, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.drafting import Drafter
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
    """Who drafts for `speculation.method` in the torch backend: the drafter of the file of that name."""
    module = importlib.import_module(f"lib.generators.speculative.{speculation.method}")
    return module.drafter(speculation, decoding, target)


def _torch(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    decoding = target.decoding
    return [TorchArm(target.lm.model, drafter(target, target.speculation(m), decoding), decoding) for m in methods]


def _transformers(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    from lib.generators.speculative.hf_arm import TransformersArm

    assistant = target.draft_model if "draft" in methods else None
    return [TransformersArm(target.lm.model, target.speculation(m), target.decoding, assistant) for m in methods]


def _vllm(target: Target, methods: Sequence[str], log: Path, seats: int) -> list[Arm]:
    from lib.generators.speculative.vllm_backend import Engine, VllmArm

    params, gpu = target.params, torch.cuda.is_available()
    if gpu and len(methods) * params.gpu_memory_utilization > 1:
        raise ModelError(
            f"{len(methods)} engines do not fit beside each other on the GPUs: set paired=False, or "
            f"gpu_memory_utilization to {1 / len(methods):.1g} or less."
        )
    engine = Engine(
        model=target.outline.folder,
        dtype=target.outline.dtype if params.dtype == "auto" else params.dtype,
        max_model_len=target.context,
        max_num_seqs=seats,
        tensor_parallel_size=params.tensor_parallel_size,
        gpu_memory_utilization=params.gpu_memory_utilization,
        enforce_eager=not gpu,  # on a CPU compiling takes 40 s per engine, longer than a run here
        seed=params.seed,
        load_format=params.load_format,
        trust_remote_code=params.trust_remote_code,
        threads=params.threads,
    )
    folders = {method: target.drafter_folder(method) for method in methods if method in DRAFTERS}
    return [VllmArm(engine, target.speculation(m), target.decoding, log, folders.get(m)) for m in methods]
