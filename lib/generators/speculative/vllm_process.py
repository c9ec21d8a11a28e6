"""The parent's end of a vLLM worker: a process that answers one JSON line with another, and that never stays behind."""

import importlib.util
import json
import os
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from lib import paths
from lib.models.registry import ModelError

INTERPRETER = paths.ROOT / ".venv-vllm" / "bin" / "python"  # what `make vllm` builds
WORKER = ("-m", "lib.generators.speculative.vllm_worker")  # the file descriptor for its answers, and an engine's module
ENGINE = "lib.generators.speculative.vllm_engine"
POLL = 1.0  # seconds between looks at whether the worker still lives
PATIENCE = 30.0  # seconds for an idle engine to end by itself


def installed() -> bool:
    """Whether this interpreter has vLLM; a mere folder of that name on the path has no origin."""
    spec = importlib.util.find_spec("vllm")
    return spec is not None and spec.origin is not None


def interpreter() -> Path:
    """The Python that has vLLM: this one, or that of `.venv-vllm`; ModelError where neither has it."""
    if installed():
        return Path(sys.executable)
    if INTERPRETER.exists():
        return INTERPRETER
    raise ModelError("vLLM is installed neither here nor in .venv-vllm: build that with 'make vllm'.")


class Worker:
    """A running worker, in a session of its own so that all it starts can be ended with it.

    Args:
        python: the interpreter that has vLLM.
        log: file that everything the engine prints is appended to.
        engine: the module whose `Engine` the worker holds.
    """

    def __init__(self, python: Path, log: Path, engine: str = ENGINE) -> None:
        self._log = log
        readable, writable = os.pipe()
        with log.open("ab") as sink:
            self._process = subprocess.Popen(
                [python, *WORKER, str(writable), engine],
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                cwd=paths.ROOT,  # so that `-m lib` is this checkout's
                pass_fds=(writable,),
                start_new_session=True,  # and a terminal's Ctrl-C reaches the parent alone
            )
        os.close(writable)
        self._answers = os.fdopen(readable, encoding="utf-8")

    @property
    def pid(self) -> int:
        """Process id, and the id of its process group."""
        return self._process.pid

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Send a line and wait for the answer; ModelError with the engine's own reason where that is an error."""
        with suppress(BrokenPipeError):  # it is dead, and what it said before tells why
            self._process.stdin.write(json.dumps(question).encode() + b"\n")
            self._process.stdin.flush()
        answer = json.loads(self._line() or json.dumps({"error": self._death()}))
        if "error" in answer:
            raise ModelError(f"vLLM refused: {answer['error']} (its output is in '{self._log}').")
        return answer

    def _line(self) -> str:
        """The next line of the worker, "" once it has ended without one."""
        while not select.select([self._answers], [], [], POLL)[0]:
            if self._process.poll() is not None and not select.select([self._answers], [], [], 0)[0]:
                return ""  # dead, though a process it started may still hold the pipe open
        return self._answers.readline()

    def _death(self) -> str:
        code = self._process.wait()
        if code == -signal.SIGKILL:
            return "its process was killed, most likely for lack of memory"
        return f"its process ended with exit code {code}"

    def close(self) -> None:
        """Let the worker end by itself, and make sure of it."""
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """End the worker and all that it started, now."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._answers.close()
