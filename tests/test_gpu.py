"""What only a CUDA device can show: the same samples there, one at a time, together, and from recorded graphs."""

import pytest
import torch

from lib import generators
from lib.generators.common import SamplingParams
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
