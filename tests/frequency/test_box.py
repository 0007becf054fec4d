"""The box split against a Fourier transform, on volumes of any size."""

import copy
import math
from fractions import Fraction

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fdseg.errors import FdsegError
from fdseg.frequency import BoxSplit

THETA = st.integers(1, 100).map(lambda percent: percent / 100)
THETAS = st.one_of(THETA, st.tuples(THETA, THETA, THETA))
GRIDS = st.tuples(st.integers(1, 17), st.integers(1, 17), st.integers(1, 9))
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), GRIDS).map(lambda s: (*s[:2], *s[2]))
SEEDS = st.integers(0, 2**16)

narrow_bands = pytest.mark.filterwarnings("ignore:theta=:UserWarning")
few = settings(max_examples=50)


def volume(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def per_axis(theta):
    return theta if isinstance(theta, tuple) else (theta, theta, 1.0)


def cutoffs(size, theta):
    return [
        math.floor(Fraction(str(t)) * n / 2) for n, t in zip(size, per_axis(theta), strict=True)
    ]


def frequencies(n):
    return torch.fft.fftfreq(n, 1 / n, dtype=torch.float64).round().long()


def mask(size, theta):
    inside = [frequencies(n).abs() <= k for n, k in zip(size, cutoffs(size, theta), strict=True)]
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def spectrum(x):
    return torch.fft.fftn(x, dim=(2, 3, 4))


def masked(x, theta):
    """The low band of ``x`` on the full grid."""
    y = torch.fft.ifftn(spectrum(x) * mask(x.shape[2:], theta), dim=(2, 3, 4))
    assert y.imag.abs().max() < 1e-10
    return y.real


def waves(size):
    """A grid and a frequency that it can hold."""
    return st.tuples(st.just(size), st.tuples(*[st.integers(0, n // 2) for n in size]))


def cropped(x, theta):
    """The low band of ``x`` on the small grid."""
    y = spectrum(x)
    for axis, k in enumerate(cutoffs(x.shape[2:], theta), start=2):
        n = x.shape[axis]
        kept = (frequencies(n).abs() <= k).nonzero()[:, 0]
        y = y.index_select(axis, kept) * (len(kept) / n)
    return torch.fft.ifftn(y, dim=(2, 3, 4)).real


def up(split, low, size):
    """The low band interpolated: fused into nothing."""
    return split.fuse(low.new_zeros(*low.shape[:2], *size), low)


def close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
@example((1, 1, 20, 20, 3), 0.3, 0)
@example((1, 2, 12, 13, 4), 1.0, 0)
@example((2, 1, 13, 12, 5), (0.5, 1.0, 0.5), 0)
def test_low_and_high_equal_the_masked_fourier_transform(shape, theta, seed):
    x = volume(shape, seed)
    low, high = BoxSplit(theta)(x)
    close(low, cropped(x, theta))
    close(high, x - masked(x, theta))


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_low_interpolated_and_high_add_up_to_the_volume(shape, theta, seed):
    x = volume(shape, seed)
    split = BoxSplit(theta)
    low, high = split(x)
    close(up(split, low, shape[2:]) + high, x)


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_fusing_what_was_split_gives_the_volume_back(shape, theta, seed):
    x = volume(shape, seed)
    split = BoxSplit(theta)
    low, high = split(x)
    close(split.fuse(high, low), x)


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_fuse_replaces_the_low_band_of_features_and_nothing_else(shape, theta, seed):
    split = BoxSplit(theta)
    features = volume(shape, seed)
    low, _ = split(volume(shape, seed + 1))
    fused = split.fuse(features, low)
    inside = mask(shape[2:], theta)
    close(split(fused)[0], low)
    close(torch.where(inside, 0, spectrum(fused)), torch.where(inside, 0, spectrum(features)), 1e-9)


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_splitting_a_band_again_finds_nothing_of_the_other(shape, theta, seed):
    split = BoxSplit(theta)
    low, high = split(volume(shape, seed))
    close(split(high)[0], torch.zeros_like(low))
    close(split(up(split, low, shape[2:]))[1], torch.zeros_like(high))


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_the_low_band_is_orthogonal_to_the_high_band(shape, theta, seed):
    x = volume(shape, seed)
    split = BoxSplit(theta)
    low, high = split(x)
    assert (up(split, low, shape[2:]) * high).sum().item() == pytest.approx(0, abs=1e-9)


@narrow_bands
@few
@given(GRIDS.flatmap(waves), THETAS, st.floats(0, 6.28))
def test_a_wave_lands_whole_in_the_band_of_its_frequency(wave, theta, phase):
    size, frequency = wave
    angle = torch.tensor(phase, dtype=torch.float64)
    for axis, (f, n) in enumerate(zip(frequency, size, strict=True)):
        steps = torch.arange(n, dtype=torch.float64) * (2 * torch.pi * f / n)
        angle = angle + steps.reshape([-1 if a == axis else 1 for a in range(3)])
    wave = torch.cos(angle)[None, None]
    split = BoxSplit(theta)
    low, high = split(wave)
    if all(f <= k for f, k in zip(frequency, cutoffs(size, theta), strict=True)):
        close(high, torch.zeros_like(high))
        close(up(split, low, size), wave)
    else:
        close(high, wave)
        close(low, torch.zeros_like(low))


@pytest.mark.parametrize("size", [(12, 10, 6), (13, 11, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_theta_1_keeps_everything_low(size, dtype):
    x = volume((1, 2, *size), dtype=torch.float64).to(dtype)
    split = BoxSplit(1)
    low, high = split(x)
    assert torch.equal(low, x)
    assert torch.equal(high, torch.zeros_like(x))
    assert split.fuse(x, low.double()).dtype == dtype


def test_the_low_grid_of_the_papers_volumes_has_17_by_17_lines_and_all_of_z():
    low, high = BoxSplit(0.1)(volume((1, 1, 160, 160, 2), dtype=torch.float32))
    assert low.shape == (1, 1, 17, 17, 2)
    assert high.shape == (1, 1, 160, 160, 2)


@pytest.mark.parametrize("theta", [0.4, (0.4, 1.0, 0.5), (1.0, 0.4, 1.0)])
@pytest.mark.parametrize("size", [(6, 7, 4), (7, 6, 5)])
def test_gradients_of_split_and_fuse_are_those_of_finite_differences(theta, size):
    split = BoxSplit(theta)
    x = volume((2, 2, *size)).requires_grad_()
    low = split(x)[0].detach().requires_grad_()
    assert torch.autograd.gradcheck(split, x)
    assert torch.autograd.gradcheck(split.fuse, (x, low))


def test_autocast_changes_nothing_for_float32():
    split = BoxSplit(0.3)
    x = volume((1, 3, 20, 21, 6), dtype=torch.float32)
    low, high = split(x)
    fused = split.fuse(x, low)
    with torch.autocast("cpu", torch.bfloat16):
        low_auto, high_auto = split(x)
        fused_auto = split.fuse(x, low)
    assert torch.equal(low_auto, low)
    assert torch.equal(high_auto, high)
    assert torch.equal(fused_auto, fused)


@pytest.mark.parametrize("theta", [0.1, 0.3, (0.3, 0.5, 0.5)])
def test_float32_is_within_its_rounding_of_float64(theta):
    x = volume((1, 2, 40, 41, 8))
    split = BoxSplit(theta)
    for got, exact in zip(split(x.float()), split(x), strict=True):
        assert got.dtype == torch.float32
        close(got.double(), exact, 1e-5)


@pytest.mark.parametrize("theta", [0.1, 0.3, (0.3, 0.5, 0.5)])
@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16_stays_within_its_rounding_of_float64(theta, autocast):
    x = (volume((1, 2, 40, 41, 8)) + 3).bfloat16()
    other = volume((1, 2, 40, 41, 8), seed=1).bfloat16()
    split = BoxSplit(theta)
    exact_low, exact_high = split(x.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        low, high = split(x)
        fused = split.fuse(other, low)
    exact_fused = split.fuse(other.double(), low.double())
    # Five values are rounded on the way, by 2⁻⁹ each: down, its product, small grid, up, result.
    allowed = 5 * 2**-9 * x.double().abs().max().item()
    for got, exact in ((low, exact_low), (high, exact_high), (fused, exact_fused)):
        assert got.dtype == torch.bfloat16
        close(got.double(), exact, allowed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_channels_last_gives_the_same_values_and_stays_channels_last(dtype):
    split = BoxSplit(0.4)
    x = volume((2, 3, 14, 15, 6), dtype=dtype)
    low = split(x)[0]
    last = x.to(memory_format=torch.channels_last_3d)
    plain, gotten = [*split(x), split.fuse(x, low)], [*split(last), split.fuse(last, low)]
    atol = 1e-6 if dtype == torch.float32 else 2**-7
    for a, b in zip(gotten, plain, strict=True):
        close(a, b, atol)
        assert a.is_contiguous(memory_format=torch.channels_last_3d)
        assert b.is_contiguous()


def test_a_part_of_a_larger_tensor_is_split_like_its_copy():
    x = volume((2, 4, 18, 16, 9))[:, 1:3, ::2, 3:, :5].transpose(2, 3)
    split = BoxSplit(0.5)
    for a, b in zip(split(x), split(x.contiguous()), strict=True):
        close(a, b, 1e-14)


def test_a_split_does_not_change_its_input():
    x = volume((1, 1, 12, 12, 4))
    kept = x.clone()
    split = BoxSplit(0.4)
    low, high = split(x)
    split.fuse(high, low)
    assert torch.equal(x, kept)


def test_sizes_may_change_from_call_to_call():
    split = BoxSplit(0.4, size=(12, 12, 4))
    for size in [(12, 12, 4), (9, 14, 4), (14, 9, 7), (12, 12, 4)]:
        x = volume((1, 1, *size))
        close(split(x)[0], cropped(x, 0.4))


def test_a_size_first_met_in_inference_mode_can_be_trained_on():
    split = BoxSplit(0.4)
    x = volume((1, 1, 10, 11, 3), dtype=torch.float32)
    with torch.inference_mode():
        split(x)
    x.requires_grad_()
    low, high = split(x)
    split.fuse(high, low).sum().backward()
    close(x.grad, torch.ones_like(x), 1e-5)


def test_shapes_can_be_had_without_computing():
    low, high = BoxSplit(0.1, size=(64, 64, 8)).to("meta")(
        torch.empty(1, 1, 512, 512, 512, device="meta")
    )
    assert low.shape == (1, 1, 51, 51, 512)
    assert high.shape == (1, 1, 512, 512, 512)


def test_a_copy_splits_alike_and_apart():
    split = BoxSplit(0.4, size=(12, 12, 4))
    other = copy.deepcopy(split)
    x = volume((1, 1, 12, 12, 4))
    assert all(torch.equal(a, b) for a, b in zip(split(x), other(x), strict=True))
    other(volume((1, 1, 10, 10, 4)))
    assert split.down0.shape == (5, 12)
    assert other.down0.shape == (5, 10)


def test_a_module_turned_to_float64_computes_in_float64():
    split = BoxSplit(0.4, size=(12, 12, 4)).double()
    x = volume((1, 1, 12, 12, 4))
    close(split(x)[0], cropped(x, 0.4))


def test_nothing_is_saved_with_a_checkpoint():
    split = BoxSplit(0.4, size=(12, 12, 4))
    assert split.state_dict() == {}
    assert list(split.parameters()) == []
    assert BoxSplit(0.2, size=(30, 30, 4)).load_state_dict(split.state_dict()).missing_keys == []


@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan, True, None, [0.1, 0.1], "0.1"], ids=str)
def test_a_theta_that_is_no_width_is_refused_by_name(wrong):
    with pytest.raises(FdsegError, match=r"^theta="):
        BoxSplit(wrong)


def test_a_band_of_the_mean_alone_is_warned_of_and_works():
    x = volume((1, 1, 8, 9, 4))
    with pytest.warns(UserWarning, match="leaves only the mean along") as record:
        split = BoxSplit(0.1, size=(8, 9, 4))
    assert len(record) == 2  # x and y
    low, high = split(x)
    close(low, x.mean(dim=(2, 3), keepdim=True))
    close(high, x - x.mean(dim=(2, 3), keepdim=True))


def test_its_description_names_theta_the_grid_and_the_low_band():
    described = repr(BoxSplit(0.1, size=(160, 160, 128)))
    assert described == "BoxSplit(theta=(0.1, 0.1, 1.0), size=(160, 160, 128), low=(17, 17, 128))"
