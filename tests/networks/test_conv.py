"""Convolutions in bfloat16 against float32, for grids that some processors compute wrongly."""

import pytest
import torch
from torch.nn import functional as F

from fdseg.networks.conv import Conv3x3x3

GRIDS = [
    (1, 20, 24),
    (20, 1, 24),
    (20, 24, 1),
    (1, 1, 24),
    (1, 1, 1),
    (2, 20, 24),
    (20, 24, 2),
    (20, 24, 16),
]


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last_3d])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("channels", [1, 2, 8])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_bfloat16_is_float32_up_to_rounding_and_the_same_at_every_call(
    grid, channels, stride, layout
):
    torch.manual_seed(0)
    conv = Conv3x3x3(channels, 8, stride).to(memory_format=layout)
    x = torch.randn(1, channels, *grid)
    exact = F.conv3d(x, conv.weight, stride=stride, padding=1)
    with torch.autocast("cpu", torch.bfloat16):
        calls = [conv(x) for _ in range(4)]
    gradient = torch.autograd.grad(calls[0].float().square().sum(), conv.weight)[0]
    right = torch.autograd.grad(exact.square().sum(), conv.weight)[0]
    assert (calls[0].float() - exact).norm() < 0.01 * exact.norm()
    assert (gradient - right).norm() < 0.02 * right.norm()
    assert all(torch.equal(call, calls[0]) for call in calls)
