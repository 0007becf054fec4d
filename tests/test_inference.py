"""Probabilities on the grid: means over runs and flips, and windows where memory is short."""

import copy
import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from fdseg import inference, memory
from fdseg.errors import FdsegError
from fdseg.inference import Predictor
from fdseg.trained import read_run

CPU = torch.device("cpu")
SIZE = (16, 20, 12)


@pytest.fixture(scope="module")
def trained(make_run, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    folders = [make_run(root / f"{n}", "fusion=late", weights=n) for n in range(3)]
    return [read_run(folder) for folder in folders]


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random(SIZE, np.float32)


def alone(run, image):
    """The network's own answer."""
    network = run.network.to(memory_format=torch.channels_last_3d)
    with torch.inference_mode():
        return network(torch.from_numpy(image)[None, None]).sigmoid()[0].numpy()


def test_one_run_gives_exactly_its_networks_probabilities(trained, image):
    predict = Predictor(trained[:1], device=CPU, memory_gb=100)
    assert predict.window is None
    np.testing.assert_array_equal(predict(image), alone(trained[0], image))


def test_several_runs_give_their_mean(trained, image):
    expected = np.mean([alone(run, image) for run in trained], axis=0)
    found = Predictor(trained, device=CPU, memory_gb=100)(image)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32


def test_flips_give_the_mean_over_all_eight_turned_back(trained, image):
    run, expected = trained[0], 0.0
    for x in (1, -1):
        for y in (1, -1):
            for z in (1, -1):
                flipped = np.ascontiguousarray(image[::x, ::y, ::z])
                expected = expected + alone(run, flipped)[:, ::x, ::y, ::z] / 8
    found = Predictor([run], device=CPU, flips=True, memory_gb=100)(image)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_flipped_volume_has_flipped_probabilities_under_flips(trained, image):
    predict = Predictor(trained[:1], device=CPU, flips=True, memory_gb=100)
    flipped = np.ascontiguousarray(image[:, ::-1])
    np.testing.assert_allclose(predict(flipped)[:, :, ::-1], predict(image), atol=1e-6)


@pytest.mark.parametrize("flips", [False, True])
def test_a_run_whose_probabilities_are_not_finite_is_named_among_several(flips, trained, image):
    network = copy.deepcopy(trained[1].network)
    network.stem_low.weight.data.fill_(1e38)  # finite, and each sum of 27 voxels is not
    several = [trained[0], dataclasses.replace(trained[1], network=network), trained[2]]
    predict = Predictor(several, device=CPU, flips=flips, memory_gb=100)
    with pytest.raises(FdsegError, match=rf"^x.nii, by {trained[1].folder}: .* not finite"):
        predict(image, "x.nii")


# Windows. Where a network looks at each voxel by itself they are exact, all else aside.


@pytest.fixture
def local(trained):
    """A run whose backbone and head see each voxel by itself, after one norm over the volume."""
    network = copy.deepcopy(trained[0].network)
    torch.manual_seed(0)
    norm = torch.nn.InstanceNorm3d(8, affine=True)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    network.backbone = torch.nn.Sequential(norm, torch.nn.GELU(), torch.nn.Conv3d(8, 8, 1))
    network.head = torch.nn.Conv3d(8, 2, 1)
    return [dataclasses.replace(trained[0], network=network.eval())]


@pytest.fixture
def tight(monkeypatch):
    """Makes a budget by which windows of this many voxels are the largest that fit."""

    def make(size):
        voxels = float(np.prod(size))
        monkeypatch.setattr(inference, "used_gb", lambda: 0.0)
        monkeypatch.setattr(inference, "forward_gb", lambda _, grid: np.prod(grid) / voxels)
        monkeypatch.setattr(inference, "_SMALLEST", 4)
        return 1.001

    return make


@pytest.mark.parametrize("fusion", ["none", "late"])
def test_windows_of_a_local_network_give_the_whole(fusion, local, image, tight):
    if fusion == "none":
        local[0].network.split = None
    whole = Predictor(local, device=CPU, memory_gb=100)(image)
    predict = Predictor(local, device=CPU, memory_gb=tight((8, 20, 12)))
    assert predict.window == (8, 16, 12)
    # Windows touch at multiples of 8, 16 and 12: on an axis of 20 they would overlap by 12.
    predict.trained[0].network.backbone.window = (8, 20, 12)
    np.testing.assert_allclose(predict(image), whole, atol=1e-6)
    assert whole.std() > 0.01


def test_a_predictor_in_windows_leaves_the_run_as_it_was(local, image, tight):
    before = Predictor(local, device=CPU, memory_gb=100)(image)
    Predictor(local, device=CPU, memory_gb=tight((8, 16, 12)))(image)
    np.testing.assert_array_equal(Predictor(local, device=CPU, memory_gb=100)(image), before)


@pytest.mark.parametrize(
    ("multiple_of", "minimum", "window"),
    [(1, 1, (16, 16, 12)), (16, 16, (16, 16, 16)), (8, 16, (16, 16, 16)), (1, 20, (20, 20, 20))],
)
def test_a_backbone_gets_grids_that_it_can_take(
    multiple_of, minimum, window, local, image, monkeypatch
):
    monkeypatch.setattr(inference, "_SMALLEST", 4)
    monkeypatch.setattr(inference, "forward_gb", lambda _, grid: 200.0 * (tuple(grid) == SIZE))
    network, sizes = local[0].network, []
    network.multiple_of, network.minimum = multiple_of, minimum
    network.backbone.register_forward_pre_hook(lambda _, x: sizes.append(x[0].shape[2:]))
    if minimum == 20:  # the padded grid is the smallest that it takes
        with pytest.raises(FdsegError, match=r"the network needs about 200.0 GB at the least"):
            Predictor(local, device=CPU, memory_gb=100)
        return
    predict = Predictor(local, device=CPU, memory_gb=100)
    assert predict.window == window
    assert predict(image).shape == (2, *SIZE)
    assert sizes
    assert all(n % multiple_of == 0 and n >= minimum for size in sizes for n in size)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((16, 20, 12), None), ((16, 16, 12), (16, 16, 12)), ((16, 15, 12), (8, 16, 12))],
)
def test_a_window_is_no_smaller_than_it_must_be(size, expected, local, tight):
    predict = Predictor(local, device=CPU, memory_gb=tight(size))
    assert predict.window == expected


def test_what_windows_mean_is_said(trained, tight):
    assert "voxels at once." in Predictor(trained[:1], device=CPU, memory_gb=100).describe()
    words = Predictor(trained, device=CPU, memory_gb=tight((16, 16, 12))).describe()
    assert "works in windows of 16×16×12: slower, and labels may differ" in words
    assert "labels may differ" in words


def test_a_budget_that_is_too_small_is_refused_with_what_is_needed(trained):
    with pytest.raises(
        FdsegError, match=r"memory_gb=0.1: .* GB of it are left, and the network ne"
    ):
        Predictor(trained, device=CPU, memory_gb=0.1)


# Memory


@pytest.mark.parametrize("channels", [1, 5])
def test_the_estimate_counts_what_is_alive_at_once(channels):
    class Layers(torch.nn.Module):
        def forward(self, x):  # at its worst: x, its copies, and their sum
            copies = x.expand(-1, channels, -1, -1, -1).contiguous()
            total = copies + copies.relu()
            del copies
            return total.mean(1, keepdim=True)

    bytes_alive = 4 * 30**3 * (channels * 3 + (channels > 1))
    with torch.inference_mode(), memory._Alive() as alive:
        Layers()(torch.empty(1, 1, 30, 30, 30, device="meta"))
    assert alive.peak == bytes_alive
    assert alive.now == 0


FORWARD = """
import torch
from fdseg.memory import forward_gb, peak_gb, used_gb
from fdseg.networks import ResidualUNet, SegmentationNetwork
network = SegmentationNetwork(ResidualUNet(), 8, 2, "early").eval()
estimate = forward_gb(network, (96, 96, 64))
network.to(memory_format=torch.channels_last_3d)
before = used_gb()
with torch.inference_mode():
    network(torch.rand(1, 1, 96, 96, 64))
print(peak_gb() - before, estimate)
"""


def test_the_estimate_is_no_less_than_a_forward_pass_takes_and_not_much_more():
    ended = subprocess.run(
        [sys.executable, "-c", FORWARD], capture_output=True, text=True, check=True
    )
    measured, estimate = map(float, ended.stdout.split())
    assert measured < estimate < 2 * measured


def test_memory_is_counted_while_it_is_held_and_its_peak_is_kept():
    before = memory.used_gb()
    block = np.ones(40_000_000)
    held = memory.used_gb()
    del block
    assert held - before == pytest.approx(0.32, abs=0.02)
    assert held - memory.used_gb() == pytest.approx(0.32, abs=0.02)
    assert memory.peak_gb() >= held - 0.01
    assert memory.available_gb() > memory.used_gb()
