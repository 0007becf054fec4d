"""Predictions of volumes as files: label maps, and where wanted probabilities and pictures."""

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fdseg.data.cache import number
from fdseg.data.cases import volume_name, volumes
from fdseg.data.labels import label_map
from fdseg.data.nifti import open_volume, read_volume, times, write_label
from fdseg.data.nnunet import split_name
from fdseg.data.preprocess import Geometry, unusable
from fdseg.data.problems import listed
from fdseg.errors import FdsegError
from fdseg.inference import Predictor
from fdseg.memory import used_gb
from fdseg.originals import refuse_originals
from fdseg.records import OtherRunsError, Records, State, stamp
from fdseg.report.optional import optional
from fdseg.report.overlay import overlay
from fdseg.runs import written_whole

# Float32 copies of a volume alive at once while TorchIO brings it to the grid; 5 were measured.
_COPIES = 6


def find_files(paths: Sequence[Path]) -> list[Path]:
    """Return the NIfTI files that paths stand for, each a file or a folder.

    Raises:
        FdsegError: there is none.
    """
    return list(dict.fromkeys(file for path in paths for file in _find_files(path)))


def _find_files(path: Path) -> list[Path]:
    files = volumes(path) if path.is_dir() else [path] * path.is_file()
    if not files:
        what = "no .nii or .nii.gz file in this folder" if path.is_dir() else "no such file"
        raise FdsegError(f"{path}: {what}. input=… is a volume, or a folder that holds volumes.")
    return files


def name_volumes(files: Sequence[Path], channel: int | None = None) -> dict[str, Path]:
    """Return volumes by the names that their predictions get.

    Args:
        files: of the volumes.
        channel: for runs that were trained on one of nnU-Net's: of files ``NAME_<channel>`` those
            of this channel are volumes, and called NAME; the others are left out.

    Raises:
        FdsegError: two have the same name, or one lacks the channel.
    """
    named: dict[str, Path] = {}
    lacking: dict[str, Path] = {}
    for file in files:
        name, number = (volume_name(file), None) if channel is None else split_name(file)
        if number not in (None, channel):
            lacking[name] = file
            continue
        twin = named.setdefault(name, file)
        if twin != file:
            raise FdsegError(
                f"{file}: {twin} would have a prediction of the same name, {name}.nii.gz."
            )
    if names := sorted(lacking.keys() - named.keys()):
        raise FdsegError(
            f"{lacking[names[0]]}: the run was trained on channel {channel:04}, which is missing "
            f"({listed([f'{n}_{channel:04}' for n in names])}). Add the files; or rename those "
            "there are, if _ and four digits at their end stand for no channel."
        )
    return named


@dataclass(frozen=True)
class Predictions:
    """A folder of predictions.

    Attributes:
        folder: holds ``NAME.nii.gz``, label maps in the geometry of their volumes and the label
            files' own values; ``NAME_probabilities.npz``, one float16 array per structure;
            ``NAME.png``; and what :class:`fdseg.records.Records` writes of them.
        predictor: makes them.
        probabilities: whether to write them.
        overlays: whether to write pictures.
    """

    folder: Path
    predictor: Predictor
    probabilities: bool
    overlays: bool

    def begin(self, volumes: Mapping[str, Path], overwrite: bool) -> dict[str, Path]:
        """Return the volumes without a whole prediction by these runs and options, or all of them.

        What does not count any more, such as predictions of other runs, is removed before anything
        is predicted, so that the folder never holds a mixture.

        Args:
            volumes: files by their names.
            overwrite: replace predictions of other runs, and predict again what is there.

        Raises:
            FdsegError: the folder holds the volumes themselves, files of another origin, or
                predictions of other runs or volumes that may not be replaced; or it cannot be
                written. Then nothing is removed.
        """
        self._refuse_others(volumes)
        states = {name: self.records.state(name, self._kinds, volumes[name]) for name in volumes}
        self._refuse_mixture(states, overwrite)
        try:
            for name, state in states.items():
                if state not in ("done", "missing"):
                    self.records.forget(name)
            self.records.claim()
        except OSError as error:
            raise FdsegError(
                f"output={self.folder}: cannot be written ({error.strerror})."
            ) from None
        return {name: volumes[name] for name in volumes if overwrite or states[name] != "done"}

    def _refuse_others(self, volumes: Mapping[str, Path]) -> None:
        """Refuse a folder of volumes, or one where files of others would be replaced."""
        folder, paths = self.folder.resolve(), volumes.values()
        if any(folder in (path.parent.resolve(), path.resolve().parent) for path in paths):
            raise FdsegError(
                f"output={self.folder}: holds the volumes themselves, which their predictions "
                "would replace. Choose another folder."
            )
        refuse_originals((f for name in volumes for f in self.records.files(name).values()), paths)
        foreign = [self.records.path] * self.records.is_foreign()
        foreign += [file for name in volumes for file in self.records.foreign(name, self._kinds)]
        if foreign:
            raise FdsegError(
                f"output={self.folder}: holds files that fdseg.predict did not write, or that were "
                f"changed since ({listed([file.name for file in foreign])}). They are never "
                "replaced. Choose another folder, or move them away."
            )

    def _refuse_mixture(self, states: Mapping[str, State], overwrite: bool) -> None:
        """Refuse predictions of others, unless they are to be replaced and none of them is left."""
        others = self.records.of_other_runs()
        if others and not overwrite:
            raise OtherRunsError(
                f"output={self.folder}: holds predictions of other runs or options (see "
                f"{self.records.path.name}). Choose another folder, or replace them with "
                "overwrite=true."
            )
        if left := sorted(others - states.keys()):
            raise OtherRunsError(
                f"output={self.folder}: holds predictions of other runs or options, also of "
                f"volumes that input does not name ({listed(left)}), which would stay among the "
                "new ones. Choose another folder, or move them away."
            )
        elsewhere = [name for name, state in states.items() if state == "other volume"]
        if elsewhere and not overwrite:
            raise FdsegError(
                f"output={self.folder}: holds predictions of other volumes of the same names "
                f"({listed(elsewhere)}). Choose another folder, or replace them with "
                "overwrite=true."
            )

    def write(self, name: str, path: Path) -> None:
        """Predict a volume and write its files, the label map last.

        Raises:
            OtherRunsError: another process writes predictions of other runs here now.
            FdsegError: the volume cannot be read or used, or is too large for the budget; or the
                network's probabilities are not finite.
            OSError: a file cannot be written.
        """
        self._require_room(path)
        volume = {"file": str(path.resolve()), **stamp(path, with_times=True)}
        probabilities, geometry = self._predict(path)
        first = self.predictor.trained[0]
        values = list(first.structures.values())
        labels = label_map(probabilities, first.preprocessing, geometry, values)
        with self.records.draft() as draft:
            files = {kind: draft / file.name for kind, file in self.records.files(name).items()}
            if self.probabilities:
                self._write_probabilities(files["probabilities"], probabilities, geometry)
            if self.overlays:
                with optional(self.folder / files["overlay"].name):
                    self._write_overlay(files["overlay"], path, labels, geometry)
            write_label(files["labels"], labels, like=path)
            self.records.publish(name, volume, draft)

    def _require_room(self, path: Path) -> None:
        """Refuse a volume that is too large, by its header."""
        shape = open_volume(path).shape[:3]
        needed = used_gb() + _COPIES * 4 * float(np.prod(shape)) / 1e9
        if needed > self.predictor.memory_gb:
            raise FdsegError(
                f"{path}: {times(shape)} voxels take about {needed:.1f} GB, more than "
                f"memory_gb={self.predictor.memory_gb:.1f}."
            )

    def _predict(self, path: Path) -> tuple[np.ndarray, Geometry]:
        """Probabilities on the network's grid; the volume itself is gone when they are made."""
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
            title=f"{file.stem}: {first.task}{' PHANTOM' * first.is_phantom}",
        )

    @property
    def _kinds(self) -> list[str]:
        """The files that are wanted of each volume."""
        wanted = {"labels": True, "probabilities": self.probabilities, "overlay": self.overlays}
        return [kind for kind, is_wanted in wanted.items() if is_wanted]

    @cached_property
    def records(self) -> Records:
        """By what the files of the folder were made."""
        return Records(self.folder, self._facts())

    def _facts(self) -> dict[str, Any]:
        """Return what decides the labels, to tell predictions of other runs."""
        trained = self.predictor.trained
        return {
            "task": trained[0].task,
            "structures": trained[0].structures,
            "runs": {run.digest: f"{run.folder.name}, {run.checkpoint}" for run in trained},
            "flips": len(self.predictor.flips) > 1,
            "window": list(self.predictor.window or []),
        }
