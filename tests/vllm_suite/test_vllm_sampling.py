"""Sampling on the real vLLM engine: lossless where it is corrected, and caught where it is not.

vLLM's CPU build samples wrongly with drafts: https://github.com/vllm-project/vllm/issues/55005
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from arms import tokens, vllm_arm
from transformers import PreTrainedModel

from lib.generators.sampling import probabilities
from lib.generators.speculative import vllm_process
from lib.generators.speculative.common import Decoding
from lib.generators.speculative.vllm_backend import VllmArm
from lib.metrics import lossless

SAMPLED = Decoding(max_new_tokens=48, temperature=0.8, top_k=40)
UNCORRECTED = """
import runpy
from lib.generators.speculative import vllm_correction
vllm_correction.is_faulty = lambda expand: False
runpy.run_module("lib.generators.speculative.vllm_worker", run_name="__main__")
"""


class TestSampling:
    SEEDS = range(48)

    def audit(
        self, arm: VllmArm, target: PreTrainedModel, prompts: list[list[int]], decoding: Decoding
    ) -> lossless.Audit:
        """Of 48 answers, four to each prompt."""
        asked = [prompts[seed % len(prompts)] for seed in self.SEEDS]
        with arm:
            answers = tokens(arm.run(asked, list(self.SEEDS)))
        laws = [self.law(target, prompt, answer, decoding) for prompt, answer in zip(asked, answers, strict=True)]
        emitted = np.concatenate(answers)
        return lossless.audit(*lossless.surprise(np.concatenate(laws), emitted))

    @staticmethod
    def law(target: PreTrainedModel, prompt: list[int], answer: list[int], decoding: Decoding) -> np.ndarray:
        """Log-probabilities [answer, vocabulary] under the target, temperature and filters applied."""
        with torch.inference_mode():
            logits = target(torch.tensor([prompt + answer])).logits[:, len(prompt) - 1 : -1]
        return probabilities(logits, decoding)[0].log().numpy()

    @pytest.mark.parametrize(
        ("method", "how"),
        [("baseline", "greedy"), ("ngram", "greedy"), ("eagle", "greedy"), ("draft", "probabilistic")],
    )
    def test_the_corrected_engine_passes_the_audit(self, method, how, micro_path, target, prompts, drafters, log):
        arm = vllm_arm(method, micro_path, drafters, log, SAMPLED, draft_sample_method=how)
        audit = self.audit(arm, target, prompts, SAMPLED)
        assert audit.passed, audit
        assert audit.detectable < 0.25  # nats per token: what the fault costs is ten times that
        assert bool(arm.facts["sampling_corrected"]) == (method != "baseline" and arm.facts["platform"] == "cpu")

    def test_the_audit_catches_the_uncorrected_engine(self, micro_path, target, prompts, drafters, log, monkeypatch):
        monkeypatch.setattr(vllm_process, "WORKER", ("-c", UNCORRECTED))
        law = replace(SAMPLED, top_k=0)  # a lost top-k may be out of range, and that would be an error
        arm = vllm_arm("ngram", micro_path, drafters, log, law)
        audit = self.audit(arm, target, prompts, law)
        assert arm.facts["sampling_corrected"] is None
        assert not audit.passed, audit

    @pytest.mark.parametrize(("method", "how"), [("ngram", "greedy"), ("draft", "probabilistic")])
    def test_the_first_tokens_follow_the_exact_law(self, method, how, micro_path, target, prompts, drafters, log):
        law = Decoding(max_new_tokens=3, temperature=1.2, top_k=3)
        prompt, draws = prompts[0] * 2, 1280  # twice, so that n-grams are found
        arm = vllm_arm(method, micro_path, drafters, log, law, draft_sample_method=how, prompt_lookup_min=1)
        with arm:
            batches = [arm.run([prompt] * 64, list(range(start, start + 64))) for start in range(0, draws, 64)]
        answers = [response for batch in batches for response in batch]
        assert sum(sum(response.accepted) for response in answers) > draws / 10, "no draft was at stake"

        def following(prefix: tuple[int, ...]) -> list[float]:
            with torch.inference_mode():
                logits = target(torch.tensor([[*prompt, *prefix]])).logits[:, -1:].double()
            return probabilities(logits, law)[0, 0].tolist()

        p = lossless.goodness_of_prefixes(tokens(answers), lossless.prefix_law(following, 3))
        assert p > 1e-4

    def test_seeds_repeat_a_run(self, micro_path, prompts, drafters, log):
        with vllm_arm("eagle", micro_path, drafters, log, SAMPLED) as arm:
            first, again, other = (tokens(arm.run(prompts[:2], seeds)) for seeds in ([1, 2], [1, 2], [3, 4]))
        assert first == again != other
