"""A cohort made ready: found or fetched, verified, split, preprocessed and drawn."""

import gzip
import hashlib
import json
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import nibabel as nib
import numpy as np
import pytest
from commands import assert_refused, compose, shell, table
from matplotlib.image import imread

from fdseg import prepare, sweep
from fdseg.data.cache import Preparer
from fdseg.errors import FdsegError

TOY = [
    "data=hippocampus", "data.cohort.folder=Task99_Toy", "data.size=[12,14,8]",
    "data.split.training=6", "data.split.validation=2", "data.split.test=2",
]  # fmt: skip


@pytest.fixture
def toy(msd, tmp_path):
    """Prepare the tiny cohort, with some overrides; the folder of what it shows."""

    def run(*overrides):
        words = [*TOY, f"data.root={msd.root}", f"runs={tmp_path / 'runs'}", *overrides]
        prepare.run(compose("prepare", *words))
        return tmp_path / "runs" / "hippocampus" / "cohort"

    return run


def rows(folder):
    return {row["case"]: row for row in table(folder / "cohort.csv")}


def test_a_cohort_is_cached_drawn_split_and_listed(msd, toy, tmp_path, capsys):
    folder = toy()
    assert sorted(p.name for p in folder.iterdir()) == ["cohort.csv", "cohort.png", "split.json"]
    assert len(list((tmp_path / "runs" / "cache" / "hippocampus").iterdir())) == 10
    split = json.loads((folder / "split.json").read_text())
    table = rows(folder)
    assert list(table) == list(msd.images)
    for part, names in split.items():
        assert {table[name]["part"] for name in names} == {part}
    printed = capsys.readouterr().out
    assert "hippocampus: 10 cases of 6 participants (6 training, 2 validation" in printed
    assert str(folder / "cohort.png") in printed


def test_the_file_of_the_split_is_not_replaced(toy):
    split = toy() / "split.json"
    before = split.read_bytes()
    with pytest.raises(FdsegError, match=r"split.json: is read, and would be replaced. .*runs=…"):
        toy(f"data.split.file={split}")
    assert split.read_bytes() == before


def test_the_table_has_what_the_files_hold(msd, toy):
    for name, row in rows(toy()).items():
        label = nib.load(msd.labels[name])
        voxel_ml = np.prod(label.header.get_zooms()) / 1000
        for structure, value in (("anterior", 1), ("posterior", 2)):
            voxels = (np.asarray(label.dataobj) == value).sum()
            assert float(row[f"{structure}_ml"]) == pytest.approx(voxels * voxel_ml, rel=1e-5)
        assert [int(row[f"voxels_{axis}"]) for axis in "xyz"] == list(label.shape)
        assert float(row["spacing_y_mm"]) == pytest.approx(1.1)
        assert float(row["lost"]) == 0


def test_sizes_and_volumes_are_in_mm_and_ml_whatever_the_headers_unit(msd, toy):
    for path in (*msd.images.values(), *msd.labels.values()):
        image = nib.load(path)
        image.header.set_xyzt_units("micron")
        path.write_bytes(gzip.compress(image.to_bytes()))
    row = rows(toy())["toy_001"]
    sides = [float(row[f"spacing_{axis}_mm"]) for axis in "xyz"]
    assert sides == pytest.approx([0.0008, 0.0011, 0.0015])
    assert float(row["anterior_ml"]) == pytest.approx(60 * np.prod(sides) / 1000)


def test_the_picture_shows_every_subject_with_its_label(toy):
    pixels = imread(toy() / "cohort.png")[..., :3]
    above, below = pixels[: len(pixels) // 3], pixels[len(pixels) // 2 :]
    outlines = (np.abs(above - [1, 176 / 255, 0]) < 0.02).all(-1)  # in the first structure's colour
    tiles = np.array_split(outlines.any(0), 10)
    assert all(tile.any() for tile in tiles)
    assert below.std() > 0.1


def test_what_is_prepared_a_run_finds_ready(toy, msd, tmp_path, monkeypatch):
    toy()
    words = [*TOY, f"data.root={msd.root}", f"runs={tmp_path / 'runs'}"]
    task = sweep.find(compose("train", *words)).task

    def refuse(*_):
        raise AssertionError("a case was prepared again")

    monkeypatch.setattr(Preparer, "_prepare", refuse)
    assert len(Preparer.of(task)(task.found.cases, task.digests)) == 10


def test_everything_that_is_wrong_with_any_case_stands_in_one_table(msd, toy, tmp_path, capsys):
    msd.labels["toy_001"].unlink()
    msd.images["toy_002"].write_bytes(b"no image")
    broken = msd.image("toy_004").astype(np.float32)
    broken[0, 0, 0] = np.nan
    msd.write_image("toy_004", broken)
    foreign = msd.label("toy_004")
    foreign[0, 0, 0] = 9
    msd.write_label("toy_004", foreign)
    everyone = r"data.exclude=\[toy_001,toy_002,toy_004\]"
    with pytest.raises(FdsegError, match=f"^3 cases cannot be used.*{everyone}"):
        toy()
    table = " ".join(capsys.readouterr().out.split())
    for words in (
        "subject problem remedy", "toy_001 missing label", "toy_002", "toy_004 1 voxels are NaN",
        "toy_004 label values [9] lie",
    ):  # fmt: skip
        assert words in table
    assert not (tmp_path / "runs" / "hippocampus").exists()
    assert toy("data.exclude=[toy_001,toy_002,toy_004]").is_dir()


def test_of_very_many_bad_cases_every_one_stands_in_the_table(msd, toy, capsys):
    for number in range(20, 40):
        name = f"toy_{number:03}"
        msd.add(name, msd.folder / "imagesTr" / f"{name}.nii.gz",
                msd.folder / "labelsTr" / f"{name}.nii.gz")  # fmt: skip
        msd.images[name].write_bytes(b"no image")
    entries = [
        {"image": f"imagesTr/{n}.nii.gz", "label": f"labelsTr/{n}.nii.gz"} for n in msd.images
    ]
    (msd.folder / "dataset.json").write_text(json.dumps({"training": entries}))
    with pytest.raises(FdsegError, match="20 cases cannot be used"):
        toy()
    printed = capsys.readouterr().out
    assert all(f"toy_{number:03}" in printed for number in range(20, 40))


def test_labels_that_the_grid_cuts_off_are_warned_of(toy, capsys):
    folder = toy("data.size=[12,14,4]")
    warning = capsys.readouterr().err
    assert "warning: labelled voxels of 10 cases lie outside of the grid [12, 14, 4]" in warning
    # Of 8 slices the grid keeps 2 to 5; one box reaches from 2 to 5, the other from 1 to 4.
    assert {float(row["lost"]) for row in rows(folder).values()} == {1 / 8}


def test_a_cohort_that_is_too_small_is_told_before_it_is_preprocessed(msd, toy, tmp_path):
    entries = [{"image": "imagesTr/toy_001.nii.gz", "label": "labelsTr/toy_001.nii.gz"}]
    (msd.folder / "dataset.json").write_text(json.dumps({"training": entries}))
    with pytest.raises(FdsegError, match="1 participant with 1 case: too few"):
        toy()
    assert not (tmp_path / "runs" / "cache" / "hippocampus").exists()


def test_a_phantom_is_called_one(tmp_path, capsys):
    words = ["data.root=null", "data.phantom.subjects=4", "data.phantom.scale=0.5"]
    prepare.run(compose("prepare", *words, f"runs={tmp_path}"))
    assert "PHANTOM COHORT: data.root is unset" in capsys.readouterr().out
    assert (tmp_path / "hippocampus-phantom" / "cohort" / "cohort.png").is_file()


@pytest.mark.parametrize("size", ["[1,14,8]", "[12,1,8]", "[12,1,1]"])
def test_a_grid_one_voxel_wide_has_a_picture(size, toy):
    assert imread(toy(f"data.size={size}", "data.reshape=resize") / "cohort.png").std() > 0.1


def test_a_picture_that_fails_costs_nothing_else(toy, tmp_path, capsys):
    picture = tmp_path / "runs" / "hippocampus" / "cohort" / "cohort.png"
    picture.mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"cohort\.png: this picture could not be made \(Is a dir"):
        folder = toy()
    assert len(rows(folder)) == 10
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2:] == [str(folder / "cohort.csv"), str(folder / "split.json")]


def test_a_place_that_cannot_be_written_is_named_with_its_key(toy, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "hippocampus").write_text("")
    with pytest.raises(FdsegError, match=r"cohort: cannot be written .*runs=…"):
        toy()


# From the web


@pytest.fixture
def web(msd, tmp_path):
    """The address and the checksum of the tiny cohort's archive; the cohort itself is gone."""
    with tarfile.open(tmp_path / "Task99_Toy.tar", "w") as tar:
        tar.add(msd.folder, "Task99_Toy")
    msd.folder.rename(tmp_path / "elsewhere")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        content = (tmp_path / "Task99_Toy.tar").read_bytes()
        yield (
            f"data.archive.url=http://127.0.0.1:{server.server_port}/Task99_Toy.tar",
            f"data.archive.md5={hashlib.md5(content).hexdigest()}",
        )
        server.shutdown()


def test_a_cohort_that_is_missing_is_fetched_when_asked_for(msd, toy, web, tmp_path):
    with pytest.raises(FdsegError, match=r"Task99_Toy: no such folder.*download=true"):
        toy(*web)
    folder = toy(*web, "download=true")
    assert len(rows(folder)) == 10
    assert sorted(p.name for p in msd.root.iterdir()) == ["Task99_Toy"]
    assert toy(*web, "download=true") == folder


def test_a_cohort_without_an_archive_cannot_be_fetched(tmp_path):
    words = ["data=red_nucleus", f"data.root={tmp_path}", "download=true"]
    with pytest.raises(FdsegError, match=r"download=true: red_nucleus has no data.archive"):
        prepare.run(compose("prepare", *words))


def test_without_a_root_there_is_no_place_to_fetch_to():
    with pytest.raises(FdsegError, match=r"download=true: data.root .*is unset. Name the folder"):
        prepare.run(compose("prepare", "data.root=null", "download=true"))


@pytest.mark.parametrize(
    ("task", "md5"),
    [
        ("heart", "06ee59366e1e5124267b774dbd654057"),
        ("hippocampus", "9d24dba78a72977dbd1d2e110310f31b"),
        ("spleen", "410d4a301da4e5b2f6f86ec3ddba524e"),
    ],
)
def test_the_archives_are_the_official_ones(task, md5):
    data = compose("prepare", f"data={task}").data
    assert data.archive.md5 == md5
    assert data.archive.url.endswith(f"amazonaws.com/{data.cohort.folder}.tar")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["+experiment=hart"], "experiment=hart: no such option. Did you mean experiment=heart?"),
        (["downlod=true"], "downlod: no such key. Did you mean download"),
        (["+data.split.sed=1"], "Did you mean data.split.seed"),
        (["data.root=/nowhere"], "/nowhere/Task04_Hippocampus: no such folder"),
    ],
)
def test_a_wrong_word_ends_with_a_remedy_and_status_2(words, message):
    assert_refused(shell("prepare", *words), message)


@pytest.mark.data
def test_the_real_hippocampus_fits_its_grid_without_losing_a_voxel(real_data, tmp_path):
    prepare.run(compose("prepare", f"data.root={real_data}", f"runs={tmp_path}"))
    table = rows(tmp_path / "hippocampus" / "cohort")
    assert len(table) == 260
    assert {float(row["lost"]) for row in table.values()} == {0}
