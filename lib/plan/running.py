"""The stages of a plan, one after another, each a process that has the terminal."""

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import typer

from lib.plan.stages import Options, Plan, Stage

MISTAKE, INTERRUPTED = 2, 130  # exit codes of a stage that stop the plan


@dataclass(frozen=True)
class Result:
    """What became of a stage: its exit code, None where it was not begun, and wall-clock seconds."""

    stage: Stage
    code: int | None = None
    seconds: float = 0.0

    @property
    def outcome(self) -> str:
        """The code in words."""
        return {None: "not begun", 0: "done", MISTAKE: "mistaken", INTERRUPTED: "stopped"}.get(self.code, "failed")


def run(plan: Plan, options: Options) -> list[Result]:
    """Run the stages to the end, or until one stops the plan; a result for each, in order."""
    results: list[Result] = []
    for place, stage in enumerate(plan.stages, 1):
        typer.secho(f"\n[{place} of {len(plan.stages)}] {stage.name}", bold=True)
        print(stage.typed(options), flush=True)
        started = time.monotonic()
        code = _execute([sys.executable, *stage.line(options)])
        results.append(Result(stage, code, time.monotonic() - started))
        if _stops([result.code for result in results]):
            break
    return [*results, *map(Result, plan.stages[len(results) :])]


def exit_code(results: Sequence[Result]) -> int:
    """Of the whole plan: 0 every stage succeeded, 1 some failed, else the code of the stage that stopped it."""
    codes = [result.code for result in results if result.code is not None]
    if not any(codes):
        return 0
    return codes[-1] if _stops(codes) else 1


def _stops(codes: Sequence[int]) -> bool:
    """Whether the last of the exit codes ends the plan: Ctrl-C, or a mistake in a command.

    Once a stage has failed, what looks like a mistake may be its consequence, such as a bridge that is not there.
    """
    return codes[-1] == INTERRUPTED or (codes[-1] == MISTAKE and not any(codes[:-1]))


def _execute(command: Sequence[str]) -> int:
    """Run a stage to its end; its exit code, INTERRUPTED also where the signal itself ended it.

    Ctrl-C reaches the stage as well, which stops in its own time. A polite kill, such as a batch system's at the time
    limit, may reach this process alone, and is handed on.
    """
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, before)
    return INTERRUPTED if code in (-signal.SIGINT, -signal.SIGTERM) else code
