"""Loggers that fail, which no run may pay for."""

import json
import threading
import warnings

import pytest
from commands import compose, trained
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from synthetic import Grid

from fdseg import sync
from fdseg.errors import FdsegError
from fdseg.report.loggers import opened

TINY = [
    "data=hippocampus", "data.root=null", "data.phantom.subjects=8", "data.phantom.scale=0.5",
    "data.split.training=4", "data.split.validation=1", "data.split.test=3", "n=1",
    "trainer.max_epochs=1", "trainer.accelerator=cpu", "trainer.precision=32-true",
]  # fmt: skip


class Failing(Logger):
    """A logger of one's own that fails at its second call."""

    name, version, experiment = "mine", 0, None

    def __init__(self):
        super().__init__()
        self.calls = []

    def log_metrics(self, metrics, step=None):
        self.calls.append(step)
        if len(self.calls) > 1:
            raise ConnectionError("the server is away.\nmore")

    def log_hyperparams(self, *_):
        pass

    def finalize(self, status):
        self.calls.append(status)


def log(logger, steps, after=lambda: None, **options):
    """A metric at each step, as Lightning would log it."""
    with opened([logger], **options) as loggers:
        for step in range(steps):
            loggers[0].log_metrics({"loss": 1.0}, step=step)
            loggers[0].guard(after)


def test_a_logger_that_fails_on_the_way_is_one_warning_and_no_longer_used():
    logger = Failing()
    message = r"^Failing: the server is away\. The run .* fdseg\.sync"
    with pytest.warns(UserWarning, match=message) as caught:
        log(logger, steps=4, required=False)
    assert len(caught) == 1
    assert logger.calls == [0, 1, "success"]


def test_a_required_logger_that_fails_is_an_error():
    logger = Failing()
    with pytest.raises(FdsegError, match=r"^Failing: the server is away\.$"):
        log(logger, steps=4)
    assert logger.calls == [0, 1, "failed"]


@pytest.mark.parametrize("fails", [False, True])
def test_a_logger_that_fails_at_its_end_is_one_warning_and_hides_no_error(fails):
    logger = Failing()
    logger.finalize = lambda status: open("/dev/null/" + status)  # noqa: PTH123, SIM115
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if fails:
            with pytest.raises(ZeroDivisionError), opened([logger], required=False):
                raise ZeroDivisionError
        else:
            with opened([logger], required=False):
                pass
    said = [str(one.message) for one in caught]
    assert [text.startswith("/dev/null/success: Failing cannot write there (Not a") for text in said
            ] == [True] * (not fails)  # fmt: skip


def test_a_full_disk_under_tensorboard_is_told_by_its_own_reason(tmp_path, capsys):
    hook = threading.excepthook
    logger = TensorBoardLogger(tmp_path, name=None, version="")
    message = r"TensorBoardLogger cannot write there \(No space left on device\)\. Choose another"

    def fill():
        """From now on its thread writes where there is no space."""
        writer = logger.experiment._get_file_writer().event_writer._async_writer._writer
        writer._writer.filename = "/dev/full"
        logger.experiment.flush()

    with pytest.warns(UserWarning, match=message) as caught:
        log(logger, steps=3, after=fill, required=False)
    assert len(caught) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert threading.excepthook is hook


@pytest.fixture
def no_place(tmp_path, monkeypatch):
    """W&B's own files cannot be written, as where a home is read-only."""
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path / "home"))


def test_a_run_whose_dashboards_fail_is_done(tmp_path, no_place):
    words = [*TINY, f"runs={tmp_path / 'runs'}", "logger=wandb"]
    message = r"home/artifacts: WandbLogger cannot .* by WANDB_DATA_DIR\. The run .* fdseg\.sync"
    with pytest.warns(UserWarning, match=message) as caught:
        folder = trained(*words, f"+logger.mine._target_={__name__}.Failing")
    assert json.loads((folder / "result.json").read_text())["test"]["subjects"] == 4
    assert not (folder / "failure.json").exists()
    said = [str(one.message) for one in caught if "fdseg.sync" in str(one.message)]
    assert len(said) == 2
    assert sum(text.startswith("Failing: the server is away.") for text in said) == 1


def test_a_sync_names_the_folder_that_cannot_be_written(tmp_path, no_place):
    Grid(tmp_path / "runs", "heart").add()
    with pytest.raises(FdsegError, match=r"home/artifacts: .*by WANDB_DATA_DIR"):
        sync.run(compose("sync", f"runs={tmp_path / 'runs'}", "logger=wandb"))


def test_a_tag_of_wandb_is_as_long_as_it_may_be(tmp_path):
    config = compose("train", "logger=wandb", f"data.name={'a' * 100}", "data.root=/data")
    assert config.logger.wandb.tags[:3] == ["a" * 64, "real", "unet"]
