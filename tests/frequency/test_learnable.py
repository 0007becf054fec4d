"""The box whose width is trained: its shape, its limit, and how θ moves and is kept."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fdseg.errors import FdsegError
from fdseg.frequency import BoxSplit, LearnableSplit

THETA = st.integers(1, 99).map(lambda percent: percent / 100)
THETAS = st.one_of(THETA, st.tuples(THETA, st.just(1.0), THETA))
GRIDS = st.tuples(st.integers(1, 13), st.integers(1, 13), st.integers(1, 9))
SHAPES = st.tuples(st.integers(1, 2), st.integers(1, 3), GRIDS).map(lambda s: (*s[:2], *s[2]))
SEEDS = st.integers(0, 2**16)
few = settings(max_examples=30)


def volume(shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def exact(theta, softness=0.5):
    """In float64, from which the values that are compared are made."""
    split = LearnableSplit(theta, softness).double()
    with torch.no_grad():
        starts = [t for t in theta if t < 1] if isinstance(theta, tuple) else [theta]
        split.theta.copy_(torch.tensor(starts, dtype=torch.float64))
    return split


def per_axis(theta):
    return theta if isinstance(theta, tuple) else (theta, theta, 1.0)


def soft_box(size, theta, softness):
    """M over the full spectrum, written from its definition."""
    profiles = []
    for n, t in zip(size, per_axis(theta), strict=True):
        k = np.abs(np.fft.fftfreq(n, 1 / n))
        profile = 1 / (1 + np.exp(-(t * n / 2 + 0.5 - k) / softness))
        profiles.append(profile if t < 1 else np.ones(n))
    return profiles[0][:, None, None] * profiles[1][:, None] * profiles[2]


def close(a, b, atol=1e-10):
    torch.testing.assert_close(torch.as_tensor(a), torch.as_tensor(b), rtol=0, atol=atol)


@few
@given(SHAPES, THETAS, st.sampled_from([0.1, 0.5, 2.0]), SEEDS)
def test_the_low_band_is_the_masked_full_fourier_transform(shape, theta, softness, seed):
    x = volume(shape, seed)
    spectrum = np.fft.fftn(x.numpy(), axes=(2, 3, 4)) * soft_box(shape[2:], theta, softness)
    expected = np.fft.ifftn(spectrum, axes=(2, 3, 4))
    assert np.abs(expected.imag).max() < 1e-10
    close(exact(theta, softness)(x)[0], expected.real.copy())


@few
@given(SHAPES, THETAS, SEEDS)
def test_bands_add_up_to_the_volume_and_fuse_to_it(shape, theta, seed):
    x = volume(shape, seed)
    split = exact(theta)
    low, high = split(x)
    close(low + high, x)
    close(split.fuse(high, low), x)


@pytest.mark.parametrize(
    ("size", "theta"),
    [((20, 20, 4), 0.3), ((20, 20, 4), 0.32), ((20, 30, 10), (0.3, 0.2, 0.4)), ((21, 25, 3), 0.4)],
)
def test_a_hard_edge_gives_the_split_and_the_fusion_of_the_box(size, theta):
    """Where θN/2 is whole, or little more."""
    box, x, features = BoxSplit(theta), volume((1, 2, *size)), volume((1, 2, *size), 1)
    learned = exact(theta, softness=1e-3)
    low, high = learned(x)
    close(high, box(x)[1])
    close(learned.fuse(features, low), box.fuse(features, box(x)[0]))


def test_theta_receives_the_gradient_of_finite_differences():
    x, y = volume((1, 2, 7, 6, 4)), volume((1, 2, 7, 6, 4), 1)

    def both(theta):
        split = exact(0.4)
        del split.theta
        split.theta = theta
        split.eval()
        low, high = split(x)
        return low, high, split.fuse(y, low)

    theta = torch.tensor([0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(both, theta)
    low, _, fused = both(theta)
    assert torch.autograd.grad(low.square().sum() + fused.square().sum(), theta)[0].abs() > 0.1


def test_gradients_of_split_and_fuse_are_those_of_finite_differences():
    split = exact(0.5)
    x, y = (volume((2, 1, 5, 4, 4), seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(split, x)
    assert torch.autograd.gradcheck(split.fuse, (x, y))


@pytest.mark.parametrize("start", [0.1, 0.6])
def test_training_finds_the_width_of_the_band_that_it_is_asked_for(start):
    x = volume((1, 1, 40, 40, 2), dtype=torch.float32)
    wanted = LearnableSplit(0.3)(x)[0].detach()
    split = LearnableSplit(start)
    optimizer = torch.optim.Adam(split.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        (split(x)[0] - wanted).square().mean().backward()
        optimizer.step()
    assert float(split.learned()["theta"]) == pytest.approx(0.3, abs=0.005)


@pytest.mark.parametrize(("outside", "edge"), [(1.3, 1.0), (-0.2, 1e-6)])
def test_a_step_out_of_the_widths_ends_at_the_edge_from_where_theta_comes_back(outside, edge):
    split = LearnableSplit(0.4)
    with torch.no_grad():
        split.theta.fill_(outside)
    assert float(split.learned()["theta"]) == pytest.approx(edge)
    split(volume((1, 1, 9, 9, 4), dtype=torch.float32))[0].square().sum().backward()
    assert split.theta.item() == pytest.approx(edge)
    assert split.theta.grad.abs() > 0


def test_evaluation_leaves_theta_as_training_left_it():
    split = LearnableSplit(0.4).eval()
    with torch.no_grad():
        split.theta.fill_(1.3)
    x = volume((1, 1, 9, 9, 4), dtype=torch.float32)
    whole = LearnableSplit(0.999)(x)[0].detach()
    close(split(x)[0].detach(), whole, 0.02)
    assert split.theta.item() == pytest.approx(1.3)


def test_one_theta_is_for_x_and_y_and_three_are_for_the_axes_that_are_not_whole():
    one, three = LearnableSplit(0.2), LearnableSplit([0.25, 1, 0.5])
    assert {k: round(float(v), 6) for k, v in one.learned().items()} == {"theta": 0.2}
    assert {k: float(v) for k, v in three.learned().items()} == {"theta_x": 0.25, "theta_z": 0.5}
    assert LearnableSplit([1, 0.5, 1]).learned().keys() == {"theta_y"}
    assert [tuple(p.shape) for s in (one, three) for p in s.parameters()] == [(1,), (2,)]


def test_theta_travels_in_a_checkpoint():
    other = LearnableSplit(0.7)
    other.load_state_dict(LearnableSplit(0.25).state_dict())
    assert float(other.learned()["theta"]) == 0.25


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_autocast_changes_nothing_and_types_are_kept(dtype):
    split = LearnableSplit(0.3)
    x = volume((1, 3, 20, 21, 6)).to(dtype)
    plain = [*split(x), split.fuse(x, x + 1)]
    with torch.autocast("cpu", torch.bfloat16):
        under = [*split(x), split.fuse(x, x + 1)]
    for a, b in zip(under, plain, strict=True):
        assert b.dtype == dtype
        assert torch.equal(a, b)


def test_shapes_can_be_had_without_computing():
    x = torch.empty(1, 1, 512, 512, 512, device="meta")
    low, high = LearnableSplit(0.1).to("meta")(x)
    assert low.shape == high.shape == x.shape


@pytest.mark.parametrize("wrong", [0, -1, 1.5, math.nan, True, None, [0.1, 0.1]], ids=str)
def test_a_theta_that_is_no_width_is_refused_by_name(wrong):
    with pytest.raises(FdsegError, match=r"^theta="):
        LearnableSplit(wrong)


@pytest.mark.parametrize("whole", [1, [1, 1.0, 1]], ids=str)
def test_where_all_axes_are_whole_there_is_nothing_to_learn(whole):
    with pytest.raises(FdsegError, match="no width to learn"):
        LearnableSplit(whole)


def test_a_softness_that_is_not_positive_is_refused():
    with pytest.raises(FdsegError, match=r"^split\.softness=0: expected a positive number"):
        LearnableSplit(0.1, softness=0)


def test_its_description_names_theta_and_the_softness():
    assert repr(LearnableSplit(0.1)) == "LearnableSplit(theta=0.1, softness=0.5)"
