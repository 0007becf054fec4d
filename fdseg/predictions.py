"""Predictions of volumes as files: label maps, and where wanted probabilities and pictures."""

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fdseg.data.cache import number
from fdseg.data.cases import volume_name
from fdseg.data.labels import label_map
from fdseg.data.nifti import open_volume, read_volume, times, write_label
from fdseg.data.preprocess import Geometry, unusable
from fdseg.errors import FdsegError
from fdseg.inference import Predictor
from fdseg.memory import used_gb
from fdseg.originals import refuse_originals
from fdseg.report.overlay import overlay
from fdseg.runs import write_json, written_whole

# Float32 copies of a volume alive at once while TorchIO brings it to the grid; 5 were measured.
_COPIES = 6


def find_volumes(path: Path) -> dict[str, Path]:
    """The NIfTI files that a path stands for, by their names without ending.

    Raises:
        FdsegError: there is none, or two have the same name.
    """
    if path.is_dir():
        files = sorted(p for p in path.iterdir() if p.name.endswith((".nii", ".nii.gz")))
        files = [p for p in files if not p.name.startswith(".")]  # macOS leaves ._x.nii.gz
    else:
        files = [path] if path.is_file() else []
    if not files:
        what = "no .nii or .nii.gz file in this folder" if path.is_dir() else "no such file"
        raise FdsegError(f"{path}: {what}. input=… is a volume, or a folder that holds volumes.")
    volumes: dict[str, Path] = {}
    for file in files:
        twin = volumes.setdefault(volume_name(file), file)
        if twin != file:
            raise FdsegError(
                f"{file}: {twin.name} beside it would have the same prediction's name."
            )
    return volumes


@dataclass(frozen=True)
class Predictions:
    """A folder of predictions.

    Attributes:
        folder: holds ``NAME.nii.gz``, label maps in the geometry of their volumes and the label
            files' own values; ``NAME_probabilities.npz``, one float16 array per structure; and
            ``NAME.png``.
        predictor: makes them.
        probabilities: whether to write them.
        overlays: whether to write pictures.
    """

    folder: Path
    predictor: Predictor
    probabilities: bool
    overlays: bool

    def begin(self, volumes: Mapping[str, Path], overwrite: bool) -> list[Path]:
        """The volumes that have no prediction yet, or all of them.

        Raises:
            FdsegError: the folder holds the volumes themselves, predictions of other runs, or
                cannot be written.
        """
        folder, paths = self.folder.resolve(), volumes.values()
        if any(folder in (path.parent.resolve(), path.resolve().parent) for path in paths):
            raise FdsegError(
                f"output={self.folder}: holds the volumes themselves, which their predictions "
                "would replace. Choose another folder."
            )
        refuse_originals((file for name in volumes for file in self._files(name).values()), paths)
        record, facts = self.folder / "prediction.json", self._facts()
        try:
            before = json.loads(record.read_text())
        except (OSError, ValueError):
            before = None
        if before not in (None, facts) and not overwrite:
            raise FdsegError(
                f"output={self.folder}: holds predictions of other runs or options (see "
                f"{record.name}). Choose another folder, or replace them with overwrite=true."
            )
        try:
            write_json(record, facts)
        except OSError as error:
            raise FdsegError(
                f"output={self.folder}: cannot be written ({error.strerror})."
            ) from None
        return [
            path
            for name, path in volumes.items()
            if overwrite or not all(file.is_file() for file in self._files(name).values())
        ]

    def write(self, path: Path) -> None:
        """Predict a volume and write its files, the label map last.

        Raises:
            FdsegError: the volume cannot be read or used, or is too large for the budget; or the
                network's probabilities are not finite.
            OSError: a file cannot be written.
        """
        first, files = self.predictor.trained[0], self._files(volume_name(path))
        probabilities, geometry = self._predict(path)
        values = list(first.structures.values())
        labels = label_map(probabilities, first.preprocessing, geometry, values)
        if "probabilities" in files:
            self._write_probabilities(files["probabilities"], probabilities, geometry)
        if "overlay" in files:
            self._write_overlay(files["overlay"], path, labels, geometry)
        write_label(files["labels"], labels, like=path)

    def _predict(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """Probabilities on the network's grid; the volume itself is gone when they are made."""
        shape = open_volume(path).shape[:3]
        needed = used_gb() + _COPIES * 4 * float(np.prod(shape)) / 1e9
        if needed > self.predictor.memory_gb:
            raise FdsegError(
                f"{path}: {times(shape)} voxels take about {needed:.1f} GB, more than "
                f"memory_gb={self.predictor.memory_gb:.1f}."
            )
        volume = read_volume(path)
        if found := unusable(volume.data):
            raise FdsegError(f"{path}: {found[0]}. {found[1]}.")
        image, _, geometry = self.predictor.trained[0].preprocessing(volume)
        del volume
        return self.predictor(image, str(path)), geometry

    def _write_probabilities(
        self, file: Path, probabilities: np.ndarray, geometry: Geometry
    ) -> None:
        first = self.predictor.trained[0]
        with (
            written_whole(file) as partial,
            zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive,
        ):  # np.savez would hold all structures at once
            for structure, channel in zip(first.structures, probabilities, strict=True):
                native = first.preprocessing.restore(channel[None], geometry, dtype=np.float16)
                with archive.open(f"{structure}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, native[0])

    def _write_overlay(
        self, file: Path, path: Path, labels: np.ndarray, geometry: Geometry
    ) -> None:
        first = self.predictor.trained[0]
        overlay(
            file,
            image=geometry.canonical(read_volume(path).data),
            prediction=geometry.canonical(number(labels, first.structures)),
            spacing_mm=geometry.canonical_spacing,
            structures=list(first.structures),
            title=f"{volume_name(path)}: {first.task}{' PHANTOM' * first.is_phantom}",
        )

    def _files(self, name: str) -> dict[str, Path]:
        files = {"labels": self.folder / f"{name}.nii.gz"}
        if self.probabilities:
            files["probabilities"] = self.folder / f"{name}_probabilities.npz"
        if self.overlays:
            files["overlay"] = self.folder / f"{name}.png"
        return files

    def _facts(self) -> dict[str, Any]:
        """What decides the labels, to tell predictions of other runs."""
        trained = self.predictor.trained
        return {
            "task": trained[0].task,
            "structures": trained[0].structures,
            "runs": {run.digest: f"{run.folder.name}, {run.checkpoint}" for run in trained},
            "flips": len(self.predictor.flips) > 1,
            "window": list(self.predictor.window or []),
        }
