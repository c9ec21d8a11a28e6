"""Typed parameters: what an experiment may be told.

One pydantic model per experiment holds every parameter with its default, its help and its limits. `resolve` turns what
a user typed (papermill's `-p`, a YAML cell, a notebook's globals) into that model or into one sentence that says what
to type instead. Nothing is guessed and no unknown name is accepted: a misspelt parameter that silently runs the default
is the most expensive mistake a sweep can make.

No model stack is imported here: a mistake has to surface in a second, before anything loads.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

NOT_HASHED = frozenset({"label", "preset", "run_dir", "runs_dir"})  # where a result lands does not change the result


class ParameterError(ValueError):
    """A parameter that cannot be used; the message is one sentence for the person who typed it."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A clause that helps someone who typed `name`: the nearest of the known names, or all of them."""
    names = list(known)
    lower = {k.lower(): k for k in names}
    match = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
    return f"did you mean {lower[match[0]]!r}?" if match else f"choose one of {', '.join(names)}."


class Params(BaseModel):
    """What every experiment shares; the experiment's own parameters are added by a subclass."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, validate_default=False)

    seed: int = Field(0, ge=0, description="seed of prompts, sampling and the order of timed passes")
    label: str = Field("", description="first part of the run folder's name; empty = the model's name")
    preset: str = Field("", description="the preset this cell came from, for the record")
    run_dir: str = Field("", description="folder of this run; empty = a new one under runs_dir")
    runs_dir: str = Field("", description="folder that holds all runs; empty = runs/ of the repository")

    def folder_label(self) -> str:
        """The first part of the run folder's name."""
        return self.label or "run"

    def modules(self) -> tuple[str, ...]:
        """Modules of `lib` the run loads by name: invisible in a notebook's imports, yet they decide its results."""
        return ()


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
            "hf_sequential",
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
    replicates: int = Field(20, ge=2, description="independent repetitions of every arm on a question")
    reference: int = Field(400, ge=100, description="independent samples that stand for a question's law")
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

    def modules(self) -> tuple[str, ...]:
        """The generators of the arms, which the registry imports by name."""
        return tuple(sorted({f"lib.generators.{split_arm(arm)[0]}" for arm in self.arms}))


EXPERIMENTS: dict[str, type[Params]] = {"1a3_scaling": Scaling, "bench/sampling": Scaling, "bench/growth": Scaling}


def schema(experiment: str) -> type[Params]:
    """The parameter model of an experiment; ParameterError names the nearest experiment for any other name."""
    if experiment not in EXPERIMENTS:
        raise ParameterError(f"There is no experiment {experiment!r}; {nearest(experiment, EXPERIMENTS)}")
    return EXPERIMENTS[experiment]


def check_names(experiment: str, names: Iterable[str]) -> None:
    """Raise ParameterError for the first name that is not a parameter of the experiment."""
    known = schema(experiment).model_fields
    for name in names:
        if name not in known:
            raise ParameterError(f"{experiment} has no parameter {name!r}; {nearest(str(name), known)}")


def resolve(experiment: str, raw: Mapping[str, Any]) -> Params:
    """The typed, complete configuration; everything not in `raw` takes its default.

    Raises ParameterError, one sentence, for an unknown experiment or name, a wrong type or a value out of range.
    """
    cls = schema(experiment)
    check_names(experiment, raw)
    try:
        return cls.model_validate(dict(raw))
    except ValidationError as error:
        raise ParameterError(_sentence(cls, error)) from None


def _sentence(cls: type[Params], error: ValidationError) -> str:
    """The first complaint of pydantic as one sentence with the parameter, the value and what to type."""
    first = error.errors()[0]
    if first["type"] == "value_error":  # raised by our own validators, already a sentence
        return str(first["ctx"]["error"])
    name, value = str(first["loc"][0]), first["input"]
    expected = first["msg"].removeprefix("Input should be ")
    expected = expected.replace("a valid integer", "a whole number").replace("a valid ", "a ")
    sentence = f"Parameter {name!r} is {value!r} but should be {expected}"
    annotation = cls.model_fields[name].annotation
    if first["type"] == "string_type" and isinstance(value, int | float):
        return f"{sentence}; papermill reads -p values as numbers where it can, so type -r {name} {value}."
    if first["type"] == "list_type" and annotation == list[str] and isinstance(value, str):
        items = ", ".join(re.findall(r"[\w@.-]+", value))
        return f"{sentence}; type -y '{name}: [{items}]' to papermill, or --set '{name}=[{items}]' to the sweep."
    return f"{sentence} ({cls.model_fields[name].description})."


def config_hash(params: Params) -> str:
    """sha256 (hex) of the canonical JSON of all parameters that can change a result."""
    values = {k: v for k, v in params.model_dump(mode="json").items() if k not in NOT_HASHED}
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
