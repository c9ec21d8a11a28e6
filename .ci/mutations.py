#!/usr/bin/env python3
"""Do the tests notice? Planted faults, one at a time, each with the test file that has to fail within a minute.

Every fault is put into a copy of the checkout made for it alone, where the named tests run. It is caught when pytest
ends with failed tests; a test file that cannot even be collected, or runs for longer than a minute, has caught nothing.
Each selection of tests must first pass in a copy without a fault. Another fault is another entry of FAULTS.

    .venv/bin/python .ci/mutations.py        the table, and exit code 1 where a fault survives
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("lib", "tests", "params", "notebooks", "pyproject.toml")  # of the checkout: what the named tests read
LIMIT = 60  # seconds in which a test file must fail


class Tests(NamedTuple):
    """A test file, and what narrows it down to tests that are quick (pytest's -k)."""

    file: str
    only: str


class Fault(NamedTuple):
    """One planted fault: `old`, which occurs exactly once in `file`, becomes `new`, and `tests` must fail."""

    what: str
    file: str
    old: str
    new: str
    tests: Tests


FAULTS = [
    Fault(
        "1.A.3: a live path attends to the tokens of another",
        "lib/generators/shared_prefix.py",
        "index_select(1, pool.paths.flatten())",
        "index_select(1, pool.paths.flip(0).flatten())",
        Tests("test_generators.py", "engine_logits or attends"),
    ),
    Fault(
        "1.A.3: systematic counts lean to the tokens that come first",
        "lib/generators/counts.py",
        "offset = (rank + shift[prompt]) / (last - first)",
        "offset = (rank + 0.5 * shift[prompt]) / (last - first)",
        Tests("test_tree.py", "unbiased"),
    ),
    Fault(
        "1.A.3: the arms of a speedup are swapped",
        "lib/metrics/stats.py",
        "ratio=joined.baseline / joined[value]",
        "ratio=joined[value] / joined.baseline",
        Tests("test_stats.py", "speedup"),
    ),
    Fault(
        "2.A: a node of a draft tree sees its elder and not its parent",
        "lib/generators/speculative/decode.py",
        "sees[node + 1] |= sees[parent]",
        "sees[node + 1] |= sees[node]",
        Tests("test_speculative.py", "forward_of_the_target"),
    ),
    Fault(
        "2.A: what is kept of a draft tree lands one slot too far in the KV cache",
        "lib/generators/speculative/decode.py",
        "self.cache.move(self._tensor(start + np.array(path)), start)",
        "self.cache.move(self._tensor(start + np.array(path)), start + 1)",
        Tests("test_speculative.py", "forward_of_the_target"),
    ),
    Fault(
        "2.A: a rejected draft is replaced from the target's law, not from its excess over the draft's",
        "lib/generators/speculative/acceptance.py",
        "(p[row, kept] - q[row, kept.clamp(max=q.shape[1] - 1)]).clamp(min=0)",
        "p[row, kept]",
        Tests("test_speculative_law.py", "the_rule_gives"),
    ),
    Fault(
        "3.A: every shortest way through a maze is one step too long",
        "lib/data/maze_solving.py",
        "distance[source] = 0",
        "distance[source] = 1",
        Tests("test_mazes.py", "scipys"),
    ),
    Fault(
        "4.A: the source reads the gold answer beside the question",
        "lib/bridge/pair.py",
        "_states(pair, contexts(pair.source, task, questions)),",
        '_states(pair, contexts(pair.source, task, [f"{item.question} {item.gold}" for item in items])),',
        Tests("test_bridge_firewall.py", "another_gold"),
    ),
    Fault(
        "4.B: int4 and int6 codes lose their signs when they are unpacked",
        "lib/models/wire_kernels.py",
        "np.int8(np.int64(word << np.uint64(64 - bits * (i + 1))) >> spare)",
        "np.int8((word << np.uint64(64 - bits * (i + 1))) >> np.uint64(spare))",
        Tests("test_wire.py", "sending_what_arrived"),
    ),
    Fault(
        "Claims: Holm's adjustment is dropped",
        "lib/claims/__init__.py",
        "p_supports = stats.holm([found.p_supports for found in sampled.values()])",
        "p_supports = [found.p_supports for found in sampled.values()]",
        Tests("test_claims.py", "adjusted"),
    ),
    Fault(
        "Runs: a record file that was cut off is not noticed",
        "lib/runs/checking.py",
        "if size is not None and found.st_size != size:",
        "if size is not None and found.st_size > size:",
        Tests("test_runs.py", "damaged_folder"),
    ),
    Fault(
        "Sweeps: a cell that measures time gets company",
        "lib/sweep/processes.py",
        "and not any(other.cell.exclusive for other in (task, *running))",
        "",
        Tests("test_sweep.py", "nothing_runs_beside"),
    ),
]


def outdated() -> list[str]:
    """What is wrong with entries of FAULTS that no longer fit the code, a sentence each."""
    found = [(fault, (ROOT / fault.file).read_text(encoding="utf-8").count(fault.old)) for fault in FAULTS]
    return [
        f"{fault.what}: {fault.file} has {count} times, not once: {fault.old!r}; bring the entry up to date."
        for fault, count in found
        if count != 1
    ]


def ending(tests: Tests, fault: Fault | None = None) -> tuple[str, float]:
    """How `tests` end with the fault: "passed", "failed", or in other words; and after how many seconds."""
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", f"tests/{tests.file}", "-k", tests.only]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "RECOUNT_", "COVERAGE_"))}
    environment["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        place = _copy(Path(folder), fault)
        began = time.monotonic()
        try:
            run = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return f"still running after {LIMIT} s", LIMIT
        seconds = time.monotonic() - began
    said = (run.stdout.splitlines() or [""])[-1]
    if run.returncode == 0:
        return "passed", seconds
    if run.returncode == 1 and " failed" in said and " error" not in said:
        return "failed", seconds
    return f"exit code {run.returncode}: {said or run.stderr[-300:]}", seconds


def _copy(into: Path, fault: Fault | None) -> Path:
    """A copy of the checkout in the empty folder `into`, with the fault if there is one."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy2
        copy(ROOT / part, into / part)
    if fault:
        text = (into / fault.file).read_text(encoding="utf-8")
        (into / fault.file).write_text(text.replace(fault.old, fault.new), encoding="utf-8")
    return into


def main() -> int:
    """Run everything, two at a time; 0 when all tests pass without a fault and fail with theirs."""
    if sentences := outdated():
        print("\n".join(sentences))
        return 1
    selections = list(dict.fromkeys(fault.tests for fault in FAULTS))
    with ThreadPoolExecutor(2) as pool:
        whole = dict(zip(selections, pool.map(ending, selections), strict=True))
        faulty = list(pool.map(lambda fault: ending(fault.tests, fault), FAULTS))
    broken = [f"{tests.file} -k '{tests.only}': {end}" for tests, (end, _) in whole.items() if end != "passed"]
    for line in broken:
        print(f"without a fault: {line}")
    survived = 0
    width = max(len(fault.what) for fault in FAULTS)
    for fault, (end, seconds) in zip(FAULTS, faulty, strict=True):
        caught = end == "failed" and whole[fault.tests][0] == "passed"
        survived += not caught
        verdict = "caught" if caught else f"SURVIVED ({end})"
        print(f"{fault.what:{width}}  {fault.tests.file:24}  {seconds:4.0f} s  {verdict}")
    print(f"{len(FAULTS) - survived} of {len(FAULTS)} planted faults caught")
    return int(bool(survived or broken))


if __name__ == "__main__":
    sys.exit(main())
