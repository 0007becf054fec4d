"""What a command reads is told from what it writes, whatever the links."""

import os

import pytest
from commands import compose

from fdseg import export
from fdseg.errors import FdsegError
from fdseg.originals import refuse_originals


def test_what_is_not_there_yet_and_other_files_are_no_originals(tmp_path):
    for name in ("read", "other"):
        (tmp_path / name).write_text("the same content")
    refuse_originals([tmp_path / "new", tmp_path / "other"], [tmp_path / "read", tmp_path / "gone"])


def test_a_folder_under_another_name_is_seen_through(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("")
    (tmp_path / "out").symlink_to("in")
    with pytest.raises(
        FdsegError, match=r"out/a: is the same file as .*/in/a, which is read, and w.* with runs=…"
    ):
        refuse_originals([tmp_path / "out" / "a"], [tmp_path / "in" / "a"], key="runs")


@pytest.mark.parametrize(
    "name",
    ["config.yaml", "split.json", "result.json", "manifest.json", "cases.csv", "history.csv",
     "spectra.csv", "checkpoints/best.ckpt", "predictions/x.nii.gz", "overlays/best.png"],
)  # fmt: skip
def test_every_file_that_training_leaves_is_known(name, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).touch()
    (tmp_path / "link").symlink_to(run / name)
    for path in (run / name, tmp_path / "link"):
        with pytest.raises(FdsegError, match=f"belongs to the run {run}, and would be replaced"):
            refuse_originals([path])


@pytest.mark.parametrize(
    "name", ["evaluation.csv", "predictions/evaluation.csv", "diagnosis/spectra.csv", "x/lock"]
)
def test_what_other_commands_write_into_a_run_may_be_replaced(name, make_run, tmp_path):
    run = make_run(tmp_path / "run")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).touch()
    refuse_originals([run / name])


def test_files_beside_somebodys_own_configuration_are_no_runs(tmp_path):
    for name in ("config.yaml", "cases.csv"):
        (tmp_path / name).touch()
    refuse_originals([tmp_path / "cases.csv"])


def test_an_export_does_not_replace_a_checkpoint(make_run, tmp_path):
    run = make_run(tmp_path / "run")
    checkpoint = run / "checkpoints" / "best.ckpt"
    os.link(checkpoint, tmp_path / "network.pt2")
    words = [f"run={run}", f"output={tmp_path}", "format=torch"]
    with pytest.raises(FdsegError, match=rf"network.pt2: is the same file as {checkpoint}, which"):
        export.run(compose("export", *words))
    assert (tmp_path / "network.pt2").samefile(checkpoint)
