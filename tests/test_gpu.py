"""What only a CUDA device can show: the same samples and answers there, and from recorded graphs or compiled blocks."""

import json
import os
import subprocess
import sys

import bridge_toys
import checkout
import numpy as np
import pytest
import torch

from lib import generators
from lib.data import mazes
from lib.generators.common import SamplingParams
from lib.generators.speculative.common import Decoding
from lib.generators.speculative.decode import TorchArm
from lib.metrics.messages import early_stop
from lib.models import bridge_losses, bridge_training, maze, maze_training, wire
from lib.models.maze_sizes import ARCHS, Size
from lib.models.maze_training import Batch, Recipe
from tests.toys import drafter, prompt, tiny_model

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
PARAMS = SamplingParams(num_samples=12, max_new_tokens=9, stop_ids=(3, 5), prompts_together=2)


def run(name, **changes):
    m, prompts = tiny_model().cuda(), [prompt(11, seed=s).cuda() for s in range(4)]
    return generators.get(name)(m, prompts, SamplingParams(**(vars(PARAMS) | changes)), range(4))


def tokens(outputs):
    return [[sample.tokens for sample in output.samples] for output in outputs]


@pytest.mark.parametrize("name", ["batched", "bifurcated", "tree_multinomial"])
def test_independent_counts_draw_naives_tokens(name):
    assert tokens(run(name)) == tokens(run("naive"))


@pytest.mark.parametrize("name", ["tree", "tree_multinomial", "arithmetic"])
def test_cuda_graphs_draw_what_separate_kernels_draw(name):
    assert tokens(run(name, compile=True)) == tokens(run(name))


def test_memory_is_the_allocators():
    assert run("tree")[0].cost.peak_memory_bytes > 0


class TestMazes:
    """3a's models: the same answers as on a CPU, trained in bfloat16, with blocks compiled or not."""

    SIZE = Size(d_model=32, n_heads=4, d_ff=64, depth=2)

    @staticmethod
    def batch(data: mazes.Mazes, device: str) -> Batch:
        return Batch.of(data.open, data.goal, data.next_steps, device)

    @pytest.mark.parametrize("arch", ARCHS)
    def test_answers_are_the_cpus(self, arch):
        data = mazes.make(6, 8, seed=0)
        model = maze.build(arch, self.SIZE, 2, 2, seed=0)
        torch.nn.init.normal_(model.blocks[0].out, std=0.1)
        there, here = self.batch(data, "cuda"), self.batch(data, "cpu")
        with torch.no_grad():
            wanted = model(here.walls, here.goal)
            found = model.cuda()(there.walls, there.goal).cpu()
        torch.testing.assert_close(found, wanted, atol=1e-3, rtol=1e-3)

    @pytest.mark.parametrize("compiled", [False, True])
    def test_training_lowers_the_loss(self, compiled):
        data = mazes.make(5, 512, seed=0)
        model = maze.build("poh", self.SIZE, 2, 2, seed=0).cuda()
        for block in model.blocks if compiled else ():
            block.compile()
        rows = []
        maze_training.train(model, data, Recipe(4, 32, 0.02), lambda _: {}, rows.append)
        assert rows[-1]["loss"] < 0.6 * rows[0]["loss"]


class TestSpeculation:
    """2a's loop: drafting, verification and a ragged cache on the device leave the target's own greedy tokens."""

    DECODING = Decoding(max_new_tokens=24)

    @pytest.mark.parametrize("method", ["ngram", "draft", "eagle", "hybrid", "tree2"])
    def test_greedy_tokens_are_the_baselines(self, method):
        model = tiny_model(vocab=8).cuda()
        prompts = [prompt(length, 8, seed=length).tolist() for length in (9, 1, 17)]
        together = [prompts] if method != "tree2" else [[prompt] for prompt in prompts]  # trees: one request at a time

        def answers(name):
            arm = TorchArm(model, drafter(name, model, self.DECODING), self.DECODING)
            return [response for batch in together for response in arm.run(batch, [0] * len(batch))]

        found = answers(method)
        assert [r.tokens for r in found] == [r.tokens for r in answers("baseline")]
        assert sum(sum(r.drafted) for r in found) > 0


class TestBridge:
    """4a's training and reading, and 4b's frames, where the states and the messages lie on the device."""

    @pytest.fixture(scope="class")
    def world(self, tmp_path_factory):
        with bridge_toys.world(tmp_path_factory.mktemp("toys"), device="cuda") as made:
            yield made

    def test_training_lowers_the_loss(self, world):
        bridge, rows = world.bridge().cuda(), []
        recipe = bridge_losses.Recipe(steps=40, batch_size=8, learning_rate=0.05, warmup=2, evaluations=4)
        bridge_training.train(
            bridge,
            world.pair.reader,
            world.encoded("train", 24),
            recipe,
            bridge_losses.message,
            lambda judged: {"val_accuracy": 0.0},
            lambda accuracies: early_stop(accuracies, 9),
            rows.append,
        )
        assert rows[-1]["loss_answer"] < rows[1]["loss_answer"] - 0.3

    @pytest.mark.parametrize("codec", wire.CODECS)
    def test_a_frame_of_a_tensor_on_the_device_is_the_cpus(self, codec):
        message = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
        frame = wire.encode(message.cuda(), codec)
        assert frame == wire.encode(message, codec)
        assert wire.encode(message.cuda().bfloat16(), codec) == wire.encode(message.bfloat16(), codec)
        np.testing.assert_array_equal(wire.decode(frame), wire.decode(wire.encode(message.numpy(), codec)))


def test_two_cells_share_one_device_by_fractions(tmp_path):
    """Both under way at once (each waits for the other), both on the device that Ray gave them."""
    root = checkout.make(tmp_path / "repository")
    presets = root / "params" / "1a3_scaling.yaml"
    presets.write_text(
        presets.read_text() + "  halves: {exclusive: false, gpus: 0.5, grid: {model: [ladder-60k, ladder-1m]}}\n"
    )
    os.mkfifo(tmp_path / "channel")
    command = [sys.executable, "-m", "lib.sweep", "1a3_scaling", "--preset", "halves", "--ray", "local"]
    environment = checkout.environment(root, CHANNEL=str(tmp_path / "channel"))
    done = subprocess.run(
        [*command, "--set", "seed=15"], cwd=root, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    rows = [json.loads(path.read_text()) for path in root.glob("runs/1a3_scaling/*/measurements.jsonl")]
    assert len(rows) == 2 and len({row["devices"] for row in rows}) == 1 and rows[0]["devices"]
