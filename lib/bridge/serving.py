"""What one vLLM engine serves: text prompts against messages, by samples per second at given batch sizes.

Kinds of prompts are compared within one engine: token ids for a text, embeddings [BOS | soft tokens | anchor] for a
message (vLLM's `prompt_embeds`). Every answer is greedy and has the same forced length, so that what differs is what
is read. A batch is handed over when the one before it has been answered, so batch size means what it says. The engine
keeps no prefixes: with a prefix cache the second time that a prompt is served would cost nothing. Before the clock
runs, every kind is served once at every batch size; then all take turns, in an order drawn anew for each repeat.

The engine lives in a process of its own, with the Python that has vLLM (`vllm_process`); prompts reach it as a
safetensors file.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lib.generators.speculative.vllm_backend import Engine
from lib.generators.speculative.vllm_head import read_config
from lib.generators.speculative.vllm_process import Worker, interpreter
from lib.models import locate, registry
from lib.models.registry import ModelError

MODULE = "lib.bridge.serving_worker"  # the engine
Cell = tuple[str, int, int]  # kind, prompts per batch, batches to serve
Prompts = Mapping[str, Sequence[Sequence[int] | Tensor]]


def serve(
    model: str,
    prompts: Prompts,
    new_tokens: int,
    batches: Sequence[int],
    repeats: int,
    *,
    log: Path,
    seed: int = 0,
    trust_remote_code: bool = False,
    **engine: Any,
) -> list[dict[str, Any]]:
    """Serve prompts of every kind at every batch size, `repeats` times; one row for each.

    Args:
        model: any name of the target (see `lib.models.registry`).
        prompts: by kind, as many of each: token ids [L_i], or embeddings [L_i, d] of any device.
        new_tokens: length of every answer.
        batches: prompts answered together; of each kind, as many whole batches as its prompts fill are served.
        repeats: timed passes, after one batch of each size that is not.
        log: file that what the engine prints is appended to.
        seed: draws the order within each repeat.
        trust_remote_code: run Python files that come with the model.
        engine: further fields of `vllm_backend.Engine`, such as threads; dtype "auto", which is what it is where it is
            not given, is that of the embeddings, the target's own.

    Returns:
        Rows with kind, batch, repeat, samples, seconds (of the pass), samples_per_s, prompt_tokens (positions that the
        engine read), new_tokens (per answer), kv_bytes (the most that whole blocks of `block_tokens` positions held
        after any step but a batch's last), tokens (the ids of each answer) and the engine's facts (vllm, torch, device,
        dtype, block_tokens).

    Raises:
        ModelError: in one sentence, for prompts that do not fit the model or the batches, where vLLM is missing (build
            it with `make vllm`), and for what goes wrong in it.
    """
    place = locate.folder(registry.resolve_name(model), trust_remote_code)
    tensors = {kind: [torch.as_tensor(prompt).detach().cpu() for prompt in rows] for kind, rows in prompts.items()}
    _check(tensors, batches, place)
    described = _engine(place, tensors, new_tokens, batches, trust_remote_code=trust_remote_code, **engine)
    cells = [(kind, batch, len(rows) // batch) for kind, rows in tensors.items() for batch in batches]
    with TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.safetensors"
        write(tensors, file)
        options = asdict(described) | {"model": str(place), "prompts": str(file), "new_tokens": new_tokens}
        facts, rows = _run(options, log, cells, repeats, random.Random(seed))
    return [row | {"new_tokens": new_tokens} | facts for row in rows]


def write(prompts: Mapping[str, Sequence[Tensor]], file: Path) -> None:
    """Store prompts, token ids int64 [L] or embeddings [L, d], as tensors named KIND/NUMBER."""
    named = {f"{kind}/{i}": row for kind, rows in prompts.items() for i, row in enumerate(rows)}
    save_file({name: row.clone(memory_format=torch.contiguous_format) for name, row in named.items()}, file)


def read(file: Path) -> dict[str, list[Tensor]]:
    """What `write` stored, in order."""
    found: dict[str, dict[int, Tensor]] = {}
    for name, row in load_file(file).items():
        kind, number = name.rsplit("/", 1)
        found.setdefault(kind, {})[int(number)] = row
    return {kind: [rows[i] for i in range(len(rows))] for kind, rows in found.items()}


def _check(prompts: Mapping[str, list[Tensor]], batches: Sequence[int], place: Path) -> None:
    """ModelError for prompts that fill no batch or that are as wide as another model."""
    fewest = min(map(len, prompts.values()))
    if fewest < max(batches):
        raise ModelError(f"{fewest} prompts fill no batch of {max(batches)}: give more, or serve smaller batches.")
    config = read_config(place)
    width = config.get("text_config", config)["hidden_size"]
    for kind, rows in prompts.items():
        if wrong := {row.shape[1] for row in rows if row.ndim == 2} - {width}:
            raise ModelError(
                f"The {kind!r} prompts are {wrong.pop()} wide and the model's embeddings {width}: take the bridge that "
                "was trained for this target."
            )


def _engine(
    place: Path,
    prompts: Mapping[str, list[Tensor]],
    new_tokens: int,
    batches: Sequence[int],
    *,
    dtype: str = "auto",
    **fields: Any,
) -> Engine:
    """An engine as long as the longest prompt with its answer and as broad as the largest batch."""
    longest = max(len(prompt) for rows in prompts.values() for prompt in rows)
    kind = _dtype(prompts) if dtype == "auto" else dtype
    return Engine(place, kind, max_model_len=longest + new_tokens, max_num_seqs=max(batches), **fields)


def _dtype(prompts: Mapping[str, list[Tensor]]) -> str:
    """The one type of all embeddings; "auto", which the engine refuses, where there are none or they differ."""
    found = {str(row.dtype).removeprefix("torch.") for rows in prompts.values() for row in rows if row.ndim == 2}
    return found.pop() if len(found) == 1 else "auto"


def _run(
    options: dict[str, Any], log: Path, cells: Sequence[Cell], repeats: int, chance: random.Random
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The facts of an engine built for this, and the rows that it gives."""
    worker = Worker(interpreter(), log, MODULE)
    try:
        facts = worker.ask(options)
        rows = _measure(worker, cells, repeats, chance)
    except BaseException:
        worker.kill()
        raise
    worker.close()
    return facts, rows


def _measure(worker: Worker, cells: Sequence[Cell], repeats: int, chance: random.Random) -> list[dict[str, Any]]:
    """Rows of every cell, `repeats` times in random order."""
    for kind, batch, _ in cells:
        worker.ask({"kind": kind, "batch": batch, "groups": 1})
    rows = []
    for repeat in range(repeats):
        for kind, batch, groups in chance.sample(cells, len(cells)):
            found = worker.ask({"kind": kind, "batch": batch, "groups": groups})["responses"]
            samples = batch * groups
            about = {"kind": kind, "batch": batch, "repeat": repeat, "samples": samples}
            rows.append(about | found | {"samples_per_s": samples / found["seconds"]})
    return rows
