"""The arms that the suite compares: the same drafting on vLLM and on our own engine, float32, on ladder-micro."""

from collections.abc import Callable
from pathlib import Path

from transformers import AutoModelForCausalLM, PreTrainedModel

from lib.generators.speculative.baseline import Baseline
from lib.generators.speculative.common import Arm, Decoding, Response, Speculation
from lib.generators.speculative.decode import TorchArm
from lib.generators.speculative.draft import DraftModel
from lib.generators.speculative.eagle import Eagle
from lib.generators.speculative.ngram import Ngram
from lib.generators.speculative.vllm_backend import Engine, VllmArm
from lib.models import eagle_files

GREEDY = Decoding(max_new_tokens=48)
Drafters = Callable[[str], Path | None]
K = 4  # tokens drafted per step


def speculation(method: str, **changed) -> Speculation:
    return Speculation(
        method, **{"num_speculative_tokens": K, "prompt_lookup_max": 3, "prompt_lookup_min": 2} | changed
    )


def vllm_arm(method: str, micro_path: Path, drafters: Drafters, log: Path, law: Decoding = GREEDY, **how) -> VllmArm:
    engine = Engine(micro_path, max_num_seqs=64, enforce_eager=True)
    return VllmArm(engine, speculation(method, **how), law, log, drafters(method))


def torch_arm(method: str, target: PreTrainedModel, drafters: Drafters, law: Decoding = GREEDY) -> Arm:
    how = speculation(method)
    if method == "baseline":
        drafter = Baseline()
    elif method == "ngram":
        drafter = Ngram(how)
    elif method == "draft":
        drafter = DraftModel(AutoModelForCausalLM.from_pretrained(drafters("draft")).eval(), how, law)
    else:
        drafter = Eagle(eagle_files.load(drafters("eagle"), target), how, law)
    return TorchArm(target, drafter, law)


def steps(responses: list[Response]) -> list[tuple[list[int], list[int]]]:
    return [(response.drafted, response.accepted) for response in responses]


def tokens(responses: list[Response]) -> list[list[int]]:
    return [response.tokens for response in responses]
