"""Pictures of single cases, whatever the shape of their volume; and those that cannot be made."""

import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from fdseg.report.optional import optional
from fdseg.report.overlay import contours, overlay


@pytest.mark.parametrize(
    "shape", [(1, 20, 24), (24, 1, 20), (24, 20, 1), (24, 1, 1), (1, 1, 1), (1, 300, 200)]
)
def test_a_volume_one_voxel_wide_has_a_picture_of_a_bounded_size(shape, tmp_path):
    image = np.random.default_rng(0).random(shape, np.float32)
    label = np.zeros(shape, np.uint8)
    label[tuple(slice(n // 4, -(-n // 2)) for n in shape)] = 1
    overlay(
        tmp_path / "x.png", image=image, prediction=label, label=label, bands={"low": image},
        spacing_mm=(1, 1.5, 2), structures=["ball"], title="x",
    )  # fmt: skip
    picture = imread(tmp_path / "x.png")
    assert max(picture.shape) < 3500
    assert picture[..., :3].std() > 0.01


@pytest.mark.parametrize(("shape", "lines"), [((4, 5), 1), ((4, 1), 0), ((1, 5), 0), ((1, 1), 0)])
def test_a_plane_has_outlines_unless_it_is_one_voxel_wide(shape, lines):
    cut = np.zeros(shape, np.uint8)
    cut[0, 0] = 1
    axis = Figure().subplots()
    contours(axis, cut, structures=2)
    assert len(axis.collections) == lines


def test_a_picture_that_fails_is_one_warning_with_its_file_and_the_reason(tmp_path):
    message = r"x\.png: this picture could not be made \(ValueError: too large\)\. All else is"
    with pytest.warns(UserWarning, match=message) as caught, optional(tmp_path / "x.png"):
        raise ValueError("too large.\nmore")
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_an_interruption_is_not_a_picture_that_fails(tmp_path):
    with pytest.raises(KeyboardInterrupt), optional(tmp_path / "x.png"):
        raise KeyboardInterrupt
    with warnings.catch_warnings(action="error"), optional(tmp_path / "x.png"):
        pass
