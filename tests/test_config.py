import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import commands
import pytest
from commands import assert_refused, shell
from omegaconf import OmegaConf

from fdseg import config as configuration
from fdseg import runs
from fdseg.compose import check_arguments
from fdseg.errors import FdsegError

compose = partial(commands.compose, "train", "n=4")


ADDED_GROUPS = ("experiment", "control", "regime")
OPTIONS = [
    (folder.name, path.stem)
    for folder in sorted(configuration.FOLDER.iterdir())
    if folder.is_dir() and folder.name not in (*ADDED_GROUPS, "sweep", "debug", "hydra")
    for path in sorted(folder.glob("[!_]*.yaml"))
]


# What an option leaves to be given.
OPEN = {"own": ["data.folder=.", "data.structures={core: 1}", "data.size=[16,16,16]"]}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_names_things_that_exist(group, option):
    config = compose(f"{group}={option}", *OPEN.get(option, []))
    configuration.resolve(config)
    config.folder = "somewhere"
    check_arguments(config)
    OmegaConf.to_container(config, resolve=True)


ADDED = [
    path
    for folder in ADDED_GROUPS
    for path in sorted(configuration.FOLDER.glob(f"{folder}/*.yaml"))
]


@pytest.mark.parametrize("path", ADDED, ids=lambda path: f"{path.parent.name}={path.stem}")
def test_every_experiment_control_and_regime_composes(path):
    config = configuration.resolve(compose(f"+{path.parent.name}={path.stem}"))
    check_arguments(config)


@pytest.mark.parametrize("fusion", ["none", "early"])
def test_a_control_that_the_paper_has_is_the_papers_own_run(fusion):
    control = {"none": "none", "early": "box"}[fusion]
    assert science(f"+control={control}") == science(f"fusion={fusion}")


def test_the_defaults_are_the_papers():
    config = compose()
    assert config.optimizer._target_ == "torch.optim.Adam"
    assert config.optimizer.lr == 1e-3
    assert config.trainer.max_epochs == 300
    assert config.loader.batch_size == 1
    assert config.augmentation.transform is None
    assert config.theta == 0.1


@pytest.mark.parametrize(
    ("task", "size", "smallest", "parts"),
    [
        ("red_nucleus", [160, 160, 128], 4, (51, 13, 16)),
        ("dentate_nucleus", [160, 160, 128], 4, (42, 11, 14)),
        ("spleen", [256, 256, 128], 4, (25, 7, 9)),
        ("heart", [320, 320, 128], 4, (12, 4, 4)),
        ("hippocampus", [56, 56, 40], 4, (166, 42, 52)),
    ],
)
def test_tasks_have_the_papers_protocol(task, size, smallest, parts):
    config = commands.compose("train", f"data={task}")
    assert config.data.size == size
    assert config.n == smallest
    split = config.data.split
    assert (split.training, split.validation, split.test) == parts


def test_quickstart_is_the_phantom_wherever_real_data_is(monkeypatch):
    monkeypatch.setenv("FDSEG_DATA", "/real")
    assert compose().data.root == "/real"
    assert compose("+experiment=quickstart").data.root is None


def test_an_empty_root_is_unset(monkeypatch):
    monkeypatch.setenv("FDSEG_DATA", "")
    assert configuration.resolve(compose()).data.root is None


def test_a_phantoms_scale_shrinks_the_grid_and_real_data_keeps_it():
    phantom = compose("data=heart", "data.root=null", "data.phantom.scale=0.25")
    assert configuration.resolve(phantom).data.size == [80, 80, 32]
    real = compose("data=heart", "data.root=/somewhere", "data.phantom.scale=0.25")
    assert configuration.resolve(real).data.size == [320, 320, 128]


def test_a_run_shorter_than_the_interval_validates_at_its_end():
    assert (
        configuration.resolve(compose("trainer.max_epochs=3")).trainer.check_val_every_n_epoch == 3
    )


def test_a_folder_of_ones_own_becomes_the_root_and_names_the_task(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "My tumours"
    folder.mkdir()
    given = ["data.structures={core: 1, oedema: 2}", "data.size=[16,16,8]"]
    data = configuration.resolve(compose("data=own", "data.folder=My tumours", *given)).data
    assert (data.root, data.name, data.size) == (str(folder), "My_tumours", [16, 16, 8])
    assert data.structures == {"core": 1, "oedema": 2}
    again = configuration.resolve(compose("data=own", f"data.folder={folder}", *given))
    elsewhere = configuration.resolve(compose("data=own", "data.folder=/x/My tumours", *given))
    assert configuration.science(again) == configuration.science(elsewhere)
    assert configuration.resolve(again) == again


def test_a_folder_of_ones_own_may_name_its_structures(msd):
    labels = {"labels": {"0": "background", "1": "front", "2": "back"}}
    listing = msd.folder / "dataset.json"
    listing.write_text(json.dumps(json.loads(listing.read_text()) | labels))
    words = ["data=own", f"data.folder={msd.folder}"]
    assert configuration.resolve(compose(*words, "data.size=[8,8,8]")).data.structures == {
        "front": 1, "back": 2,
    }  # fmt: skip
    with pytest.raises(FdsegError, match=r"data.size: not given. .*Toy, data.size=\[8,16,8\] may"):
        configuration.resolve(compose(*words))


def test_a_folder_of_ones_own_has_to_be_given():
    with pytest.raises(FdsegError, match=r"data.folder: not given"):
        configuration.resolve(compose("data=own"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("n=0", "n=0: expected a whole number"),
        ("n=2.5", "n=2.5: expected a whole number"),
        ("seed=-1", "seed=-1: expected a whole number"),
        ("seed=one", "seed=one: expected a whole number"),
        ("checkpoint=newest", "checkpoint=newest: expected best or last"),
    ],
)
def test_values_of_the_wrong_kind_are_refused(override, message):
    config = compose(override)
    with pytest.raises(FdsegError, match=message):
        configuration.resolve(config)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimizer.learning_rate=1"], "optimizer.learning_rate: no such key."),
        (["trainer.max_epoch=3"], "Did you mean trainer.max_epochs"),
        (["+trainer.max_epochz=3"], "Did you mean trainer.max_epochs"),
        (["+backbone.network.drpout=0"], "Did you mean backbone.network.dropout"),
        (["+backbone.feature=9"], "Did you mean backbone.features"),
        (["+data.split.sed=1"], "Did you mean data.split.seed"),
        (["+thet=0.2"], "Did you mean theta"),
        (["fusion=erly"], "fusion=erly: no such option. Did you mean fusion=early?"),
        (["experiment=heart"], "write +experiment=…"),
        (["control=double"], "write +control=…"),
        (["theta=1.5", "fusion=early"], r"theta=1.5: expected one number in (0, 1]"),
        (["n=999"], "n=999: the training set has"),
        (["data.root=/nowhere"], "/nowhere/Task04_Hippocampus: no such folder"),
        (["backbone.network._target_=fdseg.networks.Nothing"], "cannot be imported"),
    ],
)
def test_a_wrong_word_ends_at_once_with_a_remedy_and_no_traceback(words, message, tmp_path):
    phantom = ["data.root=null", "data.phantom.subjects=6", f"runs={tmp_path}"]
    ended = shell("train", *[w for w in phantom if w.split("=")[0] not in str(words)], *words)
    assert_refused(ended, message)
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "repeat the command to go on"], "interrupted; repeat the command to go on."),
        (["predict"], "interrupted; what is done stays."),
    ],
)
def test_ctrl_c_is_one_line_and_status_130(words, said, capsys):
    with pytest.raises(SystemExit) as ended, configuration.errors_in_one_line(*words):
        signal.raise_signal(signal.SIGINT)
    assert ended.value.code == 130
    assert capsys.readouterr().err == f"\n{said}\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_for_what_is_printed_is_one_line():
    words = [sys.executable, "-m", "fdseg.train", "--help"]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("error: No space left on device. Free some space")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "told"), [(28, False), (5, True)])
def test_a_thread_tells_no_full_disk_but_all_else(number, told, capsys):
    def fail():
        raise OSError(number, os.strerror(number))

    with configuration.errors_in_one_line():
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
    assert ("Traceback" in capsys.readouterr().err) == told


def science(*overrides):
    return configuration.science(configuration.resolve(compose("data.root=null", *overrides)))


SCIENTIFIC = {
    "n", "seed", "theta", "checkpoint", "scores", "network", "backbone", "fusion", "split", "loss",
    "optimizer", "augmentation", "loader.batch_size",
    "data._target_", "data.ignore", "data.exclude", "data.unlabelled", "data.phantom", "data.split",
    "data.name", "data.cohort._target_", "data.cohort.participant", "data.structures", "data.size",
    "data.reshape", "callbacks.best.monitor", "callbacks.best.mode",
    "trainer._target_", "trainer.max_epochs", "trainer.precision", "trainer.deterministic",
    "trainer.check_val_every_n_epoch", "trainer.num_sanity_val_steps",
}  # fmt: skip


def leaves(values, path=""):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{path}{key}.")
        else:
            yield path + key


def test_every_key_is_scientific_or_operational_and_nobody_adds_one_without_deciding():
    """A new key belongs into the list above, or into ``config.OPERATIONAL``."""
    keys = set(leaves(OmegaConf.to_container(compose("trainer=ddp"))))

    def within(key, those):
        parts = key.split(".")
        return any(".".join(parts[: i + 1]) in those for i in range(len(parts)))

    undecided = {
        key for key in keys if within(key, SCIENTIFIC) == within(key, configuration.OPERATIONAL)
    } - {"logger"}
    assert undecided == set()
    assert not {key for key in SCIENTIFIC if not any(k.startswith(key) for k in keys)}


@pytest.mark.parametrize(
    "same",
    ["runs=/elsewhere", "data.cache=/elsewhere", "data.archive.url=http://elsewhere/x.tar",
     "loader.workers=2", "loader.in_ram=false",
     "logger=all", "trainer.accelerator=cpu", "trainer.devices=2", "trainer=ddp",
     "callbacks.last.every_n_epochs=1", "callbacks.divergence.factor=3",
     "callbacks.spectra.cases=9"],
)  # fmt: skip
def test_places_devices_and_views_do_not_make_another_run(same):
    assert science(same) == science()


@pytest.mark.parametrize(
    "other",
    ["n=5", "seed=1", "fusion=early", "backbone=segresnet", "backbone.features=16", "loss=dice_ce",
     "optimizer.lr=0.01", "trainer.max_epochs=2", "trainer.precision=bf16-mixed",
     "loader.batch_size=2", "augmentation=standard", "checkpoint=last", "data=heart",
     "data.size=[48,48,40]", "data.split.by=file", "data.exclude=[a]", "data.phantom.seed=1",
     "scores.definition=max_of_directed", "trainer.check_val_every_n_epoch=5",
     "callbacks.best.mode=min",
     "+callbacks.averaging={_target_: lightning.pytorch.callbacks.EMAWeightAveraging}"],
)  # fmt: skip
def test_whatever_changes_numbers_makes_another_run(other):
    assert science(other) != science()


def test_theta_and_split_count_only_where_something_is_split():
    assert science("theta=0.3") == science() == science("split=as_released")
    early = science("fusion=early")
    assert science("fusion=early", "theta=0.3") != early
    assert science("fusion=early", "split=as_released") != early
    rescaled = science("fusion=rescaled")
    assert science("fusion=rescaled", "theta=0.3") == rescaled != science()


@pytest.mark.parametrize(
    ("fusion", "digest"), [("none", "57b9fbf1"), ("early", "c4b00b9a"), ("late", "41890a66")]
)
def test_the_papers_runs_keep_their_identity(fusion, digest):
    """Another digest makes every finished run of these a stranger: choose that, never find it."""
    config = compose("+experiment=hippocampus", f"fusion={fusion}", "seed=0", "data.root=/data")
    science = configuration.science(configuration.resolve(config))
    assert runs.identity({**science, "fingerprint": "0123456789abcdef"}) == digest


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"]])
def test_help_answers_without_loading_torch(words):
    code = (
        f"import sys, runpy; sys.argv = ['fdseg.train', *{words!r}]\n"
        "try: runpy.run_module('fdseg.train', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    start = time.perf_counter()
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr.strip().endswith("False")
    assert "max_epochs" in ended.stdout
    assert time.perf_counter() - start < 10  # the benchmark holds the real limit
