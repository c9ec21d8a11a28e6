"""What only a CUDA device can show: the same samples and answers there, and from recorded graphs or compiled blocks."""

import pytest
import torch

from lib import generators
from lib.data import mazes
from lib.generators.common import SamplingParams
from lib.models import maze, maze_training
from lib.models.maze_sizes import ARCHS, Size
from lib.models.maze_training import Batch, Recipe
from tests.toys import prompt, tiny_model

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
