"""Where the numbers of a report come from: every run with its command, and the versions."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fdseg.report.arms import Study
from fdseg.report.contrasts import SHOWN
from fdseg.report.finished import METRICS, Run
from fdseg.report.tables import Column, Entry, Table, number
from fdseg.terminal import counted


def runs_table(studies: Sequence[Study]) -> Table:
    """Every run: what it is, what it scored, on what, and the command to repeat it."""
    columns = [
        Column("task", ("task",), is_number=False),
        Column("arm", ("arm",), is_number=False),
        Column("n", ("n",)),
        Column("seed", ("seed",)),
        *(Column(f"{SHOWN[m].name} [{SHOWN[m].unit}]", (m,)) for m in METRICS),
        Column("minutes", ("seconds",)),
        Column("device", ("device",), is_number=False),
        Column("fdseg", ("fdseg",), is_number=False),
        Column("commit", ("commit",), is_number=False),
        Column("finished", ("finished",), is_number=False),
        Column("command", ("command",), is_number=False),
    ]
    rows = tuple(
        _row(study, arm.name, run)
        for study in studies
        for arm in study.arms
        for runs in arm.runs.values()
        for run in runs
    )
    return Table("runs", f"Runs: {len(rows)}", tuple(columns), rows)


def versions_table(runs: Sequence[Run]) -> Table:
    """Each package with its versions, and how many runs had which."""
    counts: dict[str, Counter[str]] = {}
    for run in runs:
        for package, version in _at(run.manifest, "versions").items():
            counts.setdefault(str(package), Counter())[str(version)] += 1
    columns = (
        Column("package", ("package",), is_number=False),
        Column("versions", ("versions",), is_number=False),
    )
    rows = []
    for package, versions in counts.items():
        text = ", ".join(
            version if len(versions) == 1 else f"{version} ({counted(count, 'run')})"
            for version, count in versions.most_common()
        )
        rows.append((Entry(package, (package,)), Entry(text, (text,))))
    return Table("versions", "Versions", columns, tuple(rows))


def command(words: Any) -> str:
    """A run's command as a shell takes it; ``train.py`` is how Python names the module."""
    if not isinstance(words, list) or not words:
        return ""
    program, *rest = map(str, words)
    start = "python -m fdseg.train" if program == "train.py" else shlex.quote(program)
    return " ".join([start, *map(shlex.quote, rest)])


def _row(study: Study, arm: str, run: Run) -> tuple[Entry, ...]:
    manifest = run.manifest
    means = {m: sum(case.scores[m] for case in run.cases) / len(run.cases) for m in METRICS}
    seconds = sum(s for s in _at(manifest, "seconds").values() if isinstance(s, int | float))
    commit = str(_at(manifest, "git").get("commit") or "")
    changed = " changed" if _at(manifest, "git").get("changed") else ""
    texts = [
        str(manifest.get("device") or ""),
        str(_at(manifest, "versions").get("fdseg") or ""),
        commit[:8] + changed,
        str(manifest.get("finished") or "").replace("T", " ")[:16],
        command(manifest.get("command")),
    ]
    return (
        Entry(study.name, (study.name,)),
        Entry(arm, (arm,)),
        Entry(str(run.n), (run.n,)),
        Entry(str(run.seed), (run.seed,)),
        *(Entry(number(SHOWN[m].factor * v, 2), (SHOWN[m].factor * v,)) for m, v in means.items()),
        Entry(number(seconds / 60, 1), (seconds,)),
        *(Entry(text, (text,)) for text in texts),
    )


def _at(manifest: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = manifest.get(key)
    return value if isinstance(value, Mapping) else {}
