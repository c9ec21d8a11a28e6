"""vLLM's engine for prompts of token ids and prompts of embeddings alike, as `vllm_worker` holds it.

Both kinds are served by one engine in one process. An engine that takes embeddings looks tokens up outside its compiled
graph, also those of a text prompt: both kinds pay that. Prompts stay in memory, so that nothing is read while the clock
runs; handing them to the engine is part of what is timed.
"""

import time
from pathlib import Path
from typing import Any

import torch
import vllm
from vllm import LLM, SamplingParams
from vllm.platforms import current_platform

from lib.bridge import serving
from lib.generators.speculative.vllm_engine import OPTIONS

CPU_BLOCK = 32  # positions: the smallest that it takes; its own 128 hold a short text and a message alike


class Engine:
    """One LLM that serves stored prompts, greedily, with answers of one length.

    Args:
        options: the fields of `vllm_backend.Engine`, `new_tokens`, and `prompts`: the file that `serving.write` wrote.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        stored = serving.read(Path(options["prompts"]))
        self._prompts = {kind: [as_prompt(row) for row in rows] for kind, rows in stored.items()}
        self._llm = LLM(
            **{key: options[key] for key in OPTIONS},
            max_model_len=options["max_model_len"],
            block_size=CPU_BLOCK if current_platform.is_cpu() else None,
            enable_prompt_embeds=True,
            enable_prefix_caching=False,  # or every repeat of a prompt would be free
            generation_config="vllm",  # not the model's own filters and stops
            skip_tokenizer_init=True,
        )
        # Without stops the length is max_tokens; min_tokens would also forbid the end in the choice of tokens.
        self._sampling = SamplingParams(
            temperature=0, max_tokens=options["new_tokens"], ignore_eos=True, detokenize=False
        )
        self._scheduler = self._llm.llm_engine.engine_core.engine_core.scheduler

    def facts(self) -> dict[str, Any]:
        """What served: columns of every row."""
        config = self._llm.llm_engine.vllm_config
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "device": current_platform.get_device_name(),
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "block_tokens": config.cache_config.block_size,
        }

    def answer(self, kind: str, batch: int, groups: int) -> dict[str, Any]:
        """Serve the first `groups` * `batch` prompts of a kind, `batch` at a time: what `serve` returns of it."""
        prompts = self._prompts[kind]
        outputs, kv_bytes = [], 0
        start = time.perf_counter()
        for first in range(0, groups * batch, batch):
            found, held = self._serve(prompts[first : first + batch])
            outputs, kv_bytes = outputs + found, max(kv_bytes, held)
        return {
            "seconds": time.perf_counter() - start,
            "prompt_tokens": sum(len(output.prompt_token_ids) for output in outputs),
            "kv_bytes": kv_bytes,
            "tokens": [list(output.outputs[0].token_ids) for output in outputs],
        }

    def _serve(self, prompts: list[dict[str, Any]]) -> tuple[list[Any], int]:
        """One batch: its outputs in order, and the most bytes of KV blocks that it held after any step."""
        engine, finished, held = self._llm.llm_engine, {}, 0
        for number, prompt in enumerate(prompts):
            engine.add_request(str(number), prompt, self._sampling)
        while engine.has_unfinished_requests():
            finished |= {output.request_id: output for output in engine.step() if output.finished}
            held = max(held, self._held())
        return [finished[str(number)] for number in range(len(prompts))], held

    def _held(self) -> int:
        """Bytes of the KV blocks in use, over all layers; the engine never hands out its first block."""
        config, pool = self._scheduler.kv_cache_config, self._scheduler.kv_cache_manager.block_pool
        per_block = sum(tensor.size for tensor in config.kv_cache_tensors) // config.num_blocks
        return (pool.num_gpu_blocks - 1 - pool.get_num_free_blocks()) * per_block

    def close(self) -> None:
        """End the engine's processes."""
        self._llm.llm_engine.engine_core.shutdown()


def as_prompt(row: torch.Tensor) -> dict[str, Any]:
    """Token ids [L] or embeddings [L, d] in vLLM's words."""
    return {"prompt_token_ids": row.tolist()} if row.ndim == 1 else {"prompt_embeds": row}
