"""Predictions beside their labels: found by name, compared on the label's grid."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from fdseg.data.cases import volume_name, volumes
from fdseg.data.nifti import Volume, grid_difference, open_volume, read_label
from fdseg.data.problems import Problem, raise_all
from fdseg.errors import FdsegError
from fdseg.progress import progress

_NAMES = "prediction", "label"
_REMEDY = "Mend the file, or take it out of its folder."


@dataclass(frozen=True)
class Pair:
    """A predicted label map and its label, NIfTI files of one name."""

    name: str
    prediction: Path
    label: Path

    def read(self) -> tuple[Volume, Volume]:
        """Prediction and label on one grid; a prediction on another is resampled to the label's.

        Raises:
            FdsegError: a file is broken, or holds other than whole numbers from 0.
        """
        prediction, label = read_label(self.prediction), read_label(self.label)
        if grid_difference(prediction, label, _NAMES):
            prediction = resampled(prediction, label)
        return prediction, label


@dataclass(frozen=True)
class Pairs:
    """The pairs of two folders, and the names that only one of them has."""

    pairs: tuple[Pair, ...]
    without_prediction: tuple[str, ...]
    without_label: tuple[str, ...]

    def read(self, title: str) -> Iterator[tuple[Pair, Volume, Volume]]:
        """Each pair with its prediction and its label on one grid, under a progress bar.

        Raises:
            FdsegError: after the last pair, which files are broken or no label maps.
        """
        problems = []
        for pair in progress(self.pairs, title, "case"):
            try:
                prediction, label = pair.read()
            except FdsegError as error:
                problems.append(Problem(pair.name, str(error), _REMEDY))
            else:
                yield pair, prediction, label
        raise_all(problems, f"{len(problems)} of {len(self.pairs)} pairs cannot be read:")


def find_pairs(predictions: Path, labels: Path) -> Pairs:
    """Pair the label maps of two folders by their names, ``.nii`` and ``.nii.gz`` aside.

    Raises:
        FdsegError: a folder is missing, holds a name twice, or the two have no name in common.
    """
    predicted, labelled = find_maps(predictions, "predictions"), find_maps(labels, "labels")
    names = sorted(predicted.keys() & labelled.keys())
    if not names:
        examples = [next(iter(sorted(maps)), "nothing") for maps in (predicted, labelled)]
        raise FdsegError(
            f"{predictions} and {labels} have no file name in common ({examples[0]} there, "
            f"{examples[1]} here, for example). Name each prediction as its label."
        )
    return Pairs(
        tuple(Pair(name, predicted[name], labelled[name]) for name in names),
        tuple(sorted(labelled.keys() - predicted.keys())),
        tuple(sorted(predicted.keys() - labelled.keys())),
    )


def require_same_grid(pairs: Pairs) -> None:
    """Refuse predictions on another grid than their label's, all at once; no voxel is read.

    Raises:
        FdsegError: grids differ, or a header is broken.
    """
    problems = []
    for pair in pairs.pairs:
        try:
            heads = open_volume(pair.prediction), open_volume(pair.label)
            difference = grid_difference(*heads, _NAMES)
        except FdsegError as error:
            problems.append(Problem(pair.name, str(error), _REMEDY))
            continue
        if difference:
            problems.append(
                Problem(
                    pair.name,
                    f"{difference} ({pair.prediction}, {pair.label}).",
                    "Bring the prediction to its volume's own grid, or give resample=true to take "
                    "the nearest voxel.",
                )
            )
    raise_all(problems, f"{len(problems)} of {len(pairs.pairs)} predictions cannot be compared:")


def resampled(volume: Volume, like: Volume) -> Volume:
    """A label map on the grid of another: the value of the nearest voxel, 0 beyond the volume."""
    to_source = np.linalg.inv(volume.affine) @ like.affine
    data = ndimage.affine_transform(
        volume.data,
        to_source[:3, :3],
        to_source[:3, 3],
        like.data.shape,
        order=0,
        mode="grid-constant",  # half a voxel beyond the outermost centres belongs to the volume
    )
    return Volume(data, like.affine)


def find_maps(folder: Path, key: str) -> dict[str, Path]:
    """The label maps of a folder, by their names without ending.

    Raises:
        FdsegError: there is no such folder, or it holds a name twice; names the key.
    """
    if not folder.is_dir():
        raise FdsegError(f"{key}={folder}: no such folder. Give a folder of NIfTI label maps.")
    maps: dict[str, Path] = {}
    for path in volumes(folder):
        other = maps.setdefault(volume_name(path), path)
        if other != path:
            raise FdsegError(
                f"{key}={folder}: {other.name} and {path.name} are of one name. Keep one of them."
            )
    return maps
