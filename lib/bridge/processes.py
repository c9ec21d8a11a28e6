"""Runs a module in several processes at once, which end with this one, whatever ends it.

All of them inherit a pipe as stdin into which nothing is ever written: its end is the end of this process, also where
that was killed. Each calls `end_with_launcher` first of all; one that works or waits in silence would notice nothing.
By torchrun and not by `accelerate launch`, which starts a single process when it is told --cpu (1.15) and reads the
user's own configuration. `--standalone` lets each launch find a free port, so that two at once do not meet.
"""

import os
import re
import select
import subprocess
import sys
import threading
from collections.abc import Sequence

from lib import paths

TAIL = 20_000  # characters of what the processes say, in which the reason is looked for when one fails
POLL = 1.0  # seconds between a process's looks at whether torchrun, which started it, is there
REASON = re.compile(r"^(?:[\w.]*Error): (.+)", re.MULTILINE)


def run(module: str, arguments: Sequence[str], count: int, threads: int) -> None:
    """`python -m module arguments`, `count` times with `threads` threads each; what they print goes to stderr.

    RuntimeError, with the first error that they told of, where one of them fails; the others are ended then.
    """
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    env = os.environ | {"OMP_NUM_THREADS": str(threads)}
    said = ""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    with subprocess.Popen([*command, "-m", module, *arguments], **pipes, cwd=paths.ROOT, env=env) as launched:
        try:
            for part in iter(lambda: launched.stdout.read1(4096), b""):
                text = part.decode(errors="replace")
                sys.stderr.write(text)
                said = (said + text)[-TAIL:]
        finally:
            launched.terminate()  # torchrun passes it on; nothing happens to one that has ended
    if launched.returncode:
        first = REASON.search(said)
        reason = f" ({first.group(1).rstrip('.')})" if first else ""
        raise RuntimeError(f"One of {count} processes of {module} failed{reason}: what they said stands above.")


def end_with_launcher() -> None:
    """From now on, end this process of several, whatever it does, once torchrun or the process of `run` is gone."""
    torchrun = os.getppid()

    def watch() -> None:
        while not select.select([sys.stdin], [], [], POLL)[0] and os.getppid() == torchrun:
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
