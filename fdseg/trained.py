"""Trained runs, read from their folders: the network, and how volumes come to it."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fdseg import runs
from fdseg.data.header import MAX_VOXELS
from fdseg.data.memory import available
from fdseg.data.nifti import times
from fdseg.data.preprocess import Preprocessing
from fdseg.errors import FdsegError
from fdseg.networks import SegmentationNetwork
from fdseg.networks.disentangled import padded_length, require_size
from fdseg.safety import build, outline, read_config, read_weights

# Lightning's words for what autocast computes in; anything else is computed in float32.
_AUTOCAST = {
    **dict.fromkeys(("bf16-mixed", "bf16"), torch.bfloat16),
    **dict.fromkeys(("16-mixed", "16"), torch.float16),
}

_MAKING = 32  # bytes at the most, for each that a split keeps of its grid; the random mask's


@dataclass(frozen=True)
class TrainedRun:
    """What is needed of a run to segment a volume.

    Attributes:
        folder: of the run.
        task: its name.
        is_phantom: whether it was trained on synthetic data.
        structures: name of each structure and its value in label files.
        channel: of nnU-Net's files, by whose volumes it was trained; ``None`` for other cohorts.
        preprocessing: to the network's grid.
        network: in evaluation mode, with the weights of the checkpoint.
        autocast: the precision of its training and test; ``None`` stands for float32.
        saw_flips: whether its training mirrored volumes.
        checkpoint: best or last.
        digest: of the checkpoint's content.
    """

    folder: Path
    task: str
    is_phantom: bool
    structures: dict[str, int]
    channel: int | None
    preprocessing: Preprocessing
    network: SegmentationNetwork
    autocast: torch.dtype | None
    saw_flips: bool
    checkpoint: str
    digest: str

    @torch.inference_mode()
    def probabilities(self, image: Tensor) -> Tensor:
        """Probabilities ``[1, structures, X, Y, Z]``, float32, of a volume ``[1, 1, X, Y, Z]``."""
        with torch.autocast(image.device.type, self.autocast, enabled=self.autocast is not None):
            return self.network(image).float().sigmoid()


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """The folders of runs that paths stand for: a run's own, or all finished ones below a folder.

    Raises:
        FdsegError: there is none.
    """
    folders: list[Path] = []
    for path in paths:
        if (path / "config.yaml").is_file():
            folders.append(path)
            continue
        ended = sorted(_folders_with(runs.RESULT, path))
        finished = [folder for folder in ended if runs.read_result(folder)]
        if not finished:
            begun = len(_folders_with("config.yaml", path))
            there = f"{begun} below it, not finished" if path.is_dir() else "no such folder"
            there += "".join(f"; {f}: {runs.result_fault(f)}" for f in ended[:1])
            raise FdsegError(
                f"{path}: no finished run ({there}). run=… is the folder of a run, which holds "
                "config.yaml, or one above finished runs."
            )
        folders += finished
    return list(dict.fromkeys(folder.resolve() for folder in folders))


def _folders_with(name: str, path: Path) -> list[Path]:
    """All below a folder that hold a file; what other runs remove meanwhile is passed over."""
    return [Path(folder) for folder, _, files in os.walk(path) if name in files]


def read_runs(
    paths: Sequence[Path], *, checkpoint: str | None = None, trust: Sequence[str] = ()
) -> list[TrainedRun]:
    """Read the runs that paths stand for, see :func:`find_runs`, and :func:`read_run`.

    Raises:
        FdsegError: there is none, one cannot be trusted, or they do not agree.
    """
    trained = [read_run(f, checkpoint=checkpoint, trust=trust) for f in find_runs(paths)]
    require_agreement(trained)
    return trained


def read_run(
    folder: Path, *, checkpoint: str | None = None, trust: Sequence[str] = ()
) -> TrainedRun:
    """Read a run and refuse what fdseg did not write; see :mod:`fdseg.safety`.

    Args:
        folder: of the run.
        checkpoint: best or last; ``None`` is the one that the run tested.
        trust: further packages, or full names, that the network's parts may come from.

    Raises:
        FdsegError: a file is missing, broken or forged; or the files do not belong together.
    """
    path = folder / "config.yaml"
    config = read_config(path, trust)
    try:
        data, node = config["data"], dict(config["network"])
        structures, size = dict(data["structures"]), tuple(data["size"])
        checkpoint = checkpoint or str(config["checkpoint"])
        preprocessing = Preprocessing(size, data["reshape"])
        task, is_phantom = str(data["name"]), data["root"] is None
        channel = dict(data["cohort"]).get("channel")
        precision = str(config["trainer"]["precision"])
    except (KeyError, TypeError, ValueError) as error:
        raise FdsegError(f"{path}: not the configuration of a run ({error!r}).") from None
    if checkpoint not in ("best", "last"):
        raise FdsegError(f"checkpoint={checkpoint}: expected best or last.")
    if channel is not None and not (channel == 0 or _is_whole(channel, 9999)):
        raise FdsegError(f"{path}: data.cohort.channel={channel} is no number of a channel.")
    values = list(structures.values())
    if not values or not all(_is_whole(v, 32767) for v in values) or len(values) > len({*values}):
        raise FdsegError(f"{path}: data.structures={structures} has no value for each structure.")
    file = folder / "checkpoints" / f"{checkpoint}.ckpt"
    weights = read_weights(file)
    node["structures"] = len(structures)
    if not trust:  # a network of one's own may need numbers to be made
        _require_fit(outline(node, path, len(weights)), weights, file, path, preprocessing.size)
    network = build(node, path, trust=trust)
    _load(network, weights, file, path)
    digest = runs.sha256(file)
    _require_finished_with(folder, checkpoint, digest)
    return TrainedRun(
        folder=folder,
        task=task,
        is_phantom=is_phantom,
        structures={str(name): value for name, value in structures.items()},
        channel=channel,
        preprocessing=preprocessing,
        network=network.eval(),
        autocast=_AUTOCAST.get(precision),
        saw_flips="Flip" in str(config.get("augmentation")),  # torchio.RandomFlip
        checkpoint=checkpoint,
        digest=digest[:16],
    )


def _require_finished_with(folder: Path, checkpoint: str, digest: str) -> None:
    """Refuse a checkpoint that is not the one which a finished run has scored."""
    known = (runs.read_json(folder / "manifest.json") or {}).get("checkpoints")
    made = known.get(checkpoint) if isinstance(known, dict) else None
    if made not in (None, digest):
        raise FdsegError(
            f"{folder}/checkpoints/{checkpoint}.ckpt: is not the file that this run was finished "
            "with: its SHA-256 is not the one in manifest.json. Put the run's own file back."
        )


def _require_fit(
    network: Any, weights: dict[str, Tensor], file: Path, path: Path, size: Sequence[int]
) -> None:
    """Refuse, before it takes memory, a network that is not its checkpoint's or its grid's."""
    _load(network, weights, file, path, assign=True)
    padded = [padded_length(n, network.multiple_of, network.minimum) for n in size]
    if math.prod(padded) > MAX_VOXELS:
        raise FdsegError(
            f"{path}: network.multiple_of={network.multiple_of} and network.minimum="
            f"{network.minimum} make {times(padded)} voxels of the grid, more than {MAX_VOXELS:,}."
        )
    # What is left without numbers is made for the grid: matrices and masks of the split.
    made_gb = _MAKING * sum(b.nbytes for b in network.buffers() if b.is_meta) / 1e9
    if made_gb > 1 and made_gb > available() / 1e9:
        raise FdsegError(
            f"{path}: the split of the grid takes about {made_gb:.0f} GB to make, more than is "
            "free here."
        )
    require_size(network, size)


def _load(
    network: nn.Module, weights: dict[str, Tensor], file: Path, path: Path, assign: bool = False
) -> None:
    if not isinstance(network, SegmentationNetwork):
        raise FdsegError(f"{path}: network is no {SegmentationNetwork.__name__}.")
    try:
        network.load_state_dict(weights, assign=assign)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise FdsegError(f"{file}: not the weights of the network in {path} ({reason}).") from None


def require_agreement(trained: Sequence[TrainedRun]) -> None:
    """Refuse runs that cannot be averaged.

    Raises:
        FdsegError: they differ in task, structures, channel or grid.
    """

    def facts(run: TrainedRun) -> dict[str, Any]:
        return {
            "task": run.task,
            "data": "phantom" if run.is_phantom else "real",
            "structures": list(run.structures.items()),
            "channel": run.channel,
            "size": list(run.preprocessing.size),
            "reshape": run.preprocessing.reshape,
        }

    first = facts(trained[0])
    for other in trained[1:]:
        for key, value in facts(other).items():
            if value != first[key]:
                raise FdsegError(
                    f"{other.folder}: {key} is {value}, but {first[key]} in {trained[0].folder}. "
                    "Only runs of the same task on the same grid can be averaged."
                )


def _is_whole(value: Any, largest: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= largest
