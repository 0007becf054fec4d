"""Where θ went, in runs whose split learns it."""

from collections.abc import Mapping

from fdseg.report.drawing import Drawing, panels
from fdseg.report.findings import Findings
from fdseg.report.finished import WIDTHS, Run, read_history
from fdseg.runs import read_result


def widths(found: Findings) -> Drawing | None:
    """θ against the epoch in every run that learns it; ``None`` where none does."""
    study = found.study
    learning = {
        (n, arm.name): courses
        for n in study.sizes
        for arm in study.arms
        if (courses := [c for run in arm.runs.get(n, ()) if (c := _courses(run))])
    }
    if not learning:
        return None
    figure, (axes,) = panels(study.title, 1, len(learning), width=3.4, height=2.6, sharey="row")
    ends = []
    for axis, ((n, name), courses) in zip(axes, learning.items(), strict=True):
        for course in courses:
            for width, (epochs, values, end) in course.items():
                (line,) = axis.plot(epochs, values, lw=1, alpha=0.8)
                tested = min(zip(epochs, values, strict=True), key=lambda at: abs(at[1] - end))
                axis.plot(*tested, "o", color=line.get_color())
                ends.append(f"n = {n}, {name}: {width} {end:.3f}")
        axis.set_title(f"n = {n}\n{name}")
        axis.set_xlabel("epoch")
    axes[0].set_ylabel("θ")
    return Drawing(
        f"{study.name}-widths",
        "Course of the learned θ, a line per seed (and axis, where it has one for each). Dot: θ of "
        "the network that was tested.",
        f"{study.title}: θ where it is learned. At the end: {'; '.join(ends)}.",
        figure,
    )


def _courses(run: Run) -> Mapping[str, tuple[list[float], list[float], float]]:
    """Of each learned width its epochs, its values, and the value in the tested network."""
    result = read_result(run.folder) or {}
    courses = {}
    for width in WIDTHS:
        end = result.get(f"learned_{width}")
        if not isinstance(end, float):
            continue
        if rows := [row for row in read_history(run, [width]) if width in row]:
            courses[width] = [r["epoch"] for r in rows], [r[width] for r in rows], end
    return courses
