"""Tables for the terminal."""

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any


def table(summary: Mapping[str, Any], columns: Mapping[str, tuple[str, int]]) -> str:
    """The means of a summary with their SEM, a line per structure and one for all of them.

    Args:
        summary: of :func:`fdseg.runs.summarise`.
        columns: metrics to show, with their title and number of digits.
    """
    structures = summary["structures"]
    lines = {**structures, "all": summary} if len(structures) > 1 else structures
    return aligned(
        [
            ["structure", *(title for title, _ in columns.values())],
            *(
                [name, *(_cell(values[metric], digits) for metric, (_, digits) in columns.items())]
                for name, values in lines.items()
            ),
        ]
    )


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of text in columns: the first to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "   ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def wrapped(rows: Sequence[Sequence[str]], width: int | None = None) -> str:
    """Rows of text in columns as wide as the terminal, each cell on as many lines as it needs.

    The first column is as wide as it is; the others share what it leaves.
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    first = max(len(row[0]) for row in rows)
    rest = max(24, (width - first) // (len(rows[0]) - 1) - 2)
    widths = [first, *[rest] * (len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [
            textwrap.wrap(cell, w, break_on_hyphens=False) or [""]
            for cell, w in zip(row, widths, strict=True)
        ]
        for number in range(max(map(len, cells))):
            parts = [cell[number] if number < len(cell) else "" for cell in cells]
            line = "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True))
            lines.append(line.rstrip())
    return "\n".join(lines)


def _cell(value: Mapping[str, float | None], digits: int) -> str:
    spread = "" if value["sem"] is None else f" ± {value['sem']:.{digits}f}"
    return f"{value['mean']:.{digits}f}{spread}"
