import re
from functools import partial
from typing import get_args

import commands
import pytest
from commands import assert_refused, shell
from lightning.fabric.connector import _PRECISION_INPUT

from fdseg import config as configuration
from fdseg import metrics
from fdseg.errors import FdsegError
from fdseg.values import require_value

compose = partial(commands.compose, "train", "n=4", "fusion=none")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=9223372036854775808", "expected a whole number from 0 to 9223372036854775807"),
        ("theta=2", "theta=2: expected one number in (0, 1] for x and y, or one per axis"),
        ("theta=[0.1,2,1]", "theta=[0.1,2,1]: expected one number in (0, 1]"),
        ("theta=null", "theta=null: expected one number in (0, 1]"),
        ("split.theta=wide", "split.theta=wide: expected one number in (0, 1]"),
        ("split=swap split.mask.mask.theta=0", "split.mask.mask.theta=0: expected one number"),
        ("split=butterworth split.mask.order=0", "split.mask.order=0: expected a positive number"),
        ("split=learnable split.softness=-1", "split.softness=-1: expected a positive number"),
        ("split=low_only split.band=middle", "split.band=middle: expected low or high"),
        ("split=random split.mask.seed=-1", "split.mask.seed=-1: expected a whole number"),
        ("trainer.max_epochs=0", "trainer.max_epochs=0: expected a whole number, 1 or more"),
        ("trainer.max_epochs=-1", "trainer.max_epochs=-1: expected a whole number, 1 or more"),
        ("trainer.check_val_every_n_epoch=0", "check_val_every_n_epoch=0: expected a whole numb"),
        ("trainer.check_val_every_n_epoch=null", "check_val_every_n_epoch=null: expected a whole"),
        ("trainer.precision=8", "trainer.precision=8: expected auto, 32-true, bf16-mixed"),
        ("+trainer.limit_val_batches=0", "trainer.limit_val_batches=0: expected a whole number"),
        ("+trainer.limit_val_batches=1.5", "trainer.limit_val_batches=1.5: expected a whole"),
        ("trainer.deterministic=maybe", "expected true, false or warn, or null"),
        ("loader.batch_size=0", "loader.batch_size=0: expected a whole number, 1 or more"),
        ("loader.workers=-1", "loader.workers=-1: expected a whole number, 0 or more"),
        ("loader.in_ram=sometimes", "loader.in_ram=sometimes: expected true or false"),
        ("optimizer.lr=-0.1", "optimizer.lr=-0.1: expected a positive number"),
        ("optimizer.lr=inf", "optimizer.lr=inf: expected a positive number"),
        ("optimizer=sgd optimizer.momentum=-1", "optimizer.momentum=-1: expected a number, 0 or"),
        ("backbone.features=0", "backbone.features=0: expected a whole number, 1 or more"),
        ("backbone.multiple_of=0", "backbone.multiple_of=0: expected a whole number"),
        ("backbone.network.dropout=1", "backbone.network.dropout=1: expected a number from 0 to"),
        ("scores.neighbours=5", "scores.neighbours=5: expected 6 or 26"),
        ("scores.tolerance_mm=-1", "scores.tolerance_mm=-1: expected a number, 0 or more"),
        ("scores.empty=zero", "scores.empty=zero: expected diagonal, or"),
        ("scores.empty=inf", """or "inf" in quotes ('scores.empty="inf"')."""),
        ("scores.definition=mean", "scores.definition=mean: expected pooled or max_of_directed"),
        ("callbacks.best.mode=most", "callbacks.best.mode=most: expected max or min"),
        ("callbacks.spectra.bands=0", "callbacks.spectra.bands=0: expected a whole number"),
        ("data.size=null", "data.size=null: expected three whole numbers, 1 or more"),
        ("data.size=[8,8]", "data.size=[8,8]: expected three whole numbers, 1 or more"),
        ("data.size=[0,8,8]", "data.size=[0,8,8]: expected three whole numbers, 1 or more"),
        ("data.size=[a,b,c]", "data.size=[a,b,c]: expected three whole numbers, 1 or more"),
        ("data.reshape=stretch", "data.reshape=stretch: expected crop_or_pad or resize"),
        ("data.unlabelled=skip", "data.unlabelled=skip: expected error or leave_out"),
        ("data.exclude=a", "data.exclude=a: expected a list of names"),
        ("data.ignore=[a]", "data.ignore=[a]: expected a list of whole numbers"),
        ("data.split.test=-1", "data.split.test=-1: expected a whole number, 1 or more"),
        ("data.split.training=half", "data.split.training=half: expected a whole number"),
        ("data.split.by=person", "data.split.by=person: expected participant or file"),
        # those of the phantom, where data is real
        ("data.root=/data data.phantom.scale=0", "data.phantom.scale=0: expected a number in (0,"),
        ("data.root=/data data.phantom.subjects=0", "data.phantom.subjects=0: expected a whole"),
        ("data.root=/data data.phantom.seed=-1", "data.phantom.seed=-1: expected a whole number"),
    ],
)
def test_values_that_can_never_be_right_are_refused_used_or_not(override, message):
    config = compose(*override.split())
    with pytest.raises(FdsegError, match=re.escape(message)) as refused:
        configuration.resolve(config)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    [
        "theta=[0.1,0.2,1]", "theta=1", "seed=9223372036854775807", "data.phantom.subjects=null",
        "data.split.file=null", 'scores.empty="inf"', "trainer.precision=64-true",
        "+trainer.limit_val_batches=0.5", "trainer.deterministic=null",
        "callbacks.last.every_n_epochs=0", "~callbacks.spectra",
    ],
)  # fmt: skip
def test_values_at_the_limits_and_unset_ones_are_taken(override):
    configuration.resolve(compose(override))


def test_the_rules_have_all_options_of_the_code_that_reads_them():
    precisions = [option for kind in get_args(_PRECISION_INPUT) for option in get_args(kind)]
    options = {
        "trainer.precision": ["auto", *precisions],
        "scores.empty": get_args(metrics.Empty),
        "scores.neighbours": get_args(metrics.Neighbours),
        "scores.definition": get_args(metrics.Definition),
    }
    for key, taken in options.items():
        for option in taken:
            require_value(key, option)


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("train", ["theta=2", "fusion=none"], "theta=2: expected one number in (0, 1]"),
        ("evaluate", ["predictions=a", "labels=b", "scores.neighbours=5"], "expected 6 or 26"),
        ("status", ["--cost", "theta=2"], "theta=2: expected one number in (0, 1]"),
    ],
)
def test_such_a_value_ends_a_command_before_anything_is_written(command, words, message, tmp_path):
    ended = shell(command, *words, cwd=tmp_path)
    assert_refused(ended, message)
    assert not list(tmp_path.iterdir())
