"""The mask split against full complex Fourier transforms, for every mask and any grid."""

import copy
import math
from fractions import Fraction
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdseg.errors import FdsegError
from fdseg.frequency import BoxSplit, MaskSplit, masks

HARD = {
    "box": masks.box,
    "ball": masks.ball,
    "random": partial(masks.random, seed=3),
    "swap": lambda size, theta: masks.complement(size, partial(masks.box, theta=theta)),
}
SOFT = {"gaussian": masks.gaussian, "butterworth": partial(masks.butterworth, order=2)}
MASKS = HARD | SOFT

THETA = st.integers(1, 100).map(lambda percent: percent / 100)
THETAS = st.one_of(THETA, st.tuples(THETA, THETA, THETA))
GRIDS = st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 9))
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), GRIDS).map(lambda s: (*s[:2], *s[2]))
SEEDS = st.integers(0, 2**16)

narrow_bands = pytest.mark.filterwarnings("ignore:theta=:UserWarning")
few = settings(max_examples=25)
each_mask = pytest.mark.parametrize("name", MASKS)
each_hard_mask = pytest.mark.parametrize("name", HARD)


def make(name, theta, size=None):
    return MaskSplit(partial(MASKS[name], theta=theta), size)


def volume(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def per_axis(theta):
    return theta if isinstance(theta, tuple) else (theta, theta, 1.0)


def frequencies(n):
    return np.fft.fftfreq(n, 1 / n).round().astype(int)


def in_box(size, theta):
    """Which frequencies of the full spectrum the box holds, in exact arithmetic."""
    inside = [
        np.abs(frequencies(n)) <= math.floor(Fraction(str(t)) * n / 2)
        for n, t in zip(size, per_axis(theta), strict=True)
    ]
    return inside[0][:, None, None] & inside[1][:, None] & inside[2]


def square_radius(size, theta):
    """Of the full spectrum, in exact arithmetic."""
    axes = []
    for n, t in zip(size, per_axis(theta), strict=True):
        half = Fraction(str(t)) * n / 2
        axes.append([(int(k) / half) ** 2 if t < 1 else Fraction(0) for k in frequencies(n)])
    return [[[x + y + z for z in axes[2]] for y in axes[1]] for x in axes[0]]


def transfer(name, size, theta):
    """M over the full spectrum, written from its definition."""
    if name in ("box", "swap"):
        return in_box(size, theta) == (name == "box")
    radius = square_radius(size, theta)
    if name == "ball":
        return np.array([[[r <= 1 for r in z] for z in y] for y in radius])
    radius = np.array(radius, dtype=float)
    return np.exp(-np.log(2) * radius) if name == "gaussian" else 1 / (1 + radius**2)


def realised(split, size):
    """What a split multiplies the full spectrum with: the transform of its answer to an impulse."""
    impulse = torch.zeros(1, 1, *size, dtype=torch.float64)
    impulse[0, 0, 0, 0, 0] = 1
    return torch.fft.fftn(split(impulse)[0][0, 0])


def close(a, b, atol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=0, atol=atol)


@narrow_bands
@pytest.mark.parametrize("name", ["box", "ball", "swap", *SOFT])
@few
@given(shape=SHAPES, theta=THETAS, seed=SEEDS)
def test_the_low_band_is_the_masked_full_fourier_transform(name, shape, theta, seed):
    x = volume(shape, seed)
    expected = np.fft.ifftn(
        transfer(name, shape[2:], theta) * np.fft.fftn(x.numpy(), axes=(2, 3, 4)), axes=(2, 3, 4)
    )
    assert np.abs(expected.imag).max() < 1e-10
    close(make(name, theta)(x)[0], expected.real.copy())


@narrow_bands
@few
@given(SHAPES, THETAS, SEEDS)
def test_the_box_is_that_of_the_box_split(shape, theta, seed):
    x = volume(shape, seed)
    close(make("box", theta)(x)[1], BoxSplit(theta)(x)[1])


@narrow_bands
@each_mask
@few
@given(shape=SHAPES, theta=THETAS, seed=SEEDS)
def test_low_and_high_add_up_to_the_volume(name, shape, theta, seed):
    x = volume(shape, seed)
    low, high = make(name, theta)(x)
    close(low + high, x)


@narrow_bands
@each_mask
@few
@given(shape=SHAPES, theta=THETAS, seed=SEEDS)
def test_fusing_what_was_split_gives_the_volume_back(name, shape, theta, seed):
    x = volume(shape, seed)
    split = make(name, theta)
    low, high = split(x)
    close(split.fuse(high, low), x)


@narrow_bands
@each_mask
@few
@given(size=GRIDS, theta=THETAS)
def test_every_frequency_is_treated_as_its_conjugate_so_that_bands_are_real(name, size, theta):
    full = realised(make(name, theta), size)
    close(full.imag, torch.zeros(size, dtype=torch.float64))
    close(full, full.flip(0, 1, 2).roll((1, 1, 1), (0, 1, 2)))
    half = MASKS[name](size, theta)
    assert half.dtype == torch.float64
    assert half.min() >= 0
    assert half.max() <= 1
    close(full.real[..., : size[2] // 2 + 1], half)


@narrow_bands
@each_hard_mask
@few
@given(shape=SHAPES, theta=THETAS, seed=SEEDS)
def test_splitting_a_hard_band_again_finds_nothing_of_the_other(name, shape, theta, seed):
    split = make(name, theta)
    low, high = split(volume(shape, seed))
    close(split(low)[0], low)
    close(split(high)[1], high)
    assert (low * high).sum().item() == pytest.approx(0, abs=1e-9)


@narrow_bands
@each_hard_mask
@few
@given(shape=SHAPES, theta=THETAS, seed=SEEDS)
def test_a_hard_fuse_takes_each_band_from_its_own_features(name, shape, theta, seed):
    split = make(name, theta)
    for_high, for_low = volume(shape, seed), volume(shape, seed + 1)
    low, high = split(split.fuse(for_high, for_low))
    close(low, split(for_low)[0])
    close(high, split(for_high)[1])


@pytest.mark.parametrize("size", [(5, 4, 3), (4, 3, 4)])
@each_mask
def test_fuse_solves_the_least_squares_of_both_bands(name, size):
    split = make(name, 0.7)
    n = math.prod(size)
    basis = torch.eye(n, dtype=torch.float64).reshape(n, 1, *size)
    low, high = (band.reshape(n, n).T for band in split(basis))
    for_high, for_low = volume((1, 1, *size), 1), volume((1, 1, *size), 2)
    given = torch.cat([for_high.flatten(), for_low.flatten()])
    expected = torch.linalg.lstsq(torch.cat([high, low]), given[:, None]).solution
    close(split.fuse(for_high, for_low).flatten(), expected[:, 0])


def waves(size):
    """A grid and a frequency that it can hold."""
    return st.tuples(st.just(size), st.tuples(*[st.integers(0, n // 2) for n in size]))


@narrow_bands
@each_mask
@few
@given(wave=GRIDS.flatmap(waves), theta=THETAS, phase=st.floats(0, 6.28))
def test_a_wave_lands_in_the_bands_by_the_share_of_its_frequency(name, wave, theta, phase):
    size, k = wave
    steps = [np.arange(n) * (f / n) for n, f in zip(size, k, strict=True)]
    cycles = steps[0][:, None, None] + steps[1][:, None] + steps[2]
    x = torch.from_numpy(np.cos(2 * np.pi * cycles + phase))[None, None]
    split = make(name, theta)
    share = realised(split, size)[k].real if name == "random" else transfer(name, size, theta)[k]
    low, high = split(x)
    close(low, float(share) * x)
    close(high, (1 - float(share)) * x)


@narrow_bands
@few
@given(GRIDS, THETAS, SEEDS)
def test_a_random_mask_holds_exactly_as_many_frequencies_as_the_box(size, theta, seed):
    full = realised(MaskSplit(partial(masks.random, theta=theta, seed=seed)), size).real
    close(full, full.round())
    assert full.round().sum().item() == in_box(size, theta).sum()


def test_a_random_mask_is_always_the_same_for_its_seed_and_another_for_others():
    torch.manual_seed(1)
    first = masks.random((12, 10, 8), 0.4, seed=5)
    torch.manual_seed(2)
    assert torch.equal(masks.random((12, 10, 8), 0.4, seed=5), first)
    assert not torch.equal(masks.random((12, 10, 8), 0.4, seed=6), first)
    assert not torch.equal(masks.box((12, 10, 8), 0.4), first)


def test_a_random_mask_leaves_the_global_random_numbers_alone():
    before = torch.get_rng_state()
    masks.random((12, 10, 8), 0.4)
    assert torch.equal(torch.get_rng_state(), before)


def test_known_values_of_the_shapes():
    """θ = 0.2 on 40 voxels ends at the frequency 4; z is whole."""
    size = (40, 40, 6)
    ball, gaussian = masks.ball(size, 0.2), masks.gaussian(size, 0.2)
    butterworth = masks.butterworth(size, 0.2)
    assert ball.shape == (40, 40, 4)
    assert ball[4, 0].tolist() == [1, 1, 1, 1]
    assert (ball[2, 3, 0], ball[3, 3, 0], ball[4, 1, 0], ball[37, 38, 0]) == (1, 0, 0, 1)
    assert (masks.box(size, 0.2)[3, 3, 0], masks.box(size, 0.2)[5, 0, 0]) == (1, 0)
    assert gaussian[4, 0].tolist() == butterworth[4, 0].tolist() == [0.5] * 4
    assert (gaussian[0, 0, 3], butterworth[0, 0, 3]) == (1, 1)
    assert gaussian[8, 0, 0] == pytest.approx(1 / 16)
    assert butterworth[8, 0, 0] == pytest.approx(1 / 17)
    assert masks.butterworth(size, 0.2, order=3)[8, 0, 0] == pytest.approx(1 / 65)


@pytest.mark.parametrize("theta", [0.7, (0.7, 1.0, 0.7)])
@pytest.mark.parametrize("size", [(5, 4, 4), (4, 5, 3)])
@each_mask
def test_gradients_of_split_and_fuse_are_those_of_finite_differences(name, theta, size):
    split = make(name, theta)
    x, y = (volume((2, 1, *size), seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(split, x)
    assert torch.autograd.gradcheck(split.fuse, (x, y))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@each_mask
def test_autocast_changes_nothing_and_types_are_kept(name, dtype):
    split = make(name, 0.3)
    x, y = (volume((1, 3, 20, 21, 6), seed).to(dtype) for seed in (0, 1))
    plain = [*split(x), split.fuse(x, y)]
    with torch.autocast("cpu", torch.bfloat16):
        under = [*split(x), split.fuse(x, y)]
    for a, b in zip(under, plain, strict=True):
        assert b.dtype == dtype
        assert torch.equal(a, b)


@each_mask
def test_float32_is_within_its_rounding_of_float64_and_bfloat16_is_rounded_once(name):
    split = make(name, 0.3)
    x, y = (volume((1, 2, 40, 41, 8), seed).bfloat16() for seed in (0, 1))
    exact = [*split(x.double()), split.fuse(x.double(), y.double())]
    single = [*split(x.float()), split.fuse(x.float(), y.float())]
    half = [*split(x), split.fuse(x, y)]
    for e, s, h in zip(exact, single, half, strict=True):
        close(s.double(), e, 1e-5)
        torch.testing.assert_close(h.double(), e, rtol=2**-8, atol=1e-5)


def test_channels_last_gives_the_same_values():
    split = make("ball", 0.4)
    x = volume((2, 3, 14, 15, 6))
    last = x.to(memory_format=torch.channels_last_3d)
    low = split(x)[0]
    for a, b in zip([*split(last), split.fuse(last, low)], [*split(x), split.fuse(x, low)],
                    strict=True):  # fmt: skip
        close(a, b)


def test_sizes_may_change_from_call_to_call():
    split = make("ball", 0.4, size=(12, 12, 4))
    for size in [(12, 12, 4), (9, 14, 4), (14, 9, 7), (12, 12, 4)]:
        x = volume((1, 1, *size), dtype=torch.float32)
        close(split(x)[0].double(), make("ball", 0.4)(x.double())[0], 1e-6)


def test_a_size_first_met_in_inference_mode_can_be_trained_on():
    split = make("gaussian", 0.4)
    x = volume((1, 1, 10, 11, 3), dtype=torch.float32)
    with torch.inference_mode():
        split(x)
    x.requires_grad_()
    low, high = split(x)
    split.fuse(high, low).sum().backward()
    close(x.grad, torch.ones_like(x), 1e-5)


def test_shapes_can_be_had_without_making_a_mask():
    sizes = []

    def mask(size):
        sizes.append(size)
        return masks.ball(size, 0.1)

    split = MaskSplit(mask, size=(64, 64, 8)).to("meta")
    low, high = split(torch.empty(1, 1, 512, 512, 512, device="meta"))
    assert low.shape == high.shape == split.fuse(high, low).shape == (1, 1, 512, 512, 512)
    assert [tuple(size) for size in sizes] == [(64, 64, 8)]


def test_a_mask_first_made_while_another_device_is_the_default_has_values():
    for name in MASKS:
        with torch.device("meta"):
            mask = MASKS[name]((12, 10, 4), 0.4)
        assert mask.device.type == "cpu"


def test_a_copy_splits_alike_and_apart():
    split = make("random", 0.4, size=(12, 12, 4))
    other = copy.deepcopy(split)
    x = volume((1, 1, 12, 12, 4))
    assert all(torch.equal(a, b) for a, b in zip(split(x), other(x), strict=True))
    other(volume((1, 1, 10, 10, 4)))
    assert split.transfer.shape == (12, 12, 3)
    assert other.transfer.shape == (10, 10, 3)


def test_nothing_is_saved_with_a_checkpoint():
    split = make("random", 0.4, size=(12, 12, 4))
    assert split.state_dict() == {}
    assert list(split.parameters()) == []


@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan, True, None, [0.1, 0.1], "0.1"], ids=str)
@each_mask
def test_a_theta_that_is_no_width_is_refused_by_name(name, wrong):
    with pytest.raises(FdsegError, match=r"^theta="):
        make(name, wrong, size=(8, 8, 4))


@pytest.mark.parametrize("order", [0, -1, math.nan])
def test_an_order_that_is_not_positive_is_refused(order):
    with pytest.raises(FdsegError, match=r"^split\.mask\.order=.*expected a positive number"):
        masks.butterworth((8, 8, 4), 0.5, order)


def test_a_mask_of_another_shape_is_refused_with_the_one_expected():
    with pytest.raises(FdsegError, match=r"gives \(8, 8, 4\) .*expected .*\(8, 8, 3\)"):
        MaskSplit(torch.ones, size=(8, 8, 4))


@pytest.mark.parametrize("name", ["box", "ball", "random"])
def test_a_band_of_the_mean_alone_is_warned_of(name):
    with pytest.warns(UserWarning, match="leaves only the mean along") as record:
        make(name, 0.1, size=(8, 9, 4))
    assert len(record) == 2  # x and y


def test_its_description_names_the_mask_and_the_grid():
    assert repr(make("ball", 0.1, size=(40, 40, 8))) == "MaskSplit(mask=ball, size=(40, 40, 8))"
