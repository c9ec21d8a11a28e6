"""What the installed vLLM says of itself: its version, its methods of speculation, its architectures for EAGLE heads.

    python -m lib.generators.speculative.vllm_says

prints one JSON object on its last line; `ask` runs that with the interpreter that has vLLM.
"""

import json
import subprocess
from typing import Any, get_args

from lib import paths
from lib.generators.speculative.vllm_process import interpreter
from lib.models.registry import ModelError


def ask() -> dict[str, Any]:
    """`version`, `methods` and `architectures` of the vLLM here or in .venv-vllm; ModelError where there is none."""
    command = [interpreter(), "-m", "lib.generators.speculative.vllm_says"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise ModelError(f"vLLM does not start ({last[0]}): build it again with 'make vllm'.")
    return json.loads(done.stdout.splitlines()[-1])


def facts() -> dict[str, Any]:
    """What `ask` returns, found out in this process, which must have vLLM."""
    import vllm
    from vllm.config.speculative import SpeculativeMethod
    from vllm.model_executor.models.registry import ModelRegistry

    return {
        "version": vllm.__version__,
        "methods": sorted(get_args(SpeculativeMethod)),
        "architectures": sorted(name for name in ModelRegistry.get_supported_archs() if "eagle" in name.lower()),
    }


if __name__ == "__main__":
    print(json.dumps(facts()))
