"""The matrices of one axis, against the definition of a band-limited projection."""

import math
import time
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from fdseg.errors import FdsegError
from fdseg.frequency.bands import (
    axis_thetas,
    band_size,
    cutoff,
    down_matrix,
    up_matrix,
    warn_if_only_mean,
)

SIZES = st.integers(1, 48)
THETAS = st.integers(1, 100).map(lambda percent: percent / 100)
few = settings(max_examples=60)


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


@few
@given(SIZES, THETAS)
def test_the_cutoff_is_the_floor_of_half_theta_times_the_size_in_exact_arithmetic(size, theta):
    assert cutoff(size, theta) == math.floor(Fraction(str(theta)) * size / 2)


@pytest.mark.parametrize(
    ("size", "theta", "expected"),
    [
        (160, 0.1, 8),
        (20, 0.3, 3),
        (100, 0.14, 7),
        (200, 0.29, 29),  # 0.29 · 200 / 2 is 28.999… in floating point
        (19, 0.3, 2),
        (56, 0.1, 2),
        (10, 1.0, 5),
        (11, 1.0, 5),
        (10, 0.1, 0),
    ],
)
def test_the_cutoff_of_known_cases(size, theta, expected):
    assert cutoff(size, theta) == expected


@few
@given(SIZES)
def test_a_band_as_wide_as_the_axis_keeps_all_its_points(size):
    assert band_size(size, 1.0) == size
    close(down_matrix(size, 1.0), torch.eye(size, dtype=torch.float64))
    close(up_matrix(size, 1.0), torch.eye(size, dtype=torch.float64))


@few
@given(SIZES, THETAS)
def test_down_after_up_is_the_identity(size, theta):
    m = band_size(size, theta)
    down, up = down_matrix(size, theta), up_matrix(size, theta)
    assert down.shape == (m, size)
    assert up.shape == (size, m)
    close(down @ up, torch.eye(m, dtype=torch.float64))


@few
@given(SIZES, THETAS)
def test_up_after_down_is_an_orthogonal_projection(size, theta):
    projection = up_matrix(size, theta) @ down_matrix(size, theta)
    close(projection @ projection, projection)
    close(projection.T, projection)
    assert projection.trace().item() == pytest.approx(band_size(size, theta))


@few
@given(SIZES, THETAS)
def test_the_projection_is_a_mask_on_the_fourier_coefficients(size, theta):
    mask = np.abs(np.fft.fftfreq(size, 1 / size)) <= math.floor(Fraction(str(theta)) * size / 2)
    expected = np.fft.ifft(mask[:, None] * np.fft.fft(np.eye(size), axis=0), axis=0)
    assert np.abs(expected.imag).max() < 1e-12
    close(up_matrix(size, theta) @ down_matrix(size, theta), torch.from_numpy(expected.real.copy()))


@pytest.mark.parametrize(("size", "theta"), [(20, 0.1), (56, 0.1), (160, 0.9), (511, 0.9)])
def test_down_is_a_sum_of_cosines_to_the_last_digits(size, theta):
    k, m = cutoff(size, theta), band_size(size, theta)
    j, n = np.arange(m, dtype=int)[:, None], np.arange(size, dtype=int)[None, :]
    turns = (j * size - n * m) % (m * size)
    waves = np.cos(2 * np.pi * np.arange(m * size) / (m * size))  # of every argument there is
    expected = 1 + sum(2 * waves[f * turns % (m * size)] for f in range(1, k + 1))
    assert np.abs(down_matrix(size, theta).numpy() - expected / size).max() < 2e-15


def test_a_long_axis_costs_no_more_than_its_matrix():
    before = time.perf_counter()
    matrix = down_matrix(2048, 0.97)  # 4 million entries of 993 cosines each
    assert time.perf_counter() - before < 5
    close(matrix.sum(dim=1), torch.ones(1987, dtype=torch.float64))


@few
@given(SIZES, THETAS)
def test_down_keeps_a_constant_as_it_is(size, theta):
    m = band_size(size, theta)
    close(
        down_matrix(size, theta) @ torch.ones(size, dtype=torch.float64),
        torch.ones(m, dtype=torch.float64),
    )


def test_a_matrix_first_made_in_inference_mode_serves_training():
    with torch.inference_mode():
        down_matrix(37, 0.4)
    assert not down_matrix(37, 0.4).is_inference()


def test_a_matrix_first_made_while_another_device_is_the_default_has_values():
    with torch.device("meta"):
        matrix = down_matrix(41, 0.4)
    assert matrix.device.type == "cpu"
    assert matrix.sum(dim=1).tolist() == pytest.approx([1.0] * matrix.shape[0])


def test_one_theta_stands_for_x_and_y_with_all_of_z():
    assert axis_thetas(0.1) == (0.1, 0.1, 1.0)
    assert axis_thetas(1) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("given", [[0.1, 0.2, 1], (0.1, 0.2, 1), OmegaConf.create([0.1, 0.2, 1])])
def test_three_thetas_stand_for_the_axes(given):
    assert axis_thetas(given) == (0.1, 0.2, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        0,
        -0.1,
        1.0001,
        math.nan,
        math.inf,
        True,
        None,
        "0.1",
        [],
        [0.1],
        [0.1, 0.1],
        [0.1, 0.1, 0.1, 0.1],
        [0.1, 0.1, 0],
        [0.1, math.nan, 1],
        [0.1, True, 1],
        [0.1, None, 1],
    ],
    ids=str,
)
def test_a_theta_that_is_no_width_is_refused_by_name_and_with_what_to_write(wrong):
    with pytest.raises(FdsegError, match=r"^theta=.*expected one number in \(0, 1\].*theta=0\.1"):
        axis_thetas(wrong)


def test_a_band_of_the_mean_alone_is_warned_of_with_the_smallest_theta_that_works():
    with pytest.warns(UserWarning, match=r"theta=0\.1 leaves only the mean along y \(16 voxels\)"):
        warn_if_only_mean((20, 16, 10), (0.1, 0.1, 1.0))
    with pytest.warns(UserWarning, match=r"smallest θ that keeps one cycle is 0\.125"):
        warn_if_only_mean((20, 16, 10), (0.1, 0.1, 1.0))
    assert cutoff(16, 0.125) == 1


@pytest.mark.parametrize("size", [(20, 20, 10), (20, 21, 1)])
def test_nothing_is_warned_of_where_structure_stays_or_the_axis_has_none(size):
    with warnings.catch_warnings(action="error"):
        warn_if_only_mean(size, (0.1, 0.1, 1.0))
    assert min(cutoff(n, 0.1) for n in size[:2]) == 1
