"""Overlays of the runs, small enough for a page: the worst of every arm first."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from PIL import Image

from fdseg.report.arms import Study
from fdseg.report.finished import Run
from fdseg.runs import ranks

_SIZE = (800, 1200)  # pixels at most
_QUALITY = 50  # of WebP; a contour one pixel wide stays sharp
_MOST_PIXELS = 20_000_000  # fdseg.train writes about a million
_AT_ONCE = 8


@dataclass(frozen=True)
class Overlay:
    """A picture of a test subject.

    Attributes:
        arm, n, seed: whose prediction it shows.
        rank: ``worst``, ``median`` or ``best`` of its run.
        case: the test case.
        dice: of it, the mean over structures.
        webp: the picture.
    """

    arm: str
    n: int
    seed: int
    rank: str
    case: str
    dice: float
    webp: bytes

    @property
    def label(self) -> str:
        """Its arm and n."""
        return f"{self.arm}, n = {self.n}"


def overlays(study: Study, budget: float) -> tuple[list[Overlay], int]:
    """The overlays of a study, worst subject first.

    Args:
        study: whose runs.
        budget: bytes that all may take; every arm and n gets its worst picture before any gets
            its second.

    Returns:
        The overlays, and how many more there are.
    """
    cells = [
        sorted(_candidates(arm.name, runs), key=lambda candidate: candidate[0])
        for arm in study.arms
        for runs in arm.runs.values()
    ]
    candidates = [c for layer in zip_longest(*cells) for c in layer if c is not None]
    found: list[Overlay] = []
    with ThreadPoolExecutor() as pool:  # Pillow works without holding Python's lock
        for start in range(0, len(candidates), _AT_ONCE):
            batch = candidates[start : start + _AT_ONCE] if budget > 0 else []
            for (dice, arm, run, rank, case, _), picture in zip(
                batch, pool.map(_small, [candidate[-1] for candidate in batch]), strict=True
            ):
                if picture is not None and budget > 0:
                    budget -= len(picture)
                    found.append(Overlay(arm, run.n, run.seed, rank, case, dice, picture))
    return sorted(found, key=lambda overlay: overlay.dice), len(candidates) - len(found)


def _candidates(arm: str, runs: Sequence[Run]) -> Iterator[tuple[float, str, Run, str, str, Path]]:
    for run in runs:
        rows = [{"case": case.case, "dice": case.scores["dice"]} for case in run.cases]
        for rank, (case, dice) in ranks(rows).items():
            path = run.folder / "overlays" / f"{rank}.png"
            if path.is_file():
                yield dice, arm, run, rank, case, path


def _small(path: Path) -> bytes | None:
    """As WebP; ``None`` where it is no picture."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            if image.width * image.height > _MOST_PIXELS:
                return None
            small = image.convert("RGB")
            small.thumbnail(_SIZE, Image.Resampling.BILINEAR)
            buffer = io.BytesIO()
            small.save(buffer, "WEBP", quality=_QUALITY, method=2)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None
    return buffer.getvalue()
