"""What a study found: every cell's scores, every arm against its baseline, and what is bold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fdseg.report.arms import Arm, Study, Unit
from fdseg.report.contrasts import SHOWN, Cell, Contrast, Rules, contrast
from fdseg.report.finished import METRICS
from fdseg.statistics import Family, SubjectScores


@dataclass(frozen=True)
class Findings:
    """Of one study, cells and contrasts in the order of n and of its arms."""

    study: Study
    rules: Rules
    cells: tuple[Cell, ...]
    contrasts: tuple[Contrast, ...]

    def cell(self, n: int, arm: Arm | None) -> Cell | None:
        """Of an arm at one n, where it was run."""
        return next((c for c in self.cells if c.n == n and c.arm is arm), None)

    @property
    def gains(self) -> tuple[Contrast, ...]:
        """The contrasts with an arm without a split."""
        return tuple(c for c in self.contrasts if c.baseline.fusion == "none")

    def gain(self, n: int, arm: Arm | None, metric: str) -> Contrast | None:
        """Of an arm at one n over its baseline, where it has one."""
        return next(
            (c for c in self.gains if c.n == n and c.arm is arm and c.metric == metric), None
        )


def findings(studies: Sequence[Study], rules: Rules) -> tuple[Findings, ...]:
    """Compare everything that can be.

    Bold is the paper's rule: at each n the better of early and late, by its mean, where it improves
    on the baseline and the paired t-test, Bonferroni-corrected, is below alpha. Holm's correction
    is over all contrasts of a metric in all studies; phantoms are a family of their own.
    """
    found = [_findings(study, rules) for study in studies]
    holm: dict[str, float] = {}
    for phantom in (False, True):
        for metric in METRICS:
            p = {
                f"{f.study.name}: {c.key}": c.p
                for f in found if f.study.phantom == phantom
                for c in f.contrasts if c.metric == metric
            }  # fmt: skip
            holm |= Family(tuple(p)).holm(p) if p else {}
    return tuple(_with_marks(f, holm) for f in found)


def _findings(study: Study, rules: Rules) -> Findings:
    def scores(arm: Arm, n: int, unit: Unit) -> dict[str, SubjectScores | None]:
        return {metric: arm.scores(n, metric, unit) for metric in METRICS}

    cells = tuple(
        Cell(n, arm, scores(arm, n, rules.unit), scores(arm, n, "participant"))
        for n in study.sizes
        for arm in study.arms
        if n in arm.runs
    )
    by_arm = {(cell.n, cell.arm.name): cell for cell in cells}
    contrasts = []
    for cell in cells:
        for metric in METRICS:
            for arm in study.baselines(cell.arm, metric):
                baseline = by_arm.get((cell.n, arm.name))
                found = contrast(study.task, rules, cell, baseline, metric) if baseline else None
                contrasts += [found] if found else []
    return Findings(study, rules, cells, tuple(contrasts))


def _with_marks(found: Findings, holm: Mapping[str, float]) -> Findings:
    bold = set()
    fused = [found.study.reference_arm(fusion) for fusion in ("early", "late")]
    for n in found.study.sizes:
        for metric, shown in SHOWN.items():
            known = [c for arm in fused if (c := found.gain(n, arm, metric))]
            if known:
                best = (max if shown.more else min)(known, key=lambda c: c.mean)
                if best.better and best.bonferroni < found.rules.alpha:
                    bold.add(best.key)
    return replace(
        found,
        contrasts=tuple(
            replace(c, holm=holm[f"{found.study.name}: {c.key}"], bold=c.key in bold)
            for c in found.contrasts
        ),
    )
