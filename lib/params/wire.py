"""The parameters of 4b: whose messages are sent, in which codecs, and what they are compared with."""

from collections.abc import Sequence
from typing import Any, Self

from pydantic import Field, field_validator

from lib.params import places
from lib.params.base import ParameterError, Params, different, listed, local, nearest

CODECS = ("fp32", "fp16", "bf16", "int8", "int6", "int4", "int3", "int2")
SCALES = ("fp32", "fp16")
CHANGES = ("soft_tokens", "wire_dim", "noise_bits", "steps")  # of the bridge, where they are not 0
COMPARED = ("test", "group")


class Wire(Params):
    """4.4: what does a message really cost on the wire, and what is left of it there?"""

    bridge: str = Field("quick/1a_stable_8tok", description="PRESET/LABEL of 4a, or a finished run of it")
    soft_tokens: int = Field(0, ge=0, le=1024, description="other soft tokens; 0 = as the bridge has")
    wire_dim: int = Field(0, ge=0, description="other numbers per soft token; 0 = as the bridge has")
    noise_bits: int = Field(0, ge=0, le=8, description="trained with noise of so many bits; 0 = as the bridge was")
    steps: int = Field(0, ge=0, description="other steps of training; 0 = as the bridge was trained")
    seed: list[int] = Field([0], description="seeds of the bridge's training")
    codecs: list[str] = Field(list(CODECS), description=f"of {', '.join(CODECS)}")
    scales: list[str] = Field(list(SCALES), description="number formats of the scales of integer codecs")
    group: int = Field(32, ge=1, le=65_535, description="numbers that share a scale")
    texts: bool = Field(True, description="also code the questions as text, for comparison")
    gsm8k: str = Field("", description="local GSM8K file for the plan's own sizes; empty = prompt lengths as measured")
    test: int = Field(400, ge=2, description="test items at most")
    threads: int = Field(1, ge=1, description="CPU threads; tiny models are fastest with one")

    @field_validator("seed", "codecs", "scales", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("seed")
    @classmethod
    def _different_seeds(cls, seeds: list[int]) -> list[int]:
        return different(seeds)

    @field_validator("codecs", "scales")
    @classmethod
    def _known(cls, names: list[str], info: Any) -> list[str]:
        known = {"codecs": CODECS, "scales": SCALES}[info.field_name]
        if not names or len(set(names)) < len(names):
            raise ValueError(f"Parameter {info.field_name!r} is {names}; give at least one, each once.")
        for name in names:
            if name not in known:
                raise ValueError(f"There is no such entry of {info.field_name!r} as {name!r}; {nearest(name, known)}")
        return [name for name in known if name in names]

    @field_validator("noise_bits")
    @classmethod
    def _of_a_codec(cls, bits: int) -> int:
        if bits == 1:
            raise ValueError("Parameter 'noise_bits' is 1; give 2 to 8 bits per number, or 0 for the bridge as it is.")
        return bits

    @field_validator("gsm8k")
    @classmethod
    def _a_file(cls, path: str) -> str:
        return local(path, "gsm8k") if path else path

    def folder_label(self) -> str:
        """The label, or else the bridge and what is changed of it."""
        size = f"_{self.soft_tokens or ''}x{self.wire_dim or ''}" if self.soft_tokens or self.wire_dim else ""
        noise = f"_noise{self.noise_bits}" if self.noise_bits else ""
        return self.label or self.bridge.rpartition("/")[2] + size + noise

    def modules(self) -> tuple[str, ...]:
        """What makes the trained pair, which the notebook's imports do not show."""
        return ("lib.models.bridge_pair",)

    @property
    def changes(self) -> dict[str, int]:
        """What is changed of the bridge."""
        return {name: getattr(self, name) for name in CHANGES if getattr(self, name)}

    def check_named(self) -> None:
        """Whether there is such a bridge, and the local data set can be read."""
        from lib.bridge import named

        named.find(self.bridge, self.runs_dir, **self.changes)
        if self.gsm8k:
            places.check_rows("gsm8k", self.gsm8k)

    @classmethod
    def check_grid(cls, cells: Sequence[Self]) -> None:
        """Frames of one figure must be judged on equally many items and grouped alike."""
        for cell in cells[1:]:
            if differing := [name for name in COMPARED if getattr(cell, name) != getattr(cells[0], name)]:
                raise ParameterError(f"Cells differ in {differing[0]} and cannot be compared; give all one value.")
