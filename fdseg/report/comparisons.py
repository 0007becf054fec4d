"""The table of paired comparisons: every arm against its baselines."""

from fdseg.report.contrasts import SHOWN, Contrast, missing
from fdseg.report.findings import Findings
from fdseg.report.results import DIGITS, study_table, subjects_of
from fdseg.report.tables import Column, Entry, Table, number, probability


def comparisons(found: Findings) -> Table:
    """Every arm against its baselines."""
    rules = found.rules
    persons = any(c.people < len(c.comparison.difference.subjects) for c in found.contrasts)
    tests = rules.tests(found.study.task)
    columns = [
        Column("n", ("n",)),
        Column("arm", ("arm",), is_number=False),
        Column("against", ("against",), is_number=False),
        Column("score", ("metric",), is_number=False),
        Column("difference [95 %]", ("difference", "sem", "low", "high")),
        Column("p", ("p_t",)),
        Column(f"p × {tests} tasks", ("p_bonferroni",)),
        Column("p, Holm", ("p_holm",)),
        Column("p, Wilcoxon", ("p_wilcoxon",)),
        *([Column("p, persons", ("p_persons",))] if persons else []),
        Column("seeds better", ("seeds_better", "seeds")),
        Column("[95 %] with seeds", ("joint_low", "joint_high")),
        Column("p, with seeds", ("p_joint",)),
        Column("d_z", ("d_z",)),
        Column("needed", ("subjects_needed",)),
        Column("seeds needed", ("seeds_needed",)),
        Column("subjects", ("subjects",)),
    ]
    notes = [
        "Arm minus baseline, over the pairs of test subject and seed that both have; Dice in "
        "points of 100, HD95 in mm. In brackets the BCa bootstrap interval of the mean difference.",
        f"p: paired t-test over test {subjects_of(rules.unit)}, two-sided; × {tests}: Bonferroni "
        "over the independent tasks; Holm: over all comparisons of this score in the report, real "
        "and phantom apart; Wilcoxon: signed ranks.",
        "All these say whether these trainings would differ on other subjects. With seeds: whether "
        "other trainings would too: Student's t with the standard errors over subjects and over "
        "seeds, added in squares (Clark 1973), and the degrees of freedom of the fewer.",
        "d_z: mean over standard deviation of the differences. needed: test subjects that would "
        "show it in these trainings; seeds needed: seeds that would show it, with seeds, on these "
        f"subjects (–: none could, or one seed cannot tell); with {rules.power:.0%} power at "
        f"α = {rules.alpha:g} / {tests}.",
    ]
    if persons:
        people = max(c.people for c in found.contrasts)
        notes.append(
            f"Several test cases belong to one person and are not independent: p, persons, is the "
            f"t-test over the {people} persons, each the mean of their cases; unit=participant "
            "takes all numbers so."
        )
    if any(c.baseline.has_whole_stems for c in found.contrasts):
        notes.append(
            "split=double: two stems on the whole volume and no frequencies. What an arm gains "
            "over it, and not what it gains over none, is due to the split: to the frequencies, or "
            "to the small grid of the low band."
        )
    if not found.contrasts:
        notes.append("No arm has a baseline of its own settings at the same n.")
    notes += missing(found.contrasts)
    rows = tuple(_comparison(c, persons) for c in found.contrasts)
    return study_table(found, "comparisons", "Paired comparisons", columns, rows, notes)


def _comparison(contrast: Contrast, persons: bool) -> tuple[Entry, ...]:
    comparison, shown = contrast.comparison, SHOWN[contrast.metric]
    mean, sem, low, high = (
        x * shown.factor for x in (comparison.mean, comparison.sem, *contrast.interval)
    )
    joint = [x * shown.factor for x in contrast.joint_interval]
    d_z = comparison.effect_size
    subjects, seeds = len(comparison.difference.subjects), len(comparison.difference.seeds)
    p_values = [contrast.p, contrast.bonferroni, contrast.holm, contrast.wilcoxon]
    p_values += [contrast.p_people] if persons else []
    return (
        Entry(str(contrast.n), (contrast.n,)),
        Entry(contrast.arm.name, (contrast.arm.name,)),
        Entry(contrast.baseline.name, (contrast.baseline.name,)),
        Entry(shown.name, (contrast.metric,)),
        Entry(
            f"{number(mean, DIGITS, sign=True)} {_interval(low, high)}",
            (mean, sem, low, high),
            contrast.bold,
        ),
        *(Entry(probability(p), (p,)) for p in p_values),
        Entry(f"{contrast.seeds_better} of {seeds}", (contrast.seeds_better, seeds)),
        Entry(_interval(*joint), tuple(joint)),
        Entry(probability(contrast.p_joint), (contrast.p_joint,)),
        Entry(number(d_z, 2, sign=True), (d_z,)),
        *(
            Entry("–" if needed is None else str(needed), (needed,))
            for needed in (contrast.needed, contrast.seeds_needed)
        ),
        Entry(str(subjects), (subjects,)),
    )


def _interval(low: float, high: float) -> str:
    return f"[{number(low, DIGITS, sign=True)}, {number(high, DIGITS, sign=True)}]"
