"""``python -m fdseg.evaluate``: label maps of any origin, scored against their labels."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals
from fdseg.terminal import counted

if TYPE_CHECKING:
    from fdseg.data.pairs import Pairs
    from fdseg.metrics import Definition, Scores

# Columns of the terminal's table: a metric of the rows, with its title and its digits.
_COLUMNS = {
    "dice": ("Dice", 4),
    "hd95_pooled_mm": ("HD95 [mm]", 2),
    "hd95_max_of_directed_mm": ("HD95, max [mm]", 2),
    "nsd": ("NSD", 4),
    "label_ml": ("label [mL]", 3),
    "volume_error_ml": ("error [mL]", 3),
}


def run(config: DictConfig) -> None:
    """Score all predictions that have a label, write a table and print its means.

    Raises:
        FdsegError: there is nothing to compare, or files are broken or on different grids (all of
            them listed), or the table would replace one of them; then nothing is written.
    """
    from fdseg.data.cases import require_structures
    from fdseg.data.pairs import find_maps, find_pairs, require_same_grid
    from fdseg.data.problems import listed
    from fdseg.report.table import table

    configuration.check_values(config)
    folders = {key: Path(config[key]) for key in ("predictions", "labels")}
    pairs, output = find_pairs(**folders), Path(config.output)
    refuse_originals([output], [p for k, f in folders.items() for p in find_maps(f, k).values()])
    if not config.resample:
        require_same_grid(pairs)
    structures: Any = OmegaConf.to_container(config.structures) if config.structures else None
    if structures is None:
        structures = _found(pairs)
    require_structures(structures, "structures")
    rows = _score(pairs, structures, instantiate(config.scores))
    try:
        runs.write_csv(output, list(rows[0]), rows)
    except OSError as error:
        raise FdsegError(
            f"{output}: the table cannot be written ({error.strerror}). Choose another place with "
            "output=…"
        ) from None
    summary = runs.summarise(rows, _COLUMNS)
    print(f"{counted(summary['subjects'], 'prediction')}, mean ± SEM over subjects\n")
    print(table(summary, _COLUMNS))
    if summary["missed"]:
        print(f"\nMissed altogether: {counted(summary['missed'], 'structure')}.")
    for names, what in (
        (pairs.without_prediction, "labels have no prediction"),
        (pairs.without_label, "predictions have no label"),
    ):
        if names:
            print(f"\n{len(names)} {what}: {listed(names)}")
    print(f"\n{output}")


def _found(pairs: "Pairs") -> dict[str, int]:
    """All values but 0 of all label maps, each named by itself."""
    import numpy as np

    values: set[int] = set()
    for _, *maps in pairs.read("Finding structures"):
        values.update(*(np.unique(volume.data).tolist() for volume in maps))
    if not values - {0}:
        raise FdsegError(
            f"{pairs.pairs[0].label.parent}: all labels and all predictions are empty. Check the "
            "two folders."
        )
    return {str(value): value for value in sorted(values - {0})}


def _score(
    pairs: "Pairs",
    structures: Mapping[str, int],
    score: "Callable[..., dict[Definition, Scores]]",
) -> list[dict[str, Any]]:
    """One row per prediction and structure."""
    rows = []
    for pair, prediction, label in pairs.read("Scoring"):
        for structure, value in structures.items():
            # The prediction's spacing: a run writes it with its image's affine, by which it scores.
            found = score(prediction.data == value, label.data == value, prediction.spacing)
            scores = found["pooled"]
            rows.append(
                {
                    "case": pair.name,
                    "structure": structure,
                    "dice": scores.dice,
                    "hd95_pooled_mm": scores.hd95_mm,
                    "hd95_max_of_directed_mm": found["max_of_directed"].hd95_mm,
                    "nsd": scores.nsd,
                    "prediction_ml": scores.prediction_mm3 / 1000,
                    "label_ml": scores.label_mm3 / 1000,
                    "volume_error_ml": (scores.prediction_mm3 - scores.label_mm3) / 1000,
                    "missed": scores.missed,
                }
            )
    return rows


main = configuration.entry_point(run, "evaluate")

if __name__ == "__main__":
    sys.exit(main())
