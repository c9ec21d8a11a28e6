"""The arms of speculative decoding on vLLM: one engine per arm, each in a process of its own (`vllm_worker`).

This side needs neither torch nor vLLM. It maps how we describe drafting to vLLM's `speculative_config`, looks at a
drafter's files before vLLM does (`vllm_head`), starts the worker with an interpreter that has vLLM, and turns whatever
goes wrong there into one sentence.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from lib.generators.speculative.common import Decoding, Response, Speculation
from lib.generators.speculative.vllm_head import check_head, eagle_method, read_config
from lib.generators.speculative.vllm_process import Worker, interpreter
from lib.models.registry import ModelError


@dataclass(frozen=True)
class Engine:
    """The engine that all arms of a comparison share; vLLM's names and meanings."""

    model: Path  # folder of the target
    dtype: str = "float32"  # by name: vLLM's "auto" makes a float32 model half as precise
    max_model_len: int = 0  # tokens, prompt and output; 0: as many as the model has positions for
    max_num_seqs: int = 64  # largest batch
    tensor_parallel_size: int = 1
    gpu_memory_utilization: float = 0.9  # of a GPU's memory; the CPU build does not use it
    enforce_eager: bool = False  # without torch.compile and CUDA graphs
    seed: int = 0
    load_format: str = "auto"  # or "dummy": random weights
    trust_remote_code: bool = False
    threads: int = 1  # of the CPU build

    def __post_init__(self) -> None:
        if self.dtype == "auto":
            raise ModelError("vLLM's dtype 'auto' rounds a float32 model: name float32, bfloat16 or float16.")


def speculative_config(speculation: Speculation, drafter: Path | None = None) -> dict[str, Any] | None:
    """vLLM's `speculative_config` for a way of drafting; None for the baseline.

    `drafter` is the folder of the draft model or of the EAGLE head. Method and shortest n-gram are always given:
    vLLM takes an EAGLE head without a method for a draft model, and sets the shortest n-gram to the longest.
    Raises ModelError for what vLLM does not do and for a drafter that is missing.
    """
    if speculation.method == "baseline":
        return None
    config: dict[str, Any] = {"num_speculative_tokens": speculation.num_speculative_tokens}
    if speculation.method == "ngram":
        lookup = {
            "prompt_lookup_max": speculation.prompt_lookup_max,
            "prompt_lookup_min": speculation.prompt_lookup_min,
        }
        return config | {"method": "ngram", **lookup}
    if speculation.method not in ("draft", "eagle"):
        raise ModelError(f"vLLM does not draft by {speculation.method!r}: use baseline, ngram, eagle or draft.")
    if speculation.tree_width > 1:
        raise ModelError("vLLM drafts chains, not trees: use tree_width=1 or the torch backend.")
    if drafter is None:
        raise ModelError(f"{speculation.method!r} needs a folder to draft from, and none was given.")
    method = "draft_model" if speculation.method == "draft" else eagle_method(read_config(drafter))
    return config | {"method": method, "model": str(drafter), "draft_sample_method": speculation.draft_sample_method}


class VllmArm:
    """One way of drafting on a vLLM engine of its own; the engine lives from `with` to its end.

    Args:
        engine: the same for all arms that are compared.
        speculation, decoding: how to draft, and the law and length of the answers.
        log: where the engine prints; appended to.
        drafter: folder of the draft model or the EAGLE head, where the method has one.
    """

    def __init__(
        self,
        engine: Engine,
        speculation: Speculation,
        decoding: Decoding,
        log: Path,
        drafter: Path | None = None,
    ) -> None:
        self.name = speculation.method
        self.engine, self.facts = engine, {}
        self._decoding, self._log = decoding, log
        self._config = speculative_config(speculation, drafter)
        if speculation.method == "eagle":
            check_head(drafter, read_config(engine.model))
        self._options = asdict(engine) | {"model": str(engine.model), "drafter": drafter and str(drafter)}
        self._options |= {"decoding": asdict(decoding), "speculative_config": self._config}

    def __enter__(self) -> Self:
        """Build the engine; ModelError, one sentence, where vLLM is missing or refuses."""
        self._worker = Worker(interpreter(), self._log)
        try:
            self.facts = self._worker.ask(self._options)
        except BaseException:
            self._worker.kill()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        """End the engine and every process it started: patiently after a run, at once after an interrupt."""
        if kind is None:
            self._worker.close()
        else:
            self._worker.kill()

    @property
    def pid(self) -> int:
        """Process id of the engine, and the id of its process group."""
        return self._worker.pid

    def run(self, prompts: list[list[int]], seeds: list[int]) -> list[Response]:
        """Answer prompts (token ids) as one batch.

        Raises ModelError for a batch or a prompt that the engine was not built for, and for what goes wrong in it.
        """
        if len(prompts) > self.engine.max_num_seqs:
            raise ModelError(f"A batch of {len(prompts)} needs max_num_seqs={len(prompts)} in the engine.")
        needed = max(map(len, prompts)) + self._decoding.max_new_tokens
        if needed > (longest := self.facts["max_model_len"]):
            raise ModelError(
                f"A prompt and its answer take {needed} tokens and the engine {longest}: raise max_model_len, as far "
                "as the model has positions, or lower max_new_tokens."
            )
        answer = self._worker.ask({"prompts": prompts, "seeds": seeds})
        return [Response(**response) for response in answer["responses"]]
