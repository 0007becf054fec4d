"""Files that a command reads, and the files of runs: no other output takes their place."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path

from fdseg.errors import FdsegError
from fdseg.runs import FAILURE, LOCK

# What fdseg.train leaves in the folder of a run.
_OF_A_RUN = (
    *("config.yaml", "split.json", "result.json", "manifest.json", FAILURE, LOCK),
    *("history.csv", "spectra.csv", "cases.csv"),
    *("checkpoints/*", "predictions/*.nii.gz", "overlays/*.png"),
)


def refuse_originals(
    outputs: Iterable[Path], originals: Iterable[Path] = (), key: str = "output"
) -> None:
    """Refuse to write a file that is one of those which are read, or one of a run's.

    Files are compared as such, so symbolic and hard links don't matter.

    Args:
        outputs: will be written; most of them are not there yet.
        originals: are read, beside runs.
        key: that chooses another place.

    Raises:
        FdsegError: names the output, and what it would replace.
    """
    there = [(path, place) for path in outputs if (place := _place(path))]
    if not there:
        return
    read = {place: path for path in originals if (place := _place(path))}
    for path, place in there:
        original = read.get(place)
        if original is None:
            what = _of_a_run(path)
        else:
            same = "" if original == path else f"the same file as {original}, which is "
            what = f"is {same}read"
        if what:
            raise FdsegError(
                f"{path}: {what}, and would be replaced. Choose another place with {key}=…"
            )


def _place(path: Path) -> tuple[int, int] | None:
    """What tells a file from all others, whatever its names; ``None`` where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _of_a_run(path: Path) -> str:
    """Whose file it is, if it is one of a run; else nothing."""
    path = path.resolve()
    for folder in path.parents[:2]:
        name = path.relative_to(folder).as_posix()
        is_run = (folder / "config.yaml").is_file() and any(
            (folder / made).exists() for made in ("checkpoints", "result.json")
        )
        if is_run and any(fnmatchcase(name, pattern) for pattern in _OF_A_RUN):
            return f"belongs to the run {folder}"
    return ""
