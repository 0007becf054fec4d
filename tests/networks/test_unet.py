"""The paper's U-Net: its size, its grids, its shared weights, and its convolution's two paths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from fdseg.errors import FdsegError
from fdseg.networks import ResidualUNet, SegmentationNetwork
from fdseg.networks.conv import Conv3x3x3
from fdseg.networks.unet import NormAct, ResidualLevel

few = settings(max_examples=15)


def count(network):
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("fusion", ["none", "early", "late"])
def test_the_papers_network_has_about_0_21_million_parameters(fusion):
    network = SegmentationNetwork(ResidualUNet(), features=8, structures=1, fusion=fusion)
    assert count(network) / 1e6 == pytest.approx(0.21, abs=0.005)


def test_a_fusion_adds_one_stem_and_nothing_else():
    none, early, late = (
        count(SegmentationNetwork(ResidualUNet(), features=8, structures=1, fusion=fusion))
        for fusion in ("none", "early", "late")
    )
    assert early == late == none + 8 * 3**3


def test_no_convolution_has_a_bias():
    network = SegmentationNetwork(ResidualUNet(), features=8, structures=2, fusion="late")
    assert [name for name, _ in network.named_parameters() if not name.endswith("weight")] == []


def test_widths_double_per_level():
    assert [level.conv.in_channels for level in ResidualUNet().levels] == [8, 16, 32]
    assert [level.conv.in_channels for level in ResidualUNet(4, levels=4).levels] == [4, 8, 16, 32]


@few
@given(st.tuples(st.integers(5, 14), st.integers(1, 14), st.integers(1, 9)), st.integers(1, 2))
def test_a_grid_of_any_size_keeps_its_shape(size, batch):
    x = torch.randn(batch, 2, *size)
    assert ResidualUNet(features=2)(x).shape == x.shape


@pytest.mark.parametrize("levels", [1, 2, 4])
def test_any_number_of_levels_keeps_the_shape(levels):
    x = torch.randn(1, 2, 17, 18, 19)
    assert ResidualUNet(features=2, levels=levels)(x).shape == x.shape


@pytest.mark.parametrize("levels", [0, 17, 10**6, 2.0, True])
def test_levels_that_cannot_be_are_refused(levels):
    with pytest.raises(FdsegError, match=f"^levels={levels}: expected a whole number from 1 to 16"):
        ResidualUNet(levels=levels)


def test_each_level_applies_its_one_convolution_twice():
    level = ResidualLevel(4, dropout=0.6).double().eval()
    ((_, weight),) = level.named_parameters()
    x = torch.randn(2, 4, 5, 6, 7, dtype=torch.float64)

    def act(y):
        mean, var = y.mean((2, 3, 4), keepdim=True), y.var((2, 3, 4), correction=0, keepdim=True)
        y = (y - mean) / (var + 1e-5).sqrt()
        return torch.where(y > 0, y, 0.01 * y)

    y = F.conv3d(act(x), weight, padding=1)
    y = act(x + F.conv3d(act(y), weight, padding=1))
    torch.testing.assert_close(level(x), y, rtol=0, atol=1e-10)


def test_gradients_are_those_of_finite_differences():
    network = ResidualUNet(features=2, levels=2, dropout=0).double()
    x = torch.randn(1, 2, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(network, x, fast_mode=True)


def test_the_activation_leaves_its_input_alone():
    x = torch.randn(1, 2, 4, 4, 4)
    kept = x.clone()
    assert not torch.equal(NormAct()(x), x)
    assert torch.equal(x, kept)


def test_whole_channels_are_dropped_in_training_only():
    network = ResidualUNet(features=4)
    x = torch.randn(1, 4, 8, 8, 8)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))
    dropouts = [m for m in network.modules() if isinstance(m, nn.Dropout3d)]
    assert [m.p for m in dropouts] == [0.6] * 3


def same_as_plain(conv, x):
    """Compare result and gradients with one plain convolution."""
    x = x.detach().requires_grad_()
    got = conv(x)
    expected = F.conv3d(x, conv.weight, stride=conv.stride, padding=1)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-10)
    towards = torch.randn_like(expected)
    for a, b in zip(
        torch.autograd.grad(got, (x, conv.weight), towards),
        torch.autograd.grad(expected, (x, conv.weight), towards),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)


@few
@given(
    st.integers(1, 2),
    st.sampled_from([1, 7, 8, 11]),
    st.tuples(st.integers(1, 10), st.integers(1, 8), st.integers(1, 6)),
    st.sampled_from([1, 2]),
)
def test_the_convolution_equals_a_plain_one_forward_and_backward(batch, channels, size, stride):
    conv = Conv3x3x3(channels, 3, stride).double()
    same_as_plain(conv, torch.randn(batch, channels, *size, dtype=torch.float64))


@pytest.mark.parametrize(
    ("batch", "channels", "size", "halves"),
    [
        (1, 8, (2, 4, 3), True),
        (1, 8, (40, 64, 2), True),  # exactly 20480 values of c·X·Y
        (1, 8, (40, 65, 2), False),
        (1, 16, (40, 32, 2), True),
        (1, 16, (40, 33, 2), False),
        (1, 8, (41, 40, 2), False),
        (1, 7, (40, 40, 2), False),
        (2, 8, (40, 40, 2), False),
    ],
)
def test_one_small_volume_goes_through_in_halves_with_the_same_result(
    monkeypatch, batch, channels, size, halves
):
    conv = Conv3x3x3(channels, 2).double()
    x = torch.randn(batch, channels, *size, dtype=torch.float64)
    same_as_plain(conv, x)

    batches = []
    plain = F.conv3d

    def spy(x, *args, **kwargs):
        batches.append(len(x))
        return plain(x, *args, **kwargs)

    monkeypatch.setattr(F, "conv3d", spy)
    conv(x)
    assert batches == [2 if halves else batch]


def test_the_convolution_keeps_channels_last():
    x = torch.randn(1, 8, 6, 5, 4).to(memory_format=torch.channels_last_3d)
    conv = Conv3x3x3(8, 8).to(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(conv(x), F.conv3d(x, conv.weight, padding=1), rtol=0, atol=1e-5)
    assert conv(x).is_contiguous(memory_format=torch.channels_last_3d)
