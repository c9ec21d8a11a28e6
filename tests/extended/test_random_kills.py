"""A sweep whose processes are killed at random, again and again, ends with each cell complete once.

Slow, and different in detail each time, because processes are: run with `pytest tests/extended`.
"""

import random
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))  # what the ordinary tests share

import checkout
import test_nothing_lost as lost

CELLS = tuple(range(1, 9))
ROUNDS = 6
KILLS = 2  # in a round, before the sweep itself is killed
LONGEST = 1.5  # seconds until a kill: a cell takes about one, and its sweep as long to start


@pytest.mark.parametrize("seed", range(4))
def test_random_kills(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = checkout.make(tmp_path / "repository", lost.WORK, lost.PRESETS)
    killed: list[str] = []
    for _ in range(ROUNDS):
        sweep = lost.start(root, "--jobs", "2", *lost.seeds(*CELLS))
        for _ in range(KILLS):
            time.sleep(rng.uniform(0.2, LONGEST))
            if there := lost.processes(root):  # the sweep, its server, its cells, their kernels
                victim = rng.choice(there)
                with suppress(psutil.Error):
                    killed.append(" ".join(victim.cmdline())[-60:])
                    victim.kill()
        sweep.kill()
        said = sweep.communicate(timeout=lost.PATIENCE)[0]
        assert "Traceback" not in said, (killed, said)
    code, said = lost.sweep(root, "--jobs", "2", *lost.seeds(*CELLS))
    assert code == 0, (killed, said)
    lost.check(root, *CELLS)
    assert len(killed) >= ROUNDS  # else it ended too soon to show anything
