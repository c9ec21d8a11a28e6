"""The wire's quantiser beside torchao's, where that is installed (`pip install -e .[oracle]`, as .ci/run does)."""

import numpy as np
import pytest
import torch

from lib.models import wire
from lib.models.wire import BITS

primitives = pytest.importorskip("torchao.quantization.quant_primitives")


@pytest.mark.parametrize("shape", [(16, 64), (3, 32), (64, 4096)])
@pytest.mark.parametrize("codec", BITS)
def test_torchao_quantises_alike(codec, shape):
    """Its symmetric affine quantiser in blocks; its scale is not rounded up, so a code may differ where it is a tie."""
    array = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    q = 2 ** (BITS[codec] - 1) - 1
    scale, zero = primitives.choose_qparams_affine(
        array, primitives.MappingType.SYMMETRIC, (1, 32), torch.int8, -q, q, scale_dtype=torch.float32
    )
    codes = primitives.quantize_affine(array, (1, 32), scale, zero, torch.int8, -q, q)
    theirs = primitives.dequantize_affine(codes, (1, 32), scale, zero, torch.int8, -q, q).numpy()
    ours = wire.decode(wire.encode(array, codec))
    assert np.isclose(ours, theirs, rtol=2.0**-15, atol=1e-7).mean() >= 0.999
