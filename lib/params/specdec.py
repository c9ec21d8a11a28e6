"""The parameters of 2a: one method of drafting on one model and engine, against the baseline of the same engine."""

import os
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from lib.params import places
from lib.params.base import ParameterError, Params, nearest

if TYPE_CHECKING:
    from lib.models.groups import Group

# What arms that are compared must share: cache room, batching and arithmetic differ else.
ENGINE = (
    "dtype",
    "device",
    "threads",
    "load_format",
    "tensor_parallel_size",
    "gpu_memory_utilization",
    "max_model_len",
)


@lru_cache(maxsize=16)  # a sweep resolves every cell several times
def _check_benchmark(file: str, changed: int) -> None:
    """Raise the ValueError that names what is wrong with a benchmark file; `changed` is when it was last written."""
    from lib.data import benchmark

    benchmark.load(file)


class SpecDec(Params):
    """2a: what does self-drafting buy?"""

    ALIASES: ClassVar[dict[str, str]] = {  # the published plan's names
        "num_tokens": "num_speculative_tokens",
        "ngram_prompt_lookup_max": "prompt_lookup_max",
    }
    REPLACES: ClassVar[dict[str, str]] = {"group": "model", "model": "group"}  # each names the other

    group: str = Field("", description="group of the published plan, such as qwen2_7b; empty = the model's own")
    model: str = Field("ladder-1m", min_length=1, description="ladder name, short name, hub id or folder")
    method: str = Field(
        "ngram", description="who drafts: baseline (nobody), ngram, draft, eagle, hybrid (ngram over eagle)"
    )
    backend: Literal["torch", "transformers", "vllm"] = Field("torch", description="engine: torch, transformers, vllm")
    num_speculative_tokens: int = Field(
        5, ge=1, le=64, description="tokens drafted per step at most; hybrid's lookups twice as many"
    )
    prompt_lookup_max: int = Field(4, ge=1, description="ngram: longest suffix looked up, in tokens")
    prompt_lookup_min: int = Field(1, ge=1, description="ngram: shortest suffix looked up, in tokens")
    draft_sample_method: Literal["greedy", "probabilistic"] = Field(
        "greedy", description="eagle, draft: propose the likeliest token, or sample it"
    )
    tree_width: int = Field(1, ge=1, le=8, description="eagle: candidates followed per depth; 1 = a chain")
    eagle_model: str = Field("", description="EAGLE head: hub id or folder; empty = the group's, or one trained here")
    draft_model: str = Field("", description="draft model; empty = the group's")
    benchmark: str = Field("", description="JSONL file with prompts; empty = the project's own requests")
    requests: int = Field(12, ge=0, description="requests taken from the benchmark; 0 = all of a file")
    max_new_tokens: int = Field(64, ge=2, description="new tokens per request at most")
    temperature: float = Field(0.0, ge=0, allow_inf_nan=False, description="sampling temperature; 0 = greedy")
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens; 0 = off")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the smallest set of tokens with this mass; 1 = off")
    batch_size: int = Field(1, ge=1, description="requests decoded together where latency is measured")
    batch_sizes: list[int] = Field([1, 8], description="batch sizes of the throughput curve; [] = none")
    batch_requests: int = Field(16, ge=1, description="requests behind each point of that curve")
    traces: int = Field(
        6, ge=0, description="requests behind the cost curves and the replay, which drafts every position; 0 = none"
    )
    repeats: int = Field(1, ge=1, description="timed passes of each arm")
    paired: bool = Field(True, description="time the baseline in this run too; off: take the group's baseline run")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto = float32 on a CPU and for the ladder, float16 on a GPU"
    )
    device: str = Field("auto", min_length=1, description="auto, cpu, cuda, cuda:1, ...")
    threads: int = Field(1, ge=1, description="CPU threads of the model; 1 gives the steadiest times")
    load_format: Literal["auto", "dummy"] = Field("auto", description="auto, or dummy = random weights (cost only)")
    tensor_parallel_size: int = Field(1, ge=1, description="vllm: GPUs that share one model")
    gpu_memory_utilization: float = Field(0.85, gt=0, le=1, description="vllm: share of the memory it may take")
    max_model_len: int = Field(0, ge=0, description="longest sequence in tokens; 0 = as the model says")
    trust_remote_code: bool = Field(False, description="allow a hub model to run its own code")

    @model_validator(mode="before")
    @classmethod
    def _group_and_model(cls, raw: dict) -> dict:
        """Each names the other: a group its model, a model its group. A model left at its default was not given."""
        from lib.models import groups, registry

        group, model = raw.get("group", ""), raw.get("model")
        if not isinstance(group, str) or not isinstance(model, str | None):
            return raw  # the types are complained about later
        default = cls.model_fields["model"].get_default()
        given = registry.resolve_name(default if model is None else model)
        name = registry.resolve_name(groups.group(group).model) if group else given
        if given not in (name, default):
            raise ValueError(f"Group {group!r} means {name}, not {model}; give one of the two.")
        return raw | {"model": name, "group": groups.group_of(name)}

    @field_validator("method")
    @classmethod
    def _known_method(cls, method: str) -> str:
        from lib.generators.speculative import METHODS

        if method not in METHODS:
            raise ValueError(f"There is no method {method!r}; {nearest(method, METHODS)}")
        return method

    @field_validator("eagle_model", "draft_model")
    @classmethod
    def _canonical(cls, name: str) -> str:
        from lib.models import registry

        return registry.resolve_name(name) if name else ""

    @field_validator("benchmark")
    @classmethod
    def _readable(cls, path: str) -> str:
        if not path:
            return ""
        file = os.path.realpath(os.path.expanduser(path))  # os.path, because pathlib raises for a name too long
        _check_benchmark(file, os.stat(file).st_mtime_ns if os.path.isfile(file) else 0)
        return file

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, sizes: list[int]) -> list[int]:
        if any(size < 1 for size in sizes):
            raise ValueError(f"batch_sizes is {sizes}, but a batch holds at least one request; leave out the others.")
        return sizes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.prompt_lookup_min > self.prompt_lookup_max:
            raise ValueError(
                f"prompt_lookup_min {self.prompt_lookup_min} is above prompt_lookup_max {self.prompt_lookup_max}; "
                "lower it."
            )
        tree = ("eagle", "torch", "greedy", 1)
        if self.tree_width > 1 and (self.method, self.backend, self.draft_sample_method, self.batch_size) != tree:
            raise ValueError(
                "tree_width above 1 needs method eagle, backend torch, draft_sample_method greedy and batch_size 1; "
                "set it to 1."
            )
        if self.backend == "transformers" and (self.batch_size > 1 or self.prompt_lookup_min > 1):
            raise ValueError(
                "transformers drafts for one prompt at a time, looking up from one token on; set batch_size and "
                "prompt_lookup_min to 1."
            )
        if not self.requests and not self.benchmark:
            raise ValueError("requests is 0, which means all of a file, but there is no benchmark file; give one.")
        return self

    def folder_label(self) -> str:
        """`<group>_<method>`, as the published plan names its folders; of a hub id or a folder its last part."""
        return self.label or f"{self.group.rsplit('/', 1)[-1]}_{self.method}"

    def check_named(self) -> None:
        """Whether local models can be read; of random weights there is nothing to read."""
        for model in (self.model, self.draft_model) if self.load_format != "dummy" else ():
            places.check_model(model)

    def modules(self) -> tuple[str, ...]:
        """The drafter, which is imported by name."""
        return (f"lib.generators.speculative.{self.method}",)

    def unavailable(self) -> str | None:
        """Why the engine, or the model, has no such method or setting."""
        from lib.generators import speculative
        from lib.models import groups

        if self.method not in speculative.SUPPORTED[self.backend]:
            can = ", ".join(speculative.SUPPORTED[self.backend])
            return f"{self.backend} has no method {self.method}; it has {can}."
        known = groups.group(self.group)
        needs = speculative.NEEDS[self.method]
        if needs == "head" and not (self.eagle_model or known.eagle):
            return f"{self.group} has no EAGLE head that we know of; give one as eagle_model."
        if needs == "draft_model" and not (self.draft_model or known.draft):
            return f"{self.group} has no draft model of its vocabulary that we know of; give one as draft_model."
        if needs == "head" and not self.eagle_model and (reason := self._published_head(known)):
            return reason
        if self.backend != "vllm" and self.tensor_parallel_size > 1:
            return f"{self.backend} runs a model on one device; set tensor_parallel_size=1, or backend=vllm."
        if self.backend == "vllm" and self.device != "auto":
            return "vllm takes the devices it was built for; leave device at auto."
        return None

    def _published_head(self, known: "Group") -> str | None:
        """Why the head that is published for the group does not run on this engine."""
        if self.backend == "torch" and known.eagle_method == "eagle3":
            return f"{known.eagle} is an EAGLE-3 head, which only the vllm backend runs; set backend=vllm."
        if self.backend == "vllm" and known.eagle_architecture == "qwen2":
            return (
                "vLLM registers no EagleQwen2ForCausalLM; convert the head with 'python -m lib.models.eagle convert "
                f"--input-model {known.eagle} --output-model FOLDER' and give eagle_model=FOLDER."
            )
        return None

    @classmethod
    def check_grid(cls, cells: Sequence[Self]) -> None:
        """Arms of one group are compared, within a backend, so their engines must be set alike."""
        first: dict[tuple[str, str], Self] = {}
        for cell in cells:
            other = first.setdefault((cell.group, cell.backend), cell)
            for name in ENGINE:
                if getattr(cell, name) != getattr(other, name):
                    raise ParameterError(
                        f"{cell.folder_label()} and {other.folder_label()} differ in {name} ({getattr(cell, name)} and "
                        f"{getattr(other, name)}), so their times cannot be compared; give both the same."
                    )
