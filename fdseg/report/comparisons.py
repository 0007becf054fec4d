"""Tables of paired comparisons: every arm against its baselines, over subjects, over seeds."""

from fdseg.report.contrasts import SHOWN, Contrast, missing
from fdseg.report.findings import Findings
from fdseg.report.results import DIGITS, study_table, subjects_of
from fdseg.report.tables import Column, Entry, Table, number, probability
from fdseg.terminal import counted

_LEAD = (
    Column("n", ("n",)),
    Column("arm", ("arm",), is_number=False),
    Column("against", ("against",), is_number=False),
    Column("score", ("metric",), is_number=False),
)


def comparisons(found: Findings) -> Table:
    """Every arm against its baselines, over test subjects, as in the paper."""
    rules = found.rules
    persons = any(c.people < len(c.comparison.difference.subjects) for c in found.contrasts)
    tests = rules.tests(found.study.task)
    columns = [
        *_LEAD,
        Column("difference [95 %]", ("difference", "sem", "low", "high")),
        Column("p", ("p_t",)),
        Column(f"p × {tests} tasks", ("p_bonferroni",)),
        Column("p, Holm", ("p_holm",)),
        Column("p, Wilcoxon", ("p_wilcoxon",)),
        *([Column("p, persons", ("p_persons",))] if persons else []),
        Column("d_z", ("d_z",)),
        Column("needed", ("subjects_needed",)),
        Column("subjects", ("subjects",)),
        Column("seeds", ("seeds",)),
    ]
    notes = [
        "Arm minus baseline, over the pairs of test subject and seed that both have; Dice in "
        "points of 100, HD95 in mm. In brackets the BCa bootstrap interval of the mean difference. "
        "Bold: the paper's mark, which only the better of early and late can have.",
        f"p: paired t-test over test {subjects_of(rules.unit)}, two-sided; × {tests}: Bonferroni "
        "over the independent tasks; Holm: over all comparisons of this score in the report, real "
        "and phantom apart; Wilcoxon: signed ranks.",
        "d_z: mean over standard deviation of the differences. needed: test subjects that would "
        f"show it with {rules.power:.0%} power at α = {rules.alpha:g} / {tests}, were it so large.",
        "All this is of these trainings: whether they would differ on other subjects.",
    ]
    if persons:
        people = max(c.people for c in found.contrasts)
        notes.append(
            f"Several test cases belong to one person and are not independent: p, persons, is the "
            f"t-test over the {counted(people, 'person')}, each the mean of their cases; "
            "unit=participant takes all numbers so."
        )
    if any(c.baseline.has_whole_stems for c in found.contrasts):
        notes.append(
            "split=double: two stems on the whole volume and no frequencies. What an arm gains "
            "over it, and not what it gains over none, is due to the split: to the frequencies, or "
            "to the small grid of the low band."
        )
    notes += [*_unlike_seeds(found), *missing(found.contrasts)]
    rows = tuple(_over_subjects(c, persons) for c in found.contrasts)
    return study_table(found, "comparisons", "Paired comparisons", columns, rows, notes)


def other_trainings(found: Findings) -> Table:
    """Every arm against its baselines, over test subjects and seeds at once."""
    rules = found.rules
    tests = rules.tests(found.study.task)
    columns = [
        *_LEAD,
        Column("seeds better", ("seeds_better", "seeds")),
        Column("by seed", ("least", "most")),
        Column("difference [95 %]", ("difference", "low", "high")),
        Column("p", ("p",)),
        Column(f"p × {tests} tasks", ("p_bonferroni",)),
        Column("p, ranks", ("p_ranks",)),
        Column("without one", ("without_one", "one")),
        Column("seeds needed", ("seeds_needed",)),
    ]
    notes = [
        "Whether other trainings, with other draws of training subjects and another start, would "
        "differ as well, on other subjects. by seed: the smallest and the largest mean difference "
        "of a seed.",
        "Interval and p: Student's t, with the standard errors over test "
        f"{subjects_of(rules.unit)} and over seeds added in squares (Clark 1973) and the degrees "
        "of freedom of the fewer; –: one seed cannot tell. It takes the seeds for normal, so that "
        "a single training that failed widens the interval.",
        "p, ranks: Wilcoxon's signed ranks over seeds, on these subjects, which such a training "
        "does not decide; above 0.06 with up to five seeds. without one: what is left of the "
        "difference without the seed that makes most of it (in parentheses); no estimate, for it "
        "lies nearer to none by construction.",
        f"seeds needed: to show it, were it so large, on as many {subjects_of(rules.unit)} with "
        f"{rules.power:.0%} power at α = {rules.alpha:g} / {tests}; –: one seed cannot tell, or no "
        "number of them would.",
        *_unlike_seeds(found),
    ]
    rows = tuple(_over_seeds(c) for c in found.contrasts)
    title = "Would other trainings differ as well?"
    return study_table(found, "other_trainings", title, columns, rows, notes)


def _unlike_seeds(found: Findings) -> list[str]:
    """A warning where a row has other seeds than another of the same n."""
    seeds = {(c.n, c.comparison.difference.seeds) for c in found.contrasts}
    if len(seeds) == len({n for n, _ in seeds}):
        return []
    return ["Rows of different seeds are not to be compared with each other."]


def _over_subjects(contrast: Contrast, persons: bool) -> tuple[Entry, ...]:
    comparison, factor = contrast.comparison, SHOWN[contrast.metric].factor
    d_z, sem = comparison.effect_size, comparison.sem * factor
    p_values = [contrast.p, contrast.bonferroni, contrast.holm, contrast.wilcoxon]
    p_values += [contrast.p_people] if persons else []
    mean, low, high = (x * factor for x in (comparison.mean, *contrast.interval))
    return (
        *_lead(contrast),
        Entry(_difference(mean, low, high), (mean, sem, low, high), contrast.bold),
        *(Entry(probability(p), (p,)) for p in p_values),
        Entry(number(d_z, 2, sign=True), (d_z,)),
        _count(contrast.needed),
        _count(len(comparison.difference.subjects)),
        _count(len(comparison.difference.seeds)),
    )


def _over_seeds(contrast: Contrast) -> tuple[Entry, ...]:
    comparison, factor = contrast.comparison, SHOWN[contrast.metric].factor
    better, by_seed = contrast.seeds_better, comparison.difference.by_seed
    one, rest = contrast.without_one_seed
    rest *= factor
    without = f"{number(rest, DIGITS, sign=True)} ({one})" if len(by_seed) > 1 else "–"
    p_values = [contrast.p_joint, contrast.bonferroni_joint, contrast.p_seeds]
    ends = [factor * float(pick(by_seed)) for pick in (min, max)]
    mean, low, high = (x * factor for x in (comparison.mean, *contrast.joint_interval))
    return (
        *_lead(contrast),
        Entry(f"{better} of {len(by_seed)}", (better, len(by_seed))),
        Entry(" to ".join(number(end, DIGITS, sign=True) for end in ends), tuple(ends)),
        Entry(_difference(mean, low, high), (mean, low, high)),
        *(Entry(probability(p), (p,)) for p in p_values),
        Entry(without, (rest, one)),
        _count(contrast.seeds_needed),
    )


def _lead(contrast: Contrast) -> tuple[Entry, ...]:
    arm, baseline, metric = contrast.arm.name, contrast.baseline.name, contrast.metric
    return (
        _count(contrast.n),
        Entry(arm, (arm,)),
        Entry(baseline, (baseline,)),
        Entry(SHOWN[metric].name, (metric,)),
    )


def _difference(mean: float, low: float, high: float) -> str:
    mean_text, *ends = (number(x, DIGITS, sign=True) for x in (mean, low, high))
    return f"{mean_text} [{', '.join(ends)}]"


def _count(value: int | None) -> Entry:
    return Entry("–" if value is None else str(value), (value,))
