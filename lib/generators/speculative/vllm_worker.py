"""One vLLM engine in a process of its own, asked and answered line by line.

    python -m lib.generators.speculative.vllm_worker FD MODULE

MODULE has the class `Engine`: built from options, with `facts()`, `answer(...)` and `close()`. The first line on stdin
are its options; each further line holds the arguments of an `answer`. Answers are JSON lines on file descriptor FD, so
that stdout and stderr, to which vLLM prints, can go to a log. The end of stdin is the end of the worker, also when it
comes because the parent died: a worker that is still busy some seconds later kills its whole process group, so that
neither it nor the engine's own processes outlive the run.

The scheduler runs inside this process (tensor-parallel workers do not). That starts five times faster, lets the
sampler's fault be corrected, and lets steps be counted as they happen: vLLM counts no step that had no draft.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from importlib import import_module
from typing import Any, TextIO

GRACE = 10.0  # seconds that a busy worker has to end by itself
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the scheduler in this process
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}
CPU_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # vLLM would leave a core idle and pin the threads to the others
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; unset, vLLM would take gpu_memory_utilization of the machine's memory
}


def main(answers: TextIO, module: str) -> None:
    """Serve an engine of `module` until stdin ends; an error is an answer too, and ends the worker."""
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=listen, args=(lines,), daemon=True).start()
    try:
        if (first := lines.get()) is None:
            return
        options = json.loads(first)
        prepare(options)
        engine = import_module(module).Engine(options)  # not sooner: vLLM reads the environment at import
        tell(answers, engine.facts())
        while (line := lines.get()) is not None:
            tell(answers, {"responses": engine.answer(**json.loads(line))})
        engine.close()
    except Exception as error:
        traceback.print_exc()
        tell(answers, {"error": reason(error)})


def listen(lines: "queue.Queue[str | None]") -> None:
    """Pass on the lines of stdin; after its end and some patience, end everything that this worker started."""
    for line in sys.stdin:
        lines.put(line)
    lines.put(None)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


def prepare(options: dict[str, Any]) -> None:
    """Set what vLLM and OpenMP read from the environment at import; what the user set stays, threads aside."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    if all(os.path.isdir(place) for place in (options["model"], options.get("drafter")) if place):
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing to fetch
    os.environ["OMP_NUM_THREADS"] = str(options["threads"])
    import torch

    if not torch.cuda.is_available():
        os.environ["NUMBA_NUM_THREADS"] = str(options["threads"])  # or n-gram lookups wait for busy cores
        for name, value in CPU_ENVIRONMENT.items():
            os.environ.setdefault(name, value)


def tell(answers: TextIO, answer: dict[str, Any]) -> None:
    """Write one answer."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def reason(error: BaseException) -> str:
    """The first sentence of what went wrong first: a chain of exceptions begins with its cause."""
    while error.__cause__ is not None:
        error = error.__cause__
    if callable(errors := getattr(error, "errors", None)):  # pydantic: what one validator said, without its frame
        return first_sentence(errors()[0]["msg"].removeprefix("Value error, "))
    return first_sentence(str(error)) or type(error).__name__


def first_sentence(text: str) -> str:
    """`text` up to the first full stop that ends a sentence, on one line, without the stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line.split(". ")[0].rstrip(".")


def serve(descriptor: int, module: str) -> None:
    """`main` on a file descriptor that was handed down."""
    os.set_inheritable(descriptor, False)  # the engine's processes must not hold it open
    with os.fdopen(descriptor, "w", encoding="utf-8") as answers:
        main(answers, module)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
