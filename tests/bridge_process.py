"""What `tests/test_bridge_processes.py` starts in several processes: `python -m tests.bridge_process WHAT ...`.

`train` is lib.bridge.worker in full precision, so that its sums can be compared closely, and notes in the folder which
examples this process was given. `fail` is two processes of which the second cannot go on and the first waits for ever;
`wait` is two that do nothing until they are ended; `launch` starts those two and is what can be killed above them.
"""

import os
import signal
import sys
from pathlib import Path

RANK = os.environ.get("RANK", "0")


def train() -> None:
    """The worker, spied upon."""
    import json
    from contextlib import nullcontext

    import torch

    from lib.bridge import worker
    from lib.bridge.pair import Encoded

    seen, batch = [], Encoded.batch

    def noted(self: Encoded, index: object) -> object:
        seen.append([self.items[i].question for i in index])
        return batch(self, index)

    Encoded.batch = noted
    torch.autocast = lambda *_: nullcontext()
    worker.main()
    (Path(sys.argv[2]) / f"seen-{RANK}.json").write_text(json.dumps(seen))


def fail() -> None:
    """The second says why it ends; the first would never end by itself."""
    from lib import console
    from lib.params import ParameterError

    def refuse() -> None:
        raise ParameterError("Nothing to be had.")

    if RANK == "1":
        console.run(refuse)
    wait()


def wait() -> None:
    """Say that it is there, watching as the worker does, and stay in silence."""
    from lib.bridge import processes

    processes.end_with_launcher()
    place = Path(sys.argv[1])
    (place / f"pid-{RANK}").write_text(str(os.getpid()))
    print("waiting", file=sys.stderr, flush=True)
    signal.pause()


def launch() -> None:
    """Two that wait."""
    from lib.bridge import processes

    processes.run("tests.bridge_process", ["wait", sys.argv[1]], 2, 1)


if __name__ == "__main__":
    {"train": train, "fail": fail, "wait": wait, "launch": launch}[sys.argv.pop(1)]()
