"""The parameters of 3a: which arms, of which sizes, are trained on which mazes."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from lib.data import mazes
from lib.models.maze_sizes import ARCHS, SIZES, Size
from lib.params.base import ParameterError, Params, listed, nearest

Rate = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
COMPARED = ("maze_size", "min_path", "algorithm", "braid", "train", "test", "epochs", "batch_size", "augment")


class PohScaling(Params):
    """3.A: does PoH-HRM beat a plain transformer on mazes as both grow?"""

    maze_size: int = Field(6, ge=2, le=mazes.MAX_SIDE, description="side of the mazes, in cells")
    train: int = Field(2400, ge=1, description="training mazes")
    test: int = Field(400, ge=1, description="test mazes")
    validation: int = Field(200, ge=1, description="validation mazes, judged after every epoch")
    min_path: str = Field("auto", description="fewest cells on the way through a test maze; auto = 40 % of all cells")
    epochs: int = Field(3, ge=1, description="passes over the training mazes")
    R: int = Field(4, ge=1, le=64, description="refinements: how often loop and poh apply their blocks")
    T: int = Field(4, ge=1, description="poh: the controller's slow module moves at every T-th block")
    seed: list[int] = Field([42], description="seeds; each has its own mazes and initial weights")
    size: list[str] = Field(["nano"], description=f"sizes: {', '.join(SIZES)}")
    arch: list[str] = Field(list(ARCHS), description=f"arms: {', '.join(ARCHS)}")
    n_heads: int = Field(0, ge=0, description="attention heads; 0 = the size's own")
    learning_rate: list[Rate] = Field([0.02], description="peak, at d_model 32 (wider: less); one, or one per arm")
    batch_size: int = Field(32, ge=1, description="mazes per step")
    augment: bool = Field(True, description="show a maze turned or mirrored and with a new goal every epoch")
    algorithm: str = Field("dfs", description=f"how mazes are carved: {', '.join(mazes.ALGORITHMS)}")
    braid: float = Field(0.0, ge=0, le=1, description="share of dead ends that are opened, which makes loops")
    larger: list[int] = Field([2], description="also test on mazes with so many cells more per side")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:1, ...")
    compile: bool = Field(False, description="torch.compile the blocks; pays on a GPU")
    threads: int = Field(1, ge=1, description="CPU threads; tiny models are fastest with one")

    @field_validator("seed", "size", "arch", "larger", "learning_rate", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return listed(value)

    @field_validator("min_path", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("size", "arch")
    @classmethod
    def _known(cls, names: list[str], info: Any) -> list[str]:
        known = SIZES if info.field_name == "size" else ARCHS
        for name in names:
            if name not in known:
                raise ValueError(f"There is no {info.field_name} {name!r}; {nearest(name, known)}")
        return names

    @field_validator("seed", "size", "arch", "larger")
    @classmethod
    def _each_once(cls, values: list[Any], info: Any) -> list[Any]:
        if not values and info.field_name != "larger":
            raise ValueError(f"Parameter {info.field_name!r} is empty; list at least one.")
        if len(set(values)) < len(values):
            raise ValueError(f"Parameter {info.field_name!r} lists a value twice; list each once.")
        least = 1 if info.field_name == "larger" else 0
        if any(isinstance(value, int) and value < least for value in values):
            raise ValueError(f"Parameter {info.field_name!r} is {values}, but none may be below {least}.")
        return values

    @model_validator(mode="after")
    def _mazes_exist(self) -> Self:
        for side in (self.maze_size, *(self.maze_size + more for more in self.larger)):
            mazes.check(side, self.test, self.algorithm, self.braid)
        mazes.check(self.maze_size, self.test, min_path=self.least_cells)
        return self

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        for size in self.size:
            if (width := SIZES[size].d_model) % self.shape(size).n_heads:
                raise ValueError(
                    f"{self.n_heads} heads do not divide the d_model {width} of {size}; choose a divisor, or 0."
                )
        return self

    @model_validator(mode="after")
    def _rates_for_all(self) -> Self:
        if len(self.learning_rate) not in (1, len(self.arch)):
            raise ValueError(
                f"{len(self.learning_rate)} learning rates do not fit {len(self.arch)} arms; give one, or one per arm."
            )
        return self

    def rate(self, arch: str) -> float:
        """The peak learning rate of an arm."""
        return self.learning_rate[self.arch.index(arch) if len(self.learning_rate) > 1 else 0]

    @property
    def least_cells(self) -> int | str:
        """min_path as mazes are made with it: a number of cells, or "auto"."""
        try:
            return int(self.min_path)
        except ValueError:
            return self.min_path

    def shape(self, size: str) -> Size:
        """A size by name, with the heads asked for."""
        return replace(SIZES[size], n_heads=self.n_heads or SIZES[size].n_heads)

    def folder_label(self) -> str:
        """The label, or else what sizes and arms are trained, with how many refinements."""
        arms = "all" if len(self.arch) == len(ARCHS) else "-".join(self.arch)
        name = f"{'-'.join(self.size)}_{arms}_R{self.R}_T{self.T}" + (f"_h{self.n_heads}" if self.n_heads else "")
        return self.label or name + (f"_lr{self.learning_rate[0]:g}" if len(self.learning_rate) == 1 else "")

    @classmethod
    def check_grid(cls, cells: Sequence[Self]) -> None:
        """Arms of one size must have the same mazes and see as many of them."""
        first: dict[str, Self] = {}
        for cell in cells:
            for size in cell.size:
                other = first.setdefault(size, cell)
                if differing := [name for name in COMPARED if getattr(cell, name) != getattr(other, name)]:
                    raise ParameterError(
                        f"Cells of size {size} differ in {differing[0]} and cannot be compared; give all one value."
                    )
