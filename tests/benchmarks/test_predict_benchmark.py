"""What a prediction takes: seconds, of which in the network, and memory, up to 512×512×400 voxels.

Run with `pytest tests/benchmarks/test_predict_benchmark.py -s -o addopts=`.
"""

import json
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
from scipy.ndimage import zoom
from sizes import sized

# A grid that does not fit into the budget, of which the libraries alone take 0.5 GB.
SHAPE, GRID = sized((512, 512, 400), (96, 96, 64)), sized("[256,256,128]", "[96,96,64]")
BUDGET_GB = sized(4.0, 1.0)

# One process that predicts volumes as the command does, and says what it took.
PREDICT = """
import json, sys, time
from pathlib import Path
import torch
from fdseg.inference import Predictor
from fdseg.memory import peak_gb
from fdseg.predictions import Predictions, find_files, name_volumes
from fdseg.trained import read_runs

run, volumes, output, memory_gb = sys.argv[1:]
class Timed(Predictor):
    seconds = []
    def __call__(self, *volume):
        start = time.perf_counter()
        try:
            return super().__call__(*volume)
        finally:
            self.seconds.append(time.perf_counter() - start)
predictor = Timed(read_runs([Path(run)]), device=torch.device("cpu"), memory_gb=float(memory_gb))
predictions = Predictions(Path(output), predictor, False, False)
loaded, seconds = peak_gb(), []
given = name_volumes(find_files([Path(volumes)]))
for name, path in predictions.begin(given, overwrite=True).items():
    start = time.perf_counter()
    predictions.write(name, path)
    seconds.append(time.perf_counter() - start)
print(json.dumps({
    "seconds": seconds[1:] or seconds, "network": Timed.seconds[1:] or Timed.seconds,
    "loaded": loaded, "peak": peak_gb(), "window": predictor.window,
}))
"""


def predicted(run, volumes, output, memory_gb=1000.0):
    words = [sys.executable, "-c", PREDICT, run, volumes, output, str(memory_gb)]
    return json.loads(subprocess.run(words, capture_output=True, check=True).stdout)


def save(path, shape, seed=0):
    """A volume of smooth noise in Hounsfield units."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-1000, 1500, [-(-n // 8) for n in shape]).astype(np.float32)
    voxels = zoom(coarse, 8, order=1)[tuple(slice(n) for n in shape)].astype(np.int16)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.diag([-0.8, -0.8, 1, 1])), path)
    return path


@pytest.mark.parametrize(
    ("task", "size", "shape", "volumes"),
    [
        ("hippocampus", "[56,56,40]", (35, 51, 35), sized(12, 2)),
        (
            "red_nucleus", sized("[160,160,128]", "[32,32,24]"),
            sized((164, 205, 205), (30, 40, 40)), sized(4, 2),
        ),
    ],
)  # fmt: skip
def test_a_prediction_takes_little_beside_the_network(
    task, size, shape, volumes, make_run, tmp_path, benchmark
):
    run = make_run(
        tmp_path / "run", f"data={task}", f"data.size={size}", "fusion=early", "theta=0.1"
    )
    for number in range(volumes):
        save(tmp_path / "in" / f"{number}.nii.gz", shape, number)

    def measure():
        return predicted(run, tmp_path / "in", tmp_path / "out")

    took = benchmark.pedantic(measure, rounds=1)
    seconds, network = np.median(took["seconds"]), np.median(took["network"])
    print(
        f"\n{task}, {'×'.join(map(str, shape))}: {seconds:.2f} s a volume, network "
        f"{100 * network / seconds:.0f} %, peak {took['peak']:.2f} GB, {took['loaded']:.2f} before"
    )
    assert took["window"] is None
    assert took["peak"] < 3


def test_a_volume_of_512_512_400_stays_within_4_gb_with_the_same_labels(
    make_run, tmp_path, benchmark
):
    run = make_run(
        tmp_path / "run", "data=spleen", f"data.size={GRID}", "fusion=early", "theta=0.1"
    )
    path = save(tmp_path / "in" / "ct.nii.gz", SHAPE)

    def measure():
        return predicted(run, path, tmp_path / "within", memory_gb=BUDGET_GB)

    within = benchmark.pedantic(measure, rounds=1)
    without = predicted(run, path, tmp_path / "without")
    labels = [
        np.asarray(nib.load(tmp_path / f / "ct.nii.gz").dataobj) for f in ("within", "without")
    ]
    same = (labels[0] == labels[1]).mean()
    print(
        f"\n{'×'.join(map(str, SHAPE))}: {within['seconds'][0]:.0f} s, peak "
        f"{within['peak']:.2f} GB within {BUDGET_GB} GB, {without['peak']:.2f} GB without; "
        f"{100 * same:.3f} % of labels are the same"
    )
    assert within["peak"] < BUDGET_GB
    assert same > 0.999
    assert 0.001 < (labels[0] > 0).mean() < 0.999
