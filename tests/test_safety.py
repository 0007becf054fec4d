"""Runs that somebody made to harm: real files, and in each the proof that their payload is live.

A payload makes a file. A reader without care shows that it can, and fdseg that it did not.
"""

import functools
import math
import os
import pickle
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from pydoc import locate

import pytest
import torch
import yaml
from commands import assert_refused, compose, shell
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from fdseg.config import FOLDER
from fdseg.errors import FdsegError
from fdseg.safety import build, outline, read_config, read_weights
from fdseg.trained import read_run


class Payload:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def marker(tmp_path):
    return tmp_path / "payload-ran"


@pytest.fixture(scope="module")
def template(make_run, tmp_path_factory):
    return make_run(tmp_path_factory.mktemp("runs") / "run", "fusion=early")


@pytest.fixture
def run(template, tmp_path):
    return shutil.copytree(template, tmp_path / "run")


@pytest.fixture
def change(run):
    """Put a node somewhere into the configuration of the run."""

    def put(key, node):
        config = yaml.safe_load((run / "config.yaml").read_text())
        *parents, last = key.split(".")
        functools.reduce(lambda inner, name: inner[name], parents, config)[last] = node
        (run / "config.yaml").write_text(yaml.safe_dump(config))
        return run

    return put


def refused(run, marker, *words):
    with pytest.raises(FdsegError) as caught:
        read_run(run)
    assert not marker.exists()
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


# Targets. MARKER stands for the file that a payload makes, HUB for a folder of evil files.

TOUCH, WORDS = ["touch MARKER"], [["touch", "MARKER"]]
PYTHON = ["open('MARKER', 'w')"]
LIVE = {
    "os.system": {"_args_": TOUCH},
    "posix.system": {"_args_": TOUCH},
    "subprocess.call": {"_args_": WORDS},
    "builtins.eval": {"_args_": PYTHON},
    "builtins.exec": {"_args_": PYTHON},
    "builtins.open": {"_args_": ["MARKER", "w"]},
    "runpy.run_path": {"_args_": ["HUB/hubconf.py"]},
    "yaml.unsafe_load": {"_args_": ["!!python/object/apply:os.system ['touch MARKER']"]},
    "torch.os.system": {"_args_": TOUCH},
    "torch.hub.os.system": {"_args_": TOUCH},
    "torch.hub.load": {"_args_": ["HUB", "net"], "source": "local"},
    "torch.load": {"f": "HUB/evil.pt", "weights_only": False},
    "torch.serialization.load": {"f": "HUB/evil.pt", "weights_only": False},
    "torch.utils.cpp_extension.subprocess.call": {"_args_": WORDS},
    "torch.utils.cpp_extension.subprocess.Popen": {"_args_": WORDS},
    "torch.distributed.elastic.multiprocessing.subprocess_handler.SubprocessHandler": {
        "_args_": ["touch", ["MARKER"], {}, None, None, 0, None],
    },
    "torchio.utils.os.system": {"_args_": TOUCH},
    "lightning.fabric.utilities.seed.os.system": {"_args_": TOUCH},
    "monai.utils.module.os.system": {"_args_": TOUCH},
    "fdseg.config.os.system": {"_args_": TOUCH},
    "fdseg.manifest.subprocess.call": {"_args_": WORDS},
}


@pytest.fixture
def node(marker, tmp_path):
    """The YAML node of a live target."""
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "hubconf.py").write_text(f"open({str(marker)!r}, 'w')\ndef net(): pass\n")
    torch.save(Payload(marker), hub / "evil.pt")

    def make(target):
        text = yaml.safe_dump({"_target_": target, **LIVE[target]})
        return yaml.safe_load(text.replace("MARKER", str(marker)).replace("HUB", str(hub)))

    return make


def called(node):
    """What a reader without care would do."""
    options = {key: value for key, value in node.items() if not key.startswith("_")}
    locate(node["_target_"])(*node.get("_args_", []), **options)


@pytest.mark.parametrize("target", LIVE)
def test_the_payloads_are_live(target, node, marker):
    called(node(target))
    deadline = time.monotonic() + 10
    while not marker.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert marker.exists()


@pytest.mark.parametrize("target", LIVE)
@pytest.mark.parametrize("key", ["network", "network.backbone", "loss"])
def test_a_live_target_is_refused_by_name_and_does_not_run(key, target, node, change, marker):
    run = change(key, node(target))
    if key == "loss" and target.endswith("SubprocessHandler"):
        assert read_run(run)  # by its name a class of PyTorch; but only networks are ever made
        assert not marker.exists()
        return
    refused(run, marker, target, f"{key}._target_", "config.yaml")


@pytest.mark.parametrize(
    "key",
    ["network.split", "network.features", "network.backbone.features", "callbacks.history",
     "scores", "data", "data.cohort", "data.name", "optimizer", "trainer", "theta", "unheard_of"],
)  # fmt: skip
def test_a_target_is_refused_wherever_it_stands(key, node, change, marker):
    refused(change(key, node("os.system")), marker, "os.system", key)


@pytest.mark.parametrize(
    "hide",
    [
        lambda node: [node],
        lambda node: [[1, {"a": [node]}]],
        lambda node: {"_target_": "torch.nn.Sequential", "_args_": [node]},
        lambda node: {"_target_": "torch.nn.Sequential", "_args_": node},
        lambda node: {"_target_": "torch.nn.ReLU", "_partial_": True, "inplace": node},
        lambda node: {"_target_": {"_target_": node}},
        lambda node: {"_target_": [node["_target_"]]},
        lambda node: {"_recursive_": False, "_target_": "torch.nn.ReLU", "inplace": node},
    ],
)
@pytest.mark.parametrize("key", ["network.backbone", "loss"])
def test_a_hidden_target_is_found(key, hide, node, change, marker):
    refused(change(key, hide(node("os.system"))), marker, "_target_")


@pytest.mark.parametrize(
    "name",
    [
        "hydra.utils.instantiate", "hydra.utils.get_class", "omegaconf.OmegaConf.load",
        "functools.partial", "importlib.import_module", "numpy.load", "nibabel.load",
        "torch.nn.Module.__init__", "torch.nn.Module.load_state_dict", "torch.nn.init.normal_",
        "torch._C.PyTorchFileWriter", "torch.classes.load_library", "torch.ops.Aten",
        "torch..os.System", "torch.os", "torch", "", ".", "torch.nn.Conv3d ", " torch.nn.Conv3d",
        "torch.nn.Conv3d\n", "torch.nn.Conv3d;os.system", "torch.nn.Ｃonv3d", "torchx.nn.Conv3d",
        "torch/nn/Conv3d", "fdseg_evil.Net", "Fdseg.networks.ResidualUNet", "fdseg.train.main",
        3, True, None, ["torch.nn.Conv3d"], {"name": "torch.nn.Conv3d"},
    ],
)  # fmt: skip
def test_names_that_are_no_class_of_a_known_package_are_refused(name, change, marker):
    refused(change("loss._target_", name), marker, "loss._target_")


# Classes of the known packages that do harm when made, or are doors to other packages' classes.
@pytest.mark.parametrize(
    "name",
    [
        "torch.package.PackageImporter", "torch.jit.CompilationUnit", "torch.fx.GraphModule",
        "torch.distributed.TCPStore", "torch.utils.data.DataLoader", "lightning.Trainer",
        "lightning.pytorch.cli.LightningCLI", "monai.bundle.ConfigWorkflow",
        "monai.bundle.ConfigExpression", "monai.losses.PerceptualLoss", "torchio.Lambda",
        "torchio.datasets.IXI", "fdseg.data.task.Task", "fdseg.networks.disentangled.BoxSplit",
        "fdseg.networks.conv.Tensor", "fdseg.networks.unet.Conv4x4x4", "monai.networks.nets.Path",
    ],
)  # fmt: skip
def test_only_parts_of_networks_are_made(name, change, marker):
    node = {"_target_": name}
    if name == "fdseg.networks.disentangled.BoxSplit":  # a door to a part of a network
        assert isinstance(build(node, Path("config.yaml")), torch.nn.Module)
        return
    refused(change("network.backbone", node), marker, name, "network.backbone._target_")


def test_a_networks_arguments_name_no_file_and_no_address(change, marker):
    node = {
        "_target_": "monai.networks.nets.HoVerNet",
        "pretrained_url": "https://example.org/weights.pt",
    }
    refused(change("network.backbone", node), marker, "not made of files or addresses")


def test_nothing_is_imported_to_refuse(change):
    run = change("loss", {"_target_": "monai.utils.module.os.system", "command": "true"})
    code = (
        "import sys; from pathlib import Path; from fdseg.safety import read_config\n"
        f"try: read_config(Path({str(run / 'config.yaml')!r}))\n"
        "except Exception as error: print(type(error).__name__)\n"
        "print([m for m in ('monai', 'lightning', 'torchio', 'hydra') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:2] == ["FdsegError", "[]"]


@pytest.mark.parametrize("command", ["predict", "export"])
def test_a_command_refuses_a_forged_run_in_words(command, node, change, marker, tmp_path):
    run = change("network.backbone", node("torch.os.system"))
    (tmp_path / "volume.nii.gz").touch()
    words = {"predict": [f"input={tmp_path}"], "export": ["format=torch"]}[command]
    ended = shell(command, f"run={run}", f"output={tmp_path}/out", *words)
    assert_refused(ended, "network.backbone._target_ names torch.os.system")
    assert not marker.exists()
    assert not (tmp_path / "out").exists()


# What fdseg's own runs hold is not refused


@pytest.mark.parametrize("split", sorted(p.stem for p in FOLDER.glob("split/*.yaml")))
def test_a_run_with_any_split_is_read(split, make_run, tmp_path):
    words = ["fusion=early", f"split={split}", "data.size=[16,20,12]"]
    folder = make_run(tmp_path / "run", *words)
    theirs = instantiate(compose("train", "theta=0.3", *words).network.split)
    assert str(read_run(folder).network.split) == str(theirs)


def test_a_seed_may_be_any_number(make_run, tmp_path):
    words = ["fusion=early", "split=random", "split.mask.seed=12345678901"]
    assert read_run(make_run(tmp_path / "run", *words)).network.split.mask.keywords["seed"] > 2**32


@pytest.mark.parametrize(
    "options",
    [
        ["logger=all", "augmentation=standard", "optimizer=sgd", "loss=dice_focal", "data=heart"],
        ["fusion=late", "split=as_released", "optimizer=adamw", "loss=dice_ce", "data=red_nucleus"],
    ],
)
def test_what_the_configuration_offers_is_read(options, tmp_path):
    config = compose("train", "data.root=/data", *options)
    (tmp_path / "config.yaml").write_text(OmegaConf.to_yaml(config, resolve=True))
    assert read_config(tmp_path / "config.yaml") == OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("backbone", sorted(p.stem for p in FOLDER.glob("backbone/*.yaml")))
def test_every_backbone_is_made_as_hydra_makes_it(backbone):
    config = compose("train", f"backbone={backbone}", "fusion=early")
    theirs = instantiate(config.network, structures=2)
    node = OmegaConf.to_container(config.network, resolve=True)
    ours = build({**node, "structures": 2}, Path("config.yaml"))
    assert str(ours) == str(theirs)
    state = theirs.state_dict()
    shapes = outline({**node, "structures": 2}, Path("config.yaml"), len(state)).state_dict()
    assert {name: value.shape for name, value in shapes.items()} == {
        name: value.shape for name, value in state.items()
    }
    assert all(value.is_meta for value in shapes.values())


def test_a_network_of_ones_own_needs_trust(change, tmp_path, monkeypatch):
    (tmp_path / "mine.py").write_text(
        "from torch import nn\nclass Net(nn.Conv3d):\n    def __init__(self, folder):\n"
        "        super().__init__(8, 8, 3, padding=1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    run = change("network.backbone", {"_target_": "mine.Net", "folder": "/some/where"})
    with pytest.raises(FdsegError, match=r"names mine.Net.*trust=\[its.package\]"):
        read_run(run)
    assert "mine" not in sys.modules
    with pytest.raises(FdsegError, match="not the weights of the network"):
        read_run(run, trust=["mine"])
    config = read_config(run / "config.yaml", trust=["mine.Net"])
    network = build({**config["network"], "structures": 1}, Path("c.yaml"), trust=["mine.Net"])
    assert type(network.backbone).__module__ == "mine"


# YAML


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch MARKER']",
        "a: !!python/object/apply:os.system ['touch MARKER']",
        "!!python/object/new:os.system ['touch MARKER']",
        "!!python/object/apply:builtins.eval [\"open('MARKER', 'w')\"]",
    ],
)
def test_yaml_that_makes_objects_is_refused(text, run, marker):
    text = text.replace("MARKER", str(marker))
    yaml.unsafe_load(text)
    assert marker.exists()
    marker.unlink()
    (run / "config.yaml").write_text(text)
    refused(run, marker, "config.yaml", "cannot be read as plain YAML")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: &a [x]\nb: [*a, *a]", "YAML aliases"),
        ("a: &a {b: *a}", "YAML aliases"),
        ("a: ${oc.env:HOME}", "a=${oc.env:HOME} is an interpolation"),
        ("a: [1, {b: 'x ${oc.decode:y} z'}]", "a[1].b=x ${oc.decode:y} z is an interpolation"),
        ("a: ${a}", "is an interpolation"),
        ("[" * 100_000, "nested deeper"),
        ("a: " + "9" * 5000, "cannot be read as plain YAML"),
        ("a: {b", "cannot be read as plain YAML"),
        ("a: \0", "cannot be read as plain YAML"),
        (b"\xff\xfe\x00a", "cannot be read as plain YAML"),
        ("", "not the configuration of a run"),
        ("[1, 2]", "not the configuration of a run"),
        ("a: 1", "not the configuration of a run"),
        ("a: " + "x" * 2**17, "larger than the configuration of a run"),
    ],
)
def test_yaml_that_is_no_runs_is_refused(content, words, run, marker):
    (run / "config.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(run, marker, "config.yaml", words)


def test_a_bomb_of_aliases_is_refused_at_once(run, marker):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]  # 9¹⁰ times x
    (run / "config.yaml").write_text("\n".join(lines))
    start = time.perf_counter()
    refused(run, marker, "YAML aliases")
    assert time.perf_counter() - start < 1


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("checkpoint", "../../evil", "checkpoint=../../evil: expected best or last"),
        ("data.size", [16, 20], "data.size=[16, 20] is no grid"),
        ("data.size", [16, 20, 10**9], "is no grid"),
        ("data.size", [16, 20, 1.5], "is no grid"),
        ("data.size", "big", "is no grid"),
        ("data.size", [32767, 32767, 32767], "is no grid"),
        ("data.size", [4097, 1, 1], "whole numbers from 1 to 4096"),
        ("data.size", [2048, 2048, 257], "1,073,741,824 voxels at the most"),
        ("data.size", [True, 20, 12], "is no grid"),
        ("data.reshape", "stretch", "data.reshape=stretch"),
        ("data.structures", {}, "has no value for each structure"),
        ("data.structures", {"a": 1, "b": 1}, "has no value for each structure"),
        ("data.structures", {"a": 0, "b": 1}, "has no value for each structure"),
        ("data.structures", {"a": True, "b": 2}, "has no value for each structure"),
        ("data.structures", ["a", "b"], "not the configuration of a run"),
        ("data.structures", {"a": 1}, "not the weights of the network"),
        ("data", None, "not the configuration of a run"),
        ("network", None, "not the configuration of a run"),
        ("network", {"features": 8}, "network is no SegmentationNetwork"),
        ("network", {"_target_": "torch.nn.ReLU"}, "network cannot be made"),
        ("network.features", 9, "best.ckpt: not the weights of the network"),
        ("network.features", -1, "cannot be made"),
        ("network.features", 10**12, "cannot be made"),
        ("network.fusion", "sideways", "network cannot be made (fusion='sideways'"),
        ("network.no_such_argument", 1, "network cannot be made"),
        ("network.split.theta", 7, "theta=7"),
        ("network.features", 1500, "best.ckpt: not the weights of the network"),
        ("network.features", 8.0, "features=8.0: expected a whole number from 1"),
        ("network.multiple_of", 1e9, "multiple_of=1000000000.0: a network cannot be made with"),
        ("network.multiple_of", 2.5, "multiple_of=2.5: expected a whole number from 1"),
        ("network.multiple_of", 50000, "50000×50000×50000 voxels of the grid, more than"),
        ("network.minimum", 30000, "30000×30000×30000 voxels of the grid, more than"),
        ("network.minimum", 0, "minimum=0: expected a whole number from 1"),
        ("network.backbone.dropout", math.inf, "dropout=inf: a network cannot be made with"),
        ("network.backbone.dropout", math.nan, "dropout=nan: a network cannot be made with"),
        ("network.backbone.levels", 10**6, "levels=1000000: a network cannot be made with"),
        ("network.backbone.levels", 17, "levels=17: expected a whole number from 1 to 16"),
        ("network.backbone.levels", 16, "not the weights of the network"),
    ],
)
def test_values_that_cannot_be_are_refused(key, value, words, change, marker):
    refused(change(key, value), marker, words)


def mask(name, **options):
    """The node of a split by a mask."""
    node = {"_target_": f"fdseg.frequency.masks.{name}", "theta": 0.3, **options}
    return {"_target_": "fdseg.frequency.MaskSplit", "mask": node}


MONAI = {"_target_": "monai.networks.nets.", "spatial_dims": 3, "in_channels": 8, "out_channels": 8}
#: Backbones of few characters that would take gigabytes or hours; the first two are not their
#: checkpoint's, the others have no weights.
LARGE = {
    "layers": MONAI | {"_target_": "monai.networks.nets.MedNeXt", "blocks_down": [60000] * 4},
    "window": {
        "_target_": "monai.networks.nets.SwinUNETR", "in_channels": 8, "out_channels": 8,
        "feature_size": 12, "window_size": 64,
    },
    "stride": {"_target_": "torch.nn.MaxPool3d", "kernel_size": 3, "stride": 60000},
    "boxes": {
        "_target_": "torch.nn.Sequential",
        "_args_": [
            {"_target_": "fdseg.frequency.BoxSplit", "size": [4096] * 3, "theta": 0.9 + i / 1e4}
            for i in range(900)
        ],
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("backbone", "words"),
    [
        ("features", "best.ckpt: not the weights of the network"),
        ("layers", "network.backbone cannot be made (it has far more parts than its checkpoint)"),
        ("window", "best.ckpt: not the weights of the network"),
        ("stride", "data.size=[16, 20, 12]: the backbone cannot take this grid"),
        ("boxes", "the split of the grid takes about"),
    ],
)
def test_a_large_network_is_refused_before_it_takes_memory_or_time(
    backbone, words, change, run, marker
):
    if backbone == "features":
        change("network.features", 1500)
    else:
        change("network.backbone", LARGE[backbone])
    if backbone in ("stride", "boxes"):
        kept = {name: value for name, value in state(run).items() if "backbone" not in name}
        torch.save({"state_dict": kept}, run / "checkpoints" / "best.ckpt")
    start = time.perf_counter()
    with Largest() as made:
        refused(run, marker, words)
    assert time.perf_counter() - start < 10
    assert made.bytes < 2**22  # the checkpoint's own tensors aside


def test_what_a_large_network_would_take_is_seen_by_this_test():
    with Largest() as made:
        torch.zeros(2**20)
        torch.zeros(2**40, device="meta")
    assert made.bytes == 2**22


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor with content that is made."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return made


@pytest.mark.parametrize("name", ["random", "ball"])
def test_a_mask_is_not_made_of_a_grid_in_the_configuration(name, change, marker):
    run = change("network.split", mask(name, size=[900, 900, 900]))
    refused(run, marker, "network.split.mask: a mask is made when its grid is known")
    run = change("network.split", mask(name, _partial_=True) | {"size": [60000] * 3})
    refused(run, marker, "the split of the grid takes about 13824461 GB to make")


# Checkpoints


def test_a_runs_own_checkpoint_is_read(run):
    weights = read_weights(run / "checkpoints" / "best.ckpt")
    assert torch.equal(read_run(run).network.stem.weight, weights["stem.weight"])


@pytest.mark.parametrize(
    "dump",
    [
        lambda payload, path: path.write_bytes(pickle.dumps(payload)),
        lambda payload, path: torch.save(payload, path),
        lambda payload, path: torch.save({"state_dict": {"network.a": payload}}, path),
        lambda payload, path: torch.save(
            {"state_dict": {"network.a": torch.ones(1)}, "callbacks": [payload]}, path
        ),
        lambda payload, path: torch.save(payload, path, _use_new_zipfile_serialization=False),
    ],
)
def test_a_pickle_in_a_checkpoint_does_not_run(dump, run, marker):
    path = run / "checkpoints" / "best.ckpt"
    dump(Payload(marker), path)
    with suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists()
    marker.unlink()
    refused(run, marker, "best.ckpt: not a checkpoint of tensors and plain values")


def state(run):
    return torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not a checkpoint"),
        (b"PK\x03\x04 and no more", "not a checkpoint"),
        (pickle.dumps({"state_dict": {}}), "not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint_is_refused(content, words, run, marker):
    (run / "checkpoints" / "best.ckpt").write_bytes(content)
    refused(run, marker, "best.ckpt", words)


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_a_checkpoint_that_is_cut_off_is_refused(kept, run, marker):
    path = run / "checkpoints" / "best.ckpt"
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    refused(run, marker, "best.ckpt: not a checkpoint")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {}, "holds no network"),
        (lambda state: {"optimizer.x": torch.ones(1)}, "holds no network"),
        (lambda state: [1], "not a checkpoint"),
        (lambda state: {1: torch.ones(1)}, "not a checkpoint"),
        (lambda state: {**state, "network.x": 1}, "not a checkpoint"),
        (lambda state: {**state, "network.x": torch.ones(1)}, "not the weights of the network"),
        (lambda state: dict(list(state.items())[1:]), "not the weights of the network"),
        (lambda state: {k: v[..., :1] for k, v in state.items()}, "not the weights of the network"),
        (lambda state: {k: v * torch.nan for k, v in state.items()}, "is not finite"),
        # One number on disk, a terabyte for whoever looks at all of it.
        (
            lambda state: {**state, "network.x": torch.ones(1).expand(10**6, 10**6)},
            "is larger than",
        ),
        (lambda state: {**state, "network.x": torch.ones(10**6, device="meta")}, "is larger than"),
    ],
)
def test_weights_that_cannot_be_are_refused(change, words, run, marker):
    torch.save({"state_dict": change(state(run))}, run / "checkpoints" / "best.ckpt")
    refused(run, marker, "best.ckpt", words)


def test_a_checkpoint_that_unpacks_to_more_than_its_size_is_refused(run, marker):
    path = run / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": {"network.x": torch.zeros(2**24)}}, path)
    with zipfile.ZipFile(path) as plain:
        members = {name: plain.read(name) for name in plain.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bomb:
        for name, content in members.items():
            bomb.writestr(name, content)
    assert path.stat().st_size < 2**18
    refused(run, marker, "best.ckpt: not a checkpoint", "compressed")
