"""Cases in the cache: their arrays on the network's grid, as long as they are what was written."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np

from fdseg.data.cases import Case
from fdseg.data.preprocess import Geometry
from fdseg.errors import FdsegError, first_line
from fdseg.runs import sha256

_compared: dict[Path, tuple] = {}  # the state of files whose bytes this process has compared


class LostCase(FdsegError):
    """A prepared case was removed or damaged while it was in use."""

    def __init__(self, message: str) -> None:
        # PyTorch makes a loading process's error anew, from the text of its whole traceback.
        super().__init__(message.rpartition(f"{type(self).__name__}: ")[2].strip())


@dataclass(frozen=True)
class PreparedCase:
    """A case in the cache.

    Attributes:
        case: where it comes from.
        folder: holds ``image.npy``, ``label.npy`` (structures numbered from 1) and ``case.json``.
        record: what ``case.json`` says; arrays without one are not compared with anything.
    """

    case: Case
    folder: Path
    record: Mapping[str, Any] | None = field(default=None, repr=False, compare=False)

    def image(self) -> np.ndarray:
        """The image on the network's grid ``[X, Y, Z]``, float32 in [0, 1].

        Raises:
            LostCase: it is not there any more, or not what was written.
        """
        return self._read("image.npy")

    def label(self) -> np.ndarray:
        """The label on the network's grid ``[X, Y, Z]``, uint8.

        Raises:
            LostCase: as :meth:`image`.
        """
        return self._read("label.npy")

    @cached_property
    def geometry(self) -> Geometry:
        """How to bring a prediction back to the native grid."""
        record = self.record or read_record(self.folder)
        if record is None:
            raise self._lost("case.json", "not whole")
        return Geometry.from_dict(record["geometry"])

    def _read(self, name: str) -> np.ndarray:
        path = self.folder / name
        try:
            # Not mapped: a file that another program cuts off would kill this process later.
            with path.open("rb") as file:
                if self.record is None or is_whole(file, path, self.record["files"][name]):
                    return np.load(file)
        except OSError as error:
            raise self._lost(name, error.strerror or str(error)) from None
        except (ValueError, EOFError) as error:
            raise self._lost(name, first_line(error)) from None
        raise self._lost(name, "other bytes than were written")

    def _lost(self, name: str, why: str) -> LostCase:
        return LostCase(
            f"{self.folder / name}: the prepared case of {self.case.name} was removed or damaged "
            f"while it was in use ({why}). Repeat the command; it prepares the case again."
        )


def read_record(folder: Path, *, sizes_only: bool = False) -> dict[str, Any] | None:
    """Return what ``case.json`` says, or ``None`` where it or an array is not what was written.

    Args:
        folder: of a prepared case.
        sizes_only: look only at the sizes of the arrays' files, not at their bytes.
    """
    try:
        record = json.loads((folder / "case.json").read_text(encoding="utf-8"))
        if record != seal({key: record[key] for key in record if key != "sha256"}):
            return None
        for name, expected in record["files"].items():
            path = folder / name
            with path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != expected["bytes"]:
                    return None
                if not (sizes_only or is_whole(file, path, expected)):
                    return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return record


def is_whole(file: IO[bytes], path: Path, expected: Mapping[str, Any]) -> bool:
    """Return whether an array's file has the bytes that were written.

    A process reads them once, and again where the file has changed since.
    """
    stat = os.fstat(file.fileno())
    state = (expected["sha256"], stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    if _compared.get(path) != state:
        if sha256(path) != expected["sha256"]:
            return False
        _compared[path] = state
    return True


def seal(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return what ``case.json`` is to say, with a hash of it."""
    text = json.dumps(record, sort_keys=True)
    return {**record, "sha256": hashlib.sha256(text.encode()).hexdigest()}
