"""What a plan would do, and what became of it.

The summary is what is left on the screen after hours. So it rests on the cells as they were when the plan began,
whatever has been changed since, and what is counted for it cannot take it along: the table of outcomes comes first.
"""

import itertools
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from lib import paths, runs
from lib.claims import VERDICTS, Verdict
from lib.claims import __main__ as ledger
from lib.params import config_hash
from lib.plan.running import MISTAKE, Result
from lib.plan.stages import Options, Plan, Stage
from lib.sweep import planning
from lib.sweep.planning import Task, spell

Cells = Sequence[Sequence[Task]]  # of each stage


def preview(plan: Plan, tasks: Cells, options: Options) -> str:
    """Each stage with its command, what its cells are and may take, and the GPUs that each needs."""
    lines = []
    for place, (stage, cells) in enumerate(zip(plan.stages, tasks, strict=True), 1):
        lines += [f"{place:2}. {stage.name}", f"    {stage.typed(options)}"]
        if cells:
            gpus = " or ".join(f"{n:g}" for n in sorted({task.cell.gpus for task in cells}))
            lines.append(f"    {planning.total(cells, None)}; GPUs per cell: {gpus}")
    every = {(task.cell.experiment, config_hash(task.params)): task for task in itertools.chain(*tasks)}
    return "\n".join([*lines, f"In all: {planning.total(every.values(), None)}"])


def summary(results: Sequence[Result], tasks: Cells, options: Options) -> Iterator[str]:
    """What became of each stage, how to go on, where the figures are, and what the claims came to, line by line."""
    yield from _table(results, tasks)
    yield f"In all {spell(sum(result.seconds for result in results))}."
    yield from _advice(results)
    done = {result.stage.command: result.stage for result in results if result.code == 0}
    if "figures" in done:
        yield f"Figures: {paths.FIGURES}"
    if "claims" in done:
        experiments = {task.cell.experiment for task in itertools.chain(*tasks)}
        yield f"Claims: {_verdicts(done['claims'], experiments, options)}"


def _table(results: Sequence[Result], tasks: Cells) -> Iterator[str]:
    width = max(len(result.stage.name) for result in results)
    yield f"    {'stage':{width}}  {'outcome':9}  {'complete':>8}  time"
    for place, (result, cells) in enumerate(zip(results, tasks, strict=True), 1):
        took = "" if result.code is None else spell(result.seconds)
        yield f"{place:2}. {result.stage.name:{width}}  {result.outcome:9}  {_complete(cells):>8}  {took}".rstrip()


def _complete(tasks: Sequence[Task]) -> str:
    """Complete runs of the cells that can be had, as 3/4; ?/4 if they cannot be read; "" where there are no cells."""
    wanted = [task for task in tasks if not task.params.unavailable()]
    if not wanted:
        return ""
    try:
        found = itertools.chain(*(runs.finished(*place) for place in {_place(task) for task in wanted}))
        done = {run.metrics["config_hash"] for run in found}
    except Exception:  # the row must come, whatever is wrong with the runs
        return f"?/{len(wanted)}"
    return f"{sum(config_hash(task.params) in done for task in wanted)}/{len(wanted)}"


def _place(task: Task) -> tuple[str, str]:
    return task.cell.experiment, task.params.runs_dir


def _advice(results: Sequence[Result]) -> Iterator[str]:
    """How to go on, where not everything is done."""
    first = next((result for result in results if result.code != 0), None)
    if first is None:
        return
    again = shlex.join(["python", "-m", "lib.plan", *sys.argv[1:]])
    if first.code == MISTAKE:
        yield f"Stage {first.stage.name!r} is mistaken, as it says above; correct that, then type: {again}"
    else:
        yield f"Not everything is done. What is complete is kept; the same command goes on: {again}"


def _verdicts(stage: Stage, experiments: Iterable[str], options: Options) -> str:
    """How many claims about the experiments came to which verdict, and what prints them."""
    again = f"the ledger again: {stage.typed(options)}"
    try:
        found = _decided(stage, options)
    except Exception as error:  # counting is the least of what was done
        return f"they cannot be counted ({' '.join(str(error).split())}); {again}"
    about = {experiment.split("_")[0] for experiment in experiments}  # a claim's id begins with the code
    counts = Counter(verdict.verdict for verdict in found if verdict.claim.id.split("/")[0] in about)
    return f"{', '.join(f'{counts[verdict]} {verdict}' for verdict in VERDICTS)}; {again}"


def _decided(stage: Stage, options: Options) -> list[Verdict]:
    asked = stage.asked(options)
    return ledger.decided(asked["preset"], asked["set_"], asked["runs_dir"])[0]
