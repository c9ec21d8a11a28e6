"""The parameters of 4a: which bridge is trained between which models, on what, with which of the fixes."""

from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from lib.models.registry import ModelError, resolve_name
from lib.params import places
from lib.params.base import ParameterError, Params, different, listed, local, nearest

TASKS = ("arithmetic", "multihop", "gsm8k", "hotpotqa")
KINDS = ("resampler", "linear", "mean_pool", "constant")
OPTIMIZERS = ("muon", "adamw")
STARTS = ("warmup", "training")
STRESSORS = ("hot", "decay", "gate", "one_head", "layernorm", "pads", "misaligned", "bfloat16", "leak")
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
COMPARED = ("source", "target", "source_layer", "data", "test", "validation")


class Bridge(Params):
    """4.1 to 4.3: does a message carry a question from one model to another, and what keeps it from collapsing?"""

    task: str = Field("arithmetic", description=f"what is asked: {', '.join(TASKS)}")
    data: str = Field("", description="local file or folder of gsm8k or hotpotqa; empty = from the hub")
    source: str = Field("bridge-source", description="model that reads the question: name, hub id or folder")
    target: str = Field("bridge-target", description="model that answers: name, hub id or folder")
    source_layer: float = Field(0.67, gt=0, le=1, description="whose states are read, as a share of the depth")
    kind: str = Field("resampler", description=f"bridge: {', '.join(KINDS)}")
    soft_tokens: int = Field(16, ge=1, le=1024, description="soft tokens that the target sees")
    wire_dim: int = Field(16, ge=1, description="numbers per soft token that are sent")
    bottleneck: int = Field(96, ge=1, description="width of the bridge")
    depth: int = Field(1, ge=1, le=64, description="blocks of the bridge")
    heads: int = Field(4, ge=1, description="attention heads of the bridge")
    ffn: int = Field(192, ge=0, description="width of its feed-forward layers; 0 = 4 x bottleneck")
    info_nce: Weight = Field(0.05, description="weight of InfoNCE; 0 = off")
    info_nce_start: str = Field("warmup", description="InfoNCE from half of the warm-up, or half of the training, on")
    distill: Weight = Field(0.0, description="weight of distillation from the target with the text; 0 = off")
    reconstruct: Weight = Field(0.0, description="weight of reading the question back out of the message; 0 = off")
    noise_bits: int = Field(0, description="train with noise of a wire of so many bits, 2 to 8; 0 = off")
    patience: int = Field(5, ge=0, description="evaluations without a gain until early stopping; 0 = off")
    hygiene: bool = Field(True, description="decode with repetition penalty 1.1 and no repeated 3-grams")
    stop: bool = Field(False, description="really end at the early stop, instead of noting it and going on")
    stressor: str = Field("", description=f"fault to inject: {', '.join(STRESSORS)}")
    optimizer: str = Field("muon", description=f"{', '.join(OPTIMIZERS)}")
    learning_rate: float = Field(0.03, gt=0, lt=1, description="peak learning rate")
    warmup: int = Field(20, ge=0, description="steps of warm-up")
    clip: Weight = Field(1.0, description="largest norm of the gradient; 0 = not clipped")
    steps: int = Field(320, ge=1, description="steps of training")
    batch_size: int = Field(32, ge=2, description="examples per step, over all processes")
    evaluations: int = Field(8, ge=1, description="looks at the validation items, evenly over the training")
    train: int = Field(8000, ge=2, description="training items at most")
    validation: int = Field(160, ge=2, description="validation items at most")
    test: int = Field(400, ge=2, description="test items at most")
    seed: list[int] = Field([0], description="seeds; each has its own initial weights and order of examples")
    dtype: str = Field("auto", pattern="^(auto|float32|float16|bfloat16)$", description="of the frozen models")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, ...")
    processes: int = Field(0, ge=0, description="training processes; 0 = one per GPU, one on a CPU")
    threads: int = Field(1, ge=1, description="CPU threads; tiny models are fastest with one")
    trust_remote_code: bool = Field(False, description="run code that a hub model brings along")

    @field_validator("seed", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("seed")
    @classmethod
    def _different_seeds(cls, seeds: list[int]) -> list[int]:
        return different(seeds)

    @field_validator("task", "kind", "optimizer", "info_nce_start", "stressor")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        known = {
            "task": TASKS,
            "kind": KINDS,
            "optimizer": OPTIMIZERS,
            "info_nce_start": STARTS,
            "stressor": ("", *STRESSORS),
        }[info.field_name]
        if name not in known:
            raise ValueError(f"There is no {info.field_name} {name!r}; {nearest(name, filter(None, known))}")
        return name

    @field_validator("noise_bits")
    @classmethod
    def _of_a_codec(cls, bits: int) -> int:
        if bits and not 2 <= bits <= 8:
            raise ValueError(f"Parameter 'noise_bits' is {bits}; give 2 to 8 bits per number, or 0 for no rounding.")
        return bits

    @field_validator("data")
    @classmethod
    def _from_anywhere(cls, path: str, info: Any) -> str:
        if path and info.data.get("task") in ("arithmetic", "multihop"):
            raise ValueError(f"The task {info.data['task']!r} is generated and reads no data; leave 'data' empty.")
        return local(path, "data") if path else path

    @field_validator("source", "target")
    @classmethod
    def _canonical(cls, name: str) -> str:
        try:
            return resolve_name(name)
        except ModelError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if self.bottleneck % self.heads:
            raise ValueError(f"{self.heads} heads do not divide a bottleneck of {self.bottleneck}; choose a divisor.")
        if self.warmup > self.steps:
            raise ValueError(
                f"A warm-up of {self.warmup} steps is longer than the training of {self.steps}; shorten it."
            )
        if self.evaluations > self.steps:
            raise ValueError(f"{self.steps} steps have no room for {self.evaluations} evaluations; ask for fewer.")
        if self.stressor in ("gate", "one_head") and self.kind != "resampler":
            raise ValueError(f"The stressor {self.stressor!r} is about attention, which {self.kind!r} has none of.")
        if self.processes and self.batch_size % self.processes:
            raise ValueError(
                f"A batch of {self.batch_size} cannot be shared by {self.processes} processes; make it a multiple."
            )
        if self.train < self.batch_size:
            raise ValueError(f"{self.train} training items do not fill a batch of {self.batch_size}; ask for more.")
        return self

    @property
    def info_nce_from(self) -> int:
        """The step from which InfoNCE counts."""
        return (self.warmup if self.info_nce_start == "warmup" else self.steps) // 2

    def folder_label(self) -> str:
        """The label, or else what is trained on what, and the fixes that are on."""
        fixes = [name for name in ("info_nce", "distill", "reconstruct") if getattr(self, name)]
        name = "_".join([self.task, self.kind, f"{self.soft_tokens}x{self.wire_dim}", *fixes])
        return self.label or name + (f"_{self.stressor}" if self.stressor else "")

    def modules(self) -> tuple[str, ...]:
        """What makes the trained pair, which the notebook's imports do not show."""
        return ("lib.models.bridge_pair",) if "bridge-" in self.source + self.target else ()

    def check_named(self) -> None:
        """Whether the local models and the local data set can be read."""
        for model in (self.source, self.target):
            places.check_model(model)
        if self.data:
            places.check_rows(self.task, self.data)

    @classmethod
    def check_grid(cls, cells: Sequence[Self]) -> None:
        """Runs of one task must be judged on the same items by the same models."""
        first: dict[str, Self] = {}
        for cell in cells:
            other = first.setdefault(cell.task, cell)
            if differing := [name for name in COMPARED if getattr(cell, name) != getattr(other, name)]:
                raise ParameterError(
                    f"Cells of task {cell.task} differ in {differing[0]} and cannot be compared; give all one value."
                )
