"""The released code's split against its published description, written again in numpy."""

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fdseg.errors import FdsegError
from fdseg.frequency import BoxSplit, ReleasedSplit

THETAS = st.integers(10, 100).map(lambda percent: percent / 100)
SHAPES = st.tuples(
    st.integers(1, 2), st.integers(1, 2), st.integers(4, 14), st.integers(4, 14), st.integers(1, 6)
)
SEEDS = st.integers(0, 2**16)
few = settings(max_examples=40)
AXES = (2, 3, 4)


def box(size, theta):
    """The half-open box at the centre of the array; z is kept whole."""
    slices = [slice(None)] * 2
    for n, t in zip(size, (theta, theta, 1.0), strict=True):
        w = int(n * t)
        slices.append(slice(int(n / 2 - w / 2), int(n / 2 + w / 2)))
    return tuple(slices)


def released(x, theta):
    spectrum = np.fft.fftn(x, axes=AXES)
    inside = box(x.shape[2:], theta)
    crop = spectrum[inside]
    rest = spectrum.copy()
    rest[inside] = 0
    points = np.prod(crop.shape[2:]) / np.prod(x.shape[2:])
    return np.fft.ifftn(crop, axes=AXES).real * points, np.fft.ifftn(rest, axes=AXES).real


def released_fuse(high, low, theta):
    spectrum = np.fft.fftn(high, axes=AXES)
    points = np.prod(high.shape[2:]) / np.prod(low.shape[2:])
    spectrum[box(high.shape[2:], theta)] = np.fft.fftn(low, axes=AXES) * points
    return np.fft.ifftn(spectrum, axes=AXES).real


def has_a_box(shape, theta):
    return all(int(n * theta) for n in shape[2:4])


def phantom(size=(40, 40, 16)):
    """Three smooth blobs, each 12 or more voxels wide."""
    grid = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in size], indexing="ij")
    x = torch.zeros(size, dtype=torch.float64)
    for centre, width in (((14, 20, 8), 7.0), ((27, 15, 6), 5.0), ((24, 28, 10), 6.0)):
        square = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        x += torch.exp(-square / (2 * width**2))
    return x[None, None]


def energy_in_low(split, x):
    low, _ = split(x)
    return (low.square().mean() / x.square().mean()).item()


@few
@given(SHAPES, THETAS, SEEDS)
def test_split_does_what_the_description_says(shape, theta, seed):
    assume(has_a_box(shape, theta))
    x = np.random.default_rng(seed).normal(size=shape)
    for got, expected in zip(
        ReleasedSplit(theta)(torch.from_numpy(x)), released(x, theta), strict=True
    ):
        np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


@few
@given(SHAPES, THETAS, SEEDS)
def test_fuse_does_what_the_description_says(shape, theta, seed):
    assume(has_a_box(shape, theta))
    random = np.random.default_rng(seed)
    high, low = random.normal(size=shape), released(random.normal(size=shape), theta)[0]
    fused = ReleasedSplit(theta).fuse(torch.from_numpy(high), torch.from_numpy(low))
    np.testing.assert_allclose(fused.numpy(), released_fuse(high, low, theta), rtol=0, atol=1e-12)


def test_low_holds_next_to_nothing_of_a_smooth_volume_where_the_papers_holds_nearly_all():
    x = phantom()
    assert energy_in_low(ReleasedSplit(0.1), x) < 1e-4
    assert energy_in_low(BoxSplit(0.1), x) > 0.9


def test_high_keeps_the_mean_that_the_papers_high_loses():
    x = phantom()
    assert ReleasedSplit(0.1)(x)[1].mean().item() == pytest.approx(x.mean().item(), rel=1e-9)
    assert BoxSplit(0.1)(x)[1].mean().item() == pytest.approx(0, abs=1e-12)


def test_the_box_of_160_lines_is_16_by_16_with_all_of_z():
    low, high = ReleasedSplit(0.1)(torch.zeros(1, 1, 160, 160, 3))
    assert low.shape == (1, 1, 16, 16, 3)
    assert high.shape == (1, 1, 160, 160, 3)


def test_low_and_high_do_not_add_up_to_the_volume():
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 1, 20, 20, 4)))
    split = ReleasedSplit(0.2)
    low, high = split(x)
    assert (split.fuse(high, low) - x).abs().max() > 0.05


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing(dtype):
    x = phantom().to(dtype)
    split = ReleasedSplit(0.2)
    low, high = split(x)
    fused = split.fuse(high, low)
    with torch.autocast("cpu", torch.bfloat16):
        low_auto, high_auto = split(x)
        fused_auto = split.fuse(high, low)
    assert (low.dtype, high.dtype, fused.dtype) == (dtype, dtype, dtype)
    assert torch.equal(low_auto, low)
    assert torch.equal(high_auto, high)
    assert torch.equal(fused_auto, fused)


def test_bfloat16_is_rounded_once():
    x = phantom().bfloat16()
    for got, exact in zip(ReleasedSplit(0.2)(x), ReleasedSplit(0.2)(x.double()), strict=True):
        torch.testing.assert_close(got.double(), exact, rtol=2**-8, atol=1e-6)


def test_gradients_of_split_and_fuse_are_those_of_finite_differences():
    split = ReleasedSplit(0.5)
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 6, 5, 3))).requires_grad_()
    low = split(x)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(split, x)
    assert torch.autograd.gradcheck(split.fuse, (x, low))


@pytest.mark.parametrize("wrong", [0, 1.5, math.nan, True, None, [0.1, 0.1]], ids=str)
def test_a_theta_that_is_no_width_is_refused_by_name(wrong):
    with pytest.raises(FdsegError, match=r"^theta="):
        ReleasedSplit(wrong)


def test_a_box_without_a_frequency_is_refused_with_the_smallest_theta_that_has_one():
    with pytest.raises(FdsegError, match=r"theta=0\.1 selects none of the 8 .* along x.*0\.125"):
        ReleasedSplit(0.1, size=(8, 20, 4))
    low, _ = ReleasedSplit(0.125, size=(8, 20, 4))(torch.zeros(1, 1, 8, 20, 4))
    assert low.shape == (1, 1, 1, 2, 4)


def test_nothing_is_saved_with_a_checkpoint():
    assert ReleasedSplit(0.1, size=(20, 20, 4)).state_dict() == {}
