"""Against DeepMind's surface-distance, whose surfaces run between voxels and weigh by area."""

import numpy as np
import pytest
import surface_distance

from fdseg.metrics import hd95, normalised_surface_dice

SPACING = (1.2, 0.8, 2.5)
pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")


def ball(centre_mm, radius_mm, shape=(60, 70, 40)):
    axes = np.indices(shape, sparse=True)
    return (
        sum((i * s - c) ** 2 for i, s, c in zip(axes, SPACING, centre_mm, strict=True))
        < radius_mm**2
    )


def theirs(prediction, label):
    distances = surface_distance.compute_surface_distances(label, prediction, SPACING)
    dice = surface_distance.compute_surface_dice_at_tolerance(distances, 2.0)
    return surface_distance.compute_robust_hausdorff(distances, 95), dice


@pytest.mark.parametrize("shift", [(3, 0, 0), (0, 5, 0), (0, 0, 2)])
def test_a_shifted_ball_is_as_far_as_they_say(shift):
    label = ball((36, 28, 50), 18)
    prediction = np.roll(label, shift, axis=(0, 1, 2))
    expected, _ = theirs(prediction, label)
    assert hd95(prediction, label, SPACING, "max_of_directed") == pytest.approx(expected, abs=0.15)


def test_balls_of_different_size_and_place_agree_within_half_a_voxels_diagonal():
    label, prediction = ball((36, 28, 50), 14), ball((41, 26, 55), 18)
    expected, dice = theirs(prediction, label)
    half_diagonal = np.linalg.norm(SPACING) / 2
    assert abs(hd95(prediction, label, SPACING, "max_of_directed") - expected) < half_diagonal
    assert abs(normalised_surface_dice(prediction, label, SPACING, 2.0) - dice) < 0.1


def test_identical_balls_agree_exactly():
    label = ball((36, 28, 50), 14)
    assert theirs(label, label) == (0.0, 1.0)
    assert hd95(label, label, SPACING) == 0.0
    assert normalised_surface_dice(label, label, SPACING, 2.0) == 1.0
