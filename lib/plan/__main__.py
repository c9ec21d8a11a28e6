"""`python -m lib.plan NAME`: run a plan, or show what it would do."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from lib import console
from lib.params import ParameterError
from lib.plan import running, stages
from lib.plan.summary import preview, summary

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


@app.command()
def main(
    name: Annotated[str, typer.Argument(metavar="PLAN", help="A plan of params/plans.yaml: demo, bridge, ...")],
    ray: Annotated[str, typer.Option(metavar="local|ADDRESS", help="Let Ray place the cells on GPUs.")] = "",
    jobs: Annotated[int | None, typer.Option(min=1, help="Cells beside each other; default: the plan's own.")] = None,
    runs_dir: Annotated[str, typer.Option(help="Put runs here instead of runs/.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the stages and stop.")] = False,
) -> None:
    """Run the sweeps, figures and claims that belong together, in order of priority; what is done is kept.

    \b
    python -m lib.plan bridge --ray local    the five ablations of the bridge on this machine's GPUs
    python -m lib.plan bridge_small          the same between the pair trained here
    python -m lib.plan bridge --dry-run      what there is to do, what is done, how long the rest may take

    Exit codes: 0 every stage succeeded, 1 some failed, 2 a mistake in a command, 130 Ctrl-C.
    """
    try:
        plan = stages.load(name)
        options = _options(plan, ray, jobs, runs_dir)
        tasks = stages.check(plan, options)
    except ParameterError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise typer.Exit(running.MISTAKE) from None
    print(f"{name}: {plan.title}")
    if dry_run:
        print(preview(plan, tasks, options))
        return
    results = running.run(plan, options)
    print()
    for line in summary(results, tasks, options):
        print(line, flush=True)
    if code := running.exit_code(results):
        raise typer.Exit(code)


def _options(plan: stages.Plan, ray: str, jobs: int | None, runs_dir: str) -> dict[str, str]:
    """The plan's own command line as options of its stages; ParameterError where they contradict each other."""
    if ray and jobs:
        raise ParameterError("Ray decides how many cells run beside each other; leave --jobs out.")
    beside = "" if ray else str(jobs or plan.jobs)
    folder = str(Path(runs_dir).expanduser().resolve()) if runs_dir else ""
    given = {"--ray": ray, "--jobs": beside if beside != "1" else "", "--runs-dir": folder}
    return {name: value for name, value in given.items() if value}


if __name__ == "__main__":
    console.command(app)
