"""A trained maze model read out refinement by refinement: what it says of one maze, and how often it is right."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lib import presets
from lib.data.mazes import Mazes
from lib.mazes import evaluation, sets, study
from lib.metrics.mazes import walk
from lib.params import ParameterError
from lib.params.mazes import PohScaling

ARCH = "loop"  # the arm that keeps refining and has no other parts to explain


@dataclass(frozen=True)
class Refined:
    """One test maze and what the model says of it at every read-out, up to twice as many as it was trained to."""

    name: str
    maze: Mazes  # one
    policies: np.ndarray  # uint8 [2R, N]
    trained: int  # R
    right: np.ndarray  # float64 [2R]: share of this maze's cells whose arrow is right
    all_right: np.ndarray  # float64 [2R]: the same over all test mazes
    solved: np.ndarray  # float64 [2R]: share of all test mazes solved
    tested: int


def refine(preset: str) -> Refined:
    """The loop of a preset of 3a, its largest size on its first seed, trained if need be with a progress bar.

    The mazes are test mazes larger than those it was trained on, where more refinements have more to do. The one shown
    is that with the longest way of those solved in the end: an example of how, not of how often. ParameterError where
    no cell of the preset trains a loop and asks it about larger mazes.
    """
    params = _cell(preset)
    subject = study.Subject(ARCH, params.size[-1], params.seed[0])
    made = sets.make(params, subject.seed)
    model = study.trained(params, subject, made).model
    mazes = made.larger[max(made.larger)]
    said = evaluation.answers(model, mazes, 2 * params.R).policy
    scores = [evaluation.score(policy, mazes) for policy in said]
    reached = walk(said[-1], mazes.open, mazes.start, mazes.goal).reached
    index = int(np.where(reached, mazes.shortest, 0).argmax())
    shown, policies = _only(mazes, index), said[:, index]
    return Refined(
        name=f"{subject}, trained on {params.maze_size} × {params.maze_size}, read on {mazes.side} × {mazes.side}",
        maze=shown,
        policies=policies,
        trained=params.R,
        right=np.array([evaluation.score(policy[None], shown)["cell_accuracy"] for policy in policies]),
        all_right=np.array([score["cell_accuracy"] for score in scores]),
        solved=np.array([score["accuracy"] for score in scores]),
        tested=len(mazes),
    )


def reading(refined: Refined) -> str:
    """From the first refinement to the last trained, and to twice as many."""
    first, trained, last = 0, refined.trained - 1, len(refined.policies) - 1
    own, solved = refined.right, refined.solved
    return (
        f"In this maze {own[first]:.0%} of the arrows are right after the first refinement, {own[trained]:.0%} after "
        f"{trained + 1}, as many as were trained, and {own[last]:.0%} after {last + 1}. Of {refined.tested} such mazes "
        f"{solved[first]:.0%}, {solved[trained]:.0%} and {solved[last]:.0%} are solved then."
    )


def _cell(preset: str) -> PohScaling:
    """The parameters of the cell that trains a loop, refined most often, and asks it about larger mazes."""
    cells = [cell.resolved() for cell in presets.cells("3a_poh_scaling", preset)]
    found = [params for params in cells if ARCH in params.arch and params.larger]
    if not found:
        raise ParameterError(
            f"Preset {preset!r} of 3a_poh_scaling trains no {ARCH} that is asked about larger mazes; choose quick."
        )
    return max(found, key=lambda params: params.R)


def _only(mazes: Mazes, index: int) -> Mazes:
    """One of the mazes."""
    arrays = ("open", "goal", "start", "distance", "next_steps")
    return replace(mazes, **{name: getattr(mazes, name)[index : index + 1] for name in arrays})
