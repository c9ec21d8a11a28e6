"""Our side of a vLLM worker, which needs no vLLM: the protocol, the processes, the reasons, the corrected sampler.

A made-up engine stands in for the real one; the worker's process, its protocol and its end are the real ones.
"""

import os
import select
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from lib import paths
from lib.generators.speculative import vllm_correction, vllm_process, vllm_worker
from lib.generators.speculative.common import Decoding, Response, Speculation
from lib.generators.speculative.vllm_backend import Engine, VllmArm
from lib.models.registry import ModelError

FAKE = """
import os, subprocess, sys, time, types
from lib.generators.speculative import vllm_worker

class Engine:
    def __init__(self, options):
        print("the engine prints", flush=True)
        self.options = options
        if options["model"].endswith("impossible"):
            raise ValueError("Too large. Much too large.") from MemoryError("no room for 5 GiB. Try less")
    def facts(self):
        return {"options": self.options, "max_model_len": 100}
    def answer(self, prompts, seeds):
        if seeds[0] == 13:
            raise RuntimeError("thirteen")
        if seeds[0] == 99:
            seeds = [subprocess.Popen(["sleep", "600"]).pid]
        if seeds[0] == 66:
            open(os.path.join(self.options["model"], "busy"), "w").close()
            time.sleep(600)
        times = {"wall_s": 3.0, "prefill_s": 1.0, "decode_s": 2.0}
        return [{"tokens": [*p, s], "drafted": [s], "accepted": [0], **times} for p, s in zip(prompts, seeds)]
    def close(self):
        print("the engine closes", flush=True)

module = types.ModuleType("lib.generators.speculative.vllm_engine")
module.Engine = Engine
sys.modules[module.__name__] = module
vllm_worker.GRACE = 1.0
vllm_worker.serve(int(sys.argv[1]), sys.argv[2])
"""


class TestCorrection:
    def test_it_is_what_the_sampler_asks_for(self):
        values, counts = torch.tensor([0.0, 0.5, 0.8]), torch.tensor([2, 2, 5], dtype=torch.int32)
        assert vllm_correction.expand(values, counts, 5, 0, 1).tolist() == pytest.approx([1, 1, 0.8, 0.8, 0.8])
        assert vllm_correction.expand(torch.tensor([7, 9]), torch.tensor([0, 1]), 1).tolist() == [9]

    def test_the_fault_is_told_from_a_sound_function(self):
        def lost(x, counts, n, *_):
            return x.new_empty(n).fill_(0.25 if x.is_floating_point() else 3)  # what may lie in memory

        def truncated(x, counts, n, *_):
            return vllm_correction.expand(x.long(), counts, n).to(x.dtype)

        assert not vllm_correction.is_faulty(vllm_correction.expand)
        assert vllm_correction.is_faulty(lost)
        assert vllm_correction.is_faulty(truncated)

    @pytest.mark.parametrize("faulty", [True, False])
    def test_only_a_faulty_sampler_is_touched(self, faulty, monkeypatch):
        def sound(*args):
            return vllm_correction.expand(*args)

        def broken(x, counts, n, *_):
            return torch.zeros(n, dtype=x.dtype)

        def filtered(logits, k, p):
            return logits + k.max() if faulty else logits + 3  # the maximum of nothing is an error

        before = {"expand_batch_to_tokens": broken if faulty else sound, "apply_top_k_top_p": filtered}
        sampler = SimpleNamespace(**before)
        for name in ("vllm", "vllm.v1", "vllm.v1.sample"):
            monkeypatch.setitem(sys.modules, name, SimpleNamespace(rejection_sampler=sampler))
        assert vllm_correction.correct() == faulty
        assert (vars(sampler) == before) == (not faulty)
        assert sampler.expand_batch_to_tokens is (vllm_correction.expand if faulty else sound)
        assert sampler.apply_top_k_top_p(torch.ones(2), torch.tensor([1, 3]), None).tolist() == [4, 4]
        if faulty:
            assert sampler.apply_top_k_top_p(torch.ones(0), torch.ones(0), None).shape == (0,)


class TestReasons:
    def test_the_first_cause_and_its_first_sentence(self):
        try:
            try:
                raise ValueError("\n  not enough room.  Try less\nmore")
            except ValueError as cause:
                raise RuntimeError("Engine core initialization failed. See above.") from cause
        except RuntimeError as error:
            assert vllm_worker.reason(error) == "not enough room"

    def test_what_a_validator_said(self):
        error = ValueError("1 validation error for Config\n  Value error, ...")
        error.errors = lambda: [{"msg": "Value error, Architectures ['X'] are not supported for now. Supported: ..."}]
        assert vllm_worker.reason(error) == "Architectures ['X'] are not supported for now"

    def test_an_error_without_words_has_a_name(self):
        assert vllm_worker.reason(AssertionError()) == "AssertionError"


class TestWorker:
    @pytest.fixture
    def arm(self, tmp_path, monkeypatch) -> VllmArm:
        """An arm whose engine echoes the prompts, each with its seed behind it."""
        monkeypatch.setattr(vllm_process, "WORKER", ("-c", FAKE))
        monkeypatch.setattr(vllm_process, "installed", lambda: True)
        return VllmArm(Engine(tmp_path, max_num_seqs=2), Speculation("ngram"), Decoding(10), tmp_path / "log.txt")

    def test_requests_come_back_in_order_and_output_goes_to_the_log(self, arm, tmp_path):
        (tmp_path / "log.txt").write_text("before\n")
        with arm:
            assert arm.run([[1, 2], [3]], [7, 8]) == [
                Response([1, 2, 7], [7], [0], 3.0, 1.0, 2.0),
                Response([3, 8], [8], [0], 3.0, 1.0, 2.0),
            ]
            options = arm.facts["options"]
            group = arm.pid
        assert options["speculative_config"]["prompt_lookup_min"] == 1
        assert options["decoding"]["max_new_tokens"] == 10
        log = (tmp_path / "log.txt").read_text()
        assert log.startswith("before\n")
        assert "the engine prints" in log
        assert "the engine closes" in log
        with pytest.raises(ProcessLookupError):
            os.killpg(group, 0)

    def test_what_does_not_fit_is_refused_here(self, arm):
        with arm:
            with pytest.raises(ModelError, match="max_num_seqs=3"):
                arm.run([[1]] * 3, [0] * 3)
            with pytest.raises(ModelError, match=r"take 101 tokens and the engine 100: raise max_model_len"):
                arm.run([[1] * 91], [0])
            assert arm.run([[1] * 90], [0])

    def test_an_error_in_the_engine_is_its_reason_in_one_sentence(self, arm, tmp_path):
        with (
            arm,
            pytest.raises(ModelError, match=rf"^vLLM refused: thirteen \(its output is in '{tmp_path}/log.txt'\)\.$"),
        ):
            arm.run([[1]], [13])
        assert "RuntimeError: thirteen" in (tmp_path / "log.txt").read_text()

    def test_an_engine_that_cannot_be_built_says_why(self, arm, tmp_path, monkeypatch):
        arm._options["model"] = "impossible"
        with pytest.raises(ModelError, match="no room for 5 GiB"):
            arm.__enter__()
        with pytest.raises(ProcessLookupError):
            os.killpg(arm.pid, 0)

    def test_a_killed_worker_is_a_sentence(self, arm):
        with arm:
            os.kill(arm.pid, signal.SIGKILL)
            with pytest.raises(ModelError, match="killed, most likely for lack of memory"):
                arm.run([[1]], [0])

    def test_an_interrupt_ends_a_busy_engine_and_its_children_at_once(self, arm, monkeypatch):
        def interrupted(*_):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt), arm:
            child = os.pidfd_open(arm.run([[]], [99])[0].tokens[0])
            worker = os.pidfd_open(arm.pid)
            wait = select.select
            monkeypatch.setattr(vllm_process.select, "select", interrupted)
            arm.run([[1]], [66])  # would take ten minutes
        for process in (worker, child):
            assert wait([process], [], [], 30)[0]

    def test_nothing_outlives_a_killed_parent(self, arm, tmp_path):
        (tmp_path / "worker.py").write_text(FAKE)
        os.mkfifo(tmp_path / "busy")
        code = f"""
import sys
from pathlib import Path
from lib.generators.speculative import vllm_process
from lib.generators.speculative.common import Decoding, Speculation
from lib.generators.speculative.vllm_backend import Engine, VllmArm
place = Path({str(tmp_path)!r})
vllm_process.installed = lambda: True
vllm_process.WORKER = ("-c", (place / "worker.py").read_text())
with VllmArm(Engine(place), Speculation("ngram"), Decoding(10), place / "log") as arm:
    print(arm.pid, flush=True)
    arm.run([[1]], [66])  # would take ten minutes
"""
        parent = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT, stdout=subprocess.PIPE, text=True)
        worker = os.pidfd_open(int(parent.stdout.readline()))
        (tmp_path / "busy").open().close()  # waits for the engine to open it too
        parent.kill()
        parent.communicate()
        assert select.select([worker], [], [], 60)[0]

    def test_without_vllm_the_sentence_says_what_to_type(self, tmp_path, monkeypatch):
        monkeypatch.setattr(vllm_process, "installed", lambda: False)
        monkeypatch.setattr(vllm_process, "INTERPRETER", tmp_path / "python")
        with pytest.raises(ModelError, match="'make vllm'"):
            vllm_process.interpreter()
        (tmp_path / "python").touch()
        assert vllm_process.interpreter() == tmp_path / "python"

    def test_a_folder_called_vllm_is_not_vllm(self, tmp_path, monkeypatch):
        (tmp_path / "vllm").mkdir()
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setattr(sys, "path", [str(tmp_path)])
        assert not vllm_process.installed()
