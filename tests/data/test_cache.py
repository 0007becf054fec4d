import errno
import gzip
import json
import multiprocessing
import os
import re
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from commands import abandoned

from fdseg.data.cache import Preparer, verify
from fdseg.data.prepared import sha256
from fdseg.data.preprocess import Preprocessing
from fdseg.errors import FdsegError

STRUCTURES = {"front": 1, "back": 2}
SIZE = (12, 14, 8)
OUTSIDE = (0, 0, 0)  # a voxel of background


def preparer(folder, **changes):
    options = {
        "preprocessing": Preprocessing(SIZE, "crop_or_pad"),
        "structures": STRUCTURES,
        "ignore": (),
    }
    return Preparer(folder, **(options | changes))


def digests(files):
    return {name: f"content of {name}" for name in files.images}


def cached(folder):
    """What is in the cache, whole or not."""
    return sorted(folder.iterdir()) if folder.exists() else []


def assert_holds_exactly(prepared, files):
    """Every case of the cohort is in the cache, as computed here without TorchIO."""
    for case in prepared:
        image, label = files.image(case.case.name), files.label(case.case.name)
        scaled = (image - image.min()) / np.ptp(image)
        # The first axis points to the left; 10×13×8 voxels on a grid of 12×14×8.
        margins = ((1, 1), (1, 0), (0, 0))
        np.testing.assert_allclose(case.image(), np.pad(scaled[::-1], margins), atol=1e-6)
        np.testing.assert_array_equal(case.label(), np.pad(label[::-1], margins))
        assert case.image().dtype == np.float32
        assert case.label().dtype == np.uint8
        np.testing.assert_array_equal(case.geometry.native(case.geometry.canonical(label)), label)
        assert case.geometry.spacing == pytest.approx((0.8, 1.1, 1.5))


# A case that can be trained on


def test_a_good_case_passes_with_its_structures_numbered_from_1(msd):
    image, label = verify(msd.case("toy_001"), {"back": 2, "front": 1})
    np.testing.assert_allclose(image.data, msd.image("toy_001"), rtol=1e-6)
    np.testing.assert_array_equal(label == 1, msd.label("toy_001") == 2)
    np.testing.assert_array_equal(label == 2, msd.label("toy_001") == 1)
    assert label.dtype == np.uint8


def test_a_label_of_whole_floating_point_numbers_passes(msd):
    before = verify(msd.case("toy_001"), STRUCTURES)[1]
    msd.write_label("toy_001", msd.label("toy_001").astype(np.float32))
    np.testing.assert_array_equal(verify(msd.case("toy_001"), STRUCTURES)[1], before)


def test_a_fourth_axis_of_length_1_passes(msd):
    image = msd.image("toy_001").astype(np.float32)
    msd.write_image("toy_001", image[..., None])
    np.testing.assert_array_equal(verify(msd.case("toy_001"), STRUCTURES)[0].data, image)


def test_ignored_values_count_as_background(msd):
    label = msd.label("toy_001")
    label[OUTSIDE] = 7
    msd.write_label("toy_001", label)
    found = verify(msd.case("toy_001"), STRUCTURES, ignore=[7])[1]
    assert found[OUTSIDE] == 0
    assert verify(msd.case("toy_001"), {"front": 1}, ignore=[2, 7])[1].max() == 1


# Cases that cannot. Each fault, what is said, and how it comes to be


def with_voxel(voxels, value, where=OUTSIDE):
    changed = voxels.astype(np.float32)
    changed[where] = value
    return changed


def cut_off(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_affine(files, name):
    affine = nib.load(files.labels[name]).affine
    affine[0, 3] += 2
    files.write_label(name, files.label(name), affine)


FAULTS = {
    "truncated image": (
        r"imagesTr/toy_002.nii.gz: cut off or corrupt .*Mend the file",
        lambda f, n: cut_off(f.images[n]),
    ),
    "truncated label": (
        r"labelsTr/toy_002.nii.gz: (cut off|not a readable).*Mend the file",
        lambda f, n: cut_off(f.labels[n]),
    ),
    "not compressed": (
        r"imagesTr/toy_002.nii.gz: .*not gzip-compressed, although",
        lambda f, n: f.images[n].write_bytes(nib.load(f.images[n]).to_bytes()),
    ),
    "not NIfTI": (
        r"labelsTr/toy_002.nii.gz: not a readable NIfTI file",
        lambda f, n: f.labels[n].write_bytes(b"a web page that says: not found"),
    ),
    "missing label": (
        r"labelsTr/toy_002.nii.gz: no such file",
        lambda f, n: f.labels[n].unlink(),
    ),
    "other shape": (
        r"label has shape 10×13×7 but its image 10×13×8 \(labelsTr/toy_002.nii.gz\)",
        lambda f, n: f.write_label(n, f.label(n)[..., :-1]),
    ),
    "other affine": (
        r"different affines, by up to 2 mm \(labelsTr/toy_002.nii.gz\). Resample the label",
        other_affine,
    ),
    "several volumes": (
        r"imagesTr/toy_002.nii.gz: 4-D \(10×13×8×2\) where a 3-D volume is expected",
        lambda f, n: f.write_image(n, np.stack([f.image(n)] * 2, -1)),
    ),
    "foreign value": (
        r"label values \[3, 9\] lie outside the task \(front 1, back 2\).*data.ignore=\[3, 9\]",
        lambda f, n: f.write_label(
            n, with_voxel(with_voxel(f.label(n), 9), 3, (0, 0, 1)).astype(np.uint8)
        ),
    ),
    "fractions": (
        r"labelsTr/toy_002.nii.gz: label values are not whole numbers \(0.5, for example\)",
        lambda f, n: f.write_label(n, with_voxel(f.label(n), 0.5)),
    ),
    "NaN": (
        r"1 voxels are NaN or infinite \(imagesTr/toy_002.nii.gz\). Replace them",
        lambda f, n: f.write_image(n, with_voxel(f.image(n), np.nan)),
    ),
    "infinite": (
        r"1 voxels are NaN or infinite \(imagesTr/toy_002.nii.gz\). Replace them",
        lambda f, n: f.write_image(n, with_voxel(f.image(n), -np.inf)),
    ),
    "constant": (
        r"the image is constant, 3 in every voxel \(imagesTr/toy_002.nii.gz\)",
        lambda f, n: f.write_image(n, np.full_like(f.image(n), 3)),
    ),
    "a range that overflows": (
        r"voxels lie between -3e\+38 and 3e\+38 \(imagesTr/toy_002.nii.gz\)",
        lambda f, n: f.write_image(n, with_voxel(with_voxel(f.image(n), 3e38), -3e38, (0, 0, 1))),
    ),
    "empty label": (
        r"the label is empty: no voxel of front, back \(labelsTr/.*data.unlabelled=leave_out",
        lambda f, n: f.write_label(n, np.zeros_like(f.label(n))),
    ),
    "a structure is missing": (
        r"the label is empty: no voxel of back \(labelsTr/toy_002.nii.gz\)",
        lambda f, n: f.write_label(n, np.minimum(f.label(n), 1)),
    ),
    "the image for a label": (
        r"imagesTr/toy_002.nii.gz: label values are not",
        lambda f, n: f.labels.update({n: f.images[n]}),
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_case_is_refused_with_its_name_the_fault_and_the_remedy(msd, fault):
    words, damage = FAULTS[fault]
    damage(msd, "toy_002")
    with pytest.raises(FdsegError, match=rf"(?s)^toy_002: .*{words}") as caught:
        verify(msd.case("toy_002"), STRUCTURES)
    assert str(caught.value).endswith("or leave the subject out with data.exclude=[toy_002].")


def test_all_that_is_wrong_with_a_case_is_said_at_once(msd):
    for fault in ("NaN", "foreign value"):
        FAULTS[fault][1](msd, "toy_002")
    with pytest.raises(FdsegError, match="toy_002: 2 problems:") as caught:
        verify(msd.case("toy_002"), STRUCTURES)
    for fault in ("NaN", "foreign value"):
        assert re.search(FAULTS[fault][0], str(caught.value))


def test_both_files_of_a_case_are_looked_at_though_one_is_broken(msd):
    for fault in ("not compressed", "not NIfTI"):
        FAULTS[fault][1](msd, "toy_002")
    with pytest.raises(FdsegError, match=r"(?s)imagesTr/toy_002.*labelsTr/toy_002"):
        verify(msd.case("toy_002"), STRUCTURES)


def test_a_label_that_is_turned_a_little_is_refused_by_what_that_moves(msd):
    affine = nib.load(msd.labels["toy_002"]).affine
    affine[0, 1] += 0.009  # less than a hundredth, but 0.1 mm where the volume ends
    msd.write_label("toy_002", msd.label("toy_002"), affine)
    with pytest.raises(FdsegError, match=r"different affines, by up to 0.108 mm"):
        verify(msd.case("toy_002"), STRUCTURES)


@pytest.mark.parametrize(
    ("free", "workers"), [(10**12, os.cpu_count()), (0, 1), (2 * 32 * (1040 + 1344), 1)]
)
def test_no_more_cases_are_prepared_at_once_than_memory_is_there_for(
    msd, tmp_path, monkeypatch, free, workers
):
    used = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, count):
            used.append(count)
            super().__init__(count)

    monkeypatch.setattr("fdseg.data.cache.available", lambda: free)
    monkeypatch.setattr("fdseg.data.cache.ThreadPoolExecutor", Pool)
    assert_holds_exactly(preparer(tmp_path / "cache")(msd.cases(), digests(msd)), msd)
    assert used == [workers]


def test_several_bad_cases_are_reported_at_once_and_only_good_ones_are_cached(msd, tmp_path):
    faults = ("truncated image", "other shape", "NaN", "empty label")
    bad = dict(zip(list(msd.images)[1:5], faults, strict=True))
    for name, fault in bad.items():
        FAULTS[fault][1](msd, name)
    with pytest.raises(FdsegError, match="4 of 10 cases cannot be used:") as caught:
        preparer(tmp_path / "cache")(msd.cases(), digests(msd))
    for name in msd.images:
        assert (f"\n  {name}: " in str(caught.value)) == (name in bad)
    stored = {json.loads((p / "case.json").read_text())["case"] for p in cached(tmp_path / "cache")}
    assert stored == set(msd.images) - set(bad)


def test_a_mended_case_is_prepared_the_next_time(msd, tmp_path):
    good = msd.image("toy_002")
    FAULTS["NaN"][1](msd, "toy_002")
    prepare = preparer(tmp_path / "cache")
    with pytest.raises(FdsegError):
        prepare(msd.cases(), digests(msd))
    msd.write_image("toy_002", good)
    assert_holds_exactly(prepare(msd.cases(), digests(msd)), msd)


# The cache


def test_prepared_cases_hold_the_volumes_on_the_grid(msd, tmp_path):
    prepared = preparer(tmp_path / "cache")(msd.cases(), digests(msd))
    assert [p.case for p in prepared] == msd.cases()
    assert_holds_exactly(prepared, msd)


@pytest.mark.parametrize("reshape", ["crop_or_pad", "resize"])
def test_a_volume_in_micron_is_prepared_as_one_in_mm_but_for_its_spacing(msd, tmp_path, reshape):
    prepare = preparer(tmp_path / "cache", preprocessing=Preprocessing(SIZE, reshape))
    (before,) = prepare([msd.case("toy_001")], {"toy_001": "in mm"})
    for path in (msd.images["toy_001"], msd.labels["toy_001"]):
        image = nib.load(path)
        image.header.set_xyzt_units("micron")
        path.write_bytes(gzip.compress(image.to_bytes()))
    (after,) = prepare([msd.case("toy_001")], {"toy_001": "in micron"})
    np.testing.assert_allclose(after.image(), before.image(), atol=1e-6)
    np.testing.assert_array_equal(after.label(), before.label())
    assert after.geometry.spacing == pytest.approx((0.0008, 0.0011, 0.0015))
    assert verify(after.case, STRUCTURES)[0].spacing == after.geometry.spacing


def test_what_is_in_the_cache_is_not_read_again(msd, tmp_path):
    prepare = preparer(tmp_path / "cache")
    first = prepare(msd.cases(), digests(msd))
    for path in (*msd.images.values(), *msd.labels.values()):
        path.unlink()
    assert prepare(msd.cases(), digests(msd)) == first


def half_zeroed(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2] + bytes(len(content) - len(content) // 2))


def one_bit(path, place=-1):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def moved(folder):
    """The geometry of another case: valid, but not this one's."""
    text = (folder / "case.json").read_text()
    changed = re.sub(r'"offset": \[1.0', '"offset": [2.0', text)
    assert changed != text
    (folder / "case.json").write_text(changed)


def without_digests(folder):
    record = json.loads((folder / "case.json").read_text())
    (folder / "case.json").write_text(json.dumps({k: record[k] for k in ("case", "geometry")}))


DAMAGES = {
    "half of the image zeroed": lambda folder: half_zeroed(folder / "image.npy"),
    "a bit of the image": lambda folder: one_bit(folder / "image.npy"),
    "a bit of the image's header": lambda folder: one_bit(folder / "image.npy", 60),
    "a bit of the label": lambda folder: one_bit(folder / "label.npy"),
    "image cut off": lambda folder: cut_off(folder / "image.npy"),
    "label cut off": lambda folder: cut_off(folder / "label.npy"),
    "label empty": lambda folder: (folder / "label.npy").write_bytes(b""),
    "label missing": lambda folder: (folder / "label.npy").unlink(),
    "case.json empty": lambda folder: (folder / "case.json").write_bytes(b""),
    "case.json cut off": lambda folder: cut_off(folder / "case.json"),
    "case.json of something else": lambda folder: (folder / "case.json").write_text("[[1]]"),
    "case.json missing": lambda folder: (folder / "case.json").unlink(),
    "another geometry": moved,
    "no digests": without_digests,
    "gone": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_case_is_prepared_again(msd, tmp_path, capsys, damage):
    prepare, cases = preparer(tmp_path / "cache"), msd.cases()[:2]
    first = prepare(cases, digests(msd))
    DAMAGES[damage](first[1].folder)
    capsys.readouterr()
    assert_holds_exactly(prepare(cases, digests(msd)), msd)
    assert len(cached(tmp_path / "cache")) == 2
    words = "cache: 1 prepared cases are damaged or have no digest (toy_002, for example). They"
    assert (words in capsys.readouterr().err) == (damage != "gone")
    assert_holds_exactly(prepare(cases, digests(msd)), msd)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [d for d in DAMAGES if "bit" not in d and "zero" not in d])
def test_sizes_alone_tell_what_is_cut_off(msd, tmp_path, monkeypatch, damage):
    prepare, case = preparer(tmp_path / "cache"), [msd.case("toy_001")]
    (first,) = prepare(case, digests(msd))
    with monkeypatch.context() as patch:
        patch.setattr("fdseg.data.prepared.sha256", None)
        prepare(case, digests(msd), sizes_only=True)
    DAMAGES[damage](first.folder)
    assert_holds_exactly(prepare(case, digests(msd), sizes_only=True), msd)


def test_a_process_compares_the_bytes_of_an_array_once(msd, tmp_path, monkeypatch):
    prepare, case = preparer(tmp_path / "cache"), [msd.case("toy_001")]
    prepare(case, digests(msd))
    compared = []

    def counted(file):
        compared.append(Path(file.name).name)
        return sha256(file)

    monkeypatch.setattr("fdseg.data.prepared.sha256", counted)
    for _ in range(2):
        (prepared,) = prepare(case, digests(msd))
        prepared.image(), prepared.label(), prepared.image()
    assert compared == ["image.npy", "label.npy"]


@pytest.mark.parametrize("damage", ["half of the image zeroed", "image cut off", "gone"])
def test_a_case_that_is_lost_while_it_is_in_use_is_named(msd, tmp_path, damage):
    (prepared,) = preparer(tmp_path / "cache")([msd.case("toy_001")], digests(msd))
    assert prepared.image().shape == SIZE
    DAMAGES[damage](prepared.folder)
    words = rf"{prepared.folder}/image.npy: the prepared case of toy_001 was removed or damaged wh"
    with pytest.raises(FdsegError, match=rf"^{words}.*\(.+\). Repeat the command; it prepares"):
        prepared.image()
    assert prepared.geometry.spacing == pytest.approx((0.8, 1.1, 1.5))


def test_the_folder_of_a_case_changes_with_all_that_it_depends_on(msd, tmp_path):
    case, content = [msd.case("toy_001")], {"toy_001": "content"}
    variants = [
        preparer(tmp_path)(case, content),
        preparer(tmp_path)(case, {"toy_001": "other content"}),
        preparer(tmp_path, preprocessing=Preprocessing((12, 14, 9), "crop_or_pad"))(case, content),
        preparer(tmp_path, preprocessing=Preprocessing(SIZE, "resize"))(case, content),
        preparer(tmp_path, structures={"front": 2, "back": 1})(case, content),
        preparer(tmp_path, structures={"back": 2, "front": 1})(case, content),
        preparer(tmp_path, structures={"all": 1}, ignore=[2])(case, content),
        preparer(tmp_path, ignore=[3])(case, content),
    ]
    assert len({prepared[0].folder for prepared in variants}) == len(variants)


def test_the_order_of_the_structures_numbers_them(msd, tmp_path):
    case, content = [msd.case("toy_001")], {"toy_001": "content"}
    (one,) = preparer(tmp_path, structures={"front": 1, "back": 2})(case, content)
    (other,) = preparer(tmp_path, structures={"back": 2, "front": 1})(case, content)
    np.testing.assert_array_equal(one.label() == 1, other.label() == 2)
    assert (one.label() == 1).any()


def test_what_a_killed_process_left_behind_does_not_matter(msd, tmp_path):
    abandoned(tmp_path / "cache" / "0123abcd")
    prepared = preparer(tmp_path / "cache")(msd.cases(), digests(msd))
    assert_holds_exactly(prepared, msd)
    assert set((tmp_path / "cache").iterdir()) == {p.folder for p in prepared}


def test_the_cache_can_be_read_by_whom_the_umask_allows(msd, tmp_path):
    (prepared,) = preparer(tmp_path / "cache")([msd.case("toy_001")], digests(msd))
    umask = os.umask(0)
    os.umask(umask)
    assert prepared.folder.stat().st_mode & 0o777 == 0o777 & ~umask


@pytest.mark.parametrize("place", ["file/cache", "/proc/fdseg-cache"])
def test_a_cache_that_cannot_be_made_is_named_with_its_key(msd, tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(FdsegError, match=r"the cache cannot be made .*data.cache=…"):
        preparer(tmp_path / place)(msd.cases(), digests(msd))


def test_a_cache_that_turns_out_read_only_is_named_with_its_key(msd, tmp_path, monkeypatch):
    def refuse(path, *_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    prepare = preparer(tmp_path / "cache")
    prepare.folder.mkdir()
    mkdir = Path.mkdir
    monkeypatch.setattr(
        Path, "mkdir", lambda p, *a, **k: (refuse if ".partial" in p.name else mkdir)(p, *a, **k)
    )
    with pytest.raises(FdsegError, match=r"cannot be cached \(Permission denied\).*data.cache=…"):
        prepare(msd.cases(), digests(msd))


@pytest.mark.parametrize("good_writes", [0, 1, 6, 19])
def test_a_disk_that_fills_up_leaves_only_whole_cases_and_a_retry_succeeds(
    msd, tmp_path, monkeypatch, good_writes
):
    save, lock, count = np.save, threading.Lock(), iter(range(1000))

    def save_until_full(file, array):
        with lock:
            number = next(count)
        if number >= good_writes:
            file.write(b"the beginning of an array")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(file, array)

    prepare = preparer(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr("fdseg.data.cache.np.save", save_until_full)
        with pytest.raises(FdsegError, match=r"No space left on device\). Free some space, or"):
            prepare(msd.cases(), digests(msd))
    for folder in cached(tmp_path / "cache"):
        assert sorted(p.name for p in folder.iterdir()) == ["case.json", "image.npy", "label.npy"]
    assert_holds_exactly(prepare(msd.cases(), digests(msd)), msd)
    assert len(cached(tmp_path / "cache")) == 10


def test_a_real_disk_that_fills_up_leaves_only_whole_cases_and_a_retry_succeeds(msd, small_disk):
    prepare = preparer(small_disk.folder / "cache")
    with pytest.raises(FdsegError, match=r"be cached \(No space left on device\). Free some space"):
        prepare(msd.cases(), digests(msd))
    whole = cached(small_disk.folder / "cache")
    assert len(whole) < 10
    for case in whole:
        assert np.load(case / "image.npy").shape == np.load(case / "label.npy").shape == SIZE
    small_disk.enlarge()
    assert_holds_exactly(prepare(msd.cases(), digests(msd)), msd)


def prepare_together(folder, cases, names, barrier, done):
    barrier.wait(timeout=60)
    prepared = preparer(folder)(cases, names)
    done.put([float(p.image().sum()) for p in prepared])


def test_a_damaged_cache_may_be_mended_by_several_at_once(msd, tmp_path):
    prepare, cases = preparer(tmp_path / "cache"), msd.cases()[:3]
    for case in prepare(cases, digests(msd)):
        half_zeroed(case.folder / "image.npy")
    barrier = threading.Barrier(3)

    def mend(_):
        barrier.wait(timeout=60)
        return prepare(cases, digests(msd))

    with ThreadPoolExecutor(3) as pool:
        for prepared in pool.map(mend, range(3)):
            assert_holds_exactly(prepared, msd)
    assert len(cached(tmp_path / "cache")) == 3


def test_two_processes_may_prepare_the_same_cache_at_once(msd, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier, done = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "cache", msd.cases(), digests(msd), barrier, done)
    processes = [
        context.Process(target=prepare_together, args=arguments, daemon=True) for _ in range(2)
    ]
    for process in processes:
        process.start()
    sums = [done.get(timeout=120) for _ in processes]
    for process in processes:
        process.join(timeout=30)
        assert process.exitcode == 0
    assert sums[0] == sums[1]
    assert not list((tmp_path / "cache").glob("*.partial"))
    assert len(cached(tmp_path / "cache")) == 10
    assert_holds_exactly(preparer(tmp_path / "cache")(msd.cases(), digests(msd)), msd)


def test_of_two_that_write_the_same_case_the_second_uses_the_firsts(msd, tmp_path, monkeypatch):
    prepare, case = preparer(tmp_path / "cache"), [msd.case("toy_001")]
    rename = Path.rename

    def overtaken(path, target):
        shutil.copytree(path, target)
        rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", overtaken)
        prepared = prepare(case, digests(msd))
    assert_holds_exactly(prepared, msd)
    assert [p.name for p in cached(tmp_path / "cache")] == [prepared[0].folder.name]
