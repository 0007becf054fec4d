"""``python -m fdseg.export``: a run's network as a file that needs no fdseg.

What only an export needs is imported where it begins, so that help answers at once.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from fdseg import config as configuration
from fdseg import runs
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals

_ENDINGS = {"onnx": ".onnx", "torch": ".pt2"}


def run(config: DictConfig) -> None:
    """Write the network of a run, and beside it a JSON file that says how to use it.

    Raises:
        FdsegError: the run cannot be read, its network not be exported, or the file not be written.
    """
    if config.format not in _ENDINGS:
        raise FdsegError(f"format={config.format}: expected {' or '.join(_ENDINGS)}.")
    from fdseg.portable import description, write_onnx, write_torch
    from fdseg.trained import find_runs, read_run

    folders = find_runs([Path(path) for path in configuration.several(config.run)])
    if len(folders) > 1:
        raise FdsegError(f"run={config.run}: {len(folders)} runs; name one of them to export.")
    trained = read_run(
        folders[0], checkpoint=config.checkpoint, trust=configuration.several(config.trust)
    )
    ending = _ENDINGS[config.format]
    output = Path(str(config.output))
    path = output if output.suffix == ending else output / f"network{ending}"
    guide = path.with_name(f"{path.name}.json")
    run_files = [folders[0] / "config.yaml", *folders[0].glob("checkpoints/*")]
    refuse_originals([path, guide], run_files)
    try:
        (write_onnx if config.format == "onnx" else write_torch)(trained, path)
        runs.write_json(guide, description(trained, path.name))
    except OSError as error:
        raise FdsegError(
            f"output={output}: cannot be written ({error.strerror or error})."
        ) from None
    print(f"{path} ({path.stat().st_size / 1e6:.1f} MB); {guide.name} says how to use it")


main = configuration.entry_point(run, "export")

if __name__ == "__main__":
    sys.exit(main())
