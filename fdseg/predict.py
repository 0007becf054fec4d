"""``python -m fdseg.predict``: label maps of new volumes by trained runs, in their own geometry.

What only a prediction needs is imported where it begins, so that help answers at once.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg.errors import FdsegError
from fdseg.terminal import counted

if TYPE_CHECKING:
    from fdseg.predictions import Predictions
    from fdseg.trained import TrainedRun


def run(config: DictConfig) -> None:
    """Predict the volumes that a configuration names, unless that was done.

    Raises:
        FdsegError: nothing can be done; or, after all else was done, some volumes failed.
    """
    check(config)
    from fdseg.predictions import find_files, name_volumes
    from fdseg.trained import read_runs

    files = find_files([Path(path) for path in configuration.several(config.input)])
    trained = read_runs(
        [Path(path) for path in configuration.several(config.run)],
        checkpoint=config.checkpoint,
        trust=configuration.several(config.trust),
    )
    volumes = name_volumes(files, trained[0].channel)
    predictions = _predictions(config, trained)
    if left := len(files) - len(volumes):
        others = f"{counted(left, 'file')} of other channels"
        print(
            f"Channel {trained[0].channel:04} of {counted(len(volumes), 'volume')}; "
            f"{others} left out."
        )
    missing = predictions.begin(volumes, config.overwrite)
    if skipped := len(volumes) - len(missing):
        print(f"{skipped} of {len(volumes)} are there already; overwrite=true does them again.")
    if not missing:
        return
    start = time.perf_counter()
    problems = _work(predictions, missing)
    seconds = time.perf_counter() - start
    print(f"{len(missing) - len(problems)} done in {seconds:.1f} s: {predictions.folder}")
    if problems:
        heading = f"{len(problems)} of {counted(len(volumes), 'volume')} could not be predicted:"
        raise FdsegError("\n  ".join([heading, *problems]))


def check(config: DictConfig) -> None:
    """Refuse values of the wrong kind, before anything slow is imported.

    Raises:
        FdsegError: names the key.
    """
    for key in ("probabilities", "overlays", "flips", "overwrite"):
        if not isinstance(config[key], bool):
            raise FdsegError(f"{key}={config[key]}: expected true or false.")
    memory_gb = config.memory_gb
    if memory_gb is not None and (not isinstance(memory_gb, (int, float)) or not memory_gb > 0):
        raise FdsegError(f"memory_gb={memory_gb}: expected a number above 0.")
    if config.device not in ("auto", "cpu", "cuda"):
        raise FdsegError(f"device={config.device}: expected auto, cpu or cuda.")


def _predictions(config: DictConfig, trained: "Sequence[TrainedRun]") -> "Predictions":
    from fdseg.inference import Predictor, find_device
    from fdseg.memory import available_gb
    from fdseg.predictions import Predictions

    _announce(trained)
    if config.flips and not all(one.saw_flips for one in trained):
        # Real hippocampi, trained without: Dice 0.77 with whole volumes, 0.04 over all flips.
        print("warning: flips=true, but training mirrored nothing: expect much worse labels.")
    predictor = Predictor(
        trained,
        device=find_device(config.device),
        flips=config.flips,
        memory_gb=config.memory_gb or 0.9 * available_gb(),  # a tenth is left to others
    )
    print(f"Memory budget (memory_gb): {predictor.memory_gb:.1f} GB. {predictor.describe()}")
    return Predictions(Path(str(config.output)), predictor, config.probabilities, config.overlays)


def _announce(trained: Sequence["TrainedRun"]) -> None:
    if trained[0].is_phantom:
        print("PHANTOM: trained on synthetic data; its predictions say nothing about patients.")
    what = f"{trained[0].task} ({', '.join(trained[0].structures)})"
    print(f"{what} by {f'the mean of {len(trained)} runs' if len(trained) > 1 else 'one run'}")
    for one in trained:
        print(f"  {one.folder}, {one.checkpoint}")


def _work(predictions: "Predictions", missing: Mapping[str, Path]) -> list[str]:
    """Predict one volume after the other; return what is wrong with those that are wrong."""
    from tqdm import tqdm

    from fdseg.records import OtherRunsError

    problems = []
    interval = 0.2 if sys.stderr.isatty() else 30
    for name in tqdm(missing, desc="Predicting", unit="volume", mininterval=interval):
        try:
            predictions.write(name, missing[name])
        except OtherRunsError:
            raise
        except FdsegError as error:
            problems.append(str(error))
        except OSError as error:
            raise FdsegError(
                f"output={predictions.folder}: cannot be written ({error.strerror or error}). "
                "What was written before stays valid."
            ) from None
    return problems


main = configuration.entry_point(run, "predict")

if __name__ == "__main__":
    sys.exit(main())
