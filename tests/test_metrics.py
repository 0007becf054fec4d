"""Shapes whose scores are known, all shapes against brute force, and what others compute."""

import doctest
import math
from itertools import product

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy.ndimage import gaussian_filter

from fdseg import metrics
from fdseg.metrics import (
    MeanDice,
    MeanHD95,
    SurfaceDistances,
    dice,
    hd95,
    normalised_surface_dice,
    score,
    surface_distances,
    volume_diagonal_mm,
)

EMPTY = np.zeros((3, 4, 12), dtype=bool)  # with 1 mm voxels, 13 mm from corner to corner
SPACING = (1.25, 0.8, 2.0)


def box(shape, x, y, z):
    mask = np.zeros(shape, dtype=bool)
    mask[slice(*x), slice(*y), slice(*z)] = True
    return mask


def voxels(shape, *positions):
    mask = np.zeros(shape, dtype=bool)
    mask[tuple(np.transpose(positions))] = True
    return mask


def sphere(radius_mm, shape=(56, 70, 40), spacing=(1.0, 0.8, 1.5)):
    square = 0.0
    for axis, (n, side) in enumerate(zip(shape, spacing, strict=True)):
        position = (np.arange(n) - n // 2) * side
        square = square + np.expand_dims(position**2, tuple({0, 1, 2} - {axis}))
    return square <= radius_mm**2


def blobs(seed, shape=(34, 30, 22)):
    """A structure of several pieces and a prediction that is wrong here and there."""
    random = np.random.default_rng(seed)
    smooth = [gaussian_filter(random.normal(size=shape), 3) for _ in range(2)]
    inside = np.pad(np.ones(np.subtract(shape, 4), dtype=bool), 2)
    return (smooth[0] + 0.5 * smooth[1] > 0.02) & inside, (smooth[0] > 0.02) & inside


def as_batch(mask):
    return torch.from_numpy(mask)[None, None]


# --- shapes whose answer can be worked out by hand ---


def test_a_box_moved_by_two_voxels_is_off_by_nought_one_or_two_voxel_sides():
    # 4×3×2 voxels, all of them at the surface; the two boxes share 2×3×2 voxels.
    label = box((10, 7, 6), (2, 6), (2, 5), (2, 4))
    prediction = box((10, 7, 6), (4, 8), (2, 5), (2, 4))
    distances = surface_distances(prediction, label, SPACING)
    expected = [0.0] * 12 + [1.25] * 6 + [2.5] * 6
    assert sorted(distances.prediction_to_label) == expected
    assert sorted(distances.label_to_prediction) == expected
    assert dice(prediction, label) == 0.5
    assert hd95(prediction, label, SPACING) == 2.5
    assert normalised_surface_dice(prediction, label, SPACING, 0) == 24 / 48
    assert normalised_surface_dice(prediction, label, SPACING, 1.25) == 36 / 48
    assert normalised_surface_dice(prediction, label, SPACING, 2.5) == 1


@pytest.mark.parametrize(("axis", "side_mm"), list(enumerate(SPACING)))
def test_a_plate_moved_along_an_axis_is_off_by_that_axis_own_spacing(axis, side_mm):
    label = np.zeros((9, 9, 9), dtype=bool)
    np.moveaxis(label, axis, 0)[2] = True
    prediction = np.roll(label, 3, axis)
    assert hd95(prediction, label, SPACING) == pytest.approx(3 * side_mm, rel=1e-15)


def test_two_single_voxels_are_as_far_apart_as_their_centres():
    prediction, label = voxels((6, 3, 8), (1, 1, 1)), voxels((6, 3, 8), (4, 2, 3))
    expected = math.hypot(3 * 1.25, 1 * 0.8, 2 * 2.0)
    assert hd95(prediction, label, SPACING) == pytest.approx(expected, rel=1e-15)
    assert dice(prediction, label) == 0


def test_the_surface_of_a_mask_that_fills_the_volume_is_its_outer_layer():
    prediction, label = np.ones((4, 4, 4), dtype=bool), box((4, 4, 4), (1, 3), (1, 3), (1, 3))
    distances = surface_distances(prediction, label, (1, 1, 1))
    faces, edges, corners = [1.0] * 24, [math.sqrt(2)] * 24, [math.sqrt(3)] * 8
    assert sorted(distances.prediction_to_label) == faces + edges + corners
    assert distances.label_to_prediction.tolist() == [1.0] * 8


def test_a_notch_thickens_the_surface_by_26_neighbours_but_not_by_6():
    # A 5×5×5 cube less one corner voxel: of the inner 3×3×3 only (1, 1, 1) sees it, diagonally.
    notched = box((7, 7, 7), (1, 6), (1, 6), (1, 6))
    notched[1, 1, 1] = False
    inner = voxels((7, 7, 7), (2, 2, 2))
    by_six = surface_distances(notched, inner, (1, 1, 1), neighbours=6)
    by_all = surface_distances(notched, inner, (1, 1, 1), neighbours=26)
    assert (len(by_six.prediction_to_label), len(by_all.prediction_to_label)) == (97, 98)
    assert (by_six.label_to_prediction, by_all.label_to_prediction) == (1, 0)


@pytest.mark.parametrize("definition", ["pooled", "max_of_directed"])
def test_concentric_spheres_are_as_far_apart_as_their_radii(definition):
    found = hd95(sphere(24), sphere(17), (1.0, 0.8, 1.5), definition)
    assert found == pytest.approx(7, abs=volume_diagonal_mm((1, 1, 1), (1.0, 0.8, 1.5)) / 2)


def test_a_far_false_positive_counts_for_one_definition_and_not_for_the_other():
    # 8 voxels, 30 voxels of 2 mm above a plate of 100: 8/208 of all distances, 8/108 of one side.
    label = box((10, 10, 40), (0, 10), (0, 10), (2, 3))
    prediction = label | box((10, 10, 40), (0, 8), (0, 1), (32, 33))
    assert hd95(prediction, label, SPACING, "pooled") == 0
    assert hd95(prediction, label, SPACING, "max_of_directed") == 60
    assert surface_distances(prediction, label, SPACING).prediction_to_label.max() == 60


def test_the_percentile_runs_linearly_between_two_distances():
    # Of 21 distances the 95th percentile is the 20th, of 20 it lies 0.05 beyond the 19th.
    distances = SurfaceDistances(np.arange(21.0), np.arange(20.0))
    assert distances.hd95("max_of_directed") == 19
    assert SurfaceDistances(np.arange(10.0), np.arange(10.0, 20)).hd95() == pytest.approx(18.05)


def test_three_voxels_are_within_three_voxel_sides_whatever_the_rounding():
    prediction, label = voxels((1, 1, 9), (0, 0, 1)), voxels((1, 1, 9), (0, 0, 4))
    assert 3 * 1.1 > 3.3
    assert normalised_surface_dice(prediction, label, (1, 1, 1.1), 3.3) == 1


# --- masks without a voxel ---


def test_two_empty_masks_agree_perfectly():
    for empty in ("diagonal", "inf"):
        assert hd95(EMPTY, EMPTY, (1, 1, 1), empty=empty) == 0
    assert dice(EMPTY, EMPTY) == 1
    assert normalised_surface_dice(EMPTY, EMPTY, (1, 1, 1), 1) == 1
    assert not score(EMPTY, EMPTY, (1, 1, 1), tolerance_mm=1).missed


@pytest.mark.parametrize("definition", ["pooled", "max_of_directed"])
@pytest.mark.parametrize("predicted", [True, False], ids=["label empty", "prediction empty"])
def test_one_empty_mask_scores_nought_and_the_diagonal_of_the_whole_volume(predicted, definition):
    one = voxels(EMPTY.shape, (1, 1, 1))
    pair = (one, EMPTY) if predicted else (EMPTY, one)
    assert hd95(*pair, (1, 1, 1), definition) == 13
    assert hd95(*pair, (1, 1, 1), definition, empty="diagonal") == 13
    assert hd95(*pair, (1, 1, 1), definition, empty="inf") == math.inf
    assert hd95(*pair, (2, 2, 2), definition) == 26
    assert dice(*pair) == 0
    assert normalised_surface_dice(*pair, (1, 1, 1), 100) == 0


def test_distances_to_an_empty_mask_are_infinite_and_from_it_there_are_none():
    distances = surface_distances(voxels(EMPTY.shape, (1, 1, 1)), EMPTY, (1, 1, 1))
    assert distances.prediction_to_label.tolist() == [math.inf]
    assert distances.label_to_prediction.tolist() == []


def test_only_a_structure_that_the_label_has_can_be_missed():
    one = voxels(EMPTY.shape, (1, 1, 1))
    assert score(EMPTY, one, (1, 1, 1), tolerance_mm=1).missed is True
    assert score(one, EMPTY, (1, 1, 1), tolerance_mm=1).missed is False


# --- any masks at all ---


@st.composite
def pairs(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    spacing = draw(st.tuples(*[st.floats(0.1, 5)] * 3))
    return draw(arrays(bool, shape)), draw(arrays(bool, shape)), spacing


def distances_by_brute_force(prediction, label, spacing, neighbours):
    """All pairs of boundary voxels, straight from the definition."""
    steps = [s for s in product((-1, 0, 1), repeat=3) if any(s)]
    steps = [s for s in steps if neighbours == 26 or sum(map(abs, s)) == 1]
    surfaces = []
    for mask in (prediction, label):
        inside = set(zip(*np.nonzero(mask), strict=True))
        surfaces.append(
            [v for v in inside if any(tuple(np.add(v, step)) not in inside for step in steps)]
        )
    far = [
        [
            math.hypot(*((a - b) * s for a, b, s in zip(p, q, spacing, strict=True)))
            for p in surfaces[0]
        ]
        for q in surfaces[1]
    ]
    to_label = [min(column) for column in zip(*far, strict=True)] or [math.inf] * len(surfaces[0])
    to_prediction = [min(row, default=math.inf) for row in far]
    return sorted(to_label), sorted(to_prediction)


@settings(max_examples=150)
@given(pairs(), st.sampled_from([6, 26]))
def test_every_distance_is_that_of_brute_force(pair, neighbours):
    found = surface_distances(*pair, neighbours=neighbours)
    to_label, to_prediction = distances_by_brute_force(*pair, neighbours)
    np.testing.assert_allclose(np.sort(found.prediction_to_label), to_label, rtol=1e-12)
    np.testing.assert_allclose(np.sort(found.label_to_prediction), to_prediction, rtol=1e-12)


@settings(max_examples=60)
@given(pairs(), st.sampled_from(["pooled", "max_of_directed"]))
def test_scores_do_not_care_which_mask_is_the_label(pair, definition):
    prediction, label, spacing = pair
    for measure in (
        lambda a, b: dice(a, b),
        lambda a, b: hd95(a, b, spacing, definition),
        lambda a, b: normalised_surface_dice(a, b, spacing, 1.5),
    ):
        assert measure(prediction, label) == measure(label, prediction)


@settings(max_examples=60)
@given(pairs())
def test_scores_are_finite_and_no_distance_exceeds_the_diagonal(pair):
    found = score(*pair, tolerance_mm=1)
    assert 0 <= found.dice <= 1
    assert 0 <= found.nsd <= 1
    assert 0 <= found.hd95_mm <= volume_diagonal_mm(pair[0].shape, pair[2])


@settings(max_examples=60)
@given(pairs(), st.permutations(range(3)))
def test_distances_do_not_depend_on_the_order_of_axes_in_memory_or_on_more_background(pair, order):
    prediction, label, spacing = pair
    expected = surface_distances(prediction, label, spacing)
    turned = [np.pad(mask, 3).transpose(order)[::-1] for mask in (prediction, label)]
    found = surface_distances(*turned, [spacing[axis] for axis in order])
    for one, other in zip(vars(found).values(), vars(expected).values(), strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other), rtol=1e-12)


@settings(max_examples=30)
@given(pairs())
def test_a_mask_agrees_perfectly_with_itself(pair):
    found = score(pair[0], pair[0].copy(order="F"), pair[2], tolerance_mm=0)
    assert (found.dice, found.hd95_mm, found.nsd, found.missed) == (1, 0, 1, False)


def test_one_score_is_all_the_functions_together():
    prediction, label = blobs(seed=0)
    found = score(
        prediction, label, SPACING, tolerance_mm=1, definition="max_of_directed", neighbours=26
    )
    assert found.dice == dice(prediction, label)
    assert found.hd95_mm == hd95(prediction, label, SPACING, "max_of_directed", neighbours=26)
    assert found.nsd == normalised_surface_dice(prediction, label, SPACING, 1, neighbours=26)
    assert found.prediction_mm3 == pytest.approx(prediction.sum() * 2)
    assert found.label_mm3 == pytest.approx(label.sum() * 2)


# --- what others compute ---


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("seed", range(5))
def test_the_larger_directed_percentile_is_the_hausdorff_distance_of_monai(seed):
    prediction, label = blobs(seed)
    theirs = compute_hausdorff_distance(
        as_batch(prediction), as_batch(label), True, percentile=95, spacing=SPACING
    )
    ours = hd95(prediction, label, SPACING, "max_of_directed")
    assert ours > 0
    assert ours == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.filterwarnings("ignore::FutureWarning:monai")
@pytest.mark.parametrize("tolerance_mm", [0.0, 0.9, 1.3, 3.1])
def test_the_normalised_surface_dice_is_that_of_monai(tolerance_mm):
    prediction, label = blobs(seed=5)
    theirs = compute_surface_dice(
        as_batch(prediction), as_batch(label), [tolerance_mm], True, spacing=SPACING
    )
    ours = normalised_surface_dice(prediction, label, SPACING, tolerance_mm)
    assert 0 < ours < 1
    assert ours == pytest.approx(theirs.item(), rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_pooled_distances_of_26_neighbours_are_those_of_seg_metrics(seed):
    # seg-metrics 1.2.8 reads a distance map of ITK at the contours that ITK finds.
    prediction, label = blobs(seed)
    images = [sitk.GetImageFromArray(mask.T.astype(np.uint8)) for mask in (prediction, label)]
    for image in images:
        image.SetSpacing(SPACING)
    surfaces, maps = (
        [sitk.GetArrayFromImage(make(image)) for image in images]
        for make in (
            lambda image: sitk.LabelContour(image, fullyConnected=True),
            lambda image: sitk.Abs(
                sitk.SignedMaurerDistanceMap(image, squaredDistance=False, useImageSpacing=True)
            ),
        )
    )
    theirs = np.concatenate([maps[1][surfaces[0] > 0], maps[0][surfaces[1] > 0]])
    found = surface_distances(prediction, label, SPACING, neighbours=26)
    ours = np.concatenate([found.prediction_to_label, found.label_to_prediction])
    np.testing.assert_allclose(np.sort(ours), np.sort(theirs), atol=1e-5)  # ITK's are float32
    assert found.hd95() == pytest.approx(np.percentile(theirs, 95), rel=1e-6)


# --- means over batches ---


def label_maps(seed, subjects=3):
    """Predictions and labels of two structures; the second is missing from some of them."""
    random = np.random.default_rng(seed)
    volumes = random.integers(0, 3, size=(2, subjects, 6, 5, 4))
    volumes[0, 0][volumes[0, 0] == 2] = 0
    volumes[:, 1][volumes[:, 1] == 2] = 0
    return volumes


def one_by_one(volumes, measure):
    """The scores (subjects, 2) of the plain function."""
    return np.array(
        [[measure(p == k, m == k) for k in (1, 2)] for p, m in zip(*volumes, strict=True)]
    )


MEANS = [
    pytest.param(MeanDice, dice, (), id="dice"),
    pytest.param(MeanHD95, lambda p, m: hd95(p, m, SPACING), (SPACING,), id="hd95"),
]


@pytest.mark.parametrize(("mean", "measure", "spacing"), MEANS)
def test_a_mean_is_that_of_the_plain_function_over_subjects_and_structures(mean, measure, spacing):
    volumes = label_maps(seed=0)
    expected = one_by_one(volumes, measure)
    overall, apart = mean(structures=2), mean(structures=2, per_structure=True)
    for metric in (overall, apart):
        metric.update(*torch.from_numpy(volumes), *spacing)
    assert overall.compute().item() == pytest.approx(expected.mean(), rel=1e-6)
    assert apart.compute().tolist() == pytest.approx(expected.mean(axis=0), rel=1e-6)


@pytest.mark.parametrize(("mean", "measure", "spacing"), MEANS)
def test_masks_give_what_label_maps_give(mean, measure, spacing):
    volumes = torch.from_numpy(label_maps(seed=1))
    masks = torch.stack([volumes == 1, volumes == 2], dim=2)
    from_maps, from_masks = mean(structures=2), mean(structures=2)
    from_maps.update(*volumes, *spacing)
    from_masks.update(*masks, *spacing)
    assert from_maps.compute() == from_masks.compute()


@pytest.mark.parametrize(("mean", "measure", "spacing"), MEANS)
def test_unequal_batches_weigh_by_their_subjects_and_a_reset_forgets_them(mean, measure, spacing):
    first, second = label_maps(seed=2, subjects=3), label_maps(seed=3, subjects=2)
    metric = mean(structures=2)
    metric.update(*torch.from_numpy(second), *spacing)
    metric.reset()
    for volumes in (first, second):
        metric.update(*torch.from_numpy(volumes), *spacing)
    expected = one_by_one(np.concatenate([first, second], axis=1), measure).mean()
    assert metric.compute().item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("mean", "measure", "spacing"), MEANS)
def test_a_mean_goes_on_where_its_saved_state_ended(mean, measure, spacing):
    first, second = (torch.from_numpy(label_maps(seed)) for seed in (4, 5))
    whole, begun, resumed = (mean(structures=2) for _ in range(3))
    begun.persistent(True)
    begun.update(*first, *spacing)
    resumed.load_state_dict(begun.state_dict())
    resumed.update(*second, *spacing)
    for part in (first, second):
        whole.update(*part, *spacing)
    assert resumed.compute() == whole.compute()


@pytest.mark.parametrize(("mean", "measure", "spacing"), MEANS)
def test_processes_add_their_sums(mean, measure, spacing):
    metric = mean(structures=2)
    metric.update(*torch.from_numpy(label_maps(seed=6)), *spacing)
    alone = metric.compute()
    metric.sync(lambda state, group: [state, state], distributed_available=lambda: True)
    assert metric.subjects == 6
    assert metric.total.sum().item() / 12 == pytest.approx(alone.item(), rel=1e-6)


def test_subjects_may_differ_in_their_spacing():
    label = torch.zeros(2, 9, 3, 3, dtype=torch.long)
    label[:, 1, 1, 1] = 1
    metric = MeanHD95(structures=1)
    metric.update(label.roll(4, dims=1), label, torch.tensor([[1.0, 1, 1], [2.0, 1, 1]]))
    assert metric.compute() == (4 + 8) / 2


def test_a_step_returns_its_own_batch_and_still_counts_for_the_epoch():
    volumes = torch.from_numpy(label_maps(seed=7))
    metric, batch = MeanDice(structures=2), MeanDice(structures=2)
    batch.update(*volumes)
    assert metric(*volumes) == batch.compute()
    metric(volumes[1], volumes[1])
    assert metric.compute().item() == pytest.approx((batch.compute().item() + 1) / 2, rel=1e-6)


# --- wrong arguments ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prediction": np.zeros((3, 4, 11), dtype=bool)}, r"shape 3×4×11 but label 3×4×12"),
        ({"label": np.zeros((3, 4), dtype=bool)}, r"label is bool of shape 3×4; give .* X×Y×Z"),
        ({"label": np.ones((3, 4, 12), dtype=np.uint8)}, r"label is uint8 .* such as volume == 1"),
        ({"spacing_mm": (1, 1)}, r"spacing_mm is \(1, 1\)"),
        ({"spacing_mm": (1, 0, 1)}, r"all > 0"),
        ({"spacing_mm": (1, 1, math.nan)}, r"all > 0"),
        ({"tolerance_mm": -1}, r"tolerance_mm is -1"),
        ({"definition": "directed"}, r"'directed'; choose 'pooled' or 'max_of_directed'"),
        ({"empty": "nan"}, r"'nan'; choose 'diagonal' or 'inf'"),
        ({"neighbours": 18}, r"neighbours is 18; choose 6 or 26"),
    ],
)
def test_a_wrong_argument_is_refused_by_name(change, message):
    right = {"prediction": EMPTY, "label": EMPTY, "spacing_mm": (1, 1, 1), "tolerance_mm": 1}
    score(**right)
    with pytest.raises(ValueError, match=message):
        score(**right | change)


@pytest.mark.parametrize(
    ("volume", "message"),
    [
        (torch.zeros(1, 3, 3, 3), "prediction is torch.float32 of shape 1×3×3×3"),
        (torch.zeros(1, 3, 3, 3, 3, dtype=torch.bool), "give boolean masks B×2×X×Y×Z"),
        (torch.zeros(1, 3, 3, 3, dtype=torch.bool), "label maps B×X×Y×Z of integers"),
        (torch.zeros(2, 3, 3, 3, dtype=torch.long), "shape 2×3×3×3 but label 1×3×3×3"),
    ],
)
def test_a_mean_refuses_what_is_neither_masks_nor_label_maps(volume, message):
    with pytest.raises(ValueError, match=message):
        MeanDice(structures=2).update(volume, torch.zeros(1, 3, 3, 3, dtype=torch.long))


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(metrics).failed == 0
