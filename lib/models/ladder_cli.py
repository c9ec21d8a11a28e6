"""Train models ahead of time, side by side: `python -m lib.models.ladder [NAMES...] [--head NAME]... [--jobs N]`.

A name is a rung of the ladder, alone or with a skill, or a model of the bridge study's pair.

Tiny models want one thread each, so two processes with one thread use two cores far better than one process with two.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from multiprocessing.context import SpawnProcess
from types import ModuleType
from typing import Annotated

import typer
from tqdm import tqdm

from lib.models import bridge_pair, eagle_training, ladder, skills

HEAD_SECONDS = 75  # expected CPU seconds of an EAGLE head

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)


def trainer(name: str) -> ModuleType:
    """The module that trains a model by name; its `folder` raises ValueError for a name that it does not know."""
    return bridge_pair if name.startswith("bridge") else ladder


def seconds(name: str) -> float:
    """Expected CPU seconds of a model that is asked for by name, its base apart; 0 when it is cached."""
    if trainer(name).folder(name).exists():
        return 0.0
    if trainer(name) is bridge_pair:
        return bridge_pair.member(name).seconds
    rung, skill = ladder.split_name(name)
    return skills.SKILLS[skill].seconds if skill else ladder.RUNGS[rung].seconds


def plan(names: Sequence[str], jobs: int, heads: Sequence[str] = ()) -> list[list[str]]:
    """Names by process, the longest first to whoever has least to do; a rung stays together with its skills."""

    def load(group: Sequence[str]) -> float:
        return sum(seconds(name) + HEAD_SECONDS * (name in heads) for name in group)

    groups: dict[str, list[str]] = {}
    for name in sorted(names, key=lambda name: "+" in name):
        rung, _, skill = name.partition("+")
        group = groups.setdefault(rung, [rung] if skill else [])
        if name not in group:
            group.append(name)
    loads: list[tuple[float, list[str]]] = [(0.0, []) for _ in range(max(1, min(jobs, len(groups))))]
    for group in sorted(groups.values(), key=load, reverse=True):
        lightest = min(range(len(loads)), key=lambda index: loads[index][0])
        loads[lightest] = (loads[lightest][0] + load(group), loads[lightest][1] + group)
    return [share for _, share in loads]


def train_all(names: Sequence[str], jobs: int = 2, heads: Sequence[str] = ()) -> None:
    """Train what is not cached yet in `jobs` processes of one thread each, and an EAGLE head for each name of `heads`.

    Raises:
        RuntimeError: when a process failed (its traceback is on stderr).
    """
    heads = [name for name in heads if not eagle_training.folder(name).exists()]
    missing = [name for name in names if name in heads or not trainer(name).folder(name).exists()]
    context = multiprocessing.get_context("spawn")
    lock = context.RLock()  # so that progress bars of several processes keep to their lines
    processes = [
        context.Process(target=_work, args=(share, heads, position, lock))
        for position, share in enumerate(plan(missing, jobs, heads) if missing else [])
    ]
    environment = dict(os.environ)
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    finally:
        os.environ.clear()
        os.environ |= environment
        _stop(processes)
    if any(process.exitcode for process in processes):
        raise RuntimeError("A training process failed; what was finished is cached, so run the same command again.")


def _stop(processes: Sequence[SpawnProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        process.join()


def _work(names: Sequence[str], heads: Sequence[str], position: int, lock: object) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a stopped training still removes what it has begun
    tqdm.set_lock(lock)
    try:
        for name in names:
            trainer(name).path(name, position)
            if name in heads:
                eagle_training.path(name, position=position)
    except KeyboardInterrupt:
        sys.exit(130)


def table(names: Sequence[str]) -> str:
    """What training.json says of each model, one line each; losses in nats per token."""
    columns = ("parameters", "tokens", "loss", "entropy", "gap", "cpu s", "wall s")
    lines = [f"{'model':24}" + "".join(f"{column:>11}" for column in columns)]
    for name in names:
        record = ladder.training_of(trainer(name).path(name))
        loss, entropy = record["validation_loss"], record["validation_entropy"]
        lines.append(
            f"{name:24}{record['parameters']:11,}{record['tokens']:11,}{loss:11.3f}{entropy:11.3f}"
            f"{loss - entropy:11.3f}{record['cpu_seconds']:11.1f}{record['wall_seconds']:11.1f}"
        )
        for wrapping, kinds in record.get("accuracy", {}).items():
            scores = ", ".join(f"{kind} {share:.3f}" for kind, share in kinds.items())
            lines.append(f"{'':24} held-out accuracy, {wrapping}: {scores}")
    return "\n".join(lines)


@app.command()
def main(
    names: Annotated[
        list[str] | None,
        typer.Argument(help="Rungs, alone or with a skill (ladder-1m+arithmetic), or bridge-source, ..."),
    ] = None,
    head: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Train this rung and an EAGLE head for it; repeats.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes, of one thread each.")] = 2,
) -> None:
    """Train models that are not cached yet, and print what they reached.

    Without names: the four quick rungs, about three minutes on two quiet cores. Models are kept in the user's cache
    folder (or in RECOUNT_CACHE) and are trained again only when their recipe, their text or torch changes.
    """
    heads = head or []
    for name in heads:
        if trainer(name) is bridge_pair:
            raise ValueError(f"{name} has no EAGLE head, only rungs of the ladder do: give it without --head.")
    wanted = list(dict.fromkeys([*(names or []), *heads])) or ladder.QUICK
    for name in wanted:
        trainer(name).folder(name)
    try:
        train_all(wanted, jobs, heads)
        print(table(wanted))
    except KeyboardInterrupt:
        print("\nInterrupted: finished models are cached, nothing half-trained is left.", file=sys.stderr)
        raise SystemExit(130) from None
