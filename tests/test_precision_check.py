"""A reduced precision that computes wrongly is found before it is used, on any processor."""

import math
import shutil
from functools import partial

import pytest
import torch
from commands import compose, table, trained
from torch import nn
from torch.nn import functional as F

from fdseg import predict, status
from fdseg.errors import WrongPrecisionError
from fdseg.frequency import BoxSplit
from fdseg.networks import ResidualUNet, SegmentationNetwork
from fdseg.networks.conv import Conv3x3x3
from fdseg.precision_check import find_wrong_results
from fdseg.runs import read_json

BFLOAT16 = partial(torch.autocast, "cpu", torch.bfloat16)
TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.5",
    "data.split.training=4", "data.split.validation=1", "data.split.test=3", "n=2",
    "trainer.max_epochs=2", "trainer.check_val_every_n_epoch=1", "trainer.accelerator=cpu",
]  # fmt: skip


class Conv(nn.Module):
    """A convolution whose results in bfloat16 a function may change."""

    def __init__(self, change=lambda y: y, scale=1.0):
        super().__init__()
        self.conv, self.change, self.scale = nn.Conv3d(1, 2, 3, padding=1), change, scale

    def forward(self, x):
        y = self.conv(x * self.scale)
        return self.change(y) if y.dtype == torch.bfloat16 else y


class Sensitive(nn.Module):
    """Takes nearly equal values apart, so that rounding alone changes everything."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv3d(1, 2, 3, padding=1)
        nn.init.constant_(self.conv.bias, 1000.0)

    def forward(self, x):
        return F.instance_norm(self.conv(x))


def check(network, with_loss=True):
    torch.manual_seed(0)
    x, target = torch.randn(1, 1, 12, 10, 8), torch.rand(1, 2, 12, 10, 8).round()
    loss = partial(F.binary_cross_entropy_with_logits, target=target) if with_loss else None
    return find_wrong_results(network, x, BFLOAT16, loss)


@pytest.mark.parametrize("with_loss", [True, False])
@pytest.mark.parametrize("network", [Conv(), Sensitive()], ids=["plain", "sensitive"])
def test_what_rounding_explains_is_not_wrong(network, with_loss):
    assert check(network, with_loss) is None


@pytest.mark.parametrize("fusion", ["none", "early", "late"])
def test_the_papers_network_is_right_in_bfloat16(fusion):
    torch.manual_seed(0)
    assert check(SegmentationNetwork(ResidualUNet(8), 8, 2, fusion, BoxSplit(0.5))) is None


@pytest.mark.parametrize(
    "change",
    [lambda y: y * 0, lambda y: y.roll(1, -1), lambda y: y * math.nan, lambda y: y * 1e30],
    ids=["zeros", "moved", "nan", "huge"],
)
@pytest.mark.parametrize("with_loss", [True, False])
def test_a_wrong_kernel_is_found_with_its_distance_and_that_of_rounding(change, with_loss):
    # `change` stands for a kernel, which is not the one that computes in float32 and rounds.
    wrong = check(Conv(lambda y: change(y) if not _emulated() else y), with_loss)
    assert wrong.startswith("relative distance from float32: output ")
    assert wrong.count("(rounding explains 0.00") == 1 + with_loss


def _emulated():
    return torch.utils._python_dispatch._get_current_dispatch_mode() is not None


def test_a_wrong_gradient_is_found_where_the_output_is_right():
    class Backward(torch.autograd.Function):
        @staticmethod
        def forward(ctx, y):
            return y.clone()

        @staticmethod
        def backward(ctx, gradient):
            return gradient if _emulated() else -gradient

    assert check(Conv(Backward.apply), with_loss=False) is None
    assert "output 0.00" in (wrong := check(Conv(Backward.apply)))
    assert "gradient 2 (rounding explains 0.00" in wrong


def test_a_grid_that_would_overrun_memory_is_never_tried():
    x = torch.rand(1, 1, 3, 100, 80)  # in which a convolution of 8 channels ended the process
    wrong = find_wrong_results(Conv(), x, BFLOAT16, lambda y: y.square().mean())
    assert "writes beyond its memory" in wrong


def test_the_network_and_the_random_numbers_stay_as_they_were():
    network = nn.Sequential(nn.BatchNorm3d(1), nn.Dropout3d(0.5), Conv())
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    x = torch.randn(1, 1, 8, 8, 8)
    torch.manual_seed(5)
    assert find_wrong_results(network, x, BFLOAT16, lambda y: y.square().mean()) is None
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert network.training
    assert network[1].training
    assert all(p.grad is None for p in network.parameters())


@pytest.fixture
def wrong_kernel(monkeypatch):
    """Convolutions that return zeros in bfloat16, on a processor that is said to compute it."""
    monkeypatch.setenv("FDSEG_NATIVE_BF16", "1")
    right = Conv3x3x3.forward

    def forward(self, x):
        y = right(self, x)
        return y * 0 if torch.is_autocast_enabled("cpu") and not _emulated() else y

    monkeypatch.setattr(Conv3x3x3, "forward", forward)


def test_an_automatic_precision_that_is_wrong_gives_way_to_float32(
    wrong_kernel, cohort, tmp_path, capsys
):
    words = [*TINY, f"data.cache={cohort}"]
    expected = trained(*words, f"runs={tmp_path / 'named'}", "trainer.precision=32-true")
    folder = trained(*words, f"runs={tmp_path / 'auto'}")
    assert folder.name == expected.name
    assert table(folder / "cases.csv") == table(expected / "cases.csv")
    said = capsys.readouterr().err
    assert "trainer.precision=bf16-mixed: computes wrong results for this network" in said
    assert "The run is trained in it." in said
    refused = next(p.parent for p in (tmp_path / "auto").rglob("failure.json"))
    assert refused.parent == folder.parent
    assert not (refused / "history.csv").exists()
    assert "rounding explains" in read_json(refused / "failure.json")["reason"]

    assert trained(*words, f"runs={tmp_path / 'auto'}") == folder  # it is found again
    status.run([*words, f"runs={tmp_path / 'auto'}"])
    assert "1 run: 1 done" in capsys.readouterr().out


def test_a_precision_asked_for_by_name_is_refused_where_it_is_wrong(wrong_kernel, cohort, tmp_path):
    with pytest.raises(
        WrongPrecisionError,
        match=r"trainer.precision=bf16-mixed: .* output 1 \(rounding explains 0\.0.*gradient .*"
        r"Use trainer.precision=32-true",
    ):
        trained(*TINY, f"data.cache={cohort}", f"runs={tmp_path}", "trainer.precision=bf16-mixed")
    assert not list(tmp_path.rglob("history.csv"))


@pytest.fixture
def trained_in_bfloat16(cohort, tmp_path):
    words = ["trainer.precision=bf16-mixed", f"data.cache={cohort}", f"runs={tmp_path / 'runs'}"]
    return trained(*TINY, *words)


def test_a_prediction_is_made_in_float32_where_the_runs_precision_is_wrong(
    trained_in_bfloat16, cohort, tmp_path, request
):
    volumes = next(cohort.glob("phantom/*/*/imagesTr"))
    volume = sorted(volumes.glob("*.nii.gz"))[0]

    def predicted(run, name):
        words = [f"run={run}", f"input={volume}", f"output={tmp_path / name}", "device=cpu"]
        predict.run(compose("predict", *words))
        return (tmp_path / name / volume.name).read_bytes()

    in_float32 = shutil.copytree(trained_in_bfloat16, tmp_path / "in_float32")
    config = (in_float32 / "config.yaml").read_text()
    (in_float32 / "config.yaml").write_text(config.replace("bf16-mixed", "32-true"))
    expected = predicted(in_float32, "expected")
    request.getfixturevalue("wrong_kernel")
    with pytest.warns(UserWarning, match=r"bfloat16 computes wrong results .* float32 is used"):
        assert predicted(trained_in_bfloat16, "found") == expected
