"""A table, whatever it says, and how it is written as Markdown, LaTeX and CSV."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fdseg.runs import write_csv, write_text

Value = str | float | int | bool | None


@dataclass(frozen=True)
class Column:
    """A column: its title, and the fields that it becomes in CSV."""

    title: str
    fields: tuple[str, ...]
    is_number: bool = True


@dataclass(frozen=True)
class Entry:
    """What stands in a cell: a text for people, and the values behind it, one per CSV field."""

    text: str
    values: tuple[Value, ...]
    bold: bool = False

    @property
    def sort_key(self) -> str:
        """The first value; empty where there is none, which sorts last."""
        value = self.values[0]
        missing = value is None or (isinstance(value, float) and math.isnan(value))
        return "" if missing else str(value)


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        name: of its files.
        title: above it.
        columns: of every row.
        rows: entries, one per column; rows with the same first entry belong together.
        notes: below it.
        context: fields that come first in every row of the CSV.
    """

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...] = ()
    context: Mapping[str, Value] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Write ``<name>.md``, ``<name>.tex`` and ``<name>.csv``."""
        write_text(folder / f"{self.name}.md", markdown(self))
        write_text(folder / f"{self.name}.tex", latex(self))
        names = [*self.context, *(name for column in self.columns for name in column.fields)]
        values = [[v for entry in row for v in entry.values] for row in self.rows]
        rows = [dict(zip(names, [*self.context.values(), *v], strict=True)) for v in values]
        write_csv(folder / f"{self.name}.csv", names, rows)


def number(value: float | None, digits: int, *, sign: bool = False) -> str:
    """A number with a true minus; a dash where there is none."""
    if value is None or math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞"
    text = f"{value:{'+' if sign else ''}.{digits}f}"
    return "0" + text[2:] if float(text) == 0 and text[0] in "+-" else text.replace("-", "−")


def probability(p: float) -> str:
    """A p-value: three digits, or that it is below the least of them."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def mean_sem(mean: float, sem: float, digits: int) -> str:
    """``76.2 ± 0.8``."""
    return f"{number(mean, digits)} ± {number(sem, digits)}"


def markdown(table: Table) -> str:
    """A heading, the table with its columns aligned, and the notes."""
    titles = [column.title for column in table.columns]
    body = [[_markdown_cell(entry) for entry in row] for row in table.rows]
    widths = [max(3, *map(len, column)) for column in zip(titles, *body, strict=True)]
    right = [column.is_number for column in table.columns]

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(w) if r else cell.ljust(w)
            for cell, w, r in zip(cells, widths, right, strict=True)
        )
        return f"| {' | '.join(padded)} |"

    rule = ["-" * (w - 1) + (":" if r else "-") for w, r in zip(widths, right, strict=True)]
    lines = [f"### {_markdown_escape(table.title)}", "", line(titles), line(rule), *map(line, body)]
    if table.notes:
        lines += ["", *(f"- {_markdown_escape(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A floating table in the style of booktabs, the one package it needs."""
    spec = "".join("r" if column.is_number else "l" for column in table.columns)
    head = " & ".join(_latex_escape(column.title) for column in table.columns)
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "  \\centering",
        f"  \\caption{{{_latex_escape(' '.join([f'{table.title}.', *table.notes]))}}}",
        f"  \\label{{tab:{re.sub('[^A-Za-z0-9-]', '-', table.name)}}}",
        f"  \\begin{{tabular}}{{{spec}}}",
        "    \\toprule",
        f"    {head} \\\\",
        "    \\midrule",
    ]
    before = ""
    for row in table.rows:
        if before and row[0].text != before:
            lines.append("    \\addlinespace")
        before = row[0].text
        lines.append(f"    {' & '.join(map(_latex_cell, row))} \\\\")
    return "\n".join([*lines, "    \\bottomrule", "  \\end{tabular}", "\\end{table}", ""])


def _markdown_cell(entry: Entry) -> str:
    text = _markdown_escape(entry.text)
    return f"**{text}**" if entry.bold else text


def _markdown_escape(text: str) -> str:
    return re.sub(r"([\\`*_<>|\[\]])", r"\\\1", " ".join(text.split()))


def _latex_cell(entry: Entry) -> str:
    text = _latex_escape(entry.text)
    return f"\\textbf{{{text}}}" if entry.bold else text


_LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
    "<": "$<$", ">": "$>$", "±": r"$\pm$", "−": "$-$", "×": r"$\times$", "≤": r"$\leq$",
    "√": r"$\surd$", "²": r"$^2$", "θ": r"$\theta$", "α": r"$\alpha$", "Δ": r"$\Delta$",
    "†": r"\textdagger{}", "∞": r"$\infty$", "–": "--", "…": r"\dots{}",
}  # fmt: skip


def _latex_escape(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(text.split()))
