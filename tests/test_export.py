"""Exported networks, used by code that knows nothing of fdseg but what the JSON file says."""

import functools
import json
import re
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
import onnxruntime
import pytest
from commands import assert_refused, compose, shell
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from synthetic import RESULT

from fdseg import export, predict
from fdseg.errors import FdsegError

FORMATS = {"onnx": "network.onnx", "torch": "network.pt2"}


# An implementation of its own, from the JSON file alone.


def to_grid(volume, step):
    """The step before the network, and its undoing after it."""
    size, shape = step["size"], volume.shape
    if step["step"] == "resize":
        there = [(np.arange(s) + 0.5) * n / s - 0.5 for s, n in zip(size, shape, strict=True)]
        back = [(np.arange(n) + 0.5) * s / n - 0.5 for s, n in zip(size, shape, strict=True)]
        return at(volume, there), lambda channel: at(channel, back)
    grid = np.full(size, step["fill"], np.float32)
    inside, source = [], []
    for s, n in zip(size, shape, strict=True):
        front, kept = -(-abs(s - n) // 2), min(s, n)
        inside.append(slice(front, front + kept) if s > n else slice(0, kept))
        source.append(slice(0, kept) if s > n else slice(front, front + kept))
    grid[tuple(inside)] = volume[tuple(source)]

    def undo(channel):
        restored = np.zeros(shape, np.float32)
        restored[tuple(source)] = channel[tuple(inside)]
        return restored

    return grid, undo


def at(array, positions):
    where = np.meshgrid(*positions, indexing="ij")
    return map_coordinates(array, where, order=1, mode="nearest")


def segment(path, guide, network):
    """Labels and probabilities of a volume, in its own geometry."""
    image = nib.load(path)
    turn = nib.io_orientation(image.affine)
    back = nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
    volume = nib.as_closest_canonical(image).get_fdata(dtype=np.float32)
    volume = (volume - volume.min()) / (volume.max() - volume.min())
    reshape = next(s for s in guide["preprocessing"] if s["step"] in ("resize", "crop_or_pad"))
    grid, undo = to_grid(volume, reshape)
    probabilities = np.stack([undo(channel) for channel in network(grid[None, None])[0]])
    threshold = next(s["threshold"] for s in guide["postprocessing"] if s["step"] == "label")
    labels = np.zeros(volume.shape, int)
    for structure in guide["structures"]:
        mine = probabilities[structure["channel"]]
        labels[(mine == probabilities.max(0)) & (mine > threshold)] = structure["value"]
    native = [nib.orientations.apply_orientation(a, back) for a in (labels, *probabilities)]
    return native[0], np.stack(native[1:])


# Pairs of a run and what it exported


def command(name, main, *words):
    main(compose(name, *words))


@pytest.fixture(scope="module", params=["crop_or_pad", "resize"])
def exported(request, make_run, tmp_path_factory):
    """A run, its exports in both formats, and random volumes with the run's own predictions."""
    root = tmp_path_factory.mktemp(request.param)
    run = make_run(
        root / "run", f"data.reshape={request.param}", "fusion=early",
        "data.structures.posterior=7", weights=5,
    )  # fmt: skip
    for form in FORMATS:
        command("export", export.run, f"run={run}", f"output={root}/export", f"format={form}")
    rng = np.random.default_rng(1)
    (root / "in").mkdir()
    for number in range(6):
        turn = Rotation.from_euler("xyz", rng.uniform(-25, 25, 3), degrees=True).as_matrix()
        affine = np.eye(4)
        permuted = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
        affine[:3, :3] = turn @ permuted @ np.diag(rng.uniform(0.5, 3, 3))
        voxels = rng.normal(size=rng.integers(10, 26, 3)).cumsum(0).cumsum(1) * 20
        nib.save(nib.Nifti1Image(voxels.astype(np.int16), affine), root / f"in/{number}.nii.gz")
    command(
        "predict", predict.run,
        f"run={run}", f"input={root}/in", f"output={root}/out", "probabilities=true",
    )  # fmt: skip
    return root


def predictions(root):
    """Per volume its path, the labels and the probabilities of the run itself."""
    for path in sorted((root / "in").iterdir()):
        name = path.name.removesuffix(".nii.gz")
        with np.load(root / "out" / f"{name}_probabilities.npz") as file:
            probabilities = np.stack([file["anterior"], file["posterior"]]).astype(np.float32)
        yield path, np.asarray(nib.load(root / "out" / path.name).dataobj), probabilities


def agrees(root, guide, network):
    """Compare a network elsewhere with the run's own predictions; return the labels that occur."""
    worst, same, voxels, seen = 0.0, 0, 0, set()
    for path, labels, probabilities in predictions(root):
        found, theirs = segment(path, guide, network)
        worst = max(worst, np.abs(theirs - probabilities).max())
        same, voxels = same + (found == labels).sum(), voxels + labels.size
        seen |= set(np.unique(labels))
    print(f"\nprobabilities to {worst:.1e}, {100 * same / voxels:.4f} % of the labels")
    assert worst <= 1e-3
    assert same / voxels > 0.9999
    return seen


def read_guide(root, form):
    return json.loads((root / "export" / f"{FORMATS[form]}.json").read_text())


def test_onnxruntime_and_the_json_file_give_the_runs_own_prediction(exported):
    guide = read_guide(exported, "onnx")
    session = onnxruntime.InferenceSession(exported / "export" / guide["network"]["file"])
    run = functools.partial(session.run, [guide["network"]["output"]["name"]])
    name = guide["network"]["input"]["name"]
    assert agrees(exported, guide, lambda grid: run({name: grid})[0]) == {0, 1, 7}


ALONE = """
import sys
for package in ("fdseg", "monai", "torchio", "lightning", "hydra"):
    sys.modules[package] = None  # importing it fails
import numpy as np, torch
network = torch.export.load(sys.argv[1]).module()
with np.load(sys.argv[2]) as file:
    np.savez(sys.argv[3], **{k: network(torch.from_numpy(file[k])).detach() for k in file})
"""


def test_torch_alone_and_the_json_file_give_the_runs_own_prediction(exported, tmp_path):
    guide = read_guide(exported, "torch")
    grids = []
    for path, _, _ in predictions(exported):
        segment(path, guide, lambda grid: grids.append(grid) or np.zeros((1, 2, *grid.shape[2:])))
    np.savez(tmp_path / "in.npz", *grids)
    words = [exported / "export" / guide["network"]["file"], tmp_path / "in.npz"]
    subprocess.run(
        [sys.executable, "-c", ALONE, *words, tmp_path / "out.npz"], check=True, timeout=100,
        cwd=tmp_path,
    )  # fmt: skip
    with np.load(tmp_path / "out.npz") as file:
        answers = iter([file[f"arr_{n}"] for n in range(len(grids))])
    assert agrees(exported, guide, lambda grid: next(answers)) == {0, 1, 7}


@pytest.mark.parametrize("form", FORMATS)
def test_the_json_file_says_what_the_network_takes_and_gives(form, exported):
    guide = read_guide(exported, form)
    assert guide["network"] == {
        "file": FORMATS[form],
        "input": {"name": "image", "dtype": "float32", "shape": [1, 1, 16, 20, 12]},
        "output": {"name": "probabilities", "dtype": "float32", "shape": [1, 2, 16, 20, 12]},
    }
    assert [s["value"] for s in guide["structures"]] == [1, 7]
    assert guide["trained_on"] == "real volumes"
    steps = [*guide["preprocessing"], *guide["postprocessing"]]
    assert [s["step"] for s in steps] == [
        "orientation", "rescale", steps[2]["step"], "restore", "label", "orientation",
    ]  # fmt: skip
    assert all(len(s["how"]) > 40 for s in steps)


def test_the_onnx_file_is_whole_and_says_its_shapes(exported):
    path = exported / "export" / "network.onnx"
    onnx.checker.check_model(path, full_check=True)
    (node,) = onnxruntime.InferenceSession(path).get_inputs()
    assert (node.name, node.shape, node.type) == ("image", [1, 1, 16, 20, 12], "tensor(float)")
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "network.onnx", "network.onnx.json", "network.pt2", "network.pt2.json",
    ]  # fmt: skip


@pytest.mark.data
def test_real_volumes_agree_too(real_data, make_run, tmp_path):
    run = make_run(tmp_path / "run", "fusion=late", "data.size=[56,56,40]", weights=2)
    (tmp_path / "in").mkdir()
    for path in sorted((real_data / "Task04_Hippocampus/imagesTr").glob("hipp*.nii.gz"))[:5]:
        (tmp_path / "in" / path.name).symlink_to(path)
    words = [f"run={run}", f"output={tmp_path}"]
    command("export", export.run, words[0], f"output={tmp_path}/mine.onnx")
    command("predict", predict.run, words[0], f"input={tmp_path}/in", f"output={tmp_path}/out",
            "probabilities=true")  # fmt: skip
    guide = json.loads((tmp_path / "mine.onnx.json").read_text())
    session = onnxruntime.InferenceSession(tmp_path / guide["network"]["file"])
    seen = agrees(tmp_path, guide, lambda x: session.run(None, {"image": x})[0])
    assert len(seen) > 1


# What cannot be exported


def test_what_onnx_cannot_express_is_said_with_what_can(make_run, tmp_path):
    run = make_run(tmp_path / "run", "fusion=early", "split=as_released")
    with pytest.raises(FdsegError, match=r"ONNX cannot express this network \(.*Use format=torch"):
        command("export", export.run, f"run={run}", f"output={tmp_path}/out")
    assert not (tmp_path / "out").exists()
    command("export", export.run, f"run={run}", f"output={tmp_path}/out", "format=torch")
    assert (tmp_path / "out" / "network.pt2").stat().st_size > 10_000


def test_onnx_without_its_packages_is_refused_with_how_to_get_them(make_run, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    run = make_run(tmp_path / "run")
    with pytest.raises(FdsegError, match=r"pip install onnx onnxscript. format=torch needs none"):
        command("export", export.run, f"run={run}", f"output={tmp_path}/out")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["format=tensorflow"], "format=tensorflow: expected onnx or torch"),
        (["run=PARENT"], "2 runs; name one of them to export"),
        (["output=RUN/config.yaml"], "cannot be written"),
    ],
)
def test_a_wrong_word_is_refused_with_a_remedy(words, message, make_run, tmp_path):
    for name in ("a", "b"):
        make_run(tmp_path / "runs" / name)
        (tmp_path / "runs" / name / "result.json").write_text(json.dumps(RESULT))
    fill = {"RUN": str(tmp_path / "runs" / "a"), "PARENT": str(tmp_path / "runs")}
    given = {w.split("=")[0] for w in words}
    words = [w.replace("RUN", fill["RUN"]).replace("PARENT", fill["PARENT"]) for w in words]
    defaults = [f"run={fill['RUN']}", f"output={tmp_path}/out", "format=torch"]
    with pytest.raises(FdsegError, match=message):
        command(
            "export", export.run, *[d for d in defaults if d.split("=")[0] not in given], *words
        )


def test_a_full_disk_is_an_error_and_leaves_nothing(make_run, tmp_path, small_disk):
    run = make_run(tmp_path / "run", "backbone.features=16")
    words = [f"run={run}", f"output={small_disk.folder}/out"]
    message = f"output={small_disk.folder}/out: cannot be written (No space left on"
    assert_refused(shell("export", *words, "format=torch"), message)  # torch ended the process
    with pytest.raises(FdsegError, match=re.escape(message)):
        command("export", export.run, *words, "format=onnx")
    assert not list((small_disk.folder / "out").iterdir())


def test_the_command_answers_in_one_line(make_run, tmp_path):
    words = [f"run={make_run(tmp_path / 'run')}", "output=here", "format=onnx"]
    ended = shell("export", *words, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith(f"{Path('here', 'network.onnx')} (")
    assert ended.stdout.endswith("network.onnx.json says how to use it\n")
    assert ended.stdout.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["here", "run"]
