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

CELLS = (1, 2, 3, 4)
ROUNDS = 8
LONGEST = 6.0  # seconds until a kill: a cell takes about two


@pytest.mark.parametrize("seed", range(3))
def test_random_kills(tmp_path, seed):
    rng = random.Random(seed)
    root = checkout.make(tmp_path / "repository", lost.WORK, lost.PRESETS)
    killed = []
    for _ in range(ROUNDS):
        sweep = lost.start(root, "--jobs", "2", *lost.seeds(*CELLS))
        deadline = time.monotonic() + rng.uniform(0.5, LONGEST)
        while time.monotonic() < deadline and sweep.poll() is None:
            time.sleep(0.01)
        there = lost.processes(root)  # the sweep, its server, its cells, their kernels
        if there:
            victim = rng.choice(there)
            with suppress(psutil.Error):
                killed.append(" ".join(victim.cmdline())[-60:])
                victim.kill()
        if rng.random() < 0.5:  # either the sweep is killed as well, and started again at once, or it goes on
            sweep.kill()
        said = sweep.communicate(timeout=lost.PATIENCE)[0]
        assert "Traceback" not in said, (killed, said)
    code, said = lost.sweep(root, "--jobs", "2", *lost.seeds(*CELLS))
    assert code == 0, (killed, said)
    lost.check(root, *CELLS)
