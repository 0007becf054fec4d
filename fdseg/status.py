"""``python -m fdseg.status``: how the runs of a sweep stand, and how long the rest will take."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from fdseg import config as configuration
from fdseg.cost import cost, remaining
from fdseg.sweep import Point, counts, grid, label

SIGNS = {"done": "●", "running": "▶", "stopped": "◐", "failed": "✗", "missing": "·"}
EPILOG = """\
examples:
  python -m fdseg.status +sweep=table3_hippocampus
  python -m fdseg.status +experiment=heart fusion=none,early,late 'seed=range(10)' --json
  python -m fdseg.status --cost +sweep=table3_spleen,table3_heart
"""


def run(arguments: Sequence[str]) -> None:
    """Print what is known of a sweep."""
    parser = argparse.ArgumentParser(
        prog="python -m fdseg.status",
        description="How the runs of a sweep stand. The words are those of fdseg.train -m.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per run instead")
    parser.add_argument(
        "--cost",
        action="store_true",
        help="measure training steps here, at the tasks' own sizes, and say what all runs of the "
        "sweeps (several: +sweep=a,b) would take; needs no data",
    )
    parser.add_argument("words", nargs="*", help="overrides, such as +sweep=theta or n=4,17")
    options = parser.parse_args(arguments)
    if options.cost:
        cost(options.words)
        return
    points = grid(options.words)
    if options.json:
        for point in points:
            print(json.dumps(_values(point)))
        return
    print(_table(points))
    print(counts(points))
    print(remaining(points))
    for point in points:
        if point.state.reason:
            print(f"  {point.state.name}: {label(point)}: {point.state.reason.splitlines()[0]}")


def _values(point: Point) -> dict[str, Any]:
    return {
        **point.swept,
        "state": point.state.name,
        "reason": point.state.reason or None,
        "epochs": point.state.epochs,
        "seconds": dict(point.state.seconds),
        "folder": str(point.run.folder) if point.run else None,
    }


def _table(points: Sequence[Point]) -> str:
    """One line per setting, one column per seed."""
    seeds = list(dict.fromkeys(p.swept.get("seed", "") for p in points))
    rows: dict[str, dict[str, Point]] = {}
    for point in points:
        setting = " ".join(f"{k}={v}" for k, v in point.swept.items() if k != "seed")
        rows.setdefault(setting, {})[point.swept.get("seed", "")] = point
    width = max(len("seed"), *map(len, rows))
    cell = max(map(len, [*seeds, "x"]))
    lines = [f"  {'seed':>{width}}  {' '.join(f'{s:>{cell}}' for s in seeds)}"]
    for setting, of in rows.items():
        signs = (SIGNS[of[s].state.name] if s in of else " " for s in seeds)
        busy = [_progress(p) for p in of.values() if p.state.name in ("running", "stopped")]
        cells = " ".join(f"{sign:>{cell}}" for sign in signs)
        lines.append(f"  {setting:<{width}}  {cells}  {' '.join(busy)}".rstrip())
    used = {p.state.name for p in points}
    lines.append("  " + "  ".join(f"{sign} {name}" for name, sign in SIGNS.items() if name in used))
    return "\n".join(lines)


def _progress(point: Point) -> str:
    epochs = point.run.config.trainer.max_epochs if point.run else 1
    return f"{point.state.epochs / epochs:.0%}"


def main() -> None:
    """The command."""
    with configuration.errors_in_one_line():
        run(sys.argv[1:])


if __name__ == "__main__":
    main()
