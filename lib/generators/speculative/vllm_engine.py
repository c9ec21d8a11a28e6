"""vLLM's engine as the worker holds it: built from plain options, stepped by hand so that steps can be counted.

vLLM's per-request metrics list the steps that had a draft, in order. A step without one appears nowhere, yet it is a
forward of the target and belongs in every mean. So the requests are watched between steps: one that grew while its list
did not has made a step without a draft. Versions without such lists count for the whole engine only, from which one
request at a time can be read. Either way the sums must agree with the engine's own counters.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
import transformers
import vllm
from vllm import LLM, SamplingParams
from vllm.engine.arg_utils import EngineArgs
from vllm.platforms import current_platform

from lib.generators.speculative import vllm_correction, vllm_head, vllm_says

PER_REQUEST = "per_request_spec_decode_metrics"
COUNTERS = ("num_drafts", "num_draft_tokens", "num_accepted_tokens")
OPTIONS = (  # of ours that are vLLM's by the same name
    "model", "dtype", "max_num_seqs", "tensor_parallel_size", "gpu_memory_utilization", "enforce_eager", "seed",
    "load_format", "trust_remote_code",
)  # fmt: skip
WARM_UP = [1, 2, 1, 2]  # a prompt that an n-gram finds again: vLLM compiles its lookup when it is first used
Counts = tuple[int, ...]  # in the order of COUNTERS


class Watched:
    """A request on its way through the engine, and its steps so far."""

    def __init__(self, request: Any) -> None:
        self._request, self._tokens = request, 0
        self.drafted: list[int] = []
        self.accepted: list[int] = []

    def grew(self) -> bool:
        """Whether the last step of the engine gave this request tokens beyond the one that its prefill yields."""
        before, self._tokens = self._tokens, self._request.num_output_tokens
        return 0 < before < self._tokens

    def listed(self) -> tuple[int, int]:
        """Drafted and accepted tokens of the step just made by the request's own lists; (0, 0) if they did not grow."""
        metrics = self._request.spec_decode_metrics
        if metrics is None or len(metrics.per_step_drafted) == sum(k > 0 for k in self.drafted):
            return 0, 0
        return metrics.per_step_drafted[-1], metrics.per_step_accepted[-1]

    def add(self, drafted: int, accepted: int) -> None:
        """Note a step."""
        self.drafted.append(drafted)
        self.accepted.append(accepted)


class Engine:
    """One LLM, one way of drafting, one law to decode under.

    Args:
        options: what `vllm_backend.options` puts together: the fields of its `Engine`, `speculative_config` (or None)
            and `decoding`.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._decoding, self._speculative = options["decoding"], options["speculative_config"]
        self._check_drafter()
        self._per_request = any(field.name == PER_REQUEST for field in dataclasses.fields(EngineArgs))
        metrics = {PER_REQUEST: "detailed"} if self._speculative and self._per_request else {}
        self._llm = LLM(
            **{key: options[key] for key in OPTIONS},
            max_model_len=options["max_model_len"] or None,
            speculative_config=self._speculative,
            # Half a prompt's sample is thrown away, for which vLLM steps its generator back; those on CPUs cannot.
            enable_chunked_prefill=False if current_platform.is_cpu() else None,
            enable_prefix_caching=False,  # the second run of a prompt must cost what the first did
            generation_config="vllm",  # not the model's own filters: all engines decode under one law
            skip_tokenizer_init=True,
            disable_log_stats=False,  # or requests carry no times and the engine no counters
            **metrics,
        )
        self._corrected = self._correct_sampling(options["tensor_parallel_size"])
        self.answer([WARM_UP], [0])

    def _check_drafter(self) -> None:
        """ModelError for an EAGLE head of an architecture that this vLLM has no class for."""
        method = (self._speculative or {}).get("method", "")
        if method.startswith("eagle"):
            says, values = vllm_says.facts(), vllm_head.read_config(Path(self._speculative["model"]))
            vllm_head.check_registered(values, method, says["architectures"], says["version"])

    def _correct_sampling(self, tensor_parallel_size: int) -> bool:
        """Put right what vLLM's CPU build does wrong when it samples with drafts; refuse where that is out of reach."""
        if not current_platform.is_cpu() or not self._speculative or self._decoding["temperature"] == 0:
            return False
        if tensor_parallel_size > 1:
            raise ValueError(
                f"vLLM's CPU build may sample wrongly with drafts ({vllm_correction.ISSUE}) and its tensor-parallel "
                "processes cannot be corrected from here: use tensor_parallel_size=1 or temperature=0"
            )
        return vllm_correction.correct()

    def facts(self) -> dict[str, Any]:
        """Versions, and the engine as vLLM resolved it."""
        config = self._llm.llm_engine.vllm_config
        return {
            "vllm": vllm.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "platform": current_platform.device_type,
            "device": current_platform.get_device_name(),
            "model_runner": "v2" if config.use_v2_model_runner else "v1",
            "dtype": str(config.model_config.dtype).removeprefix("torch."),
            "max_model_len": config.model_config.max_model_len,
            "max_num_seqs": config.scheduler_config.max_num_seqs,
            "async_scheduling": bool(config.scheduler_config.async_scheduling),
            "tensor_parallel_size": config.parallel_config.tensor_parallel_size,
            "gpu_memory_utilization": config.cache_config.gpu_memory_utilization,
            "enforce_eager": config.model_config.enforce_eager,
            "kv_cache_blocks": config.cache_config.num_gpu_blocks,
            "sampling_corrected": vllm_correction.ISSUE if self._corrected else None,
        }

    def answer(self, prompts: list[list[int]], seeds: list[int]) -> list[dict[str, Any]]:
        """The responses to prompts decoded together: `common.Response` as plain dictionaries, in order."""
        before, start = self._counters(), time.perf_counter()
        watched = self._add(prompts, seeds)
        finished, wall = {}, {}
        counts = before
        while self._llm.llm_engine.has_unfinished_requests():
            for output in self._llm.llm_engine.step():
                if output.finished:
                    finished[output.request_id], wall[output.request_id] = output, time.perf_counter() - start
            counts = self._note(watched, counts)
        self._agree(watched, before)
        return [response(finished[key], wall[key], requests) for key, requests in watched.items()]

    def _add(self, prompts: list[list[int]], seeds: list[int]) -> dict[str, Watched]:
        """Hand the prompts to the engine; its requests by id, in order."""
        for i, (prompt, seed) in enumerate(zip(prompts, seeds, strict=True)):
            self._llm.llm_engine.add_request(str(i), {"prompt_token_ids": prompt}, self._sampling(seed))
        scheduler = self._llm.llm_engine.engine_core.engine_core.scheduler
        return {str(i): Watched(request) for i, request in enumerate(scheduler.requests.values())}

    def _sampling(self, seed: int) -> SamplingParams:
        law = self._decoding
        return SamplingParams(
            temperature=law["temperature"],
            top_k=law["top_k"],
            top_p=law["top_p"],
            max_tokens=law["max_new_tokens"],
            stop_token_ids=law["stop_ids"],
            ignore_eos=True,  # stop_ids alone say where a sequence ends
            seed=seed if law["temperature"] > 0 else None,
            detokenize=False,
        )

    def _note(self, watched: dict[str, Watched], counts: Counts) -> Counts:
        """Enter the step just made for every request that took part; the engine's counters after it, where needed."""
        growing = [request for request in watched.values() if request.grew()]
        if self._per_request or not self._speculative:
            for request in growing:
                request.add(*request.listed())
            return counts
        if len(watched) > 1:
            raise ValueError(
                f"vLLM {vllm.__version__} counts accepted drafts for the engine as a whole: use batches of one"
            )
        now = self._counters()
        for request in growing:
            request.add(now[1] - counts[1], now[2] - counts[2])
        return now

    def _counters(self) -> Counts:
        """vLLM's counters of speculation over the engine's life; zeros for an engine that does not speculate."""
        values = {metric.name: metric.value for metric in self._llm.get_metrics() if hasattr(metric, "value")}
        return tuple(int(values.get(f"vllm:spec_decode_{name}", 0)) for name in COUNTERS)

    def _agree(self, watched: dict[str, Watched], before: Counts) -> None:
        """Raise unless the steps of a batch add up to what the engine's counters grew by."""
        drafted = [k for request in watched.values() for k in request.drafted]
        accepted = [a for request in watched.values() for a in request.accepted]
        steps = (sum(k > 0 for k in drafted), sum(drafted), sum(accepted))
        grown = tuple(now - was for now, was in zip(self._counters(), before, strict=True))
        if steps != grown:
            raise RuntimeError(
                f"vLLM's counters grew by {grown} (drafts, drafted, accepted) but its requests by {steps}"
            )

    def close(self) -> None:
        """End the engine's processes."""
        self._llm.llm_engine.engine_core.shutdown()


def response(output: Any, wall_s: float, steps: Watched) -> dict[str, Any]:
    """A finished request as `common.Response`; prefill and decode by the engine's own clock (seconds)."""
    times = output.metrics
    return {
        "tokens": list(output.outputs[0].token_ids),
        "drafted": steps.drafted,
        "accepted": steps.accepted,
        "wall_s": wall_s,
        "prefill_s": times.first_token_ts - times.scheduled_ts,
        "decode_s": times.last_token_ts - times.first_token_ts,
    }
