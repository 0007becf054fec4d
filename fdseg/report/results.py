"""Tables of scores: the paper's layout, all arms, and what was left out."""

from collections.abc import Sequence
from pathlib import Path

from fdseg.report.arms import Arm
from fdseg.report.collect import LeftOut
from fdseg.report.contrasts import SHOWN, missing
from fdseg.report.findings import Findings
from fdseg.report.finished import METRICS
from fdseg.report.paper import FUSIONS, PAPER, Measured
from fdseg.report.tables import Column, Entry, Table, mean_sem, number
from fdseg.statistics import SubjectScores
from fdseg.terminal import counted

#: After the point, as the paper prints both scores.
DIGITS = 2
_PHANTOM = "PHANTOM: synthetic volumes; these numbers say nothing about patients."


def results(found: Findings) -> Table:
    """The paper's tables 2 and 3: rows of n and fusion, with the paper's numbers beside."""
    study, rules = found.study, found.rules
    with_paper = not study.phantom and any(task == study.task for task, *_ in PAPER)
    columns = [Column("n", ("n",)), Column("fusion", ("fusion",), is_number=False)]
    for metric, shown in SHOWN.items():
        columns.append(
            Column(
                f"{shown.name} [{shown.unit}]",
                (f"{metric}_mean", f"{metric}_sem", f"{metric}_bold"),
            )
        )
        if with_paper:
            columns += [
                Column("paper", (f"{metric}_paper_mean", f"{metric}_paper_sem")),
                Column("Δ", (f"{metric}_difference", f"{metric}_exceeds_sems")),
            ]
    columns += [Column("subjects", ("subjects",)), Column("seeds", ("seeds",))]
    sizes = [n for n in study.sizes if any(n in a.runs for a in study.arms if not a.departures)]
    rows = tuple(_result(found, n, fusion, with_paper) for n in sizes for fusion in FUSIONS)
    notes = [
        f"Mean ± SEM over test {subjects_of(rules.unit)}, each the mean of its seeds.",
        f"Bold: at this n the better of early and late is better than none; paired t-test, "
        f"Bonferroni over {rules.tests(study.task)} independent tasks, α = {rules.alpha:g}. As in "
        "the paper, choosing the better is not corrected for, and it is said of these trainings "
        "alone; the comparisons have both fusions, and other trainings.",
        *missing(c for c in found.gains if c.arm.fusion in FUSIONS and not c.arm.departures),
    ]
    if with_paper:
        notes.append(
            "†: more than 1.96 √(SEM² + SEM²) from the paper's mean. SEMs are over test subjects: "
            "how far other seeds would move a mean is not in them."
        )
        absent = sorted({n for task, n, _ in PAPER if task == study.task} - set(sizes))
        if absent:
            notes.append(f"In the paper, not run here: n = {', '.join(map(str, absent))}.")
    if study.reference:
        notes.append(f"With {', '.join(study.reference)}; other arms stand in the table of arms.")
    return study_table(found, "results", "Dice and HD95 by training size", columns, rows, notes)


def arms(found: Findings) -> Table:
    """Every arm at every n, with the variance between subjects and between seeds apart."""
    columns = [
        Column("n", ("n",)),
        Column("arm", ("arm",), is_number=False),
        Column("score", ("metric",), is_number=False),
        Column("mean ± SEM", ("mean", "sem")),
        Column("95 %", ("low", "high")),
        Column("SD subjects", ("sd_subjects",)),
        Column("SD seeds", ("sd_seeds",)),
        Column("SD rest", ("sd_residual",)),
        Column("subjects", ("subjects",)),
        Column("seeds", ("seeds",)),
        Column("missed", ("missed",)),
    ]
    notes = [
        "Dice in points of 100, HD95 in mm. 95 %: Student's t interval of the mean over subjects.",
        "SD: standard deviations between subjects, between seeds, and of a subject with a seed "
        "beyond both (two-way random effects). missed: structures of which nothing was found.",
    ]
    if found.study.reference:
        notes.append(f"Unless its name says otherwise: {', '.join(found.study.reference)}.")
    rows = tuple(
        _arm(cell.n, cell.arm, metric, cell.scores[metric], cell.missed)
        for cell in found.cells
        for metric in METRICS
    )
    return study_table(found, "arms", "All arms", columns, rows, notes)


def left_out(folders: Sequence[LeftOut], root: Path) -> Table:
    """What the report does not use, and why."""
    columns = tuple(Column(name, (name,), is_number=False) for name in ("folder", "kind", "reason"))
    rows = tuple(
        tuple(Entry(text, (text,)) for text in (_below(item.folder, root), item.kind, item.reason))
        for item in folders
    )
    return Table("left_out", f"Left out: {counted(len(rows), 'folder')}", columns, rows)


def _result(found: Findings, n: int, fusion: str, with_paper: bool) -> tuple[Entry, ...]:
    arm = found.study.reference_arm(fusion)
    cell = found.cell(n, arm)
    printed = PAPER.get((found.study.task, n, fusion)) if with_paper else None
    percent = f" ({printed.percent:g} %)" if printed else ""
    row = [Entry(f"{n}{percent}", (n,)), Entry(fusion, (fusion,))]
    for metric, shown in SHOWN.items():
        scores = cell.scores[metric] if cell else None
        contrast = found.gain(n, arm, metric)
        bold = contrast is not None and contrast.bold
        mean, sem = _scaled(scores, shown.factor)
        text = mean_sem(mean, sem, DIGITS) if scores else "∞" if cell else "–"
        row.append(Entry(text, (mean, sem, bold), bold=bold))
        if with_paper:
            theirs = {"dice": printed.dice, "hd95_mm": printed.hd95}[metric] if printed else None
            row += _beside(mean, sem, theirs)
    subjects = max((len(s.subjects) for s in cell.scores.values() if s), default=0) if cell else 0
    seeds = len(cell.seeds) if cell else 0
    return (*row, Entry(str(subjects), (subjects,)), Entry(str(seeds), (seeds,)))


def _beside(mean: float, sem: float, theirs: Measured | None) -> list[Entry]:
    if theirs is None:
        return [Entry("–", (None, None)), Entry("–", (None, None))]
    difference = mean - theirs.mean
    exceeds = not theirs.allows(mean, sem) and difference == difference
    mark = " †" if exceeds else ""
    return [
        Entry(mean_sem(theirs.mean, theirs.sem, DIGITS), (theirs.mean, theirs.sem), theirs.bold),
        Entry(number(difference, DIGITS, sign=True) + mark, (difference, exceeds)),
    ]


def _arm(
    n: int, arm: Arm, metric: str, scores: SubjectScores | None, missed: int
) -> tuple[Entry, ...]:
    shown = SHOWN[metric]
    mean, sem = _scaled(scores, shown.factor)
    low, high = (x * shown.factor for x in scores.interval()) if scores else (mean, mean)
    variance = scores.variance() if scores else None
    parts = (variance.subjects, variance.seeds, variance.residual) if variance else (mean,) * 3
    deviations = [part**0.5 * shown.factor for part in parts]
    interval = f"[{number(low, DIGITS)}, {number(high, DIGITS)}]"
    subjects = len(scores.subjects) if scores else 0
    seeds = len(arm.runs[n])
    return (
        Entry(str(n), (n,)),
        Entry(arm.name, (arm.name,)),
        Entry(shown.name, (metric,)),
        Entry(mean_sem(mean, sem, DIGITS) if scores else "∞", (mean, sem)),
        Entry(interval, (low, high)),
        *(Entry(number(value, DIGITS), (value,)) for value in deviations),
        Entry(str(subjects), (subjects,)),
        Entry(str(seeds), (seeds,)),
        Entry(str(missed), (missed,)),
    )


def study_table(
    found: Findings, name: str, title: str, columns: Sequence[Column],
    rows: tuple[tuple[Entry, ...], ...], notes: Sequence[str],
) -> Table:  # fmt: skip
    """A table of one study; a phantom's says so."""
    study = found.study
    return Table(
        f"{study.name}-{name}",
        f"{study.title}: {title}",
        tuple(columns),
        rows,
        ((_PHANTOM,) if study.phantom else ()) + tuple(notes),
        {"task": study.task, "phantom": study.phantom},
    )


def _scaled(scores: SubjectScores | None, factor: float) -> tuple[float, float]:
    return (scores.mean * factor, scores.sem * factor) if scores else (float("nan"),) * 2


def subjects_of(unit: str) -> str:
    """What a unit is called."""
    return "persons" if unit == "participant" else "subjects"


def _below(folder: Path, root: Path) -> str:
    return str(folder.relative_to(root)) if folder.is_relative_to(root) else str(folder)
