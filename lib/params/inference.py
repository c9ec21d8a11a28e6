"""The parameters of 4c: which messages are timed against the text, how, and over which links."""

import math
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from lib.params.base import Params, listed, nearest
from lib.params.wire import CODECS

BACKENDS = ("torch", "vllm")


class Inference(Params):
    """4.5: what does a message save at inference, in time, memory and throughput?"""

    bridges: list[str] = Field(
        ["quick/1a_stable_8tok", "quick/2a_stable_4tok"],
        description="PRESET/LABEL of 4a, or runs or labels of its finished runs; of one pair and task",
    )
    backend: str = Field("torch", description="torch, with every stage timed; vllm, for what an engine serves")
    samples: int = Field(16, ge=2, description="test questions; a multiple of every batch size")
    new_tokens: int = Field(32, ge=2, description="tokens of every answer: forced, the same in every arm")
    batches: list[int] = Field([1, 4, 8], description="questions answered together")
    repeats: int = Field(1, ge=1, description="timed passes over the questions")
    codec: str = Field("int8", description=f"how a message is sent: {', '.join(CODECS)}")
    bandwidths: list[float] = Field([0.0, 10.0, 1000.0], description="links in Mbit/s; 0 = none, one machine")
    threads: int = Field(1, ge=1, description="CPU threads; tiny models are fastest with one")

    @field_validator("bridges", "batches", "bandwidths", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any, info: Any) -> Any:
        values = listed(value)
        if info.field_name == "bandwidths" and isinstance(values, list):
            return [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
        return values

    @field_validator("bridges", "batches", "bandwidths")
    @classmethod
    def _each_once(cls, values: list[Any], info: Any) -> list[Any]:
        if not values or len(set(values)) < len(values):
            raise ValueError(f"Parameter {info.field_name!r} is {values}; give at least one, each once.")
        return values

    @field_validator("batches")
    @classmethod
    def _of_questions(cls, sizes: list[int]) -> list[int]:
        if min(sizes) < 1:
            raise ValueError(f"Parameter 'batches' is {sizes}; a batch holds one question at least.")
        return sorted(sizes)

    @field_validator("bandwidths")
    @classmethod
    def _of_links(cls, links: list[float]) -> list[float]:
        if not all(0 <= link < float("inf") for link in links):
            raise ValueError(f"Parameter 'bandwidths' is {links}; give Mbit/s, or 0 for no link.")
        return sorted(links)

    @field_validator("codec", "backend")
    @classmethod
    def _known(cls, name: str, info: Any) -> str:
        known = {"codec": CODECS, "backend": BACKENDS}[info.field_name]
        if name not in known:
            raise ValueError(f"There is no {info.field_name} {name!r}; {nearest(name, known)}")
        return name

    @model_validator(mode="after")
    def _same_questions(self) -> Self:
        """All batch sizes answer all questions, so that none is compared on other questions than the rest."""
        step = math.lcm(*self.batches)
        if self.samples % step:
            below = self.samples // step * step
            fitting = " or ".join(str(count) for count in (below, below + step) if count)
            raise ValueError(
                f"{self.samples} samples do not fill whole batches of each size in {self.batches}, which are compared "
                f"on the same questions; take {fitting}."
            )
        return self

    def folder_label(self) -> str:
        """The label, or else the backend and what is compared."""
        return self.label or "_".join([self.backend, *(name.rpartition("/")[2] for name in self.bridges)])

    def modules(self) -> tuple[str, ...]:
        """What makes the trained pair, which the notebook's imports do not show."""
        return ("lib.models.bridge_pair",)

    def check_named(self) -> None:
        """Whether there are such bridges, all of one pair and task."""
        from lib.bridge import named

        named.same_pair([named.find(name, self.runs_dir)[0] for name in self.bridges])
