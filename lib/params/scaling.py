"""The parameters of 1a3: what is compared, on which model, with how many samples."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from lib.params import places
from lib.params.base import Params, nearest


def split_arm(arm: str) -> tuple[str, float | None]:
    """`eab@0.055` -> ("eab", 0.055); an arm without `@` has no threshold of its own.

    Raises ValueError for an unknown generator, a threshold outside (0, 1), or one given to an arm that does not branch.
    """
    from lib import generators

    name, at, number = arm.partition("@")
    if name not in generators.NAMES:
        raise ValueError(f"There is no arm {name!r}; {nearest(name, generators.NAMES)}")
    if not at:
        return name, None
    try:
        threshold = float(number)
    except ValueError:
        threshold = -1.0
    if not name.startswith("eab") or not 0 < threshold < 1:
        raise ValueError(
            f"Arm {arm!r} cannot be used; write an EAB arm and a threshold between 0 and 1, like eab@0.055."
        )
    return name, threshold


class Scaling(Params):
    """1.A.3: does entropy-adaptive branching (EAB) save more on larger models?"""

    model: str = Field("ladder-1m", min_length=1, description="ladder name, short name, hub id or folder")
    load_format: Literal["auto", "dummy"] = Field("auto", description="auto, or dummy = random weights (cost only)")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto = as the model was saved"
    )
    device: str = Field("auto", min_length=1, description="auto, cpu, cuda, cuda:1, ...")
    threads: int = Field(1, ge=1, description="CPU threads of the model; 1 gives the steadiest times")
    prompts: int = Field(2, ge=1, description="number of distinct prompts, the same for every model")
    prompt_tokens: int = Field(200, ge=8, description="exact length of every prompt in tokens")
    max_new_tokens: int = Field(30, ge=1, description="new tokens per sample at most")
    temperature: float = Field(0.8, gt=0, allow_inf_nan=False, description="sampling temperature")
    top_k: int = Field(0, ge=0, description="keep the k likeliest tokens; 0 = off")
    top_p: float = Field(1.0, gt=0, le=1, description="keep the smallest set of tokens with this mass; 1 = off")
    threshold: float = Field(0.055, gt=0, lt=1, description="EAB branches above this entropy, as a share of ln |V|")
    branch_factor: int = Field(3, ge=2, description="EAB: tokens followed at a branching point")
    max_paths: int = Field(20, ge=2, description="EAB: live paths at most")
    num_samples: int = Field(20, ge=1, description="samples per prompt in the fixed-N comparison")
    arms: list[str] = Field(
        [
            "naive",
            "hf",
            "batched",
            "bifurcated",
            "eab_sequential",
            "eab",
            "tree",
            "tree_multinomial",
            "arithmetic",
        ],
        description="generators compared; eab@0.1 is EAB at another threshold",
    )
    repeats: int = Field(1, ge=1, description="timed passes of each fast arm")
    compile: bool = Field(False, description="trees at fixed shapes under torch.compile (CUDA graphs on a GPU)")
    questions: int = Field(1, ge=0, description="questions on which the answers' law is measured; 0 = none")
    answer_tokens: int = Field(48, ge=1, description="new tokens per answer at most")
    replicates: int = Field(10, ge=2, description="independent repetitions of every arm on a question")
    reference: int = Field(200, ge=100, description="independent samples that stand for a question's law")
    trust_remote_code: bool = Field(False, description="allow a hub model to run its own code")

    @field_validator("model")
    @classmethod
    def _canonical_model(cls, name: str) -> str:
        from lib.models import registry

        return registry.resolve_name(name)

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, arms: list[str]) -> list[str]:
        if len({split_arm(arm) for arm in arms}) < len(arms):
            raise ValueError("An arm is listed twice; list each arm once.")
        if not {"naive", "eab"} <= set(arms):
            raise ValueError("The comparison needs both 'naive' and 'eab'; add the missing one.")
        return arms

    @model_validator(mode="after")
    def _branches_fit(self) -> "Scaling":
        if self.branch_factor > self.max_paths:
            raise ValueError(
                f"A branch_factor of {self.branch_factor} does not fit in max_paths {self.max_paths}; "
                "raise max_paths or lower branch_factor."
            )
        return self

    def folder_label(self) -> str:
        """The label, or else the model's own name without its owner or folder."""
        return self.label or self.model.rstrip("/").rsplit("/", 1)[-1]

    def check_named(self) -> None:
        """Whether a local model can be read; of random weights there is nothing to read."""
        if self.load_format != "dummy":
            places.check_model(self.model)

    def modules(self) -> tuple[str, ...]:
        """The generators of the arms, which the registry imports by name."""
        return tuple(sorted({f"lib.generators.{split_arm(arm)[0]}" for arm in self.arms}))
