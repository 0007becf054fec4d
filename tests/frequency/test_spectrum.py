"""Energy by frequency, against sines, Parseval, and a Fourier transform written as its sum."""

import cmath
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdseg.frequency.bands import cutoff
from fdseg.frequency.spectrum import (
    band_energy,
    band_error,
    difference_energy,
    edges,
    energy,
    radial_power,
    radius,
    share_above,
)

SIZES = st.tuples(st.integers(2, 13), st.integers(2, 13), st.integers(1, 5))
few = settings(max_examples=60)


def wave(size, kx, ky, amplitude=1.0, phase=0.0):
    """A sine with whole cycles over the plane, the same in every slice."""
    x, y, _ = np.indices(size)
    angle = 2 * math.pi * (kx * x / size[0] + ky * y / size[1]) + phase
    return torch.from_numpy(amplitude * np.cos(angle))


def noise(size, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=size))


def exact_energies(x):
    """By the definition, frequency by frequency: r and energy of all X·Y of them."""
    size_x, size_y, size_z = x.shape
    found = []
    for kx in range(size_x):
        for ky in range(size_y):
            total = 0.0
            for z in range(size_z):
                value = 0j
                for i in range(size_x):
                    for j in range(size_y):
                        cycles = kx * i / size_x + ky * j / size_y
                        value += float(x[i, j, z]) * cmath.exp(-2j * cmath.pi * cycles)
                total += abs(value) ** 2 / (size_x * size_y)
            distance = math.hypot(
                2 * min(kx, size_x - kx) / size_x, 2 * min(ky, size_y - ky) / size_y
            )
            found.append((distance, total))
    return found


@pytest.mark.parametrize(("kx", "ky", "r"), [(3, 0, 0.3), (0, 2, 0.25), (6, 8, math.hypot(0.6, 1)),
                                             (3, -4, math.hypot(0.3, 0.5))])  # fmt: skip
def test_a_sine_has_half_its_square_amplitude_at_its_frequency_and_nothing_elsewhere(kx, ky, r):
    size = (20, 16, 5)
    x = wave(size, kx, ky, amplitude=3, phase=0.4)
    found = energy(x)
    assert float(found.sum()) == pytest.approx(9 / 2 * 20 * 16 * 5)
    held = found > 1e-9 * found.sum()
    assert radius(size)[held].unique().tolist() == pytest.approx([r])


def test_a_constant_is_all_mean():
    found = energy(torch.full((6, 8, 3), 2.0))
    assert float(found[0, 0]) == pytest.approx(4 * 6 * 8 * 3)
    assert float(found.sum() - found[0, 0]) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("size", [(4, 6, 2), (5, 4, 1), (3, 7, 2), (6, 3, 2)])
def test_bands_hold_what_the_definition_puts_there(size):
    x = noise(size)
    for bands in (1, 3, 5):
        expected = [0.0] * bands
        for r, value in exact_energies(x):
            for band, (low, high) in enumerate(edges(bands)):
                if low - 1e-9 < r <= high + 1e-9 and (r > low + 1e-9 or band == 0):
                    expected[band] += value
        assert band_energy(x, bands).tolist() == pytest.approx(expected, abs=1e-12)


@few
@given(SIZES, st.integers(1, 9), st.integers(0, 99))
def test_the_energy_of_all_bands_is_that_of_the_volume(size, bands, seed):
    x = noise((2, *size), seed)
    assert float(band_energy(x, bands).sum()) == pytest.approx(float(x.square().sum()))


@few
@given(SIZES, st.integers(0, 99))
def test_neither_the_order_nor_the_direction_of_the_axes_matters(size, seed):
    x = noise(size, seed)
    expected = band_energy(x, 4).tolist()
    for other in (x.transpose(0, 1), x.flip(0), x.flip(1), x.roll((1, 2), (0, 1)), x.flip(2)):
        assert band_energy(other, 4).tolist() == pytest.approx(expected)


def test_single_precision_is_enough_for_a_band_with_a_millionth_of_the_energy():
    x = wave((32, 32, 4), 2, 0, amplitude=1000) + wave((32, 32, 4), 13, 0)
    single, double = band_energy(x.float(), 8), band_energy(x, 8)
    assert float(double[6]) == pytest.approx(32 * 32 * 4 / 2)
    assert float(single[6]) == pytest.approx(float(double[6]), rel=1e-3)


def test_a_frequency_on_an_edge_is_in_the_band_that_ends_there_as_in_the_box():
    for n in (10, 20, 30, 56, 160):
        for k in range(n // 2 + 1):
            found = band_energy(wave((n, 4, 1), k, 0), 10).argmax()
            theta = (int(found) + 1) / 10
            assert cutoff(n, theta) >= k
            assert theta == 0.1 or cutoff(n, theta - 0.1) < k


def test_the_edges_of_bands():
    assert edges(2) == [(0.0, 0.5), (0.5, math.sqrt(2))]
    assert edges(1) == [(0.0, math.sqrt(2))]


class TestError:
    size = (16, 12, 3)

    def masks(self, seed=0):
        rng = np.random.default_rng(seed)
        return tuple(torch.from_numpy(rng.random((2, *self.size)) < p) for p in (0.3, 0.4))

    def test_of_the_target_itself_is_zero(self):
        _, target = self.masks()
        assert band_error(target, target, 5).tolist() == [0] * 5

    def test_of_an_empty_mask_is_one(self):
        _, target = self.masks()
        empty = torch.zeros_like(target)
        assert band_error(empty, target, 5).tolist() == pytest.approx([1] * 5)

    def test_of_the_same_frequency_a_quarter_of_a_cycle_off_is_two(self):
        target = wave(self.size, 3, 0) + 5
        shifted = wave(self.size, 3, 0, phase=math.pi / 2) + 5
        error = band_error(shifted, target, 4)  # r = 3/8, in the second band
        assert float(error[1]) == pytest.approx(2, abs=1e-5)
        assert float(error[0]) == pytest.approx(0, abs=1e-9)

    def test_of_half_the_amplitude_is_a_quarter(self):
        target = wave(self.size, 5, 0, amplitude=4)
        assert float(band_error(target / 2, target, 4)[2]) == pytest.approx(0.25)

    def test_shows_in_the_band_of_what_was_added_and_in_no_other(self):
        target = sum(wave(self.size, k, 0) for k in (1, 3, 5, 7))
        error = band_error(target + wave(self.size, 5, 0, amplitude=0.1), target, 4)
        assert error.tolist() == pytest.approx([0, 0, 0.01, 0], abs=1e-6)

    def test_weighs_structures_and_cases_by_their_energy(self):
        prediction, target = self.masks()
        whole = band_error(prediction, target, 5)
        wrong = sum(difference_energy(p, t, 5) for p, t in zip(prediction, target, strict=True))
        right = sum(band_energy(t, 5) for t in target)
        torch.testing.assert_close(whole, wrong / right)

    def test_is_that_of_an_independent_transform(self):
        prediction, target = (m[0].double().numpy() for m in self.masks(1))
        kx, ky = (np.fft.fftfreq(n) * 2 for n in self.size[:2])
        r = np.hypot(kx[:, None], ky[None])
        wrong, right = (
            (abs(np.fft.fftn(x)) ** 2).sum(axis=2) for x in (prediction - target, target)
        )
        expected = [
            wrong[inside].sum() / right[inside].sum()
            for low, high in edges(7)
            for inside in [(r > low) & (r <= high) | ((low == 0) & (r == 0))]
        ]
        found = band_error(torch.from_numpy(prediction), torch.from_numpy(target), 7)
        assert found.tolist() == pytest.approx(expected, rel=1e-5)

    def test_is_no_number_where_the_target_has_nothing(self):
        target = torch.zeros(self.size)
        assert torch.isnan(band_error(target, target, 3)).all()
        assert math.isinf(band_error(target + 1, target, 3)[0])


def test_a_single_voxel_has_the_same_power_at_every_frequency():
    x = torch.zeros(12, 10, 3)
    x[4, 7, 1] = 1
    assert radial_power(x, 5).tolist() == pytest.approx([1 / 120] * 5)


def test_a_band_without_a_frequency_has_no_power():
    power = radial_power(torch.rand(4, 4, 2), 8)
    assert torch.isnan(power).tolist() == [False, True, True, False, True, False, True, False]


@few
@given(SIZES, st.integers(1, 100).map(lambda percent: percent / 100), st.integers(0, 99))
@pytest.mark.filterwarnings("ignore:theta=")
def test_the_share_above_theta_is_what_lies_outside_of_the_box(size, theta, seed):
    x = noise((2, *size), seed)
    spectrum = abs(np.fft.fftn(x.numpy(), axes=(1, 2, 3))) ** 2
    inside = np.ones(size, bool)
    for axis, n in enumerate(size[:2]):
        k = np.minimum(np.arange(n), n - np.arange(n))
        shape = [1, 1, 1]
        shape[axis] = n
        inside &= (k <= cutoff(n, theta)).reshape(shape)
    expected = spectrum[:, ~inside].sum() / spectrum.sum()
    assert share_above(x, theta) == pytest.approx(expected, abs=1e-12)


def test_the_share_above_theta_of_sines():
    size = (20, 20, 4)
    x = wave(size, 2, 1, amplitude=3) + wave(size, 0, 3)  # 9 to 1
    assert share_above(x, 0.2) == pytest.approx(0.1)
    assert share_above(x, 0.1) == pytest.approx(1)
    assert share_above(x, 0.3) == pytest.approx(0, abs=1e-12)


def test_theta_may_count_for_z_too():
    x = torch.zeros(1, 1, 8)
    x[0, 0, ::2] = 1  # half mean, half Nyquist frequency along z
    assert share_above(x, 0.5) == pytest.approx(0, abs=1e-12)
    assert share_above(x, [1, 1, 0.5]) == pytest.approx(0.5)


def test_nothing_has_no_share():
    assert math.isnan(share_above(torch.zeros(4, 4, 4), 0.5))
