"""``python -m fdseg.report``: from a folder of runs to tables, figures and one page."""

import shlex
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from fdseg import config as configuration
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals
from fdseg.runs import write_text
from fdseg.terminal import counted

if TYPE_CHECKING:
    from fdseg.report.contrasts import Rules
    from fdseg.report.drawing import Drawing
    from fdseg.report.findings import Findings
    from fdseg.report.page import Chapter, PageFigure

_NOTHING_TO_COMPARE = (
    "There is nothing to compare yet. A comparison needs runs of an arm and of its baseline with "
    "the same n, and with a seed that both have."
)


def run(config: DictConfig) -> None:
    """Read the runs, write the report, print its main tables and what was left out.

    Raises:
        FdsegError: there is nothing to report, or an option cannot be.
    """
    from fdseg.report.across import across
    from fdseg.report.arms import studies
    from fdseg.report.collect import collect
    from fdseg.report.findings import findings
    from fdseg.report.optional import optional
    from fdseg.report.page import page
    from fdseg.report.provenance import runs_table, versions_table
    from fdseg.report.results import left_out
    from fdseg.report.scores import write_scores
    from fdseg.report.tables import markdown

    start = time.perf_counter()
    rules = _rules(config)
    root, output = (Path(config[key]).expanduser().absolute() for key in ("runs", "output"))
    collection = collect(root, skip=output, progress=_bar("Reading runs", "run"))
    absent = left_out(collection.left_out, root)
    listed = f"\n\n{markdown(absent)}" if absent.rows else ""
    if not collection.runs:
        raise FdsegError(f"runs={root}: no finished run is in it.{listed}")
    found = findings(studies(collection.runs), rules)
    there = [*output.glob("tables/*"), *output.glob("figures/*")]
    refuse_originals([output / "scores.csv", output / "report.html", *there])
    older = _older(output)
    budget = 1e6 * config.pictures_mb / len(found)
    chapters = [_chapter(f, output / "figures", budget) for f in _bar("Drawing", "study")(found)]
    together: list[PageFigure] = []
    with optional(output / "figures" / "across.svg"):
        together = _draw(across(found), output / "figures")
    sources = [runs_table([f.study for f in found]), versions_table(collection.runs)]
    for table in (*(table for chapter in chapters for table in chapter.tables), absent, *sources):
        if table.rows:
            table.write(output / "tables")
    write_scores(output / "scores.csv", [f.study for f in found])
    print("\n".join(map(_main, chapters)) + listed)
    write_text(output / "report.html", page(chapters, together, absent, sources, _made()))
    _remove_left(older)
    print(f"\n{counted(len(collection.runs), 'run')}, {time.perf_counter() - start:.1f} s")
    print(output / "report.html")


def _rules(config: DictConfig) -> "Rules":
    from fdseg.report.contrasts import Rules

    for key in ("alpha", "power"):
        if not isinstance(config[key], float) or not 0 < config[key] < 1:
            raise FdsegError(f"{key}={config[key]}: expected a number between 0 and 1.")
    if not isinstance(config.pictures_mb, int | float) or config.pictures_mb < 0:
        raise FdsegError(f"pictures_mb={config.pictures_mb}: expected a number of megabytes.")
    if config.unit not in ("case", "participant"):
        raise FdsegError(f"unit={config.unit}: expected case or participant.")
    family = OmegaConf.to_container(config)["family"]  # type: ignore[call-overload,index]
    tasks = [t if isinstance(t, list) else [t] for t in family] if isinstance(family, list) else []
    names = [name for group in tasks for name in group]
    if not names or not all(tasks) or len({*map(str, names)}) < len(names):
        raise FdsegError(
            f"family={family}: expected a list of tasks, each named once, such as "
            "[[red_nucleus,dentate_nucleus],heart]."
        )
    return Rules(
        tuple(tuple(map(str, group)) for group in tasks), config.alpha, config.unit, config.power
    )


def _chapter(found: "Findings", folder: Path, budget: float) -> "Chapter":
    """Tables and figures of one study; the figures are written to a folder."""
    from fdseg.report.comparisons import comparisons, other_trainings
    from fdseg.report.figures import figures
    from fdseg.report.page import Chapter
    from fdseg.report.pictures import overlays
    from fdseg.report.results import arms, results

    drawn = _draw(figures(found), folder)
    made = [make(found) for make in (results, comparisons, other_trainings, arms)]
    tables = [table for table in made if table.rows]
    pictures, more = overlays(found.study, budget)
    remarks = [] if found.contrasts else [_NOTHING_TO_COMPARE]
    return Chapter(found.study, tables, drawn, pictures, more, remarks)


def _main(chapter: "Chapter") -> str:
    """Return the first table of a chapter, with the remarks, as Markdown."""
    from fdseg.report.tables import markdown

    remarks = "".join(f"\n{remark}\n" for remark in chapter.remarks)
    return f"{markdown(chapter.tables[0])}{remarks}"


def _draw(drawings: Sequence["Drawing"], folder: Path) -> list["PageFigure"]:
    """Write figures to a folder, and give them to the page."""
    from fdseg.report.optional import optional
    from fdseg.report.page import PageFigure

    drawn = []
    for drawing in drawings:
        path = folder / f"{drawing.name}.svg"
        with optional(path):
            drawing.write(folder)
            drawn.append(PageFigure(drawing.title, drawing.alt, path.read_bytes()))
    return drawn


def _older(output: Path) -> dict[Path, int]:
    """Tables and figures of an earlier report there, each with the number of its file."""
    if not (output / "report.html").is_file():
        return {}
    kinds = {"tables": "md tex csv", "figures": "svg png"}
    return {
        path: path.stat().st_ino
        for kind, endings in kinds.items()
        for ending in endings.split()
        for path in (output / kind).glob(f"*.{ending}")
    }


def _remove_left(older: Mapping[Path, int]) -> None:
    """Remove those of which this report has no successor; a successor is another file."""
    for path, number in older.items():
        if path.stat().st_ino == number:
            path.unlink()


def _made() -> str:
    words = shlex.join(["python", "-m", "fdseg.report", *sys.argv[1:]])
    return f"{words} (fdseg {version('fdseg')})"


def _bar(title: str, unit: str) -> Callable[[Sequence[Any]], Iterable[Any]]:
    """Progress over a sequence."""
    return partial(tqdm, desc=title, unit=unit, leave=False)


main = configuration.entry_point(run, "report")

if __name__ == "__main__":
    sys.exit(main())
